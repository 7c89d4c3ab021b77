"""Two gates at once: what every pair of thresholds of a cascade of three tiers would do.

A case has three fates: the first gate settles it; the first escalates it and the second settles it; both escalate it.
Each fate is counted once, by the bins of the two values its gates compare; every pair of thresholds is then a sum of
three corners of those tables, exact on ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval.cascade import Leaf
from cascade_eval.counts import sums
from cascade_eval.replay import decide
from cascade_eval.thresholds import fronts, sweeping
from cascade_eval.thresholds.places import Edges, Place, edges

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Columns, Decisions, Replay

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

POINTS: Final = 201
"""Most thresholds tried of either gate."""

_FIRST, _SECOND = (0, 0), (1, 0)


@dataclass(frozen=True, eq=False)
class Pair:
    """What every pair of thresholds would do; tables of shape (n_first, n_second).

    Parameters
    ----------
    tiers
        Names of the two gated tiers.
    first, second
        Thresholds tried of either, from the one that keeps most to the one that escalates most.
    escalation
        Share of the cases that started below the flagship and reach it.
    disagreement, low, high
        Of the cases either gate settles and whose comparison is known, with one-sided bounds; NaN where there is none.
    cost
        Ratio to always-flagship; NaN where it is unknown for more than 1% of the cases.
    kept
        Unescalated cases with a known comparison.
    quality
        Mean score of the served answers; NaN where it is unknown for more than 1% of the scored cases.
    complete
        Whether every distinct value of both was tried.
    """

    tiers: tuple[str, str]
    first: Floats
    second: Floats
    escalation: Floats
    disagreement: Floats
    low: Floats
    high: Floats
    cost: Floats
    kept: Floats
    quality: Floats
    complete: bool

    def front(self, against: Literal["cost", "escalation"] = "cost") -> list[tuple[int, int]]:
        """Find the pairs no other pair beats in disagreement and cost (or escalation), the cheapest first.

        Returns
        -------
        list of (int, int)
            Positions in `first` and `second`.
        """
        dear = self.cost if against == "cost" else self.escalation
        flat = fronts.front(dear.ravel(), self.disagreement.ravel())
        rows, columns = np.unravel_index(flat, dear.shape)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))


def pair(replay: Replay, *, points: int = POINTS) -> Pair:
    """Try pairs of thresholds of the two gates of a cascade of three tiers.

    Parameters
    ----------
    replay
        A cascade replayed on cases, or a slice of it.
    points
        Most thresholds of either gate: all distinct values where there are no more, else quantiles, and always the
        ones in use.

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        The cascade has other than three tiers, or a gate of several signals.

    Examples
    --------
    >>> from cascade_eval import runs, suite
    >>> pair(runs.replays(suite.load("suites/digits.cascade.yaml"))["current"])
    Traceback (most recent call last):
    ValueError: 'current' has no pair of thresholds: that takes three tiers, and a gate of one signal at the first two.
    """
    found = places(replay.cascade)
    if found is None:
        raise ValueError(
            f"'{replay.name}' has no pair of thresholds: that takes three tiers, and a gate of one signal at the first two."
        )
    three = fates(replay)
    counted = replay.chosen & ~replay.decisions.cached
    tried, bins = [], []
    for place, where in zip(found, (_FIRST, _SECOND), strict=True):
        # A case that cannot come to a gate is on its escalating side, whatever is recorded for it.
        comes = three[2].reads.get(where, np.zeros_like(counted))
        value = replay.columns.value(place.tier, place.number, place.leaf)
        each = _edges(value[counted & comes], place, points)
        tried.append(each)
        bins.append(np.where(comes, each.bins(value), 0)[counted])
    total = _tables(replay, three, counted, bins, (len(tried[0].values), len(tried[1].values)), sweeping.quantities)
    up, compared, wrong, cost, unpriced, started, flagship = np.moveaxis(total, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        escalation = np.where(started > 0, up / started, np.nan)
        disagreement = np.where(compared > 0, wrong / compared, np.nan)
        ratio = np.where((flagship > 0) & (unpriced <= sweeping.UNKNOWN * started), cost / flagship, np.nan)
    low, high = sweeping.bounded(replay.counts(), wrong, compared, replay.context.confidence)
    quality = np.full(up.shape, np.nan)
    if sweeping.graded(replay.cascade, replay.columns):
        quality = sweeping.mean_grade(_tables(replay, three, counted, bins, up.shape, sweeping.grades))
    return Pair(
        (found[0].tier.name, found[1].tier.name), tried[0].values, tried[1].values, escalation, disagreement, low, high,
        ratio, compared, quality, tried[0].complete and tried[1].complete,
    )  # fmt: skip


def places(cascade: Cascade) -> tuple[Place, Place] | None:
    """Return the two gates that can be moved together; None where the cascade is of another shape.

    Examples
    --------
    >>> from cascade_eval.cascade import Cascade, Signal, Tier
    >>> tiers = Tier("mini", "m", Leaf(Signal("confidence"), 0.8)), Tier("flagship", "f")
    >>> places(Cascade("two tiers", tiers)) is None
    True
    """
    if len(cascade.tiers) != 3:
        return None
    first, second = cascade.tiers[:2]
    if not isinstance(first.gate, Leaf) or not isinstance(second.gate, Leaf):
        return None
    return Place(0, 0, first, first.gate), Place(1, 0, second, second.gate)


def fates(replay: Replay) -> tuple[Decisions, Decisions, Decisions]:
    """Replay with the first gate settling, with only the second settling, and with both escalating."""
    first, second, third = (
        decide(replay.cascade, replay.columns, forced={_FIRST: one, _SECOND: other})
        for one, other in ((True, True), (False, True), (False, False))
    )
    return first, second, third


def _edges(value: NDArray[np.floating], place: Place, points: int) -> Edges:
    distinct, cases = np.unique(value[~np.isnan(value)].astype(np.float64), return_counts=True)
    threshold = place.leaf.threshold
    named = [threshold] if threshold is not None and not np.isnan(threshold) else []
    new = sum(one not in distinct for one in named)
    limit = points - new if len(distinct) + new <= points else points - len(named)
    return edges(distinct, cases, named=named, surer=place.leaf.surer, limit=limit)


def _tables(
    replay: Replay,
    three: tuple[Decisions, Decisions, Decisions],
    counted: Mask,
    bins: list[Ints],
    shape: tuple[int, ...],
    of: Callable[[Cascade, Decisions, Columns], list[NDArray[Any]]],
) -> Floats:
    """Sum quantities at every pair of thresholds; shape (n_first, n_second, n_quantities)."""
    one, other = bins
    size = (shape[0] + 1, shape[1] + 1)
    tables = []
    for settled, passed, escalated in zip(*(of(replay.cascade, fate, replay.columns) for fate in three), strict=True):
        alone = np.bincount(one, weights=settled[counted], minlength=size[0])
        kept, gone = (sums(one, other, size, column[counted]) for column in (passed, escalated))
        # At pair (i, j): bins above i, whatever the second; bins up to i with bins above j; bins up to i and up to j.
        by_first = alone[::-1].cumsum()[::-1][1:, None]
        by_second = kept.cumsum(axis=0)[:-1, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        tables.append(by_first + by_second + gone.cumsum(axis=0).cumsum(axis=1)[:-1, :-1])
    return np.stack(tables, axis=-1)
