"""Diagnosis: the incident named in its week, its twin left alone, and one world for each cause."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import situations
from scipy.stats import fisher_exact

from cascade_eval import cli, diagnosis, history, monitor, proposals, suite, traffic
from cascade_eval.diagnosis import comparing, measuring, periods, points, reading, roots, tree
from cascade_eval.errors import UsageError

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "suites" / "weekly_replay.cascade.yaml"
NAMES = ("en", "de", "pt")
PT = (("language", "pt"),)
FORBIDDEN = re.compile(r"tight(en)|loos(en)|lower the (gate|threshold)|raise the (gate|threshold)", re.IGNORECASE)


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """Sixteen weeks of the incident, and of its twin in which only the traffic changed."""
    folder = tmp_path_factory.mktemp("weeks")
    for golden in ("incident_saturated", "incident_mix_shift"):
        tables = [pq.read_table(ROOT / "goldens" / name / "cases.parquet") for name in ("incident", golden)]
        pq.write_table(pa.concat_tables(tables), folder / f"{golden}.parquet")
    return folder


@pytest.fixture(scope="module")
def facts(sixteen):
    """Facts of both, as they were known at the end of every week from the fifth on."""
    found, known = suite.load(SUITE), {}
    for golden in ("incident_saturated", "incident_mix_shift"):
        table = pq.read_table(sixteen / f"{golden}.parquet")
        for week in range(5, 17):
            cases = traffic.from_frame(table.filter(pa.compute.less_equal(table["week"], week)))
            [known[golden, week]] = measuring.measure(found, cases, certify=False)
    return known


def diagnosed(made, **options):
    """Diagnose a made world."""
    found, cases, rows = situations.opened(made)
    [one] = diagnosis.run(found, cases, rows=rows, treat=False, **options)
    return one


# --- the incident --------------------------------------------------------------------------------------------------


def test_each_test_fires_in_the_week_of_the_incident_and_never_before(facts):
    """Week 11: all four tests of the gate, on Portuguese; before it, and ever on the twin, nothing but the mix."""
    fired = {}
    for (golden, week), known in facts.items():
        for step in tree.diagnose(known, stop=False).steps:
            if step.outcome in {"suspects", "conclusive"}:
                fired.setdefault((golden, step.name), (week, step.outcome))
    assert fired == {
        ("incident_saturated", "escalation"): (11, "suspects"),
        ("incident_saturated", "gate"): (11, "suspects"),
        ("incident_saturated", "audit"): (11, "conclusive"),
        ("incident_saturated", "weeks"): (11, "conclusive"),
    }


def test_saturation_is_named_with_its_cohort(facts):
    """From week 11 on the main cause is saturation of language=pt and of nothing else."""
    for week in range(11, 17):
        main = tree.diagnose(facts["incident_saturated", week]).main
        assert (main.name, main.cohorts, main.conclusive) == ("saturation", (PT,), True)
    sentence = "\n".join(main.evidence)
    assert "language=pt: escalation fell from 66.7% to 0.22%" in sentence
    assert "spared: language=en" in sentence


def test_on_the_mix_shift_nothing_is_named_but_the_mix_shift(facts):
    """Healthy until Portuguese grows, then other traffic, and that is all."""
    names = [tuple(cause.name for cause in tree.diagnose(facts["incident_mix_shift", w]).causes) for w in range(5, 17)]
    expected = ["healthy"] * 3 + ["mix shift"] * 9
    assert names == [(name,) for name in expected]


def test_the_tree_stops_at_the_first_conclusive_test(facts):
    """The audit was conclusive, so the sequences were not needed; money and users are other questions."""
    steps = {step.name: step for step in tree.diagnose(facts["incident_saturated", 16]).steps}
    assert [steps[name].outcome for name in ("escalation", "gate", "audit", "weeks")] == [
        "suspects", "suspects", "conclusive", "not needed",
    ]  # fmt: skip
    assert steps["cost"].outcome == "clear"
    assert not steps["weeks"].ran


def test_earlier_weeks_from_a_history_tell_drift_from_a_bad_launch(tmp_path):
    """The saturated weeks alone were over budget since the first there is; with the weeks before they drifted."""
    found = suite.load(SUITE)
    late = traffic.open(str(ROOT / "goldens/incident_saturated/cases.parquet"))
    earlier = monitor.weekly(found, traffic.open(str(ROOT / "goldens/incident/cases.parquet")))
    history.write(tmp_path, earlier)
    [alone] = diagnosis.run(found, late, treat=False)
    [together] = diagnosis.run(found, late, rows=history.read(tmp_path), treat=False)
    assert (alone.main.name, alone.main.cohorts) == ("threshold by feel", (PT,))
    assert (together.main.name, together.main.cohorts) == ("saturation", (PT,))


# --- one world for each cause --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", situations.CAUSES)
def test_every_cause_is_named(cause):
    """In a world with enough data the main cause is the true one; `bench/naming.py` draws many of each."""
    one = diagnosed(situations.draw(cause, np.random.default_rng([11, situations.CAUSES.index(cause)])))
    assert one.main.name == cause
    # And whatever is named, nothing is said in words that sources use in opposite senses.
    assert not FORBIDDEN.search(json.dumps(one.record()))


@pytest.mark.parametrize("cause", ["healthy", "saturation", "mix shift", "student drift", "threshold by feel"])
def test_too_little_data_gives_no_wrong_name(cause):
    """With ten to forty cases a week, or decisions alone, a cause is named rightly or not at all."""
    for i in range(2):
        made = situations.draw(cause, np.random.default_rng([12, i]), little=True)
        # Decisions alone, or few cases: fewer weeks are as little.
        made.weeks = min(made.weeks, made.change + 2)
        one = diagnosed(made)
        assert one.main.name in {cause, "not enough evidence"}
        if one.main.name == "not enough evidence":
            assert not any(one_.conclusive for one_ in one.causes)


def test_two_causes_at_once_are_both_named():
    """Saturation and cost creep; the gate first."""
    one = diagnosed(situations.mixture(("saturation", "cost creep"), np.random.default_rng([13, 0])))
    assert [cause.name for cause in one.causes if cause.conclusive][:2] == ["saturation", "cost creep"]


def test_decisions_alone_only_suspect():
    """A cohort that stops escalating is suspected, and the audit that would decide is named in cases."""
    made = situations.draw("saturation", np.random.default_rng(5))
    made.audited = 0.0
    one = diagnosed(made)
    assert one.main.name == "not enough evidence"
    assert [cause.name for cause in one.causes[1:]] == ["saturation"]
    assert "more would decide" in one.main.evidence[0]
    assert {step.name: step.outcome for step in one.steps}["audit"] == "cannot run"


def test_a_judge_that_moved_suspends_what_rests_on_it():
    """Disagreement said by a judge that moved is no saturation, and the judge is the main cause."""
    one = diagnosed(situations.draw("verifier regression", np.random.default_rng(3)))
    assert one.main.name == "verifier regression"
    assert all(not cause.conclusive for cause in one.causes if cause.name in {"saturation", "student drift"})


def test_a_suite_that_promises_nothing_is_judged_by_stated_defaults():
    """5% overall and 10% in each cohort, said in a note."""
    made = situations.draw("healthy", np.random.default_rng(2))
    _, cases, _ = situations.opened(made)
    text = situations.text(made).partition("budgets:")[0] + "budgets: {escalation: {overall: 0% to 90%}}\n"
    bare = suite.parse(text, file="bare.cascade.yaml", base=Path())
    [known] = measuring.measure(bare, cases, certify=False)
    assert (known.overall.budget, known.cohorts[1].budget) == (0.05, 0.10)
    assert "5% overall and 10% in each cohort" in known.notes[0]


def test_an_unknown_cascade_is_refused():
    """With the nearest name."""
    found, cases, _ = situations.opened(situations.draw("healthy", np.random.default_rng(2)))
    with pytest.raises(UsageError, match=r"no cascade 'curent'\. Did you mean 'current'"):
        diagnosis.run(found, cases, cascade="curent")


# --- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "m", "b", "n"), [(3, 60, 12, 60), (5, 100, 5, 100), (0, 40, 9, 300), (20, 50, 3, 50)])
def test_one_week_each_is_fishers_exact_test(a, m, b, n):
    """Without weeks to estimate a scatter from, both p-values are the exact ones."""
    found = comparing.moved([a], [m], [b], [n])
    table = [[b, n - b], [a, m - a]]
    assert found.up == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    assert found.down == pytest.approx(fisher_exact(table, alternative="less").pvalue)


def test_weeks_that_scatter_hide_small_movements():
    """The same totals are a movement where weeks are steady, and none where they jump about."""
    steady = comparing.moved([18] * 4, [100] * 4, [36] * 4, [100] * 4)
    jumpy = comparing.moved([5, 35, 8, 32], [100] * 4, [12, 60, 18, 54], [100] * 4)
    assert steady.up < 0.001
    assert jumpy.up > 0.05


def test_a_movement_that_is_none_is_rarely_seen():
    """At 5% a test of weeks with one rate is significant in at most about 5% of draws, scatter or not."""
    rng, hits = np.random.default_rng(8), {"chance": 0, "scatter": 0}
    for _ in range(300):
        for kind in hits:
            rate = 0.2 if kind == "chance" else rng.beta(20, 80, 8)
            x = rng.binomial(200, rate, 8)
            hits[kind] += comparing.moved(x[:4], [200] * 4, x[4:], [200] * 4).up <= 0.05
    assert max(hits.values()) <= 24


def test_points_of_change_are_found_where_they_are_and_rarely_where_none_is():
    """A change at a known week is found to within one; without any, next to never."""
    rng, found, false = np.random.default_rng(4), [], 0
    for _ in range(60):
        rates = np.full((3, 10), 0.3)
        rates[1, 6:] = 0.12
        found.append(points.strongest([(rng.binomial(150, rates), np.full((3, 10), 150))]))
        false += points.strongest([(rng.binomial(150, 0.3, (3, 10)), np.full((3, 10), 150))]) is not None
    assert sum(at is not None and abs(at - 6) <= 1 for at in found) >= 55
    assert false <= 1


def test_a_cohort_of_another_column_is_explained_by_the_one_that_saturates(sixteen):
    """Departments look worse because Portuguese requests go to all of them; only the language is named."""
    text = SUITE.read_text().replace("language: {at least: 60 cases}", "language: {at least: 60 cases}\n  intent: {}")
    text = text.replace("each language: at most 10%", "each language: at most 10%\n    each intent: at most 7%")
    found = suite.parse(text, file="both.cascade.yaml", base=SUITE.parent)
    [known] = measuring.measure(found, traffic.open(str(sixteen / "incident_saturated.parquet")), certify=False)
    signs = reading.read(known)
    assert {sign.facts.family for sign in signs.signs if sign.over} == {(), ("language",), ("intent",)}
    assert [sign.cohort for sign in roots.find(signs)] == [PT]
    assert tree.diagnose(known).main.cohorts == (PT,)


def test_small_cohorts_are_judged_together(sixteen):
    """With a floor above Portuguese, it stands in (other), and (other) is named."""
    text = SUITE.read_text().replace("at least: 60 cases", "at least: 2000 cases")
    found = suite.parse(text, file="pooled.cascade.yaml", base=SUITE.parent)
    [known] = measuring.measure(found, traffic.open(str(sixteen / "incident_saturated.parquet")), certify=False)
    assert tree.diagnose(known).main.cohorts == ((("language", "(other)"),),)
    assert known.of(("language",))[0].pooled == ("pt",)


def test_signs_answer_to_what_was_counted(facts):
    """Counts of a period are the sums of the rows of its weeks."""
    known = facts["incident_saturated", 16]
    frame = pq.read_table(ROOT / "goldens/incident_saturated/cases.parquet").to_pandas()
    mine = frame[frame.language == "pt"]
    kept = mine[mine["mini.confidence"] >= 0.80]
    [one] = [each for each in known.cohorts if each.cohort == PT]
    assert one.now.total("decisions") == pytest.approx(len(mine))
    assert one.now.total("compared") == pytest.approx(len(kept))
    assert one.now.total("disagreed") == pytest.approx((kept["mini.answer"] != kept["flagship.answer"]).sum())
    assert one.now.total("cheap") == pytest.approx((mine["mini.answer"] == mine["flagship.answer"]).sum())


def test_now_begins_where_something_began(facts):
    """Reference weeks end before the change, and now starts with it."""
    known = facts["incident_saturated", 16]
    assert (known.before[0], known.before[-1], known.now[0]) == ("2026-W28", "2026-W31", "2026-W38")
    rows = monitor.weekly(suite.load(SUITE), traffic.open(str(ROOT / "goldens/incident/cases.parquet")))
    one = periods.split(rows[:3], (), ())
    assert (one.before, len(one.now)) == ((), 1)


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_shows_tests_causes_and_treatments(sixteen, tmp_path, capsys):
    """Exit code 1 on the incident, with the YAML to paste; JSON holds the same."""
    file = tmp_path / "found.json"
    code = cli.run(["diagnose", str(SUITE), "--traffic", str(sixteen / "incident_saturated.parquet"), "-o", str(file)])
    out = capsys.readouterr().out
    assert code == 1
    for words in (
        "current: saturation",
        "audit       conclusive",
        "would contradict it",
        "escalate more",
        "threshold:",
    ):
        assert words in out
    assert not FORBIDDEN.search(out)
    [record] = json.loads(file.read_text())
    assert record["causes"][0]["name"] == "saturation"
    assert record["causes"][0]["cohorts"] == ["language=pt"]
    assert {"kind", "cohorts", "message", "predicted", "steps"} == set(record["causes"][0]["treatments"][0])
    assert {"name", "question", "outcome", "message"} == set(record["steps"][0])


def test_the_command_leaves_a_mix_shift_alone(sixteen, capsys):
    """Exit code 0: other traffic needs no action."""
    code = cli.run(["diagnose", str(SUITE), "--traffic", str(sixteen / "incident_mix_shift.parquet"), "-o", "-"])
    [record] = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [cause["name"] for cause in record["causes"]] == ["mix shift"]


def test_the_command_says_when_nothing_can_be_said(tmp_path, capsys):
    """Exit code 3 on decisions alone, with the audit that would decide."""
    made = situations.draw("healthy", np.random.default_rng(1))
    made.audited = 0.0
    pq.write_table(situations.table(made), tmp_path / "cases.parquet")
    (tmp_path / "made.cascade.yaml").write_text(situations.text(made))
    assert cli.run(["diagnose", str(tmp_path / "made.cascade.yaml")]) == 3
    out = capsys.readouterr().out
    assert "not enough evidence" in out
    assert not FORBIDDEN.search(out)


def test_a_record_is_plain_json(facts):
    """Not one NaN, and cohorts by their labels."""
    one = tree.diagnose(replace(facts["incident_saturated", 16], money=None))
    assert json.loads(json.dumps(one.record(), allow_nan=False))["cascade"] == "current"


@pytest.mark.parametrize(
    ("known", "cause"), [(("en", "de", "pt"), "saturation"), (("en", "de"), "uncovered cohort")], ids=["seen", "unseen"]
)
def test_without_weeks_a_stored_calibration_is_the_reference(tmp_path, known, cause):
    """One window: a cohort the map promises too much for has saturated; one it never saw is uncovered."""
    made = situations.draw("healthy", np.random.default_rng(6))
    made.cohorts, made.shares, made.easy, made.timed = NAMES, np.array([0.4, 0.3, 0.3]), np.full(3, 0.7), False
    made.budgets, made.audited, made.cases, made.change = (0.08, 0.12), 1.0, 600, 0
    text = situations.text(made).replace("signal: confidence,", "signal: confidence, calibrate: map.json,")
    rows = situations.table(made)
    rows = rows.filter(pa.compute.is_in(rows["language"], pa.array(known)))
    bare = suite.parse(situations.text(made), file="made.cascade.yaml", base=tmp_path)
    fitted = proposals.calibrate(bare, traffic.from_frame(rows), kind="hierarchical", per=["language"])
    fitted.save(tmp_path / "map.json")
    made.inflated = {2: 1.0}
    found = suite.parse(text, file="made.cascade.yaml", base=tmp_path)
    [one] = diagnosis.run(found, traffic.from_frame(situations.table(made)), treat=False)
    assert (one.main.name, one.main.cohorts, one.main.conclusive) == (cause, (PT,), True)
