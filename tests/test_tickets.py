"""The tickets golden: what its description and the README say of a real language model is what was recorded."""

from __future__ import annotations

import importlib
import re
import string
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cascade_eval import goldens, recording, runs, suite

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "goldens"
INTENTS = ["cancel", "defect", "delivery", "invoice", "login", "refund"]
LANGUAGES = ["de", "en", "es", "fr", "pt"]

sys.path.append(str(GOLDENS))  # the scripts are no package
make_tickets = importlib.import_module("make_tickets")


@cache
def cases():
    return pd.read_parquet(GOLDENS / "tickets" / "cases.parquet")


@cache
def tickets():
    return pd.DataFrame(make_tickets.read(GOLDENS / "tickets.jsonl"))


@cache
def evaluated():
    return runs.evaluate(suite.load(ROOT / "suites" / "tickets.cascade.yaml"))


def label(answer):
    """Fold an answer the slow way: case, blanks and punctuation around it do not matter."""
    return answer.strip(string.whitespace + string.punctuation).lower()


def right(model):
    return cases()[f"{model}.answer"].map(label) == cases()["expected"]


# The tickets


def test_tickets_are_situations_told_in_five_languages():
    """330 different texts: eleven situations for each of six intents, each once in every language."""
    assert len(tickets()) == tickets()["input"].nunique() == tickets()["case_id"].nunique() == 330
    assert sorted(tickets()["intent"].unique()) == INTENTS
    assert set(tickets().groupby(["language", "intent"]).size()) == {11}
    told = tickets().groupby("cluster")["language"].apply(sorted)
    assert len(told) == 66
    assert all(languages == LANGUAGES for languages in told)
    assert (tickets()["expected"] == tickets()["intent"]).all()


@pytest.mark.parametrize(("model", "examples", "languages"), [("mini", 18, 3), ("flagship", 60, 5)])
def test_prompts_show_other_tickets(model, examples, languages):
    """No ticket is among the solved examples of a prompt, every intent is shown equally often, and the ticket comes last."""
    prompt = (GOLDENS / f"tickets_{model}.txt").read_text(encoding="utf-8")
    shown = re.findall(r"Message: (.+)\nIntent: (\w+)\n", prompt)
    assert Counter(intent for _, intent in shown) == dict.fromkeys(INTENTS, examples // 6)
    assert not {text for text, _ in shown} & set(tickets()["input"])
    assert len({text for text, _ in shown}) == examples
    assert prompt.endswith("\n\nMessage: {input}\nIntent:")
    assert languages * 6 * (examples // 6 // languages) == examples


def test_the_golden_holds_every_ticket_as_written():
    """Case by case, the golden says what the source file says."""
    shared = list(tickets().columns)
    pd.testing.assert_frame_equal(cases()[shared], tickets()[shared])


# The answers


def test_the_description_is_of_this_data():
    """Hash, models and counts are those of the file, and every call was answered."""
    golden = goldens.open(GOLDENS / "tickets")
    assert golden.cases == 330
    assert set(golden.models) == {"mini", "flagship"}
    assert golden.cohorts == {"language": dict.fromkeys(LANGUAGES, 66), "intent": dict.fromkeys(INTENTS, 55)}
    assert not golden.traffic.bad_rows


def test_flagship_answers_are_the_most_frequent_of_five():
    """Counted one by one: no sample is more frequent than the answer, and of equally frequent ones it came first."""
    for answer, samples in zip(cases()["flagship.answer"], cases()["flagship.samples"], strict=True):
        counts = Counter(map(label, samples))
        most = [sample for sample in samples if counts[label(sample)] == max(counts.values())]
        assert len(samples) == 5
        assert answer == most[0]


def test_the_record_looks_like_a_real_model():
    """Log-probabilities are of the tokens of the answer, tokens fit the prompts, and latencies are wall time."""
    for model, calls in (("mini", 1), ("flagship", 5)):
        prompt = (GOLDENS / f"tickets_{model}.txt").read_text(encoding="utf-8")
        inputs, cached, outputs = (cases()[f"{model}.{name}"] for name in make_tickets.SUMS[:3])
        characters = calls * (len(prompt) + tickets()["input"].str.len())
        assert (inputs * 2 < characters).all()
        assert (inputs * 8 > characters).all()
        assert (cached < inputs).all()
        assert outputs.between(calls, calls * 4).all()
        assert all(
            (np.asarray(tokens) <= 0).all() and 1 <= len(tokens) <= 4 for tokens in cases()[f"{model}.token_logprobs"]
        )
        assert (cases()[f"{model}.latency_s"] > 0).all()
        cost = (inputs - cached) * 0.10e-6 + cached * 0.025e-6 + outputs * 0.40e-6
        np.testing.assert_allclose(cases()[f"{model}.cost_usd"], cost, atol=1.1e-9)


def test_the_recipe_is_what_was_asked():
    """The recipe reads, names both prompts, and asks the flagship five times."""
    models = {model.name: model for model in recording.load(GOLDENS / "tickets.record.yaml").models}
    assert {name: 1 + model.samples for name, model in models.items()} == {"mini": 1, "flagship": 5}
    for name, model in models.items():
        assert model.prompt == (GOLDENS / f"tickets_{name}.txt").read_text(encoding="utf-8")
        assert model.max_output_tokens == 4


# How the golden is made


def call(answer, run=0, model="flagship", status="ok", case="a"):
    """Return one line of a journal."""
    numbers = {
        "input_tokens": 100,
        "cached_input_tokens": 50,
        "output_tokens": 2,
        "cost_usd": 0.1,
        "latency_s": (run + 1) / 10,
    }
    return {
        "case_id": case,
        "model": model,
        "run": run,
        "status": status,
        "answer": answer,
        "token_logprobs": [-run / 10],
    } | numbers


MODAL = [
    (["a", "b", "b", "c", "b"], "b"),
    (["a", "b", " B.", "a", "c"], "a"),
    (["c", "b", "a", "A ", "b"], "b"),
    (["x"], "x"),
]


@pytest.mark.parametrize(("samples", "expected"), MODAL)
def test_the_most_frequent_answer_counts(samples, expected):
    """Answers are compared as labels; the first of equally frequent ones wins, as it was written."""
    made = make_tickets.outcome([call(answer, run) for run, answer in enumerate(samples)])
    assert made["answer"] == expected
    assert made["samples"] == samples
    assert made["input_tokens"] == 100 * len(samples)
    assert made["latency_s"] == len(samples) / 10
    assert made["token_logprobs"] == [-samples.index(expected) / 10]


def test_a_call_that_failed_makes_no_golden():
    """A timeout among the calls ends the making, and says which."""
    with pytest.raises(SystemExit, match="a: a call of flagship ended as timeout"):
        make_tickets.outcome([call("a"), call(None, 1, status="timeout")])


# What the README says


def bounds(hits, confidence=0.95):
    """Exact one-sided bounds of a rate of independent cases (Clopper and Pearson 1934)."""
    k, n = int(hits.sum()), len(hits)
    low = stats.beta.ppf(1 - confidence, k, n - k + 1) if k else 0.0
    high = stats.beta.ppf(confidence, k + 1, n - k) if k < n else 1.0
    return low, high


def clustered(hits, confidence=0.95):
    """One-sided t bounds over the 66 situations, five tickets each."""
    means = hits.groupby(cases()["cluster"]).mean()
    half = stats.t.ppf(confidence, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return means.mean() - half, means.mean() + half


def shown(hits, between):
    """Write a share as the README does."""
    low, high = between(hits)
    return f"{hits.mean():.1%} ({low:.1%} – {high:.1%})"


def accuracy_rows():
    """Return the README's table of accuracy, computed."""
    for language in LANGUAGES:
        chosen = cases()["language"] == language
        yield f"| {language} | 66 | " + " | ".join(shown(right(m)[chosen], bounds) for m in ("mini", "flagship")) + " |"
    yield "| all | 330 | " + " | ".join(shown(right(model), clustered) for model in ("mini", "flagship")) + " |"


def curve_rows():
    """Return the README's table of what a gate on mini's probability keeps, computed."""
    probability = cases()["mini.token_logprobs"].map(lambda tokens: float(np.exp(np.sum(tokens))))
    order = np.argsort(-probability.to_numpy(), kind="stable")
    agrees = (cases()["mini.answer"].map(label) == cases()["flagship.answer"].map(label)).to_numpy()
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        kept = order[: round(330 * share)]
        row = f"| {share:.0%} | {probability.iloc[kept[-1]]:.3f} | {1 - agrees[kept].mean():.1%} "
        yield row + "".join(f"| {right(model).to_numpy()[kept].mean():.1%} " for model in ("mini", "flagship")) + "|"


@pytest.mark.parametrize("row", [pytest.param(i, id=f"accuracy-{i}") for i in range(6)])
def test_accuracy_in_the_readme_is_of_the_data(row):
    """Every row of the table of accuracy is computed anew and stands there to the digit."""
    assert list(accuracy_rows())[row] in (GOLDENS / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("row", range(5))
def test_the_curve_in_the_readme_is_of_the_data(row):
    """Every row of the table of what a gate keeps is computed anew and stands there to the digit."""
    assert list(curve_rows())[row] in (GOLDENS / "README.md").read_text(encoding="utf-8").splitlines()


def test_refunds_are_what_the_model_cannot_do():
    """The README's sentence about the weakest intents holds."""
    found = right("flagship").groupby(cases()["intent"]).mean()
    text = (GOLDENS / "README.md").read_text(encoding="utf-8")
    assert f"names {found['refund']:.0%} of the refunds" in text


# The suite


def test_the_suite_is_judged_as_its_comments_say():
    """Nothing fails, the overall promises pass, and what is inconclusive is so because there are too few cases."""
    verdicts = {(verdict.metric, *verdict.cohort.values()): verdict for verdict in evaluated().verdicts}
    assert len(verdicts) == 9
    assert {key[0] for key, verdict in verdicts.items() if verdict.outcome == "pass"} >= {
        "disagreement",
        "escalation",
        "cost",
    }
    assert not [key for key, verdict in verdicts.items() if verdict.outcome == "fail" or verdict.not_measured]


def test_the_suite_counts_what_a_reader_counts():
    """Escalation, disagreement and cost are those of a walk over the cases."""
    probability = cases()["mini.token_logprobs"].map(lambda tokens: float(np.exp(np.sum(tokens))))
    record = evaluated().record["cascades"][0]
    threshold = record["thresholds"][0]["threshold"]
    kept = probability >= threshold
    differs = cases()["mini.answer"].map(label) != cases()["flagship.answer"].map(label)
    metrics = record["overall"]["metrics"]
    assert metrics["escalation"]["count"] == (~kept).sum()
    assert metrics["disagreement"]["count"] == (kept & differs).sum()
    assert metrics["disagreement"]["nobs"] == kept.sum()
    paid = cases()["mini.cost_usd"].sum() + cases()["flagship.cost_usd"][~kept].sum()
    assert metrics["cost"]["value"] == pytest.approx(paid / cases()["flagship.cost_usd"].sum())
    low, value, high = (f"{metrics['disagreement'][name]:.1%}" for name in ("low", "value", "high"))
    said = f"disagreement on the other 40% is {value}, with bounds of {low} and {high}, for {metrics['cost']['value']:.1%} of the cost"
    assert said in " ".join((GOLDENS / "README.md").read_text(encoding="utf-8").split())
