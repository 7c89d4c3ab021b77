"""Evidence: written whole, read with suspicion."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
from pathlib import Path

import evidence_sample
import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade_eval
from cascade_eval import errors, evidence

SHIPPED = Path(cascade_eval.__file__).with_name("evidence.schema.json")


@pytest.fixture(scope="module")
def sample():
    return evidence_sample.sample()


def verdict_of(record):
    return record["suites"][0]["cascades"][0]["verdicts"][0]


def test_the_shipped_schema_is_the_one_the_models_make():
    """evidence.schema.json stays in step with the format."""
    assert json.loads(SHIPPED.read_text()) == json.loads(json.dumps(evidence.schema()))


def test_what_is_built_is_valid_by_the_shipped_schema(sample):
    """The JSON Schema accepts a whole run, and refuses it with one unknown key."""
    validator = jsonschema_rs.validator_for(json.loads(SHIPPED.read_text()))
    assert validator.is_valid(json.loads(json.dumps(sample)))
    wrong = copy.deepcopy(sample)
    verdict_of(wrong)["outcom"] = "pass"
    assert not validator.is_valid(json.loads(json.dumps(wrong)))


def test_reading_gives_back_what_was_written(sample, tmp_path):
    """Write and read are inverse, in content and in the order of keys; equal evidence gives equal bytes."""
    first, second = (
        evidence.write(tmp_path / "new" / "a.json", sample),
        evidence.write(tmp_path / "b.json", copy.deepcopy(sample)),
    )
    assert first.read_bytes() == second.read_bytes()
    assert json.dumps(evidence.read(first)) == json.dumps(sample)


NOTHING_YET = evidence_sample.records()[-1]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_float_is_rounded(number):
    """A bound survives the file bit for bit, so that none can land on its budget."""
    suite = copy.deepcopy(NOTHING_YET)
    suite["cascades"][0]["overall"]["weight"] = number
    built = evidence.build([suite], selected={"items": 0, "of": 0})
    found = json.loads(json.dumps(built))["suites"][0]["cascades"][0]["overall"]["weight"]
    assert (found, math.copysign(1, found)) == (number, math.copysign(1, number))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")])
def test_a_number_that_is_none_becomes_null(number):
    """NaN and infinities never reach the file; numpy's numbers become Python's."""
    suites = [copy.deepcopy(NOTHING_YET)]
    estimate = suites[0]["cascades"][0]["overall"]["metrics"]["cost"]
    estimate["low"], estimate["nobs"], estimate["value"] = number, np.int64(7), np.float32(0.5)
    built = evidence.build(suites, selected={"items": 0, "of": 0})
    found = built["suites"][0]["cascades"][0]["overall"]["metrics"]["cost"]
    assert (found["low"], found["nobs"], found["value"]) == (None, 7, 0.5)
    assert type(found["nobs"]) is int


def test_answers_that_are_no_text_are_kept_as_json():
    """A number or a JSON answer is written as JSON text, and half a surrogate pair does not break the file."""
    suites = evidence_sample.records()[:1]
    worst = suites[0]["cascades"][0]["worst"][0]
    worst["answer"], worst["expected"], worst["input"] = {"label": "é"}, 4.5, "\ud83d!"
    built = evidence.build(suites, selected={"items": 0, "of": 0})["suites"][0]["cascades"][0]["worst"][0]
    assert (built["answer"], built["expected"], built["input"]) == ('{"label": "é"}', "4.5", "\ufffd!")
    json.dumps(built, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "a.json:1: not JSON: Expecting property name enclosed in double quotes (column 2)."),
        (
            b'{"schema": NaN}',
            "a.json: not JSON as evidence is written: NaN is not JSON; a number that is not known is null.",
        ),
        (b"\xff\xfe\x00", "a.json: not JSON as evidence is written"),
        (b"[" * 100_000, "a.json: not JSON as evidence is written"),
        (b"[]", "a.json: not evidence of a run: 'schema' must be 'cascade-eval/evidence/1', not None."),
        (
            b'{"schema": "other"}',
            "a.json: not evidence of a run: 'schema' must be 'cascade-eval/evidence/1', not 'other'.",
        ),
        (
            b'{"schema": "cascade-eval/evidence/2"}',
            "a.json: written in format 'cascade-eval/evidence/2'; this version reads 'cascade-eval/evidence/1'. Upgrade cascade-eval",
        ),
        (
            b'{"schema": "cascade-eval/evidence/1", "suits": []}',
            "a.json: evidence: unknown key 'suits'. Did you mean 'suites'?",
        ),
    ],
)
def test_a_damaged_file_says_what_is_wrong_with_it(text, message, tmp_path):
    """Every damaged file is a usage error that names the file and what is allowed."""
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(errors.UsageError) as caught:
        evidence.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_problems_of_a_file_are_shown_together(sample, tmp_path):
    """Wrong type, wrong word, missing and unknown key are reported at once, each with its place."""
    wrong = copy.deepcopy(sample)
    verdict = verdict_of(wrong)
    verdict |= {"outcome": "passed", "family": "3", "cohrot": {}}
    del verdict["bound"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(errors.UsageError) as caught:
        evidence.read(path)
    place = "suites[0].cascades[0].verdicts[0]"
    assert [problem.message for problem in caught.value.problems] == [
        f"{place}: 'bound' is missing.",
        f"{place}.outcome: Input should be 'pass', 'fail' or 'inconclusive', not 'passed'.",
        f"{place}.family: Input should be a valid integer, not '3'.",
        f"{place}: unknown key 'cohrot'. Did you mean 'cohort'?",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "pass", "not_measured": True}, "what was not measured is inconclusive, never 'pass'"),
        ({"outcome": "fail", "not_measured": True}, "what was not measured is inconclusive, never 'fail'"),
    ],
)
def test_nothing_unmeasured_can_be_recorded_as_decided(sample, change, message):
    """Fail closed: evidence refuses a verdict of pass or fail on what was not measured."""
    suites = copy.deepcopy(sample["suites"])
    suites[0]["cascades"][0]["verdicts"][0] |= change
    with pytest.raises(errors.UsageError, match=message):
        evidence.build(suites, selected={"items": 1, "of": 1})


def test_a_pass_has_a_value(sample):
    """Fail closed: evidence refuses a pass whose estimate is null."""
    suites = copy.deepcopy(sample["suites"])
    verdict = suites[0]["cascades"][0]["verdicts"][0]
    verdict["outcome"], verdict["estimate"]["value"] = "pass", None
    with pytest.raises(errors.UsageError, match="nothing can pass without a value"):
        evidence.build(suites, selected={"items": 1, "of": 1})


def test_a_file_too_large_is_refused_unread(tmp_path):
    """The size bound is checked before a byte is read."""
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(evidence.MAXIMUM_BYTES + 1)
    with pytest.raises(
        errors.UsageError, match="200,000,001 bytes is too large for evidence; at most 200,000,000 are read"
    ):
        evidence.read(path)


def test_a_missing_file_is_a_usage_error(tmp_path):
    """No traceback for a path that does not exist."""
    with pytest.raises(errors.UsageError, match=r"gone\.json: there is no such file"):
        evidence.read(tmp_path / "gone.json")


def test_a_failed_write_leaves_no_half_file(sample, tmp_path):
    """Where the file cannot be put in place, nothing is left behind and the message names the path."""
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(errors.UsageError, match="cannot write"):
        evidence.write(tmp_path / "taken.json", sample)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_redaction_removes_every_text_of_a_case(sample):
    """No question, no answer and nothing expected remains; ids and numbers do; doing it twice changes nothing."""
    redacted = evidence.redact(sample)
    cascade = redacted["suites"][0]["cascades"][0]
    before = sample["suites"][0]["cascades"][0]
    assert {cascade["worst"][0][key] for key in ("input", "answer", "flagship_answer", "expected")} == {None}
    assert cascade["worst"][1]["case_id"] == before["worst"][1]["case_id"] == "gold-0001"
    assert {
        case[key]
        for case in cascade["flips"][0]["cases"]
        for key in ("baseline_answer", "candidate_answer", "flagship_answer")
    } == {None}
    text = json.dumps(redacted)
    assert "refund_request" not in text
    assert "charged twice" not in text
    assert evidence.redact(redacted) == redacted
    assert before["worst"][1]["answer"] is not None
    evidence.build(redacted["suites"], selected=redacted["selected"])


def test_a_baseline_is_found_by_suite_and_name(sample):
    """The record that comes back carries the complete definition."""
    found = evidence.find_cascade(sample, "suites/support.cascade.yaml", "wider", sha256="9d1c" * 16)
    assert found["definition"][0]["gate"]["threshold"] == 0.83


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"selected": {"items": 3, "of": 14}}, ("suites/support.cascade.yaml", "wider"), "only 3 of 14 items ran, so this evidence is no baseline"),
        ({}, ("suites/suport.cascade.yaml", "wider"), "no suite 'suites/suport.cascade.yaml' in this evidence. Did you mean 'suites/support.cascade.yaml'?"),
        ({}, ("suites/support.cascade.yaml", "wide"), "no cascade 'wide' of suites/support.cascade.yaml in this evidence. Did you mean 'wider'?"),
    ],
)  # fmt: skip
def test_an_unusable_baseline_says_why(sample, change, arguments, message):
    """A partial run, an unknown suite and an unknown cascade are baseline errors that name the file."""
    with pytest.raises(errors.BaselineError) as caught:
        evidence.find_cascade({**sample, **change}, *arguments, file="old.json")
    assert str(caught.value).startswith(f"old.json: {message}")


def test_a_baseline_of_other_data_is_refused(sample):
    """Comparing case by case needs the same cases."""
    with pytest.raises(errors.BaselineError, match="measured on other data"):
        evidence.find_cascade(sample, "suites/support.cascade.yaml", "wider", sha256="0" * 64)


def git(folder, *words):
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", "-C", str(folder), *settings, *words],
        check=True,
        capture_output=True,
        env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull},
    )


def test_the_state_of_a_repository(tmp_path):
    """Branch from the first moment, commit once there is one; changed tracked files make it dirty, new files do not."""
    git(tmp_path, "init", "-b", "trunk")
    assert evidence.git_state(tmp_path) == {"commit": None, "branch": "trunk", "dirty": False}
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    state = evidence.git_state(tmp_path)
    assert len(state["commit"]) == 40
    (tmp_path / "report.html").write_text("new")
    assert evidence.git_state(tmp_path)["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert evidence.git_state(tmp_path) == {**state, "dirty": True}
    git(tmp_path, "checkout", "--detach")
    assert evidence.git_state(tmp_path)["branch"] is None


def test_no_repository_is_no_error(tmp_path):
    """Outside git there is simply nothing to say."""
    assert evidence.git_state(tmp_path) is None
    assert evidence.git_state(tmp_path / "gone") is None
