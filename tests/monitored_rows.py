"""Rows of weeks, written down instead of measured."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from cascade_eval import budgets
from cascade_eval.monitor import Row

PT, EN = {"language": "pt"}, {"language": "en"}


def promised(**scopes):
    """Budgets of disagreement by scope, blanks written as underscores."""
    return [
        budgets.Budget("disagreement", budgets.parse_scope(scope.replace("_", " ")), budgets.parse(text, "rate"))
        for scope, text in scopes.items()
    ]


BUDGETS = promised(overall="at most 10%", each_language="at most 10%")


def window(number):
    """Name the n-th week of a series that runs over the end of a year."""
    year, week, _ = (dt.date(2026, 8, 3) + dt.timedelta(weeks=number)).isocalendar()
    return f"{year}-W{week:02d}"


def row(number, cohort=(), *, escalated=30, decisions=100, disagreed=2, compared=60, **values):
    """Make a production row with unweighted counts."""
    known = compared > 0
    one = Row(
        "support",
        "current",
        "production",
        window(number),
        tuple(cohort.items()) if cohort else (),
        cases=decisions,
        decisions=decisions,
        escalated=escalated,
        escalation=escalated / decisions if decisions else None,
        escalation_size=float(decisions),
        traffic=float(decisions),
        kept=decisions - escalated,
        compared=compared,
        disagreed=disagreed,
        disagreement=disagreed / compared if known else None,
        least=float(disagreed if known else 0),
        least_size=float(compared),
        most=float(disagreed if known else 0),
        most_size=float(compared),
        reason=None if known else "no flagship answer",
    )
    return replace(one, **values)
