"""Promises over weeks: judged by the sequence, on what was measured now before what was kept, and never by nothing."""

from __future__ import annotations

import contextlib
import math
import sqlite3

import jsonschema_rs
import numpy as np
import pytest
from suite_texts import changed, problems
from weeks_sample import (
    BAD,
    CALM,
    CALM_WEEKS,
    HISTORY,
    WATCHED,
    columns,
    judge,
    many,
    outcomes,
    remember,
    silent,
    text,
    write,
)

from cascade_eval import budgets, evidence, history, monitor, pytest_plugin, sequential, suite, traffic, weeks
from cascade_eval.errors import DataError
from cascade_eval.monitor import Finding

LARGE = {"en": (600, 0), "fr": (600, 0)}


# What is written


def test_a_promise_is_watched_by_words():
    """The phrase keeps its bound, says how it is judged, and reads the same however it is spaced."""
    plain, watched = budgets.parse("at most 10%", "rate"), budgets.parse("at most 10% ,watched  weekly", "rate")
    assert (watched.low, watched.high, watched.text) == (None, 0.1, "at most 10%, watched weekly")
    assert (plain.watched, watched.watched) == (False, True)


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("at most 10%, watched daily", "'watched daily' is no way to judge. Write 'at most 10%, watched weekly'"),
        ("at least 10%, watched weekly", "only 'at most' of disagreement can"),
        ("5% to 10%, watched weekly", "only 'at most' of disagreement can"),
        ("at most 100%, watched weekly", "cannot be watched"),
        ("at mots 10%, watched weekly", "'at mots 10%' is not a bound"),
    ],
)
def test_what_cannot_be_watched_is_said(phrase, said):
    """Only an upper bound of a rate can be watched, and only weekly."""
    [line] = problems(changed(("overall: at most 5%", f"overall: '{phrase}'")))
    assert said in line


def test_only_disagreement_can_be_watched():
    """Another metric has no sequence; the message gives the promise without it, and the line."""
    [line] = problems(
        changed(("confidence: 95%", "  quality: {overall: 'at most 10%, watched weekly'}\nconfidence: 95%"))
    )
    assert (
        "s.cascade.yaml:16: 'quality' cannot be watched weekly; only 'disagreement' can. Write 'at most 10%'." in line
    )


@pytest.mark.parametrize(
    ("metric", "phrase", "accepted"),
    [
        ("disagreement", "at most 10%, watched weekly", True),
        ("disagreement", "at least 10%, watched weekly", False),
        ("escalation", "at most 10%, watched weekly", False),
    ],
)
def test_editors_know_the_phrase(metric, phrase, accepted):
    """The schema of suites completes what can be watched and underlines what cannot."""
    written = {"traffic": "c", "history": "h", "cascades": {"a": "a.yaml"}, "budgets": {metric: {"overall": phrase}}}
    assert jsonschema_rs.validator_for(suite.schema()).is_valid(written) is accepted


# What is judged


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (CALM_WEEKS, {"overall": "pass", "language=en": "pass", "language=fr": "pass"}),
        ({**CALM_WEEKS, 30: BAD}, {"overall": "fail", "language=en": "pass", "language=fr": "fail"}),
        ({20: {"en": (9, 1)}}, {"overall": "inconclusive", "language=en": "inconclusive"}),
    ],
)
def test_a_watched_promise_is_what_the_sequence_says(tmp_path, own, expected):
    """An alarm that stands fails, a cohort shown to be within passes, anything else decides nothing."""
    assert outcomes(judge(tmp_path, own)) == expected


def test_the_verdicts_are_the_states_of_the_monitor(tmp_path):
    """Every verdict is the state that `monitor.judge` gives the same rows, cohort by cohort."""
    remember(tmp_path, {**dict.fromkeys(range(20, 28), CALM), 28: BAD})
    for week in (CALM, BAD, {"en": (60, 59), "fr": (60, 0)}):
        found = judge(tmp_path, {29: week}, HISTORY)
        own = monitor.weekly(found.suite, traffic.open(str(tmp_path / "cases.parquet")))
        kept = [row for row in history.read(tmp_path / "history") if row.window != "2026-W29"]
        states = {monitor.label(s.cohort): s.state for s in monitor.judge([*kept, *own], found.suite.budgets).sequences}
        words = {"alarm": "fail", "within": "pass", "open": "inconclusive"}
        assert outcomes(found) == {cohort: words.get(state, state) for cohort, state in states.items()}


def test_an_alarm_outlives_one_calm_week(tmp_path):
    """Two bad weeks in the history and a calm one now: the promise still fails, and alone it would not."""
    remember(tmp_path, {**dict.fromkeys(range(20, 28), CALM), 28: BAD, 29: BAD})
    mixed = {30: {"en": (60, 2), "fr": (60, 11)}}
    found = judge(tmp_path, mixed, HISTORY)
    assert outcomes(found)["language=fr"] == "fail"
    [verdict] = [v for v in found.verdicts if v.cohort == {"language": "fr"}]
    assert verdict.reason.startswith("An alarm stands since 2026-W28: 50.6% of 180 compared answers over the 3 weeks")
    assert outcomes(judge(tmp_path, mixed))["language=fr"] == "inconclusive"


def test_this_traffic_goes_before_the_history(tmp_path):
    """A week that is measured again replaces what was kept of it: a changed gate is judged by its own answers."""
    remember(tmp_path, {**CALM_WEEKS, 30: BAD})
    assert outcomes(judge(tmp_path, {30: CALM}, HISTORY))["language=fr"] == "pass"
    remember(tmp_path, {30: CALM})
    assert outcomes(judge(tmp_path, {30: BAD}, HISTORY))["language=fr"] == "fail"


def test_later_weeks_of_the_history_do_not_speak_for_this_traffic(tmp_path):
    """Calm weeks after this traffic's last one cannot end the alarm it raises; they are left out, and that is said."""
    remember(tmp_path, {**CALM_WEEKS, **dict.fromkeys(range(31, 40), LARGE)})
    found = judge(tmp_path, {30: BAD}, HISTORY)
    assert outcomes(found)["language=fr"] == "fail"
    assert any("has 9 weeks after 2026-W30" in note for note in found.record["notes"])


def test_an_alarm_after_this_traffic_is_not_passed_over(tmp_path):
    """An old sample, calm in its own week, passes nothing while the history's later weeks stand in alarm."""
    remember(tmp_path, {**CALM_WEEKS, **dict.fromkeys(range(31, 34), BAD)})
    found = judge(tmp_path, {30: CALM}, HISTORY)
    assert outcomes(found) == {"overall": "not measured", "language=en": "pass", "language=fr": "not measured"}
    [verdict] = [v for v in found.verdicts if v.cohort == {"language": "fr"}]
    assert verdict.reason == (
        "the history goes on to 2026-W33, where an alarm stands since 2026-W31: judge cases of that week"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("threshold: 0.8", "threshold: 0.1"),
        ("model: mini", "model: mini-2"),
        ("cohorts: [", "agreement: same label\ncohorts: ["),
    ],
)
def test_weeks_of_another_gate_prove_nothing(tmp_path, before, after):
    """A changed gate, model or rule of agreement is judged by its own answers, though ten good weeks went before it."""
    remember(tmp_path, dict.fromkeys(range(20, 30), LARGE))
    few = {30: {"en": (12, 1), "fr": (12, 1)}}
    assert set(outcomes(judge(tmp_path, few, HISTORY)).values()) == {"pass"}
    again = {name.replace("mini.", "mini-2."): column for name, column in columns(few).items()}
    found = judge(tmp_path, few, HISTORY.replace(before, after), changes=again if "mini-2" in after else None)
    assert set(outcomes(found).values()) == {"inconclusive"}
    assert any("were measured under another definition" in note for note in found.record["weeks"]["notes"])


def test_an_alarm_of_another_gate_still_stands(tmp_path):
    """Editing the gate is no way out of an alarm: it stands until the new answers have ended it."""
    remember(tmp_path, {**CALM_WEEKS, 28: BAD, 29: BAD})
    found = judge(tmp_path, {30: {"en": (60, 2), "fr": (60, 11)}}, HISTORY.replace("threshold: 0.8", "threshold: 0.7"))
    assert outcomes(found)["language=fr"] == "fail"


def test_weeks_long_past_prove_nothing(tmp_path):
    """Eight weeks are eight of the calendar: a sample half a year after the last one is judged by itself."""
    remember(tmp_path, dict.fromkeys(range(2, 12), LARGE))
    few = {"en": (12, 1), "fr": (12, 1)}
    assert set(outcomes(judge(tmp_path, {40: few}, HISTORY)).values()) == {"inconclusive"}
    assert set(outcomes(judge(tmp_path, {18: few}, HISTORY)).values()) == {"pass"}


def test_a_suite_outside_of_a_repository_keeps_its_weeks(tmp_path):
    """A job that judges an unpacked copy knows nothing of repositories, and takes the weeks under its name for its own."""
    for folder in ("repository/.git", "repository/suites", "unpacked"):
        (tmp_path / folder).mkdir(parents=True)
    remember(tmp_path / "repository/suites", CALM_WEEKS, into=tmp_path / "history")
    assert {row.origin for row in history.read(tmp_path / "history")} == {"suites/before/made.cascade.yaml"}
    found = judge(tmp_path / "unpacked", {30: CALM}, text(more="history: ../history\n"))
    assert set(outcomes(found).values()) == {"pass"}


def test_without_a_history_the_traffic_is_all_there_is_and_that_is_said(tmp_path):
    """The note counts the weeks, and each verdict says that it rests on this traffic alone."""
    found = judge(tmp_path, CALM_WEEKS)
    assert "rest on the 10 weeks of this traffic alone" in " ".join(found.record["notes"])
    assert all("of this traffic alone" in verdict.reason for verdict in found.verdicts)


def test_a_run_writes_nothing_into_the_history(tmp_path):
    """Judging leaves every file of the history as it was."""
    remember(tmp_path, CALM_WEEKS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "history").iterdir()}
    judge(tmp_path, {30: BAD}, HISTORY)
    assert {path.name: path.read_bytes() for path in (tmp_path / "history").iterdir()} == before


def test_each_line_has_its_own_sequence(tmp_path):
    """Two promises for one cohort are judged apart, each against its own rate."""
    two = "  disagreement:\n    each language: at most 50%, watched weekly\n    language=fr: at most 10%, watched weekly\n"
    week = {"en": (60, 2), "fr": (60, 12)}
    found = judge(tmp_path, dict.fromkeys(range(20, 30), week), text(two))
    assert [(str(v.bound), v.outcome) for v in found.verdicts if v.cohort == {"language": "fr"}] == [
        ("at most 50%, watched weekly", "pass"),
        ("at most 10%, watched weekly", "fail"),
    ]


def test_watched_lines_stay_out_of_the_other_corrections(tmp_path):
    """A plain line keeps its own family and level; the promise of the run counts it alone, and names the sequences."""
    budgets_ = WATCHED + "  escalation: {each language: at most 60%}\n"
    plain = judge(tmp_path, CALM_WEEKS, text("  escalation: {each language: at most 60%}\n"))
    both = judge(tmp_path, CALM_WEEKS, text(budgets_))
    assert [v.record() | {"line": 0} for v in both.verdicts if v.metric == "escalation"] == [
        v.record() | {"line": 0} for v in plain.verdicts
    ]
    assert {v.family for v in both.verdicts if v.scope == "each language"} == {2}
    assert "at most 1 × 0.05 = 0.05" in both.record["promise"]
    assert "Each of the 3 watched sequences fails by its own alarm" in both.record["promise"]


@pytest.mark.parametrize("wrong", [4, 9, 14])
def test_what_would_decide_decides(tmp_path, wrong):
    """So many more comparisons like these settle an open promise; half as many do not."""
    own = {20: {"en": (60, wrong)}}
    one = text("  disagreement: {overall: 'at most 10%, watched weekly'}\n")
    if wrong == 4:
        own = {20: {"en": (20, 1)}}
    found = judge(tmp_path, own, one)
    [verdict] = found.verdicts
    if verdict.cases_to_decide is None:
        assert "over 100,000 more cases" in verdict.reason
        return
    n, rate, size = verdict.cases_to_decide, float(verdict.estimate), verdict.estimate.nobs
    for times, decided in ((1.05, True), (0.5, False)):
        more = n * times
        if rate <= 0.1:
            log_e = sequential.log_e_process((size + more) * rate, (size + more) * (1 - rate), 0.1, claim="below")
            assert (log_e >= math.log(20)) == decided
        else:
            first = sequential.log_e_process(size * rate, size * (1 - rate), 0.1, *sequential.prior(0.1))
            week = sequential.log_e_process(more * rate, more * (1 - rate), 0.1, *sequential.prior(0.1))
            assert (np.logaddexp(first, 0) + week >= math.log(100)) == decided


def test_a_verdict_over_weeks_has_the_counts_of_its_weeks(tmp_path):
    """Count and n are those of the last eight weeks, and the bounds are a confidence sequence around their rate."""
    found = judge(tmp_path, CALM_WEEKS)
    [verdict] = [v for v in found.verdicts if v.cohort == {"language": "fr"}]
    low, high = sequential.confidence_sequence(24, 480)
    estimate = verdict.estimate
    assert (estimate.count, estimate.nobs, estimate.value) == (24, 480, 0.05)
    assert (estimate.low, estimate.high, estimate.method) == (low, high, "confidence sequence")


# What was not measured


@pytest.mark.parametrize("policy", ["fail", "warn"])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("another suite", "has no week of 'made' (it has other). Add one: cascade-eval monitor"),
        ("empty", "has no week of 'made' (it is empty)"),
        ("unreadable", "is not a readable Parquet file"),
        ("a file", "is a file; a history is a folder"),
        ("no time", "no column 'decided_at'"),
        ("some without time", "1 cases have no 'decided_at'"),
        ("another cascade", "has no week of the cascade 'renamed'"),
    ],
)
def test_lost_weeks_are_not_measured(tmp_path, how, reason, policy):
    """Where a history or a time is lost, every watched promise is not measured, and no option excuses that."""
    written, changes = silent(tmp_path, how)
    found = judge(tmp_path, {30: CALM}, f"{written}inconclusive: {policy}\n", changes=changes)
    assert set(outcomes(found).values()) == {"not measured"}
    assert outcomes(found).keys() == {"overall", "language=en", "language=fr"}
    assert all(reason in verdict.reason and not verdict.warned for verdict in found.verdicts)


def test_the_same_traffic_passes_where_the_weeks_are_found(tmp_path):
    """The table above is about lost weeks only: with its history the same traffic passes."""
    remember(tmp_path, CALM_WEEKS)
    assert set(outcomes(judge(tmp_path, {30: CALM}, HISTORY)).values()) == {"pass"}


def test_a_cohort_that_is_missing_now_is_not_measured(tmp_path):
    """A language of the last weeks without a case in this traffic has a verdict, and it is not a pass."""
    remember(tmp_path, {**CALM_WEEKS, 30: CALM})
    found = judge(tmp_path, {30: {"en": (60, 2)}}, HISTORY)
    assert outcomes(found) == {"overall": "pass", "language=en": "pass", "language=fr": "not measured"}
    assert evidence.build([found.record], selected={"items": 3, "of": 3})


def test_a_cohort_with_an_alarm_cannot_leave(tmp_path):
    """A language whose alarm stood when its cases ceased still fails, however long ago; a calm one is let go and named."""
    long_ago = {week: ({"en": (60, 2), "pt": (60, 40), "nl": (60, 1)} if week < 24 else CALM) for week in range(20, 40)}
    remember(tmp_path, long_ago)
    found = judge(tmp_path, {40: CALM}, HISTORY)
    assert outcomes(found)["language=pt"] == "fail"
    assert "language=nl" not in outcomes(found)
    assert any("no case in 8 weeks, not judged: language=nl" in note for note in found.record["notes"])


def test_one_named_cohort_nobody_has_is_a_mistake(tmp_path):
    """A name in no week is refused with the nearest one, as in every other budget."""
    with pytest.raises(DataError, match="no case has 'language=frr'"):
        judge(tmp_path, CALM_WEEKS, text("  disagreement: {language=frr: 'at most 10%, watched weekly'}\n"))


def test_weeks_nobody_looked_at_are_not_measured(tmp_path):
    """`suite.evaluate` without weeks says so instead of judging the cases as if they were one sample."""
    found = suite.load(write(tmp_path, CALM_WEEKS))
    evaluation = suite.evaluate(found, traffic.open(str(tmp_path / "cases.parquet")))
    assert set(outcomes(evaluation).values()) == {"not measured"}
    assert "runs.evaluate" in evaluation.verdicts[0].reason


def test_small_cohorts_are_judged_under_their_own_names(tmp_path):
    """Which cohorts are small changes weekly, so that sequences do not pool; nothing is judged twice or left out."""
    week = {"en": (60, 2), "nl": (6, 0), "pt": (6, 5)}
    found = judge(tmp_path, dict.fromkeys(range(20, 30), week), text(cohorts="{language: {at least: 200 cases}}"))
    assert outcomes(found) == {
        "overall": "inconclusive", "language=en": "pass", "language=nl": "pass", "language=pt": "fail",
    }  # fmt: skip


def test_a_routed_cohort_is_not_judged(tmp_path):
    """What a route sends to the flagship keeps nothing that could disagree."""
    routed = text().replace(
        "  current:\n", "  current:\n   routes: [{when: {language: fr}, start: flagship}]\n   tiers:\n"
    )
    assert outcomes(judge(tmp_path, CALM_WEEKS, routed)) == {"overall": "pass", "language=en": "pass"}


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:s3cret@127.0.0.1:9/weeks", "nosuch+driver://me:s3cret@host/x?password=s3cret"]
)
def test_a_password_is_never_shown(tmp_path, url):
    """A database that cannot be reached is named without its password, in verdicts, notes and evidence."""
    found = judge(tmp_path, {30: CALM}, text(more=f"history: {url}\n"))
    assert set(outcomes(found).values()) == {"not measured"}
    everything = f"{found.verdicts}{found.record}{found.suite}"
    assert "s3cret" not in everything
    assert "the history" in found.verdicts[0].reason


def test_a_database_is_a_history(tmp_path):
    """A table kept by `monitor` is read like a folder, by a path relative to the suite."""
    week, written = {30: {"en": (60, 2), "fr": (60, 11)}}, text(more="history: sqlite:///weeks.db\n")
    found = suite.load(write(tmp_path, {**CALM_WEEKS, 28: BAD, 29: BAD}))
    history.write(
        f"sqlite:///{tmp_path / 'weeks.db'}", monitor.weekly(found, traffic.open(str(tmp_path / "cases.parquet")))
    )
    assert outcomes(judge(tmp_path, week, written))["language=fr"] == "fail"


def test_reading_a_database_makes_nothing(tmp_path):
    """Neither a file that is not there nor a table that is missing comes into being, and both are not measured."""
    written = text(more="history: sqlite:///weeks.db\n")
    lost = judge(tmp_path, {30: CALM}, written)
    assert not (tmp_path / "weeks.db").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "weeks.db")) as database:
        database.execute("create table other (x)")
        empty = judge(tmp_path, {30: CALM}, written)
        assert database.execute("select name from sqlite_master").fetchall() == [("other",)]
    assert set(outcomes(lost).values()) == set(outcomes(empty).values()) == {"not measured"}
    assert "no such database file" in lost.verdicts[0].reason
    assert "it is empty" in empty.verdicts[0].reason


# Through pytest


TESTED = """
import pytest

pytestmark = pytest.mark.cascade("made.cascade.yaml")


def test_disagreement(cohort):
    assert cohort.unescalated.disagreement <= 0.9
"""


def test_pytest_judges_by_the_history(pytester, monkeypatch):
    """Suites in YAML and tests in Python see the same weeks, also one at a time, and leave them in the evidence."""
    for name in ("CI", "GITHUB_ACTIONS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    remember(pytester.path, {**dict.fromkeys(range(20, 28), CALM), 28: BAD, 29: BAD})
    write(pytester.path, {30: {"en": (60, 2), "fr": (60, 11)}}, HISTORY)
    pytester.makepyfile(test_made=TESTED)
    files = ("made.cascade.yaml", "test_made.py", "--cascade-evidence=e.json", "--cascade-report=r.html")
    done = pytester.runpytest_inprocess(*files, plugins=[pytest_plugin])
    assert done.parseoutcomes() == {"passed": 3, "failed": 2}
    done.stdout.fnmatch_lines(["*made: disagreement · language=fr*", "*An alarm stands since 2026-W28*"])
    [record] = evidence.read(pytester.path / "e.json")["suites"]
    assert {row["window"] for row in record["weeks"]["rows"]} >= {"2026-W20", "2026-W30"}
    assert [s["state"] for s in record["sequences"] if s["cohort"] == {"language": "fr"}] == ["alarm"]
    assert "alarm since 2026-W28" in (pytester.path / "r.html").read_text()
    one = pytester.runpytest_inprocess("made.cascade.yaml", "-k", "fr", plugins=[pytest_plugin])
    assert one.parseoutcomes() == {"failed": 1, "deselected": 2}


# What evidence keeps


def test_evidence_keeps_what_needs_attention():
    """52 weeks and 40 cohorts are kept; the smallest one is among them because of its alarm; what was cut is counted."""
    rows = list(many())
    promised = [
        budgets.Budget("disagreement", budgets.parse_scope(scope), budgets.parse("at most 20%", "rate"))
        for scope in ("overall", "each language")
    ]
    blocks = weeks.blocks(rows, monitor.judge(rows, promised))
    kept = {tuple(row["cohort"].values()) for row in blocks["weeks"]["rows"]}
    assert len(kept) == 40
    assert {(), ("l59",)} <= kept
    assert len({row["window"] for row in blocks["weeks"]["rows"]}) == 52
    assert blocks["weeks"]["cut"] == [
        "current: 21 of 61 cohorts are left out, those that need attention are kept",
        "current: 18 earlier weeks are left out",
    ]
    [alarm] = [one for one in blocks["sequences"] if one["state"] == "alarm"]
    assert (alarm["cohort"], alarm["alarms"], len(alarm["log_m"])) == (
        {"language": "l59"},
        ["2026-W17", "2026-W18"],
        52,
    )


def test_evidence_keeps_cohorts_that_moved():
    """A small cohort of which something is said is kept before larger ones of which nothing is."""
    rows = list(many(windows=3))
    small = (("language", "l57"),)
    moved = Finding("escalation trend", "current", small, "2025-W03", ("2025-W03",), True, True, "it moved")
    found = monitor.Findings((moved,), windows={"current": ("2025-W01", "2025-W02", "2025-W03")})
    kept = {tuple(row["cohort"].values()) for row in weeks.blocks(rows, found)["weeks"]["rows"]}
    assert ("l57",) in kept
    assert {("l56",), ("l58",)}.isdisjoint(kept)


def test_evidence_without_weeks_is_read_as_before(tmp_path):
    """A suite that has nothing to do with weeks leaves the new parts empty, and evidence that lacks them is read."""
    plain = judge(tmp_path, CALM_WEEKS, text("  disagreement: {overall: at most 10%}\n")).record
    assert "weeks" not in plain
    built = evidence.build([plain], selected={"items": 1, "of": 1})
    assert [built["suites"][0][key] for key in ("weeks", "sequences", "movements", "audit", "findings")] == [
        None,
        [],
        [],
        None,
        [],
    ]
    old = {**built, "suites": [plain]}
    path = evidence.write(tmp_path / "old.json", old)
    assert evidence.read(path) == built


def test_evidence_refuses_an_alarm_that_is_none(tmp_path):
    """A sequence whose alarm stands in the last week cannot be stored as anything else."""
    record = judge(tmp_path, {**CALM_WEEKS, 30: BAD}).record
    for sequence in record["sequences"]:
        sequence["state"] = "within"
    with pytest.raises(evidence.errors.UsageError, match="an alarm stands in the last week"):
        evidence.build([record], selected={"items": 1, "of": 1})


def test_weeks_are_shown_wherever_there_is_a_history(tmp_path):
    """A suite with a history and plain budgets is judged as ever, and its weeks and sequences are in the evidence."""
    remember(tmp_path, CALM_WEEKS)
    plain = "  disagreement: {overall: at most 10%}\n"
    found = judge(tmp_path, {30: CALM}, text(plain, more="history: history\n"))
    assert found.verdicts[0].estimate.method == "clopper-pearson"
    assert len({row["window"] for row in found.record["weeks"]["rows"]}) == 11
    lost = judge(tmp_path, {30: CALM}, text(plain, more="history: nowhere\n"))
    assert outcomes(lost) == {"overall": "pass"}
    assert any("weeks are not shown: the history nowhere has no week" in note for note in lost.record["notes"])
