"""One streaming pass: every batch is replayed through every cascade and added to the counts.

What comes back of a batch is counts and a few positions of cases worth looking at, so partitions, threads and
machines go through the same addition.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import agreement, cohorts, costs, replay, signals, thresholds
from cascade_eval.cascade import leaves
from cascade_eval.counts import AGREE, DISAGREE, Counts
from cascade_eval.traffic import ERROR, REFUSED, TIMEOUT, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Columns, Decisions, Rules
    from cascade_eval.suite.survey import OutOfFold
    from cascade_eval.traffic import Batch, Traffic

WORST: Final = 20
"""Disagreements shown of all cases."""

WORST_EACH: Final = 5
"""Disagreements shown of each cohort."""

FLIPS: Final = 20
"""Flips shown of each cohort and direction."""

RIGHT: Final = ("cheap", "flagship", "neither", "both", "unknown")
"""Who was right where they disagreed; columns of the table ``right``."""

ALWAYS_FLAGSHIP: Final = "always-flagship"


@dataclass(frozen=True, eq=False)
class Plan:
    """What is counted.

    Parameters
    ----------
    cascades
        With every threshold filled in.
    baselines
        The cascade each one is compared with, by name.
    families
        Cohort families; the first one also counts funnel, paths and who was right.
    rules
        Agreement and prices.
    calibrated
        Maps by ``(cascade, tier, leaf position)``.
    tried
        Thresholds to sweep by ``(cascade, place)``.
    limits
        Latency budgets in seconds.
    variants
        Groups of cascades that differ in one threshold only.
    """

    cascades: tuple[Cascade, ...]
    baselines: Mapping[str, Cascade]
    families: tuple[tuple[str, ...], ...]
    rules: Rules
    calibrated: Mapping[tuple[str, str, int], OutOfFold] = field(default_factory=dict)
    tried: Mapping[tuple[str, str], thresholds.Edges] = field(default_factory=dict)
    limits: tuple[float, ...] = ()
    variants: tuple[thresholds.Variants, ...] = ()

    def stored(self, cascade: Cascade) -> list[OutOfFold]:
        """Return the stored maps a cascade uses."""
        return [
            found for (name, _, _), found in self.calibrated.items() if name == cascade.name and found.known is not None
        ]

    def rules_of(self, cascade: Cascade) -> Rules:
        """Rules with the maps of one cascade."""
        mine = {(tier, leaf): found for (name, tier, leaf), found in self.calibrated.items() if name == cascade.name}
        return replace(self.rules, calibrated=mine)


@dataclass(frozen=True, eq=False)
class Picked:
    """Cases worth looking at, by position in the traffic; each array of shape (n_picked,).

    Parameters
    ----------
    cohort
        Which list they belong to: () for all cases, else ``(family, member)``.
    position
        Of the case in the traffic.
    tier
        Position of the tier that settled it.
    order
        Ascending: the first ones are kept.
    value
        What the gate compared.
    """

    position: NDArray[np.int64]
    tier: NDArray[np.int64]
    order: NDArray[np.float64]
    value: NDArray[np.float64]

    def merged(self, other: Picked, most: int) -> Picked:
        """Keep the first of both, ties by position, so that the result does not depend on the partition."""
        position = np.concatenate([self.position, other.position])
        order = np.concatenate([self.order, other.order])
        kept = np.lexsort((position, order))[:most]
        return Picked(
            position[kept],
            np.concatenate([self.tier, other.tier])[kept],
            order[kept],
            np.concatenate([self.value, other.value])[kept],
        )


Key = tuple[str, tuple[str, ...], tuple[str, ...], str]
"""Which list of picked cases: cascade, family, member, and ``worst``, ``worse`` or ``better``."""


@dataclass(frozen=True, eq=False)
class Counted:
    """Everything the pass leaves behind; it adds up.

    Parameters
    ----------
    counts
        By cascade and family.
    picked
        Cases worth looking at.
    used
        How calls were charged.
    cases
        Number of cases.
    span
        First and last `decided_at` in nanoseconds, None where there is none.
    """

    counts: dict[tuple[str, tuple[str, ...]], Counts] = field(default_factory=dict)
    picked: dict[Key, Picked] = field(default_factory=dict)
    used: Counter[costs.Use] = field(default_factory=Counter)
    cases: int = 0
    span: tuple[int, int] | None = None

    def __add__(self, other: Counted) -> Counted:
        if not self.counts:
            return other
        counts = {key: self.counts[key] + other.counts[key] for key in self.counts}
        picked = dict(self.picked)
        for key, found in other.picked.items():
            picked[key] = picked[key].merged(found, most(key[1], key[3])) if key in picked else found
        spans = [span for span in (self.span, other.span) if span is not None]
        span = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None
        return Counted(counts, picked, self.used + other.used, self.cases + other.cases, span)


def most(family: tuple[str, ...], kind: str) -> int:
    """Return how many cases a list keeps."""
    if kind != "worst":
        return FLIPS
    return WORST_EACH if family else WORST


def needs(plan: Plan, traffic: Traffic) -> frozenset[Field]:
    """Columns the pass reads, of those that exist; nothing else is read."""
    wanted: set[Field] = set(replay.COUNTED) | {Field(None, "decided_at")}
    rule, prices, fields = plan.rules.agreement, plan.rules.prices, traffic.fields
    for family in plan.families:
        wanted |= cohorts.needs(family)
    for cascade in (*plan.cascades, *plan.baselines.values()):
        wanted |= replay.needs(cascade)
        for tier in cascade.tiers:
            wanted |= agreement.needs(rule, tier.model, cascade.flagship.model)
            wanted |= agreement.quality_needs(tier.model, fields)
            wanted |= costs.needs(tier.model, prices, fields)
            for leaf in leaves(tier.gate):
                wanted |= _recipe_needs(leaf.calibrate)
                for call in signals.calls(leaf.signal, tier.model):
                    charged = costs.samples_needs if call.kind == "samples" else costs.needs
                    wanted |= charged(call.model, prices, fields)
    for mapped in plan.calibrated.values():
        wanted |= cohorts.needs(mapped.per)
    return frozenset(wanted & fields)


def _recipe_needs(calibrate: Any) -> frozenset[Field]:
    return cohorts.needs(calibrate.per) if calibrate is not None else frozenset()


def count(plan: Plan, traffic: Traffic, *, executor: Executor | None = None) -> Counted:
    """Replay and count all cases.

    Parameters
    ----------
    plan
        What to count.
    traffic
        The cases.
    executor
        Where batches are counted; in this thread where None. At most three batches are under way at once.
    """
    total = Counted()
    for part in _parts(plan, traffic.batches(needs(plan, traffic)), executor):
        total = total + part
    return expand(plan, total)


def _parts(plan: Plan, batches: Iterable[Batch], executor: Executor | None) -> Iterator[Counted]:
    if executor is None:
        for batch in batches:
            yield count_batch(plan, batch)
        return
    waiting: deque[Any] = deque()
    for batch in batches:
        waiting.append(executor.submit(count_batch, plan, batch))
        if len(waiting) > 2:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def count_batch(plan: Plan, batch: Batch) -> Counted:
    """Replay one batch through every cascade and count it; `expand` completes what comes back."""
    shared = replay.Columns(batch, plan.rules)
    part = Counted(cases=batch.cases, span=_span(batch), counts={}, picked={}, used=_used(plan, shared))
    alone = {cascade.name for cascade in plan.cascades}
    for number, variants in enumerate(plan.variants):
        alone -= {cascade.name for cascade in variants.cascades}
        _count_variants(plan, number, shared, part)
    for cascade in plan.cascades:
        if cascade.name in alone:
            _count_one(plan, cascade, shared, part)
    return part


def _used(plan: Plan, shared: Columns) -> Counter[costs.Use]:
    models = dict.fromkeys(tier.model for cascade in plan.cascades for tier in cascade.tiers)
    used: Counter[costs.Use] = Counter()
    for model in models:
        used += costs.used(shared.charge(model))
    return used


def _count_one(plan: Plan, cascade: Cascade, shared: Columns, part: Counted) -> None:
    """Replay a cascade that shares its shape with no other."""
    columns = _columns(plan, shared, cascade)
    decisions = replay.decide(cascade, columns)
    before = _baseline(plan, shared, cascade)
    for family in plan.families:
        found = _tables(plan, cascade, decisions, columns, family, columns.codes(family))
        arrays = {**found.arrays, **_swept(plan, cascade, decisions, columns, family)}
        found = replace(found, arrays=arrays)
        if before is not None:
            found = _beside(found, replay.pairs(cascade, decisions, columns, family, before))
        part.counts[cascade.name, family] = found
    _pick(plan, cascade, decisions, columns, before, part)


def _count_variants(plan: Plan, number: int, shared: Columns, part: Counted) -> None:
    """Replay cascades that differ in one threshold: once as if it settled every case, once as if none."""
    variants = plan.variants[number]
    lead = variants.cascades[0]
    columns = _columns(plan, shared, lead)
    where = (variants.place.position, variants.place.number)
    both = tuple(replay.decide(lead, columns, forced={where: settle}) for settle in (True, False))
    settled, escalated = both
    bins = variants.bins(columns)
    for family in plan.families:
        codes = variants.codes(columns, family, bins)
        for side, decisions in (("settled", settled), ("escalated", escalated)):
            found = _tables(plan, lead, decisions, columns, family, codes)
            part.counts[_side(number, side), family] = found
        swept = _swept(plan, lead, escalated, columns, family)
        part.counts[_side(number, "swept"), family] = Counts(columns.codes(family).members, swept)
    for cascade in variants.cascades:
        decisions = variants.decisions(cascade, (settled, escalated), bins)
        before = _baseline(plan, shared, cascade)
        if before is not None:
            for family in plan.families:
                part.counts[cascade.name, family] = replay.pairs(cascade, decisions, columns, family, before)
        _pick(plan, cascade, decisions, columns, before, part)


def _side(number: int, side: str) -> str:
    """Name of the counts a group of variants shares; no cascade's name has a slash."""
    return f"variants/{number}/{side}"


def expand(plan: Plan, counted: Counted) -> Counted:
    """Read each variant's counts off those its group shares."""
    if not counted.counts:
        return counted
    counts = {key: found for key, found in counted.counts.items() if not key[0].startswith("variants/")}
    for number, variants in enumerate(plan.variants):
        for family in plan.families:
            settled, escalated, swept = (
                counted.counts[_side(number, side), family] for side in ("settled", "escalated", "swept")
            )
            for cascade in variants.cascades:
                found = variants.counts(cascade, settled, escalated)
                found = _beside(found, swept)
                if (cascade.name, family) in counts:
                    found = _beside(found, counts[cascade.name, family])
                counts[cascade.name, family] = found
    return replace(counted, counts=counts)


def _beside(left: Counts, right: Counts) -> Counts:
    """Put tables of the same members into one."""
    aligned = right.align(left.members)
    return replace(left, arrays={**left.arrays, **aligned.arrays}, clusters={**left.clusters, **aligned.clusters})


def _tables(
    plan: Plan,
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    codes: cohorts.Codes,
) -> Counts:
    """Count everything about decisions that adds up over cases."""
    found = replay.tally(cascade, decisions, columns, family, limits=plan.limits, codes=codes)
    arrays = dict(found.arrays)
    if plan.stored(cascade):
        arrays["uncovered"] = _uncovered(plan, cascade, columns, decisions, codes)
    if family == plan.families[0]:
        arrays |= _details(cascade, decisions, columns, codes)
    return replace(found, arrays=arrays)


def _swept(
    plan: Plan, cascade: Cascade, decisions: Decisions, columns: Columns, family: tuple[str, ...]
) -> Mapping[str, NDArray[Any]]:
    tried = {name: edges for (owner, name), edges in plan.tried.items() if owner == cascade.name}
    return thresholds.count(cascade, decisions, columns, family, tried).arrays if tried else {}


def _pick(
    plan: Plan,
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    before: tuple[Cascade, Decisions] | None,
    part: Counted,
) -> None:
    """Note the cases worth looking at."""
    part.picked.update(_worst(plan, cascade, decisions, columns))
    if before is not None:
        part.picked.update(_flips(plan, cascade, decisions, columns, before))


def _columns(plan: Plan, shared: Columns, cascade: Cascade) -> Columns:
    """Columns of the batch under the maps of one cascade; everything computed is shared."""
    return replace(shared, rules=plan.rules_of(cascade))


def _baseline(plan: Plan, shared: Columns, cascade: Cascade) -> tuple[Cascade, Decisions] | None:
    before = plan.baselines.get(cascade.name)
    return None if before is None else (before, replay.decide(before, _columns(plan, shared, before)))


def _uncovered(
    plan: Plan, cascade: Cascade, columns: Columns, decisions: Decisions, codes: cohorts.Codes
) -> NDArray[Any]:
    """Count cases in cohorts that the data of a stored map did not have; shape (members, 2): such cases, all."""
    size = len(codes.members)
    new = np.zeros(columns.batch.cases, dtype=np.bool_)
    for found in plan.stored(cascade):
        new |= found.uncovered(columns)
    asked = ~decisions.cached
    return np.stack(
        [np.bincount(codes.codes[asked & new], minlength=size), np.bincount(codes.codes[asked], minlength=size)],
        axis=1,
    )


def _span(batch: Batch) -> tuple[int, int] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not batch.has(None, "decided_at"):
        return None
    ends = pc.min_max(batch.arrow(None, "decided_at").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    low, high = ends["min"].as_py(), ends["max"].as_py()
    return None if low is None else (low, high)


def _details(cascade: Cascade, decisions: Decisions, columns: Columns, codes: cohorts.Codes) -> dict[str, NDArray[Any]]:
    """Count funnel, money by path and who was right; once per cascade, in the first family."""
    size, tiers = len(codes.members), len(cascade.tiers)
    taken = ~decisions.cached & (decisions.settled >= 0)
    failures = np.zeros((size, tiers, 3), dtype=np.int64)
    money = np.zeros((size, tiers * tiers), dtype=np.int64)
    path = decisions.start.astype(np.int64) * tiers + np.maximum(decisions.settled, 0)
    paid = taken & decisions.cost_known
    flat = np.bincount(
        codes.codes[paid] * tiers * tiers + path[paid], weights=decisions.cost[paid], minlength=money.size
    )
    money += np.rint(flat).astype(np.int64).reshape(money.shape)
    judged = np.zeros((size, len(RIGHT)), dtype=np.int64)
    for position, tier in enumerate(cascade.tiers):
        reached = taken & (decisions.start <= position) & (decisions.settled >= position)
        status = columns.status(tier.model)
        slow = columns.latency(tier.model) > tier.timeout if tier.timeout is not None else np.zeros_like(reached)
        late = slow | (status == TIMEOUT)
        for which, mask in enumerate((late, (status == ERROR) & ~late, (status == REFUSED) & ~late)):
            hit = reached & mask
            if hit.any():
                failures[:, position, which] = np.bincount(codes.codes[hit], minlength=size)
        wrong = taken & (decisions.settled == position) & (decisions.served == DISAGREE)
        if position < tiers - 1 and wrong.any():
            who = right(columns, tier.model, cascade.flagship.model)
            place = RIGHT_PLACE[who[wrong]]
            found = np.bincount(codes.codes[wrong] * len(RIGHT) + place, minlength=judged.size)
            judged += found.reshape(judged.shape)
    return {"funnel": failures, "paths": money, "right": judged}


RIGHT_PLACE = np.zeros(256, dtype=np.int64)
for _name, _code in (
    ("cheap", agreement.CHEAP),
    ("flagship", agreement.FLAGSHIP),
    ("neither", agreement.NEITHER),
    ("both", agreement.BOTH),
    ("unknown", agreement.UNKNOWN),
):
    RIGHT_PLACE[_code] = RIGHT.index(_name)


def right(columns: Columns, model: str, flagship: str) -> NDArray[np.int8]:
    """Say who was right in each case, with the codes of `agreement`."""
    key = ("right", model, flagship)
    if key not in columns.kept:
        columns.kept[key] = agreement.who_of(columns.quality(model), columns.quality(flagship))
    found: NDArray[np.int8] = columns.kept[key]
    return found


def _worst(plan: Plan, cascade: Cascade, decisions: Decisions, columns: Columns) -> dict[Key, Picked]:
    """Find the unescalated disagreements each gate was surest of."""
    picked: dict[Key, Picked] = {}
    for position, tier in enumerate(cascade.tiers[:-1]):
        wrong = ~decisions.cached & (decisions.settled == position) & (decisions.served == DISAGREE)
        rows = np.flatnonzero(wrong)
        if not len(rows):
            continue
        leaf = next(leaves(tier.gate))
        value = columns.value(tier, 0, leaf)[rows].astype(np.float64)
        order = np.nan_to_num(-value if leaf.surer == "higher" else value, nan=np.inf)
        found = Picked(rows + columns.batch.first, np.full(len(rows), position), order, value)
        _spread(picked, plan, cascade.name, "worst", found, rows, columns)
    return picked


def _flips(
    plan: Plan, cascade: Cascade, decisions: Decisions, columns: Columns, before: tuple[Cascade, Decisions]
) -> dict[Key, Picked]:
    """Find the cases that began, and those that ceased, to disagree."""
    state = replay.paired_state(before, (cascade, decisions))
    was, now = state // 27, (state // 3) % 3
    picked: dict[Key, Picked] = {}
    for kind, mask in (
        ("worse", (was == AGREE) & (now == DISAGREE)),
        ("better", (was == DISAGREE) & (now == AGREE)),
    ):
        rows = np.flatnonzero(mask & ~decisions.cached)
        nothing = np.zeros(len(rows))
        found = Picked(rows + columns.batch.first, decisions.settled[rows].astype(np.int64), nothing, nothing)
        _spread(picked, plan, cascade.name, kind, found, rows, columns)
    return picked


def _spread(
    picked: dict[Key, Picked],
    plan: Plan,
    name: str,
    kind: str,
    found: Picked,
    rows: NDArray[np.int64],
    columns: Columns,
) -> None:
    """Add cases to the list of all, and to those of their cohorts, keeping only the first of each."""
    best = np.lexsort((found.position, found.order))
    for family in dict.fromkeys([(), *plan.families]):
        codes = columns.codes(family)
        size, limit = len(codes.members), most(family, kind)
        small = np.uint16 if size < 65_536 else np.int64
        mine = codes.codes[rows][best].astype(small)
        # A stable sort of small integers is a radix sort; it keeps the best of each cohort in front.
        order = np.argsort(mine, kind="stable")
        ends = np.cumsum(np.bincount(mine, minlength=size))
        rank = np.arange(len(order)) - np.repeat(np.concatenate([[0], ends[:-1]]), np.diff(ends, prepend=0))
        kept = best[order[rank < limit]]
        owners = codes.codes[rows][kept]
        for member in np.unique(owners).tolist():
            own = kept[owners == member]
            key = (name, family, codes.members[member], kind)
            part = Picked(found.position[own], found.tier[own], found.order[own], found.value[own])
            picked[key] = picked[key].merged(part, limit) if key in picked else part
