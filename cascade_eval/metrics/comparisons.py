"""Against a baseline, against the flagship itself, and against the calibration in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cascade_eval import bounds
from cascade_eval.basis import Fact, Paired, Ratio
from cascade_eval.counts import AGREE, DISAGREE, UNKNOWN
from cascade_eval.metrics.nouns import blank
from cascade_eval.metrics.parts import Effective, Sample, facts, path_reasons, sample, short, to_estimates
from cascade_eval.verdicts import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Context, Unit


def _pairs(which: Literal["served", "escalated"]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Baseline's and candidate's digit of each state of the paired table; 2 is unknown."""
    baseline_served, baseline_escalated, served, escalated = np.indices((3, 3, 3, 3)).reshape(4, -1)
    return (baseline_served, served) if which == "served" else (baseline_escalated, escalated)


def flips(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of cases served a disagreeing answer where the baseline served an agreeing one, escalation included."""
    if "pairs" not in counts:
        return [blank(name, "rate", "there is no baseline") for _ in counts.members]
    baseline, candidate = _pairs("served")
    known = (baseline != UNKNOWN) & (candidate != UNKNOWN)
    parts = sample(counts, "pairs", known & (baseline == AGREE) & (candidate == DISAGREE), known)
    reasons = path_reasons(counts, context)
    total = counts["pairs"].sum(axis=1)
    for i, reason in enumerate(reasons):
        if reason is None and short(int(parts.nobs[i]), int(total[i]), context.audited):
            reasons[i] = (
                f"both cascades' answers can be compared with the flagship's in {int(parts.nobs[i]):,} of "
                f"{int(total[i]):,} cases, below {context.audited:.0%}"
            )
    return to_estimates(name, context, parts, reasons=reasons)


def drift(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Escalation minus the baseline's on the same cases: a score test, or by t where cases are weighted or clustered."""
    if "pairs" not in counts:
        return [blank(name, "points", "there is no baseline") for _ in counts.members]
    baseline, candidate = _pairs("escalated")
    known = (baseline != 2) & (candidate != 2)
    shift = np.where(known, candidate - baseline, 0)
    plain = "pairs.w" not in counts and "pairs" not in counts.clusters
    raw = counts["pairs"]
    out = []
    for i, reason in enumerate(path_reasons(counts, context)):
        n, b, c = int(raw[i] @ known), int(raw[i] @ (shift == 1)), int(raw[i] @ (shift == -1))
        if reason or n == 0:
            out.append(blank(name, "points", reason or "no case to judge"))
        elif plain:
            low, high = (float(bound) for bound in bounds.tango(b, c, n, confidence=context.confidence))
            out.append(Estimate(name, (b - c) / n, low, high, None, n, "tango", "points", basis=Paired(b, c, n)))
        else:
            out.append(_weighted_drift(name, _moments(counts, i, shift, known), n, context))
    return out


def _moments(counts: Counts, i: int, shift: NDArray[np.int64], known: NDArray[np.bool_]) -> tuple[Any, ...]:
    """Units, and sums of their shifts and weights and of the products; a unit is a case, or a cluster with its totals."""
    if "pairs" not in counts.clusters:
        w, w2 = counts["pairs.w"][i], counts["pairs.w2"][i]
        n = float(counts["pairs"][i] @ known)
        return (n, w @ shift, w @ known, w2 @ (shift * shift), w2 @ shift, w2 @ known)
    rows = counts.clusters["pairs"]
    mine = (rows.member == i) & known[rows.state]
    _, unit = np.unique(rows.cluster[mine], return_inverse=True)
    y = np.bincount(unit, weights=rows.weight[mine])
    x = np.bincount(unit, weights=rows.weight[mine] * shift[rows.state[mine]])
    return (float(len(x)), x.sum(), y.sum(), x @ x, x @ y, y @ y)


def _weighted_drift(name: str, moments: tuple[Any, ...], nobs: int, context: Context) -> Estimate:
    units, x, y, xx, xy, yy = (float(moment) for moment in moments)
    low, high = (float(bound) for bound in bounds.fieller(units, x, y, xx, xy, yy, confidence=context.confidence))
    # Kish's effective size: so many cases of equal weight could have missed a kind of case as easily.
    cases = y * y / yy
    most = (1.0 - context.confidence) ** (1.0 / cases)
    unbounded = not (np.isfinite(low) and np.isfinite(high))
    return Estimate(
        name,
        x / y,
        min(low, x / y - (1.0 - most)),
        max(high, x / y + (1.0 - most)),
        None,
        nobs,
        "fieller, weights or clusters",
        "points",
        reason="too few cases: the bounds are unbounded" if unbounded else None,
        blocked=unbounded,
        basis=Ratio((units, x, y, xx, xy, yy), cases=cases),
    )


def self_disagreement(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of repeated cases in which the flagship disagrees with its own first answer."""
    if "repeats" not in counts:
        return [blank(name, "rate", "the flagship was not asked twice (column `run`)") for _ in counts.members]
    count, nobs = counts["repeats"][:, 0], counts["repeats"][:, 1]
    value = np.divide(count, nobs, out=np.full(len(nobs), np.nan), where=nobs > 0)
    effective = Effective(count.astype(np.float64), nobs.astype(np.float64))
    parts = Sample(count, nobs, value, effective, "clopper-pearson")
    return to_estimates(name, context, parts, reasons=[None] * len(nobs))


def fact(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Report a number that is known about the set-up, not counted."""
    unit: Unit = "days"
    if name not in context.facts:
        reason = "its age was not looked for" if name == "audit age" else "no gate uses a calibration"
        reason = context.problems.get(name, reason)
        return [blank(name, unit, reason) for _ in counts.members]
    value = context.facts[name]
    return [Estimate(name, value, value, value, None, None, "known", unit, basis=Fact(value)) for _ in counts.members]


def uncovered(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of cases in cohorts the calibration in use has never seen."""
    if "uncovered" not in counts:
        return [blank(name, "rate", context.problems.get(name, "no gate uses a calibration")) for _ in counts.members]
    return facts(name, counts["uncovered"][:, 0], counts["uncovered"][:, 1])
