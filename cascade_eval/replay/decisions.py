"""The decision rule, over whole columns.

For each case, in order: routes decide where it starts. The tier there is called; a timeout, an error or a refusal
escalates, and what the call cost is paid. Its gate reads its value and settles at value >= threshold; equality
settles, a missing signal escalates. What is not settled goes to the next tier, and what reaches the flagship is
settled by it. A missing row of a cheaper tier or a missing signal column leaves the path unknown.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import cohorts, signals
from cascade_eval.cascade import All, Leaf, leaves
from cascade_eval.counts import AGREE, ANSWERED, DISAGREE, MISSING, UNANSWERED, UNKNOWN, UNSAMPLED
from cascade_eval.traffic import ABSENT, OK, REFUSED, TIMEOUT, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Gate, Tier
    from cascade_eval.replay.columns import Columns
    from cascade_eval.traffic import Batch

    Mask = NDArray[np.bool_]

UNRESOLVED: Final = -1
"""`settled` of a case whose path is not known."""

TIMED_OUT, WAS_REFUSED = 1, 2
"""Bits of `Decisions.failed`."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """What became of each case; every array has shape (n_cases,).

    Parameters
    ----------
    start
        Tier each case starts at.
    settled
        Tier that settled it; `UNRESOLVED` where the path is not known.
    served
        Below the flagship DISAGREE, AGREE, UNKNOWN or UNSAMPLED; at it UNANSWERED, ANSWERED or MISSING.
    cached
        Answered by a cache in front of the cascade: no decision.
    failed
        Bit `TIMED_OUT`: a call on the path timed out; bit `WAS_REFUSED`: one was refused.
    cost, cost_known
        Nano-dollars of every call on the path, and where all of them are known.
    latency
        Seconds, NaN where unknown.
    reads
        Which cases each gated leaf read, by (tier position, leaf position).
    """

    start: NDArray[np.int8]
    settled: NDArray[np.int8]
    served: NDArray[np.int8]
    cached: Mask
    failed: NDArray[np.int8]
    cost: NDArray[np.int64]
    cost_known: Mask
    latency: NDArray[np.float64]
    reads: Mapping[tuple[int, int], Mask]


def needs(cascade: Cascade) -> frozenset[Field]:
    """Columns the decision itself reads: signals, statuses, latencies under a timeout, routes."""
    wanted = {Field(None, "cached")}
    for route in cascade.routes:
        wanted |= cohorts.needs(route.when)
    for tier in cascade.tiers:
        wanted |= {Field(tier.model, "status"), Field(tier.model, "latency_s")}
        for leaf in leaves(tier.gate):
            wanted |= signals.needs(leaf.signal, tier.model)
            for call in signals.calls(leaf.signal, tier.model):
                wanted |= {Field(call.model, "status"), Field(call.model, "latency_s")}
    return frozenset(wanted)


def decide(cascade: Cascade, columns: Columns, *, forced: Mapping[tuple[int, int], bool] | None = None) -> Decisions:
    """Apply the decision rule.

    Parameters
    ----------
    cascade
        Every threshold known: `escalate: 30%` has been turned into a number.
    columns
        The cases.
    forced
        By (tier position, leaf position): let a leaf say settle (true) or escalate (false) whatever it reads, for
        sweeps.

    Returns
    -------
    Decisions
    """
    batch = columns.batch
    cached = columns.cached()
    start = starts(cascade, columns)
    walk = _Walk(cascade, columns, forced or {}, batch.cases)
    alive = ~cached
    for position, tier in enumerate(cascade.tiers):
        reached = alive & (start <= position) & (walk.settled == UNRESOLVED)
        alive &= walk.visit(position, tier, reached) | (start > position)
    return Decisions(
        start,
        walk.settled,
        _served(cascade, columns, walk.settled),
        cached,
        walk.failed,
        walk.cost(),
        walk.cost_known & (walk.settled != UNRESOLVED),
        walk.ready,
        walk.reads,
    )


def starts(cascade: Cascade, columns: Columns) -> NDArray[np.int8]:
    """Where each case starts; the first route that matches decides."""
    start = np.zeros(columns.batch.cases, dtype=np.int8)
    free = np.ones(columns.batch.cases, dtype=np.bool_)
    for route in cascade.routes:
        matches = free.copy()
        for column, values in route.when.items():
            codes = columns.codes((column,))
            allowed = np.array([member[0] in values for member in codes.members], dtype=np.bool_)
            matches &= allowed[codes.codes]
        start[matches] = cascade.position(route.start)
        free &= ~matches
    return start


class _Walk:
    """One walk down the tiers: what is known of every case so far."""

    def __init__(self, cascade: Cascade, columns: Columns, forced: Mapping[tuple[int, int], bool], cases: int) -> None:
        self.cascade = cascade
        self.columns = columns
        self.forced = forced
        self.settled = np.full(cases, UNRESOLVED, dtype=np.int8)
        self.failed = np.zeros(cases, dtype=np.int8)
        self.cost_known = np.ones(cases, dtype=np.bool_)
        self.paid: dict[tuple[str, str], Mask] = {}
        self.reads: dict[tuple[int, int], Mask] = {}
        # Seconds after arrival: when the current tier's call began, and when its decision was known.
        self.begun = np.zeros(cases)
        self.ready = np.zeros(cases)
        # And when each model's call is answered, where it was made.
        self.arrives: dict[str, NDArray[np.float64]] = {}

    def visit(self, position: int, tier: Tier, reached: Mask) -> Mask:
        """Call a tier for the cases that reached it; return those that go on."""
        status = self.columns.status(tier.model)
        present: Mask = reached & (status != ABSENT)
        timed_out = present & self._late(tier)
        self.failed |= timed_out.astype(np.int8) * TIMED_OUT
        self.failed |= (present & (status == REFUSED) & ~timed_out).astype(np.int8) * WAS_REFUSED
        self._begin(position, reached)
        self._wait(tier.model, reached)
        if position == len(self.cascade.tiers) - 1:
            self.settled[reached] = position
            return np.zeros_like(reached)
        answered = present & (status == OK) & ~timed_out
        settles, unreadable = self._gate(position, tier, answered)
        self.settled[settles] = position
        if not tier.hedged:
            self.begun = self.ready.copy()
        return present & ~settles & ~unreadable

    def _late(self, tier: Tier) -> Mask:
        """Where a tier's call timed out: as recorded, or by the tier's own timeout."""
        late: Mask = self.columns.status(tier.model) == TIMEOUT
        if tier.timeout is not None:
            late = late | np.greater(self.columns.latency(tier.model), tier.timeout)
        return late

    def _begin(self, position: int, who: Mask) -> None:
        """Call a tier; a hedged one starts the next at once, whatever its gate will say, and that one its own next."""
        tier = self.cascade.tiers[position]
        seconds = self.columns.latency(tier.model).astype(np.float64)
        if tier.timeout is not None:
            seconds = np.where(self._late(tier), np.fmin(seconds, tier.timeout), seconds)
        self._call(tier.model, who, self.begun + seconds)
        if tier.hedged:
            self._begin(position + 1, who)

    def _call(self, model: str, who: Mask, answered: NDArray[np.float64]) -> None:
        """Call a model for the cases that have not yet, and note when it will have answered."""
        first = self.pay(model, "call", who)
        self.arrives[model] = np.where(first, answered, self.arrives.get(model, np.nan))

    def _wait(self, model: str, who: Mask) -> None:
        """Let time pass until a call that was made is answered."""
        self.ready = np.where(who, np.maximum(self.ready, self.arrives[model]), self.ready)

    def _gate(self, position: int, tier: Tier, answered: Mask) -> tuple[Mask, Mask]:
        """Where the gate settles, and where a signal column it needs does not exist."""
        unreadable = np.zeros_like(answered)
        for leaf in leaves(tier.gate):
            if not _readable(self.columns.batch, leaf, tier.model):
                return unreadable, answered
        assert tier.gate is not None
        return self._ask(tier.gate, position, tier, answered, itertools.count()), unreadable

    def _read(self, position: int, number: int, tier: Tier, leaf: Leaf, asked: Mask) -> None:
        """Note that a leaf is evaluated, and pay for what that takes."""
        self.reads[position, number] = self.reads.get((position, number), False) | asked
        for call in signals.calls(leaf.signal, tier.model):
            if call.kind == "samples":
                self.pay(call.model, call.kind, asked)
            else:
                self._call(call.model, asked, self.ready + self.columns.latency(call.model))
                self._wait(call.model, asked)

    def _ask(self, gate: Gate, position: int, tier: Tier, asked: Mask, numbers: Iterator[int]) -> Mask:
        """Evaluate a gate in written order on the cases that ask it; return where it settles."""
        if isinstance(gate, Leaf):
            number = next(numbers)
            self._read(position, number, tier, gate, asked)
            if (position, number) in self.forced:
                return asked if self.forced[position, number] else np.zeros_like(asked)
            return asked & settles(gate, self.columns.value(tier, number, gate))
        if isinstance(gate, All):
            for child in gate.gates:
                asked = self._ask(child, position, tier, asked, numbers)
            return asked
        settled = np.zeros_like(asked)
        for child in gate.gates:
            settled |= self._ask(child, position, tier, asked & ~settled, numbers)
        return settled

    def pay(self, model: str, kind: str, who: Mask) -> Mask:
        """Charge a call once for each case that makes it; return the cases that make it for the first time."""
        before = self.paid.get((model, kind))
        self.paid[model, kind] = who if before is None else before | who
        return who if before is None else who & ~before

    def cost(self) -> NDArray[np.int64]:
        """Add up what was paid, and note where a part of it is unknown."""
        total = np.zeros(len(self.settled), dtype=np.int64)
        for (model, kind), who in self.paid.items():
            charge = self.columns.charge(model, kind)
            # By a factor of 0 or 1: choosing case by case takes several times as long.
            total += charge.nano * (who & charge.known)
            self.cost_known &= ~who | charge.known
        return total


def settles(leaf: Leaf, values: NDArray[np.floating]) -> Mask:
    """Where a leaf settles: value >= threshold in the precision of the recorded column, never at NaN.

    Examples
    --------
    >>> from cascade_eval.cascade import Signal
    >>> leaf = Leaf(Signal("confidence"), threshold=0.82)
    >>> settles(leaf, np.array([0.82, 0.81, np.nan], dtype=np.float32))
    array([ True, False, False])
    """
    assert leaf.threshold is not None
    threshold = values.dtype.type(leaf.threshold)
    decided: Mask = values >= threshold if leaf.surer == "higher" else values <= threshold
    return decided


def _readable(batch: Batch, leaf: Leaf, model: str) -> bool:
    """Whether this traffic has a column of each model a signal reads.

    One is enough: a judge records a score or an answer. How its call ended and whom it judged are no signal.
    """
    wanted = {field for field in signals.needs(leaf.signal, model) if field.name not in {"status", "judged"}}
    found = {field.model for field in wanted if batch.has(*field)}
    return found == {field.model for field in wanted}


_SERVED: Final = np.array([DISAGREE, AGREE, UNKNOWN], dtype=np.int8)
"""What it is called here by code of `Columns.agrees`, of which the last one is -1."""


def _served(cascade: Cascade, columns: Columns, settled: NDArray[np.int8]) -> NDArray[np.int8]:
    """How what was served compares with the flagship's answer."""
    flagship, last = cascade.flagship, len(cascade.tiers) - 1
    status = columns.status(flagship.model)
    reached = np.where(status == OK, np.int8(ANSWERED), np.int8(UNANSWERED))
    if flagship.timeout is not None:
        reached[columns.latency(flagship.model) > flagship.timeout] = UNANSWERED
    reached[status == ABSENT] = MISSING
    served = np.where(settled == last, reached, np.int8(UNKNOWN))
    drawn = sampled(columns)
    for position, tier in enumerate(cascade.tiers[:-1]):
        here = settled == position
        if here.any():
            agrees = columns.agrees(tier.model, flagship.model)
            found = _SERVED[agrees]
            if drawn is not None:
                found[~drawn] = UNSAMPLED
            served = np.where(here, found, served)
    return served


def sampled(columns: Columns) -> Mask | None:
    """Which cases an audit drew; None where the traffic declares none."""
    if not columns.batch.has(None, "audit_probability"):
        return None
    drawn: Mask = ~np.isnan(columns.batch.numbers(None, "audit_probability"))
    return drawn
