"""Weeks of a cascade: rows as counted by hand, alarms in the right week and cohort, silence where nothing is wrong."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from monitored_rows import BUDGETS, EN, PT, row

from cascade_eval import errors, history, monitor, suite, traffic, weeks
from cascade_eval.cli.diagnose import diagnose
from cascade_eval.cli.monitor import lines
from cascade_eval.cli.monitor import monitor as command

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA is not set")

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "suites" / "weekly_replay.cascade.yaml"

TEXT = """
traffic: {data}
cascades:
  current:
    - {{tier: mini, model: mini, gate: {{signal: confidence, threshold: 0.5}}}}
    - {{tier: flagship, model: big}}
agreement: same label
cohorts: [language]
budgets:
  disagreement: {{overall: at most 10%, each language: at most 20%}}
"""


def weeks_of(path, *goldens):
    """Write several goldens of this project as one file; return its path."""
    tables = [pq.read_table(ROOT / "goldens" / golden / "cases.parquet") for golden in goldens]
    pq.write_table(pa.concat_tables(tables), path)
    return str(path)


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """Rows of ten healthy weeks and six of each continuation."""
    folder, found = tmp_path_factory.mktemp("weeks"), suite.load(SUITE)
    return {
        name: monitor.weekly(found, traffic.open(weeks_of(folder / f"{name}.parquet", "incident", name)))
        for name in ("incident_saturated", "incident_mix_shift")
    }


def judged(rows):
    """Judge rows by the suite's budgets."""
    return monitor.judge(rows, suite.load(SUITE).budgets)


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_are_what_one_would_count_in_pandas(sixteen):
    """Decisions, escalation, comparison, cost, share and latency of each week and language."""
    frame = pd.concat(
        pd.read_parquet(ROOT / "goldens" / name / "cases.parquet") for name in ("incident", "incident_saturated")
    )
    iso = frame.decided_at.dt.isocalendar()
    frame["window"] = iso.year.astype(str) + "-W" + iso.week.astype(str).str.zfill(2)
    frame["kept"] = frame["mini.confidence"] >= 0.80
    frame["differs"] = frame["mini.answer"] != frame["flagship.answer"]
    frame["paid"] = frame["mini.cost_usd"] + frame["flagship.cost_usd"].where(~frame.kept, 0)
    frame["took"] = frame["mini.latency_s"] + frame["flagship.latency_s"].where(~frame.kept, 0)
    rows = {(one.window, one.cohort): one for one in sixteen["incident_saturated"]}
    assert len(rows) == 16 * 3
    for (week, language), mine in frame.groupby(["window", "language"]):
        one = rows[week, (("language", language),)]
        kept = mine[mine.kept]
        assert (one.decisions, one.escalated) == (len(mine), len(mine) - len(kept))
        assert (one.compared, one.disagreed) == (len(kept), int(kept.differs.sum()))
        assert one.cost_per_request == pytest.approx(mine.paid.mean())
        assert one.share == pytest.approx(len(mine) / (frame.window == week).sum())
        assert one.cost_ratio == pytest.approx(mine.paid.sum() / mine["flagship.cost_usd"].sum())
        assert one.latency_p50 == pytest.approx(mine.took.median(), rel=0.02)
        assert one.latency_p95 == pytest.approx(mine.took.quantile(0.95), rel=0.1)
        assert one.complete


def test_rows_of_parts_of_the_traffic_are_the_same_rows(sixteen):
    """Week by week or all at once: a job that sees one golden at a time writes the rows of one that sees both."""
    found = suite.load(SUITE)
    parts = [
        one
        for golden in ("incident", "incident_saturated")
        for one in monitor.weekly(found, traffic.open(str(ROOT / "goldens" / golden / "cases.parquet")))
    ]
    assert tuple(parts) == sixteen["incident_saturated"]


def small(tmp_path, **columns):
    """Write a suite and traffic of a few cases, two a day from Monday, 3 August 2026 on."""
    n = len(columns["confidence"])
    base = {
        "case_id": [f"c{i}" for i in range(n)],
        "decided_at": [dt.datetime(2026, 8, 3, tzinfo=dt.UTC) + dt.timedelta(hours=12 * i) for i in range(n)],
        "language": ["en"] * n,
        "mini.answer": ["a"] * n,
        "big.answer": ["a"] * n,
    }
    columns["mini.confidence"] = columns.pop("confidence")
    pq.write_table(pa.table({**base, **columns}), tmp_path / "cases.parquet")
    path = tmp_path / "few.cascade.yaml"
    path.write_text(TEXT.format(data="cases.parquet"), encoding="utf-8")
    found = suite.load(path)
    return found, traffic.open(str(tmp_path / "cases.parquet"))


def test_partial_weeks_are_marked(tmp_path):
    """Traffic from a Thursday to a Tuesday covers one week of three."""
    start = dt.datetime(2026, 8, 6, tzinfo=dt.UTC)
    times = [start + dt.timedelta(hours=6 * i) for i in range(4 * 13)]
    found, cases = small(tmp_path, confidence=[0.9] * len(times), decided_at=times)
    overall = [(one.window, one.complete) for one in monitor.weekly(found, cases) if not one.cohort]
    assert overall == [("2026-W32", False), ("2026-W33", True), ("2026-W34", False)]


def test_only_what_an_audit_drew_is_compared(tmp_path):
    """With `audit_probability`, the flagship's answers on other unescalated cases are not looked at."""
    found, cases = small(
        tmp_path,
        confidence=[0.9] * 12 + [0.1] * 2,
        audit_probability=[0.5, None] * 6 + [None, None],
        **{"big.answer": ["a", "b"] * 6 + ["a", "a"]},
    )
    one = monitor.weekly(found, cases)[0]
    assert (one.kept, one.compared, one.disagreed, one.reason) == (12, 6, 0, None)
    assert one.least_size == pytest.approx(6.0)


def test_what_was_not_measured_says_so(tmp_path):
    """Without the flagship's answers a row has a reason and no rate, and the monitor decides nothing."""
    found, cases = small(tmp_path, confidence=[0.9] * 14, **{"big.answer": [None] * 14})
    rows = monitor.weekly(found, cases)
    assert all(one.disagreement is None and "audited is 0" in one.reason for one in rows)
    findings = monitor.judge(rows, found.budgets)
    assert findings.outcome == "undecided"
    assert {sequence.state for sequence in findings.sequences} == {"not measured"}


@pytest.mark.parametrize(
    ("missing", "counted"), [(0, (10, 100, 10)), (1, (10, 100, 11)), (8, (10, 100, 18)), (11, (0, 0, 0))]
)
def test_a_few_missing_comparisons_count_against_every_claim(tmp_path, missing, counted):
    """As agreeing for an alarm, as disagreeing for its absence, also below the floor of 99%; above 10% nothing counts."""
    times = [dt.datetime(2026, 8, 3, tzinfo=dt.UTC) + dt.timedelta(hours=i) for i in range(100)]
    answers = ["b"] * 10 + ["a"] * (90 - missing) + [None] * missing
    found, cases = small(tmp_path, confidence=[0.9] * 100, decided_at=times, **{"big.answer": answers})
    one = monitor.weekly(found, cases)[0]
    assert (one.least, one.least_size, one.most) == counted
    assert (one.reason is None) == (missing <= 1)


def test_what_a_route_sends_to_the_flagship_is_counted_and_is_no_decision(tmp_path):
    """Three of fourteen cases are routed; of the others four are escalated by the gate."""
    small(tmp_path, confidence=[0.9] * 7 + [0.1] * 7, language=["en"] * 11 + ["pt"] * 3)
    path = tmp_path / "few.cascade.yaml"
    routed = "current:\n    routes: [{when: {language: [pt]}, start: flagship}]\n    tiers:\n    - {tier: mini"
    path.write_text(path.read_text(encoding="utf-8").replace("current:\n    - {tier: mini", routed), encoding="utf-8")
    rows = monitor.weekly(suite.load(path), traffic.open(str(tmp_path / "cases.parquet")))
    assert [(one.routed, one.decisions, one.escalated) for one in rows] == [(3, 11, 4), (0, 11, 4), (3, 0, 0)]


def test_cases_of_unknown_path_leave_nothing_to_count(tmp_path):
    """A fifth without a row of the first tier: that all others agree is evidence for nothing."""
    times = [dt.datetime(2026, 8, 3, tzinfo=dt.UTC) + dt.timedelta(hours=i) for i in range(100)]
    answers, confidence = ["a"] * 80 + [None] * 20, [0.9] * 80 + [None] * 20
    found, cases = small(tmp_path, confidence=confidence, decided_at=times, **{"mini.answer": answers})
    one = monitor.weekly(found, cases)[0]
    assert (one.escalation, one.disagreement, one.compared) == (None, None, 80)
    assert (one.least_size, one.most_size) == (0, 0)


def test_a_threshold_chosen_on_this_data_proves_nothing_about_it(tmp_path):
    """Not even what a week below the floor would show."""
    found, cases = small(tmp_path, confidence=[0.9] * 14)
    text = (tmp_path / "few.cascade.yaml").read_text(encoding="utf-8")
    chosen = text.replace("threshold: 0.5", f"threshold: 0.5, chosen_on: {cases.sha256()}")
    found = suite.parse(chosen, file="few.cascade.yaml", base=tmp_path)
    one = monitor.weekly(found, cases)[0]
    assert "chosen on this data" in one.reason
    assert one.least_size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["decided_at"]), "no column 'decided_at'"),
        (lambda table: table.slice(0, 0), "no cases"),
        (
            lambda table: table.set_column(
                1, "decided_at", pa.array([None, *table["decided_at"].to_pylist()[1:]], table["decided_at"].type)
            ),
            "1 cases have no 'decided_at'",
        ),
    ],
    ids=["no column", "no case", "a null"],
)
def test_cases_without_a_week_are_refused(tmp_path, change, message):
    """Nothing is left out silently."""
    found, _ = small(tmp_path, confidence=[0.9] * 14)
    file = tmp_path / "cases.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(errors.UsageError, match=message):
        monitor.weekly(found, traffic.open(str(file)))


# --- the incident --------------------------------------------------------------------------------------------------


def test_saturation_is_named_in_its_first_week(sixteen):
    """Week 11 (2026-W38): the sequence and the shift fire in Portuguese, and nothing ever fires in English."""
    findings = judged(sixteen["incident_saturated"])
    assert findings.outcome == "alarm"
    assert findings.first("disagreement", PT) == "2026-W38"
    assert findings.first("escalation shift", PT) == "2026-W38"
    assert findings.first("mix shift") == "2026-W34"
    assert not [finding for finding in findings.found if finding.cohort == tuple(EN.items())]
    assert [finding.cohort for finding in findings.alarms] == [(), tuple(PT.items())]


def test_on_the_mix_shift_nothing_fires_but_the_mix_shift(sixteen):
    """The same traffic with a healthy small model: no alarm, ever; promises shown to hold; the new traffic named."""
    findings = judged(sixteen["incident_mix_shift"])
    assert findings.outcome == "quiet"
    assert not [finding for finding in findings.found if finding.alarm]
    [shift] = [finding for finding in findings.found if finding.test == "mix shift"]
    assert shift.cohort == tuple(PT.items())
    assert "did not measurably change" in shift.message
    assert shift.evidence["low"] <= 0 <= shift.evidence["high"]


def test_a_rule_of_five_points_cannot_tell_the_two_apart(sixteen):
    """It fires in week 9 of both, because of growth alone."""
    assert {judged(rows).first("aggregate rule") for rows in sixteen.values()} == {"2026-W36"}


def test_a_small_cohort_saturates_unseen_by_the_aggregate(tmp_path):
    """With Portuguese kept at 5% of the traffic the rule of five points never fires; the cohort is named at once."""
    tables = [pq.read_table(ROOT / "goldens" / name / "cases.parquet") for name in ("incident", "incident_saturated")]
    table = pa.concat_tables(tables)
    hashed = np.array([int(name[1:]) % 4 for name in table["case_id"].to_pylist()])
    late = np.array(table["week"].to_pylist()) > 6
    rare = (hashed > 0) & late & (np.array(table["language"].to_pylist()) == "pt")
    pq.write_table(table.filter(pa.array(~rare)), tmp_path / "small.parquet")
    findings = judged(monitor.weekly(suite.load(SUITE), traffic.open(str(tmp_path / "small.parquet"))))
    assert findings.first("aggregate rule") is None
    assert findings.first("disagreement", PT) == "2026-W38"
    assert findings.first("escalation shift", PT) == "2026-W38"


def test_the_splits_add_up_to_the_change(sixteen):
    """Every week's change against the first four is within plus mix, and the standardised series moves by within alone."""
    rows = sixteen["incident_saturated"]
    overall = {one.window: one.escalation for one in rows if not one.cohort}
    start = np.mean([overall[week] for week in sorted(overall)[:4]])
    changes = judged(rows).changes
    assert len(changes) == 12
    for change in changes:
        assert change.total == pytest.approx(overall[change.window] - start)
        assert change.within + change.mix == pytest.approx(change.total)
    assert changes[-1].within < -0.05 < 0.002 < changes[-1].mix


def test_a_history_gives_the_same_findings(sixteen, tmp_path):
    """Weeks written by two jobs and read back are judged like weeks at hand."""
    rows = sixteen["incident_saturated"]
    history.write(tmp_path, [one for one in rows if one.window < "2026-W38"])
    history.write(tmp_path, [one for one in rows if one.window >= "2026-W37"])
    assert judged(history.read(tmp_path)) == judged(rows)


def test_other_traffic_explains_the_movement_of_other_columns(tmp_path):
    """New Portuguese cases raise every intent's escalation: a note that says why, no alarm."""
    found = suite.load(ROOT / "suites" / "signoff.cascade.yaml")
    cases = traffic.open(weeks_of(tmp_path / "both.parquet", "incident", "incident_mix_shift"))
    findings = monitor.judge(monitor.weekly(found, cases), found.budgets)
    assert findings.outcome == "quiet"
    moved = [finding for finding in findings.found if finding.test.startswith("escalation")]
    assert moved
    assert all(not finding.alarm and "the new mix of language explains it" in finding.message for finding in moved)


# --- fixed sets ----------------------------------------------------------------------------------------------------


def test_a_held_out_set_is_counted_whoever_settles(tmp_path):
    """Agreement of the first tier with the flagship over all cases of the set, overall and by cohort."""
    answers = ["a"] * 12 + ["b"] * 2
    found, cases = small(tmp_path, confidence=[0.1, 0.9] * 7, **{"mini.answer": answers})
    rows = monitor.fixed(found, cases, window="2026-W32")
    assert [(one.cohort, one.agreed, one.answered, one.reason) for one in rows] == [
        ((), 12, 14, None),
        (tuple(EN.items()), 12, 14, None),
    ]


def test_a_judge_is_measured_by_known_grades(tmp_path):
    """The judge's verdicts on frozen answers against what they should be; the tiers need no row there."""
    table = pa.table(
        {"case_id": ["x", "y", "z"], "expected": ["PASS", "FAIL", "PASS"], "strict.answer": ["PASS", "fail", "FAIL"]}
    )
    pq.write_table(table, tmp_path / "frozen.parquet")
    found, _ = small(tmp_path, confidence=[0.9])
    frozen = traffic.open(str(tmp_path / "frozen.parquet"))
    [one] = monitor.fixed(found, frozen, window="2026-W32", kind="judge", model="strict")
    assert (one.kind, one.agreed, one.answered) == ("judge", 2, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "heldout"}, "Did you mean 'held-out'"),
        ({"window": "2026-33"}, "not an ISO week"),
        ({"window": "2026-W54"}, "not an ISO week"),
        ({"kind": "judge", "model": "strickt"}, "needs the model that judged"),
    ],
)
def test_a_fixed_set_that_cannot_be_placed_is_refused(tmp_path, words, message):
    """Kind, week and judge are checked before anything is read."""
    found, cases = small(tmp_path, confidence=[0.9])
    with pytest.raises(errors.UsageError, match=message):
        monitor.fixed(found, cases, **{"window": "2026-W32", **words})


# --- the command ---------------------------------------------------------------------------------------------------


def run(*arguments):
    """Run the command in this process; return its exit code."""
    return command.main([str(SUITE), *arguments], standalone_mode=False)


def test_the_command_keeps_weeks_and_answers_in_exit_codes(tmp_path, capsys):
    """Healthy weeks: 0. The weeks after, with the history: 1, and Portuguese is named. The same again: the same."""
    place = str(tmp_path / "history")
    assert run("--traffic", str(ROOT / "goldens" / "incident"), "--history", place) == 0
    capsys.readouterr()
    late = ("--traffic", str(ROOT / "goldens" / "incident_saturated"), "--history", place)
    assert run(*late) == 1
    first = capsys.readouterr().out
    assert "language=pt" in first
    assert "ALARM since 2026-W38" in first
    assert run(*late) == 1
    assert capsys.readouterr().out == first
    assert len(history.read(place)) == 48


def test_a_cohort_that_is_missing_from_a_week_measured_again_is_not_vouched_for(tmp_path, capsys):
    """The same weeks again without Portuguese: nothing of it is left, and it is not measured, not within its budget."""
    place = str(tmp_path / "history")
    assert run("--history", place) == 0
    assert capsys.readouterr().out.count("within 10%") == 2
    cases = pq.read_table(ROOT / "goldens" / "incident" / "cases.parquet")
    pq.write_table(cases.filter(pc.equal(cases["language"], "en")), tmp_path / "en.parquet")
    run("--history", place, "--traffic", str(tmp_path / "en.parquet"))
    shown = capsys.readouterr().out
    assert shown.count("within 10%") == 1
    assert "not measured: no case in this week, measured again" in shown
    assert {row.kept for row in history.read(place) if row.cohort == (("language", "pt"),)} == {0}


def test_traffic_that_is_older_than_the_history_says_so(tmp_path, capsys):
    """A job that is handed last month's sample again does not look like one that measured this week."""
    place = str(tmp_path / "history")
    assert run("--history", place) == 0
    cases = pq.read_table(ROOT / "goldens" / "incident" / "cases.parquet")
    pq.write_table(cases.slice(0, 3_000), tmp_path / "early.parquet")
    capsys.readouterr()
    run("--history", place, "--traffic", str(tmp_path / "early.parquet"))
    assert "note: this traffic ends in 2026-W29, and the history in 2026-W37" in capsys.readouterr().out


def test_the_command_says_when_it_decided_nothing(tmp_path, capsys):
    """Without flagship answers the exit code is 3, and the last line says so."""
    found, _ = small(tmp_path, confidence=[0.9] * 14, **{"big.answer": [None] * 14})
    assert command.main([str(tmp_path / "few.cascade.yaml")], standalone_mode=False) == 3
    assert "Nothing could be decided" in capsys.readouterr().out.splitlines()[-1]
    assert found


@pytest.mark.parametrize("where", ["kept/here", "sqlite:///kept.db"])
def test_the_history_of_the_suite_is_used_where_no_option_names_another(tmp_path, monkeypatch, capsys, where):
    """Seen from the suite, wherever the job runs; said in the output; read by `diagnose`, which makes nothing."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "suites"
    folder.mkdir()
    small(folder, confidence=[0.9] * 14)
    path = folder / "few.cascade.yaml"
    path.write_text(path.read_text(encoding="utf-8") + f"history: {where}\n", encoding="utf-8")
    words = [str(path.relative_to(tmp_path))]
    place = weeks.place(suite.load(words[0]), there=False)

    def said(command_, *options):
        command_.main([*words, *options], standalone_mode=False)
        return capsys.readouterr().out

    before = said(diagnose)
    assert ("left out: there is no such database file" in before) == where.startswith("sqlite")
    assert "this traffic's weeks are all there is" in said(command, "--no-history")
    assert history.read(place) == ()
    assert f"note: the history is the suite's own, {where}" in said(command).splitlines()
    assert len(history.read(place)) == 2
    assert f"note: the history is the suite's own, {where}" in said(diagnose)
    assert "the suite's own" not in said(command, "--history", str(tmp_path / "other"))
    assert len(history.read(tmp_path / "other")) == 2
    with pytest.raises(click.UsageError, match="contradict"):
        said(command, "--history", "other", "--no-history")


def test_the_text_is_bounded():
    """Hundreds of weeks and cohorts fit into sixty lines."""
    rows = [
        row(i, {"language": f"l{k}"} if k else None, disagreed=30 if k % 2 and i > 20 else 1)
        for i in range(30)
        for k in range(60)
    ]
    text = list(lines(rows, monitor.judge(rows, BUDGETS)))
    assert len(text) <= 60
    assert any("more cohorts" in line for line in text)


# --- real answers --------------------------------------------------------------------------------------------------

REAL = """
traffic: {data}
cascades:
  mini:
    - {{tier: mini, model: gpt-4.1-mini, gate: {{signal: x_conf_logprob, threshold: 0.864}}}}
    - {{tier: flagship, model: gpt-4.1}}
agreement: exact
cohorts: [cohort]
budgets:
  disagreement: {{overall: at most 15%, each cohort: at most 20%}}
"""


def real_weeks(folder):
    """Write twelve weeks of recorded answers in which engineering arrives with the ninth."""
    source = Path(os.environ["CASCADE_EVAL_DATA"]) / "mmlu_pro_calibration.parquet"
    frame = pd.read_parquet(source)
    frame = frame[frame.tier_model.isin(["gpt-4.1-mini", "gpt-4.1"])]
    names = np.sort(frame.case_id.unique())
    u = dict(zip(names, np.random.default_rng(9).random(len(names)), strict=True))
    late = frame.cohort == "engineering"
    place = frame.case_id.map(u)
    seconds = np.where(late, 8 + 4 * place, 12 * place) * 7 * 86_400
    frame["decided_at"] = pd.Timestamp("2026-07-06", tz="UTC") + pd.to_timedelta(seconds, unit="s").floor("s")
    columns = {"tier_model": "model", "response": "answer"}
    kept = ["case_id", "cohort", "tier_model", "response", "x_conf_logprob", "cost_usd", "decided_at"]
    frame[kept].rename(columns=columns).to_parquet(folder / "real.parquet", index=False)
    path = folder / "real.cascade.yaml"
    path.write_text(REAL.format(data="real.parquet"), encoding="utf-8")
    return suite.load(path), traffic.open(str(folder / "real.parquet"))


@needs_data
def test_real_subjects_that_arrive_late_are_named(tmp_path):
    """Engineering enters recorded MMLU-Pro traffic in week nine, and is named in that week or the next.

    The mix shift names it too, and no subject whose rate over all of the data is within budget is ever named.
    """
    found, cases = real_weeks(tmp_path)
    findings = monitor.judge(monitor.weekly(found, cases), found.budgets)
    engineering = {"cohort": "engineering"}
    late = findings.first("disagreement", engineering)
    assert late is not None
    assert "2026-W36" <= late <= "2026-W37"
    named = {finding.cohort for finding in findings.found if finding.test == "disagreement"}
    over = {"engineering", "law"}  # 32.0% and 27.5% over all of the data; every other subject is under 18%
    assert named <= {(), *((("cohort", subject),) for subject in over)}
    [shift] = [finding for finding in findings.found if finding.test == "mix shift"]
    assert (shift.first, shift.cohort) == ("2026-W36", tuple(engineering.items()))
