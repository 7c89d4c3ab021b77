"""Choosing two thresholds with a guarantee, along paths laid down before a label is seen.

For one pair of thresholds fixed in advance the disagreements among the cases either gate keeps are binomial given how
many are kept, whichever tier served them: the exact test of `selection` holds for a pair as it does for one threshold.
Pairs have no order from strict to lax, so that the walks follow paths that do. Each goes from keeping next to nothing to
keeping everything, and every step on it keeps more at one gate or both; the paths differ in which gate opens first. They
share the allowed error equally (Bonferroni), and so do the walks on each. All certified pairs hold together, whence the
cheapest of them may be taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cascade_eval import budgets
from cascade_eval.thresholds import selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Surer = tuple[Literal["higher", "lower"], Literal["higher", "lower"]]

LEANINGS: Final = (1 / 8, 1 / 2, 1.0, 2.0, 8.0)
"""One path each: where its first gate keeps the share ``u**leaning`` of its values, the second keeps ``u**(1/leaning)``."""


@dataclass(frozen=True)
class PairStep:
    """One pair of thresholds on the way.

    Parameters
    ----------
    thresholds
        Of the first and the second gate.
    kept, disagreeing
        Labelled cases either gate settles, and those of them whose served answer disagrees.
    p
        Exact p-value of "disagreement is at most the target".
    certified
        Whether a walk came as far as this.
    cost
        Mean cost of a labelled case; None where costs were not given.
    """

    thresholds: tuple[float, float]
    kept: int
    disagreeing: int
    p: float
    certified: bool
    cost: float | None


@dataclass(frozen=True)
class PairSelection:
    """A chosen pair of thresholds, or none, with the reason.

    Parameters
    ----------
    thresholds
        The cheapest certified pair; None where none is.
    target, delta
        ``P(disagreement > target) <= delta`` over labelled samples like this one.
    nobs
        Labelled cases.
    escalation
        Share of them that reaches the flagship; 1 where there is no pair.
    step
        The chosen step.
    paths
        The steps of every path, strict to lax.
    reason
        One sentence.
    """

    thresholds: tuple[float, float] | None
    target: float
    delta: float
    nobs: int
    escalation: float
    step: PairStep | None
    paths: tuple[tuple[PairStep, ...], ...]
    reason: str


def select_pair(
    values: ArrayLike,
    disagrees: ArrayLike,
    *,
    at_most: float,
    delta: float = 0.1,
    costs: ArrayLike | None = None,
    surer: Surer = ("higher", "higher"),
    starts: Sequence[float] = selection.STARTS,
    paths: Sequence[ArrayLike] | None = None,
) -> PairSelection:
    """Choose the cheapest pair of thresholds whose disagreement is certified.

    Parameters
    ----------
    values : array-like of shape (n_cases, 2)
        Values the two gates compare, of labelled cases; NaN always escalates.
    disagrees : array-like of shape (n_cases, 2)
        Whether the answers of the two tiers disagree with the flagship's, 0 or 1, of every case.
    at_most : float
        Target: largest disagreement to allow, between 0 and 1.
    delta : float, default=0.1
        Chance to be wrong.
    costs : array-like of shape (n_cases, 3), optional
        What each case costs when the first tier settles it, the second, and the flagship. Without it the cheapest pair
        is the one that escalates least to the flagship.
    surer : pair of {"higher", "lower"}
        Which direction of each value means surer.
    starts : sequence of float
        As for `select`.
    paths : sequence of array-like of shape (n_steps, 2), optional
        Pairs to walk, strict to lax in both thresholds, chosen without looking at labels; `lay` by default.

    Returns
    -------
    PairSelection
        The guarantee is that of `select`.

    References
    ----------
    Angelopoulos et al., "Learn then test", arXiv 2110.01052: fixed-sequence testing from several starts.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> values = rng.random((4000, 2))
    >>> wrong = rng.random((4000, 2)) < [0.4, 0.15] * (1 - values)
    >>> found = select_pair(values, wrong, at_most=0.05, costs=np.tile([1.0, 3.0, 20.0], (4000, 1)))
    >>> [round(one, 2) for one in found.thresholds], round(found.escalation, 2)
    ([0.91, 0.47], 0.42)
    """
    if not 0 < at_most < 1 or not 0 < delta < 1:
        raise ValueError("at_most and delta lie between 0 and 1")
    sign = np.array([1.0 if each == "higher" else -1.0 for each in surer])
    value = np.asarray(values, dtype=np.float64) * sign
    wrong = np.asarray(disagrees, dtype=np.float64) > 0
    paid = None if costs is None else np.asarray(costs, dtype=np.float64)
    ways = lay(value) if paths is None else [np.asarray(path, dtype=np.float64) * sign for path in paths]
    walks = max(len(starts), 1) * max(len(ways), 1)
    found = tuple(
        _steps(way, value, wrong, paid, sign, at_most=at_most, delta=delta, starts=starts, walks=walks) for way in ways
    )
    return _chosen(found, len(value), at_most, delta)


def lay(values: ArrayLike, *, leanings: Sequence[float] = LEANINGS, grid: int = selection.GRID) -> list[Floats]:
    """Lay paths through pairs of thresholds by the values alone.

    Parameters
    ----------
    values : array-like of shape (n_cases, 2)
        Of which more is surer.
    leanings
        One for each path.
    grid
        Most steps of a path.

    Returns
    -------
    list of ndarray of shape (n_steps, 2)
        Pairs of attained values, each keeping at least as much as the one before at both gates; empty without values.
    """
    value = np.asarray(values, dtype=np.float64)
    descending = [np.sort(column[~np.isnan(column)])[::-1] for column in value.T]
    if not all(map(len, descending)):
        return []
    shares = np.linspace(0, 1, grid)
    found = []
    for lean in leanings:
        kept = (shares**lean, shares ** (1 / lean))
        columns = [
            ordered[np.rint(share * (len(ordered) - 1)).astype(np.int64)]
            for ordered, share in zip(descending, kept, strict=True)
        ]
        pairs = np.stack(columns, axis=1)
        found.append(pairs[np.concatenate([[True], np.any(np.diff(pairs, axis=0) != 0, axis=1)])])
    return found


def _steps(
    way: Floats,
    value: Floats,
    wrong: NDArray[np.bool_],
    paid: Floats | None,
    sign: Floats,
    *,
    at_most: float,
    delta: float,
    starts: Sequence[float],
    walks: int,
) -> tuple[PairStep, ...]:
    kept, bad, cost = tally(way, value, wrong, paid)
    p, reached = selection.certified(kept, bad, len(value), at_most=at_most, delta=delta, starts=starts, walks=walks)
    means = [None] * len(way) if cost is None else (cost / max(len(value), 1)).tolist()
    return tuple(
        PairStep((float(a), float(b)), int(k), int(x), float(q), bool(r), None if c is None or np.isnan(c) else c)
        for (a, b), k, x, q, r, c in zip(way * sign, kept, bad, p, reached, means, strict=True)
    )


def tally(
    way: Floats, value: Floats, wrong: NDArray[np.bool_], paid: Floats | None = None
) -> tuple[Floats, Floats, Floats | None]:
    """Count kept and disagreeing cases at every step of a path, and sum what all cases cost.

    Along a path every case changes hands at most twice: from the flagship to the second tier where the second gate lets
    go of it, and to the first where the first does. So the sums are running totals of these changes.

    Parameters
    ----------
    way : ndarray of shape (n_steps, 2)
        Thresholds, none larger than the one before.
    value, wrong : ndarray of shape (n_cases, 2)
        Of which more is surer; and whether each tier's answer disagrees.
    paid : ndarray of shape (n_cases, 3), optional
        Cost by the tier that settles.

    Returns
    -------
    kept, disagreeing, cost : ndarray of shape (n_steps,)
        The last is None without costs.

    Raises
    ------
    ValueError
        A step keeps less than the one before.
    """
    if np.any(np.diff(way, axis=0) > 0):
        raise ValueError("a path goes from strict to lax: no step may keep less at either gate than the one before it.")
    settles = [np.searchsorted(-way[:, k], -value[:, k], side="left") for k in (0, 1)]
    # Missing values are settled nowhere; a sort puts NaN behind everything, so that holds already.
    first, second = settles[0], np.minimum(settles[0], settles[1])
    taken = second < first

    def running(at_second: Floats, at_first: Floats) -> Floats:
        size = len(way) + 1
        changes = np.bincount(second, at_second, size) + np.bincount(first, at_first, size)
        summed: Floats = np.cumsum(changes)[:-1]
        return summed

    one, two = wrong[:, 0].astype(np.float64), np.where(taken, wrong[:, 1], 0.0)
    kept = running(taken.astype(np.float64), (~taken).astype(np.float64))
    bad = running(two, one - two)
    if paid is None:
        return kept, bad, None
    middle = np.where(taken, paid[:, 1] - paid[:, 2], 0.0)
    return kept, bad, paid[:, 2].sum() + running(middle, paid[:, 0] - paid[:, 2] - middle)


def _chosen(found: tuple[tuple[PairStep, ...], ...], nobs: int, target: float, delta: float) -> PairSelection:
    steps = [step for path in found for step in path if step.certified]
    if not steps:
        reason = f"{nobs:,} labelled cases certify no pair of thresholds at {budgets.show(target, 'rate')}; one gate alone is easier"
        return PairSelection(None, target, delta, nobs, 1.0, None, found, reason)
    best = min(steps, key=lambda step: (np.inf if step.cost is None else step.cost, -step.kept))
    reason = (
        f"{best.disagreeing:,} of {best.kept:,} kept cases disagree: at most {budgets.show(target, 'rate')} is certified "
        f"with {budgets.show(1 - delta, 'rate')} confidence"
    )
    return PairSelection(best.thresholds, target, delta, nobs, 1 - best.kept / nobs, best, found, reason)
