"""From a suite, its traffic and earlier weeks to the facts of each cascade."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from cascade_eval import agreement, bounds, metrics, monitor, replay
from cascade_eval.cascade import leaves
from cascade_eval.diagnosis import fixed_sets, frontiers, looking, periods
from cascade_eval.diagnosis.facts import Facts
from cascade_eval.errors import UsageError, did_you_mean
from cascade_eval.suite import evaluation
from cascade_eval.traffic import Field
from cascade_eval.weeks import refuse_namesake

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval import budgets
    from cascade_eval.cascade import Cascade
    from cascade_eval.diagnosis.facts import CohortFacts, Feedback
    from cascade_eval.diagnosis.looking import Look
    from cascade_eval.diagnosis.periods import Split
    from cascade_eval.monitor import Findings, Row
    from cascade_eval.suite import Suite
    from cascade_eval.suite.counting import Plan
    from cascade_eval.traffic import Traffic

GOLDEN: Final = "the golden"
"""Window of the cases that take the place of earlier weeks."""


def measure(
    suite: Suite,
    traffic: Traffic,
    *,
    rows: Sequence[Row] = (),
    cascade: str | None = None,
    certify: bool = True,
    golden: Traffic | None = None,
) -> tuple[Facts, ...]:
    """Measure every cascade of a suite, or one.

    Parameters
    ----------
    suite, traffic
        What is promised, and the cases.
    rows
        Rows of earlier weeks and of fixed sets; weeks the traffic has are taken from the traffic.
    cascade
        Name of the only one wanted.
    certify
        Whether to look for certified thresholds.
    golden
        The only reference, in the place of all earlier weeks: cases recorded before the traffic, in whatever shares.

    Raises
    ------
    UsageError
        An unknown cascade, rows of another suite, or data the suite cannot be judged by.
    """
    refuse_namesake(suite, rows, "given")
    names = [one.name for one in suite.cascades]
    if cascade is not None and cascade not in names:
        raise UsageError(f"no cascade '{cascade}'.{did_you_mean(cascade, names)}")
    every, left_out = _rows(suite, traffic, rows)
    launched = () if golden is None else tuple(replace(row, window=GOLDEN) for row in monitor.whole(suite, golden))
    given, notes = periods.promised(suite)
    notes = (*notes, *left_out)
    if any(row.window == monitor.WHOLE for row in every) and any(row.kind == "production" for row in rows):
        notes = (
            *notes,
            "The cases have no 'decided_at', so earlier weeks cannot be put before them and were left out.",
        )
    findings = monitor.judge(every, given, confidence=suite.confidence)
    alone = replace(suite, budgets=(), baseline=None)
    plan = evaluation.plan(alone, traffic, {}, sweep=False)
    batch = traffic.read(evaluation.needs(plan, traffic) | looking.beside(traffic.fields))
    shared = replay.Columns(batch, plan.rules)
    found = []
    for one in plan.cascades[:-1]:
        if cascade in {None, one.name}:
            rules = plan.rules_of(one)
            context = metrics.Context(
                (), suite.confidence, suite.coverage, suite.audited, problems=evaluation.flattered(one, traffic)
            )
            done = replay.run(one, replace(shared, rules=rules), rules, context=context)
            mine = [row for row in every if row.cascade == one.name]
            first = [row for row in launched if row.cascade == one.name]
            found.append(_facts(suite, traffic, mine, findings, given, notes, plan, done, certify=certify, first=first))
    return tuple(found)


def _rows(suite: Suite, traffic: Traffic, rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Put the traffic's own weeks in the place of those the history holds; notes say what was left out."""
    timed = Field(None, "decided_at") in traffic.fields
    own = monitor.weekly(suite, traffic) if timed else monitor.whole(suite, traffic)
    if not timed:
        # Weeks and a window without a time cannot be put in order.
        rows = [row for row in rows if row.kind != "production"]
    own, late = monitor.without_late(own, rows)
    mine = {row.key for row in own}
    measured = {(row.cascade, row.window) for row in own}
    names = {one.name for one in suite.cascades}
    kept = [
        row
        for row in rows
        if row.cascade in names
        and row.suite == own[0].suite
        and row.key not in mine
        and not (row.kind == "production" and (row.cascade, row.window) in measured)
    ]
    same = {row.cascade: row.definition for row in own}
    # What another gate, or another rule of agreement, let through does not say whether this one drifted.
    ours = tuple(row for row in kept if row.kind != "production" or row.definition in {None, same[row.cascade]})
    return (*ours, *own), (*late, *_left_out({(row.cascade, row.window) for row in {*kept} - {*ours}}))


def _left_out(gone: set[tuple[str, str]]) -> Iterator[str]:
    for cascade in sorted({name for name, _ in gone}):
        mine = sorted(window for name, window in gone if name == cascade)
        yield (
            f"{cascade}: {len(mine):,} earlier weeks, the last {mine[-1]}, were measured under another definition of the "
            "cascade or of agreement, and are no reference for this one."
        )


def _facts(
    suite: Suite,
    traffic: Traffic,
    rows: Sequence[Row],
    findings: Findings,
    given: Sequence[budgets.Budget],
    notes: Sequence[str],
    plan: Plan,
    done: replay.Replay,
    *,
    certify: bool,
    first: Sequence[Row] = (),
) -> Facts:
    name = done.cascade.name
    production = [row for row in rows if row.kind == "production"]
    standing = periods.standing(findings, name)
    sequences = [one for one in findings.sequences if one.cascade == name]
    weeks = periods.split(production, standing, sequences)
    if first:
        weeks = periods.Split((GOLDEN, *weeks.windows), (GOLDEN,), weeks.now)
    places = periods.pooled(suite, [*first, *production], weeks.now)
    assumed = not any(one.metric == "disagreement" and one.bound.high is not None for one in suite.budgets)
    cohorts = tuple(periods.facts([*first, *production], weeks, places, given, sequences, assumed=assumed))
    look = looking.Look(done, weeks, places)
    families = tuple(dict.fromkeys(one.family for one in cohorts if one.cohort))
    money = look.money(_cost_budget(suite)) if len(done.cascade.tiers) > 1 else None
    return Facts(
        name,
        tuple(tier.name for tier in done.cascade.tiers),
        suite.confidence,
        weeks.windows,
        weeks.before,
        weeks.now,
        _with_answers(cohorts, look, families, plan),
        frontiers.justified(done.cascade),
        _rests(suite, done.cascade),
        tuple(fixed_sets.moved(findings, name, rows, weeks, bounds.alpha(suite.confidence))),
        _asked_again(rows),
        _held_out(rows),
        money,
        _frontier(suite, traffic, done, cohorts) if certify else None,
        look.audit(money),
        _said(look, production, weeks, families[0] if families else (), _level(suite.confidence)),
        look.without(families),
        tuple(one for one in standing if one.test.startswith("escalation")),
        _paying(plan, given, done) if len(done.cascade.tiers) == 1 else None,
        weeks.mixed,
        tuple(notes),
    )


def _said(
    look: Look, production: Sequence[Row], weeks: Split, family: tuple[str, ...], confidence: float
) -> tuple[Feedback, ...]:
    """Gather what users and labels say: of these cases where they know both periods, else of the history's rows."""
    own = tuple(look.feedback(family, confidence))
    have = {one.name.split()[-1] for one in own}
    past = looking.kept(production, weeks, family, confidence)
    return (*(one for one in past if one.name.split()[-1] not in have), *own)


def _with_answers(
    cohorts: Sequence[CohortFacts], look: Look, families: Sequence[tuple[str, ...]], plan: Plan
) -> tuple[CohortFacts, ...]:
    """Add what only answers tell: the first tier's agreement on all cases, and what a stored calibration promised."""
    tiers = look.done.cascade.tiers
    if len(tiers) == 1:
        return tuple(cohorts)
    tables = {cohort: (agreed, size) for family in ((), *families) for cohort, agreed, size in look.cheap(family)}
    stored = looking.stored_map(plan.calibrated, look.done.cascade.name, tiers[0].name)
    promises = {cohort: (seen, found) for cohort, seen, found in look.overstated(families, stored)}
    where = {
        side: [look.weeks.windows.index(window) for window in getattr(look.weeks, side)] for side in ("before", "now")
    }
    none = np.zeros(len(look.weeks.windows))
    made = []
    for one in cohorts:
        agreed, size = tables.get(one.cohort, (none, none))
        before, now = (
            replace(getattr(one, side), cheap=agreed[place], cheap_size=size[place]) for side, place in where.items()
        )
        covered, overstated = promises.get(one.cohort, (None, None))
        made.append(replace(one, before=before, now=now, covered=covered, overstated=overstated))
    return tuple(made)


def _level(confidence: float) -> float:
    """Confidence at which several things users say are looked at together, and more than once."""
    return 1 - bounds.alpha(confidence) / 10


def _cost_budget(suite: Suite) -> float | None:
    found = [
        one.bound.high
        for one in suite.budgets
        if one.metric == "cost" and one.scope.kind == "overall" and one.bound.high is not None
    ]
    return min(found, default=None)


def _rests(suite: Suite, cascade: Cascade) -> Literal["agreement", "gate"] | None:
    if isinstance(suite.agreement_rule, agreement.Rule) and suite.agreement_rule.kind == "judged":
        return "agreement"
    signals = {leaf.signal.name for tier in cascade.tiers for leaf in leaves(tier.gate)}
    return "gate" if "judge" in signals else None


def _asked_again(rows: Sequence[Row]) -> frozenset[str]:
    weeks = {(row.kind, row.window) for row in rows if row.kind != "production" and row.reason is None}
    kinds = [kind for kind, _ in weeks]
    return frozenset(kind for kind in kinds if kinds.count(kind) > 1)


def _held_out(rows: Sequence[Row]) -> tuple[float, float, int] | None:
    found = sorted(
        (row for row in rows if row.kind == "held-out" and not row.cohort and row.answered and row.reason is None),
        key=lambda row: row.window,
    )
    if len(found) < 2:
        return None
    first, last = found[0], found[-1]
    return first.agreed / first.answered, last.agreed / last.answered, last.answered


def _frontier(suite: Suite, traffic: Traffic, done: replay.Replay, cohorts: Sequence[CohortFacts]) -> Any:
    target = cohorts[0].budget
    if len(done.cascade.tiers) == 1:
        return frontiers.possible(suite, traffic, done.cascade, target)
    promised: dict[tuple[str, ...], float] = {}
    for one in cohorts[1:]:
        promised[one.family] = min(one.budget, promised.get(one.family, 1.0))
    return frontiers.own(suite, traffic, done, target, promised)


def _paying(plan: Plan, given: Sequence[budgets.Budget], done: replay.Replay) -> tuple[str, float] | None:
    """Find a cascade of the suite that keeps its promise overall at a lower cost than its flagship alone."""
    found: dict[str, float] = {}
    for other in plan.cascades[:-1]:
        if len(other.tiers) == 1 or other.flagship.model != done.cascade.flagship.model:
            continue
        rules = plan.rules_of(other)
        again = replay.run(other, replace(done.columns, rules=rules), rules, context=done.context)
        cost, disagreement = again.cost, again.disagreement
        within = disagreement.high is not None and disagreement.high <= periods.allowed((), given)
        if within and not disagreement.blocked and cost.value is not None and cost.high is not None and cost.high < 1:
            found[other.name] = cost.value
    return min(found.items(), key=lambda item: item[1], default=None)
