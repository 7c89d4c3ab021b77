"""Gates that could be certified on the data at hand: the cascade's own, or one that does not exist yet."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from cascade_eval import cascade as cascade_
from cascade_eval import proposals, replay
from cascade_eval.cascade import Cascade, Leaf, Signal, Tier
from cascade_eval.diagnosis.facts import Frontier
from cascade_eval.errors import UsageError
from cascade_eval.suite import evaluation
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

TRIED: Final = 3
"""Models beside the flagship for which a gate is looked for."""


def own(
    suite: Suite,
    traffic: Traffic,
    done: Replay,
    target: float,
    promised: Mapping[tuple[str, ...], float] = MappingProxyType({}),
) -> Frontier | None:
    """Certify a threshold for the first gate of a cascade; None where it has no gate of one signal.

    `promised` holds the disagreement allowed in each cohort, by family.
    """
    tier = done.cascade.tiers[0]
    if not isinstance(tier.gate, Leaf):
        return None
    try:
        found = proposals.threshold(suite, traffic, at_most=target, cascade=done.cascade.name, tier=tier.name)
    except UsageError as error:
        return Frontier(tier.model, None, target, reason=str(error.problems[0].message))
    now = done.cost.value
    if found.threshold is None:
        return Frontier(
            tier.model, None, target, reason=found.parts[0].reason, current=tier.gate.threshold, current_ratio=now
        )
    gate = replace(tier.gate, threshold=found.threshold)
    changed = replace(done.cascade, tiers=(replace(tier, gate=gate), *done.cascade.tiers[1:]))
    again = replay.run(changed, done.columns, done.columns.rules, context=done.context)
    cost = again.cost
    return Frontier(
        tier.model, found.threshold, target, again.escalation.value, cost.value, cost.low, cost.high, None,
        tier.gate.threshold, now, _kept(again, promised),
    )  # fmt: skip


def _kept(again: Replay, promised: Mapping[tuple[str, ...], float]) -> bool:
    """Whether no cohort is seen over what is promised in it."""
    for family, most in promised.items():
        for cohort in again.cohorts(*family):
            value = cohort.disagreement.value
            if value is not None and value > most:
                return False
    return True


def possible(suite: Suite, traffic: Traffic, flagship: Cascade, target: float) -> Frontier | None:
    """Look for a model in front of an always-flagship cascade with a certified gate; the cheapest of them."""
    found = [one for one in _each(suite, traffic, flagship, target) if one is not None]
    certified = [one for one in found if one.threshold is not None and one.ratio is not None]
    return min(certified, key=lambda one: one.ratio or 0.0, default=next(iter(found), None))


def _each(suite: Suite, traffic: Traffic, flagship: Cascade, target: float) -> Iterator[Frontier | None]:
    last = flagship.tiers[-1]
    for model in [name for name in traffic.models if name != last.model][:TRIED]:
        signal = _signal(traffic, model)
        if signal is not None:
            tiers = (Tier(model, model, Leaf(signal, threshold=0.5)), replace(last, name=f"{last.name} (flagship)"))
            made = Cascade("possible", tiers)
            alone = replace(suite, cascades=(made,), budgets=(), baseline=None)
            try:
                plan = evaluation.plan(alone, traffic, {}, sweep=False)
                batch = traffic.read(evaluation.needs(plan, traffic))
                yield own(alone, traffic, replay.run(made, batch, plan.rules), target)
            except UsageError as error:
                yield Frontier(model, None, target, reason=str(error.problems[0].message))


def _signal(traffic: Traffic, model: str) -> Signal | None:
    if Field(model, "confidence") in traffic.fields:
        return Signal("confidence")
    return Signal("logprob") if Field(model, "token_logprobs") in traffic.fields else None


def justified(cascade: Cascade) -> Literal["calibration", "threshold"] | None:
    """Say how the thresholds of a cascade were chosen: ``calibration``, ``threshold``, or None where nobody says."""
    found = [leaf for tier in cascade.tiers for leaf in cascade_.leaves(tier.gate)]
    if any(leaf.calibrate is not None and leaf.calibrate.file is not None for leaf in found):
        return "calibration"
    return "threshold" if any(leaf.chosen_on is not None for leaf in found) else None
