"""Attempts to pass by values on another scale, gates that decide nothing, routes, and numbers nobody knows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fail_closed_cases import CASES, MINI, OVERALL, all_of, columns, judge, outcomes, text, write

from cascade_eval import evidence, goldens, runs, suite, verdicts
from cascade_eval.errors import BaselineError, DataError, SuiteError, UsageError

NUMBER = np.arange(CASES)
LOGPROB = MINI.replace("confidence", "logprob")
MEAN = MINI.replace("confidence", "{logprob: {statistic: mean}}").replace("0.8", "-0.5")


def notes(evaluation):
    """Return the notes of an evaluation as one text."""
    return " ".join(evaluation.record["notes"])


@pytest.mark.parametrize(
    ("gate", "tokens", "refused"),
    [
        (LOGPROB, [0.9, 0.8], True),
        (LOGPROB, [0.1, 0.3], True),
        (MEAN, [0.9, 0.8], True),
        (LOGPROB, [0.0, 1e-6], False),
        (LOGPROB, [-0.1, -0.2], False),
        (MEAN, [-0.1, -0.2], False),
    ],
)
def test_probabilities_are_no_log_probabilities(tmp_path, gate, tokens, refused):
    """Read as logarithms they would be surer than sure, and every case would be settled; rounding is forgiven."""
    recorded = {"mini.token_logprobs": [tokens] * CASES}
    if refused:
        with pytest.raises(
            DataError, match=r"cases.parquet: 'logprob.*' of 'mini' is up to .* is possible: a log-prob"
        ):
            judge(tmp_path, recorded, text(OVERALL, mini=gate))
    else:
        assert outcomes(judge(tmp_path, recorded, text(OVERALL, mini=gate))) == {("disagreement",): "pass"}


@pytest.mark.parametrize(
    ("threshold", "scale", "said"),
    [
        ("0.8", 1, ""),
        ("0.1", 1, "the gate of mini escalates no case whose signal is known: 'confidence' lies between 0.51 and 0.99"),
        ("0.8", 100, "the gate of mini escalates no case whose signal is known: 'confidence' lies between 51 and 99"),
        ("0.8", np.where(NUMBER % 3 == 1, 100, 1), "'confidence' of mini is above 1 in 200 of 600 cases, up to 99"),
        ("80", 100, ""),
    ],
    ids=["fine", "a threshold below all", "percent", "some in percent", "percent, and so is the threshold"],
)
def test_values_on_another_scale_than_the_threshold_are_said(tmp_path, threshold, scale, said):
    """What the gate did with them is judged; that it may not have been meant is a note."""
    scaled = {"mini.confidence": lambda table: np.asarray(table["mini.confidence"]) * scale}
    found = judge(tmp_path, scaled, text(OVERALL, mini=MINI.replace("0.8}", f"{threshold}}}")))
    assert said in notes(found)
    assert bool(said) is ("escalates no case" in notes(found) or "on one scale" in notes(found))


@pytest.mark.parametrize(("threshold", "idle"), [("0.1", True), ("0.8", False)])
def test_where_lower_is_surer_a_gate_that_settles_everything_is_said_too(tmp_path, threshold, idle):
    """The greatest value is the least sure one then."""
    doubt = {"mini.doubt": np.where(NUMBER % 4 == 3, float(threshold), 0.05)}
    gate = MINI.replace("confidence", "doubt").replace("threshold: 0.8", "threshold: 0.3, surer: lower")
    assert ("escalates no case" in notes(judge(tmp_path, doubt, text(OVERALL, mini=gate)))) is idle


def test_a_cohort_that_a_route_takes_out_of_its_budget_is_said(tmp_path):
    """It has no verdict of its own, and must not be missed in silence."""
    written = text("  disagreement: {each language: at most 10%}\n").replace(
        "  current:\n", "  current:\n   routes: [{when: {language: fr}, start: flagship}]\n   tiers:\n"
    )
    found = judge(tmp_path, None, written)
    assert ("disagreement", "fr") not in outcomes(found)
    assert "current: nothing is judged of language=fr: a route sends every such case to the flagship" in notes(found)


def test_a_number_nobody_knows_is_no_number():
    """`not float(estimate) > limit` would hold of NaN."""
    unknown = verdicts.rate("disagreement", 0, 0)
    with pytest.raises(TypeError, match="disagreement is unknown: no case to judge"):
        float(unknown)
    assert float(verdicts.rate("disagreement", 1, 4)) == 0.25


def test_a_slice_without_cases_has_no_cohorts_to_loop_over(tmp_path):
    """A gate that escalates everything leaves no unescalated case, and a loop over its cohorts would assert nothing."""
    path = write(tmp_path, {"mini.confidence": all_of(0.1)})
    replay = runs.replays(suite.load(path))["current"]
    assert len(replay.cohorts("language")) == 3
    with pytest.raises(KeyError, match="no case is in this slice, so it has no cohorts"):
        replay.unescalated.cohorts("language")
    assert {(cohort.unescalated.disagreement <= 0.1).not_measured for cohort in replay.cohorts("language")} == {True}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_golden_that_is_replaced_after_it_was_checked_is_refused(tmp_path, ending, how):
    """Its hash was right when it was opened; what is judged afterwards is something else."""
    table = pa.table({name: list(values) for name, values in columns().items()})
    path = tmp_path / "golden" / f"cases.{ending}"
    save(table, path)
    goldens.describe(tmp_path / "golden", name="made", description="", licence="", recorded={}, cohorts=["language"])
    written = tmp_path / "made.cascade.yaml"
    written.write_text(text(data="golden", kind="goldens"), encoding="utf-8")
    opened = runs.open(suite.load(written))
    kind = table.schema.get_field_index("mini.answer")
    flattered = table.set_column(kind, "mini.answer", table["flagship.answer"])
    if how == "in place":
        save(flattered, path)
    else:
        save(flattered, tmp_path / f"new.{ending}")
        (tmp_path / f"new.{ending}").replace(path)
    with pytest.raises(DataError, match=rf"cases.{ending}: .*was replaced while it was read"):
        runs.judge(opened)


def save(table, path):
    """Save a table in the format of the file's name."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        pq.write_table(table, path)


@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_evidence_whose_verdict_does_not_follow_from_its_tests_is_refused(tmp_path, outcome):
    """A verdict changed by hand shows in what it rests on; no report is drawn of it, and it is no baseline."""
    record = judge(tmp_path, None, text("  disagreement: {overall: at most 1.2%}\n")).record
    file = tmp_path / "evidence.json"
    evidence.write(file, evidence.build([record], selected={"items": 1, "of": 1}))
    written = json.loads(file.read_text())
    assert evidence.read(file)["suites"][0]["cascades"][0]["verdicts"][0]["outcome"] == "inconclusive"
    written["suites"][0]["cascades"][0]["verdicts"][0]["outcome"] = outcome
    file.write_text(json.dumps(written))
    with pytest.raises(
        UsageError, match=rf"'disagreement' of 'current' is a {outcome} with p = 0.\d+, which proves nothing"
    ):
        evidence.read(file)


@pytest.mark.parametrize(("least", "said"), [(1000, True), (100, False)])
def test_cohorts_that_are_all_too_small_to_be_told_apart_are_said(tmp_path, least, said):
    """Judged as one they are the whole, and a promise for each of them is none."""
    pooled = text(
        "  disagreement: {each language: at most 10%}\n", cohorts=f"{{language: {{at least: {least} cases}}}}"
    )
    found = notes(judge(tmp_path, None, pooled))
    assert ("every language has too few cases and all are judged as one" in found) is said


def test_what_a_cache_answered_is_counted_aloud(tmp_path):
    """Nothing is judged of it, whatever it was."""
    found = notes(judge(tmp_path, {"cached": NUMBER % 3 == 1}, text(OVERALL)))
    assert "200 of 600 cases were answered by a cache" in found


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("agrees", "'agrees' says whether the flagship gave the same answer, which no gate knows before it asks"),
        ("{recorded: {column: agrees}}", "'agrees' says whether the flagship gave the same answer"),
        ("{agreement: {model: flagship}}", "'agreement' asks 'flagship', the flagship, to find out whether to ask it"),
    ],
)
def test_a_gate_that_knows_what_it_is_judged_by_is_refused(signal, said):
    """It would keep just the cases that agree, and no production could do the same."""
    with pytest.raises(SuiteError, match=r"s\.cascade\.yaml:4: ") as error:
        suite.parse(text(OVERALL, mini=MINI.replace("confidence", signal)), file="s.cascade.yaml", base=".")
    assert said in str(error.value)


def test_a_gate_that_reads_a_grade_is_questioned(tmp_path):
    """A score may come from a model that runs in production, or from someone who knew the answer."""
    for signal, said in (("score", True), ("confidence", False)):
        graded = {"mini.score": lambda table: table["mini.confidence"]}
        found = notes(judge(tmp_path, graded, text(OVERALL, mini=MINI.replace("confidence", signal))))
        assert ("its gate reads 'score', the grade of the answer" in found) is said


@pytest.mark.parametrize("cut", ["threshold: 0.8", "escalate: 25%"])
def test_a_baseline_whose_definition_was_changed_by_hand_is_refused(tmp_path, cut):
    """Beside a worse one every change looks harmless."""
    mini = MINI.replace("threshold: 0.8", cut)
    record = judge(tmp_path, None, text(OVERALL, mini=mini)).record
    evidence.write(tmp_path / "before.json", evidence.build([record], selected={"items": 1, "of": 1}))
    compared = text("  flips to disagreement: {overall: at most 1%}\n", mini=mini, more="baseline: before.json\n")
    assert outcomes(judge(tmp_path, None, compared)) == {("flips to disagreement",): "pass"}
    written = (tmp_path / "before.json").read_text()
    for old, new in (('"threshold": 0.8', '"threshold": 0.2'), ('"escalate": "25%"', '"escalate": "2%"')):
        written = written.replace(old, new, 1)
    (tmp_path / "before.json").write_text(written)
    with pytest.raises(
        BaselineError, match=r"before.json: the definition of 'current' cuts elsewhere than the thresholds"
    ):
        judge(tmp_path, None, compared)
