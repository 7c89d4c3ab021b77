"""Attempts to pass by counting cases twice: rows exported again under new ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fail_closed_cases import CASES, OVERALL, columns, outcomes, text
from hypothesis import given, settings
from hypothesis import strategies as st
from weeks_sample import CALM, cases, monday, write

from cascade_eval import monitor, runs, suite, traffic
from cascade_eval.errors import DataError
from cascade_eval.replay import Columns
from cascade_eval.suite import twins
from cascade_eval.traffic import Batch, Field

DRAW = np.random.default_rng(5)
TIMES = {"mini.latency_s": DRAW.lognormal(-1, 0.5, CASES), "flagship.latency_s": DRAW.lognormal(0, 0.5, CASES)}


def doubled(more, digits=9, **changes):
    """Return the cases with the first of them once more, under new ids."""
    place = np.concatenate([np.arange(CASES), np.arange(more)])
    once = {**columns(), **{name: values.round(digits) for name, values in TIMES.items()}}
    found = {name: np.asarray(values, dtype=object)[place].tolist() for name, values in once.items()}
    found["case_id"] = [f"case-{number}" for number in range(len(place))]
    return found | {name: change(place) for name, change in changes.items()}


def judge(folder, table):
    """Judge disagreement on these cases."""
    pq.write_table(pa.table(table), folder / "cases.parquet")
    path = folder / "made.cascade.yaml"
    path.write_text(text(OVERALL), encoding="utf-8")
    return runs.evaluate(suite.load(path))


@pytest.mark.parametrize(
    ("more", "digits", "changes", "end"),
    [
        (0, 9, {}, "silent"),
        (6, 9, {}, "said"),
        (40, 9, {}, "refused"),
        (CASES, 9, {}, "refused"),
        (CASES, 3, {}, "refused"),
        (CASES, 0, {}, "silent"),
        (CASES, 9, {"cluster": lambda place: [f"user-{one}" for one in place]}, "silent"),
        (CASES, 9, {"cluster": lambda place: [f"user-{one}" for one in range(len(place))]}, "refused"),
        (CASES, 9, {"flagship.latency_s": lambda place: [None] * len(place)}, "refused"),
        (60, 9, {"cached": lambda place: [one < 60 for one in place]}, "silent"),
    ],
    ids=[
        "none", "one in a hundred", "one in fifteen", "every case", "times in milliseconds", "times in seconds",
        "one cluster", "other clusters", "one model timed", "answered by a cache",
    ],
)  # fmt: skip
def test_cases_that_are_there_twice_are_refused_where_times_tell(tmp_path, more, digits, changes, end):
    """Equal times of two calls are no chance if they are fine enough; a few are said, and clusters account for them."""
    table = doubled(more, digits, **changes)
    if end == "refused":
        with pytest.raises(
            DataError, match=r"cases.parquet: \S+% of \S+ cases are twins of another.*as `cluster` what"
        ):
            judge(tmp_path, table)
        return
    found = judge(tmp_path, table)
    assert outcomes(found) == {("disagreement",): "pass"}
    assert ("0.99% of 606 cases are twins" in " ".join(found.record["notes"])) is (end == "said")


def test_weeks_of_cases_that_are_there_twice_are_refused(tmp_path):
    """A history keeps no week that counts every case twice."""
    weeks = {20: CALM, 21: CALM}
    path = write(tmp_path, weeks)
    size = 2 * 160
    steps = DRAW.random(size // 2)
    moments = [monday(20 + (number >= 80)) + one * (monday(21) - monday(20)) for number, one in enumerate(steps)]
    cases(tmp_path, weeks, {"decided_at": moments * 2, "mini.latency_s": [0.2] * size})
    with pytest.raises(DataError, match="cases are twins of another"):
        monitor.weekly(suite.load(path), traffic.open(str(tmp_path / "cases.parquet")))


def batch(times, other, first=0):
    """Make a batch of timed cases."""
    found = {
        Field(None, "case_id"): pa.array([f"case-{first + number}" for number in range(len(times))]),
        Field("mini", "latency_s"): pa.array(times, pa.float64()),
        Field("mini", "confidence"): pa.array(other, pa.float32()),
        Field("mini", "status"): pa.array(np.zeros(len(times), dtype=np.int8)),
    }
    return Batch(len(times), found, first)


def look(times, other, first=0):
    """Look at a batch for twins."""
    return twins.look(Columns(batch(times, other, first), None), ["mini"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 2)), min_size=1, max_size=80), st.integers(0, 80))
def test_the_share_of_twins_is_counted_as_one_by_one_however_cases_are_cut(rows, cut):
    """Surplus rows of each time and rest, from any two batches; none where different rows share times."""
    times, other = ([float(row[place]) for row in rows] for place in (0, 1))
    alone = len({*times}) == len({*rows})
    surplus = sum(number - 1 for number in Counter(rows).values()) / len(rows)
    whole = twins.share(look(times, other), 0)
    assert whole == pytest.approx(surplus if alone else whole)
    parts = [
        look(times[part], other[part], part.start or 0) for part in (slice(0, cut), slice(cut, None)) if times[part]
    ]
    assert twins.share(sum(parts[1:], parts[0]), 0) == whole


@pytest.mark.parametrize(
    ("step", "span", "twins_"),
    [(86_400.0, 1000, 0.0), (60.0, 100_000, 0.0), (1e-3, 3000, 0.0), (1e-6, 3_000_000_000, 0.5)],
    ids=["days", "minutes", "milliseconds", "millionths"],
)
def test_steps_in_which_times_are_recorded_make_twins_by_chance(step, span, twins_):
    """Cases alike in everything are no copies where two calls in the same step look alike, however many steps there are."""
    drawn = np.random.default_rng(3).choice(span, 500, replace=False) * step
    whole = look([*drawn, *drawn], [0.5] * 1000)
    assert twins.share(whole, 1000) == twins_


def test_of_many_cases_some_are_drawn_and_twins_together():
    """Half of the cases are twins, wherever they are cut; what is kept does not grow with the cases."""
    times = np.random.default_rng(1).random(3 * twins.MOST)
    other = np.zeros(len(times))
    once = look(times, other)
    twice = once + look(times[: len(times) // 3], other[: len(times) // 3], len(times))
    assert len(twice.rows) <= twins.MOST
    assert twins.share(once, len(times)) == 0
    assert twins.share(twice, len(times)) == pytest.approx(0.25, abs=0.02)
