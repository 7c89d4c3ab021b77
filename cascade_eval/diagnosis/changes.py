"""A cascade changed in one place, as the YAML one would paste, and replayed to see what becomes of the traffic.

A cohort gets a gate of its own by a copy of the tier that asks the same model with another threshold, and a route that
starts the cohort there. A case another gate escalated comes past the copy too: its answer is the same and its call was
paid, and because the copy escalates more it escalates again, so nothing changes for it. That holds only for copies that
escalate more, in order, the one that keeps most first; anything else is refused.
"""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cascade_eval import bounds, cohorts, metrics, replay
from cascade_eval.cascade import Leaf, leaves
from cascade_eval.suite import evaluation, parse_cascade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cascade_eval.cascade import Cascade, Route, Tier
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Estimate

When: TypeAlias = "Mapping[str, tuple[str, ...]]"
"""Allowed values by case column, as in a route."""

Prediction: TypeAlias = tuple[float | None, float | None, float | None]
"""Value, low and high; None where unknown."""


@dataclass(frozen=True)
class Cut:
    """A cohort's own threshold.

    Parameters
    ----------
    name
        What the cohort is called, to name its tier by.
    whens
        Which cases.
    threshold
        Of its gate.
    """

    name: str
    whens: tuple[When, ...]
    threshold: float


def cut(cascade: Cascade, position: int, threshold: float, *, chosen_on: str | None = None) -> Cascade:
    """Change the threshold of one gate for all cases."""
    tiers, routes = _parts(cascade)
    _cut(tiers[position], threshold, chosen_on)
    return _parsed(cascade, tiers, routes)


def separable(cascade: Cascade, position: int) -> bool:
    """Whether cohorts can have gates of their own at a tier: every case that comes past a copy has been before its original.

    Not where a route starts behind the first tier and at most at this one: its cases skip a gate whose copy they would meet.
    """
    return not any(0 < cascade.position(route.start) <= position for route in cascade.routes)


def own_gates(cascade: Cascade, position: int, cuts: Sequence[Cut], *, chosen_on: str | None = None) -> Cascade:
    """Give cohorts a gate of their own at a tier, one that escalates more than the gate of the others.

    Parameters
    ----------
    cascade
        With every threshold known; gates before and at the tier are written with it.
    position
        Of the tier, whose gate is one signal.
    cuts
        Cohorts that have no case in common, with their thresholds.
    chosen_on
        Hash of the data that chose the thresholds.

    Raises
    ------
    ValueError
        A threshold keeps more than the gate of the others: cases they escalated would be settled by it. Or some cases skip
        gates (see `separable`).
    """
    if not separable(cascade, position):
        raise ValueError(f"a route starts between the first tier and '{cascade.tiers[position].name}'")
    leaf = cascade.tiers[position].gate
    assert isinstance(leaf, Leaf)
    assert leaf.threshold is not None
    sign = 1.0 if leaf.surer == "higher" else -1.0
    ordered = sorted(cuts, key=lambda one: sign * one.threshold)
    if ordered and sign * ordered[0].threshold < sign * leaf.threshold:
        raise ValueError(f"{ordered[0].threshold} keeps more than the gate of all others, {leaf.threshold}")
    tiers, routes = _parts(cascade)
    for tier, written in zip(cascade.tiers[: position + 1], tiers, strict=False):
        _fixed(tier, written)
    named: dict[str, list[str]] = {}
    chains: list[dict[str, Any]] = []
    for one in ordered:
        chain = copy.deepcopy(tiers[: position + 1])
        for written in chain:
            written["tier"] = _free(f"{written['tier']}-{one.name}", [*tiers, *chains])
        _cut(chain[-1], one.threshold, chosen_on)
        named[one.name] = [written["tier"] for written in chain]
        chains += chain
    return _parsed(
        cascade,
        [*tiers[: position + 1], *chains, *tiers[position + 1 :]],
        list(_interleaved(cascade, routes, ordered, named)),
    )


def routed(cascade: Cascade, whens: Iterable[When]) -> Cascade:
    """Let some cases start at the flagship, whatever other routes say."""
    tiers, routes = _parts(cascade)
    first = [_route(when, cascade.flagship.name) for when in whens]
    return _parsed(cascade, tiers, [*first, *routes])


def calibrated(cascade: Cascade, position: int, recipe: str, threshold: float) -> Cascade:
    """Let a gate compare the calibrated value of its signal."""
    tiers, routes = _parts(cascade)
    gate = {key: value for key, value in tiers[position]["gate"].items() if key not in {"surer", "chosen_on"}}
    tiers[position]["gate"] = {**gate, "calibrate": recipe}
    _cut(tiers[position], threshold, None)
    return _parsed(cascade, tiers, routes)


def written(cascade: Cascade) -> str:
    """Write a cascade as it stands in a suite, under `cascades`.

    Examples
    --------
    >>> tier = {"tier": "mini", "model": "nano", "gate": {"signal": "confidence", "threshold": 0.9}}
    >>> print(written(parse_cascade("current", [tier, {"tier": "flagship", "model": "big"}])))
    cascades:
      current:
        - tier: mini
          model: nano
          gate: {signal: confidence, threshold: 0.9}
        - tier: flagship
          model: big
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump({"cascades": {cascade.name: _blocks(copy.deepcopy(cascade.definition))}}, stream)
    return stream.getvalue().rstrip()


def replays(
    suite: Suite, traffic: Traffic, cascades: Sequence[Cascade], *, columns: Iterable[str] = ()
) -> list[Replay]:
    """Replay cascades on all of the traffic, each on the same columns.

    Parameters
    ----------
    suite
        Agreement, prices, cohorts and floors; its budgets and baseline are not looked at.
    traffic
        The cases.
    cascades
        With the same flagship; they may have the same name.
    columns
        Cohort columns to read, beside those of the suite.
    """
    named = tuple(replace(cascade, name=f"{cascade.name} ({n})") for n, cascade in enumerate(cascades))
    alone = replace(suite, cascades=named, budgets=(), baseline=None)
    plan = evaluation.plan(alone, traffic, {}, sweep=False)
    batch = traffic.read(evaluation.needs(plan, traffic) | (cohorts.needs(columns) & traffic.fields))
    shared = replay.Columns(batch, plan.rules)
    context = metrics.Context((), suite.confidence, suite.coverage, suite.audited)
    filled = {cascade.name: cascade for cascade in plan.cascades}
    return [
        replay.run(
            filled[one.name],
            replace(shared, rules=plan.rules_of(filled[one.name])),
            plan.rules,
            context=context,
        )
        for one in named
    ]


def predicted(of: Replay, now: Replay | None = None) -> dict[str, Prediction]:
    """Return what a replay says of the three numbers a treatment moves.

    Parameters
    ----------
    of
        The changed cascade.
    now
        The cascade in use on the same cases, by which cost is estimated where the flagship was not asked.
    """
    cost = _triple(of.cost)
    if cost[0] is None and now is not None:
        cost = estimated_cost(of, now)
    return {"escalation": _triple(of.escalation), "cost": cost, "disagreement": _triple(of.disagreement)}


def estimated_cost(of: Replay, now: Replay) -> Prediction:
    """Estimate cost over always-flagship's where a changed cascade asks the flagship in cases it was not asked in.

    Where the traffic declares an audit, cases the cascade in use escalated stand for themselves and audited ones for
    one over their chance to be drawn (Horvitz and Thompson, 1952), with bounds by Fieller on the weighted costs. Without an
    audit a call that was not recorded costs the mean of those that were, and there are no bounds.

    Parameters
    ----------
    of
        The changed cascade.
    now
        The cascade in use on the same cases.
    """
    columns, decisions = of.columns, of.decisions
    flagship = columns.charge(of.cascade.flagship.model)
    last = len(of.cascade.tiers) - 1
    taken = of.chosen & ~decisions.cached & (decisions.settled >= 0)
    missing = taken & (decisions.settled == last) & ~flagship.known
    cheap = [columns.charge(tier.model).known for tier in of.cascade.tiers[:-1]]
    priced = taken & (decisions.cost_known | (missing & np.logical_and.reduce(cheap)))
    # A call whose cost was lost leaves its case out, as in measured costs, and not the whole prediction.
    if not flagship.known.any() or priced.sum() < max(1, of.context.coverage * taken.sum()):
        return None, None, None
    taken, missing = priced, missing & priced
    weight = columns.weights()
    stands = np.where(taken, 1.0 if weight is None else weight, 0.0)
    if columns.batch.has(None, "audit_probability"):
        chance = columns.batch.numbers(None, "audit_probability").astype(np.float64)
        kept = now.decisions.settled < last_of(now)
        stands = np.where(kept, np.nan_to_num(stands / chance), stands)
        used = (stands > 0) & flagship.known & decisions.cost_known
        x, y = (stands[used] * column[used] for column in (decisions.cost, flagship.nano))
        low, high = bounds.fieller(len(x), x.sum(), y.sum(), x @ x, x @ y, y @ y, confidence=of.context.confidence)
        return float(x.sum() / y.sum()), max(float(low), 0.0), float(high)
    mean = float(flagship.nano[flagship.known].mean())
    always = np.where(flagship.known, flagship.nano, mean)
    paid = decisions.cost + np.where(missing, mean, 0.0)
    return float((stands @ paid) / (stands @ always)), None, None


def last_of(of: Replay) -> int:
    """Position of the flagship."""
    return len(of.cascade.tiers) - 1


def _triple(estimate: Estimate) -> Prediction:
    return estimate.value, estimate.low, estimate.high


def _parts(cascade: Cascade) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the written tiers and routes, free to change."""
    definition = copy.deepcopy(cascade.definition)
    if isinstance(definition, dict):
        return definition["tiers"], definition.get("routes") or []
    return definition, []


def _parsed(cascade: Cascade, tiers: list[dict[str, Any]], routes: list[Any]) -> Cascade:
    return parse_cascade(cascade.name, {"routes": routes, "tiers": tiers} if routes else tiers)


def _cut(written: dict[str, Any], threshold: float, chosen_on: str | None) -> None:
    gate = {key: value for key, value in written["gate"].items() if key not in {"escalate", "chosen_on"}}
    gate["threshold"] = threshold
    written["gate"] = gate if chosen_on is None else {**gate, "chosen_on": chosen_on}


def _fixed(tier: Tier, written: dict[str, Any]) -> None:
    """Write the thresholds that `escalate:` stands for here, which a copy of the gate could not find again elsewhere."""
    found = iter(leaf.threshold for leaf in leaves(tier.gate))

    def fix(gate: Any) -> None:
        for child in gate.get("all", gate.get("any", ())):
            fix(child)
        if "signal" in gate:
            value = next(found)
            # Where no case had the signal there is no such threshold, and everything escalates.
            if "escalate" in gate and value is not None and np.isfinite(value):
                del gate["escalate"]
                gate["threshold"] = value

    fix(written["gate"])


def _free(name: str, taken: Sequence[Mapping[str, Any]]) -> str:
    names = {tier["tier"] for tier in taken}
    return next(one for one in (name, *(f"{name}-{n}" for n in range(2, len(names) + 3))) if one not in names)


def _interleaved(
    cascade: Cascade, routes: list[Any], cuts: Sequence[Cut], named: Mapping[str, list[str]]
) -> Iterator[dict[str, Any]]:
    """Routes of the cohorts among those there are: what a route starts at the first tier starts at its copy."""
    for route, written in zip(cascade.routes, routes, strict=True):
        for one in cuts if cascade.position(route.start) == 0 else ():
            yield from (_route(both, named[one.name][0]) for when in one.whens for both in _both(route, when))
        yield written
    for one in cuts:
        yield from (_route(when, named[one.name][0]) for when in one.whens)


def _both(route: Route, when: When) -> Iterator[When]:
    """Cases that a route and a cohort have in common; nothing where they have none."""
    found = dict(route.when)
    for column, values in when.items():
        found[column] = tuple(value for value in values if value in found.get(column, values))
    if all(found.values()):
        yield found


def _route(when: When, start: str) -> dict[str, Any]:
    return {"when": {column: list(values) for column, values in when.items()}, "start": start}


def _blocks(definition: Any) -> Any:
    """Let ruamel.yaml write tiers as blocks, whatever they hold, and routes in a line each."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def block(tier: Mapping[str, Any]) -> CommentedMap:
        found = CommentedMap(tier)
        found.fa.set_block_style()
        return found

    def line(route: Mapping[str, Any]) -> CommentedMap:
        found = CommentedMap(route)
        found.fa.set_flow_style()
        return found

    if isinstance(definition, dict):
        routes = CommentedSeq([line(route) for route in definition["routes"]])
        return {"routes": routes, "tiers": [block(tier) for tier in definition["tiers"]]}
    return [block(tier) for tier in definition]


def members(codes: cohorts.Codes, raw: cohorts.Codes, place: int) -> tuple[When, ...]:
    """Say by routes which cases a member is, also one that small cohorts are pooled in.

    Parameters
    ----------
    codes
        Of the family, small cohorts pooled.
    raw
        Of the same family and cases, as recorded.
    place
        Of the member in `codes`.
    """
    held = sorted({raw.members[i] for i in set(raw.codes[codes.codes == place].tolist())})
    if len(codes.family) == 1:
        return ({codes.family[0]: tuple(member[0] for member in held)},)
    return tuple({c: (v,) for c, v in zip(codes.family, member, strict=True)} for member in held)
