"""One gate with the cases that reach it, replayed on all of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import cohorts, metrics, replay, signals
from cascade_eval.cascade import Leaf
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.suite import evaluation
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.replay import Columns, Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AtGate:
    """One gate with the cases that reach it; arrays have shape (n_cases,)."""

    cascade: Cascade
    position: int
    leaf: Leaf
    replay: Replay
    compared: NDArray[np.floating]
    read: Mask
    known: Mask
    stands: Floats
    agrees: NDArray[np.int8]
    families: tuple[tuple[str, ...], ...]
    groups: cohorts.Codes
    context: metrics.Context

    @property
    def tier(self) -> Tier:
        """The gated tier."""
        return self.cascade.tiers[self.position]

    @property
    def columns(self) -> Columns:
        """Signals, comparisons and cohorts of all cases."""
        return self.replay.columns

    @property
    def frame(self) -> Mask:
        """Cases at the gate that stand for all cases at the gate."""
        return self.read & self.known


def at(
    suite: Suite, traffic: Traffic, cascade: str | None, tier: str | None, per: Sequence[str], *, raw: bool = False
) -> AtGate:
    """Replay a suite's data through one cascade and look at one of its gates.

    Parameters
    ----------
    suite, traffic, cascade, tier, per
        As for `proposals.threshold`.
    raw
        Whether the gate compares its raw signal, whatever calibration it names.
    """
    alone = replace(suite, budgets=(), baseline=None)
    position, name = _place(suite, cascade, tier)
    if raw:
        alone = replace(alone, cascades=tuple(_raw(one, name, position) for one in alone.cascades))
    lost = [need.name for need in cohorts.needs(per) if need not in traffic.fields]
    if lost:
        near = did_you_mean(lost[0], traffic.case_columns)
        raise UsageError([Problem(f"no case has a column '{lost[0]}'.{near}", traffic.name)])
    plan = evaluation.plan(alone, traffic, {}, sweep=False)
    [filled] = [one for one in plan.cascades if one.name == name]
    extra = cohorts.needs(per) | {Field(None, n) for n in ("case_id", "cluster", "weight", "audit_probability")}
    batch = traffic.read(evaluation.needs(plan, traffic) | (extra & traffic.fields))
    if batch.cases == 0:
        raise DataError([Problem("no cases: there is nothing to choose by", traffic.name)])
    columns = replay.Columns(batch, plan.rules_of(filled))
    context = metrics.Context((), suite.confidence, suite.coverage, suite.audited)
    done = replay.run(filled, columns, plan.rules_of(filled), context=context)
    leaf = filled.tiers[position].gate
    assert isinstance(leaf, Leaf)
    decided = done.decisions
    read = decided.reads.get((position, 0), np.zeros(batch.cases, dtype=np.bool_))
    known, stands = _stands(columns, settled_here=decided.settled == position)
    return AtGate(
        filled,
        position,
        leaf,
        done,
        columns.value(filled.tiers[position], 0, leaf),
        read,
        known,
        stands,
        columns.agrees(filled.tiers[position].model, filled.flagship.model),
        tuple(dict.fromkeys([*[(column.name,) for column in suite.cohorts], *([tuple(per)] if per else [])])),
        _groups(suite, columns, tuple(per)),
        context,
    )


def _place(suite: Suite, cascade: str | None, tier: str | None) -> tuple[int, str]:
    """Find the gate that is meant."""
    names = [one.name for one in suite.cascades]
    name = cascade or names[0]
    line = None if suite.lines is None else suite.lines.of("cascades", name)
    if name not in names:
        raise UsageError([Problem(f"no cascade '{name}'.{did_you_mean(name, names)}", suite.name, line)])
    found = suite.cascade(name)
    gated = [one.name for one in found.tiers if one.gate is not None]
    if not gated:
        raise UsageError([Problem(f"'{name}' has no gate: the flagship answers everything", suite.name, line)])
    if tier is None and len(gated) > 1:
        message = (
            f"'{name}' has gates at {', '.join(gated)}. Choose one by --tier, the first one first: it decides which "
            "cases the next one sees."
        )
        raise UsageError([Problem(message, suite.name, line)])
    if tier is not None and tier not in gated:
        raise UsageError([Problem(f"no gate at tier '{tier}'.{did_you_mean(tier, gated)}", suite.name, line)])
    position = found.position(tier or gated[0])
    if not isinstance(found.tiers[position].gate, Leaf):
        message = f"the gate of '{tier or gated[0]}' combines several signals; only a gate of one can be chosen here"
        raise UsageError([Problem(message, suite.name, line)])
    return position, name


def _raw(cascade: Cascade, name: str, position: int) -> Cascade:
    """Return a cascade whose gate compares the raw signal, so that a calibration need not exist to be fitted."""
    if cascade.name != name:
        return cascade
    tiers = list(cascade.tiers)
    gate = tiers[position].gate
    assert isinstance(gate, Leaf)
    tiers[position] = replace(tiers[position], gate=replace(gate, calibrate=None, surer=signals.surer(gate.signal)))
    return replace(cascade, tiers=tuple(tiers))


def _stands(columns: Columns, *, settled_here: Mask) -> tuple[Mask, Floats]:
    """Which cases stand for all of them, and for how many each does.

    An audit draws unescalated cases; the others are represented by those drawn. Escalated ones were all asked.
    """
    weight = columns.weights()
    stands = np.ones(columns.batch.cases) if weight is None else weight
    if not columns.batch.has(None, "audit_probability"):
        return stands > 0, stands
    chance = columns.batch.numbers(None, "audit_probability").astype(np.float64)
    drawn = ~np.isnan(chance)
    return (drawn | ~settled_here) & (stands > 0), stands / np.where(drawn, chance, 1.0)


def _groups(suite: Suite, columns: Columns, per: tuple[str, ...]) -> cohorts.Codes:
    """Tell the cohorts of `per`, small ones pooled as the suite says."""
    codes = columns.codes(per)
    least = {column.name: column.at_least or 0 for column in suite.cohorts}
    if not any(least.get(column, 0) for column in per):
        return codes
    small: dict[str, set[str]] = {}
    for column in per:
        own = columns.codes((column,))
        cases = np.bincount(own.codes, minlength=len(own.members))
        small[column] = {m[0] for m, n in zip(own.members, cases, strict=True) if n < least.get(column, 0)}
    named = [
        tuple(cohorts.OTHER if value in small[column] else value for column, value in zip(per, member, strict=True))
        for member in codes.members
    ]
    members = tuple(dict.fromkeys(named))
    place = np.array([members.index(name) for name in named], dtype=np.int64)
    return cohorts.Codes(per, place[codes.codes], members)
