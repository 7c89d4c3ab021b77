"""A whole diagnosis: measured, decided, treated."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cascade_eval.diagnosis import measuring, treatments, tree
from cascade_eval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.diagnosis.facts import Facts
    from cascade_eval.diagnosis.nouns import Cause, Diagnosis
    from cascade_eval.monitor import Row
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

RECENT: Final = frozenset({"saturation", "uncovered cohort", "student drift", "rising escalation", "mix shift"})
"""Causes that began at some week: what is done about them is worked out on the weeks since."""

UNTOLD: Final = frozenset({"threshold by feel", "not enough evidence"})
"""What is said of a cohort over budget that no earlier week explains."""

TOLD: Final = frozenset({"saturation", "uncovered cohort", "student drift"})
"""What a golden may say instead."""


def run(
    suite: Suite,
    traffic: Traffic,
    *,
    rows: Sequence[Row] = (),
    cascade: str | None = None,
    treat: bool = True,
    golden: Traffic | None = None,
) -> tuple[Diagnosis, ...]:
    """Say what is the matter with each cascade of a suite.

    Parameters
    ----------
    suite, traffic
        What is promised, and the cases: gate signals alone, an audit, weeks of both, labels; what is there is used. Cases
        without `decided_at` are one period.
    rows
        Earlier weeks and fixed sets, from a history or `monitor.fixed`. Weeks the traffic has are taken from the traffic.
    cascade
        The only one wanted.
    treat
        Whether to work out treatments, which replays the traffic again.
    golden
        Cases recorded before the traffic, such as the suite's own golden. They are looked at only where a cohort is over
        budget and no earlier week says whether it always was.

    Returns
    -------
    tuple of Diagnosis
        In the suite's order.

    Raises
    ------
    UsageError
        An unknown cascade, or data the suite cannot be judged by.

    Examples
    --------
    >>> from cascade_eval import suite, traffic
    >>> found = suite.load("suites/weekly_replay.cascade.yaml")
    >>> [diagnosis] = run(found, traffic.open("goldens/incident/cases.parquet"), treat=False)
    >>> diagnosis.main.name, diagnosis.main.conclusive
    ('mix shift', True)
    """
    found = [(tree.diagnose(facts), facts) for facts in measuring.measure(suite, traffic, rows=rows, cascade=cascade)]
    if golden is not None and any(one.main.name in UNTOLD for one, _ in found) and golden.sha256() != traffic.sha256():
        found = [_compared(one, facts, suite, traffic, golden, rows) for one, facts in found]
    return tuple(_treated(one, facts, suite, traffic) if treat else one for one, facts in found)


def _compared(
    one: Diagnosis, facts: Facts, suite: Suite, traffic: Traffic, golden: Traffic, rows: Sequence[Row]
) -> tuple[Diagnosis, Facts]:
    """Ask the golden what the weeks cannot tell: whether a cohort was over budget from the start.

    Only the cause of what is over budget is taken from it: a golden has other shares than production, and other weeks.
    """
    if one.main.name not in UNTOLD:
        return one, facts
    try:
        [again] = measuring.measure(suite, traffic, rows=rows, cascade=one.cascade, certify=False, golden=golden)
    except UsageError as error:
        said = f"The golden '{golden.name}' was not compared with: {error.problems[0].message}"
        return replace(one, notes=(*one.notes, said)), facts
    told = tree.diagnose(replace(again, frontier=facts.frontier))
    if not told.main.conclusive or told.main.name not in TOLD:
        return one, facts
    mine = [cause for cause in told.causes if cause.conclusive and cause.name in TOLD]
    rest = [cause for cause in one.causes if cause.name not in {*TOLD, "threshold by feel", "not enough evidence"}]
    steps = {step.name: step for step in told.steps if step.name in {"escalation", "gate"}}
    note = f"No earlier week tells whether it always was so; the reference is the golden '{golden.name}'."
    return (
        replace(
            one,
            causes=(*mine, *rest),
            steps=tuple(steps.get(step.name, step) for step in one.steps),
            notes=(*(said for said in one.notes if not said.startswith("Reference ")), note),
        ),
        facts,
    )


def _treated(diagnosis: Diagnosis, facts: Facts, suite: Suite, traffic: Traffic) -> Diagnosis:
    since = _monday(facts.now[0]) if len(facts.windows) > 1 else None
    causes = tuple(
        replace(
            one,
            treatments=treatments.for_cause(one, suite, traffic, since=since if one.name in RECENT else None),
        )
        # What is only suspected beside something certain is not acted on yet.
        if one.conclusive or one is diagnosis.main or one.name == "not enough evidence"
        else one
        for one in diagnosis.causes
    )
    return replace(diagnosis, causes=tuple(_once(causes)))


def _once(causes: Sequence[Cause]) -> Iterator[Cause]:
    """Leave out what an earlier cause asks for already, step by step the same."""
    asked: set[tuple[str, ...]] = set()
    for cause in causes:
        # Beside a change, "leave the gate as it is" would contradict it.
        new = tuple(
            one
            for one in cause.treatments
            if one.steps not in asked and not (one.kind == "leave alone" and asked and not one.steps)
        )
        asked |= {one.steps for one in new if one.steps}
        yield replace(cause, treatments=new)


def _monday(window: str) -> dt.datetime:
    year, week = window.split("-W")
    return dt.datetime.combine(dt.date.fromisocalendar(int(year), int(week), 1), dt.time(), dt.UTC)
