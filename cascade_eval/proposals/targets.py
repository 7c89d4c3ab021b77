"""Choosing the threshold of a gate by the share of its cases that shall escalate."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import budgets, replay, thresholds
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.proposals import gates
from cascade_eval.proposals.nouns import Escalation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.proposals.gates import AtGate
    from cascade_eval.suite import Suite
    from cascade_eval.thresholds import Target
    from cascade_eval.traffic import Traffic

FAR = 0.01
"""Difference from the target that is worth saying: one point."""


def escalation(
    suite: Suite,
    traffic: Traffic,
    *,
    at: float,
    cascade: str | None = None,
    tier: str | None = None,
    now: dt.datetime | None = None,
) -> Escalation:
    """Propose the threshold that escalates a given share of the cases at a gate.

    Parameters
    ----------
    suite
        Cascades; its budgets and baseline are not looked at.
    traffic
        Cases; they need no labels.
    at
        Share of the cases at the gate to escalate, between 0 and 1.
    cascade, tier
        Whose gate; the first cascade and its only gated tier unless given.
    now
        When it is made; the present by default.

    Returns
    -------
    Escalation
        A quantile of the raw signal, and the share of the cases exactly on it that have to escalate as well.

    Raises
    ------
    UsageError
        Unknown names, a gate of several signals or of a calibrated one, or data without a value.

    Examples
    --------
    >>> from cascade_eval import runs
    >>> from cascade_eval.suite import load
    >>> found = load("suites/digits.cascade.yaml")
    >>> made = escalation(found, runs.open(found).traffic, at=0.30)
    >>> made.tier, made.plain <= 0.30 <= made.plain + made.tied
    ('linear', True)
    """
    if not 0 < at < 1:
        raise UsageError("the share to escalate lies between 0% and 100%.")
    found = gates.at(suite, traffic, cascade, tier, ())
    if found.leaf.calibrate is not None:
        message = (
            f"the gate of '{found.tier.name}' compares a calibrated value, and a share to escalate is a quantile of the "
            "raw signal: calibrated values are few, and a quantile of them misses. Remove 'calibrate', or choose by "
            "--disagreement"
        )
        raise UsageError([Problem(message, suite.name)])
    weight = found.columns.weights()
    values = found.compared[found.read]
    stands = None if weight is None else weight[found.read]
    if not len(values) or np.isnan(values).all():
        message = f"no case at the gate of '{found.tier.name}' has a value of {found.leaf.signal}, so nothing can choose by it"
        raise DataError([Problem(message, traffic.name)])
    chosen = thresholds.target(values.astype(np.float64), at=at, weights=stands, surer=found.leaf.surer)
    assert chosen.threshold is not None
    value = gates.shortest(chosen.threshold, found.compared.dtype)
    after = replay.run(
        gates.moved(found.cascade, {found.position: value}), found.columns, found.columns.rules, context=found.context
    )
    before = found.replay
    return Escalation(
        suite.name, found.cascade.name, found.tier.name, str(found.leaf.signal), at, value, found.leaf.threshold,
        chosen.share, chosen.tied, chosen.missing, chosen.whole, chosen.split, chosen.key,
        gates.estimated(after.escalation), gates.estimated(after.disagreement),
        before.escalation.value, before.disagreement.value, found.columns.batch.cases, int(found.read.sum()),
        traffic.name, traffic.sha256(), now or dt.datetime.now(dt.UTC), tuple(_notes(found, chosen, values)),
    )  # fmt: skip


def _notes(found: AtGate, chosen: Target, values: np.ndarray) -> Iterator[str]:
    if chosen.split - chosen.at > FAR:
        yield (
            f"{_percent(chosen.missing)} of the cases have no value of {found.leaf.signal} and escalate whatever the "
            f"threshold, so {_percent(chosen.at)} cannot be met."
        )
    elif chosen.at - chosen.whole > FAR:
        yield (
            f"A plain gate settles all cases exactly at its threshold, and escalates {_percent(chosen.whole)} instead of "
            f"{_percent(chosen.at)}{_next(found, chosen, values)}."
        )
        yield (
            f"To meet the target, escalate {_percent(chosen.share)} of the ties by their case ids, never by chance, so that "
            f"a case is always treated the same: thresholds.Target.escalates, a BLAKE2b hash of the id keyed '{chosen.key}'."
        )
    if found.leaf.escalate is not None:
        yield f"The gate says 'escalate: {_percent(found.leaf.escalate)}', which stays a plain quantile of the judged data."
    yield "A share to escalate promises nothing about disagreement: choose by --disagreement to certify one."
    if sum(tier.gate is not None for tier in found.cascade.tiers) > 1:
        yield "It is a share of the cases that reach this gate; the other gates stay as they are."


def _next(found: AtGate, chosen: Target, values: np.ndarray) -> str:
    """Say what the next surer value would do instead, where there is one."""
    assert chosen.threshold is not None
    surer = values[values > chosen.threshold] if chosen.surer == "higher" else values[values < chosen.threshold]
    if not len(surer):
        return ""
    value = gates.shortest(float(surer.min() if chosen.surer == "higher" else surer.max()), found.compared.dtype)
    return f"; at the next value, {value}, it escalates {_percent(chosen.whole + chosen.tied)}"


def _percent(rate: float) -> str:
    return budgets.show(rate, "rate")
