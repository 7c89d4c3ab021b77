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
from cascade_eval.counts import DISAGREE, Counts, histogram, sums
from cascade_eval.suite import picks, resemblance
from cascade_eval.suite.resemblance import Resemblance
from cascade_eval.traffic import ERROR, REFUSED, TIMEOUT, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Columns, Decisions, Rules, Tallied
    from cascade_eval.suite.survey import OutOfFold
    from cascade_eval.traffic import Batch, Traffic

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
    resemblance
        How much the models' rows are alike.
    """

    counts: dict[tuple[str, tuple[str, ...]], Counts] = field(default_factory=dict)
    picked: dict[picks.Key, picks.Picked] = field(default_factory=dict)
    used: Counter[costs.Use] = field(default_factory=Counter)
    cases: int = 0
    span: tuple[int, int] | None = None
    resemblance: Resemblance = field(default_factory=Resemblance)

    def __add__(self, other: Counted) -> Counted:
        if not self.counts:
            return other
        return self._with(other, {key: self.counts[key] + other.counts[key] for key in self.counts})

    def absorb(self, other: Counted) -> Counted:
        """Add like `+`, into the tables of these counts, which nobody else may hold."""
        mine = self.counts or {key: Counts(found.members, {}) for key, found in other.counts.items()}
        return self._with(other, {key: mine[key].absorb(found) for key, found in other.counts.items()})

    def _with(self, other: Counted, counts: dict[tuple[str, tuple[str, ...]], Counts]) -> Counted:
        picked = dict(self.picked)
        for key, found in other.picked.items():
            picked[key] = picked[key].merged(found, picks.most(key[1], key[3])) if key in picked else found
        spans = [span for span in (self.span, other.span) if span is not None]
        span = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None
        return Counted(
            counts,
            picked,
            self.used + other.used,
            self.cases + other.cases,
            span,
            self.resemblance + other.resemblance,
        )


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
        total = total.absorb(part)
        # Its tables are copied; while the next batch is counted, they would only take room.
        del part
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
    part = Counted(
        {},
        {},
        _used(plan, shared),
        batch.cases,
        _span(batch),
        resemblance.count(plan, shared),
    )
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
        found = _tables(plan, cascade, decisions, family, replay.tallied(columns, family))
        arrays = {**found.arrays, **_swept(plan, cascade, decisions, columns, family)}
        found = replace(found, arrays=arrays)
        if before is not None:
            found = _beside(found, replay.pairs(cascade, decisions, columns, family, before))
        part.counts[cascade.name, family] = found
    part.picked.update(picks.worst(plan.families, cascade, decisions, columns))
    if before is not None:
        part.picked.update(picks.flips(plan.families, cascade, decisions, columns, before))


def _count_variants(plan: Plan, number: int, shared: Columns, part: Counted) -> None:
    """Replay cascades that differ in one threshold: once as if it settled every case, once as if none."""
    variants = plan.variants[number]
    lead = variants.cascades[0]
    columns = _columns(plan, shared, lead)
    both = settled, escalated = thresholds.forced(lead, columns, variants.place)
    bins = variants.bins(columns)
    for family in plan.families:
        by = replay.tallied(columns, family, codes=variants.codes(columns, family, bins))
        for side, decisions in (("settled", settled), ("escalated", escalated)):
            found = _tables(plan, lead, decisions, family, by)
            part.counts[_side(number, side), family] = found
        swept = _swept(plan, lead, escalated, columns, family)
        part.counts[_side(number, "swept"), family] = Counts(columns.codes(family).members, swept)
    shared_worst = picks.reads_alone(variants, escalated)
    if shared_worst:
        part.picked.update(picks.surest(plan.families, variants, settled, columns, bins))
    for cascade in variants.cascades:
        before = _baseline(plan, shared, cascade)
        if before is None and shared_worst:
            continue
        decisions = variants.decisions(cascade, both, bins)
        if before is not None:
            for family in plan.families:
                part.counts[cascade.name, family] = replay.pairs(cascade, decisions, columns, family, before)
            part.picked.update(picks.flips(plan.families, cascade, decisions, columns, before))
        if not shared_worst:
            part.picked.update(picks.worst(plan.families, cascade, decisions, columns))


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
    aligned = right if right.members == left.members else right.align(left.members)
    return replace(left, arrays={**left.arrays, **aligned.arrays}, clusters={**left.clusters, **aligned.clusters})


def _tables(
    plan: Plan,
    cascade: Cascade,
    decisions: Decisions,
    family: tuple[str, ...],
    by: Tallied,
) -> Counts:
    """Count everything about decisions that adds up over cases."""
    found = replay.tally(cascade, decisions, by.columns, family, limits=plan.limits, by=by)
    arrays = dict(found.arrays)
    if plan.stored(cascade):
        arrays["uncovered"] = _uncovered(plan, cascade, decisions, by)
    if family == plan.families[0]:
        arrays |= _details(cascade, decisions, by)
    return replace(found, arrays=arrays)


def _swept(
    plan: Plan, cascade: Cascade, decisions: Decisions, columns: Columns, family: tuple[str, ...]
) -> Mapping[str, NDArray[Any]]:
    tried = {name: edges for (owner, name), edges in plan.tried.items() if owner == cascade.name}
    return thresholds.count(cascade, decisions, columns, family, tried).arrays if tried else {}


def _columns(plan: Plan, shared: Columns, cascade: Cascade) -> Columns:
    """Columns of the batch under the maps of one cascade; everything computed is shared."""
    return replace(shared, rules=plan.rules_of(cascade))


def _baseline(plan: Plan, shared: Columns, cascade: Cascade) -> tuple[Cascade, Decisions] | None:
    before = plan.baselines.get(cascade.name)
    return None if before is None else (before, replay.decide(before, _columns(plan, shared, before)))


def _uncovered(plan: Plan, cascade: Cascade, decisions: Decisions, by: Tallied) -> NDArray[Any]:
    """Count cases in cohorts that the data of a stored map did not have; shape (members, 2): such cases, all."""
    new = np.zeros(by.columns.batch.cases, dtype=np.bool_)
    for found in plan.stored(cascade):
        new |= found.uncovered(by.columns)
    asked = ~decisions.cached
    return by.cases(asked & new, asked)


def _span(batch: Batch) -> tuple[int, int] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not batch.has(None, "decided_at"):
        return None
    ends = pc.min_max(batch.arrow(None, "decided_at").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    low, high = ends["min"].as_py(), ends["max"].as_py()
    return None if low is None else (low, high)


def _details(cascade: Cascade, decisions: Decisions, by: Tallied) -> dict[str, NDArray[Any]]:
    """Count funnel, money by path and who was right; once per cascade, in the first family."""
    columns, codes = by.columns, by.codes
    size, tiers = by.size, len(cascade.tiers)
    taken = ~decisions.cached & (decisions.settled >= 0)
    failures = np.zeros((size, tiers, 3), dtype=np.int64)
    path = decisions.start * np.int32(tiers) + np.maximum(decisions.settled, 0)
    paid = taken & decisions.cost_known
    places, paths, cost = (replay.among(column, paid) for column in (codes, path, decisions.cost))
    money = sums(places, paths, (size, tiers * tiers), cost)
    judged = np.zeros((size, len(RIGHT)), dtype=np.int64)
    for position, tier in enumerate(cascade.tiers):
        reached = taken & (decisions.start <= position) & (decisions.settled >= position)
        status = columns.status(tier.model)
        slow = columns.latency(tier.model) > tier.timeout if tier.timeout is not None else np.zeros_like(reached)
        late = slow | (status == TIMEOUT)
        failed = late, (status == ERROR) & ~late, (status == REFUSED) & ~late
        failures[:, position] = by.cases(*(reached & mask for mask in failed))
        wrong = taken & (decisions.settled == position) & (decisions.served == DISAGREE)
        if position < tiers - 1 and wrong.any():
            who = right(columns, tier.model, cascade.flagship.model)
            rows = np.flatnonzero(wrong)
            judged += histogram(codes[rows], RIGHT_PLACE[who[rows]], (size, len(RIGHT)))
    return {"funnel": failures, "paths": np.rint(money).astype(np.int64), "right": judged}


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
    has = columns.batch.has
    if not has(None, "expected") and not (has(model, "score") and has(flagship, "score")):
        return np.full(columns.batch.cases, agreement.UNKNOWN, dtype=np.int8)
    if key not in columns.kept:
        columns.kept[key] = agreement.who_of(columns.quality(model), columns.quality(flagship))
    found: NDArray[np.int8] = columns.kept[key]
    return found
