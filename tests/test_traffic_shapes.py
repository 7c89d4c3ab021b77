"""The same cases in any shape, order, file or format are the same traffic."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade_eval import traffic
from cascade_eval.errors import DataError
from cascade_eval.traffic import ABSENT, OK, STATUSES, Field, keys, long

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA names no folder")

MODELS = ("mini", "gpt-4.1", "flagship")
CASE_COLUMNS = ("language", "weight")
OUTCOME_COLUMNS = ("answer", "confidence", "cost_usd", "input_tokens", "status", "note")

outcomes = st.fixed_dictionaries(
    {
        "answer": st.none() | st.sampled_from(["yes", "no", "ünsure", "a,b", 'say "x"', "two\nlines"]),
        "confidence": st.none() | st.sampled_from([0.5, 0.25, 0.82]),
        "cost_usd": st.none() | st.floats(0, 2),
        "input_tokens": st.none() | st.integers(0, 2**40),
        "status": st.none() | st.sampled_from(STATUSES),
        "note": st.none() | st.sampled_from(["a", "b"]),
    }
).filter(lambda outcome: any(value is not None for value in outcome.values()))

cases = st.dictionaries(
    st.sampled_from([f"case-{i}" for i in range(12)] + ["x", "a much longer case id than eight bytes"]),
    st.tuples(
        st.fixed_dictionaries(
            {"language": st.none() | st.sampled_from(["en", "no"]), "weight": st.none() | st.floats(0.5, 9)}
        ),
        st.dictionaries(st.sampled_from(MODELS), outcomes, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=10,
)


def long_rows(recorded):
    return [
        {"case_id": case, "model": model, **columns, **outcome}
        for case, (columns, found) in recorded.items()
        for model, outcome in found.items()
    ]


def wide_rows(recorded):
    return [
        {"case_id": case, **columns, **{f"{m}.{k}": v for m, outcome in found.items() for k, v in outcome.items()}}
        for case, (columns, found) in recorded.items()
    ]


def nested_rows(recorded):
    return [{"case_id": case, **columns, "models": found} for case, (columns, found) in recorded.items()]


def expected(recorded):
    """Align one by one: what every door must give, whatever the order."""
    found = {}
    for case, (columns, by_model) in recorded.items():
        row = {f"None.{name}": columns[name] for name in CASE_COLUMNS}
        for model in {model for _, models in recorded.values() for model in models}:
            outcome = by_model.get(model)
            row |= {
                f"{model}.{name}": outcome[name] if outcome else None for name in OUTCOME_COLUMNS if name != "status"
            }
            row[f"{model}.status"] = ABSENT if outcome is None else STATUSES.index(outcome["status"] or "ok")
        found[case] = row
    return found


def aligned(recorded):
    """All cases of some traffic, cell by cell."""
    models = recorded.models
    needs = [Field(None, name) for name in CASE_COLUMNS] + [Field(m, name) for m in models for name in OUTCOME_COLUMNS]
    batch = recorded.read(needs)
    return {
        batch.text(None, "case_id", row): {f"{need.model}.{need.name}": batch.text(*need, row) for need in needs}
        for row in range(batch.cases)
    }


def table(rows):
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def write_csv(path, rows):
    names = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(cases, st.randoms(use_true_random=False))
def test_shape_and_order_do_not_matter_in_memory(recorded, random):
    """Long rows in any order, wide rows and nested records give the cases that were recorded."""
    rows = long_rows(recorded)
    random.shuffle(rows)
    for door in (
        traffic.from_frame(table(rows)),
        traffic.from_records(rows),
        traffic.from_frame(table(wide_rows(recorded))),
        traffic.from_records(nested_rows(recorded)),
    ):
        assert aligned(door) == expected(recorded)
        assert door.cases == len(recorded)


@quick
@given(cases, st.randoms(use_true_random=False))
def test_format_does_not_matter(tmp_path, recorded, random):
    """Parquet, JSONL and CSV, long, wide and nested, give the same cases."""
    rows = long_rows(recorded)
    random.shuffle(rows)
    pq.write_table(table(rows), tmp_path / "long.parquet", row_group_size=3)
    pq.write_table(table(wide_rows(recorded)), tmp_path / "wide.parquet", row_group_size=3)
    write_lines(tmp_path / "long.jsonl", rows)
    write_lines(tmp_path / "nested.jsonl", nested_rows(recorded))
    write_csv(tmp_path / "long.csv", rows)
    write_csv(tmp_path / "wide.csv", wide_rows(recorded))
    want = expected(recorded)
    for name in ("long.parquet", "wide.parquet", "long.jsonl", "nested.jsonl", "long.csv", "wide.csv"):
        assert aligned(traffic.open(tmp_path / name, cache=False)) == want, name


@quick
@given(cases, st.randoms(use_true_random=False), st.integers(1, 4))
def test_files_and_batches_do_not_matter(tmp_path, recorded, random, size):
    """Rows spread over files of several formats, read in small batches, give the same cases, each once."""
    rows = long_rows(recorded)
    random.shuffle(rows)
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    pq.write_table(table(rows[::3]), folder / "a.parquet")
    write_lines(folder / "b.jsonl", rows[1::3])
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows[2::3]).encode()))
    (folder / "README.md").write_text("not data")
    (folder / "golden.yaml").write_text("not: data")
    opened = traffic.open(folder, cache=False)
    assert aligned(opened) == expected(recorded)
    batches = list(opened.batches([], size=size))
    ids = [case for batch in batches for case in batch.arrow(None, "case_id").to_pylist()]
    assert sorted(ids) == sorted(recorded)
    assert all(batch.cases <= size for batch in batches)
    assert [batch.first for batch in batches] == np.cumsum([0, *(batch.cases for batch in batches)])[:-1].tolist()


@quick
@given(cases, st.randoms(use_true_random=False), st.lists(st.integers(0, 9), max_size=4))
def test_rows_finds_cases_by_position(tmp_path, recorded, random, picked):
    """A case's position in the batches is its position for `rows`, in any shape, in the order asked for."""
    rows = long_rows(recorded)
    random.shuffle(rows)
    pq.write_table(table(rows), tmp_path / "long.parquet", row_group_size=2)
    pq.write_table(table(wide_rows(recorded)), tmp_path / "wide.parquet", row_group_size=2)
    picked = [position % len(recorded) for position in picked]
    for name in ("long.parquet", "wide.parquet"):
        opened = traffic.open(tmp_path / name)
        needs = [Field(opened.models[0], "answer"), Field(None, "language")]
        whole, few = opened.read(needs), opened.rows(picked, needs)
        for need in (Field(None, "case_id"), *needs, Field(opened.models[0], "status")):
            assert few.arrow(*need).to_pylist() == [whole.text(*need, position) for position in picked], name


def test_rows_that_lie_together_stream_and_others_are_found_out():
    """Whole cases come out piece by piece where their rows lie together; a case that comes back later is not split."""
    ids = [f"case-{i}" for i in range(7)]
    together = [{"case_id": i, "model": m, "answer": i + m} for i in ids for m in ("a", "b")]
    apart = [{"case_id": i, "model": m, "answer": i + m} for m in ("a", "b") for i in ids]
    one, two = traffic.from_records(together), traffic.from_records(apart)
    assert (one._survey.together, two._survey.together) == (True, False)
    needs = [Field("a", "answer"), Field("b", "answer")]
    for opened in (one, two):
        batches = list(opened.batches(needs, size=3))
        assert [b.text("b", "answer", row) for b in batches for row in range(b.cases)] == [i + "b" for i in ids]


def test_only_needed_columns_are_read(tmp_path):
    """Reading a signal opens neither answers nor anything else that was not asked for."""
    columns = {
        "case_id": ["a", "b"],
        "mini.answer": ["x", "y"],
        "mini.confidence": [0.5, 0.6],
        "mini.cost_usd": [1.0, -1.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "wide.parquet")
    opened = traffic.open(tmp_path / "wide.parquet")
    (batch,) = opened.batches([Field("mini", "confidence")])
    assert set(batch.columns) == {Field(None, "case_id"), Field("mini", "confidence"), Field("mini", "status")}
    with pytest.raises(DataError, match="cost_usd is negative"):
        opened.read([Field("mini", "cost_usd")])


def test_a_model_without_any_recorded_value_is_absent():
    """A wide case in which every column of a model is null did not ask it; one value, or a status, says it was asked."""
    opened = traffic.from_records(
        [
            {"case_id": "a", "mini.answer": None, "mini.confidence": None, "mini.status": None, "big.answer": "x"},
            {"case_id": "b", "mini.answer": None, "mini.confidence": 0.5, "mini.status": None, "big.answer": "x"},
            {"case_id": "c", "mini.answer": None, "mini.confidence": None, "mini.status": "timeout", "big.answer": "x"},
        ]
    )
    batch = opened.read([Field("mini", "confidence")])
    assert batch.status("mini").tolist() == [ABSENT, OK, traffic.TIMEOUT]


NAMES = [
    (["case_id", "gpt-4.1.confidence"], {Field("gpt-4.1", "confidence")}),
    (["case_id", "gpt-4.1.answer", "gpt-4.1.x_margin"], {Field("gpt-4.1", "answer"), Field("gpt-4.1", "x_margin")}),
    (["case_id", "a.answer", "meta.region"], {Field("a", "answer"), Field(None, "meta.region")}),
    (["case_id", "a.score", "a.b.score"], {Field("a", "score"), Field("a.b", "score")}),
    (["case_id", "my.model.grade"], {Field("my.model", "grade")}),
]


@pytest.mark.parametrize(("stored", "fields"), NAMES)
def test_wide_names_are_split_at_the_outcome(stored, fields):
    """Model names may hold dots; a per-case column may too where no outcome is meant."""
    opened = traffic.from_frame(pa.table({name: ["1"] for name in stored}))
    statuses = {Field(field.model, "status") for field in fields if field.model}
    assert opened.fields == fields | statuses | {Field(None, "case_id")}


def test_foreign_names_are_mapped_in_every_shape():
    """`columns` gives our name to a foreign column: keys, outcomes of every model, one model's, and the case's."""
    long_one = traffic.from_records(
        [{"id": 1, "tier_model": "m", "response": "x", "lang": "en"}],
        columns={"case_id": "id", "model": "tier_model", "answer": "response", "language": "lang"},
    )
    wide_one = traffic.from_records(
        [{"id": 1, "m.response": "x", "n.reply": "y", "lang": "en"}],
        columns={"case_id": "id", "answer": "response", "n.answer": "n.reply", "language": "lang"},
    )
    for opened in (long_one, wide_one):
        batch = opened.read([Field("m", "answer"), Field("n", "answer"), Field(None, "language")])
        assert (batch.text("m", "answer", 0), batch.text(None, "language", 0)) == ("x", "en")
        assert batch.text(None, "case_id", 0) == "1"
    assert batch.text("n", "answer", 0) == "y"


def test_a_mapped_column_wins_over_one_that_bears_the_name():
    """Mapping `confidence` to another signal is a choice, so the column called confidence gives way."""
    opened = traffic.from_records(
        [{"case_id": "a", "model": "m", "confidence": 0.1, "x": 0.9}], columns={"confidence": "x"}
    )
    assert opened.read([Field("m", "confidence")]).numbers("m", "confidence").tolist() == [0.9]


def test_an_unlisted_column_can_be_asked_for_both_ways():
    """In long form it is a cohort where it is constant within cases, and a signal of each model."""
    opened = traffic.from_records([{"case_id": "a", "model": m, "topic": "law", "x": i} for i, m in enumerate("mn")])
    batch = opened.read([Field(None, "topic"), Field("m", "x"), Field("n", "x")])
    assert (batch.text(None, "topic", 0), batch.text("m", "x", 0), batch.text("n", "x", 0)) == ("law", 0, 1)
    assert not opened.read().has(None, "x")


def test_repeats_are_apart_from_the_cases():
    """Rows with a run above 0 are no cases; they come out of `repeats`, model by model."""
    rows = [
        {"case_id": c, "model": m, "run": r, "answer": f"{c}{m}{r}"}
        for c in ("a", "b")
        for m in ("m", "n")
        for r in (0, 1, 2)
    ]
    opened = traffic.from_records([*rows, {"case_id": "only repeated", "model": "m", "run": 1, "answer": "x"}])
    assert opened.cases == 2
    assert opened.read([Field("m", "answer")]).arrow("m", "answer").to_pylist() == ["am0", "bm0"]
    again = opened.repeats("n", [Field("n", "answer")])
    assert again.arrow("n", "answer").to_pylist() == ["an1", "an2", "bn1", "bn2"]
    assert again.arrow("n", "run").to_pylist() == [1, 2, 1, 2]
    assert traffic.from_records([{"case_id": "a", "m.answer": "x"}]).repeats("m", []).cases == 0


def test_values_keep_their_kind():
    """Numbers stay numbers, float32 stays float32, nested answers become canonical JSON, a nan signal stays unknown."""
    columns = {
        "case_id": ["a", "b"],
        "model": ["m", "m"],
        "answer": [{"b": 1, "a": [2.5]}, None],
        "confidence": pa.array([0.82, math.nan], pa.float32()),
        "token_logprobs": [[-0.5, -math.inf], None],
        "decided_at": ["2026-01-31T09:00:00+01:00", "2026-01-31T08:00:00Z"],
    }
    opened = traffic.from_frame(pa.table(columns))
    batch = opened.read()
    assert batch.text("m", "answer", 0) == '{"a":[2.5],"b":1}'
    assert batch.numbers("m", "confidence").dtype == np.float32
    assert np.isnan(batch.numbers("m", "confidence")[1])
    assert batch.text("m", "token_logprobs", 0) == [-0.5, -math.inf]
    assert batch.text(None, "decided_at", 0) == batch.text(None, "decided_at", 1)


def test_alternative_tokens_of_json_lines_stay_lists(tmp_path):
    """Log-probabilities of alternatives are lists of lists, with tokens' texts or without, and empty ones among them."""
    rows = [[[-0.5, -2.0], [-0.1]], None, [], [[{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]]]
    lines = [{"case_id": f"c{i}", "model": "m", "top_logprobs": row} for i, row in enumerate(rows)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = traffic.open(tmp_path / "x.jsonl", cache=False).read([Field("m", "top_logprobs")])
    assert found.arrow("m", "top_logprobs").to_pylist() == [*rows[:3], [[-0.5, -1.5]]]


def test_mixed_answers_become_text_and_csv_codes_keep_their_zeros(tmp_path):
    """One kind per column: 7 beside "seven" is "7", and a code with leading zeros is not a quantity."""
    mixed = traffic.from_records(
        [{"case_id": i, "model": "m", "answer": a} for i, a in enumerate(["seven", 7, {"n": 7}])]
    )
    assert mixed.read().arrow("m", "answer").to_pylist() == ["seven", "7", '{"n":7}']
    (tmp_path / "x.csv").write_text("case_id,model,answer,shop,price\na,m,07,007,1\nb,m,7,123,2.5\n")
    batch = traffic.open(tmp_path / "x.csv", cache=False).read()
    assert batch.arrow(None, "shop").to_pylist() == ["007", "123"]
    assert batch.arrow("m", "answer").to_pylist() == ["07", "7"]
    assert batch.arrow("m", "price").to_pylist() == [1.0, 2.5]


def test_a_batch_is_traffic_again():
    """`from_batch` gives back what it was given, statuses included."""
    rows = [{"case_id": "a", "model": "m", "status": "timeout"}, {"case_id": "b", "model": "n", "answer": "x"}]
    batch = traffic.from_records(rows).read()
    again = traffic.from_batch(batch)
    assert again.models == batch.models
    assert {str(f): c.to_pylist() for f, c in again.read().columns.items()} == {
        str(f): c.to_pylist() for f, c in batch.columns.items()
    }


def test_a_pandas_frame_is_traffic():
    """A data frame is read like a file, its missing values as null."""
    import pandas as pd

    frame = pd.DataFrame({"case_id": ["a", "b"], "m.answer": ["x", None], "m.input_tokens": [5, None]})
    batch = traffic.from_frame(frame).read()
    assert batch.integers("m", "input_tokens")[0].tolist() == [5, 0]
    assert batch.status("m").tolist() == [OK, ABSENT]


@given(st.lists(st.text(max_size=40), min_size=1, max_size=40))
def test_hashes_are_equal_where_text_is(texts):
    """Equal ids hash alike wherever they stand in a column; these unequal ones apart."""
    from cascade_eval.traffic import keys

    found = keys.hashes(pa.array(["pad", *texts], pa.string())[1:])
    assert found.tolist() == keys.hashes(pa.array(texts, pa.string())).tolist()
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            assert (found[i] == found[j]) == (one == other)


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.sampled_from("ab")), max_size=20))
def test_per_case_is_the_first_value_of_each_case(rows):
    """Against one row at a time: the first known value, and every row that says something else."""
    number = {case: i for i, case in enumerate(dict.fromkeys(case for case, _ in rows))}
    codes = np.array([number[case] for case, _ in rows], dtype=np.int32)
    column, differing = long.per_case(pa.array([value for _, value in rows], pa.string()), codes, len(number))
    first = {}
    for case, value in rows:
        first.setdefault(case, value) if value is not None else None
    assert column.to_pylist() == [first.get(case) for case in number]
    assert differing.tolist() == [i for i, (case, v) in enumerate(rows) if v is not None and v != first[case]]


RECORDED = [
    ("mmlu_pro_calibration", 12_032, 14),
    ("routellm_eval", 15_521, 2),
    ("open_qa_logprobs", 4_000, 12),
    ("wmt17_mt_confidence", 500, 8),
    ("semantic_sql", 192_099, 2),
]


@needs_data
@pytest.mark.parametrize(("name", "count", "models"), RECORDED)
def test_recorded_data_opens(name, count, models):
    """Five recorded data sets open with two mapped columns, and every case is there with every model's outcome."""
    path = Path(os.environ["CASCADE_EVAL_DATA"]) / f"{name}.parquet"
    opened = traffic.open(path, columns={"model": "tier_model", "answer": "response"})
    assert (opened.cases, len(opened.models)) == (count, models)
    needs = [Field(model, "confidence") for model in opened.models] + [Field(None, "cohort")]
    assert sum(batch.cases for batch in opened.batches(needs)) == count
    stored = pq.read_table(path, columns=["case_id", "tier_model", "confidence"]).to_pylist()
    batch = opened.read(needs)
    at = {case: row for row, case in enumerate(batch.arrow(None, "case_id").to_pylist())}
    for row in stored[:: max(1, len(stored) // 500)]:
        assert batch.text(row["tier_model"], "confidence", at[row["case_id"]]) == row["confidence"]


def test_text_under_a_dictionary_is_the_text(tmp_path):
    """Also where a dictionary holds values no case has, holds one twice, or differs from file to file."""
    plain = {"case_id": ["a", "b", "c"], "mini.answer": ["no", None, "yes"], "language": ["fr", "en", "fr"]}
    held = {
        "case_id": pa.array(plain["case_id"]).dictionary_encode(),
        "mini.answer": pa.DictionaryArray.from_arrays(pa.array([2, None, 0]), ["yes", "never", "no"]),
        "language": pa.DictionaryArray.from_arrays(pa.array([1, 2, 3]), ["de", "fr", "en", "fr"]),
    }
    for name, columns in (("plain", plain), ("held", held)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    batches = [traffic.open(tmp_path / f"{name}.parquet").read() for name in ("plain", "held")]
    for model, name in ((None, "case_id"), ("mini", "answer"), (None, "language")):
        assert batches[0].arrow(model, name).to_pylist() == batches[1].arrow(model, name).to_pylist()
    codes, values = batches[1].codes("mini", "answer")
    assert (codes.tolist(), values) == ([1, -1, 0], ["yes", "no"])
    assert batches[1].take(np.array([2])).codes("mini", "answer")[1] == ["yes"]


def test_a_pass_without_ids_leaves_their_problems_to_the_next():
    """Unless something else is wrong: then all of it is said together."""
    table = {"case_id": ["a", "a", "b"], "mini.confidence": [0.5, 0.5, 0.5]}
    opened = traffic.from_frame(pa.table(table))
    assert [batch.cases for batch in opened.batches([Field("mini", "confidence")], ids=False)] == [3]
    with pytest.raises(DataError, match="was there before"):
        list(opened.batches([Field("mini", "confidence")]))
    worse = traffic.from_frame(pa.table({**table, "mini.confidence": [0.5, 0.5, np.inf]}))
    with pytest.raises(DataError) as raised:
        list(worse.batches([Field("mini", "confidence")], ids=False))
    assert all(words in str(raised.value) for words in ("is infinite", "was there before"))


def test_hashes_that_occur_twice_are_found_among_batches():
    """As a sort of all of them finds them."""
    rng = np.random.default_rng(2)
    every = rng.integers(0, 2**64, 3_000, dtype=np.uint64) >> rng.choice(np.array([0, 3, 54], np.uint64), 3_000)
    values, times = np.unique(every, return_counts=True)
    assert np.array_equal(keys.repeated([np.sort(part) for part in np.split(every, 5)]), values[times > 1])
    assert not len(keys.repeated([]))
