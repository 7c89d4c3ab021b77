"""Escalating more where the gate fails: a cohort's own certified threshold, or the flagship for all of it.

The threshold is the laxest one certified among the cohort's own labelled cases (see `cascade_eval.thresholds.select`):
the chance that more than the target disagrees above it is at most delta, shared by the cohorts asked for. Adding the
excess to a threshold, or calibrating all cases by one map, promises nothing of the kind. Where no threshold is certified
the answer is never the strictest one; it is the flagship.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds, budgets, cohorts, monitor, thresholds
from cascade_eval.cascade import Leaf, leaves
from cascade_eval.counts import DISAGREE
from cascade_eval.diagnosis import changes
from cascade_eval.diagnosis.nouns import Treatment
from cascade_eval.errors import Problem, UsageError, did_you_mean
from cascade_eval.proposals import gates, samples
from cascade_eval.suite import sketches
from cascade_eval.thresholds import selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Gate, Signal, Tier
    from cascade_eval.diagnosis.changes import When
    from cascade_eval.monitor import Cohort
    from cascade_eval.proposals.gates import AtGate
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

OVERALL, EACH = 0.05, 0.10
"""Disagreement taken as promised, of all cases and of a cohort, where a suite promises none."""

WALKS: Final = len(selection.STARTS)
"""Walks of a selection, which share its allowed error."""


@dataclass(frozen=True, eq=False)
class Certified:
    """What could be certified in one cohort.

    Parameters
    ----------
    cohort, target
        Where, and the largest disagreement allowed.
    whens
        Which cases, as routes say it.
    threshold
        The laxest certified; None where there is none, or the gate could not be looked at.
    kept, disagreeing, bound
        Labelled cases above it, those of them that disagree, and the upper bound of the rate at the test's own error.
    reason
        One sentence.
    hopeless
        Whether no number of further labels would help.
    """

    cohort: Cohort
    target: float
    whens: tuple[When, ...]
    threshold: float | None
    kept: int
    disagreeing: int
    bound: float | None
    reason: str
    hopeless: bool = False


def promised(suite: Suite, cohort: Cohort) -> float:
    """Return the strictest disagreement a suite allows a cohort; 10% where it says nothing, and 5% of all cases.

    Examples
    --------
    >>> from cascade_eval.suite import load
    >>> found = load("suites/weekly_replay.cascade.yaml")
    >>> promised(found, (("language", "pt"),)), promised(found, ()), promised(found, (("intent", "billing"),))
    (0.1, 0.05, 0.1)
    """
    found = [
        budget.bound.high
        for budget in suite.budgets
        if budget.metric == "disagreement" and budget.bound.high is not None and speaks_of(budget.scope, cohort)
    ]
    return min(found, default=EACH if cohort else OVERALL)


def speaks_of(scope: budgets.Scope, cohort: Cohort) -> bool:
    """Whether a budget's scope is about a cohort by itself."""
    if not cohort:
        return scope.kind == "overall"
    if scope.kind == "one":
        return dict(zip(scope.columns, scope.values, strict=True)) == dict(cohort)
    return scope.kind == "each" and set(scope.columns) == {column for column, _ in cohort}


def escalate_more(
    suite: Suite,
    traffic: Traffic,
    cascade: str,
    cohorts: Sequence[Cohort],
    at_most: float | None = None,
    *,
    delta: float = 0.1,
    part_of: Traffic | None = None,
) -> tuple[Treatment, ...]:
    """Give cohorts the gate that is certified in them; route those to the flagship in which none is.

    Parameters
    ----------
    suite, traffic
        Labelled cases, escalated ones too.
    cascade
        Name of the cascade.
    cohorts
        Whose gate fails; the cohort () is all cases.
    at_most
        Largest disagreement to allow; what the suite promises each cohort where None.
    delta
        Chance that any of the certified thresholds keeps more disagreement than that; shared by the cohorts.
    part_of
        The cases that a threshold is said to be chosen on, where `traffic` is only a part of them.

    Returns
    -------
    tuple of Treatment
        First "escalate more" with the certified thresholds, then "route to the flagship" with the other cohorts;
        "leave alone" where the gate in use is within what is certified.

    Examples
    --------
    >>> from cascade_eval import runs
    >>> from cascade_eval.suite import load
    >>> found = load("suites/weekly_replay.cascade.yaml")
    >>> saturated = runs.open(found, traffic_path="goldens/incident_saturated").traffic
    >>> [made] = escalate_more(found, saturated, "current", [(("language", "pt"),)])
    >>> made.kind, round(made.evidence["language=pt threshold"], 3), round(made.predicted["escalation"][0], 3)
    ('escalate more', 0.888, 0.34)
    """
    made: list[Treatment] = []
    for family in dict.fromkeys(tuple(column for column, _ in cohort) for cohort in cohorts):
        mine = [cohort for cohort in cohorts if tuple(column for column, _ in cohort) == family]
        tier = gate_of(suite, traffic, cascade, mine)
        if not isinstance(tier.gate, Leaf):
            why = f"the gate of {tier.name} combines several signals, and only a gate of one can be chosen"
            made += _routed(suite, traffic, cascade, [_uncertified(cohort, suite, at_most, why) for cohort in mine])
            continue
        at = gates.at(suite, traffic, cascade, tier.name, family)
        found = [_certify(at, suite, cohort, at_most, delta / len(cohorts)) for cohort in mine]
        better, kept = _sorted(at, [one for one in found if one.threshold is not None])
        if better:
            chosen_on = sketches.of(traffic if part_of is None else part_of, tier.gate.signal, tier.model)
            made += _own(suite, traffic, at, better, delta, chosen_on)
        made += [_in_use(at, one) for one in kept]
        made += _routed(suite, traffic, cascade, [one for one in found if one.threshold is None])
    return tuple(made)


def route(suite: Suite, traffic: Traffic, cascade: str, cohorts: Sequence[Cohort], *, why: str = "") -> Treatment:
    """Send whole cohorts straight to the flagship: no disagreement is left in them, and nothing is saved by them.

    Parameters
    ----------
    suite, traffic, cascade, cohorts
        As for `escalate_more`.
    why
        Why nothing else will do.
    """
    current = suite.cascade(cascade)
    [now] = changes.replays(suite, traffic, [current], columns=_columns(cohorts))
    whens = [when for cohort in cohorts for when in _whens(suite, now, cohort)]
    changed = changes.routed(current, whens)
    [after] = changes.replays(suite, traffic, [changed])
    mine = _of(now, cohorts, suite)
    message = (
        f"Route {named(cohorts)} to the flagship{': ' + why if why else ''}. {moves(now, after)} Escalation is then of the "
        f"other cases; {_percent(float(mine.mean()))} of all cases are routed."
    )
    return Treatment(
        "route to the flagship",
        tuple(cohorts),
        message,
        changes.predicted(after, now),
        (f"Paste into {suite.name}:\n{changes.written(changed)}", judge_again(suite)),
        {"cases": float(mine.sum()), "share": float(mine.mean()), **before(now)},
    )


def gate_of(suite: Suite, traffic: Traffic, cascade: str, cohorts: Sequence[Cohort]) -> Tier:
    """Return the gated tier that lets most disagreeing cases of some cohorts pass.

    Raises
    ------
    UsageError
        There is no such cascade, or it has no gate.
    """
    names = [one.name for one in suite.cascades]
    if cascade not in names:
        raise UsageError([Problem(f"no cascade '{cascade}'.{did_you_mean(cascade, names)}", suite.name)])
    found = suite.cascade(cascade)
    gated = [position for position, tier in enumerate(found.tiers) if tier.gate is not None]
    if not gated:
        raise UsageError([Problem(f"'{cascade}' has no gate: the flagship answers everything", suite.name)])
    if len(gated) == 1:
        return found.tiers[gated[0]]
    [now] = changes.replays(suite, traffic, [found], columns=_columns(cohorts))
    wrong = _of(now, cohorts, suite) & (now.decisions.served == DISAGREE)
    passed = [int((wrong & (now.decisions.settled == position)).sum()) for position in gated]
    return found.tiers[gated[int(np.argmax(passed))]]


def moves(now: Replay, after: Replay) -> str:
    """Say how escalation, cost and disagreement of all traffic change, with the bounds of what is predicted."""
    was, will = changes.predicted(now, now), changes.predicted(after, now)
    tails = {"escalation": "", "cost": " of always-flagship", "disagreement": ""}
    said = [f"{name} from {_percent(was[name][0])} to {_bounded(will[name])}{tail}" for name, tail in tails.items()]
    return f"Over all traffic: {', '.join(said)}."


def before(now: Replay) -> dict[str, float]:
    """Return what a replay measured, as figures beside a prediction; what is unknown is left out."""
    found = changes.predicted(now, now)
    return {f"{name} now": value for name, (value, _, _) in found.items() if value is not None}


def named(cohorts: Sequence[Cohort]) -> str:
    """Name some cohorts, at most eight of them."""
    names = [monitor.label(cohort) if cohort else "all cases" for cohort in cohorts]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def judge_again(suite: Suite) -> str:
    """Return the command that judges a change on cases that did not choose it."""
    return f"pytest {suite.name} --cascade-traffic FRESH_CASES"


def _bounded(values: changes.Prediction) -> str:
    value, low, high = values
    if value is None:
        return "unknown"
    if low is None or high is None:
        return f"about {_percent(value)}"
    return f"{_percent(value)} ({_percent(low)} to {_percent(high)})"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else budgets.show(value, "ratio")


def _certify(at: AtGate, suite: Suite, cohort: Cohort, at_most: float | None, delta: float) -> Certified:
    """Choose the laxest certified threshold among the cases of one cohort."""
    target = promised(suite, cohort) if at_most is None else at_most
    member = tuple(value for _, value in cohort)
    if member not in at.groups.members:
        return _uncertified(cohort, suite, target, f"no case of these is in {monitor.label(cohort)}")
    place = at.groups.members.index(member)
    here = replace(at, known=at.known & (at.groups.codes == place))
    whens = changes.members(at.groups, at.columns.codes(at.groups.family), place) if cohort else ()
    sample = samples.Sample.of(here, joint=False)
    found = thresholds.select(sample.values, sample.disagrees, at_most=target, delta=delta, surer=at.leaf.surer)
    why = _unfit(here, suite)
    if why is not None or found.step is None:
        return Certified(
            cohort, target, whens, None, 0, 0, None, why or found.reason, why is None and found.needed is None
        )
    _, high = bounds.rate([found.step.disagreeing], [found.step.kept], confidence=1 - delta / WALKS)
    value = float(str(np.float32(found.step.threshold))) if at.compared.dtype == np.float32 else found.step.threshold
    return Certified(
        cohort, target, whens, value, found.step.kept, found.step.disagreeing, float(high[0]), found.reason
    )


def unlabelled(suite: Suite, traffic: Traffic, cascade: str, tier: str, cohorts: Sequence[Cohort]) -> str | None:
    """Say why the labelled cases at a gate do not stand for some cohorts; None where they do."""
    family = tuple(column for column, _ in cohorts[0])
    at = gates.at(suite, traffic, cascade, tier, family)
    for cohort in cohorts:
        member = tuple(value for _, value in cohort)
        place = at.groups.members.index(member) if member in at.groups.members else -1
        why = _unfit(replace(at, known=at.known & (at.groups.codes == place)), suite)
        if why is not None:
            return why
    return None


def _unfit(at: AtGate, suite: Suite) -> str | None:
    return samples.unfit(at.replay.decisions, at.agrees[at.frame] >= 0, suite)


def _uncertified(cohort: Cohort, suite: Suite, at_most: float | None, why: str) -> Certified:
    return Certified(cohort, promised(suite, cohort) if at_most is None else at_most, (), None, 0, 0, None, why)


def _sorted(at: AtGate, found: list[Certified]) -> tuple[list[Certified], list[Certified]]:
    """Tell certified thresholds that escalate more than the gate in use from those that do not."""
    sign = 1.0 if at.leaf.surer == "higher" else -1.0
    assert at.leaf.threshold is not None
    more = [one for one in found if one.threshold is not None and sign * one.threshold > sign * at.leaf.threshold]
    return more, [one for one in found if one not in more]


def _own(
    suite: Suite, traffic: Traffic, at: AtGate, found: Sequence[Certified], delta: float, chosen_on: str
) -> Iterator[Treatment]:
    """Give cohorts their certified gates, and compare with one threshold for everyone."""
    current = replace(suite.cascade(at.cascade.name), tiers=at.cascade.tiers)
    values = [one.threshold for one in found if one.threshold is not None]
    strictest = max(values) if at.leaf.surer == "higher" else min(values)
    everyone = changes.cut(current, at.position, strictest, chosen_on=chosen_on)
    whole = not at.groups.family or not changes.separable(current, at.position)
    cuts = [changes.Cut(_short(one.cohort), one.whens, value) for one, value in zip(found, values, strict=True)]
    changed = everyone if whole else changes.own_gates(current, at.position, cuts, chosen_on=chosen_on)
    now, after, shared = changes.replays(suite, traffic, [current, changed, everyone], columns=at.groups.family)
    certified = " ".join(_said(at, one, now, after, suite) for one in found)
    compared = (
        ""
        if whole
        else f" One threshold of {strictest:.6g} for everyone would escalate {_percent(shared.escalation.value)} instead, "
        f"at {_percent(changes.predicted(shared, now)['cost'][0])} of always-flagship."
    )
    warned = (
        f" Chosen on these cases, with a chance of {_percent(delta)} to be wrong: a prediction, to be judged on others."
    )
    evidence = dict(before(now))
    for one, value in zip(found, values, strict=True):
        label = monitor.label(one.cohort)
        evidence |= {
            f"{label} threshold": value,
            f"{label} kept": float(one.kept),
            f"{label} disagreeing": float(one.disagreeing),
            f"{label} bound": one.bound or 0.0,
        }
    evidence |= {
        f"{name} with one threshold": v[0] for name, v in changes.predicted(shared, now).items() if v[0] is not None
    }
    yield Treatment(
        "escalate more",
        tuple(one.cohort for one in found),
        f"{certified} {moves(now, after)}{compared}{warned}",
        changes.predicted(after, now),
        (f"Paste into {suite.name}:\n{changes.written(changed)}", judge_again(suite)),
        evidence,
    )


def _said(at: AtGate, one: Certified, now: Replay, after: Replay, suite: Suite) -> str:
    label = monitor.label(one.cohort) if one.cohort else "all cases"
    mine = rows(now, one.cohort, suite)
    was, will = escalation(now, mine), escalation(after, mine)
    return (
        f"In {label} a threshold of {one.threshold:.6g} on {at.tier.name} (now {at.leaf.threshold:.6g}) is certified: "
        f"{one.disagreeing:,} of {one.kept:,} kept cases disagree, bound {_percent(one.bound)} for at most "
        f"{_percent(one.target)}. It escalates {_percent(will)} of {label} (now {_percent(was)})."
    )


def _in_use(at: AtGate, one: Certified) -> Treatment:
    message = (
        f"In {monitor.label(one.cohort)} the threshold in use, {at.leaf.threshold:.6g}, escalates as much as the certified "
        f"{one.threshold:.6g} or more: {one.reason}."
    )
    return Treatment("leave alone", (one.cohort,), message)


def _routed(suite: Suite, traffic: Traffic, cascade: str, found: Sequence[Certified]) -> list[Treatment]:
    if not found:
        return []
    whole = [one for one in found if not one.cohort]
    if whole:
        made = alone(suite, traffic, cascade, why=_why(whole))
        hopeless = float(all(one.hopeless for one in whole))
        return [replace(made, evidence={**made.evidence, "more labels would not help": hopeless})]
    return [route(suite, traffic, cascade, [one.cohort for one in found], why=_why(found))]


def _why(found: Sequence[Certified]) -> str:
    reasons = dict.fromkeys(
        f"no threshold is certified in {monitor.label(one.cohort)} at {_percent(one.target)} ({one.reason})"
        for one in found
    )
    return "; ".join(list(reasons)[:4])


def alone(suite: Suite, traffic: Traffic, cascade: str, *, why: str = "") -> Treatment:
    """Answer everything by the flagship alone.

    Parameters
    ----------
    suite, traffic, cascade
        As for `escalate_more`.
    why
        Why nothing else will do.
    """
    current = suite.cascade(cascade)
    flagship = {"tier": current.flagship.name, "model": current.flagship.model}
    changed = replace(current, tiers=(replace(current.flagship, hedged=False),), routes=(), definition=[flagship])
    [now] = changes.replays(suite, traffic, [current])
    found = changes.predicted(now, now)
    message = (
        f"Use the flagship alone{': ' + why if why else ''}. The cascade costs {_bounded(found['cost'])} of that, and "
        f"{_bounded(found['disagreement'])} of what it keeps disagrees."
    )
    return Treatment(
        "use the flagship alone",
        ((),),
        message,
        {"escalation": (None, None, None), "cost": (1.0, 1.0, 1.0), "disagreement": (None, None, None)},
        (f"Paste into {suite.name}:\n{changes.written(changed)}",),
        before(now),
    )


def _short(cohort: Cohort) -> str:
    return "-".join(value for _, value in cohort)


def _place(now: Replay, cohort: Cohort, suite: Suite) -> tuple[cohorts.Codes, cohorts.Codes, int]:
    """Codes of a cohort's family, pooled and as recorded, and its place among the members; -1 where no case is in it."""
    family = tuple(column for column, _ in cohort)
    pooled = gates.groups(suite, now.columns, family)
    member = tuple(value for _, value in cohort)
    return pooled, now.columns.codes(family), pooled.members.index(member) if member in pooled.members else -1


def _columns(cohorts: Sequence[Cohort]) -> list[str]:
    return [column for cohort in cohorts for column, _ in cohort]


def _of(now: Replay, cohorts: Sequence[Cohort], suite: Suite) -> NDArray[np.bool_]:
    """Which cases are in any of these cohorts, shape (n_cases,)."""
    found: NDArray[np.bool_] = np.logical_or.reduce([rows(now, cohort, suite) for cohort in cohorts])
    return found


def rows(now: Replay, cohort: Cohort, suite: Suite) -> NDArray[np.bool_]:
    """Which cases are in a cohort, shape (n_cases,)."""
    pooled, _, place = _place(now, cohort, suite)
    found: NDArray[np.bool_] = pooled.codes == place
    return found


def _whens(suite: Suite, now: Replay, cohort: Cohort) -> tuple[When, ...]:
    """Say by routes which cases a cohort is; UsageError where it is none."""
    pooled, raw, place = _place(now, cohort, suite)
    if not cohort:
        raise UsageError("a route speaks of a cohort; to send everything to the flagship, use it alone.")
    if place < 0:
        names = [cohorts.label(pooled.family, member) for member in pooled.members]
        label = monitor.label(cohort)
        raise UsageError(f"no case is in {label}.{did_you_mean(label, names)}")
    return changes.members(pooled, raw, place)


def escalation(of: Replay, mine: NDArray[np.bool_]) -> float | None:
    """Escalation of some cases of a replay; None where it was not measured."""
    return replace(of, rows=mine).escalation.value


def members(suite: Suite, now: Replay, family: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Cohorts of a family, small ones pooled as the suite says."""
    return set(gates.groups(suite, now.columns, family).members)


def is_leaf(gate: Gate | None) -> bool:
    """Whether a gate is one signal, so that a threshold of it can be chosen."""
    return isinstance(gate, Leaf)


def signals_of(cascade: Cascade) -> list[Signal]:
    """Every signal its gates look at."""
    return [leaf.signal for tier in cascade.tiers for leaf in leaves(tier.gate)]
