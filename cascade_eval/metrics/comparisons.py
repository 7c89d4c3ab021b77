"""Against a baseline, against the flagship itself, and against the calibration in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from cascade_eval import bounds
from cascade_eval.basis import Fact, Paired
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
    """Escalation minus the baseline's on the same cases."""
    if "pairs" not in counts:
        return [blank(name, "points", "there is no baseline") for _ in counts.members]
    baseline, candidate = _pairs("escalated")
    raw = counts["pairs"]
    known = raw @ ((baseline != 2) & (candidate != 2))
    more, fewer = raw @ ((baseline == 0) & (candidate == 1)), raw @ ((baseline == 1) & (candidate == 0))
    out = []
    for i, reason in enumerate(path_reasons(counts, context)):
        n, b, c = int(known[i]), int(more[i]), int(fewer[i])
        if reason or n == 0:
            out.append(blank(name, "points", reason or "no case to judge"))
            continue
        low, high = (float(bound) for bound in bounds.tango(b, c, n, confidence=context.confidence))
        out.append(Estimate(name, (b - c) / n, low, high, None, n, "tango", "points", basis=Paired(b, c, n)))
    return out


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
        reason = context.problems.get(name, "no gate uses a calibration")
        return [blank(name, unit, reason) for _ in counts.members]
    value = context.facts[name]
    return [Estimate(name, value, value, value, None, None, "known", unit, basis=Fact(value)) for _ in counts.members]


def uncovered(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of cases in cohorts the calibration in use has never seen."""
    if "uncovered" not in counts:
        return [blank(name, "rate", context.problems.get(name, "no gate uses a calibration")) for _ in counts.members]
    return facts(name, counts["uncovered"][:, 0], counts["uncovered"][:, 1])
