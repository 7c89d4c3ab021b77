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
from cascade_eval.counts import AGREE, DISAGREE, Counts, histogram, sums
from cascade_eval.replay import Columns, always_flagship, among, decide, served_quality
from cascade_eval.thresholds import windows
from cascade_eval.thresholds.places import Edges, Place, edges, places, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Decisions, Replay

    Floats = NDArray[np.float64]

QUANTITIES: Final = ("escalated", "compared", "disagrees", "cost", "unpriced", "started", "flagship")
"""What is counted by bin, once as if settled and once as if escalated.

Cost and always-flagship's are of cases in which both are known; `unpriced` counts the others. The last two hardly
depend on a threshold: what they would be anyway is counted with the rest, and by bin only what differs from it.
"""

GRADES: Final = ("recorded", "graded", "quality")
"""What is counted by bin as well where answers have scores: resolved cases with any score, those whose served answer
has one, and its sum."""

UNKNOWN: Final = 0.01
"""Largest share of cases whose cost, quality or latency may be unknown: they are not like the others."""


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
        leaf, as if settled and as if escalated; ``rest.<place>`` of shape (members, quantities) for the others;
        ``reliability.<place>`` of shape (members, bins, 3): compared cases, agreeing ones, summed value; and where
        answers have scores ``grades.<place>`` and ``ungated.<place>``, which are to `GRADES` what the first two are to
        `QUANTITIES`.
    """
    codes = columns.codes(family)
    shape = len(codes.members)
    arrays: dict[str, NDArray[Any]] = {}
    for place in places(cascade):
        if place.name not in tried:
            continue
        # A slice is counted anew: its rows may be gone when another slice's take their address.
        key = ("sweep", place.name, without(cascade, place), family, id(tried[place.name]))
        planes = columns.kept.get(key) if rows is None else None
        if planes is None:
            planes = _planes(cascade, decisions, columns, place, tried[place.name], codes.codes, shape, rows)
        if rows is None:
            columns.kept[key] = planes
        arrays |= {f"{kind}.{place.name}": table for kind, table in planes.items()}
    return Counts(codes.members, arrays)


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
    shape = (members, len(tried.values) + 1)
    both = forced(cascade, columns, place)

    own = among(codes, inside)
    cells = own * shape[1] + among(bins, inside)
    others = outside.any()

    def summed(of: Callable[[Decisions], list[NDArray[Any]]], anyway: Sequence[Floats | None]) -> tuple[Floats, Floats]:
        sides = np.zeros((*shape, 2, len(anyway)))
        for side, one in enumerate(both):
            for q, (column, fixed) in enumerate(zip(of(one), anyway, strict=True)):
                different = among(column if fixed is None else column - fixed, inside)
                if different.any():
                    found = np.bincount(cells, weights=different, minlength=shape[0] * shape[1])
                    sides[:, :, side, q] = found.reshape(shape)
        rest = np.zeros((members, len(anyway)))
        for q, column in enumerate(of(decisions) if others else ()):
            rest[:, q] = np.bincount(codes[outside], weights=column[outside], minlength=members)
        for q, fixed in enumerate(anyway):
            if fixed is not None:
                rest[:, q] += np.bincount(own, weights=among(fixed, inside), minlength=members)
        return sides, rest

    planes: dict[str, NDArray[Any]] = {}
    planes["sweep"], planes["rest"] = summed(lambda one: quantities(cascade, one, columns), _anyway(cascade, columns))
    if graded(cascade, columns):
        planes["grades"], planes["ungated"] = summed(lambda one: grades(cascade, one, columns), [None] * len(GRADES))
    planes["reliability"] = _reliability(cascade, columns, place, inside, bins, codes, shape, value)
    return planes


def forced(cascade: Cascade, columns: Columns, place: Place) -> tuple[Decisions, Decisions]:
    """Replay as if a leaf settled every case that reads it, and as if it escalated them all; once for all thresholds."""
    key = ("forced", place.name, without(cascade, place))
    if key not in columns.kept:
        where = (place.position, place.number)
        columns.kept[key] = tuple(decide(cascade, columns, forced={where: settle}) for settle in (True, False))
    found: tuple[Decisions, Decisions] = columns.kept[key]
    return found


def quantities(cascade: Cascade, decisions: Decisions, columns: Columns) -> list[NDArray[Any]]:
    """Weigh each of `QUANTITIES` by case."""
    last = len(cascade.tiers) - 1
    kept = (decisions.settled >= 0) & (decisions.settled < last)
    compared = kept & ((decisions.served == AGREE) | (decisions.served == DISAGREE))
    flagship, flagship_known, _ = always_flagship(columns, cascade, decisions)
    resolved, paired = decisions.settled >= 0, decisions.cost_known & flagship_known
    found = [
        (decisions.settled == last) & (decisions.start < last),
        compared,
        compared & (decisions.served == DISAGREE),
        # Products with 0 and 1: choosing case by case takes several times as long.
        decisions.cost * paired,
        resolved & ~paired,
        resolved & (decisions.start < last),
        flagship * (resolved & paired),
    ]
    weight = columns.weights()
    chance = columns.batch.numbers(None, "audit_probability") if columns.batch.has(None, "audit_probability") else None
    # Truth values and whole numbers are added up as they are: turned into floats they would take most of the time.
    columns_ = [column if weight is None else column * weight for column in found]
    if chance is not None:
        grown = np.nan_to_num(1.0 / chance, nan=0.0)
        columns_[1], columns_[2] = columns_[1] * grown, columns_[2] * grown
    return columns_


def graded(cascade: Cascade, columns: Columns) -> bool:
    """Whether any answer can have a score."""
    has = columns.batch.has
    return has(None, "expected") or any(has(tier.model, "score") for tier in cascade.tiers)


def grades(cascade: Cascade, decisions: Decisions, columns: Columns) -> list[Floats]:
    """Weigh each of `GRADES` by case."""
    served = served_quality(columns, cascade, decisions)
    resolved = decisions.settled >= 0
    recorded = np.any([~np.isnan(columns.quality(tier.model)) for tier in cascade.tiers], axis=0)
    known = resolved & ~np.isnan(served)
    weight = columns.weights()
    found = [resolved & recorded, known, np.where(known, served, 0)]
    return [column.astype(np.float64) if weight is None else column * weight for column in found]


def _anyway(cascade: Cascade, columns: Columns) -> list[Floats | None]:
    """Weighted quantities of a case that reads the leaf as they are at nearly every threshold; None where they differ."""
    charge = columns.charge(cascade.flagship.model)
    weight = columns.weights()
    started = np.ones(columns.batch.cases) if weight is None else weight
    return [None] * 5 + [started, charge.nano * charge.known * started]


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
        cells, cell_bins = among(codes, known), among(bins, known)
        table[..., 0] = histogram(cells, cell_bins, shape)
        table[..., 1] = sums(cells, cell_bins, shape, among(agrees, known) == 1)
        table[..., 2] = sums(cells, cell_bins, shape, among(value, known))
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
    quality
        Mean score of the served answers; NaN where it is unknown for more than 1% of the scored cases.
    latency_p50, latency_p95
        Seconds within which half and 95% of the cases are answered, exactly; NaN where the latency of more than 1% is
        unknown, and after a streaming evaluation.
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
    quality: Floats
    latency_p50: Floats
    latency_p95: Floats


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
    total = _at_thresholds(counts[f"sweep.{place.name}"][member], counts[f"rest.{place.name}"][member])
    up, compared, wrong, cost, unpriced, started, flagship = total.T
    with np.errstate(invalid="ignore", divide="ignore"):
        disagreement = np.where(compared > 0, wrong / compared, np.nan)
        ratio = np.where((flagship > 0) & (unpriced <= UNKNOWN * started), cost / flagship, np.nan)
        escalation = np.where(started > 0, up / started, np.nan)
    low, high = bounded(counts, wrong, compared, confidence)
    quality = unknown = np.full(len(wrong), np.nan)
    if f"grades.{place.name}" in counts:
        quality = mean_grade(
            _at_thresholds(counts[f"grades.{place.name}"][member], counts[f"ungated.{place.name}"][member])
        )
    return Sweep(
        place.tier.name, tried.values, escalation, disagreement, low, high, ratio, compared, tried.complete, quality,
        unknown, unknown,
    )  # fmt: skip


def _at_thresholds(planes: Floats, rest: Floats) -> Floats:
    """Sum what happens at each threshold: threshold j settles the cases in bins above j and escalates the others."""
    above = np.cumsum(planes[::-1, 0], axis=0)[::-1][1:]
    below = np.cumsum(planes[:, 1], axis=0)[:-1]
    total: Floats = above + below + rest
    return total


def bounded(counts: Counts, wrong: Floats, compared: Floats, confidence: float | None) -> tuple[Floats, Floats]:
    """Bound rates of plain cases; a sample of unknown worth has no bounds rather than wrong ones."""
    # The effective size of a weighted or clustered sample is not counted by bin.
    if confidence is None or "states.w" in counts or "states.v" in counts or "states" in counts.clusters:
        nothing = np.full(wrong.shape, np.nan)
        return nothing, nothing
    return bounds.rate(wrong, compared, confidence=confidence)


def mean_grade(summed: Floats) -> Floats:
    """Mean of what `grades` adds up to on the last axis; NaN where too much of it is unknown."""
    recorded, known, total = np.moveaxis(summed, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((known > 0) & (recorded - known <= UNKNOWN * recorded), total / known, np.nan)


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
    movable = [place for place in places(replay.cascade) if tier is None or place.tier.name == tier]
    if not movable:
        raise KeyError(
            f"no movable gate{'' if tier is None else f' in tier {tier!r}'}: name a leaf of a composite gate"
        )
    place = movable[0]
    value = replay.columns.value(place.tier, place.number, place.leaf)
    distinct, cases = np.unique(value[replay.chosen & ~np.isnan(value)].astype(np.float64), return_counts=True)
    tried = edges(distinct, cases, surer=place.leaf.surer, limit=len(distinct))
    planes = count(replay.cascade, replay.decisions, replay.columns, (), {place.name: tried}, rows=replay.chosen)
    counted = replay.counts()
    merged = replace(counted, arrays={**counted.arrays, **planes.arrays})
    found = read(merged, 0, place, tried, confidence=replay.context.confidence)
    middle, slow = _latencies(replay, place, tried)
    return replace(found, latency_p50=middle, latency_p95=slow)


def _latencies(replay: Replay, place: Place, tried: Edges) -> Floats:
    """Half and 95% of the cases are answered within how many seconds, at each threshold; shape (2, n_thresholds)."""
    where = (place.position, place.number)
    counted = replay.chosen & ~replay.decisions.cached
    read = replay.decisions.reads.get(where, np.zeros_like(counted))[counted]
    bins = np.where(read, tried.bins(replay.columns.value(place.tier, place.number, place.leaf)[counted]), 0)
    order = np.argsort(bins, kind="stable")
    seconds, present = [], []
    for one in forced(replay.cascade, replay.columns, place):
        # A case that does not read the leaf is the same whatever that says, so it may stand on either side.
        seconds.append(one.latency[counted][order])
        present.append((one.settled >= 0)[counted][order])
    first = np.searchsorted(bins[order], np.arange(len(tried.values)), side="right")
    return windows.quantiles(
        np.concatenate(seconds), np.concatenate(present), first, len(order), (0.5, 0.95), unknown=UNKNOWN
    )
