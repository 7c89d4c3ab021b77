"""Choosing a threshold with a guarantee: the one that keeps most among those whose disagreement is certified.

For one threshold fixed in advance the disagreements among the kept cases are binomial given how many are kept, so
``P(Bin(kept, target) <= disagreeing)`` is an exact p-value in spite of the random denominator. Walking thresholds from
strict to lax and stopping at the first that is not rejected needs no correction for how many are tried (fixed-sequence
testing: Maurer, Hothorn and Lehmacher, 1995; Angelopoulos et al., "Learn then test", 2021). A walk can only start where
its test has a chance, which counts of kept cases tell without looking at a single label; three such starts share the
allowed error. Where nothing is certified the answer is no threshold, never the one that keeps least as a fallback.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cascade_eval import bounds, budgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

STARTS: Final = (0.25, 0.5, 0.75)
"""Shares of the target at which a walk is given power: hopeful, middling and modest."""

GRID: Final = 140
"""Thresholds walked, chosen by how many cases they keep."""

_MOST: Final = 0.95
"""Latest start, as a share of the cases."""

_FEW: Final = 30
"""Kept cases whose observed rate is worth a word."""


@dataclass(frozen=True)
class Step:
    """One threshold on the way.

    Parameters
    ----------
    threshold
        The threshold.
    kept, disagreeing
        Labelled cases it settles, and those of them that disagree.
    p
        Exact p-value of "disagreement is at most the target".
    certified
        Whether a walk came as far as this.
    """

    threshold: float
    kept: int
    disagreeing: int
    p: float
    certified: bool


@dataclass(frozen=True)
class Selection:
    """A chosen threshold, or none, with the reason.

    Parameters
    ----------
    threshold
        The certified threshold that keeps most; None where none is.
    target, delta
        ``P(disagreement > target) <= delta`` over labelled samples like this one.
    harm
        What was certified: ``disagreement`` of kept cases, or ``joint`` harm of all traffic.
    nobs
        Labelled cases.
    escalation
        Share of them the threshold escalates; 1 where there is none.
    step
        The chosen step.
    steps
        Every step, strict to lax.
    reason
        One sentence.
    needed
        Labelled cases that would probably suffice where nothing was certified; None beyond 100,000.
    """

    threshold: float | None
    target: float
    delta: float
    harm: Literal["disagreement", "joint"]
    nobs: int
    escalation: float
    step: Step | None
    steps: tuple[Step, ...]
    reason: str
    needed: int | None = None


def select(
    values: ArrayLike,
    disagrees: ArrayLike,
    *,
    at_most: float,
    delta: float = 0.1,
    surer: Literal["higher", "lower"] = "higher",
    harm: Literal["disagreement", "joint"] = "disagreement",
    starts: Sequence[float] = STARTS,
    grid: Sequence[float] | int = GRID,
) -> Selection:
    """Choose the threshold that keeps most among those whose disagreement is certified.

    Parameters
    ----------
    values : array-like of shape (n_cases,)
        Value the gate compares, of labelled cases; NaN always escalates.
    disagrees : array-like of shape (n_cases,)
        Whether the cheap answer disagrees with the flagship's, 0 or 1, of every case, escalated ones too.
    at_most : float
        Target: largest disagreement to allow, between 0 and 1.
    delta : float, default=0.1
        Chance to be wrong.
    surer : {"higher", "lower"}
        Which direction of the value means surer.
    harm : {"disagreement", "joint"}
        ``disagreement`` among the kept cases, or ``joint``: kept and disagreeing, among all cases. The latter is far
        easier to certify and promises less.
    starts : sequence of float
        Shares of the target at which walks have power 0.8; ``()`` walks once, from the threshold that keeps least.
    grid : sequence of float or int
        Thresholds from strict to lax, chosen without looking at labels; or how many to take at evenly spread counts
        of kept cases.

    Returns
    -------
    Selection
        The guarantee holds if the labelled cases are exchangeable with future traffic, the labels are final, and the
        value was computed by something fitted on other data.

    Examples
    --------
    Forty cases each at five values, with 0, 1, 1, 6 and 12 disagreements:

    >>> values = np.repeat([0.95, 0.90, 0.85, 0.80, 0.75], 40)
    >>> wrong = np.concatenate([np.arange(40) < k for k in (0, 1, 1, 6, 12)])
    >>> found = select(values, wrong, at_most=0.10, starts=(), grid=[0.95, 0.90, 0.85, 0.80, 0.75])
    >>> found.threshold, [round(step.p, 5) for step in found.steps]
    (0.8, [0.01478, 0.00216, 0.00033, 0.01735, 0.55917])
    """
    if not 0 < at_most < 1 or not 0 < delta < 1:
        raise ValueError("at_most and delta lie between 0 and 1")
    value = np.asarray(values, dtype=np.float64) * (1.0 if surer == "higher" else -1.0)
    wrong = np.asarray(disagrees, dtype=np.float64) > 0
    thresholds = _grid(value, grid, surer)
    kept, bad = _counts(value, wrong, thresholds)
    walks = max(len(starts), 1)
    p, reached = certified(
        kept, bad, len(value), at_most=at_most, delta=delta, harm=harm, starts=() if harm == "joint" else starts,
        walks=walks,
    )  # fmt: skip
    sign = 1.0 if surer == "higher" else -1.0
    steps = tuple(
        Step(float(t) * sign, int(k), int(b), float(q), bool(r))
        for t, k, b, q, r in zip(thresholds, kept, bad, p, reached, strict=True)
    )
    chosen = _chosen(steps, len(value), at_most, delta, harm)
    return _refused(steps, value, wrong, at_most, delta, harm, delta / walks) if chosen is None else chosen


def certified(
    kept: ArrayLike,
    disagreeing: ArrayLike,
    nobs: int,
    *,
    at_most: float,
    delta: float,
    harm: Literal["disagreement", "joint"] = "disagreement",
    starts: Sequence[float] = STARTS,
    walks: int | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Walk counts from strict to lax, and mark the steps that are certified.

    Parameters
    ----------
    kept, disagreeing : array-like of shape (n_steps,)
        Labelled cases each step keeps, ever more of them, and those that disagree; which steps there are must not
        depend on labels.
    nobs
        Labelled cases.
    at_most, delta, harm, starts
        As for `select`.
    walks
        How many walks share `delta`; as many as there are starts where None.

    Returns
    -------
    p, certified : ndarray of shape (n_steps,)
        Exact p-values, and which steps a walk came as far as.

    Examples
    --------
    >>> p, found = certified([40, 80, 120, 160, 200], [0, 1, 2, 8, 20], 200, at_most=0.10, delta=0.10, starts=())
    >>> found
    array([ True,  True,  True,  True, False])
    """
    held, bad = np.asarray(kept, dtype=np.float64), np.asarray(disagreeing, dtype=np.float64)
    among = np.full_like(held, nobs) if harm == "joint" else held
    p = np.where(among > 0, bounds.p_at_most(bad, among, at_most), 1.0)
    level = delta / (walks or max(len(starts), 1))
    reached = np.zeros(len(p), dtype=np.bool_)
    for begin in _begins(held, nobs, at_most, level, starts):
        reached |= _walk(p, begin, level)
    return p, reached


def conformal(
    values: ArrayLike, disagrees: ArrayLike, *, at_most: float, surer: Literal["higher", "lower"] = "higher"
) -> float | None:
    """Choose the threshold that keeps most by conformal risk control: ``(harmed + 1) / (n + 1) <= at_most``.

    It controls the joint harm on average over labelled samples only; any one sample is over the target about every
    other time. For comparison with the literature; `select` is what certifies.

    Parameters
    ----------
    values, disagrees, at_most, surer
        As for `select`.

    References
    ----------
    Angelopoulos et al., "Conformal risk control", arXiv 2208.02814.

    Examples
    --------
    >>> values = np.repeat([0.9, 0.8, 0.7, 0.6], 50)
    >>> wrong = np.concatenate([np.arange(50) < k for k in (1, 2, 2, 4)])
    >>> conformal(values, wrong, at_most=0.05)
    0.6
    """
    sign = 1.0 if surer == "higher" else -1.0
    value = np.asarray(values, dtype=np.float64) * sign
    wrong = np.asarray(disagrees, dtype=np.float64) > 0
    thresholds = np.unique(value[~np.isnan(value)])[::-1]
    _, bad = _counts(value, wrong, thresholds)
    within = np.flatnonzero((bad + 1) / (len(value) + 1) <= at_most)
    # Harm only grows on the way, so the last one within keeps most.
    return float(thresholds[within[-1]]) * sign if len(within) else None


def _grid(value: Floats, grid: Sequence[float] | int, surer: str) -> Floats:
    """Thresholds from strict to lax, on attained values; which ones depends on counts alone."""
    if not isinstance(grid, int):
        given = np.asarray(grid, dtype=np.float64)
        return given if surer == "higher" else -given
    known = np.sort(value[~np.isnan(value)])[::-1]
    if not len(known):
        return np.zeros(0)
    places = np.unique(np.rint(np.linspace(0, len(known) - 1, grid)).astype(np.int64))
    return np.unique(known[places])[::-1]


def _counts(value: Floats, wrong: NDArray[np.bool_], thresholds: Floats) -> tuple[Floats, Floats]:
    """Cases each threshold keeps, and those of them that disagree; equality keeps."""
    known = ~np.isnan(value)
    order = np.argsort(value[known])
    ordered = value[known][order]
    harm = np.concatenate([[0], np.cumsum(wrong[known][order][::-1])])
    kept = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    return kept.astype(np.float64), harm[kept].astype(np.float64)


def _begins(kept: Floats, nobs: int, target: float, level: float, starts: Sequence[float]) -> list[int]:
    """Where each walk starts: where least is kept with which its test has power; without shares, where least is kept."""
    if not starts:
        return [0]
    found = []
    for share in starts:
        enough = min(_start(share, target, level), _MOST * nobs)
        places = np.flatnonzero(kept >= enough)
        if len(places):
            found.append(int(places[0]))
    return found


@lru_cache(maxsize=256)
def _start(share: float, target: float, level: float) -> float:
    """Kept cases at which the exact test has power 0.8 if the true rate is this share of the target."""
    wanted, _ = bounds.power_needed(share * target, target, alpha=level, power=0.8)
    return np.inf if wanted is None else float(wanted)


def _walk(p: Floats, begin: int, level: float) -> NDArray[np.bool_]:
    """Mark the steps a walk certifies: from its start to the last one before the first that is not rejected."""
    refused = np.flatnonzero(p[begin:] > level)
    end = begin + int(refused[0]) if len(refused) else len(p)
    reached = np.zeros(len(p), dtype=np.bool_)
    reached[begin:end] = True
    return reached


def _chosen(
    steps: tuple[Step, ...], nobs: int, target: float, delta: float, harm: Literal["disagreement", "joint"]
) -> Selection | None:
    best = next((step for step in reversed(steps) if step.certified), None)
    if best is None:
        return None
    counted = (
        f"{best.kept:,} kept cases disagree" if harm == "disagreement" else f"{nobs:,} cases are kept and disagree"
    )
    reason = f"{best.disagreeing:,} of {counted}: at most {budgets.show(target, 'rate')} is certified with {budgets.show(1 - delta, 'rate')} confidence"
    return Selection(best.threshold, target, delta, harm, nobs, 1 - best.kept / nobs, best, steps, reason)


def _refused(
    steps: tuple[Step, ...],
    value: Floats,
    wrong: NDArray[np.bool_],
    target: float,
    delta: float,
    harm: Literal["disagreement", "joint"],
    level: float,
) -> Selection:
    nobs = len(value)
    # Joint harm shrinks with the kept cases, so that more labels always help.
    large = [step.disagreeing / step.kept for step in steps if step.kept >= _FEW and harm == "disagreement"]
    if large and min(large) >= target:
        needed = None
        reason = (
            f"no threshold keeps {_FEW} or more cases with less than {target:.3g} disagreement (the best has "
            f"{min(large):.3g}): route these cases to the flagship, or give the gate a better signal"
        )
    else:
        needed = _needed(value, wrong, target, level, harm)
        more = "more than 100,000 labelled cases" if needed is None else f"about {needed:,} labelled cases"
        reason = (
            f"{nobs:,} labelled cases certify no threshold at {budgets.show(target, 'rate')}; {more} probably would"
        )
    return Selection(None, target, delta, harm, nobs, 1.0, None, steps, reason, needed)


def _needed(
    value: Floats, wrong: NDArray[np.bool_], target: float, level: float, harm: Literal["disagreement", "joint"]
) -> int | None:
    """Labelled cases at which the best of the observed rates would be certified, with as many kept in proportion."""
    thresholds = np.unique(value[~np.isnan(value)])[::-1]
    kept, bad = _counts(value, wrong, thresholds)
    some = kept >= min(_FEW, max(1, len(value) // 10))
    among = kept if harm == "disagreement" else np.full_like(kept, len(value))
    rates, shares = (bad[some] + 0.5) / (among[some] + 1), among[some] / len(value)
    # The search for a size is slow beside the rest, and neighbouring thresholds need about the same.
    every = max(1, len(rates) // 6)
    wanted = [
        math.ceil(always / share)
        for rate, share in zip(rates[::every].tolist(), shares[::every].tolist(), strict=True)
        if rate < target and (always := bounds.power_needed(rate, target, alpha=level, power=0.8)[1]) is not None
    ]
    fewest = min(wanted, default=None)
    return fewest if fewest is not None and fewest <= 100_000 else None
