"""Rates from tables of states: raw counts, and the plain cases a weighted or clustered sample is worth."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from cascade_eval import bounds
from cascade_eval.basis import Binomial, Fact
from cascade_eval.counts import UNSAMPLED, States, states
from cascade_eval.metrics.nouns import blank
from cascade_eval.verdicts import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Context

    Mask: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]


class Effective(NamedTuple):
    """Plain cases a sample is worth, by member: `hits` of `size` with the property, fractional where weighted."""

    hits: NDArray[np.float64]
    size: NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Numerator and denominator of a rate by member: raw, and as effective counts."""

    count: NDArray[Any]
    nobs: NDArray[Any]
    value: NDArray[np.float64]
    effective: Effective
    method: str


def sample(counts: Counts, table: str, numerator: Mask, denominator: Mask, *, weights: str = "w") -> Sample:
    """Sum a rate's numerator and denominator over the states of a table, and size the sample."""
    raw = counts[table]
    count, nobs = raw @ numerator, raw @ denominator
    weighted_table = f"{table}.{weights}"
    clusters = table if weights == "w" else weighted_table
    weighted, clustered = weighted_table in counts, clusters in counts.clusters
    if not weighted and not clustered:
        value = np.divide(count, nobs, out=np.full(len(nobs), np.nan), where=nobs > 0)
        effective = Effective(count.astype(np.float64), nobs.astype(np.float64))
        return Sample(count, nobs, value, effective, "clopper-pearson")
    if clustered:
        value, variance, sum_w, sum_w2 = _cluster_moments(counts, clusters, numerator, denominator)
        effective = Effective(*bounds.effective(value, variance, sum_w, sum_w2))
        return Sample(count, nobs, value, effective, "korn-graubard, clusters")
    w, w2 = counts[weighted_table], counts[f"{weighted_table}2"]
    sum_w, sum_w2, sum_w2d = w @ denominator, w2 @ denominator, w2 @ (numerator & denominator)
    value = np.divide(w @ numerator, sum_w, out=np.full(len(sum_w), np.nan), where=sum_w > 0)
    variance = bounds.linearised_variance(sum_w, sum_w2, sum_w2d, value, nobs)
    return Sample(
        count,
        nobs,
        value,
        Effective(*bounds.effective(value, variance, sum_w, sum_w2, nobs=nobs)),
        "korn-graubard, weights",
    )


def _cluster_moments(counts: Counts, table: str, numerator: Mask, denominator: Mask) -> tuple[NDArray[np.float64], ...]:
    """Weighted rate, its variance from cluster totals, and the cluster weights for the Kish guard."""
    rows = counts.clusters[table]
    looked = denominator[rows.state]
    member, weight = rows.member[looked], rows.weight[looked]
    hit = np.where(numerator[rows.state[looked]], weight, 0.0)
    pairs, unit = np.unique(np.stack([member.astype(np.uint64), rows.cluster[looked]]), axis=1, return_inverse=True)
    totals = np.bincount(unit, weights=weight, minlength=pairs.shape[1])
    hits = np.bincount(unit, weights=hit, minlength=pairs.shape[1])
    owner, size = pairs[0].astype(np.int64), len(counts.members)

    def add(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(owner, weights=values, minlength=size).astype(np.float64)

    a, b, units = add(hits), add(totals), np.bincount(owner, minlength=size)
    value = np.divide(a, b, out=np.full(size, np.nan), where=b > 0)
    variance = bounds.ratio_variance(add(hits * hits), add(hits * totals), add(totals * totals), a, b, units)
    return value, variance, b, add(totals * totals)


def to_estimates(
    name: str,
    context: Context,
    known: Sample,
    *,
    worst: tuple[Sample, Sample] | None = None,
    reasons: Sequence[str | None],
) -> list[Estimate]:
    """Turn sums into estimates; `worst` gives the smallest and largest rate unknown comparisons allow."""
    smallest, largest = worst or (known, known)
    low, _ = bounds.rate(*smallest.effective, confidence=context.confidence)
    _, high = bounds.rate(*largest.effective, confidence=context.confidence)
    return [
        blank(name, "rate", reason or "no case to judge", nobs=int(known.nobs[i]))
        if reason or known.nobs[i] == 0
        else Estimate(
            name,
            float(known.value[i]),
            float(low[i]),
            float(high[i]),
            int(known.count[i]),
            int(known.nobs[i]),
            known.method,
            basis=Binomial(
                (float(smallest.effective.hits[i]), float(smallest.effective.size[i])),
                (float(largest.effective.hits[i]), float(largest.effective.size[i])),
            ),
            effective=float(known.effective.size[i]),
        )
        for i, reason in enumerate(reasons)
    ]


def layout_of(context: Context) -> tuple[States, tuple[NDArray[np.int64], ...]]:
    """Return the numbering of states, and the digits of each of them."""
    layout = states(len(context.tiers))
    return layout, layout.digits


def short(known: int, total: int, floor: float) -> bool:
    """Whether a share is below a floor, compared exactly.

    Examples
    --------
    >>> short(99, 100, 0.99), short(98, 100, 0.99)
    (False, True)
    """
    # Where nothing is missing, no floor of at most 1 is undercut; fractions are slow.
    return not (known >= total and floor <= 1) and known < Fraction(repr(floor)) * total


def path_reasons(counts: Counts, context: Context, *, gates: bool = True) -> list[str | None]:
    """Say why nothing that depends on paths was measured, by member; None where it was.

    With `gates`, cases that never came to a gate are no measurement of it.
    """
    layout = states(len(context.tiers))
    raw = counts["states"]
    resolved, unresolved = raw[:, : layout.regular].sum(axis=1), raw[:, layout.unresolved]
    reasons: list[str | None] = []
    for i, (known, unknown) in enumerate(zip(resolved.tolist(), unresolved.tolist(), strict=True)):
        total = known + unknown
        if total == 0:
            reasons.append("no case to judge")
        elif short(known, total, context.coverage):
            reasons.append(
                f"coverage is {known:,} of {total:,} cases with a known path, below {context.coverage:.0%}: "
                "rows of a cheaper tier or a signal column are missing"
            )
        else:
            reasons.append(_signal_reason(counts, context, i) or (unread(counts, context, i) if gates else None))
    return reasons


def unread(counts: Counts, context: Context, i: int) -> str | None:
    """Say so where every call of the cheaper tiers failed, and no gate had anything to read."""
    if "signals" not in counts or not context.leaves or counts["signals"][i][:, 0].any():
        return None
    layout, (start, *_) = layout_of(context)
    called = int(counts["states"][i] @ layout.mask(start < len(context.tiers) - 1))
    if not called:
        return None
    return f"no gate had anything to read: in all {called:,} cases the calls of cheaper tiers timed out, failed or were refused"


def _signal_reason(counts: Counts, context: Context, i: int) -> str | None:
    if "signals" not in counts:
        return None
    for leaf, (evaluated, missing) in zip(context.leaves, counts["signals"][i].tolist(), strict=True):
        if evaluated and missing == evaluated:
            return f"no signal: {leaf} is null in all {evaluated:,} cases its gate read"
    return None


def audit_balance(counts: Counts, i: int, context: Context) -> tuple[float, float, float]:
    """Weigh the cases an audit drew against the unescalated cases there are.

    The weights of what was drawn add up to the number of unescalated cases, give or take what chance does (Horvitz and
    Thompson, Journal of the American Statistical Association 47, 1952).

    Returns
    -------
    stands, there, chance
        What the drawn cases stand for, what there is, and five standard deviations of the difference.
    """
    layout, (_, settled, served, *_) = layout_of(context)
    kept = settled < len(context.tiers) - 1
    drawn = layout.mask(kept & (served != UNSAMPLED))
    weight = counts["states.w" if "states.w" in counts else "states"][i]
    squares = counts["states.w2" if "states.w2" in counts else "states"][i]
    there, stands = float(weight @ layout.mask(kept)), float(counts["states.v"][i] @ drawn)
    extra = max(float(counts["states.v2"][i] @ drawn) - float(squares @ drawn), 0.0)
    spread = there * extra / stands if stands else 0.0
    return stands, there, 5 * spread**0.5 + 1e-6 * there


def audit_words(stands: float, there: float) -> str:
    """Say that an audit does not add up."""
    return (
        f"the audit does not add up: by audit_probability the cases it drew stand for {stands:,.0f} unescalated cases, and "
        f"there are {there:,.0f}"
    )


def facts(name: str, count: NDArray[Any], nobs: NDArray[Any]) -> list[Estimate]:
    """Make estimates of shares that are known exactly: compared, not estimated."""
    return [
        blank(name, "rate", "no case to judge")
        if n == 0
        else Estimate(name, x / n, x / n, x / n, x, n, "counted", basis=Fact(x / n))
        for x, n in zip(count.tolist(), nobs.tolist(), strict=True)
    ]
