"""Attempts to judge a threshold or a calibration on the cases that chose it, in another dress."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from fail_closed_cases import CASES, MINI, OVERALL, columns, outcomes, reasons, text
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import cli, proposals, runs, suite, traffic
from cascade_eval.cascade import Signal
from cascade_eval.errors import DataError, UsageError
from cascade_eval.suite import sketches

SURE = np.random.default_rng(3).beta(6, 1, CASES).round(6)
EASY = text("  disagreement: {overall: at most 20%}\n  cost: {overall: at most 90%}\n")


def frame():
    """Return the cases with signals that tell them apart."""
    return pd.DataFrame({name: list(values) for name, values in columns().items()} | {"mini.confidence": SURE})


def saved(cases, path):
    """Save the cases in the format of the file's name."""
    if path.suffix == ".parquet":
        cases.to_parquet(path)
    elif path.suffix == ".csv":
        cases.to_csv(path, index=False)
    else:
        cases.to_json(path, orient="records", lines=True)
    return str(path)


DRESSES = {
    "another format": lambda cases: (cases, "again.csv"),
    "another order, as lines": lambda cases: (cases.sample(frac=1, random_state=1), "again.jsonl"),
    "fewer columns": lambda cases: (cases.drop(columns=["language"]).assign(language="en"), "again.parquet"),
    "a case less": lambda cases: (cases.iloc[1:], "again.parquet"),
    "a third of the cases": lambda cases: (cases.iloc[: CASES // 3], "again.parquet"),
    "among as many others": lambda cases: (
        pd.concat([cases, cases.assign(case_id="new-" + cases["case_id"])]),
        "again.parquet",
    ),
    "in single precision": lambda cases: (cases.astype({"mini.confidence": "float32"}), "again.parquet"),
}


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Let a command choose the threshold of a suite on its data, and write it."""
    monkeypatch.chdir(tmp_path)
    saved(frame(), tmp_path / "cases.parquet")
    path = tmp_path / "made.cascade.yaml"
    path.write_text(EASY, encoding="utf-8")
    assert cli.run(["threshold", "made.cascade.yaml", "--disagreement", "at most 10%", "--write"]) == 0
    return suite.load("made.cascade.yaml")


@pytest.mark.parametrize("dress", DRESSES)
def test_a_threshold_proves_nothing_about_its_cases_however_they_are_saved(chosen, tmp_path, dress):
    """What was chosen by looking at cases is not measured by most of them, in whatever file; cost was not looked at."""
    cases, name = DRESSES[dress](frame())
    found = runs.evaluate(chosen, traffic_path=saved(cases, tmp_path / name))
    assert outcomes(found) == {("disagreement",): "not measured", ("cost",): "pass"}
    assert "the threshold of mini was chosen on th" in reasons(found)["disagreement",]


@pytest.mark.parametrize(
    "changes",
    [{"case_id": [f"new-{number}" for number in range(CASES)]}, {"mini.confidence": SURE[::-1]}],
    ids=["other cases", "the same questions, answered again"],
)
def test_a_threshold_is_judged_by_other_cases(chosen, tmp_path, changes):
    """Cases of other ids, and answers that were recorded anew, did not choose it."""
    found = runs.evaluate(chosen, traffic_path=saved(frame().assign(**changes), tmp_path / "other.parquet"))
    assert outcomes(found) == {("disagreement",): "pass", ("cost",): "pass"}


@pytest.mark.parametrize(
    ("dress", "refused"), [("another format", True), ("a case less", True), ("a third of the cases", False)]
)
def test_a_calibration_says_nothing_about_its_cases_however_they_are_saved(tmp_path, monkeypatch, dress, refused):
    """A stored map is refused on the cases it was fitted on, or on most of them, in whatever file."""
    monkeypatch.chdir(tmp_path)
    saved(frame(), tmp_path / "cases.parquet")
    path = tmp_path / "made.cascade.yaml"
    path.write_text(text(OVERALL), encoding="utf-8")
    assert cli.run(["calibrate", "made.cascade.yaml", "--kind", "platt", "-o", "map.json"]) == 0
    path.write_text(text(OVERALL, mini=MINI.replace("threshold", "calibrate: map.json, threshold")), encoding="utf-8")
    cases, name = DRESSES[dress](frame())
    again = saved(cases, tmp_path / name)
    if refused:
        with pytest.raises(DataError, match=r"map\.json: this calibration was fitted on the very data"):
            runs.evaluate(suite.load(path), traffic_path=again)
    else:
        assert outcomes(runs.evaluate(suite.load(path), traffic_path=again))


def sketch(numbers, sign=1):
    """Sketch cases of these numbers."""
    rows = [{"case_id": f"case-{number}", "mini.confidence": sign * number / 7} for number in numbers]
    return sketches.of(traffic.from_records(rows), Signal("confidence"), "mini")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_a_sketch_knows_its_cases_in_any_order(numbers, shuffle):
    """The same cases have the same sketch; other answers to them share nothing with it."""
    again = list(numbers)
    shuffle.shuffle(again)
    assert sketch(numbers) == sketch(again)
    assert sketches.share(sketch(numbers), sketch(again)) == 1
    assert sketches.share(sketch(numbers), sketch([number + 1 for number in numbers], sign=-1)) == 0


@pytest.mark.parametrize("common", [0, 250, 500, 750, 1000])
def test_a_sketch_estimates_the_share_of_common_cases(common):
    """Within what 32 classes can tell, on average over twenty pairs of sets of a thousand."""
    shares = [
        sketches.share(sketch(range(at, at + 1000)), sketch(range(at + 1000 - common, at + 2000 - common)))
        for at in range(0, 60_000, 3000)
    ]
    # Few equal classes are called chance, so small shares are estimated low.
    assert np.mean(shares) == pytest.approx(common / (2000 - common), abs=0.06)


@pytest.mark.parametrize(("year", "expected"), [(2020, "fail"), (2099, "not measured")])
def test_a_calibration_of_the_future_has_no_age(tmp_path, monkeypatch, year, expected):
    """Less than no days would be younger than any limit."""
    monkeypatch.chdir(tmp_path)
    saved(frame().assign(case_id=[f"before-{number}" for number in range(CASES)]), tmp_path / "cases.parquet")
    path = tmp_path / "made.cascade.yaml"
    path.write_text(text(OVERALL), encoding="utf-8")
    assert cli.run(["calibrate", "made.cascade.yaml", "--kind", "platt", "-o", "map.json"]) == 0
    fitted = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps({**fitted, "created_at": f"{year}-01-01T00:00:00+00:00"}))
    gate = MINI.replace("threshold", "calibrate: map.json, threshold")
    path.write_text(text("  calibration age: {overall: at most 30 days}\n", mini=gate), encoding="utf-8")
    found = runs.evaluate(suite.load(path), traffic_path=saved(frame(), tmp_path / "now.parquet"))
    assert outcomes(found) == {("calibration age",): expected}
    assert expected == "fail" or "a clock is wrong" in reasons(found)["calibration age",]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("signal: confidence", "signal: margin", "was chosen for 'confidence', and now it compares 'margin'"),
        ("signal: confidence", "calibrate: platt, signal: confidence", "it compares 'confidence, calibrated (platt)'"),
        ("tier: mini", "tier: small", "was chosen for 'confidence', and now there is no such gate"),
    ],
)
def test_a_threshold_is_not_written_into_a_gate_that_changed(tmp_path, monkeypatch, old, new, said):
    """A number of one signal means nothing on another; nothing is written."""
    monkeypatch.chdir(tmp_path)
    saved(frame(), tmp_path / "cases.parquet")
    path = tmp_path / "made.cascade.yaml"
    path.write_text(EASY, encoding="utf-8")
    found = suite.load(path)
    made = proposals.threshold(found, runs.open(found).traffic, at_most=0.1)
    path.write_text(EASY.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        proposals.write(path, made)
    assert said in str(error.value)
    assert path.read_text(encoding="utf-8") == EASY.replace(old, new)
