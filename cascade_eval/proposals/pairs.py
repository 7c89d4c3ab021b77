"""Choosing both thresholds of a cascade of three tiers at once."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds, cohorts, replay, thresholds
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.proposals import gates, rates, samples
from cascade_eval.proposals.nouns import Pair, Part, Point
from cascade_eval.replay import UNRESOLVED
from cascade_eval.replay.decisions import settles
from cascade_eval.suite import sketches
from cascade_eval.thresholds import pairs, paths, selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Leaf
    from cascade_eval.proposals.nouns import Rate
    from cascade_eval.replay import Columns, Decisions, Replay
    from cascade_eval.suite import Suite
    from cascade_eval.thresholds import PairSelection, PairStep
    from cascade_eval.traffic import Traffic

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

WALKS: Final = len(selection.STARTS) * len(paths.LEANINGS)
"""Walks of a selection, which share its allowed error."""

UNPRICED: Final = 0.01
"""Share of the cases whose cost may be unknown when pairs are compared by cost."""


@dataclass(frozen=True, eq=False)
class AtBoth:
    """Two gates with the cases that reach either; arrays have shape (n_cases,) or (n_cases, 2).

    `fates` are the replays with the first gate settling, only the second, and neither; `standing` are the cases that
    stand for all of them.
    """

    replay: Replay
    leaves: tuple[Leaf, Leaf]
    fates: tuple[Decisions, Decisions, Decisions]
    compared: tuple[NDArray[np.floating], NDArray[np.floating]]
    reads: NDArray[np.bool_]
    agrees: NDArray[np.int8]
    standing: Mask
    frame: Mask
    rows: NDArray[np.int64]
    groups: cohorts.Codes
    families: tuple[tuple[str, ...], ...]

    @property
    def columns(self) -> Columns:
        """Signals, comparisons and cohorts of all cases."""
        return self.replay.columns

    @property
    def known(self) -> Mask:
        """Whether each case was compared with the flagship at every gate it can come to."""
        return np.asarray(((self.agrees >= 0) | ~self.reads).all(axis=1), dtype=np.bool_)


def pair(
    suite: Suite,
    traffic: Traffic,
    *,
    at_most: float,
    cascade: str | None = None,
    per: Sequence[str] = (),
    delta: float = 0.1,
    now: dt.datetime | None = None,
) -> Pair:
    """Propose the cheapest pair of thresholds whose disagreement is certified, and show what all pairs would do.

    Parameters
    ----------
    suite
        Cascades of three tiers whose first two gates are single, agreement, cohorts and floors.
    traffic
        Cases with the answers of all three models, of every case.
    at_most
        Largest disagreement to allow of the cases either gate keeps, between 0 and 1.
    cascade
        Which; the first unless given.
    per
        Cohort columns: the pair has to be certified in each of K cohorts, each at `delta` / K.
    delta
        Chance to be wrong, below one half.
    now
        When it is made; the present by default.

    Returns
    -------
    Pair

    Raises
    ------
    UsageError
        Unknown names, a cascade of another shape, or data that cannot be used.

    Notes
    -----
    What is counted is what `threshold` counts.
    """
    if not 0 < at_most < 1 or not 0 < delta < 0.5:
        raise UsageError("the target lies between 0% and 100%, and delta between 0% and 50%.")
    at = _at(suite, traffic, cascade, per)
    if not len(at.rows):
        raise DataError([Problem("no case reaches either gate, so nothing can choose their thresholds", traffic.name)])
    why = _unfit(at, suite)
    # A front of the cases whose path is known would be one of cases unlike the others.
    walked = 1 - samples.lost(at.fates[2], at.standing) >= suite.coverage
    found, chosen = _select(at, at_most, delta)
    step = None if why is not None else chosen
    values = None if step is None else _shortest(at, step.thresholds)
    after = None if values is None else _moved(at, values)
    kept = () if values is None else _kept(at, values, suite)
    parts = tuple(_part(label, one, step, why) for label, one in found.items())
    first, second = at.replay.cascade.tiers[:2]
    return Pair(
        suite.name, at.replay.name, (first.name, second.name), (gates.signal(at.leaves[0]), gates.signal(at.leaves[1])),
        at_most, delta, tuple(per), values, (at.leaves[0].threshold, at.leaves[1].threshold), _reason(found, step, why),
        parts, kept[0] if kept else None, kept[1:], max((part.bound for part in parts if part.bound is not None), default=None),
        None if after is None else gates.estimated(after.escalation), None if after is None else gates.estimated(after.cost),
        at.replay.escalation.value, at.replay.cost.value, tuple(_front(at)) if walked else (), at.columns.batch.cases, int(at.frame.sum()),
        int((at.frame & at.known).sum()), len(at.rows), traffic.name, traffic.sha256(), now or dt.datetime.now(dt.UTC),
        tuple(_notes(at, front=walked)),
        (sketches.of(traffic, at.leaves[0].signal, first.model), sketches.of(traffic, at.leaves[1].signal, second.model)),
    )  # fmt: skip


def _at(suite: Suite, traffic: Traffic, cascade: str | None, per: Sequence[str]) -> AtBoth:
    name, line = gates.named(suite, cascade)
    places = pairs.places(suite.cascade(name))
    if places is None:
        message = (
            f"'{name}' has no pair of thresholds: --both takes three tiers, and a gate of one signal at the first two"
        )
        raise UsageError([Problem(message, suite.name, line)])
    done = gates.replayed(suite, traffic, name, per)
    filled = pairs.places(done.cascade)
    assert filled is not None
    columns = done.columns
    fates = pairs.fates(done)
    nothing = np.zeros(columns.batch.cases, dtype=np.bool_)
    reads = np.stack([fates[2].reads.get((k, 0), nothing) for k in (0, 1)], axis=1)
    below = (done.decisions.settled >= 0) & (done.decisions.settled < 2)
    standing, stands = gates.standing(columns, audited=below)
    frame = reads.any(axis=1) & standing
    rows = np.flatnonzero(frame)
    flagship = done.cascade.flagship.model
    return AtBoth(
        done,
        (filled[0].leaf, filled[1].leaf),
        fates,
        (columns.value(filled[0].tier, 0, filled[0].leaf), columns.value(filled[1].tier, 0, filled[1].leaf)),
        reads,
        np.stack([columns.agrees(place.tier.model, flagship) for place in filled], axis=1),
        standing,
        frame,
        rows[samples.fair(columns, stands[rows], rows)],
        gates.groups(suite, columns, tuple(per)),
        gates.families(suite, per),
    )


def _unfit(at: AtBoth, suite: Suite) -> str | None:
    """Why nothing can be certified whatever the labels say."""
    why = samples.unfit(at.fates[2], at.known[at.frame], suite, among=at.standing)
    # Each gate alone can be chosen where the paths are known that cases take now.
    alone = 1 - samples.lost(at.replay.decisions, at.standing) >= suite.coverage
    if why is None or not alone or 1 - samples.lost(at.fates[2], at.standing) >= suite.coverage:
        return why
    second = at.replay.cascade.tiers[1].name
    return f"{why}, or choose one gate at a time by --tier: production asks '{second}' only about what comes to it"


def _select(at: AtBoth, at_most: float, delta: float) -> tuple[dict[str, PairSelection], PairStep | None]:
    """Choose overall or in each cohort, and the cheapest pair certified in all of them."""
    values = np.stack([np.where(at.reads[:, k], at.compared[k].astype(np.float64), np.nan) for k in (0, 1)], axis=1)[
        at.rows
    ]
    wrong = at.agrees[at.rows] != 1
    surer = (at.leaves[0].surer, at.leaves[1].surer)
    whole = thresholds.select_pair(values, wrong, at_most=at_most, delta=delta, surer=surer, costs=_costs(at))
    if not at.groups.family:
        return {cohorts.label((), ()): whole}, whole.step
    group = at.groups.codes[at.rows]
    # A cohort no case was drawn of is certified nowhere, and must not be forgotten.
    here = np.unique(at.groups.codes[at.reads.any(axis=1)])
    # The same paths for all, laid by values alone, so that one pair can be certified in every cohort.
    ways = [[step.thresholds for step in path] for path in whole.paths]
    found = {
        cohorts.label(at.groups.family, at.groups.members[k]): thresholds.select_pair(
            values[group == k], wrong[group == k], at_most=at_most, delta=delta / len(here), surer=surer, paths=ways
        )
        for k in here
    }
    shared = [
        step
        for path, *others in zip(whole.paths, *(one.paths for one in found.values()), strict=True)
        for step, *theirs in zip(path, *others, strict=True)
        if all(other.certified for other in theirs)
    ]
    best = min(shared, key=lambda step: (np.inf if step.cost is None else step.cost, -step.kept), default=None)
    return dict(sorted(found.items())), best


def _costs(at: AtBoth) -> Floats | None:
    """Cost of each counted case by the tier that settles it; None where too few are known."""
    known = np.logical_and.reduce([fate.cost_known for fate in at.fates])[at.rows]
    if not known.any() or 1 - known.mean() > UNPRICED:
        return None
    found: Floats = np.stack([np.where(known, fate.cost[at.rows], 0) for fate in at.fates], axis=1).astype(np.float64)
    return found


def _part(label: str, found: PairSelection, step: PairStep | None, why: str | None) -> Part:
    """Say what a cohort makes of the pair that is proposed, or why there is none."""
    mine = [one for path in found.paths for one in path if step is not None and one.thresholds == step.thresholds]
    if not mine:
        return Part(label, found.delta, found.nobs, None, 0, 0, None, why or found.reason)
    _, high = bounds.rate([mine[0].disagreeing], [mine[0].kept], confidence=1 - found.delta / WALKS)
    return Part(label, found.delta, found.nobs, None, mine[0].kept, mine[0].disagreeing, float(high[0]), found.reason)


def _reason(found: dict[str, PairSelection], step: PairStep | None, why: str | None) -> str:
    if why is not None:
        return why
    if len(found) == 1:
        [alone] = found.values()
        return alone.reason
    lost = [label for label, one in found.items() if one.step is None]
    if lost:
        return f"no pair is certified in {', '.join(lost[:12])}, so none is for every cohort"
    if step is None:
        return "each cohort has certified pairs, and no single one is certified in all of them"
    return f"certified in each of {len(found)} cohorts"


def _shortest(at: AtBoth, values: tuple[float, float]) -> tuple[float, float]:
    first, second = (gates.shortest(value, column.dtype) for value, column in zip(values, at.compared, strict=True))
    return first, second


def _moved(at: AtBoth, values: tuple[float, float]) -> Replay:
    cascade = gates.moved(at.replay.cascade, dict(enumerate(values)))
    return replay.run(cascade, at.columns, at.columns.rules, context=at.replay.context)


def _kept(at: AtBoth, values: tuple[float, float], suite: Suite) -> tuple[Rate, ...]:
    """Count the disagreement of kept cases overall and by cohort, the worst first."""
    one, two = (
        settles(replace(leaf, threshold=value), column[at.rows]) & at.reads[at.rows, k]
        for k, (leaf, value, column) in enumerate(zip(at.leaves, values, at.compared, strict=True))
    )
    wrong = np.where(one, at.agrees[at.rows, 0] != 1, at.agrees[at.rows, 1] != 1)
    kept = one | two
    return rates.by_cohort(at.columns, at.families, at.rows[kept], wrong[kept], suite.confidence)


def _front(at: AtBoth) -> Iterator[Point]:
    table = thresholds.pair(at.replay)
    for i, j in table.front("escalation" if np.isnan(table.cost).all() else "cost"):
        numbers = (each[i, j] for each in (table.escalation, table.disagreement, table.high, table.cost))
        yield Point(
            (float(table.first[i]), float(table.second[j])), *(None if np.isnan(x) else float(x) for x in numbers)
        )


def _notes(at: AtBoth, *, front: bool) -> Iterator[str]:
    yield "These cases chose the thresholds and prove nothing about them: judge them on others."
    if front:
        yield "The front describes these cases; a pair taken from it by eye is not certified."
    if int(at.frame.sum()) > len(at.rows):
        yield (
            f"{len(at.rows):,} of {int(at.frame.sum()):,} cases are counted, so that each stands for as many and is "
            "independent of the others."
        )
    unknown = int((at.frame & ~at.known).sum())
    if unknown:
        yield f"{unknown:,} cases at the gates have no known comparison and count as disagreeing."
    if int((at.fates[2].settled[at.frame] == UNRESOLVED).sum()):
        yield "Cases without a recorded answer of the second tier are kept by the first gate or escalate."
    if front and _costs(at) is None:
        yield "Costs are unknown, so the cheapest pair is the one that escalates least to the flagship."
    if any(leaf.calibrate is not None and leaf.calibrate.file is None for leaf in at.leaves):
        yield (
            "A calibration is a recipe fitted out of fold on these very cases, so the guarantee is approximate: store one "
            "fitted on other data for an exact one."
        )
