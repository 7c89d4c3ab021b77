"""Ratios of sums: money and quality."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cascade_eval import bounds
from cascade_eval.basis import Ratio
from cascade_eval.counts import GROUPS
from cascade_eval.metrics.nouns import blank
from cascade_eval.metrics.parts import Effective, Sample, audit_balance, audit_words, path_reasons, short, to_estimates
from cascade_eval.verdicts import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Context, Unit


_MOST = 2**61
"""Sums beyond it may have run over, which makes them small or negative."""

_DIGIT = 21
_FLOATS = 2 ** (53 - 2 * _DIGIT)
"""Products of two digits of so many bits, and how many of them a float adds up exactly."""


def cost(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Ratios of group sums: cost and savings against always-flagship, cost per request."""
    per_request = name == "cost per request"
    scale = 1e-9 if per_request else 1.0
    unit: Unit = "dollars" if per_request else "ratio"
    reasons = path_reasons(counts, context)
    for i, reason in enumerate(reasons):
        if reason is None:
            reasons[i] = context.problems.get(name) or cost_reason(counts, context, i, per_request=per_request)
    found = []
    for i, reason in enumerate(reasons):
        if reason:
            found.append(blank(name, unit, reason))
            continue
        x, y = (counts["request.cost"][i], counts["request.cases"][i]) if per_request else _money(counts, i)
        estimated = False if per_request else _estimated_share(counts, i) or False
        nobs = int(counts["costs"][i, 0])
        complement = name == "savings"
        found.append(
            ratio(name, unit, x, y, context, nobs=nobs, complement=complement, scale=scale, estimated=estimated)
        )
    return [_flattered(estimate, context) for estimate in found]


def _money(counts: Counts, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cascade's and always-flagship's cost by hash group, flagship calls that were not recorded estimated.

    Such a call costs its input and the mean output of the cohort's recorded ones; where tokens have no price, or were
    not recorded, the mean recorded call.
    """
    x, y = counts["ratio.cost"][i], counts["ratio.flagship"][i]
    if "missing.cases" not in counts:
        return x, y
    output, outputs, whole, calls = counts["missing.answered"][i].tolist()
    if outputs and counts["missing.inputs"][i]:
        guess = counts["missing.asked"][i] + np.rint(counts["missing.cases"][i] * (output / outputs))
    else:
        guess = np.rint(counts["missing.cases"][i] * (whole / calls if calls else 0.0))
    return x + counts["missing.cost"][i], y + guess.astype(y.dtype)


def _estimated_share(counts: Counts, i: int) -> float:
    """Share of the cases with a known cost whose always-flagship cost is an estimate."""
    known, paired, _, guessed = counts["costs"][i].tolist()
    return (known - paired + guessed) / known if known else 0.0


def cost_reason(counts: Counts, context: Context, i: int, *, per_request: bool) -> str | None:
    """Why this member's cost cannot be judged at all."""
    known, paired, cases, _ = counts["costs"][i].tolist()
    if cases == 0:
        return "no case to judge"
    if short(known, cases, context.coverage):
        return f"cost is known for {known:,} of {cases:,} cases, below {context.coverage:.0%}"
    if not per_request and paired == 0:
        return "no call of the flagship has a known cost to compare with"
    return None if per_request or not context.audit else _unbalanced(counts, context, i)


def _unbalanced(counts: Counts, context: Context, i: int) -> str | None:
    """Say so where drawn cases stand for more or fewer than there are: their flagship's cost would, too."""
    stands, there, chance = audit_balance(counts, i, context)
    if abs(stands - there) <= chance:
        return None
    return f"{audit_words(stands, there)}: what always asking the flagship would have cost is not known"


def _flattered(estimate: Estimate, context: Context) -> Estimate:
    """Block an estimate that leans on guessed flagship costs: escalated cases are dearer, so the guess flatters."""
    if context.audit or not estimate.estimated or estimate.estimated <= 0.01:
        return estimate
    reason = (
        f"the flagship's cost is estimated in {estimate.estimated:.1%} of the cases, and escalated cases are dearer: the "
        "estimate flatters the cascade. Record what the flagship costs, or audit a sample"
    )
    return replace(estimate, reason=reason, blocked=True)


def ratio(
    name: str,
    unit: Unit,
    x: NDArray[Any],
    y: NDArray[Any],
    context: Context,
    *,
    nobs: int,
    complement: bool = False,
    scale: float = 1.0,
    estimated: float | Literal[False] = False,
) -> Estimate:
    """Estimate a ratio of sums from its group sums."""
    if any(part.dtype.kind in "iu" and len(part) and (part.min() < 0 or part.max() > _MOST) for part in (x, y)):
        return blank(
            name, unit, "the sums are too large for 64 bits: look for a cost or a price that is none", nobs=nobs
        )
    used = (x != 0) | (y != 0)
    moments = _moments(x[used], y[used])
    units, total_x, total_y = moments[:3]
    if total_y <= 0:
        return blank(name, unit, "the sum it is divided by is zero", nobs=nobs)
    value = float(total_x / total_y)
    low, high = _bounds(moments, value, cases := _independent(units, nobs), context.confidence, relative=scale != 1.0)
    if len(context.tiers) == 1 and unit == "ratio":
        # Always-flagship against itself: a definition, not an estimate.
        low = high = value
    if unit == "ratio":
        low = max(low, 0.0)
    if complement:
        value, low, high = 1 - value, 1 - high, 1 - low
    unbounded = not (np.isfinite(low) and np.isfinite(high))
    return Estimate(
        name,
        value * scale,
        low * scale,
        high * scale,
        None,
        nobs,
        "fieller",
        unit,
        estimated,
        reason="too few cases: the bounds are unbounded" if unbounded else None,
        blocked=unbounded,
        basis=Ratio(moments, complement, scale, cases),
    )


def _moments(x: NDArray[Any], y: NDArray[Any]) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Sum x, y, their squares and their product, exactly."""
    if x.dtype.kind in "iu" and y.dtype.kind in "iu" and len(x) <= _FLOATS:
        return len(x), *_integer_moments(x, y)
    x, y = x.astype(object), y.astype(object)
    if not len(x):
        return 0, 0, 0, 0, 0, 0
    return len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum(), (y * y).sum()


def _integer_moments(x: NDArray[Any], y: NDArray[Any]) -> tuple[int, int, int, int, int]:
    """Split whole numbers below 2**63 into digits of 21 bits, whose products floats add up without rounding."""
    shifts = (0, _DIGIT, 2 * _DIGIT)
    digits = np.array([part >> shift & (1 << _DIGIT) - 1 for part in (x, y) for shift in shifts], dtype=np.float64)
    totals = [int(total) for total in digits.sum(axis=1)]
    products = (digits @ digits.T).astype(np.int64).tolist()

    def whole(first: int, second: int) -> int:
        return sum(products[first + i][second + j] << _DIGIT * (i + j) for i in range(3) for j in range(3))

    total_x, total_y = (sum(totals[first + i] << _DIGIT * i for i in range(3)) for first in (0, 3))
    return total_x, total_y, whole(0, 0), whole(0, 3), whole(3, 3)


def _independent(groups: int, nobs: int) -> float:
    """How many independent cases filled so many hash groups (linear counting); at most all of them."""
    if groups >= GROUPS:
        return float(nobs)
    return min(float(nobs), -GROUPS * math.log1p(-groups / GROUPS))


def _bounds(
    moments: tuple[Any, ...], value: float, cases: float, confidence: float, *, relative: bool
) -> tuple[float, float]:
    """Fieller's bounds, never narrower than what so few cases may have missed."""
    low, high = _fieller(moments, confidence)
    most = (1.0 - confidence) ** (1.0 / cases)
    if relative:
        return min(low, value * most), max(high, value / most)
    return min(low, value - (1.0 - most)), max(high, value + (1.0 - most))


@lru_cache(maxsize=1024)
def _fieller(moments: tuple[Any, ...], confidence: float) -> tuple[float, float]:
    """Cost, savings and break-even are asked for one after another and rest on the same sums."""
    low, high = bounds.fieller(*moments, confidence=confidence)
    return float(low), float(high)


def quality(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Mean quality of the served answers: exact where every answer is right or wrong, by t where it is graded."""
    if not _graded(counts):
        return [blank(name, "rate", "no answer has a score and no case an expected answer") for _ in counts.members]
    reasons = path_reasons(counts, context)
    table = counts["quality"]
    plain = "quality.weighted" not in counts
    out = []
    for i, reason in enumerate(reasons):
        known, graded, right = table[i].tolist()
        reason = reason or _ungraded(counts, i, known, context, "the served answer")  # noqa: PLW2901  the more special reason
        if reason or known == 0:
            out.append(blank(name, "rate", reason or "no served answer has a known quality"))
        elif plain and not graded:
            parts = np.array([right], dtype=np.int64), np.array([known], dtype=np.int64)
            effective = Effective(parts[0].astype(np.float64), parts[1].astype(np.float64))
            rate = Sample(*parts, parts[0] / parts[1], effective, "clopper-pearson")
            out += to_estimates(name, context, rate, reasons=[None])
        else:
            x, y = counts["quality.sum"][i], counts["quality.cases"][i]
            out.append(_on_scale(counts, i, ratio(name, "rate", x, y, context, nobs=known)))
    return out


def _on_scale(counts: Counts, i: int, found: Estimate) -> Estimate:
    """Judge no mean of scores beyond 0 to 1 in percent: the worst of grades from 1 to 5 would be 100%."""
    beyond = int(counts["quality.beyond"][i].sum()) if "quality.beyond" in counts else 0
    if not beyond or found.blocked:
        return found
    reason = (
        f"{beyond:,} of {found.nobs:,} scores are below 0 or above 1, so their mean is no share; 'retention' compares scores "
        "on any scale"
    )
    return replace(found, blocked=True, reason=reason)


def _graded(counts: Counts) -> bool:
    """Whether anything was graded at all; an unanswered case alone, worth nothing, measures nothing."""
    return "quality.recorded" in counts and bool(counts["quality.recorded"].any())


def _ungraded(counts: Counts, i: int, known: int, context: Context, what: str) -> str | None:
    """Say so where too many cases that were graded at all miss a grade that counts: it may be the bad ones that do."""
    recorded = int(counts["quality.recorded"][i])
    if not short(known, recorded, context.coverage):
        return None
    return f"the quality of {what} is known for {known:,} of {recorded:,} graded cases, below {context.coverage:.0%}"


def retention(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Quality of the served answers over the flagship's, on cases where both are known."""
    if not _graded(counts):
        return [blank(name, "ratio", "no answer has a score and no case an expected answer") for _ in counts.members]
    return [
        blank(name, "ratio", reason)
        if reason
        else ratio(
            name,
            "ratio",
            counts["retained.cascade"][i],
            counts["retained.flagship"][i],
            context,
            nobs=int(counts["retained"][i]),
        )
        for i, reason in enumerate(_retention_reasons(counts, context))
    ]


def _retention_reasons(counts: Counts, context: Context) -> list[str | None]:
    return [
        reason or _ungraded(counts, i, int(counts["retained"][i]), context, "both the served and the flagship's answer")
        for i, reason in enumerate(path_reasons(counts, context))
    ]


def tasks(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Cost of all steps of all tasks over the number of completed tasks."""
    reasons = path_reasons(counts, context)
    if "tasks" not in counts.clusters:
        return [blank(name, "dollars", "no case says whether it was `completed`") for _ in reasons]
    rows = counts.clusters["tasks"]
    out = []
    for i, reason in enumerate(reasons):
        why = reason or cost_reason(counts, context, i, per_request=True)
        mine = rows.member == i
        if why or not mine.any():
            out.append(blank(name, "dollars", why or "no case to judge"))
            continue
        tasks, unit = np.unique(rows.cluster[mine], return_inverse=True)
        cost = np.rint(np.bincount(unit, weights=rows.weight[mine])).astype(np.int64)
        completed = np.zeros(len(tasks), dtype=np.int64)
        np.maximum.at(completed, unit, rows.state[mine])
        out.append(ratio(name, "dollars", cost, completed, context, nobs=len(tasks), scale=1e-9))
    return out


def break_even(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Escalation at which the cascade would cost as much as always-flagship, minus its escalation, in points.

    One more escalated case costs about one flagship call, so the cost ratio moves with escalation at slope one, and
    what is left of it to 1 is the margin.
    """
    return [_margin(name, found) for found in cost("cost", counts, context)]


def _margin(name: str, found: Estimate) -> Estimate:
    if found.value is None or not isinstance(found.basis, Ratio):
        return blank(name, "points", found.reason or "cost is unknown")
    return replace(
        found,
        metric=name,
        value=1 - found.value,
        low=None if found.high is None else 1 - found.high,
        high=None if found.low is None else 1 - found.low,
        unit="points",
        basis=replace(found.basis, complement=True),
    )
