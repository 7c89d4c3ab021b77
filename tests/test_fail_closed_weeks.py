"""Attempts to pass by weeks of something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner
from weeks_sample import BAD, CALM, judge, outcomes, remember, text, write

from cascade_eval import cli, diagnosis, evidence, history, monitor, suite, traffic
from cascade_eval.errors import UsageError

CALM_WEEKS = dict.fromkeys(range(20, 30), CALM)


def test_suites_of_one_name_do_not_share_their_weeks(tmp_path):
    """In one repository, weeks of another suite under the same file name prove nothing, and none is written over them."""
    (tmp_path / ".git").mkdir()
    for team in ("a", "b"):
        (tmp_path / team).mkdir()
    remember(tmp_path / "a", CALM_WEEKS, into=tmp_path / "history")
    (tmp_path / "a" / "made.cascade.yaml").write_text(text(), encoding="utf-8")
    (tmp_path / "a" / "before" / "made.cascade.yaml").rename(tmp_path / "a" / "before" / "other.yaml")
    shared = text(more="history: ../history\n")
    moved = judge(tmp_path / "b", {30: CALM}, shared)
    assert outcomes(moved)["overall"] == "pass", "a suite that moved keeps its weeks"
    (tmp_path / "a" / "before" / "other.yaml").rename(tmp_path / "a" / "before" / "made.cascade.yaml")
    found = judge(tmp_path / "b", {30: CALM}, shared)
    assert set(outcomes(found).values()) == {"not measured"}
    assert "keeps weeks of a/before/made.cascade.yaml under the same name, 'made'" in found.verdicts[0].reason
    before = history.read(tmp_path / "history")
    for command in ("monitor", "diagnose"):
        arguments = [command, str(tmp_path / "b/made.cascade.yaml"), "--history", str(tmp_path / "history")]
        said = CliRunner().invoke(cli.commands, arguments)
        assert isinstance(said.exception, UsageError)
        assert "Call one of the suites otherwise" in str(said.exception)
    assert history.read(tmp_path / "history") == before
    mine = suite.load(tmp_path / "b" / "made.cascade.yaml")
    with pytest.raises(UsageError, match="keeps weeks of a/before/made"):
        diagnosis.run(mine, traffic.open(tmp_path / "b" / "cases.parquet"), rows=before)


@pytest.fixture
def watch(tmp_path, capsys):
    """Run the command `monitor` on some weeks; return its exit code and what it said."""

    def run(weeks, *options):
        arguments = ["monitor", str(write(tmp_path, weeks)), "--history", str(tmp_path / "history"), *options]
        code = cli.run(arguments)
        return code, capsys.readouterr().out

    return run


def test_an_alarm_is_not_ended_by_leaving_out_the_weeks_that_raised_it(tmp_path, watch):
    """`--since` says what escalation is compared with; an alarm stands until weeks end it, and then it is over."""
    remember(tmp_path, CALM_WEEKS | {30: BAD, 31: BAD})
    assert watch({32: CALM})[0] == 1
    code, said = watch({32: CALM}, "--since", "2026-W32")
    assert code == 1
    assert "the alarm of language=fr stands since 2026-W30, before 2026-W32" in said
    assert "ALARM 2026-W30  disagreement · language=fr" in said
    assert watch(dict.fromkeys(range(32, 36), CALM))[0] == 0
    assert watch(dict.fromkeys(range(32, 36), CALM), "--since", "2026-W32")[0] == 0


def test_a_report_of_some_weeks_hides_no_alarm_of_the_others(tmp_path, watch):
    """The promises on the report are judged by all weeks, too."""
    remember(tmp_path, CALM_WEEKS | {30: BAD, 31: BAD})
    code, _ = watch({32: CALM}, "--since", "2026-W32", "--evidence", str(tmp_path / "evidence.json"))
    assert code == 1
    [judged] = evidence.read(tmp_path / "evidence.json")["suites"]
    found = {one["scope"]: one["outcome"] for one in judged["cascades"][0]["verdicts"]}
    assert found["each language"] == "fail"


def test_a_week_that_is_not_handed_in_is_missed(tmp_path, watch):
    """Weeks between others that nobody looked at are said; what was not handed in raises no alarm."""
    remember(tmp_path, dict.fromkeys((20, 21, 23), CALM))
    _, said = watch({28: CALM})
    assert "no case of 5 weeks between others, lately between 2026-W23 and 2026-W28" in said
    _, said = watch(dict.fromkeys(range(20, 29), CALM))
    assert "nobody knows" not in said


def test_weeks_are_counted_across_years(tmp_path):
    """The last week of a year and the first of the next one are neighbours, be it a year of 52 or of 53 weeks."""
    for before, after in (("2025-W52", "2026-W01"), ("2026-W53", "2027-W01"), ("2020-W53", "2021-W01")):
        rows = [monitor.Row("s", "c", "production", week, (), kept=10, most_size=10.0) for week in (before, after)]
        assert not any("nobody knows" in note for note in monitor.judge(rows, []).notes)
        assert any("no case of 1 week" in note for note in monitor.judge([rows[0], *_later(rows[1])], []).notes)


def _later(row):
    """Return the week after the row's in its place."""
    year, week = row.window.split("-W")
    return [replace(row, window=f"{year}-W{int(week) + 1:02}")]


def test_a_clock_that_was_wrong_silences_no_alarm(tmp_path, watch):
    """Weeks that have not begun are left out, so that the alarm of this one is not called past."""
    remember(tmp_path, CALM_WEEKS | {30: BAD})
    calm = monitor.weekly(suite.load(write(tmp_path, {31: CALM})), traffic.open(str(tmp_path / "cases.parquet")))
    for week in range(1, 9):
        history.write(tmp_path / "history", [replace(row, window=f"2099-W{week:02}") for row in calm])
    code, said = watch({31: BAD})
    assert code == 1
    assert "note: the history has 8 weeks that have not begun, the last 2099-W08" in said


def test_a_history_that_was_lost_is_said_to_begin_again(tmp_path, watch):
    """One week may prove itself; that no earlier one is known is not passed over."""
    assert "begins with this traffic: it had no earlier week of this suite" in watch({30: CALM})[1]
    assert "begins with this traffic" not in watch({31: CALM})[1]


ENGLISH = "  disagreement: {language=en: 'at most 20%, watched weekly'}\n"


def test_a_cohort_that_no_budget_speaks_of_is_not_passed_over(tmp_path):
    """Where it is over every budget there is, that is said; the weeks themselves promise nothing about it."""
    for week, said in ((BAD, True), (CALM, False)):
        found = suite.load(write(tmp_path, {31: week}, text(ENGLISH)))
        rows = monitor.weekly(found, traffic.open(str(tmp_path / "cases.parquet")))
        notes = " ".join(monitor.judge(rows, found.budgets).notes)
        expected = (
            "the flagship disagrees with 66.7% of the unescalated answers of language=fr in 2026-W31 (at least 55"
        )
        assert (expected in notes) is said


def test_a_cohort_that_is_missing_makes_no_week_one_of_another_definition(tmp_path, watch):
    """A week measured again without a cohort is a week of the same cascade."""
    remember(tmp_path, CALM_WEEKS | {31: CALM})
    _, said = watch({31: {"en": CALM["en"]}})
    assert "under another definition" not in said
    assert "language=fr" in said


def test_a_week_measured_again_on_fewer_cases_says_so(tmp_path, watch):
    """Without just the cases that disagreed a week looks fine; that they are gone is said, the last week's, too."""
    remember(tmp_path, CALM_WEEKS | {30: BAD, 31: CALM})
    _, said = watch({30: {"en": CALM["en"], "fr": (30, 3)}, 31: {"en": CALM["en"], "fr": (45, 3)}})
    assert (
        "note: 2026-W30: 120 cases of this traffic replace the 160 the history kept: make sure that none was lost"
        in said
    )
    assert "note: 2026-W31: 140 cases of this traffic replace the 160 the history kept" in said
    _, said = watch({30: BAD, 31: CALM})
    assert "make sure that none was lost" not in said
