"""Records: what a suite leaves behind, against figures worked out by hand."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest
from fail_closed_cases import BUDGETS, CASES, every, judge, reasons, text, write
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import calibration, evidence, runs, suite, traffic
from cascade_eval.suite import curves, evaluation

NUMBER = np.arange(CASES)
NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


def first(found):
    return found.record["cascades"][0]


# The flagship asked twice

AGAIN = "  flagship self-disagreement: {overall: at most 10%, each language: at most 50%}\n"


def asked_again(folder, answers, budgets=AGAIN, more=""):
    """Judge long traffic of four cases per entry: the flagship's first answer, then what it said when asked again."""
    rows = []
    for number, (language, *said) in enumerate(answers):
        key = {"case_id": f"case-{number}", "language": language}
        rows.append(key | {"model": "mini", "answer": said[0], "confidence": 0.9, "cost_usd": 0.01})
        rows += [
            key
            | {"model": "flagship", "answer": answer, "run": run, "cost_usd": 0.1}
            | {"status": "timeout" if answer == "late" else "ok"}
            for run, answer in reversed(list(enumerate(said)))
            if answer != "not asked"
        ]
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "log.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "again.cascade.yaml"
    path.write_text(text(budgets, data="log.jsonl", more=more), encoding="utf-8")
    return runs.evaluate(suite.load(path))


def test_the_noise_floor_is_counted_on_repeated_cases(tmp_path):
    """Of 30 repeated cases the flagship disagrees with itself in 3, all German; cases asked once are in no ratio."""
    answers = [("de", "yes", "no")] * 3 + [("de", "yes", "yes")] * 7 + [("en", "yes", "yes")] * 20
    answers += [("en", "yes", "not asked")] * 70
    found = asked_again(tmp_path, answers)
    measured = {tuple(v.cohort.values()): (v.estimate.count, v.estimate.nobs) for v in found.verdicts}
    assert measured == {(): (3, 30), ("de",): (3, 10), ("en",): (0, 20)}
    assert {v.outcome for v in found.verdicts} == {"inconclusive", "pass"}


def test_only_the_first_repeat_of_a_case_counts(tmp_path):
    """Asked five times, a case is still one case: its second answer against its first."""
    found = asked_again(tmp_path, [("de", "yes", "yes", "no", "no", "no")] * 40)
    assert (found.verdicts[0].estimate.count, found.verdicts[0].estimate.nobs) == (0, 40)


def test_a_repeat_that_failed_or_said_nothing_is_no_comparison(tmp_path):
    """A null answer, the first or the second, and a call that timed out are unknown, not disagreement."""
    answers = [
        ("de", "yes", None),
        ("de", None, "yes"),
        ("de", "yes", "late"),
        ("de", "yes", "no"),
        ("de", "yes", "yes"),
    ]
    found = asked_again(tmp_path, answers * 5)
    assert (found.verdicts[0].estimate.count, found.verdicts[0].estimate.nobs) == (5, 10)


def test_a_promise_below_the_noise_floor_is_pointed_out(tmp_path):
    """A disagreement budget the flagship itself would break cannot be proven, and the record says so."""
    budgets = "  disagreement: {overall: at most 5%}\n"
    found = asked_again(tmp_path, [("de", "yes", "no")] * 10 + [("de", "yes", "yes")] * 90, budgets)
    assert (
        "the flagship disagrees with itself in 10.0% of 100 repeated cases: 'at most 5%' is below that and cannot be proven"
        in found.record["notes"]
    )
    quiet = asked_again(tmp_path, [("de", "yes", "no")] * 4 + [("de", "yes", "yes")] * 96, budgets)
    assert not any("disagrees with itself" in note for note in quiet.record["notes"])


# A stored calibration

CALIBRATED = "{tier: mini, model: mini, gate: {signal: confidence, calibrate: old.json, threshold: 0.8}}"
AGES = "  calibration age: {overall: at most 30 days}\n  uncovered traffic: {overall: at most 5%}\n"


def store(folder, *, created_at, cohorts=("en", "fr", "de"), name="old.json", data="0" * 64):
    """Fit a map on a few cases and leave it in the folder."""
    sure = np.tile([0.5, 0.7, 0.9, 0.95], 30)
    known = np.arange(len(sure)) % len(cohorts)
    fitted = calibration.fit("hierarchical", sure, sure > 0.6, cohorts=(known, list(cohorts)))
    return calibration.save(
        folder / name, fitted, data_sha256=data, created_at=created_at, signal="confidence", columns=("language",)
    )


def judge_stored(folder, budgets=AGES, mini=CALIBRATED, changes=None):
    found = suite.load(write(folder, changes, text(budgets, mini=mini)))
    opened = runs.open(found)
    return evaluation.evaluate(opened.suite, opened.traffic, data=opened.data, now=NOW)


@pytest.mark.parametrize(("days", "outcome"), [(12.25, "pass"), (30, "pass"), (30.5, "fail")])
def test_the_age_of_a_calibration_is_compared_exactly(tmp_path, days, outcome):
    """A map of so many days is within thirty or is not; there is nothing to estimate."""
    store(tmp_path, created_at=NOW - dt.timedelta(days=days))
    [age] = [v for v in judge_stored(tmp_path).verdicts if v.metric == "calibration age"]
    assert (age.estimate.value, age.outcome) == (days, outcome)


def test_the_oldest_of_several_calibrations_counts(tmp_path):
    """Two maps in use are as old as the older one."""
    store(tmp_path, created_at=NOW - dt.timedelta(days=3))
    store(tmp_path, created_at=NOW - dt.timedelta(days=9), name="older.json")
    leaf = "{{signal: confidence, calibrate: {}, threshold: 0.6}}"
    both = f"all: [{leaf.format('old.json')}, {leaf.format('older.json')}]"
    found = judge_stored(tmp_path, mini=f"{{tier: mini, model: mini, gate: {{{both}}}}}")
    assert next(v for v in found.verdicts if v.metric == "calibration age").estimate.value == 9


def test_traffic_the_calibration_has_never_seen_is_counted(tmp_path):
    """A third of the cases is German, and the map was fitted without Germans."""
    store(tmp_path, created_at=NOW, cohorts=("en", "fr"))
    found = judge_stored(tmp_path, AGES + "  escalation: {overall: 1% to 99%}\n")
    new = next(v for v in found.verdicts if v.metric == "uncovered traffic")
    assert (new.estimate.count, new.estimate.nobs, new.outcome) == (CASES // 3, CASES, "fail")
    by_cohort = {
        cell["cohort"]["language"]: cell["metrics"]["uncovered traffic"]["value"] for cell in first(found)["cohorts"]
    }
    assert by_cohort == {"de": 1, "en": 0, "fr": 0}


def test_a_calibration_of_this_very_data_is_refused(tmp_path):
    """A map proves nothing on the cases it was fitted on."""
    path = write(tmp_path, None, text(AGES, mini=CALIBRATED))
    store(tmp_path, created_at=NOW, data=traffic.open(tmp_path / "cases.parquet").sha256())
    with pytest.raises(Exception, match=r"old\.json: this calibration was fitted on the very data"):
        runs.evaluate(suite.load(path))


# What is drawn

THREE = """\
  current:
    - {tier: mini, model: mini, timeout: 0.5s, gate: {signal: confidence, threshold: 0.8}}
    - {tier: medium, model: medium, gate: {signal: confidence, threshold: 0.5}}
    - {tier: flagship, model: flagship}
"""


def three_tiers(folder):
    """Judge 600 cases: 200 settled by mini, 200 by medium, 200 by the flagship; ten calls of mini refused on the way."""
    part = NUMBER // 200
    changes = {
        "mini.confidence": np.where(part == 0, 0.9, 0.1),
        "mini.status": every(["ok"] * CASES, NUMBER >= 590, "refused"),
        "mini.cost_usd": [0.001] * CASES,
        "mini.latency_s": np.where(NUMBER % 200 == 199, 0.75, 0.25),
        "medium.answer": lambda t: every(t["flagship.answer"], NUMBER == 250, "wrong"),
        "medium.confidence": np.where(part == 1, 0.6, 0.4),
        "medium.cost_usd": [0.01] * CASES,
        "flagship.cost_usd": [0.1] * CASES,
        "expected": lambda t: t["flagship.answer"],
    }
    written = text("  escalation: {overall: 1% to 99%}\n")
    start = written.index("  current:")
    written = written[:start] + THREE + written[written.index("cohorts:") :]
    return runs.evaluate(suite.load(write(folder, changes, written)))


def test_the_funnel_says_what_became_of_the_calls_of_each_tier(tmp_path):
    """What reached a tier was settled there or went on; failures are counted where they happened."""
    funnel = {row["tier"]: row for row in first(three_tiers(tmp_path))["funnel"]}
    assert {tier: (row["reached"], row["settled"], row["escalated"]) for tier, row in funnel.items()} == {
        "mini": (600, 199, 401),
        "medium": (401, 200, 201),
        "flagship": (201, 201, 0),
    }
    assert (funnel["mini"]["timeouts"], funnel["mini"]["refused"], funnel["mini"]["errors"]) == (3, 9, 0)
    for row, after in zip(first(three_tiers(tmp_path))["funnel"], [*list(funnel.values())[1:], None], strict=True):
        assert row["reached"] == row["settled"] + row["escalated"]
        assert after is None or after["reached"] == row["escalated"]


def test_paths_add_up_to_the_cases_and_to_the_money(tmp_path):
    """Each path with its cases and what they cost: 1, 11 and 111 tenths of a cent a case."""
    paths = {tuple(row["path"]): (row["cases"], row["cost_usd"]) for row in first(three_tiers(tmp_path))["paths"]}
    assert paths == {
        ("mini",): (199, pytest.approx(0.199)),
        ("mini", "medium"): (200, pytest.approx(2.2)),
        ("mini", "medium", "flagship"): (201, pytest.approx(201 * 0.111)),
    }


def test_who_was_right_is_said_of_the_disagreements(tmp_path):
    """Six answers of mini are wrong and one of medium is; the flagship is what was expected in each."""
    right = first(three_tiers(tmp_path))["right"]
    served_by_mini = sum(1 for i in NUMBER if i % 100 == 5 and i < 199)
    assert right == {"cheap": 0, "flagship": served_by_mini + 1, "neither": 0, "both": 0, "unknown": 0}


def test_the_surest_disagreements_come_first(tmp_path):
    """Of the wrong answers those the gate was surest of are shown, twenty overall, with all that is known of them."""
    wrong = NUMBER % 10 == 0
    sure = np.where(NUMBER % 4 != 3, 0.8 + NUMBER / 10_000, 0.5)
    found = judge(
        tmp_path,
        {
            "mini.answer": lambda t: every(t["mini.answer"], wrong, "wrong"),
            "mini.confidence": sure,
            "expected": lambda t: every(t["flagship.answer"], NUMBER == 590, "wrong"),
            "input": [f"question {i}" for i in range(CASES)],
        },
    )
    shown = first(found)["worst"]
    kept = [i for i in NUMBER if (wrong[i] or i % 100 == 5) and i % 4 != 3]
    assert [case["case_id"] for case in shown[:20]] == [f"case-{i:04}" for i in sorted(kept, reverse=True)[:20]]
    top = shown[0]
    assert (top["tier"], top["answer"], top["flagship_answer"]) == ("mini", "wrong", "yes")
    assert (top["right"], shown[1]["right"]) == ("cheap", "flagship")
    assert (top["input"], top["cohort"]) == ("question 590", {"language": "de"})
    assert top["value"] == pytest.approx(0.859)


def test_a_long_answer_is_cut(tmp_path):
    """Evidence shows cases, it is no copy of the data."""
    wrong = {"mini.answer": lambda t: every(t["mini.answer"], NUMBER == 4, "x" * 5_000)}
    answer = next(c["answer"] for c in first(judge(tmp_path, wrong))["worst"] if c["case_id"] == "case-0004")
    assert len(answer) == 2000
    assert answer.endswith("x…")


@given(st.integers(0, 400), st.integers(3, 60), st.integers(0, 400))
@settings(deadline=None)
def test_a_thinned_curve_keeps_its_ends_and_the_threshold_in_use(size, most, at):
    """At most so many points, in order, first and last among them, and the operating one exactly."""
    values = np.arange(size) / 400
    operating = values[at] if at < size else None
    kept = curves.thinned(values, operating, most)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(most, 1)
    assert set(kept) <= set(range(size))
    if size:
        assert {kept[0], kept[-1]} == {0, size - 1}
        assert operating is None or at in kept


def test_a_sweep_holds_the_threshold_in_use(tmp_path):
    """The point of the gate's own threshold says what the cascade does, overall and in each cohort."""
    found = first(judge(tmp_path))
    cells = {tuple(cell["cohort"].items()): cell["metrics"] for cell in [found["overall"], *found["cohorts"]]}
    here = {tuple(p["cohort"].items()): p for p in found["sweep"] if p["thresholds"] == {"mini": 0.8}}
    assert set(here) == set(cells)
    for cohort, point in here.items():
        for metric in ("escalation", "disagreement", "cost"):
            assert point[metric] == pytest.approx(cells[cohort][metric]["value"])


def test_a_sweep_says_what_the_quality_would_be(tmp_path):
    """Where answers have scores the point in use has the cascade's quality; where they have none it is unknown."""
    scores = {"mini.score": lambda _: NUMBER % 3 / 2, "flagship.score": lambda _: np.ones(CASES)}
    found = first(judge(tmp_path, scores))
    cells = {tuple(cell["cohort"].items()): cell["metrics"] for cell in [found["overall"], *found["cohorts"]]}
    here = {tuple(p["cohort"].items()): p for p in found["sweep"] if p["thresholds"] == {"mini": 0.8}}
    assert set(here) == set(cells)
    for cohort, point in here.items():
        assert point["quality"] == pytest.approx(cells[cohort]["quality"]["value"])
    assert len({point["quality"] for point in found["sweep"]}) > 2
    ungraded = first(judge(tmp_path))["sweep"]
    assert ungraded
    assert all(point["quality"] is None for point in ungraded)


def test_flips_list_the_cases(tmp_path):
    """Worse ones first, each with the three answers; counts are those of the cohort."""
    other = "  wider:\n    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.5}}\n"
    other += "    - {tier: flagship, model: flagship}\ncohorts:"
    written = text(BUDGETS, more="baseline: current\n").replace("cohorts:", other)
    wrong = {"mini.answer": lambda t: every(t["mini.answer"], NUMBER % 20 == 3, "wrong")}
    wider = judge(tmp_path, wrong, written).record["cascades"][1]
    by_cohort = {tuple(entry["cohort"].items()): entry for entry in wider["flips"]}
    newly = [i for i in NUMBER if i % 20 == 3 and i % 4 == 3]
    whole = by_cohort[()]
    assert (whole["nobs"], whole["worse"], whole["better"]) == (CASES, len(newly), 0)
    assert [case["case_id"] for case in whole["cases"]] == [f"case-{i:04}" for i in newly[:20]]
    assert whole["cases"][0] == {
        "case_id": "case-0003",
        "baseline_answer": "no",
        "candidate_answer": "wrong",
        "flagship_answer": "no",
        "direction": "worse",
    }
    assert sum(by_cohort[(("language", name),)]["worse"] for name in ("de", "en", "fr")) == len(newly)


def test_a_signal_that_is_no_probability_is_scored_by_its_order_only(tmp_path):
    """AUROC is there; Brier score and its like are null, with a note that says what to do."""
    mini = "{tier: mini, model: mini, gate: {signal: confidence, threshold: 80}}"
    found = first(judge(tmp_path, {"mini.confidence": lambda t: t["mini.confidence"] * 100}, text(mini=mini)))
    entry = next(each for each in found["calibration"] if not each["cohort"])
    assert entry["note"] == "not a probability: calibrate it before reading its value as one"
    assert entry.get("brier") is None
    assert 0 <= entry["auroc"] <= 1
    assert entry["nobs"] == CASES


def test_surer_is_lower_turns_the_order_around(tmp_path):
    """A signal of doubt ranks as well as its mirror image of confidence does."""
    sure = judge(tmp_path)
    mini = "{tier: mini, model: mini, gate: {signal: confidence, threshold: 0.2, surer: lower}}"
    doubt = judge(tmp_path, {"mini.confidence": lambda t: 1 - t["mini.confidence"]}, text(mini=mini))
    scores = [next(e for e in first(found)["calibration"] if not e["cohort"])["auroc"] for found in (sure, doubt)]
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize("kind", ["plain", "again", "three tiers", "stored"])
def test_every_record_is_evidence(tmp_path, kind):
    """The format accepts what suites leave behind, and reads back what was written."""
    if kind == "stored":
        store(tmp_path, created_at=NOW)
    made = {
        "plain": judge,
        "again": lambda folder: asked_again(folder, [("de", "yes", "no"), ("de", "yes", "yes")] * 20),
        "three tiers": three_tiers,
        "stored": judge_stored,
    }[kind](tmp_path)
    built = evidence.build([made.record], selected={"items": 1, "of": 1})
    assert evidence.read(evidence.write(tmp_path / "e.json", built)) == built
    assert json.loads(json.dumps(built, allow_nan=False)) == built
    assert reasons(made)


def test_a_suggested_threshold_keeps_every_disagreement_budget():
    """What is suggested for all cases together would prove the promise of each cohort, too, where a threshold can."""
    root = Path(__file__).parents[1]
    found = suite.load(root / "suites/weekly_replay.cascade.yaml")
    record = runs.evaluate(found, traffic_path=str(root / "goldens/incident_saturated")).record
    failed = [v for v in record["cascades"][0]["verdicts"] if v["outcome"] == "fail" and v["metric"] == "disagreement"]
    advised = {verdict["advice"].split(" on mini")[0] for verdict in failed}
    assert len(failed) == 2
    assert advised == {"A threshold of 0.887809"}
    assert all("hold every disagreement budget" in verdict["advice"] for verdict in failed)
    threshold = float(advised.pop().removeprefix("A threshold of "))
    points = [p for p in record["cascades"][0]["sweep"] if p["cohort"] == {"language": "pt"}]
    nearest = min(points, key=lambda p: abs(p["thresholds"]["mini"] - threshold))
    assert nearest["disagreement"] < 0.12


def test_always_flagship_costs_itself_exactly():
    """Compared with itself there is nothing to estimate: no bounds around 100%."""
    root = Path(__file__).parents[1]
    record = runs.evaluate(suite.load(root / "suites/digits.cascade.yaml")).record
    cost = record["cascades"][-1]["overall"]["metrics"]["cost"]
    assert (cost["value"], cost["low"], cost["high"]) == (1.0, 1.0, 1.0)
