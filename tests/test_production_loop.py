"""The weekly job from end to end: plan, draw, ask, read, keep the week, name what is wrong, paste the treatment, go on."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cascade_eval import audit, cli, history, monitor, runs, suite, traffic
from cascade_eval.diagnosis import audits

SUITE = """\
traffic: window.parquet
history: history
cascades:
  current:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}
    - {tier: flagship, model: big}
agreement: same label
cohorts: [market]
budgets:
  disagreement:
    overall: at most 15%, watched weekly
    each market: at most 10%, watched weekly
"""
CALM = 4
MARKETS = np.array(["de", "en", "pt"])


def decided(week, cases=1500, *, saturated=False):
    """Make what production decided in one ISO week; in a saturated one mini is sure of everything Portuguese."""
    rng = np.random.default_rng([11, week])
    market = MARKETS[rng.choice(3, cases, p=[0.3, 0.4, 0.3])]
    hard = rng.random(cases)
    confidence = 1 - 0.5 * hard**2.5
    if saturated:
        confidence = np.where(market == "pt", 1 - 0.2 * hard**2.5, confidence)
    wrong = rng.random(cases) < np.where(market == "pt", 1.6, 0.4) * hard**5
    monday = dt.datetime.combine(dt.date.fromisocalendar(2026, week, 1), dt.time(), dt.UTC)
    moments = int(monday.timestamp()) + np.sort(rng.integers(0, 7 * 86_400, cases))
    return pa.table(
        {
            "case_id": [f"{week}-{number}" for number in range(cases)],
            "decided_at": pa.array(moments * 10**6, pa.timestamp("us", tz="UTC")),
            "market": market,
            "mini.answer": ["yes"] * cases,
            "mini.confidence": confidence,
            "mini.cost_usd": np.full(cases, 0.0005),
            "big.answer": np.where(wrong, "no", "yes"),
            "big.cost_usd": np.full(cases, 0.01),
        }
    )


def served(whole):
    """Write what production records under the suite as it is: the flagship answers only what was escalated."""
    pq.write_table(whole, "everything.parquet")
    [replay] = runs.replays(suite.load("s.cascade.yaml"), traffic_path="everything.parquet").values()
    kept = pa.array(replay.unescalated.chosen)
    for name in ("big.answer", "big.cost_usd"):
        at = whole.schema.get_field_index(name)
        whole = whole.set_column(at, name, pc.if_else(kept, pa.scalar(None, whole[name].type), whole[name]))
    pq.write_table(whole, "window.parquet")
    return replay


def run(line):
    """Run a command as it is typed."""
    words = shlex.split(line)
    assert words[0] == "cascade-eval"
    return cli.run(words[1:])


def audited(whole, seed):
    """Audit a week as the documents say, and keep it; return the exit codes of `audit read` and `monitor`."""
    served(whole)
    prior = "--prior reading.json" if Path("reading.json").exists() else ""
    window = "s.cascade.yaml --traffic window.parquet"
    assert run(f"cascade-eval audit plan {window} --cases 400 {prior} -o plan.json") == 0
    assert run(f"cascade-eval audit sample {window} --plan plan.json --seed {seed} -o sample.parquet") == 0
    read = run(
        "cascade-eval audit read s.cascade.yaml sample.parquet everything.parquet --traffic window.parquet "
        "-o reading.json --merged audited.parquet"
    )
    return read, run("cascade-eval monitor s.cascade.yaml --traffic audited.parquet")


def promised(path="audited.parquet"):
    """Outcome of each watched promise, as pytest judges it."""
    found = runs.evaluate(suite.load("s.cascade.yaml"), traffic_path=path).verdicts
    return {monitor.label(tuple(verdict.cohort.items())): verdict.outcome for verdict in found}


def pasted(step):
    """Paste a treatment's YAML over the cascade, exactly as printed."""
    yaml = textwrap.dedent(step.partition("\n")[2])
    text = Path("s.cascade.yaml").read_text(encoding="utf-8")
    start, end = text.index("cascades:"), text.index("agreement:")
    Path("s.cascade.yaml").write_text(f"{text[:start]}{yaml.strip()}\n{text[end:]}", encoding="utf-8")


@pytest.fixture
def calm(tmp_path, monkeypatch):
    """Lay out a suite whose history has four calm weeks."""
    monkeypatch.chdir(tmp_path)
    Path("s.cascade.yaml").write_text(SUITE, encoding="utf-8")
    pq.write_table(pa.concat_tables([decided(20 + week) for week in range(CALM)]), "calm.parquet")
    assert run("cascade-eval monitor s.cascade.yaml --traffic calm.parquet") == 0


def test_saturation_is_found_named_treated_and_over(calm, capsys):
    """Alarm, verdict and diagnosis name Portuguese in one week; the pasted gate keeps the promise, and the alarm ends."""
    read, code = audited(decided(24, saturated=True), "w24")
    assert (read, code) == (1, 1)
    assert "market=pt: the flagship disagrees" in capsys.readouterr().out
    assert [name for name, outcome in promised().items() if outcome == "fail"] == ["market=pt"]
    assert run("cascade-eval diagnose s.cascade.yaml --traffic audited.parquet -o found.json") == 1
    [cause] = [one for one in json.loads(Path("found.json").read_text())[0]["causes"] if one["name"] == "saturation"]
    treatment = next(one for one in cause["treatments"] if one["kind"] == "escalate more")
    pasted(treatment["steps"][0])
    later = decided(25, saturated=True)
    truth = served(later)
    assert truth.where(market="pt").disagreement.value < 0.10
    low, high = treatment["predicted"]["disagreement"][1:]
    assert low < truth.disagreement.value < high
    codes = [audited(later, "w25")[1], audited(decided(26, saturated=True), "w26")[1]]
    assert codes[-1] != 1
    assert promised()["market=pt"] != "fail"


def test_late_rows_do_not_replace_a_week(calm, capsys):
    """Twenty rows of an old week in a new one's file leave its 1,500 as they were, in the history and in a verdict."""
    late = decided(21).slice(0, 20)
    pq.write_table(pa.concat_tables([decided(24), late]), "both.parquet")
    assert promised("both.parquet")["overall"] == "pass"
    assert run("cascade-eval monitor s.cascade.yaml --traffic both.parquet") == 0
    said = "2026-W21: 20 cases of this traffic do not replace the 1,500 the history keeps"
    assert said in capsys.readouterr().out
    run("cascade-eval diagnose s.cascade.yaml --traffic both.parquet")
    assert said in capsys.readouterr().out
    rows = {row.window: row.cases for row in history.read("history") if not row.cohort}
    assert rows == dict.fromkeys(("2026-W20", "2026-W21", "2026-W22", "2026-W23", "2026-W24"), 1500)


def test_late_rows_do_not_end_an_alarm(calm):
    """An alarm does not end because a few rows of its week arrive again."""
    bad = decided(24, saturated=True)
    pq.write_table(bad, "bad.parquet")
    assert run("cascade-eval monitor s.cascade.yaml --traffic bad.parquet") == 1
    few = pc.and_(pc.equal(bad["big.answer"], "yes"), pc.equal(bad["market"], "pt"))
    pq.write_table(pa.concat_tables([bad.filter(few).slice(0, 9), decided(25, 200)]), "late.parquet")
    assert promised("late.parquet")["market=pt"] == "fail"
    assert run("cascade-eval monitor s.cascade.yaml --traffic late.parquet") == 1


def test_a_week_handed_in_again_is_replaced(calm):
    """All of a week, and the last week of the traffic however small, are measured anew."""
    again = decided(22, 800)
    pq.write_table(pa.concat_tables([again, decided(23, 30)]), "again.parquet")
    run("cascade-eval monitor s.cascade.yaml --traffic again.parquet")
    rows = {row.window: row.cases for row in history.read("history") if not row.cohort}
    assert (rows["2026-W22"], rows["2026-W23"]) == (800, 30)


def test_an_audit_of_a_watched_promise_speaks_for_itself(calm, capsys):
    """One audit proves or refutes the bare bound, and says where the watched promise is judged."""
    audited(decided(24), "w24")
    out = capsys.readouterr().out
    assert "pass: disagreement · overall, at most 15%: " in out
    assert "finding: these verdicts are of this audit alone." in out


def test_a_few_answers_do_not_expect_a_broken_budget(calm):
    """None of three disagreeing is no reason to expect more than the budget, and many answers count as they are."""
    replay = served(decided(24))
    promises = suite.load("s.cascade.yaml").budgets
    prior = {"market=de": (0, 3), "market=en": (40, 1000), "market=pt": (60, 240)}
    made = audit.plan(replay, promises, cases=300, prior=prior)
    expected = [stratum.prior for stratum in made.strata]
    assert expected == pytest.approx([0.5 / (3 + 0.5 / 0.03), 40.5 / (1000 + 0.5 / 0.03), 60.5 / (240 + 0.5 / 0.03)])
    assert expected[0] < 0.03 < expected[1] < 0.1 < expected[2]


def test_the_audit_that_is_asked_for_decides_what_is_open(calm):
    """The calls a diagnosis asks for go to the cohort it names: its floor alone would be spent on another."""
    served(decided(24))
    found = suite.load("s.cascade.yaml")
    cases = traffic.open("window.parquet")
    made = audits.ask_for_an_audit(found, cases, "current", [(("market", "pt"),)])
    assert run(made.steps[0]) == 0
    plan = audit.load_plan("plan.json")
    assert plan.calls == made.evidence["calls"]
    assert [stratum.decided for stratum in plan.strata if stratum.label == "market=pt"] == [True]


def test_after_an_audit_the_next_one_is_of_fresh_cases(calm):
    """A window that was audited is not drawn from again: the commands are those of the next, and run as printed."""
    audited(decided(24), "w24")
    found = suite.load("s.cascade.yaml")
    made = audits.ask_for_an_audit(found, traffic.open("audited.parquet"), "current", [(), (("market", "pt"),)])
    assert "overall" in made.message
    assert "for want of an earlier audit" not in made.message
    served(decided(25))
    for step in made.steps[:2]:
        assert "audited.parquet" not in step
        assert run(step.replace("FRESH_CASES", "window.parquet").replace("READING", "reading.json")) == 0


def row(week, cohort=(), *, escalated=30, disagreed=1, compared=60, definition="a"):
    """One complete week of a cohort, everything it needs to be judged."""
    return monitor.Row(
        "s", "current", "production", f"2026-W{week}", cohort, cases=1000, decisions=1000, escalated=escalated * 10,
        escalation=escalated / 100, escalation_size=1000.0, traffic=1000.0, share=1.0, kept=700, compared=compared,
        disagreed=disagreed, least=float(disagreed), least_size=float(compared), most=float(disagreed),
        most_size=float(compared), definition=definition,
    )  # fmt: skip


def test_weeks_before_a_jump_of_escalation_vouch_for_nothing():
    """Seven good weeks and one of four answers after the cohort's escalation collapsed do not show a budget to hold."""
    promises = suite.parse(SUITE, file="s.cascade.yaml", base=Path()).budgets
    pt = (("market", "pt"),)
    calm = [row(week, pt) for week in range(20, 28)]
    for last, state in ((row(28, pt, compared=4, disagreed=0), "within"),
                        (row(28, pt, escalated=1, compared=4, disagreed=0), "open")):  # fmt: skip
        found = monitor.judge([*calm, last], promises)
        [sequence] = [one for one in found.sequences if one.cohort == pt]
        assert sequence.state == state


@pytest.mark.parametrize(("compared", "outcome"), [(4, "undecided"), (60, "quiet")])
def test_a_jump_of_escalation_is_not_forgotten_while_its_cohort_is_open(compared, outcome):
    """Weeks after the jump, when its alarm is over, nothing is quiet before the cohort's budget was shown to hold again."""
    promises = suite.parse(SUITE, file="s.cascade.yaml", base=Path()).budgets
    pt = (("market", "pt"),)
    weeks = [row(week, pt) for week in range(10, 20)]
    weeks += [row(week, pt, escalated=1, compared=compared, disagreed=0) for week in range(20, 23)]
    found = monitor.judge([*weeks, *(row(week) for week in range(10, 23))], promises)
    assert found.first("escalation shift", dict(pt)) == "2026-W20"
    assert not found.alarms
    assert (found.outcome, len(found.suspicions)) == (outcome, outcome == "undecided")


def test_a_gate_that_was_changed_raises_no_alarm_of_escalation():
    """Weeks of another definition are no reference for escalation; within one definition the same jump is an alarm."""
    promises = suite.parse(SUITE, file="s.cascade.yaml", base=Path()).budgets
    pt = (("market", "pt"),)
    for definition, outcome in (("a", True), ("b", False)):
        weeks = [*(row(week, pt) for week in range(20, 28)), row(28, pt, escalated=60, definition=definition)]
        found = monitor.judge(weeks, promises).found
        assert any(one.test == "escalation shift" and one.alarm for one in found) is outcome
