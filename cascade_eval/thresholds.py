"""Every threshold at once: a reversed cumulative sum over bins of the value a gate compares.

Moving one gate's threshold changes only what becomes of the cases that read it: each of them either goes on as if the
gate had settled it, or as if it had escalated it. Both outcomes are counted once by the bin of the compared value;
every threshold on an edge of the bins is then a sum from one side and a sum from the other, exact on ties.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import bounds
from cascade_eval.cascade import Cascade, leaves
from cascade_eval.cohorts import Codes
from cascade_eval.counts import AGREE, DISAGREE, Counts, sums
from cascade_eval.replay import Columns, always_flagship, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Leaf, Tier
    from cascade_eval.replay import Decisions, Replay

    Floats = NDArray[np.float64]

EDGES: Final = 1001
"""Most thresholds tried in a streaming evaluation; in memory every distinct value is."""

QUANTITIES: Final = ("escalated", "compared", "disagrees", "cost", "unpriced", "started", "flagship")
"""What is counted by bin, once as if settled and once as if escalated.

Cost and always-flagship's are of cases in which both are known; `unpriced` counts the others. The last two hardly
depend on a threshold: what they would be anyway is counted with the rest, and by bin only what differs from it.
"""


@dataclass(frozen=True)
class Place:
    """One leaf of one gate.

    Parameters
    ----------
    position, number
        Position of the tier, and of the leaf within its gate.
    tier, leaf
        The same, as values.
    """

    position: int
    number: int
    tier: Tier
    leaf: Leaf

    @property
    def name(self) -> str:
        """Name of the tables that belong to it."""
        return f"{self.position}.{self.number}"


def places(cascade: Cascade) -> Iterator[Place]:
    """Find the leaves whose threshold can be moved: single gates, and named leaves of composite ones."""
    for position, tier in enumerate(cascade.tiers):
        found = list(leaves(tier.gate))
        for number, leaf in enumerate(found):
            if len(found) == 1 or leaf.name is not None:
                yield Place(position, number, tier, leaf)


@dataclass(frozen=True, eq=False)
class Edges:
    """Thresholds to count exactly, in ascending order of the value that settles more surely.

    Parameters
    ----------
    values
        Thresholds, ascending; descending where lower is surer.
    surer
        Which direction means surer.
    complete
        Whether these are all distinct values, so that every possible threshold is among them.
    """

    values: Floats
    surer: str = "higher"
    complete: bool = True

    def bins(self, compared: NDArray[np.floating]) -> NDArray[np.int64]:
        """Count, for each case, the thresholds at which it settles; 0 where the value is missing."""
        sign = 1.0 if self.surer == "higher" else -1.0
        ascending = self.values * sign
        if compared.dtype == np.float32:
            # The threshold is compared in the precision of the recorded column.
            ascending = ascending.astype(np.float32)
        found = np.searchsorted(ascending, compared * np.asarray(sign, compared.dtype), side="right")
        return np.where(np.isnan(compared), 0, found)


def edges(
    values: Floats,
    cases: NDArray[np.integer],
    *,
    named: Sequence[float] = (),
    surer: str = "higher",
    limit: int = EDGES,
) -> Edges:
    """Choose thresholds to count: all distinct values, or evenly filled quantiles, and every named one.

    Parameters
    ----------
    values
        Distinct values that occur, shape (n_distinct,).
    cases
        How many cases have each, shape (n_distinct,).
    named
        Thresholds in use.
    surer
        Which direction means surer.
    limit
        Most values beside the named ones.

    Examples
    --------
    >>> edges(np.array([0.1, 0.5, 0.9]), np.array([5, 1, 1]), named=[0.7]).values
    array([0.1, 0.5, 0.7, 0.9])
    """
    complete = len(values) <= limit
    chosen = values
    if not complete:
        mass = np.cumsum(cases)
        wanted = np.linspace(0, mass[-1], limit)
        chosen = values[np.unique(np.minimum(np.searchsorted(mass, wanted), len(values) - 1))]
    ascending = np.unique(np.concatenate([chosen, np.asarray(named, dtype=np.float64)]))
    return Edges(ascending if surer == "higher" else ascending[::-1], surer, complete)


@dataclass(frozen=True, eq=False)
class Variants:
    """Cascades that differ in one threshold only: what each does is read off two replays instead of one of each.

    Parameters
    ----------
    cascades
        The cascades.
    place
        The leaf whose threshold differs.
    thresholds
        Their thresholds.
    """

    cascades: tuple[Cascade, ...]
    place: Place
    thresholds: Edges

    def codes(self, columns: Columns, family: tuple[str, ...], bins: NDArray[np.int64]) -> Codes:
        """Split the members of a family by how many of the thresholds a case settles at."""
        plain = columns.codes(family)
        width = len(self.thresholds.values) + 1
        members = tuple((*member, str(found)) for member in plain.members for found in range(width))
        return Codes(family, plain.codes * width + bins, members)

    def first(self, cascade: Cascade) -> int:
        """Count of thresholds from which on a case settles in this cascade."""
        threshold = _leaf(cascade, self.place).threshold
        at = np.flatnonzero(self.thresholds.values == threshold)
        return int(at[0]) + 1 if len(at) else len(self.thresholds.values) + 1

    def bins(self, columns: Columns) -> NDArray[np.int64]:
        """How many of the thresholds each case settles at."""
        return self.thresholds.bins(columns.value(self.place.tier, self.place.number, self.place.leaf))

    def decisions(self, cascade: Cascade, both: tuple[Decisions, Decisions], bins: NDArray[np.int64]) -> Decisions:
        """Return one cascade's start, settled and served from the two replays; its costs and times are not."""
        settled, escalated = both
        settles = bins >= self.first(cascade)
        return replace(
            escalated,
            settled=np.where(settles, settled.settled, escalated.settled),
            served=np.where(settles, settled.served, escalated.served),
        )

    def counts(self, cascade: Cascade, settled: Counts, escalated: Counts) -> Counts:
        """Return one cascade's counts from those of the two replays, split by `codes`."""
        first = self.first(cascade)
        members = tuple(dict.fromkeys(member[:-1] for member in (*settled.members, *escalated.members)))
        place = {member: i for i, member in enumerate(members)}

        def part(counts: Counts, *, settles: bool) -> Counts:
            wanted = [(int(member[-1]) >= first) == settles for member in counts.members]
            places = [place[member[:-1]] if take else -1 for member, take in zip(counts.members, wanted, strict=True)]
            return counts.pool(members, places)

        return part(settled, settles=True) + part(escalated, settles=False)


def variants(cascades: Sequence[Cascade]) -> list[Variants]:
    """Find groups of two or more cascades that differ in one threshold only."""
    groups: dict[tuple[object, ...], list[tuple[Cascade, Place]]] = {}
    for cascade in cascades:
        place = next(places(cascade), None)
        if place is not None:
            groups.setdefault((place.name, _without(cascade, place)), []).append((cascade, place))
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        _, place = group[0]
        named = {each.leaf.threshold for _, each in group if each.leaf.threshold is not None}
        values = np.array(sorted(value for value in named if not np.isnan(value)))
        tried = Edges(values if place.leaf.surer == "higher" else values[::-1], place.leaf.surer)
        found.append(Variants(tuple(cascade for cascade, _ in group), place, tried))
    return found


def _leaf(cascade: Cascade, place: Place) -> Leaf:
    return list(leaves(cascade.tiers[place.position].gate))[place.number]


def count(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    tried: Mapping[str, Edges],
    *,
    rows: NDArray[np.bool_] | None = None,
) -> Counts:
    """Count what becomes of the cases by the value a gate compares, for each movable leaf.

    Parameters
    ----------
    cascade, decisions, columns, family, rows
        As for `replay.tally`.
    tried
        Thresholds by the `name` of their `Place`.

    Returns
    -------
    Counts
        For each place the tables ``sweep.<place>`` of shape (members, bins, 2, quantities) for cases that read the
        leaf, as if settled and as if escalated; ``rest.<place>`` of shape (members, quantities) for the others; and
        ``reliability.<place>`` of shape (members, bins, 3): compared cases, agreeing ones, summed value.
    """
    codes = columns.codes(family)
    shape = len(codes.members)
    arrays: dict[str, NDArray[Any]] = {}
    for place in places(cascade):
        if place.name not in tried:
            continue
        # A slice is counted anew: its rows may be gone when another slice's take their address.
        key = ("sweep", place.name, _without(cascade, place), family, id(tried[place.name]))
        planes = columns.kept.get(key) if rows is None else None
        if planes is None:
            planes = _planes(cascade, decisions, columns, place, tried[place.name], codes.codes, shape, rows)
        if rows is None:
            columns.kept[key] = planes
        arrays |= {f"{kind}.{place.name}": table for kind, table in planes.items()}
    return Counts(codes.members, arrays)


def _without(cascade: Cascade, place: Place) -> tuple[object, ...]:
    """Everything about a cascade but the moved threshold, so that cascades that differ only in it share a pass."""
    tiers = []
    for position, tier in enumerate(cascade.tiers):
        gates = tuple(
            (
                leaf.signal.key,
                leaf.calibrate,
                leaf.surer,
                None if (position, n) == (place.position, place.number) else leaf.threshold,
            )
            for n, leaf in enumerate(leaves(tier.gate))
        )
        single = len(gates) == 1
        tiers.append((tier.model, tier.timeout, tier.hedged, gates, None if single else repr(tier.gate)))
    return (tuple(tiers), repr(cascade.routes))


def _planes(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    place: Place,
    tried: Edges,
    codes: NDArray[np.int64],
    members: int,
    rows: NDArray[np.bool_] | None,
) -> dict[str, NDArray[Any]]:
    where = (place.position, place.number)
    read = decisions.reads.get(where, np.zeros(len(codes), dtype=np.bool_))
    counted = ~decisions.cached if rows is None else rows & ~decisions.cached
    inside, outside = counted & read, counted & ~read & (decisions.settled >= 0)
    value = columns.value(place.tier, place.number, place.leaf)
    bins = tried.bins(value)
    width = len(tried.values) + 1
    sides = np.zeros((members, width, 2, len(QUANTITIES)))
    anyway = _anyway(cascade, columns)
    for side, settle in enumerate((True, False)):
        forced = decide(cascade, columns, forced={where: settle})
        for q, (column, fixed) in enumerate(zip(_quantities(cascade, forced, columns), anyway, strict=True)):
            different = column if fixed is None else column - fixed
            some = inside & (different != 0)
            if some.any():
                sides[:, :, side, q] = sums(codes[some], bins[some], (members, width), different[some])
    rest = np.zeros((members, len(QUANTITIES)))
    for q, (column, fixed) in enumerate(zip(_quantities(cascade, decisions, columns), anyway, strict=True)):
        rest[:, q] = np.bincount(codes[outside], weights=column[outside], minlength=members)
        if fixed is not None:
            rest[:, q] += np.bincount(codes[inside], weights=fixed[inside], minlength=members)
    return {
        "sweep": sides,
        "rest": rest,
        "reliability": _reliability(cascade, columns, place, inside, bins, codes, (members, width), value),
    }


def _quantities(cascade: Cascade, decisions: Decisions, columns: Columns) -> list[Floats]:
    """Weighted indicator of each quantity, by case."""
    last = len(cascade.tiers) - 1
    kept = (decisions.settled >= 0) & (decisions.settled < last)
    compared = kept & ((decisions.served == AGREE) | (decisions.served == DISAGREE))
    flagship, flagship_known, _ = always_flagship(columns, cascade, decisions)
    resolved, paired = decisions.settled >= 0, decisions.cost_known & flagship_known
    found = [
        (decisions.settled == last) & (decisions.start < last),
        compared,
        compared & (decisions.served == DISAGREE),
        np.where(paired, decisions.cost, 0),
        resolved & ~paired,
        resolved & (decisions.start < last),
        np.where(resolved & paired, flagship, 0),
    ]
    weight = columns.weights()
    chance = columns.batch.numbers(None, "audit_probability") if columns.batch.has(None, "audit_probability") else None
    columns_ = [column.astype(np.float64) if weight is None else column * weight for column in found]
    if chance is not None:
        grown = np.nan_to_num(1.0 / chance, nan=0.0)
        columns_[1], columns_[2] = columns_[1] * grown, columns_[2] * grown
    return columns_


def _anyway(cascade: Cascade, columns: Columns) -> list[Floats | None]:
    """Weighted quantities of a case that reads the leaf as they are at nearly every threshold; None where they differ."""
    charge = columns.charge(cascade.flagship.model)
    weight = columns.weights()
    started = np.ones(columns.batch.cases) if weight is None else weight
    return [None] * 5 + [started, np.where(charge.known, charge.nano, 0) * started]


def _reliability(
    cascade: Cascade,
    columns: Columns,
    place: Place,
    read: NDArray[np.bool_],
    bins: NDArray[np.int64],
    codes: NDArray[np.int64],
    shape: tuple[int, int],
    value: NDArray[np.floating],
) -> Floats:
    """Count compared and agreeing cases by bin, escalated ones too: what the value promises against what came."""
    agrees = columns.agrees(place.tier.model, cascade.flagship.model)
    known = read & (agrees >= 0) & np.isfinite(value)
    table = np.zeros((*shape, 3))
    if known.any():
        cells, cell_bins = codes[known], bins[known]
        table[..., 0] = sums(cells, cell_bins, shape, np.ones(int(known.sum())))
        table[..., 1] = sums(cells, cell_bins, shape, (agrees[known] == 1).astype(np.float64))
        table[..., 2] = sums(cells, cell_bins, shape, value[known].astype(np.float64))
    return table


@dataclass(frozen=True, eq=False)
class Sweep:
    """What every threshold of one gate would do to one cohort; arrays of shape (n_thresholds,).

    Parameters
    ----------
    tier
        Name of the tier whose gate is moved.
    thresholds
        Tried, from the one that keeps most to the one that escalates most.
    escalation
        Of the cases that started below the flagship.
    disagreement, low, high
        Of the unescalated cases whose comparison is known, with one-sided bounds; NaN where there is none.
    cost
        Ratio to always-flagship; NaN where it is unknown for more than 1% of the cases.
    kept
        Unescalated cases with a known comparison.
    complete
        Whether every distinct value was tried.
    """

    tier: str
    thresholds: Floats
    escalation: Floats
    disagreement: Floats
    low: Floats
    high: Floats
    cost: Floats
    kept: Floats
    complete: bool


def read(counts: Counts, member: int, place: Place, tried: Edges, *, confidence: float | None = 0.95) -> Sweep:
    """Turn counts by bin into a curve over thresholds.

    Parameters
    ----------
    counts
        From `count`, together with those of `replay.tally`.
    member
        Position of the cohort.
    place, tried
        The leaf, and the thresholds that were counted.
    confidence
        Of each bound on its own side; None leaves the bounds out.
    """
    planes = counts[f"sweep.{place.name}"][member]
    settled, escalated = planes[:, 0, :], planes[:, 1, :]
    # Threshold j settles the cases in bins above j and escalates the others.
    above = np.cumsum(settled[::-1], axis=0)[::-1][1:]
    below = np.cumsum(escalated, axis=0)[:-1]
    total = above + below + counts[f"rest.{place.name}"][member]
    up, compared, wrong, cost, unpriced, started, flagship = total.T
    with np.errstate(invalid="ignore", divide="ignore"):
        disagreement = np.where(compared > 0, wrong / compared, np.nan)
        # Cases of unknown cost are not like the others: with more than 1% of them the ratio is unknown.
        ratio = np.where((flagship > 0) & (unpriced <= 0.01 * started), cost / flagship, np.nan)
        escalation = np.where(started > 0, up / started, np.nan)
    if confidence is None or "states.w" in counts or "states.v" in counts or "states" in counts.clusters:
        # The effective size of a weighted or clustered sample is not counted by bin: no bounds rather than wrong ones.
        low = high = np.full(len(wrong), np.nan)
    else:
        low, high = bounds.rate(wrong, compared, confidence=confidence)
    return Sweep(place.tier.name, tried.values, escalation, disagreement, low, high, ratio, compared, tried.complete)


def sweep(replay: Replay, tier: str | None = None) -> Sweep:
    """Try every distinct value of a gate's signal as its threshold.

    Parameters
    ----------
    replay
        A cascade replayed on cases, or a slice of it.
    tier
        Name of the tier whose gate is moved; the first gated tier where None.

    Returns
    -------
    Sweep

    Raises
    ------
    KeyError
        No gate of that tier can be moved: a composite gate needs a named leaf.
    """
    found = [place for place in places(replay.cascade) if tier is None or place.tier.name == tier]
    if not found:
        raise KeyError(
            f"no movable gate{'' if tier is None else f' in tier {tier!r}'}: name a leaf of a composite gate"
        )
    place = found[0]
    value = replay.columns.value(place.tier, place.number, place.leaf)
    distinct, cases = np.unique(value[replay.chosen & ~np.isnan(value)].astype(np.float64), return_counts=True)
    tried = edges(distinct, cases, surer=place.leaf.surer, limit=len(distinct))
    planes = count(replay.cascade, replay.decisions, replay.columns, (), {place.name: tried}, rows=replay.chosen)
    counted = replay.counts()
    merged = replace(counted, arrays={**counted.arrays, **planes.arrays})
    return read(merged, 0, place, tried, confidence=replay.context.confidence)
