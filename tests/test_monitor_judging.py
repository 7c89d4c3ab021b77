"""Weeks judged: alarms that stand and are let go, movements that are the traffic's, and what nothing was decided about."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monitored_rows import BUDGETS, EN, PT, promised, row, window

from cascade_eval import monitor, sequential
from cascade_eval.monitor import Finding, Findings, Row, Watched, sequences


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


OVERALL, FR = (), (("language", "fr"),)


def standing(cohort, state, cascade="current"):
    """Make a promise as it stands in the last week."""
    return Watched(cascade, cohort, 0.1, (window(0),), (0.0,), (), None, state)


def moved(cohort=FR, test="escalation shift", cascade="current", *, alarm=True, now=False):
    """Make a movement of one cohort."""
    return Finding(test, cascade, cohort, window(0), (window(0),), now, alarm, "it moved")


@pytest.mark.parametrize(
    ("found", "states", "suspected", "outcome"),
    [
        ([], ["within", "open"], 0, "quiet"),
        ([], ["open", "within"], 0, "quiet"),
        ([], ["open", "open"], 0, "undecided"),
        ([], ["not measured", "within"], 0, "undecided"),
        ([], ["within", "not measured"], 0, "quiet"),
        ([moved()], ["within", "within"], 0, "quiet"),
        ([moved()], ["within", "open"], 1, "undecided"),
        ([moved()], ["within", "not measured"], 1, "undecided"),
        ([moved(OVERALL)], ["within", "open"], 0, "quiet"),
        ([moved(cascade="other")], ["within", "open"], 0, "quiet"),
        ([moved(alarm=False)], ["within", "open"], 0, "quiet"),
        ([moved(test="escalation trend")], ["within", "open"], 0, "quiet"),
        ([moved(test="disagreement", now=True)], ["within", "within"], 0, "alarm"),
        ([moved(test="mix shift", alarm=False, now=True)], ["within", "within"], 0, "quiet"),
    ],
)
def test_a_cohort_whose_escalation_jumped_has_to_be_shown_to_hold(found, states, suspected, outcome):
    """Only an alarmed jump of the same cohort under the same cascade suspects it, and only until its promise is shown."""
    sequences = tuple(standing(cohort, state) for cohort, state in zip((OVERALL, FR), states, strict=True))
    findings = Findings(tuple(found), sequences, windows={"current": (window(0),)})
    assert (len(findings.suspicions), findings.outcome) == (suspected, outcome)
    assert not suspected or findings.suspicions == (sequences[1],)


def test_the_first_week_of_a_test_is_of_any_cohort_or_of_one():
    """Another test's earlier week, and another cohort's, are not the one that is asked for."""
    weeks = {(FR, "mix shift"): 1, (FR, "escalation shift"): 3, (OVERALL, "escalation shift"): 2}
    found = tuple(replace(moved(*which), first=window(week)) for which, week in weeks.items())
    findings = Findings(found)
    assert findings.first("escalation shift") == window(2)
    assert findings.first("escalation shift", dict(FR)) == window(3)
    assert findings.first("escalation shift", {"language": "pt"}) is None


def test_each_cascade_has_to_be_decided():
    """A cascade of which nothing is shown is not covered by another one, and no cascade at all is not quiet."""
    shown, unknown = standing(OVERALL, "within"), standing(OVERALL, "open", "other")
    both = {"current": (window(0),), "other": (window(0),)}
    assert Findings((), (shown, unknown), windows=both).outcome == "undecided"
    assert Findings((), (shown, standing(OVERALL, "within", "other")), windows=both).outcome == "quiet"
    assert Findings((), (shown,)).outcome == "undecided"


def test_a_cohort_is_vouched_for_from_the_week_of_its_last_jump():
    """Each cohort has its own last jump, in whatever order they were found; what is no jump sets no week."""
    later = replace(moved(), windows=(window(4), window(5)))
    for found in ([moved(), later], [later, moved()]):
        assert sequences.jumps([*found, moved(OVERALL), replace(later, alarm=False, windows=(window(6),))]) == {
            FR: window(4),
            OVERALL: window(0),
        }


@given(st.lists(st.booleans(), min_size=1, max_size=9))
@settings(deadline=None)
def test_an_alarm_stands_since_the_first_week_of_its_last_stretch(on):
    """Weeks in alarm that ended before are another alarm's."""
    weeks = [window(i) for i in range(len(on))]
    watched = Watched(
        "current",
        (),
        0.1,
        tuple(weeks),
        (),
        tuple(w for w, alarm in zip(weeks, on, strict=True) if alarm),
        None,
        "open",
    )
    stretches = [
        list(run) for alarm, run in itertools.groupby(zip(weeks, on, strict=True), key=lambda each: each[1]) if alarm
    ]
    assert watched.since == (stretches[-1][0][0] if stretches else None)


@given(
    st.lists(st.tuples(st.integers(13, 27), st.booleans(), st.sampled_from([None, "a", "b"])), min_size=1, max_size=12)
)
@settings(deadline=None)
@example([(week, False, "a") for week in range(13, 28)])
@example([(13, False, "a"), (14, False, "a"), (20, True, "a"), (21, False, "a")])
@example([(13, False, "a"), (14, False, None), (20, False, "b"), (21, False, "a")])
def test_what_may_show_a_rate_is_recent_and_of_the_same_cascade(drawn):
    """The last eight weeks of the calendar, all after any alarm, and none that was measured under another definition."""
    drawn = sorted({number: rest for number, *rest in drawn}.items())
    windows = [window(number) for number, _ in drawn]
    rows = [None if kind is None else row(number, definition=kind) for number, (_, kind) in drawn]
    alarms = np.array([alarm for _, (alarm, _) in drawn])
    last, kind = drawn[-1][0], drawn[-1][1][1]
    expected = [
        i
        for i, (number, (_, own)) in enumerate(drawn)
        if last - number < 8 and own in {None, kind} and not alarms[i:].any()
    ]
    assert sequences.recent(windows, rows, alarms) == (expected if kind is not None else [])


def watched(rows, most=10, jumped=None):
    """Watch one promise for all cases over rows."""
    return list(sequences.run("current", rows, promised(overall=f"at most {most}%"), 0.05, 100.0, jumped))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_weeks_that_compared_nothing_are_no_evidence(drawn):
    """However many weeks without a comparison stand between, the evidence after the others is what it was."""
    drawn = [(min(x, n), n) for x, n in drawn]
    plain = [row(i, disagreed=x, compared=n) for i, (x, n) in enumerate(drawn)]
    # Without a row of all cases a week is one only because a cohort has some.
    apart = [row(i * 30, disagreed=x, compared=n) for i, (x, n) in enumerate(drawn)]
    blank = [row(i * 30 + 1, disagreed=0, compared=0) for i in range(len(drawn))]
    missing = [row(i * 30 + k, EN, compared=0, disagreed=0) for i in range(len(drawn)) for k in range(2, 30)]
    [(one, _)], [(other, _)] = watched(plain), watched([*apart, *blank, *missing])
    assert other.log_m[::30] == pytest.approx(one.log_m)
    [(alone, _)] = watched([row(i, disagreed=0, compared=0) for i in range(120)])
    assert alone.alarms == ()


def test_weeks_of_single_comparisons_add_up():
    """A promise of at most 1% is broken by a few weeks of one comparison each, all of which disagree."""
    [(one, [found])] = watched([row(i, disagreed=1, compared=1) for i in range(6)], most=1)
    assert (one.state, found.evidence["nobs"]) == ("alarm", len(one.alarms))


def test_an_alarm_tells_of_its_own_weeks():
    """Neither the weeks before it nor the ones after count in its rate, and one without a row leaves it alone."""
    counts = [3, 2, 18, None, 17, 0, 0, 0, 1]
    rows = [row(i, disagreed=x) for i, x in enumerate(counts) if x is not None] + [row(3, EN)]
    for length, standing in ((5, True), (len(counts), False)):
        [(one, [found])] = watched([each for each in rows if each.window <= window(length - 1)])
        inside = [x for i, x in enumerate(counts) if x is not None and window(i) in one.alarms]
        assert (found.windows, found.standing, one.state == "alarm") == (one.alarms, standing, standing)
        assert found.evidence == {
            "disagreement": sum(inside) / (60 * len(inside)),
            "nobs": 60 * len(inside),
            "budget": 0.1,
        }
        when = f"since {one.since}" if standing else f"from {one.since} to {one.alarms[-1]}"
        assert f"of the unescalated answers {when} (n={60 * len(inside)})" in found.message


def test_what_went_before_a_jump_does_not_show_the_rate_after_it():
    """Of a cohort whose escalation jumped, only the weeks from there on may show that the promise holds."""
    rows = [row(i, disagreed=0, compared=12) for i in range(6)]
    assert [one.state for one, _ in watched(rows)] == ["within"]
    for jumped, proof, state in (({(): window(4)}, 2, "open"), ({FR: window(4)}, 6, "within"), ({}, 6, "within")):
        [(one, _)] = watched(rows, jumped=jumped)
        assert (len(one.proof), one.state) == (proof, state)


@pytest.mark.parametrize("nobs", [60, 200])
def test_a_promise_is_shown_where_the_bound_that_always_holds_is_within_it(nobs):
    """For every number of disagreements: within where the upper bound of the confidence sequence is, open where not."""
    counts = range(nobs // 8)
    found = [watched([row(0, disagreed=x, compared=nobs)])[0][0].state for x in counts]
    highs = [float(sequential.confidence_sequence(x, nobs)[1]) for x in counts]
    assert found == ["within" if high <= 0.1 else "open" for high in highs]
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("last", "state", "reason"),
    [
        ({"compared": 1, "disagreed": 0}, "within", None),
        ({"compared": 60, "reason": "coverage is 90%"}, "not measured", "coverage is 90%"),
        ({"compared": 0, "disagreed": 0, "reason": "no answer"}, "not measured", "no answer"),
        ({"compared": 0, "disagreed": 0}, "not measured", "no unescalated case was compared with the flagship"),
    ],
)
def test_the_last_week_has_to_be_measured(last, state, reason):
    """One comparison is enough where the weeks before show the rate; none, or a reason against them, is not."""
    after = replace(
        row(4, **{name: value for name, value in last.items() if name != "reason"}), reason=last.get("reason")
    )
    [(one, _)] = watched([*(row(i) for i in range(4)), after])
    assert (one.state, one.reason) == (state, reason)


def test_each_cohort_is_held_to_its_smallest_promise():
    """Cohorts of the columns that `each` names, those a line names by value, and all cases; no other ones."""
    scopes = {
        "overall": "at most 10%",
        "each_language": "at most 20%",
        "language=pt": "at most 5%",
        "tier=free": "at most 8%",
    }
    rows = [row(0, cohort) for cohort in ((), PT, EN, {"tier": "paid"}, {"language": "pt", "tier": "free"})]
    found = {one.cohort: one.budget for one, _ in sequences.run("current", rows, promised(**scopes), 0.05, 100.0)}
    assert found == {(): 0.1, (("language", "pt"),): 0.05, (("language", "en"),): 0.2, (("tier", "free"),): 0.08}


def test_a_promise_that_cannot_be_broken_is_not_watched():
    """At most 100% leaves nothing to show, and decides nothing."""
    assert watched([row(0)], most=100) == []


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
