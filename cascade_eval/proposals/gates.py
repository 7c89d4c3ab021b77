"""One gate with the cases that reach it, replayed on all of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval import cohorts, metrics, replay, signals
from cascade_eval.cascade import Leaf
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.suite import evaluation
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.proposals.nouns import Estimated
    from cascade_eval.replay import Columns, Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Estimate

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
    position, name = _place(suite, cascade, tier)
    alone = suite
    if raw:
        alone = replace(suite, cascades=tuple(_raw(one, name, position) for one in suite.cascades))
    done = replayed(alone, traffic, name, per)
    leaf = done.cascade.tiers[position].gate
    assert isinstance(leaf, Leaf)
    columns, decided = done.columns, done.decisions
    read = decided.reads.get((position, 0), np.zeros(columns.batch.cases, dtype=np.bool_))
    # Production audits what any tier below the flagship settled, a later one than this gate's among them.
    known, stands = standing(columns, audited=(decided.settled >= 0) & (decided.settled < len(done.cascade.tiers) - 1))
    tiers = done.cascade.tiers
    return AtGate(
        done.cascade,
        position,
        leaf,
        done,
        columns.value(tiers[position], 0, leaf),
        read,
        known,
        stands,
        columns.agrees(tiers[position].model, done.cascade.flagship.model),
        families(suite, per),
        groups(suite, columns, tuple(per)),
        done.context,
    )


def replayed(suite: Suite, traffic: Traffic, name: str, per: Sequence[str]) -> Replay:
    """Replay all cases through one cascade of a suite, with the columns its cohorts and samples need."""
    alone = replace(suite, budgets=(), baseline=None)
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
    return replay.run(filled, columns, plan.rules_of(filled), context=context)


def families(suite: Suite, per: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Cohort families to show: the suite's columns, and what was asked for."""
    return tuple(dict.fromkeys([*[(column.name,) for column in suite.cohorts], *([tuple(per)] if per else [])]))


def named(suite: Suite, cascade: str | None) -> tuple[str, int | None]:
    """Find the cascade that is meant, and its line."""
    names = [one.name for one in suite.cascades]
    name = cascade or names[0]
    line = None if suite.lines is None else suite.lines.of("cascades", name)
    if name not in names:
        raise UsageError([Problem(f"no cascade '{name}'.{did_you_mean(name, names)}", suite.name, line)])
    return name, line


def moved(cascade: Cascade, values: Mapping[int, float]) -> Cascade:
    """Return a cascade with other thresholds at single gates, by position of the tier."""
    tiers = list(cascade.tiers)
    for position, value in values.items():
        gate = tiers[position].gate
        assert isinstance(gate, Leaf)
        tiers[position] = replace(tiers[position], gate=replace(gate, threshold=value))
    return replace(cascade, tiers=tuple(tiers))


def shortest(value: float, dtype: np.dtype[Any]) -> float:
    """Write a value with no more digits than the recorded column has; it compares the same there."""
    return float(str(np.float32(value))) if dtype == np.float32 else value


def signal(leaf: Leaf) -> str:
    """Name what a gate compares."""
    made = leaf.calibrate
    return str(leaf.signal) if made is None else f"{leaf.signal}, calibrated ({made.file or made.kind})"


def estimated(found: Estimate) -> Estimated:
    """Return a value with its bounds."""
    return found.value, found.low, found.high


def _place(suite: Suite, cascade: str | None, tier: str | None) -> tuple[int, str]:
    """Find the gate that is meant."""
    name, line = named(suite, cascade)
    found = suite.cascade(name)
    gated = [one.name for one in found.tiers if one.gate is not None]
    if not gated:
        raise UsageError([Problem(f"'{name}' has no gate: the flagship answers everything", suite.name, line)])
    if tier is None and len(gated) > 1:
        message = (
            f"'{name}' has gates at {', '.join(gated)}. Choose one by --tier, the first one first: it decides which "
            "cases the next one sees. Of three tiers, --both tries pairs of thresholds."
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


def standing(columns: Columns, *, audited: Mask) -> tuple[Mask, Floats]:
    """Which cases stand for all of them, and for how many each does.

    An audit draws unescalated cases (`audited`); the others are represented by those drawn. Escalated ones were all
    asked.
    """
    weight = columns.weights()
    stands = np.ones(columns.batch.cases) if weight is None else weight
    if not columns.batch.has(None, "audit_probability"):
        return stands > 0, stands
    chance = columns.batch.numbers(None, "audit_probability").astype(np.float64)
    drawn = ~np.isnan(chance)
    return (drawn | ~audited) & (stands > 0), stands / np.where(drawn, chance, 1.0)


def groups(suite: Suite, columns: Columns, per: tuple[str, ...]) -> cohorts.Codes:
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
