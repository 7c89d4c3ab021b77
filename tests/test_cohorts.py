"""Cohorts: every case in exactly one member of each family, told apart as text."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import cohorts
from cascade_eval.traffic import Batch, Field

untimed = settings(deadline=None)


def batch(**columns):
    arrays = {Field(None, name): column for name, column in columns.items()}
    return Batch(len(next(iter(arrays.values()))), arrays)


def named(codes):
    """Write the member of each case out."""
    return [codes.members[code] for code in codes.codes.tolist()]


def of(values, kind=None):
    """Cohort of each value of one column."""
    return [member for (member,) in named(cohorts.encode(batch(x=pa.array(values, kind)), ("x",)))]


@pytest.mark.parametrize(
    ("values", "kind", "members"),
    [
        (["no", "yes", None, "no"], pa.string(), ["no", "yes", "(none)", "no"]),
        (["no", "yes", None, "no"], pa.dictionary(pa.int8(), pa.string()), ["no", "yes", "(none)", "no"]),
        ([True, False, None], pa.bool_(), ["true", "false", "(none)"]),
        ([3, 1, None, 3], pa.int64(), ["3", "1", "(none)", "3"]),
        ([3.0, 0.5, None, -0.0, 1e6], pa.float64(), ["3", "0.5", "(none)", "0", "1000000"]),
        ([0.1, 0.5], pa.float64(), ["0.1", "0.5"]),
        ([None, None], pa.null(), ["(none)", "(none)"]),
        (["", " ", "a=b", "a,b", "(other)"], pa.string(), ["", " ", "a=b", "a,b", "(other)"]),
        ([dt.date(2026, 1, 5)], pa.date32(), ["2026-01-05"]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else None,
)
def test_values_are_compared_as_text(values, kind, members):
    """Null, truth values and numbers are cohorts by the way they are written; whole floats as integers."""
    assert of(values, kind) == members


def test_values_written_alike_are_one_member():
    """0.0 and -0.0, and a null beside the text "(none)", are the same cohort."""
    zeros = cohorts.encode(batch(x=pa.array([0.0, -0.0, 1.0])), ("x",))
    assert (zeros.members, zeros.codes.tolist()) == ((("0",), ("1",)), [0, 0, 1])
    nulls = cohorts.encode(batch(x=pa.array(["(none)", None, "a", None])), ("x",))
    assert (nulls.members, nulls.codes.tolist()) == ((("(none)",), ("a",)), [0, 0, 1, 0])


def test_a_column_that_does_not_exist_is_one_cohort():
    """Where a column is missing every case is "(none)", as where it is null."""
    assert named(cohorts.encode(batch(x=pa.array([1, 2])), ("y",))) == [("(none)",)] * 2


@pytest.mark.parametrize("family", [(), ("x",), ("x", "y"), *((column,) for column in cohorts.DERIVED)])
def test_no_case_has_no_member(family):
    """An empty batch has no members, but for the family of all cases, which has one and it is empty."""
    time = pa.array([], pa.timestamp("us", tz="UTC"))
    empty = batch(x=pa.array([], pa.string()), y=pa.nulls(0), decided_at=time)
    found = cohorts.encode(empty, family)
    assert (found.members, len(found.codes)) == (((),) if not family else (), 0)


def test_crosses_list_only_what_occurs():
    """A cross has the combinations that occur, each named in the family's order."""
    crossed = cohorts.encode(batch(x=pa.array(["a", "b", "a", None]), y=pa.array([1, 2, 1, 2])), ("x", "y"))
    assert crossed.members == (("a", "1"), ("b", "2"), ("(none)", "2"))
    assert named(crossed) == [("a", "1"), ("b", "2"), ("a", "1"), ("(none)", "2")]


VALUES = st.sampled_from(["a", "b", "c", None])


@untimed
@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=40))
def test_a_cross_is_the_cases_own_values(rows):
    """Every case stands in the member made of its own values, whatever other combinations there are."""
    columns = {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate("xyz")}
    found = cohorts.encode(batch(**columns), ("x", "y", "z"))
    assert named(found) == [tuple("(none)" if value is None else value for value in row) for row in rows]
    assert len(set(found.members)) == len(found.members) == len({tuple(row) for row in rows})


# Time

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


def times(*moments):
    return batch(decided_at=pa.array(moments, pa.timestamp("us", tz="UTC")))


def derived(part, *moments):
    return [member for (member,) in named(cohorts.encode(times(*moments), (f"{part} of decided_at",)))]


@pytest.mark.parametrize(
    ("moment", "hour", "weekday", "week"),
    [
        (dt.datetime(2026, 1, 5, 0, 0, tzinfo=dt.UTC), "00", "Monday", "2026-W02"),
        (dt.datetime(2026, 1, 4, 23, 59, 59, 999999, tzinfo=dt.UTC), "23", "Sunday", "2026-W01"),
        (dt.datetime(2021, 1, 3, 12, tzinfo=dt.UTC), "12", "Sunday", "2020-W53"),
        (dt.datetime(2020, 12, 31, 9, tzinfo=dt.UTC), "09", "Thursday", "2020-W53"),
        (dt.datetime(2024, 12, 30, 1, tzinfo=dt.UTC), "01", "Monday", "2025-W01"),
        (dt.datetime(2026, 1, 5, 0, 30, tzinfo=BERLIN), "23", "Sunday", "2026-W01"),
        (dt.datetime(2026, 7, 1, 5, 29, 59, tzinfo=KOLKATA), "23", "Tuesday", "2026-W27"),
        (dt.datetime(1969, 12, 31, 22, tzinfo=dt.UTC), "22", "Wednesday", "1970-W01"),
        (None, "(none)", "(none)", "(none)"),
    ],
)
def test_times_are_read_in_utc(moment, hour, weekday, week):
    """Hour, weekday and ISO week are those of the moment in UTC, at year ends and before 1970 too."""
    assert [derived(part, moment) for part in ("hour", "weekday", "week")] == [[hour], [weekday], [week]]


MOMENTS = st.integers(-20 * 365 * 86_400, 130 * 365 * 86_400).map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC))


@untimed
@given(st.lists(st.tuples(MOMENTS, st.timezones()).map(lambda pair: pair[0].astimezone(pair[1])), max_size=5))
def test_times_are_those_of_the_standard_library(moments):
    """What is read off the columns is what `datetime` says of each moment by itself."""
    utc = [moment.astimezone(dt.UTC) for moment in moments]
    assert derived("hour", *moments) == [f"{moment:%H}" for moment in utc]
    assert derived("weekday", *moments) == [f"{moment:%A}" for moment in utc]
    assert derived("week", *moments) == [f"{moment:%G-W%V}" for moment in utc]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_a_time_does_not_matter(unit):
    """A time recorded in seconds or in nanoseconds is the same moment."""
    moment = dt.datetime(2026, 2, 28, 23, 59, 59, tzinfo=dt.UTC)
    cases = batch(decided_at=pa.array([moment, None], pa.timestamp(unit, tz="Asia/Kolkata")))
    assert named(cohorts.encode(cases, ("hour of decided_at",))) == [("23",), ("(none)",)]


def test_without_times_every_case_has_none():
    """A derived cohort of traffic that has no `decided_at` is "(none)"."""
    assert named(cohorts.encode(batch(x=pa.array([1, 2])), ("week of decided_at",))) == [("(none)",)] * 2


def test_a_derived_column_crosses_with_others():
    """The hour of a case can stand beside its language."""
    moment = dt.datetime(2026, 1, 5, 7, tzinfo=dt.UTC)
    cases = Batch(2, {**times(moment, None).columns, Field(None, "x"): pa.array(["a", "b"])})
    assert named(cohorts.encode(cases, ("x", "hour of decided_at"))) == [("a", "07"), ("b", "(none)")]


def test_reading_names_the_columns_that_are_needed():
    """A derived cohort needs the time, another its column; nothing else is read."""
    wanted = cohorts.needs(["x", "hour of decided_at", "week of decided_at"])
    assert wanted == {Field(None, "x"), Field(None, "decided_at")}


def test_members_are_written_as_budgets_write_them():
    """Labels and mappings hold a value per column, in the family's order."""
    assert cohorts.label(("a", "b"), ("1", "(none)")) == "a=1,b=(none)"
    assert cohorts.mapping(("a", "b"), ("1", "(none)")) == {"a": "1", "b": "(none)"}
    assert cohorts.mapping((), ()) == {}
    with pytest.raises(ValueError, match="zip"):
        cohorts.label(("a", "b"), ("1",))


def test_many_members_stay_apart():
    """5,000 members crossed with 3 others are counted without mixing any two."""
    first, second = np.arange(15_000) % 5_000, np.arange(15_000) // 5_000
    found = cohorts.encode(batch(x=pa.array(first), y=pa.array(second)), ("x", "y"))
    assert len(found.members) == 15_000
    assert np.bincount(found.codes).max() == 1
    assert named(found)[7_501] == ("2501", "1")
