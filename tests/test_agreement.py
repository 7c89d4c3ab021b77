"""Answers and agreement: what counts as the same answer."""

from __future__ import annotations

import itertools
import json
import os
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cascade_eval import agreement, answers, errors
from cascade_eval.traffic.batch import ABSENT, ERROR, OK, TIMEOUT, Batch, Field

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA names no folder")


def batch_of(cheap, flagship, *, cheap_status=None, flagship_status=None, **columns):
    """Two models' answers as a batch; further columns as cheap_score=…, flagship_score=…, expected=…."""
    size = len(cheap)
    statuses = {"mini": cheap_status or [OK] * size, "big": flagship_status or [OK] * size}
    found = {Field(model, "status"): pa.array(codes, pa.int8()) for model, codes in statuses.items()}
    found |= {Field("mini", "answer"): as_array(cheap), Field("big", "answer"): as_array(flagship)}
    for name, values in columns.items():
        side, _, column = name.partition("_")
        field = Field({"cheap": "mini", "flagship": "big"}[side], column) if column else Field(None, name)
        found[field] = as_array(values)
    return Batch(size, found)


def as_array(values):
    return values if isinstance(values, pa.Array) else pa.array(values)


def compared(spec, cheap, flagship, **columns):
    return agreement.compare(agreement.parse(spec), batch_of(cheap, flagship, **columns), "mini", "big").tolist()


@pytest.mark.parametrize(
    ("spec", "left", "right", "agree"),
    [
        ("exact", "Yes", "yes", 0),
        ("exact", "yes", "yes", 1),
        ("same label", " Yes. ", "yes", 1),
        ("same label", "'Order  Status'", "order status!", 1),
        ("same label", "(B)", "b", 1),
        ("same label", "B)", "b", 1),
        ("same label", "STRASSE", "straße", 1),
        ("same label", "caf\u00e9", "cafe\u0301", 1),
        ("same label", "¿Sí?", "sí", 1),
        ("same label", "-5", "5", 0),
        ("same label", "+5", "5", 0),
        ("same label", ".5", "5", 0),
        ("same label", "5%", "5", 0),
        ("same label", "$5", "5", 0),
        ("same label", "<5", ">5", 0),
        ("same label", "C++", "C", 0),
        ("same label", "C#", "C", 0),
        ("same label", "a-b", "ab", 0),
        ("same label", "[0, 1)", "(0, 1]", 0),
        ("same label", "5'", '5"', 0),
        ("same label", '"5"', "5", 1),
        ("same label", "...", "???", 0),
        ("same label", "...", "...", 1),
        ("same label", "...", "", 0),
        ("same label", "1.0", "1", 0),
        ("same number", "1,234.50", "1234.5", 1),
        ("same number", "85%", "0.85", 1),
        ("same number", "1e3", "1000", 1),
        ("same number", "\u22123", "-3", 1),
        ("same number", "-5", "5", 0),
        ("same number", "0.1", "0.10000000000000000001", 0),
        ("same number", "1,5", "15", 0),
        ("same number", "$5", "€5", 0),
        ("same number", "none", "none", 1),
        ("same number", "none", "None", 0),
        ("same number", "²", "2", 0),
        ("same JSON", '{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}', 1),
        ("same JSON", '{"a": true}', '{"a": 1}', 0),
        ("same JSON", '{"a": null}', "{}", 0),
        ("same JSON", "not json", "not json", 1),
        ("same JSON", "not json", "other", 0),
        ("same JSON", "NaN", "NaN ", 0),
        ("same JSON", "1" * 400, "1.5", 0),
        ({"same JSON": {"fields": ["total"]}}, '{"total": 1, "note": "x"}', '{"total": 1, "note": "y"}', 1),
        ({"same JSON": {"fields": ["a.b"]}}, '{"a": {"b": 1, "c": 2}}', '{"a": {"b": 1}}', 1),
        ({"same JSON": {"fields": ["total"]}}, '{"total": 1}', "{}", 0),
        ({"same JSON": {"fields": ["total"]}}, '{"x": 1}', "{}", -1),
        ({"same JSON": {"fields": ["total", "x"]}}, '{"x": 1}', '{"x": 1}', 1),
        ({"same JSON": {"tolerance": 0.2}}, '{"a": 0.3}', '{"a": 0.1}', 1),
        ({"same JSON": {"tolerance": 0.2}}, '{"a": 0.3001}', '{"a": 0.1}', 0),
        ("similar 0.9", "the quick brown fox", "brown the quick fox.", 1),
        ("similar 0.9", "the quick brown fox", "a slow green turtle", 0),
        ("similar 1", "", "", -1),
        ("exact", " \n", " \n", -1),
        ("same label", "nan", "NaN", -1),
        ("same label", "none", "None", 1),
        ("exact", "", "None", 0),
        ("exact", "", "no", 0),
        ({"rule": "exact", "empty answers": "agree"}, "", "", 1),
        ({"rule": {"same JSON": {"fields": ["total"]}}, "empty answers": "agree"}, "null", "null", -1),
    ],
)
def test_what_counts_as_the_same_answer(spec, left, right, agree):
    """Each rule decides these pairs, in either direction."""
    assert compared(spec, [left], [right]) == [agree]
    assert compared(spec, [right], [left]) == [agree]


def test_answers_that_are_no_text_are_compared_as_written():
    """1, 1.0 and "1" are one answer in any column type; nested values are canonical JSON; NaN is no answer."""
    assert compared("exact", [1, 2], ["1", "3"]) == [1, 0]
    assert compared("exact", [1.0, 2.5], [1, 3]) == [1, 0]
    assert compared("same label", [True], ["True"]) == [1]
    assert compared("exact", [{"b": 1, "a": None}], ['{"a": null, "b": 1}']) == [1]
    assert compared("exact", [1.0, 1.0], [float("nan"), 1.0]) == [-1, 1]
    dictionary = pa.array(["x", "y", None, "x"]).dictionary_encode()
    assert compared("exact", dictionary, ["x", "x", "x", None]) == [1, 0, 0, -1]


def test_who_is_comparable():
    """Unknown without the model's row or a usable flagship answer; an empty answer that ended ok disagrees."""
    table = [
        ("a", OK, "a", OK, 1),
        (None, OK, "a", OK, 0),
        (None, OK, None, OK, -1),
        ("a", OK, None, OK, -1),
        ("a", OK, "a", TIMEOUT, -1),
        ("a", OK, "a", ABSENT, -1),
        ("a", ABSENT, "a", OK, -1),
        (None, TIMEOUT, "a", OK, -1),
        ("a", ERROR, "a", OK, 1),
    ]
    cheap, cheap_status, flagship, flagship_status, expected = map(list, zip(*table, strict=True))
    for spec in ("exact", "same label", "same number", "same JSON", "similar 0.9", lambda a, b: a == b):
        found = compared(spec, cheap, flagship, cheap_status=cheap_status, flagship_status=flagship_status)
        assert found == expected


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_within_holds_at_exactly_its_bound(kind):
    """0.85 is within 0.15 of 0.70 in either precision, and 0.8501 is not."""
    cheap, flagship = pa.array([0.85, 0.8501, 0.55, 0.5499, 0.3], kind), pa.array([0.7, 0.7, 0.7, 0.7, 0.3], kind)
    found = compared("within 0.15", ["x"] * 5, ["y"] * 5, cheap_score=cheap, flagship_score=flagship)
    assert found == [1, 0, 1, 0, 1]
    found = compared("within 0", ["x"] * 5, ["y"] * 5, cheap_score=cheap, flagship_score=flagship)
    assert found == [0, 0, 0, 0, 1]


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_within_equals_decimal_arithmetic(left, right, bound):
    """On four-decimal numbers the rule is the exact comparison of the decimals."""
    exact = abs(Decimal(left) - Decimal(right)) <= Decimal(bound)
    scores = {"cheap_score": [left / 10_000], "flagship_score": [right / 10_000]}
    assert compared(f"within {bound / 10_000:.4f}", ["x"], ["y"], **scores) == [int(exact)]


def test_a_missing_score_is_unknown_unless_nothing_was_answered():
    """A null cheap score is unknown where something was answered and disagrees where nothing was."""
    found = compared(
        "within 0.1",
        ["x", None, "x", None],
        ["y"] * 4,
        cheap_score=[None, None, 0.5, 0.5],
        flagship_score=[0.5, 0.5, None, 0.5],
    )
    assert found == [-1, 0, -1, 1]


@pytest.mark.parametrize("said", [[True, False, None], [1.0, 0.49, None], [0.5, 0.0, float("nan")]])
def test_judged_reads_what_was_recorded(said):
    """`agrees` may be yes/no or a number that agrees from .5; null is unknown."""
    assert compared("judged", ["x"] * 3, ["y"] * 3, cheap_agrees=said) == [1, 0, -1]


def test_a_callable_is_asked_once_per_distinct_pair():
    """A user's function sees each pair of texts once, and may say that it does not know."""
    asked = []

    def rule(mine, flagship):
        asked.append((mine, flagship))
        return None if mine == "?" else mine == flagship

    assert compared(rule, ["a", "a", "?", "b", "a"], ["a", "a", "b", "c", "a"]) == [1, 1, -1, 0, 1]
    assert sorted(asked) == [("?", "b"), ("a", "a"), ("b", "c")]
    with pytest.raises(errors.UsageError, match="returned 'yes'"):
        compared(lambda _a, _b: "yes", ["a"], ["b"])


def test_a_callable_can_be_named():
    """A suite names a function by module and attribute."""
    rule = agreement.parse({"callable": "operator:eq"})
    assert str(rule) == "agrees by operator:eq"
    assert agreement.compare(rule, batch_of(["a", "b"], ["a", "c"]), "mini", "big").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("same lable", "unknown agreement 'same lable'. Did you mean 'same label'?"),
        ("same json", "unknown agreement 'same json'. Did you mean 'same JSON'?"),
        ("withn 0.1", "unknown agreement 'withn 0.1'. Did you mean 'within'?"),
        ("within", "'within' needs a number that is not negative, not nothing; write within 0.15"),
        ("within -1", "'within' needs a number that is not negative, not '-1'; write within 0.15"),
        ("within nan", "'within' needs a number that is not negative, not 'nan'; write within 0.15"),
        ("within inf", "'within' needs a number that is not negative, not 'inf'; write within 0.15"),
        ("similar 90", "'similar' needs a number from 0 to 1, not '90'; write similar 0.9"),
        ({"similar": True}, "'similar' needs a number from 0 to 1, not True; write similar 0.9"),
        ({"same JSON": {"field": ["a"]}}, "unknown option 'field' of 'same JSON'. Did you mean 'fields'?"),
        ({"same JSON": {"fields": "a"}}, "'fields' of 'same JSON' is a list of names, not 'a'"),
        ({"exact": {"fields": ["a"]}}, "'exact' takes no options; write exact"),
        ({"callable": "operator"}, "'operator' names no function; write {callable: 'package.module:function'}"),
        (
            {"callable": "operator:nope"},
            "the agreement 'operator:nope' cannot be imported: module 'operator' has no attribute 'nope'",
        ),
        ({"callable": "math:pi"}, "the agreement 'math:pi' is not a function"),
    ],
)
def test_a_rule_that_cannot_be_read(spec, message):
    """The error says what is wrong and what may be written."""
    with pytest.raises(ValueError) as error:
        agreement.parse(spec)
    assert str(error.value) == message


@pytest.mark.parametrize("spec", [None, 3, {}, {"exact": 1, "judged": 2}, []])
def test_something_else_is_no_rule(spec):
    """What is neither phrase, mapping nor function names the phrases."""
    with pytest.raises(ValueError, match=re.escape("is not an agreement. Write exact")):
        agreement.parse(spec)


def test_every_rule_is_written_back():
    """A rule's text is again that rule, where it is a phrase."""
    for phrase in ("exact", "same label", "same number", "same JSON", "judged", "within 0.15", "similar 0.9"):
        assert str(agreement.parse(phrase)) == phrase
        assert agreement.parse(agreement.parse(phrase)) == agreement.parse(phrase)


def slow_fold(text):
    """Fold by taking one character at a time from the ends, as the rules are written."""
    plain = " ".join(text.casefold().split())
    while True:
        before = plain
        plain = plain.strip()
        while plain and plain[-1] in answers._STOPS:
            plain = plain[:-1]
        while (
            plain and plain[0] in answers._STOPS + answers._OPENING and not (plain[0] in ".," and plain[1:2].isdigit())
        ):
            plain = plain[1:]
        if not {",", ";"} & set(plain):
            while plain and plain[0] in answers._BRACKETS:
                plain = plain[1:]
            while plain and plain[-1] in answers._BRACKETS:
                plain = plain[:-1]
        opened = plain[:1] in set(answers._QUOTES)
        while plain and plain[0] in answers._QUOTES:
            plain = plain[1:]
        while plain and plain[-1] in answers._QUOTES and (opened or not plain[-2:-1].isdigit()):
            plain = plain[:-1]
        plain = plain.strip()
        if plain == before:
            return plain or text


labels = st.text(alphabet="aBß5 .,;!?'\"()[]+-#%$<…¿\t", max_size=8)


@given(labels)
@example(text='5""')
def test_folding_equals_the_slow_way(text):
    """The fast fold takes the same characters away as one character at a time."""
    assert answers.fold(text) == slow_fold(text)


@given(st.text(max_size=12))
def test_folding_again_changes_nothing(text):
    """Folding is idempotent, and never makes a text empty that was not."""
    folded = answers.fold(text)
    assert answers.fold(folded) == folded
    assert bool(folded) == bool(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_is_read_exactly(value):
    """A decimal is the same number with thousands separated, with an exponent, and as a percentage."""
    forms = [f"{value}", f"{value:,}", f"{value:E}", f"{value * 100}%", f" {value} "]
    assert {answers.number(form) for form in forms} == {value}


cells = st.one_of(st.none(), st.sampled_from(["A", "a.", "b", "-5", "5", "5.0", '{"a": 1}', '{"a": 1.0}', "...", ""]))


@pytest.mark.parametrize("spec", ["exact", "same label", "same number", "same JSON", "similar 0.8"])
@given(
    rows=st.lists(
        st.tuples(cells, cells, st.sampled_from([OK, ABSENT, ERROR]), st.sampled_from([OK, ABSENT])), max_size=12
    )
)
def test_columns_equal_one_case_at_a_time(spec, rows):
    """A batch says of each case what a batch of that case alone says, in any order and under dictionary encoding."""
    cheap, flagship, mine, theirs = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    cheap, flagship = pa.array(cheap, pa.string()), pa.array(flagship, pa.string())
    batch = batch_of(cheap, flagship, cheap_status=mine or [], flagship_status=theirs or [])
    rule = agreement.parse(spec)
    whole = agreement.compare(rule, batch, "mini", "big").tolist()
    alone = [agreement.compare(rule, batch.take(np.array([i])), "mini", "big")[0] for i in range(len(rows))]
    assert whole == alone
    encoded = batch_of(
        cheap.dictionary_encode(), flagship.dictionary_encode(), cheap_status=mine or [], flagship_status=theirs or []
    )
    assert agreement.compare(rule, encoded, "mini", "big").tolist() == whole


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=12))
def test_pairs_are_found_with_and_without_a_table(rows):
    """Few distinct answers go through a table and many through sorting; both call each pair once."""
    left, right = (answers.coded(batch_of(*map(list, zip(*rows, strict=True))), model) for model in ("mini", "big"))
    wide = answers.Coded(right.codes, [*right.values, *map(str, range(2_000))])
    seen = []

    def compare(firsts, seconds):
        seen.append(list(zip(firsts, seconds, strict=True)))
        return np.array([a == b for a, b in seen[-1]], dtype=np.int8)

    assert answers.pairwise(left, right, compare).tolist() == answers.pairwise(left, wide, compare).tolist()
    for pairs in seen:
        assert len(pairs) == len(set(pairs))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(json_values, json_values)
def test_same_json_is_an_equivalence_that_ignores_the_order_of_keys(left, right):
    """A value is like itself written with its keys reversed; likeness is symmetric."""

    def backwards(value):
        if isinstance(value, dict):
            return {key: backwards(inner) for key, inner in reversed(list(value.items()))}
        return [backwards(inner) for inner in value] if isinstance(value, list) else value

    rule = {"rule": "same JSON", "empty answers": "agree"}
    assert compared(rule, [json.dumps(left)], [json.dumps(backwards(left), indent=1)]) == [1]
    assert answers.alike(left, right) == answers.alike(right, left)


def test_json_too_deep_to_read_is_no_agreement():
    """Hostile nesting neither crashes nor agrees."""
    deep = "[" * 100_000
    assert compared("same JSON", [deep + "1"], [deep + "2"]) == [0]
    nested = "[" * 900 + "]" * 900
    assert compared("same JSON", [nested], [nested + " "])[0] in {0, 1}


def test_quality_is_the_score_else_what_was_expected():
    """A score column goes before the expected answer; failures and missing rows have no quality."""
    batch = batch_of(
        ["4", "5", None, "4", None],
        ["4"] * 5,
        cheap_status=[OK, OK, OK, TIMEOUT, ABSENT],
        expected=["4.0", "4", "4", "4", "4"],
    )
    found = agreement.quality(agreement.parse("same number"), batch, "mini")
    np.testing.assert_array_equal(found, [1, 0, 0, np.nan, np.nan])
    for phrase in ("judged", "within 0.1", "same label"):
        assert agreement.quality(agreement.parse(phrase), batch, "mini")[1] == 0
    graded = batch_of(
        ["x"] * 3, ["y"] * 3, cheap_score=[0.25, None, 1.0], expected=["x"] * 3, cheap_status=[OK, OK, ABSENT]
    )
    np.testing.assert_array_equal(agreement.quality(agreement.parse("exact"), graded, "mini"), [0.25, np.nan, np.nan])


def test_who_was_right_covers_every_combination():
    """Cheap, flagship, neither, both or unknown, from two scores."""
    scores = list(itertools.product([1.0, 0.0, None], repeat=2))
    cheap, flagship = map(list, zip(*scores, strict=True))
    batch = batch_of(["x"] * 9, ["y"] * 9, cheap_score=cheap, flagship_score=flagship)
    expected = {
        (1.0, 1.0): agreement.BOTH,
        (1.0, 0.0): agreement.CHEAP,
        (0.0, 1.0): agreement.FLAGSHIP,
        (0.0, 0.0): agreement.NEITHER,
    }
    found = agreement.who_was_right(agreement.parse("exact"), batch, "mini", "big").tolist()
    assert found == [expected.get(pair, agreement.UNKNOWN) for pair in scores]


@pytest.mark.parametrize("phrase", ["exact", "same JSON", "similar 0.9", "judged", "within 0.1"])
def test_only_the_needed_columns_are_read(phrase):
    """With nothing but the columns `needs` names, the comparison is the same as with all of them."""
    batch = batch_of(
        ["a", "b", None],
        ["a", "a", "b"],
        cheap_score=[0.1, 0.9, None],
        flagship_score=[0.1] * 3,
        cheap_agrees=[True, None, False],
    )
    rule = agreement.parse(phrase)
    needed = agreement.needs(rule, "mini", "big")
    few = Batch(3, {field: column for field, column in batch.columns.items() if field in needed})
    assert (
        agreement.compare(rule, few, "mini", "big").tolist() == agreement.compare(rule, batch, "mini", "big").tolist()
    )


@needs_data
def test_published_agreement_of_recorded_answers():
    """On the recorded multiple-choice answers, folding labels equals comparing the letters one by one."""
    path = Path(os.environ["CASCADE_EVAL_DATA"]) / "mmlu_pro_calibration.parquet"
    table = pq.read_table(path, columns=["case_id", "tier_model", "response"]).to_pylist()
    said = {}
    for row in table:
        said.setdefault(row["case_id"], {})[row["tier_model"]] = row["response"]
    pairs = [(case.get("gpt-4.1-nano"), case.get("gpt-4.1")) for case in said.values()]
    cheap, flagship = map(list, zip(*pairs, strict=True))
    slow = [-1 if b is None else int(a is not None and a.strip().lower() == b.strip().lower()) for a, b in pairs]
    assert compared("same label", cheap, flagship) == slow
    assert 0 < slow.count(1) < len(slow)
