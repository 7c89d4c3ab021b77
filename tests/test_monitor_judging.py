"""Weeks judged: alarms that stand and are let go, movements that are the traffic's, and what nothing was decided about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitored_rows import BUDGETS, PT, promised, row, window

from cascade_eval import monitor
from cascade_eval.monitor import Row


def test_an_alarm_stands_and_is_let_go():
    """Two bad weeks raise it; it ends when weeks are good again, and is then no reason to wake anybody."""
    counts = [3, 2, 18, 17, 1, 1, 1, 2, 2, 1, 2]
    rows = [row(i, disagreed=x) for i, x in enumerate(counts)]
    findings = monitor.judge(rows, promised(overall="at most 10%"))
    [alarm] = [finding for finding in findings.found if finding.test == "disagreement"]
    assert (alarm.first, alarm.standing, findings.outcome) == (window(2), False, "quiet")
    assert monitor.judge(rows[:4], promised(overall="at most 10%")).outcome == "alarm"


def test_a_cohort_sent_to_the_flagship_has_no_alarm_left():
    """Where nothing is kept there is nothing to be wrong about, and nothing to be shown either."""
    rows = [row(i, disagreed=20) for i in range(3)] + [row(3, escalated=100, disagreed=0, compared=0)]
    [watched] = monitor.judge(rows, promised(overall="at most 10%")).sequences
    assert watched.alarms == tuple(window(i) for i in range(3))
    assert watched.state == "not measured"


def test_a_route_to_the_flagship_ends_an_alarm_and_a_cache_does_not():
    """What a route takes off the gate is answered by the flagship; what a cache answers says nothing about the gate."""
    rows = [row(i, disagreed=20) for i in range(3)]
    away = {"escalated": 0, "decisions": 0, "disagreed": 0, "compared": 0, "kept": 0, "cases": 100}
    routed = monitor.judge([*rows, row(3, **away, routed=100)], promised(overall="at most 10%"))
    assert routed.alarms == ()
    assert routed.outcome == "undecided"
    assert monitor.judge([*rows, row(3, **away)], promised(overall="at most 10%")).outcome == "alarm"


def test_an_alarm_survives_weeks_that_measured_nothing():
    """Not asking the flagship any more does not end an alarm."""
    rows = [row(i, disagreed=20) for i in range(3)] + [row(3, disagreed=0, compared=0)]
    assert monitor.judge(rows, promised(overall="at most 10%")).outcome == "alarm"


def test_unknown_comparisons_count_against_both_claims():
    """Disagreements that may be 2 or 20 of 60 a week neither raise an alarm nor show the budget to hold."""
    rows = [row(i, disagreed=2, most=20.0) for i in range(6)]
    [watched] = monitor.judge(rows, promised(overall="at most 10%")).sequences
    assert (watched.first, watched.state) == (None, "open")


def test_a_year_of_healthy_weeks_is_quiet():
    """Three cohorts at half their budget, 52 weeks, five times over: hardly an alarm of any kind, in any week."""
    alarms = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = [
            row(i, {"language": name}, escalated=int(rng.binomial(100, 0.3)), disagreed=int(rng.binomial(60, 0.05)))
            for i in range(52)
            for name in ("en", "de", "pt")
        ]
        findings = monitor.judge(rows, promised(each_language="at most 10%"))
        alarms += sum(finding.alarm for finding in findings.found)
        assert {sequence.state for sequence in findings.sequences} <= {"within", "open"}
    assert alarms <= 1


def test_a_named_cohort_without_rows_is_not_measured():
    """A budget for a cohort the traffic never had is watched, and says that it saw nothing."""
    findings = monitor.judge([row(0)], promised(**{"language=no": "at most 8%"}))
    [watched] = findings.sequences
    assert (watched.state, watched.reason) == ("not measured", "no case in the last week")
    assert findings.outcome == "undecided"


@pytest.mark.parametrize(
    ("rows", "scopes", "outcome"),
    [
        ([], {"overall": "at most 10%"}, "undecided"),
        ([row(0)], {}, "undecided"),
        ([row(0, disagreed=0, compared=5)], {"overall": "at most 10%"}, "undecided"),
        ([row(i) for i in range(4)], {"overall": "at most 10%"}, "quiet"),
        ([*(row(i) for i in range(4)), row(4, disagreed=0, compared=0)], {"overall": "at most 10%"}, "undecided"),
        ([row(i) for i in range(4)], {"overall": "at least 1%"}, "undecided"),
    ],
    ids=["no rows", "no budget", "few audits", "enough", "a blind last week", "no upper bound"],
)
def test_nothing_decided_never_looks_like_quiet(rows, scopes, outcome):
    """Quiet needs a budget shown to hold, and a last week that was measured."""
    assert monitor.judge(rows, promised(**scopes)).outcome == outcome


def test_the_same_week_twice_is_refused():
    """A row that appears twice would count as two weeks of evidence."""
    with pytest.raises(ValueError, match="appears twice"):
        monitor.judge([row(0), row(0)], BUDGETS)
    with pytest.raises(ValueError, match="several suites"):
        monitor.judge([row(0), replace(row(1), suite="other")], BUDGETS)


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(order):
    """Rows are put in order of their weeks, over the end of a year too."""
    rows = [row(i + 18, disagreed=x) for i, x in enumerate((2, 2, 3, 15, 16, 14))]
    assert monitor.judge([rows[i] for i in order], BUDGETS) == monitor.judge(rows, BUDGETS)


def test_a_cohort_that_slides_has_a_trend_and_the_others_none():
    """One of three cohorts loses 3 points a week: it is named, with both ends; the others are not."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(12):
        for name, rate in (("en", 0.3), ("de", 0.3), ("pt", 0.45 - 0.03 * i)):
            rows.append(row(i, {"language": name}, decisions=400, escalated=int(rng.binomial(400, rate)), compared=0))
    findings = monitor.judge(rows, BUDGETS)
    trends = {finding.cohort for finding in findings.found if finding.test == "escalation trend"}
    assert trends == {tuple(PT.items())}
    assert findings.outcome == "alarm"


def test_partial_weeks_stay_out_of_movements_and_in_the_sequences():
    """Half a week in which everything was kept is no shift of escalation; its disagreements count all the same."""
    rows = [row(i) for i in range(8)] + [row(8, escalated=0, disagreed=30, complete=False)]
    findings = monitor.judge(rows, BUDGETS)
    assert not [finding for finding in findings.found if finding.test.startswith("escalation")]
    assert findings.first("disagreement") == window(8)
    whole = [replace(one, complete=True) for one in rows]
    assert monitor.judge(whole, BUDGETS).first("escalation shift") == window(8)


def test_a_fixed_set_that_moves_is_an_alarm_and_one_that_stays_is_none():
    """A judge that turns lenient is noticed in its week; a flat held-out set says nothing."""
    still = [Row("support", "current", "held-out", window(i), agreed=180, answered=200, cohort=()) for i in range(4)]
    judge = [
        Row("support", "current", "judge", window(i), agreed=x, answered=200, cohort=())
        for i, x in enumerate((190, 188, 150, 151))
    ]
    findings = monitor.judge([*still, *judge], [])
    assert [(f.test, f.first, f.standing) for f in findings.alarms] == [("fixed set: judge", window(2), True)]
    assert "went from 95% in 2026-W32 to 75.5% in 2026-W35 (n=200)" in findings.alarms[0].message
