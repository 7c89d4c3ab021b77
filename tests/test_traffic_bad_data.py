"""Bad data is an error that names everything at once, or set aside and counted; it never passes unseen."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import traffic
from cascade_eval.errors import DataError
from cascade_eval.traffic import Field

GOOD = {"answer": "x", "confidence": 0.5, "cost_usd": 0.1, "latency_s": 1.0, "output_tokens": 3, "status": "ok"}


def rows(count=6):
    return [{"case_id": f"c{i}", "model": m, "weight": 1.0, **GOOD} for i in range(count) for m in ("mini", "flagship")]


def wide(found):
    merged = {}
    for row in found:
        case = merged.setdefault(row["case_id"], {"case_id": row["case_id"]})
        case |= {
            k if k in {"weight", "decided_at", "audit_probability"} else f"{row['model']}.{k}": v
            for k, v in row.items()
            if k not in {"case_id", "model"}
        }
    return list(merged.values())


def everything(opened):
    """Read all fields and return the problems, as lines."""
    with pytest.raises(DataError) as caught:
        opened.read()
    return str(caught.value).splitlines()


# What is planted, at one row of the flagship, and what the error says.
PLANTED = [
    ("cost_usd", -0.5, "cost_usd is negative"),
    ("cost_usd", math.inf, "cost_usd is infinite"),
    ("latency_s", -1.0, "latency_s is negative"),
    ("output_tokens", -1, "output_tokens is negative"),
    ("output_tokens", 1.5, "output_tokens is not a whole number"),
    ("output_tokens", "many", "output_tokens is not a whole number"),
    ("cost_usd", "free", "cost_usd is not a number"),
    ("confidence", math.inf, "confidence is infinite"),
    ("confidence", -math.inf, "confidence is infinite"),
    ("x_logprob", math.inf, "x_logprob is infinite"),
    ("confidence", "90%", "confidence is not a number"),
    ("status", "timedout", "status is 'timedout'. Did you mean 'timeout'?"),
    ("weight", 0.0, "weight is not a finite number above 0"),
    ("audit_probability", 1.5, "audit_probability is not above 0 and at most 1"),
    ("audit_probability", 0, "audit_probability is not above 0 and at most 1"),
    ("decided_at", "2026-01-31T09:00:00", "decided_at has no time zone"),
    ("decided_at", "last week", "decided_at is not an ISO 8601 time"),
    ("agrees", "perhaps", "agrees is not true or false"),
    ("token_logprobs", "[0.5, ", "token_logprobs is not a JSON list"),
]
PER_CASE = {"weight", "decided_at", "audit_probability"}


def plant(column, value):
    found = rows()
    for row in found[6:8] if column in PER_CASE else found[7:8]:
        row[column] = value
    return found


@pytest.mark.parametrize(("column", "value", "message"), PLANTED)
def test_a_planted_value_is_named_by_line_and_field(tmp_path, column, value, message):
    """A bad value in line 7 or 8 of a log is an error with that line, the column and the case."""
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in plant(column, value)))
    lines = everything(traffic.open(path, cache=False))
    line = 7 if column in PER_CASE else 8
    assert lines[0].startswith(f"{path}:{line}: {message}")
    assert f"c3 (row {line}" in lines[0]
    assert "--cascade-tolerate" in lines[-1]


@pytest.mark.parametrize(("column", "value", "message"), PLANTED)
def test_a_planted_value_is_named_in_wide_form(column, value, message):
    """The same value is found in wide rows, under the name of its model."""
    lines = everything(traffic.from_records(wide(plant(column, value)), name="wide"))
    name = message if column in PER_CASE else f"flagship.{message}"
    assert lines[0].startswith(f"wide:4: {name}")


@pytest.mark.parametrize(("column", "value", "message"), PLANTED)
def test_a_planted_value_can_be_set_aside(column, value, message):
    """Tolerated, a bad outcome is absent, a bad value of the case takes the case, and both are counted."""
    found = plant(column, value)
    opened = traffic.from_records(found, tolerate=2)
    per_case = column in PER_CASE
    batch = opened.read()
    assert opened.bad_rows == (2 if per_case else 1)
    assert message in str(opened.set_aside[0])
    assert batch.cases == opened.cases == (5 if per_case else 6)
    if not per_case:
        assert batch.status("flagship").tolist() == [0, 0, 0, traffic.ABSENT, 0, 0]
        assert batch.status("mini").tolist() == [0] * 6
    whole = traffic.from_records(wide(found), tolerate=1)
    assert (whole.read().cases, whole.bad_rows) == (5, 1)


@pytest.mark.parametrize("value", ["x\ud83d", ["\udcff"], {"\ud83d": 1}])
def test_half_a_character_is_a_line_that_is_named(tmp_path, value):
    """JSON can write half of a character, which no column holds: the line is an error, or set aside, and others are read."""
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in plant("answer", value)))
    with pytest.raises(DataError, match=r"log\.jsonl:8: 'answer' holds half a character"):
        traffic.open(path, cache=False)
    opened = traffic.open(path, cache=False, tolerate=1)
    assert opened.read().cases == 6
    assert opened.bad_rows == 1


def test_a_bad_value_of_the_case_takes_the_whole_case():
    """One row with a bad weight leaves no half case behind: its other rows go too, and one bad row is counted."""
    found = rows(3)
    found[2]["weight"] = -1.0
    opened = traffic.from_records(found, tolerate=1)
    assert opened.read([Field("flagship", "answer")]).arrow(None, "case_id").to_pylist() == ["c0", "c2"]
    assert (opened.cases, opened.bad_rows) == (2, 1)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("cost_usd", pa.array([[1.0]] * 2)),
        ("decided_at", pa.array([0, 1], pa.timestamp("us"))),
        ("decided_at", pa.array([0, 1])),
        ("status", pa.array([0, 1])),
        ("cost_usd", pa.array([math.nan, 1.0])),
        ("latency_s", pa.array([math.nan, 1.0], pa.float32())),
        ("output_tokens", pa.array([math.nan, 1.0])),
        ("token_logprobs", pa.array([["a"], None])),
        ("token_logprobs", pa.array([[0.0, math.inf], None])),
        ("completed", pa.array([["a"], None])),
    ],
)
def test_a_wrong_type_in_parquet_is_an_error(tmp_path, column, kind):
    """A column of the wrong type, or NaN where only null may stand, is bad data and not an unknown."""
    pq.write_table(pa.table({"case_id": ["a", "b"], "model": ["m", "m"], column: kind}), tmp_path / "x.parquet")
    assert f"x.parquet:1: {column} " in everything(traffic.open(tmp_path / "x.parquet"))[0]


def test_everything_wrong_is_shown_together(tmp_path):
    """Unparsable lines, duplicates, wrong values: all problems of all files, each with its file and line."""
    one, two = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    found = rows(3)
    found[1]["cost_usd"] = -1
    lines = [json.dumps(row) for row in found]
    one.write_text("\n".join([*lines[:2], "{not json", "", *lines[2:4], "[1]"]) + "\n")
    two.write_text(
        "\n".join([*lines[4:], lines[0], '{"model": "mini", "answer": "lost"}', '{"case_id": "c9", "models": 3}'])
    )
    with pytest.raises(DataError) as caught:
        traffic.open(tmp_path, cache=False)
    shown = [(problem.file.rsplit("/", 1)[1], problem.line, problem.message) for problem in caught.value.problems[:-1]]
    assert [(file, line) for file, line, _ in shown] == [
        ("1.jsonl", 3), ("1.jsonl", 7), ("2.jsonl", 5), ("1.jsonl", 2), ("2.jsonl", 3), ("2.jsonl", 4),
    ]  # fmt: skip
    said = " | ".join(message for *_, message in shown)
    for part in (
        "not JSON",
        "a list, not an object",
        "models is a number",
        "negative",
        "were there before",
        "null or empty",
    ):
        assert part in said
    assert caught.value.problems[-1].message.startswith("6 bad rows.")


def test_duplicates_are_found_wherever_they_stand():
    """A second row for a case and model (and run), or a second wide row for a case, is named with both forms' rows."""
    together = [*rows(2), rows(2)[-1]]
    apart = [*rows(2), rows(2)[0]]
    for found, row in ((together, 5), (apart, 5)):
        (first, _) = everything(traffic.from_records(found, name="log"))
        assert first.startswith(f"log:{row}: case_id and model were there before: c")
    (first, _) = everything(traffic.from_records([*wide(rows(3)), wide(rows(3))[1]], name="log"))
    assert first.startswith("log:4: case_id was there before: c1 (row 4)")
    opened = traffic.from_records([*wide(rows(3)), wide(rows(3))[1]], tolerate=1)
    assert (opened.read().cases, opened.cases, opened.bad_rows) == (3, 3, 1)
    opened = traffic.from_records(apart, tolerate=1)
    assert (opened.read().cases, opened.bad_rows) == (2, 1)


def test_later_passes_stay_wrong():
    """Reading again after an error is the same error, not a pass over what is left."""
    opened = traffic.from_records([*wide(rows(3)), wide(rows(3))[1]])
    assert everything(opened) == everything(opened)


def test_a_column_of_the_case_may_not_differ_within_it():
    """Two languages for one case are an error that names the case; null beside a value is not a difference."""
    found = rows(3)
    for row, language in zip(found, ["en", "en", "fr", None, "de", "nl"], strict=True):
        row["language"] = language
    opened = traffic.from_records(found, name="log")
    with pytest.raises(DataError) as caught:
        opened.read([Field(None, "language")])
    (problem,) = caught.value.problems
    assert str(problem).startswith("log:6: language differs between rows of one case")
    assert "c2 (row 6)" in str(problem)
    assert opened.read([Field("mini", "language")]).text("mini", "language", 1) == "fr"


@pytest.mark.parametrize("size", [1, 2, 800])
def test_nobody_is_advised_to_set_every_row_aside(size):
    """What is wrong with every row is said once, as wrong with the column; there is no number of rows to tolerate."""
    found = [{"case_id": f"c{i}", "m.answer": "x", "decided_at": "2026-09-28 00:00:09"} for i in range(size)]
    first, last = everything(traffic.from_records(found))
    assert "decided_at has no time zone" in first
    assert ("in every row, the first of" in first) == (size > 1)
    assert f"{size} of {size} rows are bad: setting them aside would leave 0" in last
    assert "tolerate" not in last


def test_only_so_many_problems_are_listed():
    """Fifty problems are listed and the rest counted; five offenders are named in each."""
    found = [{"case_id": f"c{i}", "m.answer": "x", "m.cost_usd": -1} for i in range(9)] + [
        {"case_id": "d", "m.cost_usd": 1}
    ]
    (first, _) = everything(traffic.from_records(found))
    assert first.endswith("c4 (row 5) and 4 more")
    many = [{"case_id": f"c{i}", "model": "m", "status": f"odd {i}"} for i in range(60)]
    lines = everything(traffic.from_records(many))
    assert len(lines) == 52
    assert lines[50] == "and 10 more problems"


MISSING = [
    ([{"id": "a", "model": "m"}], {}, "no column 'case_id'. Name yours in the suite"),
    ([{"case_id": "a", "answer": "x"}], {}, "no model answered"),
    ([{"case_id": "a", "m.answer": "x"}], {"confidence": "sure"}, "there is no column 'sure'"),
    ([{"case_id": "a", "model": "m", "response": "x"}], {"answer": "reponse"}, "Did you mean 'response'?"),
    ([], {}, "no cases"),
]


@pytest.mark.parametrize(("found", "columns", "message"), MISSING)
def test_what_is_missing_is_said_at_once(found, columns, message):
    """A required column, a mapped column or every case missing is an error on opening."""
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        traffic.from_records(found, columns=columns)


def test_no_case_is_no_pass(tmp_path):
    """Data without rows, or with every row set aside, is an error and never an empty success."""
    empty = pa.table({"case_id": pa.array([], pa.string()), "m.answer": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no cases"):
        traffic.open(tmp_path / "x.parquet").read()
    bad = [{"case_id": "a", "m.answer": "x", "m.cost_usd": -1}]
    with pytest.raises(DataError, match="every row was set aside"):
        traffic.from_records(bad, tolerate=5)


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 19), max_size=6),
    st.integers(0, 6),
    st.lists(st.integers(0, 13), min_size=1, max_size=3),
    st.booleans(),
)
def test_tolerance_is_exact_and_positions_hold(bad, tolerate, picked, as_wide):
    """Up to N bad rows are set aside and counted, one more is an error; positions mean the same in every pass."""
    found = [{"case_id": f"c{i}", "m.answer": f"x{i}", "m.cost_usd": -1.0 if i in bad else 1.0} for i in range(20)]
    if not as_wide:
        found = [
            {"case_id": r["case_id"], "model": "m", "answer": r["m.answer"], "cost_usd": r["m.cost_usd"]} for r in found
        ]
    if len(bad) > tolerate:
        if tolerate:
            with pytest.raises(DataError, match=f"{len(bad)} bad rows"):
                traffic.from_records(found, tolerate=tolerate)
        return
    opened = traffic.from_records(found, tolerate=tolerate)
    good = [i for i in range(20) if i not in bad]
    batch = opened.read([Field("m", "answer")])
    assert batch.arrow("m", "answer").to_pylist() == [f"x{i}" for i in good]
    assert (opened.cases, opened.bad_rows) == (len(good), len(bad))
    few = opened.rows(picked, [Field("m", "answer")])
    assert few.arrow("m", "answer").to_pylist() == [f"x{good[position]}" for position in picked]


def test_a_null_or_nan_signal_is_not_bad_data():
    """A signal that is unknown escalates later; here it is read as unknown, without complaint."""
    opened = traffic.from_records([{"case_id": "a", "m.confidence": None, "m.answer": "x", "m.x_logprob": -math.inf}])
    batch = opened.read()
    assert np.isnan(batch.numbers("m", "confidence")).all()
    assert batch.numbers("m", "x_logprob").tolist() == [-math.inf]
