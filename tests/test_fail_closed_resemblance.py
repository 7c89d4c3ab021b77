"""Attempts to pass by comparing nothing: lost answers, copied rows, misspelled fields, cohorts that only look alike."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from fail_closed_cases import CASES, OVERALL, all_of, every, judge, outcomes, reasons, text, write

from cascade_eval import agreement, cli, runs, suite
from cascade_eval.errors import DataError, SuiteError

SAYS_NOTHING = ("", " \n", "nan", "None", "null", "\u200b")


def both(some):
    """Put other answers into both models' rows."""
    return {
        "mini.answer": lambda t: some(t["mini.answer"]),
        "flagship.answer": lambda t: some(t["flagship.answer"]),
    }


@pytest.mark.parametrize("nothing", SAYS_NOTHING)
@pytest.mark.parametrize("rule", ["exact", "same label", "similar 0.9", "same JSON"])
def test_two_answers_that_say_nothing_are_not_compared(tmp_path, nothing, rule):
    """A pipeline that lost the text of both models would agree with itself in every case."""
    found = judge(tmp_path, both(lambda _: all_of(nothing)), text(OVERALL, more=f"agreement: {rule}\n"))
    assert outcomes(found) == {("disagreement",): "not measured"}
    assert "neither answer says anything" in reasons(found)["disagreement",]
    notes = " ".join(found.record["notes"])
    assert "neither mini nor flagship said anything in 600 of 600 cases" in notes
    assert "{rule: …, empty answers: agree}" in notes


@pytest.mark.parametrize(("lost", "expected"), [(4, "pass"), (5, "not measured")])
def test_some_lost_answers_are_forgiven_as_unknown_ones_are(tmp_path, lost, expected):
    """Up to 1% of the 450 unescalated cases; they count as disagreeing then, and one more is not measured."""
    kept = np.flatnonzero(np.arange(CASES) % 4 != 3)[:lost]
    found = judge(tmp_path, both(lambda a: every(a, np.isin(np.arange(CASES), kept), "")), text(OVERALL))
    assert outcomes(found) == {("disagreement",): expected}
    [verdict] = found.verdicts
    assert expected != "pass" or verdict.p_pass > 0.0001
    assert f"said anything in {lost} of 600 cases" in " ".join(found.record["notes"])


def test_where_the_suite_says_so_empty_answers_agree(tmp_path):
    """Nothing may be the right answer: then the suite says it, and the evidence shows that it did."""
    written = text(OVERALL, more="agreement: {rule: same label, empty answers: agree}\n")
    found = judge(tmp_path, both(lambda _: all_of("")), written)
    assert outcomes(found) == {("disagreement",): "pass"}
    assert "empty answers" in found.record["agreement"]


def test_an_empty_answer_to_a_flagship_that_said_something_disagrees(tmp_path):
    """Only where neither says anything is nothing compared."""
    found = judge(tmp_path, {"mini.answer": all_of("")}, text(OVERALL))
    assert outcomes(found) == {("disagreement",): "fail"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rule": "exact", "empty answers": "agrees"}, "'empty answers' is agree or unknown, not 'agrees'"),
        ({"rule": "exact", "empty": "agree"}, "unknown key 'empty' of 'agreement'. Allowed: 'empty answers', 'rule'."),
        ({"empty answers": "agree"}, "'empty answers' needs a rule beside it: {rule: exact, empty answers: agree}"),
        ("similar 0", "'similar 0' holds of any two answers; write similar 0.9"),
    ],
)
def test_an_agreement_that_cannot_be_meant_is_refused(spec, message):
    """What is written wrong says what to write."""
    with pytest.raises(ValueError, match=r".") as error:
        agreement.parse(spec)
    assert message in str(error.value)


def test_python_tests_compare_no_lost_answers_either(tmp_path):
    """The replay of a Python test refuses the same verdict."""
    judge(tmp_path, both(lambda _: all_of("")), text(OVERALL))
    replay = runs.replays(suite.load(tmp_path / "made.cascade.yaml"))["current"]
    verdict = replay.disagreement <= 0.05
    assert verdict.not_measured


# Fields, scales, copies, names


@pytest.mark.parametrize(
    ("fields", "answer", "said"),
    [("[totla]", '{"total": 1}', "totla"), ("[total, curency]", '{"total": 1, "currency": "EUR"}', "curency")],
)
def test_a_field_that_no_answer_has_is_refused(tmp_path, fields, answer, said):
    """A misspelled field is the same in any two answers: none has it."""
    written = text(OVERALL, more=f"agreement: {{same JSON: {{fields: {fields}}}}}\n")
    with pytest.raises(DataError, match=f"no answer is JSON with the field '{said}'") as error:
        judge(tmp_path, both(lambda _: all_of(answer)), written)
    assert "made.cascade.yaml:9: " in str(error.value)


def test_answers_without_any_of_the_fields_are_not_compared(tmp_path):
    """One in ten answers has lost the field on both sides: that is nothing they agree in."""
    lost = np.arange(CASES) % 10 == 0
    written = text(OVERALL, more="agreement: {same JSON: {fields: [total]}}\n")
    found = judge(tmp_path, both(lambda _: every(all_of('{"total": 1}'), lost, '{"error": "rate limit"}')), written)
    assert outcomes(found) == {("disagreement",): "not measured"}


@pytest.mark.parametrize("grade", [1.5, 5.0, -1.0])
def test_a_judgement_on_another_scale_is_refused(tmp_path, grade):
    """Every grade from 1 to 5 would be at least 0.5, and agree."""
    written = text(OVERALL, more="agreement: judged\n")
    with pytest.raises(DataError, match=r"allowed are true, false and numbers from 0 to 1"):
        judge(tmp_path, {"mini.agrees": all_of(grade)}, written)


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 5.0], [0.5, 96.0]])
def test_scores_on_another_scale_are_no_quality_in_percent(tmp_path, scores):
    """The worst of grades from 1 to 5 is not 100%; retention, a ratio, is judged on any scale."""
    graded = {f"{model}.score": (scores * CASES)[:CASES] for model in ("mini", "flagship")}
    promised = text("  quality: {overall: at least 95%}\n  retention: {overall: at least 95%}\n")
    found = outcomes(judge(tmp_path, graded, promised))
    assert found["quality",] == ("pass" if scores == [1.0] else "not measured")
    assert found["retention",] == "pass"


def test_a_flagship_that_is_a_copy_of_the_cheap_model_is_refused(tmp_path):
    """Rows copied into the wrong file agree in every case, and took equally long in every case."""
    copied = {f"flagship.{name}": lambda t, name=name: t[f"mini.{name}"] for name in ("answer", "latency_s")}
    with pytest.raises(DataError, match=r"'mini' and 'flagship' never disagree and took equally long in each of 600"):
        judge(tmp_path, copied, text(OVERALL))


@pytest.mark.parametrize(
    "change",
    [
        {"flagship.latency_s": lambda t: t["mini.latency_s"]},
        {"flagship.answer": lambda t: t["mini.answer"]},
        {
            "flagship.answer": lambda t: t["mini.answer"],
            "flagship.latency_s": all_of(1.0),
            "mini.latency_s": all_of(1.0),
        },
    ],
    ids=["the same times", "the same answers", "times that were made up"],
)
def test_what_only_resembles_a_copy_is_judged(tmp_path, change):
    """Equal times or equal answers alone may be true; that all answers agree is said."""
    found = judge(tmp_path, change, text(OVERALL))
    assert outcomes(found) == {("disagreement",): "pass"}
    agrees = "flagship.answer" in change
    assert ("agree in all 600 compared cases" in " ".join(found.record["notes"])) is agrees


@pytest.mark.parametrize("other", ["FR", "fr ", "ｆｒ", "f\u200br"])
def test_a_promise_for_a_cohort_beside_one_that_looks_the_same_is_refused(tmp_path, other):
    """The cases of 'FR' would escape a promise for 'fr'; where each is promised something, none does."""
    split = {"language": lambda t: every(t["language"], np.arange(CASES) % 6 == 1, other)}
    one = "  disagreement: {language=fr: at most 10%}\n"
    with pytest.raises(DataError, match="'language=fr' leaves out the cases of 'language="):
        judge(tmp_path, split, text(one))
    promised = "  disagreement: {language=fr: at most 10%, each language: at most 20%}\n"
    assert ("disagreement", other) in outcomes(judge(tmp_path, split, text(promised)))


def test_missing_numbers_are_the_cohort_without_a_name(tmp_path):
    """NaN is what pandas makes of a missing number; it is no name that could be promised anything."""
    numbers = {"language": [float("nan") if i % 3 == 0 else 1.0 for i in range(CASES)]}
    assert set(outcomes(judge(tmp_path, numbers))) >= {("disagreement", "(none)"), ("disagreement", "1")}


def test_cohorts_of_lists_are_refused(tmp_path):
    """A list is no word that could name a cohort, and no reason to end with a traceback."""
    with pytest.raises(DataError, match="the column 'language' holds lists or mappings"):
        judge(tmp_path, {"language": [["en", "fr"]] * CASES})


def test_a_misspelled_rule_inside_the_mapping_is_named(tmp_path):
    """The rule is read as it is anywhere else, with file and line."""
    with pytest.raises(SuiteError, match=r"made.cascade.yaml:9: unknown agreement 'exat'. Did you mean 'exact'\?"):
        judge(tmp_path, None, text(OVERALL, more="agreement: {rule: exat, empty answers: agree}\n"))


# What is not what it was


def test_data_replaced_while_they_are_judged_are_refused(tmp_path):
    """Otherwise the evidence of a pass would bear the hash of cases nobody judged."""
    path = write(tmp_path)
    opened = runs.open(suite.load(path))
    write(tmp_path, {"flagship.answer": all_of("other")}, name="new.parquet")
    (tmp_path / "new.parquet").replace(tmp_path / "cases.parquet")
    with pytest.raises(DataError, match=r"cases.parquet: was replaced while it was read. Run again"):
        runs.judge(opened)


@pytest.mark.parametrize(
    ("signal", "model", "said"),
    [("confidence", "mini", None), ("margin", "mini", "confidence of mini, and is used for margin of mini")],
)
def test_a_calibration_of_something_else_is_named(tmp_path, signal, model, said):
    """A map of another signal or model gives the threshold no meaning; the verdict is of what the gate did all the same."""
    half = {"case_id": [f"before-{i}" for i in range(CASES)]}
    done = CliRunner().invoke(
        cli.commands,
        ["calibrate", str(write(tmp_path / "before", half)), "--kind", "platt", "-o", str(tmp_path / "map.json")],
    )
    assert done.exception is None, done.output
    gate = f"{{tier: mini, model: {model}, gate: {{signal: {signal}, calibrate: map.json, threshold: 0.5}}}}"
    both_signals = {"mini.margin": lambda t: t["mini.confidence"]}
    notes = " ".join(judge(tmp_path, both_signals, text(OVERALL, mini=gate)).record["notes"])
    assert (said or "fit it again") in notes if said else "fit it again" not in notes
