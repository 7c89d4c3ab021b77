"""From what became of each case to tables that add up.

`tally` counts one cascade over the members of one cohort family. Everything in it is a sum over cases, so batches can
be counted apart and added in any order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from cascade_eval import costs
from cascade_eval.cascade import leaves
from cascade_eval.counts import (
    AGREE,
    ANSWERED,
    GROUPS,
    LATENCY_BINS,
    UNKNOWN,
    UNSAMPLED,
    Clusters,
    Counts,
    histogram,
    latency_bins,
    states,
    sums,
)
from cascade_eval.prices import rates
from cascade_eval.replay.decisions import UNRESOLVED, Decisions
from cascade_eval.traffic import OK, Field
from cascade_eval.traffic.batch import array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.cohorts import Codes, Member
    from cascade_eval.replay.columns import Columns

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

T = TypeVar("T")

COSTS: Final = ("known", "paired", "cases", "estimated")
"""Columns of the table ``costs``: cases whose cost is known; and whose always-flagship cost is, too; all; and cases
whose always-flagship cost had to be estimated."""

NEEDS: Final = frozenset(
    Field(None, name)
    for name in ("case_id", "weight", "cluster", "audit_probability", "task_id", "completed", "regenerated", "cached")
)
"""Case columns counting reads where they exist."""


@dataclass(frozen=True, eq=False)
class Tallied:
    """Which cases of which columns are counted, and by what.

    Parameters
    ----------
    columns
        The cases.
    rows
        Those of them that are counted; None is all.
    codes
        Cohort member of each counted case.
    members
        Of the family.
    kept
        Sums over all counted cases, so that cascades counted by the same members share them.
    """

    columns: Columns
    rows: Mask | None
    codes: NDArray[np.int64]
    members: tuple[Member, ...]
    kept: dict[int, tuple[object, Any]] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pick the counted cases out of a column."""
        return values if self.rows is None else values[self.rows]

    @functools.cached_property
    def cells(self) -> NDArray[np.int64]:
        """Number each case's place among members and hash groups."""
        found: NDArray[np.int64] = self.codes * GROUPS + self.of(self.columns.groups())
        return found

    @functools.cached_property
    def every(self) -> NDArray[np.int64]:
        """Count all cases by member, shape (members,)."""
        return np.bincount(self.codes, minlength=self.size)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Make something of a column, or of anything else that is one and the same for several cascades, once."""
        if id(key) not in self.kept:
            # The key is kept, too: while it lives, nothing else has its id.
            self.kept[id(key)] = key, make()
        found: T = self.kept[id(key)][1]
        return found

    def cases(self, *masks: Mask) -> NDArray[np.int64]:
        """Count the cases of each mask by member, shape (members, masks)."""
        found = np.zeros((self.size, len(masks)), dtype=np.int64)
        split = []
        for i, mask in enumerate(masks):
            if mask.all():
                found[:, i] = self.every
            elif mask.any():
                split.append(i)
        if split:
            found[:, split] = self._patterns([masks[i] for i in split])
        return found

    def _patterns(self, masks: Sequence[Mask]) -> NDArray[np.int64]:
        """Count the cases of masks by member in one go, by the combinations of them that occur."""
        pattern = self.codes << len(masks)
        for i, mask in enumerate(masks):
            pattern |= mask.astype(np.int64) << i
        table = np.bincount(pattern, minlength=self.size << len(masks)).reshape(self.size, 1 << len(masks))
        inside = np.arange(1 << len(masks))[:, np.newaxis] >> np.arange(len(masks)) & 1
        found: NDArray[np.int64] = table @ inside
        return found


def tallied(columns: Columns, family: tuple[str, ...], rows: Mask | None = None, codes: Codes | None = None) -> Tallied:
    """Prepare to count cases by the members of a family, or by other members; parameters as for `tally`."""
    found = columns.codes(family) if codes is None else codes
    return Tallied(columns, rows, found.codes if rows is None else found.codes[rows], found.members)


def among(values: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """Pick the cases where a mask is true; all of them are not copied."""
    return values if mask.all() else values[mask]


def tally(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    *,
    rows: Mask | None = None,
    baseline: tuple[Cascade, Decisions] | None = None,
    limits: Sequence[float] = (),
    by: Tallied | None = None,
) -> Counts:
    """Count a cascade's decisions by cohort.

    Parameters
    ----------
    cascade
        What was replayed.
    decisions
        What became of each case.
    columns
        The cases.
    family
        Cohort columns; () counts all cases as one member.
    rows
        Count only these cases.
    baseline
        The baseline and what it made of the same cases, for flips and drift.
    limits
        Latency budgets in seconds, to be counted exactly.
    by
        From `tallied`: goes before family and rows, and shares what several cascades have in common.

    Returns
    -------
    Counts
        Tables ``states``, ``signals``, ``costs``, ``latency``, ``slower`` and, where the traffic has what they need,
        ``quality``, ``retained`` and ``pairs``; sums by hash group under ``ratio.*``, ``request.*``, ``quality.*`` and
        ``retained.*``.
    """
    t = tallied(columns, family, rows) if by is None else by
    arrays: dict[str, NDArray[Any]] = {}
    clusters: dict[str, Clusters] = {}
    decided = t.of(~decisions.cached & (decisions.settled != UNRESOLVED)).astype(np.bool_)
    _count_states(t, cascade, decisions, decided, arrays, clusters)
    arrays["signals"] = _signals(t, cascade, decisions)
    _count_costs(t, cascade, decisions, decided, arrays, clusters)
    _count_latency(t, decisions, decided, limits, arrays)
    _count_quality(t, cascade, decisions, decided, arrays)
    if baseline is not None:
        _count_pairs(t, cascade, decisions, baseline, arrays, clusters)
    return Counts(t.members, arrays, clusters)


def pairs(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    baseline: tuple[Cascade, Decisions],
) -> Counts:
    """Count only how baseline and candidate served the same cases; parameters as for `tally`."""
    t = tallied(columns, family)
    arrays: dict[str, NDArray[Any]] = {}
    clusters: dict[str, Clusters] = {}
    _count_pairs(t, cascade, decisions, baseline, arrays, clusters)
    return Counts(t.members, arrays, clusters)


def _count_states(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    decided: Mask,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    layout = states(len(cascade.tiers))
    settled = t.of(decisions.settled)
    state = layout.encode(
        t.of(decisions.start), np.maximum(settled, 0), t.of(decisions.served), t.of(decisions.failed), _again(t)
    )
    state[~decided] = layout.unresolved
    state[t.of(decisions.cached).astype(np.bool_)] = layout.cached
    _table("states", t, state, layout.size, arrays, clusters)
    audit = _audit_weights(t, cascade, decisions)
    if audit is not None:
        arrays["states.v"] = sums(t.codes, state, (t.size, layout.size), audit)
        arrays["states.v2"] = sums(t.codes, state, (t.size, layout.size), audit * audit)
        if "states" in clusters:
            clusters["states.v"] = _audit_clusters(t, state, audit)


def _table(
    name: str,
    t: Tallied,
    state: NDArray[np.integer],
    width: int,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Count cases by member and state: plainly, by weight, and by cluster."""
    shape = (t.size, width)
    arrays[name] = histogram(t.codes, state, shape)
    weight = t.columns.weights()
    if weight is not None:
        own = t.of(weight).astype(np.float64)
        arrays[f"{name}.w"] = sums(t.codes, state, shape, own)
        arrays[f"{name}.w2"] = sums(t.codes, state, shape, own * own)
    if t.columns.batch.has(None, "cluster"):
        own = np.ones(len(state)) if weight is None else t.of(weight).astype(np.float64)
        cluster = t.of(t.columns.hashes("cluster")).astype(np.uint64)
        clusters[name] = Clusters(t.codes.astype(np.int64), cluster, state.astype(np.int64), own)


def _audit_clusters(t: Tallied, state: NDArray[np.integer], audit: Floats) -> Clusters:
    """Keep clusters under the weights of the audit."""
    cluster = t.of(t.columns.hashes("cluster")).astype(np.uint64)
    return Clusters(t.codes.astype(np.int64), cluster, state.astype(np.int64), audit)


def _again(t: Tallied) -> NDArray[np.int64] | int:
    """Whether the user asked again: 0 unknown, 1 no, 2 yes."""
    if not t.columns.batch.has(None, "regenerated"):
        return 0
    yes, known = t.columns.batch.flags(None, "regenerated")
    return t.of(known.astype(np.int64) + yes).astype(np.int64)


def _audit_weights(t: Tallied, cascade: Cascade, decisions: Decisions) -> Floats | None:
    """Weight of each case where an audit drew some: its own over its chance to be drawn; 0 where it was not."""
    batch = t.columns.batch
    if not batch.has(None, "audit_probability"):
        return None
    chance = batch.numbers(None, "audit_probability").astype(np.float64)
    weight = t.columns.weights()
    base = np.ones(batch.cases) if weight is None else weight
    below = decisions.settled < len(cascade.tiers) - 1
    found = np.where(below, np.nan_to_num(base / chance, nan=0.0), base)
    return t.of(found).astype(np.float64)


def _signals(t: Tallied, cascade: Cascade, decisions: Decisions) -> NDArray[np.int64]:
    """Cases each gated leaf read, and those in which its value was missing; shape (members, leaves, 2)."""
    found = []
    for position, tier in enumerate(cascade.tiers):
        for number, leaf in enumerate(leaves(tier.gate)):
            read = decisions.reads.get((position, number))
            if read is None or not read.any():
                found.append(np.zeros((t.size, 2), dtype=np.int64))
                continue
            missing = read & np.isnan(t.columns.value(tier, number, leaf))
            found.append(t.cases(t.of(read), t.of(missing)))
    return np.stack(found, axis=1) if found else np.zeros((t.size, 0, 2), dtype=np.int64)


def _count_costs(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    decided: Mask,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Sum what was paid, and what always asking the flagship would have cost, by hash group."""
    known = decided & t.of(decisions.cost_known).astype(np.bool_)
    cost = t.of(decisions.cost)
    flagship, flagship_known, estimated = always_flagship(t.columns, cascade, decisions)
    paired = known & t.of(flagship_known).astype(np.bool_)
    arrays["request.cost"] = _grouped(t, known, cost)
    arrays["request.cases"] = _grouped(t, known, None)
    same = np.array_equal(known, paired)
    arrays["ratio.cost"] = arrays["request.cost"] if same else _grouped(t, paired, cost)
    arrays["ratio.flagship"] = _grouped(t, paired, t.of(flagship).astype(np.int64, copy=False))
    guessed = paired & t.of(estimated).astype(np.bool_)
    _count_missing(t, cascade, known & ~paired, cost, arrays)
    arrays["costs"] = t.cases(known, paired, decided, guessed)
    _count_tasks(t, known, cost, clusters)


def _count_missing(
    t: Tallied,
    cascade: Cascade,
    missing: Mask,
    cost: NDArray[np.int64],
    arrays: dict[str, NDArray[Any]],
) -> None:
    """Sum what an estimate of unrecorded flagship calls needs: their input, and what known calls cost.

    Table ``missing.answered`` holds by member what the output of recorded flagship calls costs and of how many it is
    known, and the same of whole calls. It is counted whether or not a call is missing here: another batch may need it.
    """
    first, flagship = cascade.tiers[0].model, cascade.flagship.model
    answered = _repriced(t.columns, flagship, flagship, "output_tokens")
    charges = answered, t.columns.charge(flagship)
    columns = [column for charge in charges for column in t.once(charge, functools.partial(_known_sum, t, charge))]
    arrays["missing.answered"] = np.stack(columns, axis=1)
    if missing.any():
        asked = _repriced(t.columns, flagship, first, "input_tokens")
        known = t.of(asked.known).astype(np.bool_) & missing
        arrays["missing.cost"] = _grouped(t, missing, cost)
        arrays["missing.cases"] = _grouped(t, missing, None)
        arrays["missing.asked"] = _grouped(t, known, t.of(asked.nano).astype(np.int64))
        arrays["missing.inputs"] = np.bincount(t.codes[known], minlength=t.size)


def _known_sum(t: Tallied, charge: costs.Charge) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum the calls of known cost by member, and count them."""
    known = t.of(charge.known).astype(np.bool_)
    total = np.bincount(among(t.codes, known), weights=among(t.of(charge.nano), known), minlength=t.size)
    return np.rint(total).astype(np.int64), t.cases(known)[:, 0]


def _repriced(columns: Columns, flagship: str, model: str, name: str) -> costs.Charge:
    """Charge one model's recorded tokens at the flagship's price, and nothing else."""
    key = ("repriced", flagship, model, name)
    if key not in columns.kept:
        columns.kept[key] = _reprice(columns, flagship, model, name)
    found: costs.Charge = columns.kept[key]
    return found


def _reprice(columns: Columns, flagship: str, model: str, name: str) -> costs.Charge:
    batch = columns.batch
    if not batch.has(model, name) or not rates(flagship, columns.rules.prices):
        nothing = np.zeros(batch.cases, dtype=np.int64)
        return costs.Charge(nothing, nothing != 0, np.full(batch.cases, -1, dtype=np.int16), ())
    zero = array(np.zeros(batch.cases, dtype=np.int64))
    moved = {Field(flagship, "status"): array(np.zeros(batch.cases, dtype=np.int8))}
    moved |= {Field(flagship, "input_tokens"): zero, Field(flagship, "output_tokens"): zero}
    if batch.has(None, "decided_at"):
        moved[Field(None, "decided_at")] = batch.arrow(None, "decided_at")
    moved[Field(flagship, name)] = batch.arrow(model, name)
    return costs.call(replace(batch, columns=moved), flagship, columns.rules.prices)


def always_flagship(columns: Columns, cascade: Cascade, decisions: Decisions) -> tuple[NDArray[np.int64], Mask, Mask]:
    """Return the cost of asking the flagship at once, where it is known, and where it is estimated.

    A recorded flagship call counts as it is. Where an audit drew some unescalated cases, each drawn call stands for
    ``1 / audit_probability`` cases and the others for none: the sum is unbiased, and marked as estimated. Elsewhere a
    flagship call that was not recorded is not known here; it is estimated from the counts (tables ``missing.*``).

    Returns
    -------
    nano, known, estimated : ndarray of shape (n_cases,)
    """
    charge = columns.charge(cascade.flagship.model)
    estimated = np.zeros(columns.batch.cases, dtype=np.bool_)
    if not columns.batch.has(None, "audit_probability"):
        return charge.nano, charge.known, estimated
    chance = columns.batch.numbers(None, "audit_probability").astype(np.float64)
    below = (decisions.settled >= 0) & (decisions.settled < len(cascade.tiers) - 1)
    drawn = below & ~np.isnan(chance) & charge.known
    skipped = below & np.isnan(chance)
    with np.errstate(invalid="ignore", divide="ignore"):
        grown = np.rint(np.where(drawn, charge.nano / chance, charge.nano))
    nano = np.where(skipped, 0, np.nan_to_num(grown)).astype(np.int64)
    return nano, charge.known | skipped, below


def _grouped(t: Tallied, mask: Mask, values: NDArray[Any] | None) -> NDArray[Any]:
    """Sum values (or count cases) by member and hash group, weighted; integers where there are no weights."""
    if mask.all():
        return t.once(values, lambda: _summed(t, mask, values))
    return _summed(t, mask, values)


def _summed(t: Tallied, mask: Mask, values: NDArray[Any] | None) -> NDArray[Any]:
    weight = t.columns.weights()
    cells, size = among(t.cells, mask), t.size * GROUPS
    if weight is None and values is None:
        return np.bincount(cells, minlength=size).reshape(t.size, GROUPS)
    own = None if values is None else among(values, mask)
    if weight is not None:
        weighed = among(t.of(weight), mask)
        found = np.bincount(cells, weights=weighed if own is None else own * weighed, minlength=size)
    else:
        found = np.bincount(cells, weights=own, minlength=size)
    whole = weight is None and own is not None and own.dtype.kind in "iu"
    table = found.reshape(t.size, GROUPS).astype(np.float64, copy=False)
    # Sums of whole numbers are whole.
    return table.astype(np.int64) if whole else table


def _count_tasks(t: Tallied, known: Mask, cost: NDArray[np.int64], clusters: dict[str, Clusters]) -> None:
    """Keep what each task's steps cost and whether it was completed; a case without a task is one."""
    batch = t.columns.batch
    if not batch.has(None, "completed"):
        return
    done = t.of(batch.flags(None, "completed")[0]).astype(np.int64)
    name = "task_id" if batch.has(None, "task_id") else "case_id"
    task = t.of(t.columns.hashes(name)).astype(np.uint64)
    clusters["tasks"] = Clusters(t.codes[known], task[known], done[known], cost[known].astype(np.float64))


def _count_latency(
    t: Tallied, decisions: Decisions, decided: Mask, limits: Sequence[float], arrays: dict[str, NDArray[Any]]
) -> None:
    latency = t.of(decisions.latency)
    known = decided & ~np.isnan(latency)
    codes, seconds = among(t.codes, known), among(latency, known)
    arrays["latency.known"] = t.cases(known, decided & ~known)
    arrays["latency"] = histogram(codes, latency_bins(seconds), (t.size, LATENCY_BINS))
    slower = [np.bincount(codes[seconds > limit], minlength=t.size) for limit in limits]
    arrays["slower"] = np.stack(slower, axis=1) if slower else np.zeros((t.size, 0), dtype=np.int64)


def _count_quality(
    t: Tallied, cascade: Cascade, decisions: Decisions, decided: Mask, arrays: dict[str, NDArray[Any]]
) -> None:
    """Sum the quality of served answers and the flagship's; an unanswered case is worth nothing."""
    batch = t.columns.batch
    if not batch.has(None, "expected") and not any(batch.has(tier.model, "score") for tier in cascade.tiers):
        return
    by_tier = [t.columns.quality(tier.model) for tier in cascade.tiers]
    flagship = _flagship_quality(t.columns, cascade.flagship)
    served = served_quality(t.columns, cascade, decisions)
    own, reference = t.of(served).astype(np.float64), t.of(flagship).astype(np.float64)
    known = decided & ~np.isnan(own)
    both = known & ~np.isnan(reference)
    graded = known & (own != 0) & (own != 1)
    arrays["quality"] = t.cases(known, graded, known & (own == 1))
    arrays["quality.beyond"] = t.cases(graded & ((own < 0) | (own > 1)))
    recorded = decided & t.of(np.any(~np.isnan(by_tier), axis=0)).astype(np.bool_)
    arrays["quality.recorded"] = np.bincount(t.codes[recorded], minlength=t.size)
    arrays["quality.sum"] = _grouped(t, known, own)
    arrays["quality.cases"] = _grouped(t, known, None)
    arrays["retained"] = np.bincount(t.codes[both], minlength=t.size)
    arrays["retained.cascade"] = _grouped(t, both, own)
    arrays["retained.flagship"] = _grouped(t, both, reference)
    if t.columns.weights() is not None or t.columns.batch.has(None, "cluster"):
        # Its presence says it; counts add, so it must not.
        arrays["quality.weighted"] = np.zeros((t.size, 1), dtype=np.int64)


def served_quality(columns: Columns, cascade: Cascade, decisions: Decisions) -> Floats:
    """Quality of the answer each case was served, shape (n_cases,); NaN where it is not known."""
    served = np.full(len(decisions.settled), np.nan)
    for position, tier in enumerate(cascade.tiers[:-1]):
        served = np.where(decisions.settled == position, columns.quality(tier.model), served)
    return np.where(decisions.settled == len(cascade.tiers) - 1, _flagship_quality(columns, cascade.flagship), served)


def _flagship_quality(columns: Columns, flagship: Tier) -> Floats:
    """Quality of always asking the flagship: a call that failed, or took longer than its timeout, is worth nothing."""
    found = np.where(columns.status(flagship.model) > OK, 0.0, columns.quality(flagship.model))
    if flagship.timeout is not None:
        slow = columns.latency(flagship.model) > flagship.timeout
        found = np.where(slow & ~np.isnan(found), 0.0, found)
    return found


def _count_pairs(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    baseline: tuple[Cascade, Decisions],
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Count how baseline and candidate served the same cases: agreeing, disagreeing, unknown; escalated or not."""
    state = paired_state(baseline, (cascade, decisions))
    asked = ~decisions.cached
    picked = Tallied(
        t.columns, asked if t.rows is None else asked & t.rows, t.codes[t.of(asked).astype(np.bool_)], t.members
    )
    _table("pairs", picked, picked.of(state).astype(np.int64), 81, arrays, clusters)


def paired_state(baseline: tuple[Cascade, Decisions], candidate: tuple[Cascade, Decisions]) -> NDArray[np.int64]:
    """Tell how two cascades served each case, as one number: (served, escalated) of the baseline, then of the candidate.

    Served is DISAGREE, AGREE or UNKNOWN, escalated 0, 1, or 2 for unknown or not applicable.
    """
    (before, before_up), (now, now_up) = _served_and_escalated(*baseline), _served_and_escalated(*candidate)
    return ((before * 3 + before_up) * 3 + now) * 3 + now_up


def _served_and_escalated(cascade: Cascade, decisions: Decisions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    last = len(cascade.tiers) - 1
    settled, served = decisions.settled, decisions.served.astype(np.int64)
    # The flagship agrees with itself, as far as it answered.
    own = np.where(served == ANSWERED, AGREE, UNKNOWN)
    agreement = np.where(settled == last, own, np.where(served == UNSAMPLED, UNKNOWN, served))
    agreement = np.where(settled == UNRESOLVED, UNKNOWN, agreement)
    escalated = np.where((settled == UNRESOLVED) | (decisions.start == last), 2, settled == last)
    return agreement.astype(np.int64), escalated.astype(np.int64)
