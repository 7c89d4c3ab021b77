"""What users say, kept week by week: counted as in pandas, readable from old histories, and seen by a diagnosis."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade_eval import diagnosis, history, monitor, suite, traffic
from cascade_eval.monitor import users

TEXT = """
traffic: cases.parquet
cascades:
  current:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.5}}
    - {tier: flagship, model: big}
agreement: same label
cohorts: [language]
budgets:
  disagreement: {overall: at most 10%, each language: at most 20%}
"""
MONDAY = dt.datetime(2026, 8, 3, tzinfo=dt.UTC)


def cases(weeks, *, unhappy=0.1, seed=0, each=400):
    """Make some weeks of agreeing answers with ratings of one to five stars, tasks and labels, some of each unknown."""
    rng = np.random.default_rng(seed)
    size = each * len(weeks)
    low = rng.random(size) < unhappy
    hours = np.concatenate([week * 168 + np.sort(rng.random(each)) * 168 for week in weeks])
    return pd.DataFrame(
        {
            "case_id": [f"{weeks[0]}-{n}" for n in range(size)],
            "decided_at": [MONDAY + dt.timedelta(hours=float(hour)) for hour in hours],
            "language": np.where(rng.random(size) < 0.3, "pt", "en"),
            "mini.answer": "a",
            "mini.confidence": rng.random(size),
            "big.answer": "a",
            "feedback": np.where(rng.random(size) < 0.5, np.where(low, rng.integers(1, 3, size), rng.integers(3, 6, size)), np.nan),
            "completed": pd.array(np.where(rng.random(size) < 0.8, ~low, None), dtype="boolean"),
            "expected": np.where(rng.random(size) < 0.6, np.where(low, "b", "a"), None),
        }
    )  # fmt: skip


@pytest.fixture
def lay(tmp_path):
    """Lay out the suite beside cases; return both."""

    def laid(frame, name="cases"):
        path = tmp_path / "s.cascade.yaml"
        path.write_text(TEXT, encoding="utf-8")
        frame.to_parquet(tmp_path / f"{name}.parquet")
        return suite.load(path), traffic.open(str(tmp_path / f"{name}.parquet"))

    return laid


def test_rows_count_what_users_and_labels_say_as_pandas_does(lay):
    """Bad outcomes and known ones of each week and language; three stars are no bad feedback, two are."""
    frame = cases([0, 1])
    rows = monitor.weekly(*lay(frame))
    iso = frame["decided_at"].dt.isocalendar()
    frame["week"] = [f"{year}-W{week:02d}" for year, week in zip(iso["year"], iso["week"], strict=True)]
    for row in rows:
        mine = frame[frame["week"].eq(row.window)]
        for column, value in row.cohort:
            mine = mine[mine[column].eq(value)]
        assert (row.feedback_bad, row.feedback_known) == (mine["feedback"].lt(3).sum(), mine["feedback"].notna().sum())
        done = mine["completed"].dropna().astype(bool)
        assert (row.completed_bad, row.completed_known) == ((~done).sum(), len(done))
        labelled = mine["expected"].dropna()
        assert (row.label_bad, row.label_known) == (labelled.ne("a").sum(), len(labelled))
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("given", "bad"),
    [
        (["up", "down", None, "👎", "whatever"], [False, True, False, True, False]),
        ([1, 2, 3, None, 5], [True, True, False, False, False]),
        ([-1, 0, 1, None, 1], [True, False, False, False, False]),
        ([True, False, None, None, True], [False, True, False, False, False]),
    ],
)
def test_feedback_in_words_stars_signs_and_flags(given, bad):
    """Every usual scale is told apart where bad turns to good; other words are unknown."""
    records = [{"case_id": f"c{i}", "m.answer": "x", "feedback": value} for i, value in enumerate(given)]
    found = users.count(traffic.from_records(records), [()])
    assert found[(), ()]["feedback_bad"] == sum(bad)
    assert found[(), ()]["feedback_known"] == sum(value is not None and value != "whatever" for value in given)


def test_a_history_without_these_columns_is_read(lay, tmp_path):
    """Files of an earlier version lack the columns: their weeks know nothing of users, and everything else."""
    rows = monitor.weekly(*lay(cases([0, 1])))
    place = tmp_path / "history"
    history.write(place, rows)
    [file] = place.glob("*.parquet")
    table = pq.read_table(pa.BufferReader(file.read_bytes()))
    new = [name for name in table.column_names if name.endswith(("_bad", "_known")) and not name.startswith("regen")]
    assert len(new) == 6
    pq.write_table(table.drop_columns(new), file)
    read = history.read(place)
    assert {(row.feedback_known, row.completed_known, row.label_known) for row in read} == {(0, 0, 0)}
    assert [row.decisions for row in read] == [row.decisions for row in sorted(rows, key=lambda row: row.key)]


def test_a_diagnosis_hears_users_of_weeks_only_the_history_has(lay):
    """The traffic is the last two weeks; that users were happier before stands in earlier rows alone."""
    found, earlier = lay(cases(range(8), seed=1), "earlier")
    _, late = lay(cases([8, 9], unhappy=0.5, seed=2))
    rows = monitor.weekly(found, earlier)
    [one] = diagnosis.run(found, late, rows=rows, treat=False)
    [step] = [step for step in one.steps if step.name == "users"]
    assert step.outcome in {"conclusive", "suspects"}, step.message
    deaf = [type(row)(**{**vars(row), "feedback_known": 0, "completed_known": 0, "label_known": 0}) for row in rows]
    [other] = diagnosis.run(found, late, rows=deaf, treat=False)
    assert next(step.outcome for step in other.steps if step.name == "users") == "cannot run"


WORDS = pa.array(["up", " Bad ", "what?", None])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (WORDS, [1, 0, np.nan, np.nan]),
        (WORDS.dictionary_encode(), [1, 0, np.nan, np.nan]),
        (pa.array([5, 1, None, 3]), [5, 1, np.nan, 3]),
        (pa.array([0.5, -1, None, 0]), [0.5, -1, np.nan, 0]),
        (pa.array([True, False, None, True]), [1, 0, np.nan, 1]),
    ],
)
def test_feedback_is_read_as_numbers_however_it_is_stored(column, expected):
    """Words, words as categories, stars, signed scores and truth values; what is none of these is unknown."""
    table = pa.table({"case_id": list("abcd"), "mini.answer": ["x"] * 4, "feedback": column})
    batch = traffic.from_frame(table).read()
    np.testing.assert_array_equal(users.feedback(batch), expected)
    [(name, bad, known)] = users.said(batch, 0.5)
    assert name == "feedback"
    assert known.tolist() == [not np.isnan(value) for value in expected]
    assert bad.tolist() == [value < 0.5 for value in expected]


def test_users_who_say_nothing_are_not_read():
    """Cases with neither column yield nothing; cases with finished tasks only yield those."""
    table = pa.table({"case_id": list("ab"), "mini.answer": ["x", "y"]})
    assert not list(users.said(traffic.from_frame(table).read(), 0.5))
    told = table.append_column("completed", pa.array([True, None]))
    [(name, bad, known)] = users.said(traffic.from_frame(told).read(), 0.5)
    assert (name, bad.tolist(), known.tolist()) == ("completed", [False, False], [True, False])
