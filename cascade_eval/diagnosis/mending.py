"""Mending what the gate reads, or the model behind it: maps from value to agreement, and a student trained again."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cascade_eval import budgets, calibration, monitor
from cascade_eval.cascade import Leaf
from cascade_eval.counts import DISAGREE
from cascade_eval.diagnosis import changes, escalating
from cascade_eval.diagnosis.nouns import Treatment
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.cascade import Tier
    from cascade_eval.monitor import Cohort
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

LABELS: Final = 300
"""Labelled cases of a cohort that a map of its own wants. In simulations the fitted probability of a saturated cohort is
off by about 0.09 with 25 of them, 0.05 with 100 and 0.03 with 300."""


class Fitted(NamedTuple):
    """What a map changes in one cohort: labelled cases at the gate, Brier scores, and who escalates after."""

    name: str
    labelled: int
    before: float | None
    after: float | None
    escalation: float | None


def recalibrate(
    suite: Suite, cases: Traffic, cascade: str, cohorts: Sequence[Cohort], at_most: float | None = None
) -> Treatment:
    """Fit the gate's value to what agrees, with a map of its own for each cohort.

    Parameters
    ----------
    suite, cases, cascade
        As for `escalating.escalate_more`.
    cohorts
        Whose values are off; the cohort () asks for one map for all cases, which cannot change who escalates at a given
        rate.
    at_most
        Largest disagreement to allow; where the signal is no probability the threshold becomes one minus it.

    Returns
    -------
    Treatment
        How many labelled cases each cohort has and wants, and what maps fitted out of fold on these cases change.
    """
    family = next((tuple(column for column, _ in cohort) for cohort in cohorts if cohort), ())
    tier = escalating.gate_of(suite, cases, cascade, cohorts)
    if not isinstance(tier.gate, Leaf):
        message = f"The gate of {tier.name} combines several signals: calibrate each where it is written."
        return Treatment("recalibrate", tuple(cohorts), message)
    current = suite.cascade(cascade)
    recipe = f"hierarchical per {' and '.join(family)}" if family else "platt"
    target = min(escalating.promised(suite, cohort) for cohort in cohorts) if at_most is None else at_most
    [now] = changes.replays(suite, cases, [current], columns=family)
    unfit = escalating.unlabelled(suite, cases, cascade, tier.name, cohorts)
    if unfit is not None:
        return _label_first(suite, cases, cascade, tier, cohorts, unfit)
    fitted = _threshold(now, current.position(tier.name), target)
    changed = changes.calibrated(current, current.position(tier.name), recipe, fitted)
    [after] = changes.replays(suite, cases, [changed], columns=family)
    found = [_fitted(now, after, suite, tier, cohort) for cohort in cohorts]
    single = "" if family else " One map for all cases gives the threshold a meaning and changes nobody's rank."
    predicted, was = changes.predicted(after, now), escalating.before(now)
    # At a threshold set for other values, true ones may keep more than before: then the steps would do harm.
    would, does = predicted.get("disagreement", (None,))[0], was.get("disagreement now")
    harm = would is not None and does is not None and would > does
    head = f"Recalibrating {tier.name} alone does not help" if harm else f"Recalibrate {tier.name}"
    message = (
        f"{head} ({recipe}), at a threshold of {fitted:.6g}. {' '.join(_said(one) for one in found)} "
        f"{escalating.moves(now, after)}{single} Fitted out of fold on these cases: a prediction, to be judged on others."
    )
    return Treatment(
        "recalibrate",
        tuple(cohorts),
        message,
        predicted,
        () if harm else tuple(_steps(suite, cases, cascade, tier, family, found)),
        {f"{one.name} labelled": float(one.labelled) for one in found} | {"labelled wanted": float(LABELS)} | was,
    )


def _label_first(
    suite: Suite, cases: Traffic, cascade: str, tier: Tier, cohorts: Sequence[Cohort], why: str
) -> Treatment:
    """Ask for labels where those there are would fit a wrong map."""
    family = next((tuple(column for column, _ in cohort) for cohort in cohorts if cohort), ())
    found = [Fitted(monitor.label(cohort), 0, None, None, None) for cohort in cohorts]
    message = (
        f"Recalibrate {tier.name} in {escalating.named(cohorts)}, once there are about {LABELS} labelled cases of each: "
        f"here {why}."
    )
    steps = tuple(_steps(suite, cases, cascade, tier, family, found))
    return Treatment("recalibrate", tuple(cohorts), message, {}, steps, {"labelled wanted": float(LABELS)})


def retrain(suite: Suite, cases: Traffic, cascade: str, cohorts: Sequence[Cohort] = ()) -> Treatment | None:
    """Train the cheap model again, where every cohort moved; None where one of the family was spared.

    Parameters
    ----------
    suite, cases, cascade
        As for `escalating.escalate_more`.
    cohorts
        Which moved; none, or (), says that all cases did.

    Returns
    -------
    Treatment or None
        With how much there is to train on: cases the flagship answered that the model escalated or got differently.
    """
    family = next((tuple(column for column, _ in cohort) for cohort in cohorts if cohort), ())
    tier = escalating.gate_of(suite, cases, cascade, cohorts or ((),))
    [now] = changes.replays(suite, cases, [suite.cascade(cascade)], columns=family)
    moved = {tuple(value for _, value in cohort) for cohort in cohorts}
    if family and not moved >= escalating.members(suite, now, family):
        return None
    last = len(now.cascade.tiers) - 1
    agrees = now.columns.agrees(tier.model, now.cascade.flagship.model)
    up = (now.decisions.settled == last) & (agrees >= 0)
    wrong = now.decisions.served == DISAGREE
    message = (
        f"Every cohort moved, so it is {tier.model} and not a gate: train it again. {int(up.sum()):,} escalated cases and "
        f"{int(wrong.sum()):,} disagreeing ones have a flagship answer to learn from. Until then, escalate more."
    )
    steps = (
        f"Train {tier.model} on them, record it on cases it has not seen, and judge that: {escalating.judge_again(suite)}",
    )
    evidence = {"escalated with an answer": float(up.sum()), "disagreeing": float(wrong.sum())}
    return Treatment(
        "retrain the student", tuple(cohorts) or ((),), message, {}, steps, evidence | escalating.before(now)
    )


def _threshold(now: Replay, position: int, target: float) -> float:
    """Keep the threshold where it reads as a probability; else ask for as much agreement as is promised."""
    leaf = now.cascade.tiers[position].gate
    assert isinstance(leaf, Leaf)
    values = now.columns.value(now.cascade.tiers[position], 0, leaf)
    known = values[~np.isnan(values)]
    plain = leaf.surer == "higher" and len(known) > 0 and known.min() >= 0 and known.max() <= 1
    return leaf.threshold if plain and leaf.threshold is not None and 0 < leaf.threshold < 1 else 1 - target


def _fitted(now: Replay, after: Replay, suite: Suite, tier: Tier, cohort: Cohort) -> Fitted:
    """Compare raw and calibrated values of one cohort with what agreed."""
    rows = escalating.rows(now, cohort, suite)
    position = now.cascade.position(tier.name)
    agrees = now.columns.agrees(tier.model, now.cascade.flagship.model)
    read = now.decisions.reads.get((position, 0), np.zeros(len(rows), dtype=np.bool_))
    scores: list[float | None] = []
    labelled = rows & read & (agrees >= 0)
    for replayed in (now, after):
        leaf = replayed.cascade.tiers[position].gate
        assert isinstance(leaf, Leaf)
        value = replayed.columns.value(replayed.cascade.tiers[position], 0, leaf)[labelled].astype(np.float64)
        known = ~np.isnan(value)
        usable = known.any() and value[known].min() >= 0 and value[known].max() <= 1 and leaf.surer == "higher"
        scores.append(calibration.brier(agrees[labelled][known], value[known]) if usable else None)
    mine = escalating.escalation(after, rows)
    return Fitted(monitor.label(cohort), int(labelled.sum()), scores[0], scores[1], mine)


def _said(one: Fitted) -> str:
    wanted = "" if one.labelled >= LABELS else f" of the {LABELS} it wants"
    return (
        f"{one.name}: {one.labelled:,} labelled cases{wanted}; Brier score {_decimal(one.before)} now, {_decimal(one.after)} after; "
        f"{_percent(one.escalation)} of it escalates then."
    )


def _steps(
    suite: Suite, cases: Traffic, cascade: str, tier: Tier, family: Sequence[str], found: Sequence[Fitted]
) -> Iterator[str]:
    """Label what is missing, fit and store the map, and name it in the gate."""
    short = [one for one in found if one.labelled < LABELS]
    name, data = shlex.quote(suite.name), shlex.quote(cases.name)
    # What was audited once is not drawn from again.
    fresh = "FRESH_CASES" if Field(None, "audit_probability") in cases.fields else data
    per = "".join(f" --per {shlex.quote(column)}" for column in family)
    if short:
        calls = sum(LABELS - one.labelled for one in short)
        yield f"cascade-eval audit plan {name} --traffic {fresh} --cascade {shlex.quote(cascade)}{per} --cases {calls} -o plan.json"
    kind = "hierarchical" if family else "platt"
    where = f"--cascade {shlex.quote(cascade)} --tier {shlex.quote(tier.name)}"
    # A gate's path is relative to its suite.
    file = shlex.quote(str(PurePosixPath(suite.name).parent / "calibrations" / f"{tier.name}.json"))
    yield f"cascade-eval calibrate {name} --traffic {data} {where} --kind {kind}{per} -o {file}"
    yield f"In the gate of {tier.name}: calibrate: calibrations/{tier.name}.json"
    yield escalating.judge_again(suite)


def _decimal(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else budgets.show(value, "rate")
