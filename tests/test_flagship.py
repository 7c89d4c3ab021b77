"""The flagship looked at itself: the noise floor, budgets under it, and answers for a person to see."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cascade_eval import bounds, cli, runs, suite, traffic
from cascade_eval.diagnosis import flagship
from cascade_eval.errors import UsageError

SUITE = """\
traffic: log.jsonl
cascades:
  current:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}
    - {tier: flagship, model: flagship}
agreement: same label
cohorts: [language]
budgets:
  disagreement:
    overall: at most 5%
    each language: at most 20%
    language=de: at most 2%
"""


def lay(folder, answers, text=SUITE, **columns):
    """Record cases of (language, mini's answer, the flagship's answers), and a suite beside them."""
    rows = []
    for number, (language, mini, *said) in enumerate(answers):
        key = {"case_id": f"c{number}", "language": language}
        rows.append(key | {"model": "mini", "answer": mini, "confidence": 0.9})
        for run, answer in enumerate(said):
            more = {name: values[number] for name, values in columns.items()} if run == 0 else {}
            rows.append(key | {"model": "flagship", "answer": answer, "run": run} | more)
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "s.cascade.yaml").write_text(text, encoding="utf-8")
    found = suite.load(folder / "s.cascade.yaml")
    return found, runs.open(found).traffic


NOISY = [("de", "yes", "yes", "no")] * 12 + [("de", "yes", "yes", "yes")] * 48 + [("en", "yes", "yes", "yes")] * 60


# Corrected rates


@pytest.mark.parametrize(
    ("rate", "flipped", "true"), [(0.08, 0.03, 0.0532), (0.03, 0.03, 0.0), (0.01, 0.03, 0.0), (1.0, 0.0, 1.0)]
)
def test_a_rate_without_flips(rate, flipped, true):
    """Published figure: 8% against labels that flip in 3% is 5.32%; below the flips nothing is left."""
    assert round(float(bounds.without_flips(rate, flipped)), 4) == true


def test_a_rate_without_misjudgement():
    """Published figure: 10% by a judge of sensitivity .90 and specificity .97 is 8.05%; a coin says nothing."""
    assert round(float(bounds.without_misjudgement(0.10, 0.90, 0.97)), 4) == 0.0805
    assert math.isnan(bounds.without_misjudgement(0.1, 0.4, 0.6))
    assert math.isnan(bounds.without_flips(0.1, 0.5))
    assert bounds.without_flips([0.01, 0.99], 0.03).tolist() == [0.0, 1.0]


@given(st.floats(0, 1), st.floats(0, 0.49), st.floats(0.6, 1), st.floats(0.6, 1))
def test_correcting_undoes_what_errors_do(true, flipped, sensitivity, specificity):
    """What errors make of a rate is turned back into it; and a self-disagreement into the flips behind it."""
    seen = true + flipped - 2 * true * flipped
    assert float(bounds.without_flips(seen, flipped)) == pytest.approx(true, abs=1e-6)
    judged = true * sensitivity + (1 - true) * (1 - specificity)
    assert float(bounds.without_misjudgement(judged, sensitivity, specificity)) == pytest.approx(true, abs=1e-6)
    assert flagship.flips_behind(2 * flipped * (1 - flipped)) == pytest.approx(flipped, abs=1e-6)


def test_the_correction_finds_the_truth_in_a_simulation():
    """A flagship that flips in 3% of its answers differs from itself in 5.8%; corrected by that, 8.0% becomes 5.3%."""
    rng = np.random.default_rng(5)
    size = 2_000_000
    truth = rng.random(size) < 0.0532
    first, second = (truth ^ (rng.random(size) < 0.03) for _ in range(2))
    itself = float((first != second).mean())
    assert itself == pytest.approx(2 * 0.03 * 0.97, abs=0.001)
    assert float(first.mean()) == pytest.approx(0.08, abs=0.001)
    assert float(bounds.without_flips(first.mean(), flagship.flips_behind(itself))) == pytest.approx(0.0532, abs=0.001)


# The noise floor


def test_the_floor_is_measured_with_bounds_overall_and_by_cohort(tmp_path):
    """Of 120 repeated cases 12 differ, all German: 10% overall, 20% there, each with exact bounds."""
    found = flagship.noise(*lay(tmp_path, NOISY))
    low, high = bounds.rate(12, 120)
    assert (found.model, found.overall.count, found.overall.nobs) == ("flagship", 12, 120)
    assert (found.overall.low, found.overall.high) == pytest.approx((float(low), float(high)))
    german = found.cohorts[("language", "de"),]
    assert (german.count, german.nobs, found.cohorts[("language", "en"),].count) == (12, 60, 0)
    assert found.flipped == pytest.approx((1 - 0.8**0.5) / 2)


def test_budgets_under_the_floor_are_named_with_their_line(tmp_path):
    """5% overall and 2% for German lie under the lower bounds; 20% of each language is the value itself, and no more."""
    found = flagship.noise(*lay(tmp_path, NOISY))
    said = [str(problem) for problem in found.below]
    assert [problem.line for problem in found.below] == [10, 12]
    assert "s.cascade.yaml:10: 'flagship' disagrees with itself in 10% of 120 repeated cases" in said[0]
    assert "'at most 5%' is below that, and cannot be proven" in said[0]
    assert "language=de in 20% of 60" in said[1]
    assert found.perhaps == ()


def test_few_repeats_only_suspect(tmp_path):
    """One of ten repeats differs: 10% is above the budget, its lower bound is not."""
    found = flagship.noise(*lay(tmp_path, [("en", "yes", "yes", "no")] + [("en", "yes", "yes", "yes")] * 9))
    assert found.below == ()
    assert [problem.line for problem in found.perhaps] == [10]
    assert "10 repeats are too few to be sure of it" in found.perhaps[0].message


def test_disagreement_is_shown_raw_and_corrected(tmp_path):
    """A quarter of what mini keeps disagrees; with one German answer in nine flipping it would be less."""
    answers = [("en", "no", "yes", "yes")] * 30 + NOISY[:90]
    found = flagship.noise(*lay(tmp_path, answers))
    raw, corrected = found.corrected["current"]
    assert raw == 0.25
    assert corrected == pytest.approx(float(bounds.without_flips(0.25, found.flipped)))
    assert corrected < raw


@pytest.mark.parametrize("answers", [[("en", "yes", "yes")] * 9, [("en", "yes", "yes", None)] * 9])
def test_without_a_comparable_repeat_there_is_no_floor(tmp_path, answers):
    """Nothing asked twice, or no second answer, is no floor of zero."""
    assert flagship.noise(*lay(tmp_path, answers)) is None


def test_the_run_says_that_a_budget_is_below_the_floor(tmp_path):
    """Notes of the record and the advice of the verdict say so, and few repeats only warn."""
    lay(tmp_path, [("de", "no", "yes", "yes")] * 6 + NOISY)
    found = runs.evaluate(suite.load(tmp_path / "s.cascade.yaml"))
    assert any("'at most 5%' is below that and cannot be proven" in note for note in found.record["notes"])
    [verdict] = [v for v in found.verdicts if v.scope == "overall"]
    assert verdict.outcome != "pass"
    assert verdict.advice.startswith("The flagship disagrees with itself in 9.5% of 126 repeated cases")
    lay(
        tmp_path,
        [("en", "yes", "yes", "no")] + [("en", "yes", "yes", "yes")] * 9,
        SUITE.replace("    language=de: at most 2%\n", ""),
    )
    few = runs.evaluate(suite.load(tmp_path / "s.cascade.yaml"))
    assert any("may not be provable" in note for note in few.record["notes"])


# Answers for a person


def least_sure(folder, **options):
    answers = [("de" if n % 2 else "en", "yes", f"answer {n}") for n in range(6)]
    return flagship.doubtful(*lay(folder, answers, confidence=[0.9, 0.3, None, 0.3, 0.99, 0.5]), **options)


def test_the_least_sure_answers_come_first(tmp_path):
    """Ties keep their order, a null confidence cannot be placed, and each row says whose case it is."""
    found = least_sure(tmp_path, limit=3)
    assert [(one.case_id, one.value, one.cohort["language"]) for one in found] == [
        ("c1", 0.3, "de"),
        ("c3", 0.3, "de"),
        ("c5", 0.5, "de"),
    ]
    assert found[0].answer == "answer 1"
    assert found[0].signal == "confidence"


@pytest.mark.parametrize(("at_most", "ids"), [(0.3, ["c1", "c3"]), (0.5, ["c1", "c3", "c5"]), (0.1, [])])
def test_only_answers_below_a_value(tmp_path, at_most, ids):
    """A bound keeps its end."""
    assert [one.case_id for one in least_sure(tmp_path, at_most=at_most)] == ids


def test_it_is_what_sorting_everything_gives(tmp_path):
    """Batch by batch the same answers are kept as by sorting all of them."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 40, 500) / 40
    found = flagship.doubtful(*lay(tmp_path, [("en", "yes", "yes")] * 500, confidence=values.tolist()), limit=70)
    ordered = sorted(range(500), key=lambda n: (values[n], n))[:70]
    assert [one.case_id for one in found] == [f"c{n}" for n in ordered]


def test_token_probabilities_serve_where_no_confidence_was_recorded(tmp_path):
    """The mean probability of the tokens, a token of probability zero being the least sure."""
    logprobs = [[-0.1, -0.1], [-2.0], [-1.0, -1.0]]
    found = flagship.doubtful(*lay(tmp_path, [("en", "yes", "yes")] * 3, token_logprobs=logprobs))
    assert [(one.case_id, one.signal, round(one.value, 4)) for one in found] == [
        ("c1", "logprob", 0.1353),
        ("c2", "logprob", 0.3679),
        ("c0", "logprob", 0.9048),
    ]


def test_a_flagship_that_nothing_is_known_of_is_an_error(tmp_path):
    """No column, a misspelt one, or one without a value must not look like a flagship without doubts."""
    answers = [("en", "yes", "yes")] * 2
    found, _ = lay(tmp_path, answers)
    bare = traffic.from_records([{"case_id": "a", "language": "en", "mini.answer": "x", "flagship.answer": "x"}])
    with pytest.raises(UsageError, match="record its `confidence` or `token_logprobs`"):
        flagship.doubtful(found, bare)
    with pytest.raises(UsageError, match="null in every case"):
        flagship.doubtful(*lay(tmp_path, answers))
    with pytest.raises(UsageError, match="Did you mean 'confidence'"):
        flagship.doubtful(*lay(tmp_path, answers), signal="confidense")
    with pytest.raises(UsageError, match="Did you mean 'current'"):
        flagship.doubtful(*lay(tmp_path, answers), cascade="curent")


def test_what_is_handed_out_is_no_formula(tmp_path):
    """A cell that a spreadsheet would run begins with an apostrophe; JSONL keeps the answer as it is."""
    answers = [
        ("en", "yes", "=HYPERLINK(1)"),
        ("en", "yes", " +1"),
        ("en", "yes", "-5"),
        ("en", "yes", "@x"),
        ("en", "yes", "ok"),
    ]
    found = flagship.doubtful(*lay(tmp_path, answers, confidence=[0.1, 0.2, 0.3, 0.4, 0.5]))
    with flagship.write(tmp_path / "out.csv", found).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == ["'=HYPERLINK(1)", "' +1", "'-5", "'@x", "ok"]
    assert list(rows[0]) == ["case_id", "language", "signal", "value", "answer", "input", "review"]
    lines = flagship.write(tmp_path / "out.jsonl", found).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["answer"] for line in lines] == [said for _, _, said in answers]
    with pytest.raises(UsageError, match=r"as \.csv or \.jsonl"):
        flagship.write(tmp_path / "out.xlsx", found)


def test_the_command_shows_the_floor_and_writes_the_answers(tmp_path):
    """`audit doubtful` says what it found, and where it put it."""
    lay(tmp_path, NOISY, confidence=np.linspace(0.2, 0.9, len(NOISY)).tolist())
    path = str(tmp_path / "s.cascade.yaml")
    done = CliRunner().invoke(cli.commands, ["audit", "doubtful", path, "--limit", "2", "-o", str(tmp_path / "r.csv")])
    assert done.exit_code == 0, done.output
    assert "flagship disagrees with itself: 10% (5.9% to 15.7%), n=120" in done.output
    assert "c0  confidence 0.2  language=de  yes" in done.output
    assert "'at most 5%' is below that, and cannot be proven." in done.output
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").count("\n") == 3
