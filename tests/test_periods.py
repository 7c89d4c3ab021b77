"""Periods of a diagnosis: by which promise a cohort is judged, and which weeks are compared with which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitored_rows import EN, PT, promised, row, window

from cascade_eval import suite
from cascade_eval.diagnosis import periods
from cascade_eval.diagnosis.facts import EACH_DEFAULT, OVERALL_DEFAULT

WEEKS = periods.WEEKS


def written(budgets, cohorts="[language, tier]"):
    """Read a suite with these budgets."""
    text = (
        "traffic: cases.parquet\n"
        "cascades:\n  current:\n"
        "    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}\n"
        "    - {tier: flagship, model: flagship}\n"
        f"cohorts: {cohorts}\nbudgets:\n{budgets}"
    )
    return suite.parse(text, file="s.cascade.yaml", base=Path())


@pytest.mark.parametrize(
    ("cohort", "most"),
    [
        ((), 0.1),
        ((("language", "pt"),), 0.05),
        ((("language", "en"),), 0.2),
        ((("tier", "free"),), EACH_DEFAULT),
        ((("tier", "paid"),), 0.3),
        ((("language", "pt"), ("tier", "free")), EACH_DEFAULT),
    ],
)
def test_a_cohort_is_judged_by_the_smallest_promise_that_speaks_of_it(cohort, most):
    """A line for it and one for each of its columns; a promise from below, and one for other cohorts, are none."""
    scopes = {
        "overall": "at most 10%", "each_language": "at most 20%", "language=pt": "at most 5%", "tier=paid": "at most 30%",
        "tier=free": "at least 1%",
    }  # fmt: skip
    assert periods.allowed(cohort, promised(**scopes)) == most


@pytest.mark.parametrize(
    ("line", "expected", "notes"),
    [
        ("escalation: {overall: at most 40%}", {"overall": OVERALL_DEFAULT, "each language": EACH_DEFAULT, "each tier": EACH_DEFAULT}, 1),
        ("disagreement: {overall: at least 1%}", {"overall": OVERALL_DEFAULT, "each language": EACH_DEFAULT, "each tier": EACH_DEFAULT}, 1),
        ("disagreement: {overall: at most 3%}", {"overall": 0.03, "each language": EACH_DEFAULT, "each tier": EACH_DEFAULT}, 2),
        ("disagreement: {overall: at most 30%}", {"overall": 0.3, "each language": 0.3, "each tier": 0.3}, 2),
        ("disagreement: {each language: at most 30%}", {"overall": 0.3, "each language": 0.3, "each tier": EACH_DEFAULT}, 2),
        ("disagreement: {each language: at most 1%}", {"overall": OVERALL_DEFAULT, "each language": 0.01, "each tier": EACH_DEFAULT}, 2),
        ("disagreement: {overall: at most 5%, each language: at most 7%, each tier: at most 9%}",
         {"overall": 0.05, "each language": 0.07, "each tier": 0.09}, 0),
    ],
)  # fmt: skip
def test_what_is_not_promised_is_taken_and_said(line, expected, notes):
    """All cases and each column of the cohorts have a promise; none that is taken is smaller than one that was written."""
    found, said = periods.promised(written(f"  {line}\n"))
    assert ({str(one.scope): one.bound.high for one in found}, len(said)) == (expected, notes)


@settings(deadline=None)
@given(st.integers(1, 14), st.integers(0, 2))
def test_calm_weeks_are_compared_first_with_last(weeks, partial):
    """Where nothing began: the first four complete weeks, or half of them, with the last four after those."""
    rows = [row(i, cohort, complete=i >= partial) for i in range(weeks) for cohort in ((), PT, EN)]
    found = periods.split(rows, (), ())
    names = [window(i) for i in range(weeks)]
    assert list(found.windows) == names
    if weeks == 1:
        assert (found.before, found.now, found.calm) == ((), (names[0],), ())
        return
    base = names[partial:] if weeks - partial >= 2 else names
    before = base[: min(WEEKS, len(base) // 2)]
    assert list(found.before) == before
    assert list(found.now) == [name for name in names[-WEEKS:] if name > before[-1]]
    assert list(found.calm) == names[-periods.CALM :]
    assert found.mixed is None


@pytest.mark.parametrize("onset", [6, 9])
def test_what_began_inside_a_cohort_begins_now(onset):
    """Weeks before a cohort escalated otherwise are compared with those from there on, and none of them vouches for now."""
    rows = [row(i, escalated=42 if i < onset else 36) for i in range(12)]
    rows += [row(i, PT, escalated=12 if i < onset else 5, decisions=40) for i in range(12)]
    rows += [row(i, EN, escalated=30, decisions=60) for i in range(12)]
    # Enough cases that the change is more than chance.
    rows = [with_ten_times_the_cases(each) for each in rows]
    found = periods.split(rows, (), ())
    assert list(found.now) == [window(i) for i in range(onset, 12)]
    assert list(found.before) == [window(i) for i in range(WEEKS)]
    assert (found.mixed, found.calm) == (None, ())


def with_ten_times_the_cases(one):
    """Multiply the counts of a week."""
    names = ("cases", "decisions", "escalated", "kept", "compared", "disagreed", "escalation_size", "traffic", "least", "least_size", "most", "most_size")  # fmt: skip
    return replace(one, **{name: 10 * getattr(one, name) for name in names})


def test_small_cohorts_are_pooled_by_their_cases_now():
    """What a cohort was before does not count, and cohorts of several columns go where their members go."""
    both = {"language": "pt", "tier": "free"}
    rows = [
        row(0, PT, decisions=500),
        row(1, PT, decisions=40),
        row(1, EN, decisions=60),
        row(1, both, decisions=500),
        row(1, decisions=90),
    ]
    found = periods.pooled(
        written("  cost: {overall: at most 50%}\n", "{language: {at least: 50 cases}, tier: {}}"), rows, [window(1)]
    )
    assert found == {
        (): (),
        (("language", "pt"),): (("language", "(other)"),),
        (("language", "en"),): (("language", "en"),),
        (("language", "pt"), ("tier", "free")): (("language", "(other)"), ("tier", "free")),
    }


def test_lost_signals_escalate_everything():
    """A week without a rate has escalated all of its cases where all of them did, and tells nothing where not."""
    known, lost, unknown = (
        row(0, escalated=30),
        row(1, escalated=100, escalation=None),
        row(2, escalated=30, escalation=None),
    )
    sums = periods._period([known, lost, unknown], [window(0), window(1), window(2)])
    np.testing.assert_allclose(sums.escalated, [30, 100, 0])
    np.testing.assert_allclose(sums.decisions, [100, 100, 100])
