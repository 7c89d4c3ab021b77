"""A whole diagnosis: measured, decided, treated."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cascade_eval.diagnosis import measuring, treatments, tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade_eval.diagnosis.facts import Facts
    from cascade_eval.diagnosis.nouns import Diagnosis
    from cascade_eval.monitor import Row
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

RECENT: Final = frozenset({"saturation", "uncovered cohort", "student drift", "rising escalation", "mix shift"})
"""Causes that began at some week: what is done about them is worked out on the weeks since."""


def run(
    suite: Suite, traffic: Traffic, *, rows: Sequence[Row] = (), cascade: str | None = None, treat: bool = True
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
    every = measuring.measure(suite, traffic, rows=rows, cascade=cascade)
    if not treat:
        return tuple(tree.diagnose(facts) for facts in every)
    return tuple(_treated(tree.diagnose(facts), facts, suite, traffic) for facts in every)


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
    return replace(diagnosis, causes=causes)


def _monday(window: str) -> dt.datetime:
    year, week = window.split("-W")
    return dt.datetime.combine(dt.date.fromisocalendar(int(year), int(week), 1), dt.time(), dt.UTC)
