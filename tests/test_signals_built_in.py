"""Built-in signals against their formulas, one slow case at a time."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_eval import answers, errors, signals
from cascade_eval.cascade import Signal
from cascade_eval.signals import hedging, judge, self_reported
from cascade_eval.traffic.batch import OK, TIMEOUT, Batch, Field

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA names no folder")


def computed(name, options=None, *, other=None, **columns):
    """Compute a signal of `mini`; `other` holds columns of further models as {model: {column: values}}."""
    models = {"mini": columns, **(other or {})}
    fields = {
        Field(model, column): values if isinstance(values, pa.Array) else pa.array(values)
        for model, mine in models.items()
        for column, values in mine.items()
    }
    size = len(next(iter(fields.values())))
    return signals.compute(Signal(name, options or {}), Batch(size, fields), "mini")


def logprob(statistic, tokens, **options):
    column = pa.array(tokens, pa.list_(pa.float64()))
    return computed("logprob", {"statistic": statistic, **options}, token_logprobs=column)


# Log-probabilities

ORACLE = [math.log(p) for p in (0.99, 0.98, 0.30, 0.97, 0.95, 0.999, 0.99, 0.90)]


@pytest.mark.parametrize(
    ("statistic", "options", "expected"),
    [
        ("mean", {}, -0.1790),
        ("probability", {}, 0.8361),
        ("minimum", {}, 0.3000),
        ("first", {}, 0.9900),
        ("quantile", {"q": 0}, 0.3000),
        ("quantile", {"q": 0.1}, 0.6473),
        ("quantile", {"q": 0.2}, 0.9197),
        ("quantile", {"q": 0.5}, 0.9750),
        ("quantile", {"q": 1}, 0.9990),
    ],
)
def test_statistics_of_eight_tokens(statistic, options, expected):
    """The figures of a worked example, to four decimals."""
    assert round(float(logprob(statistic, [ORACLE], **options)[0]), 4) == expected
    assert round(8 * float(logprob("mean", [ORACLE])[0]), 4) == -1.4324


def test_margin_of_three_tokens():
    """One minus the mean gap between the two likeliest tokens is .305 here, in any order and as structures."""
    tops = [[math.log(a), math.log(b)] for a, b in ((0.9, 0.05), (0.6, 0.35), (0.99, 0.005))]
    shuffled = [[b, math.log(1e-9), a] for a, b in tops]
    named = [[{"token": "x", "logprob": value} for value in token] for token in tops]
    for column in ([tops], [shuffled], [named]):
        found = computed("logprob", {"statistic": "margin"}, top_logprobs=column)
        assert found.round(9).tolist() == [0.305]
    assert np.isnan(computed("logprob", {"statistic": "margin"}, top_logprobs=[[[-0.1]]])).all()


def test_entropy_counts_what_is_not_listed():
    """Two halves have ln 2; .9 and .05 leave .05 for one more alternative; a certain token has none."""
    tops = [[[math.log(0.5), math.log(0.5)]], [[math.log(0.9), math.log(0.05)]], [[0.0, -math.inf]]]
    found = computed("logprob", {"statistic": "entropy"}, top_logprobs=tops)
    slow = [math.log(2), -(0.9 * math.log(0.9) + 2 * 0.05 * math.log(0.05)), 0.0]
    np.testing.assert_allclose(found, slow, atol=1e-12)


@pytest.mark.parametrize(("length", "mean_score"), [(5, 0.539), (50, 0.953), (500, 0.995)])
def test_a_mean_hides_one_bad_token_and_the_minimum_does_not(length, mean_score):
    """One token at .01 fades in the mean as the answer grows; the minimum stays .01; nothing is clamped."""
    tokens = [math.log(0.999)] * (length - 1) + [math.log(0.01)]
    assert round((float(logprob("mean", [tokens])[0]) + 2) / 2, 3) == mean_score
    assert float(logprob("minimum", [tokens])[0]) == pytest.approx(0.01)


def test_nothing_is_clamped():
    """An answer with a geometric mean below .135 still has its own value."""
    low, lower = logprob("probability", [[math.log(0.1)] * 3, [math.log(0.05)] * 3])
    assert (round(float(low), 12), round(float(lower), 12)) == (0.1, 0.05)


def slow_statistic(statistic, tokens, q):
    if not tokens or any(token is None or math.isnan(token) for token in tokens):
        return math.nan
    if statistic == "mean":
        return sum(tokens) / len(tokens)
    if statistic == "probability":
        return math.exp(sum(tokens) / len(tokens))
    if statistic == "minimum":
        return math.exp(min(tokens))
    if statistic == "first":
        return math.exp(tokens[0])
    ordered = sorted(tokens)
    place = (len(tokens) - 1) * q
    low, high = ordered[math.floor(place)], ordered[min(math.floor(place) + 1, len(tokens) - 1)]
    share = place - math.floor(place)
    if share == 0 or low == high:
        return math.exp(low)
    return math.exp((1 - share) * low + share * high)


token_lists = st.lists(
    st.none() | st.lists(st.floats(-30, 0) | st.sampled_from([-math.inf, None, math.nan]), max_size=6), max_size=8
)


@pytest.mark.parametrize("statistic", ["mean", "probability", "minimum", "first", "quantile"])
@given(tokens=token_lists, q=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1]))
def test_statistics_equal_one_case_at_a_time(statistic, tokens, q):
    """Null, empty and broken lists have no signal, -inf needs no warning, and every other case has its own formula."""
    found = logprob(statistic, tokens, **({"q": q} if statistic == "quantile" else {}))
    slow = [slow_statistic(statistic, mine, q) for mine in tokens]
    np.testing.assert_allclose(found, slow, rtol=1e-12, atol=1e-300)


def test_a_null_list_may_cover_values_in_the_buffer():
    """What a null list still covers in memory does not leak into its neighbours."""
    column = pa.ListArray.from_arrays(
        pa.array([0, 1, 3, 4], pa.int32()), pa.array([-1.0, -99.0, -99.0, -2.0]), mask=pa.array([False, True, False])
    )
    np.testing.assert_array_equal(
        computed("logprob", {"statistic": "mean"}, token_logprobs=column), [-1.0, np.nan, -2.0]
    )


@pytest.mark.parametrize("column", [pa.array([0.5]), pa.array(["x"]), pa.array([["x"]])])
def test_a_column_of_another_type_is_bad_data(column):
    """Numbers, texts and lists of texts are not lists of log-probabilities."""
    with pytest.raises(errors.DataError, match="lists"):
        computed("logprob", token_logprobs=column)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2)])
def test_every_kind_of_list_is_read(kind):
    """Single precision, large and fixed-size lists give the same mean."""
    column = pa.array([[-0.5, -1.5], None], kind)
    np.testing.assert_array_equal(computed("logprob", {"statistic": "mean"}, token_logprobs=column), [-1.0, np.nan])


# What a model says of itself


@pytest.mark.parametrize(
    ("said", "scale", "expected"),
    [
        ("0.9", None, 0.9),
        (".9", None, 0.9),
        ("90%", None, 0.9),
        ("85%", None, 0.85),
        ("85.7 %", None, 0.857),
        ("85.0", None, 0.85),
        ("8/10", None, 0.8),
        ("8 out of 10", None, 0.8),
        ("1", None, 1.0),
        ("100", None, 1.0),
        ("150", None, None),
        ("150%", None, None),
        ("-0.5", None, None),
        ("12/10", None, None),
        ("8/0", None, None),
        ("1,000", None, None),
        ("", None, None),
        ("high", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("Paris.\nConfidence: 85%", None, 0.85),
        ("**Confidence:** 0.7\nBecause of 3 reasons.", None, 0.7),
        ("confidence 0.2 at first; final confidence: 0.9.", None, 0.9),
        ("My confidence is 8/10, roughly", None, 0.8),
        ("Confidence: 1,000", None, None),
        ("Confidence: -0.3", None, None),
        ("There are 12 of them", None, None),
        ('{"answer": 12, "confidence": 0.4}', None, 0.4),
        ("1", "1 to 5", 0.0),
        ("4", "1 to 5", 0.75),
        ("4/5", "1 to 5", 0.75),
        ("4/10", "1 to 5", None),
        ("80%", "1 to 5", 0.8),
        ("6", "1 to 5", None),
        ("0", "1 to 5", None),
        ("1", "0 to 100", 0.01),
        ("85.7", "0 to 100", 0.857),
    ],
)
def test_stated_confidence(said, scale, expected):
    """Each way of saying it is read exactly; what is unreadable or out of scale is no signal."""
    found = self_reported.read([said], scale)[0]
    assert found == expected if expected is not None else math.isnan(found)


@given(st.integers(0, 1000))
def test_a_percentage_is_the_decimal_a_threshold_says(tenths):
    """85.7% is the same float as the literal 0.857, for every tenth of a percent."""
    assert self_reported.read([f"{tenths // 10}.{tenths % 10}%"])[0] == float(f"{tenths // 1000}.{tenths % 1000:03d}")


def test_stated_confidence_in_a_field_or_a_column():
    """A JSON field, nested or not, and a column of its own are read like text."""
    said = ['{"answer": "x", "confidence": 0.9}', '{"confidence": "90%"}', "{}", "0.9", '{"confidence": null}']
    np.testing.assert_array_equal(
        computed("self_reported", {"field": "confidence"}, answer=said), [0.9, 0.9, *[np.nan] * 3]
    )
    nested = ['{"meta": {"sure": "4"}}']
    assert computed("self_reported", {"field": "meta.sure", "scale": "1 to 5"}, answer=nested).tolist() == [0.75]
    assert computed("self_reported", {"column": "stated", "scale": "0 to 10"}, stated=[7, 10]).tolist() == [0.7, 1.0]
    np.testing.assert_array_equal(computed("self_reported", {"column": "stated"}, stated=[0.25, None]), [0.25, np.nan])


def test_a_hostile_answer_is_read_in_linear_time():
    """Megabytes made to trap a backtracking engine are read like any other text."""
    hostile = "confidence " * 100_000 + "9" * 100_000 + "%" * 1000
    assert math.isnan(self_reported.read([hostile])[0])


# Samples


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (list("AAABB"), 0.6),
        (list("AAAAB"), 0.8),
        (list("ABC"), 1 / 3),
        (["Yes.", "yes", " YES "], 1.0),
        (["yes", None], 0.5),
        ([None, None], 0.0),
        (["yes"], None),
        ([], None),
        (None, None),
    ],
)
def test_self_consistency_is_the_share_of_the_modal_answer(samples, expected):
    """AAABB is .6 and AAAAB .8, unlike a count of distinct answers; one sample is compared with nothing."""
    found = float(computed("self_consistency", samples=pa.array([samples], pa.list_(pa.string())))[0])
    assert found == expected if expected is not None else math.isnan(found)


@given(
    st.lists(
        st.none() | st.lists(st.none() | st.sampled_from(["A", "a.", "b", "1.0", "1", "..."]), max_size=6), max_size=8
    )
)
@pytest.mark.parametrize("same", ["label", "number", "exact"])
def test_self_consistency_equals_one_case_at_a_time(same, samples):
    """Counting columns equals counting each case's samples."""
    key = {"label": answers.fold, "number": answers.number_or_text, "exact": str}[same]

    def slow(mine):
        counts = Counter(key(sample) for sample in mine or [] if sample is not None)
        return max(counts.values(), default=0) / len(mine) if mine and len(mine) > 1 else math.nan

    found = computed("self_consistency", {"same": same}, samples=pa.array(samples, pa.list_(pa.string())))
    np.testing.assert_array_equal(found, [slow(mine) for mine in samples])


# Other models


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("same label", [1, 0, np.nan, np.nan, 0]),
        ("same number", [0, 0, np.nan, np.nan, 1]),
        ("exact", [0, 0, np.nan, np.nan, 0]),
        ("same JSON", [0, 0, np.nan, np.nan, 1]),
    ],
)
def test_agreement_of_two_cheap_models(rule, expected):
    """1 or 0 where both answered and the other call ended ok, no signal elsewhere."""
    other = {"answer": ["yes.", "no", None, "yes", "5.0"], "status": pa.array([OK, OK, OK, TIMEOUT, OK], pa.int8())}
    found = computed(
        "agreement", {"model": "tiny", "rule": rule}, answer=["Yes", "yes", "yes", "yes", "5"], other={"tiny": other}
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("PASS", 1),
        ("PASS.", 1),
        ("pass", 1),
        ("**PASS**", 1),
        ("Passed", 1),
        ("Verdict: PASS", 1),
        ("PASS - the year is right, nothing failed", 1),
        ("FAIL", 0),
        ("Fail: it does not pass", 0),
        ("FAIL\nBecause.", 0),
        ("PASS or FAIL", None),
        ("PASS/FAIL", None),
        ("passing grade", None),
        ("I would say PASS", None),
        ("", None),
        ("85%", None),
    ],
)
def test_a_judge_says_pass_or_fail(said, expected):
    """One word, with or without an explanation; anything else is a parse failure and no signal."""
    found = judge.read([said])[0]
    assert found == expected if expected is not None else math.isnan(found)


def test_a_judge_scores_the_gated_model():
    """The score goes before the text; rows about another model and calls that failed hold no signal."""
    critic = {
        "score": [0.7, None, None, 0.9, 0.9, 0.2],
        "answer": ["FAIL", "PASS.", "hm", "PASS", "PASS", "PASS"],
        "judged": ["mini", "mini", "mini", "big", "mini", None],
        "status": pa.array([OK, OK, OK, OK, TIMEOUT, OK], pa.int8()),
    }
    found = computed("judge", {"model": "critic"}, other={"critic": critic})
    np.testing.assert_array_equal(found, [0.7, 1, np.nan, np.nan, np.nan, 0.2])


# The answer itself

SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}


def test_schema_accepts_or_refuses(tmp_path):
    """Valid JSON of the right shape is 1; the wrong shape, no JSON and hostile nesting are 0; null is no signal."""
    said = ['{"total": 1}', '{"total": "1"}', "{}", "total: 1", "NaN", "[" * 100_000, None]
    expected = [1, 0, 0, 0, 0, 0, np.nan]
    np.testing.assert_array_equal(computed("schema", {"schema": SCHEMA}, answer=said), expected)
    path = tmp_path / "total.json"
    path.write_text(json.dumps(SCHEMA), encoding="utf-8")
    np.testing.assert_array_equal(computed("schema", {"file": str(path)}, answer=said), expected)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"$ref": "https://example.invalid/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"pattern": "(?=a)b"},
    ],
)
def test_a_schema_that_cannot_be_used_is_a_problem(schema):
    """Wrong keywords, references to elsewhere and patterns that need backtracking are named before anything runs."""
    (problem,) = signals.check(Signal("schema", {"schema": schema}), None, "mini")
    assert problem.startswith("schema: not a JSON Schema that can be used: ")


def test_a_schema_never_reads_another_file(tmp_path):
    """A reference to a readable schema on this machine is refused as well: a schema stands by itself."""
    path = tmp_path / "other.json"
    path.write_text('{"type": "number"}', encoding="utf-8")
    (problem,) = signals.check(Signal("schema", {"schema": {"$ref": path.as_uri()}}), None, "mini")
    assert "references to other documents are not followed" in problem


def test_a_refusal_does_not_outrank_a_hedge():
    """A short refusal and a long hedge are both unsure, whatever their length and case; a plain answer is not."""
    said = [
        "I can't help with that.",
        "I'M NOT SURE, but after some thought " + "it is Paris. " * 20,
        "Paris.",
        "ICH BIN MIR NICHT SICHER",
        "Je ne suis pas sûr.",
        "No estoy segura",
        "Non lo so",
        "Não sei",
        "Ik weet het niet",
        "In may be-bop was born",
        "",
    ]
    np.testing.assert_array_equal(computed("hedging", answer=said), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, np.nan])


def test_hedging_finds_whole_phrases_in_chosen_languages():
    """Parts of words do not count; languages can be chosen and phrases added."""
    said = ["Dickens' maybes", "vielleicht", "no comment"]
    assert computed("hedging", answer=said).tolist() == [1, 0, 1]
    assert computed("hedging", {"languages": ["en"]}, answer=said).tolist() == [1, 1, 1]
    assert computed("hedging", {"phrases": ["No  comment"]}, answer=said).tolist() == [1, 0, 0]


def test_the_list_of_phrases_is_clean():
    """Every phrase is folded already, once per language, and finds itself."""
    for language, phrases in hedging.listed().items():
        assert len(phrases) == len(set(phrases)) > 10
        assert all(phrase == " ".join(phrase.lower().split()) for phrase in phrases)
        assert computed("hedging", {"languages": [language]}, answer=list(phrases)).tolist() == [0] * len(phrases)


def test_length_in_each_unit():
    """Characters, words and recorded tokens; no answer has no length."""
    said = ["in Paris", "", None]
    np.testing.assert_array_equal(computed("length", answer=said), [8, 0, np.nan])
    np.testing.assert_array_equal(computed("length", {"unit": "words"}, answer=said), [2, 0, np.nan])
    np.testing.assert_array_equal(computed("length", {"unit": "output_tokens"}, output_tokens=[3, None]), [3, np.nan])


def test_regex_and_its_inverse():
    """1 where found; with `absent` 1 where not; null is no signal either way."""
    said = ["order 12", "none", None]
    np.testing.assert_array_equal(computed("regex", {"pattern": "[0-9]+"}, answer=said), [1, 0, np.nan])
    np.testing.assert_array_equal(computed("regex", {"pattern": "[0-9]+", "absent": True}, answer=said), [0, 1, np.nan])
    assert computed("regex", {"pattern": "(a+)+$"}, answer=["a" * 50_000 + "b"]).tolist() == [0]


@needs_data
def test_recorded_statements_are_read():
    """The numbers that models stated in recorded answers, written as text, come back as they were recorded."""
    path = Path(os.environ["CASCADE_EVAL_DATA"]) / "wmt17_mt_confidence.parquet"
    stated = pq.read_table(path, columns=["confidence"]).column("confidence").combine_chunks()
    known = [value for value in stated.to_pylist() if value is not None]
    found = computed("self_reported", {"column": "stated"}, stated=[f"{value:.2f}" for value in known])
    np.testing.assert_allclose(found, known, atol=0.005)
    assert statistics.mean(known) == pytest.approx(float(found.mean()), abs=0.005)
