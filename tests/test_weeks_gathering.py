"""Weeks of a history and of the traffic at hand, put together row by row, and the rate over several of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import sequential
from cascade_eval.monitor import Row, Watched
from cascade_eval.verdicts import Estimate
from cascade_eval.weeks import gathering, promised


def made_row(cascade, kind, week, language, cases):
    """Make a row of which only its place and its cases matter."""
    cohort = (("language", language),) if language else ()
    return Row("made", cascade, kind, f"2026-W{30 + week}", cohort, cases=cases)


made_rows = st.dictionaries(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from(["production", "held-out"]),
        st.integers(0, 4),
        st.sampled_from(["", "en"]),
    ),
    st.just(10),
    max_size=8,
).map(lambda drawn: [made_row(*key, cases) for key, cases in drawn.items()])


@settings(deadline=None)
@given(made_rows.filter(bool), made_rows)
def test_a_week_that_was_measured_again_goes_before_the_history_whole(own, kept):
    """Of the history stay earlier weeks, and later ones apart, of cascades that are judged; nothing is said for others."""
    found = gathering._joined(own, kept, "history", "a command")
    last, judged = max(row.window for row in own), {row.cascade for row in own}
    again = {(row.cascade, row.kind, row.window) for row in own}
    past = [
        row
        for row in kept
        if row.cascade in judged and row.window <= last and (row.cascade, row.kind, row.window) not in again
    ]
    later = [row for row in kept if row.cascade in judged and row.window > last and row.kind == "production"]
    assert (list(found.rows), list(found.later), found.alone) == ([*past, *own], later, not past)
    assert set(found.silent) == judged - {row.cascade for row in kept if row.kind == "production"}
    weeks = len({row.window for row in later})
    said = [f"the history history has {weeks} weeks after {last}, the last of this traffic; they were left out"]
    assert list(found.notes) == (said if later else [])


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([(0.1, 50, 5), (0.3, 150, 45)], 0.25),
        ([(0.1, 50, 5), (None, 150, 45)], 0.1),
        ([(None, 50, 5), (None, 150, 45)], 0.25),
        ([(0.0, 50, 0)], 0.0),
    ],
)
def test_the_rate_over_weeks_is_weighed_by_their_comparisons(rows, value):
    """Weeks without a rate of their own count where no week has one; the value lies within bounds that count them all."""
    made = [
        replace(made_row("one", "production", week, "", 10), disagreement=rate, least=float(x), least_size=float(n),
                most=float(x), most_size=float(n), disagreed=x, compared=n)
        for week, (rate, n, x) in enumerate(rows)
    ]  # fmt: skip
    found = promised._estimate(made, 0.95)
    count, nobs = sum(x for *_, x in rows), sum(n for _, n, _ in rows)
    low, high = sequential.confidence_sequence(count, nobs)
    assert (found.count, found.nobs, found.low, found.high) == (count, nobs, low, high)
    assert float(found) == pytest.approx(min(max(value, low), high))


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        ("alarm", None, "An alarm stands since 2026-W30: 5% of 200 compared answers over it; the weeks' evidence against at most 10% reached 100 to 1."),
        ("within", None, "5% of 200 compared answers over it (bounds 2% to 9%): at most 10% is proven."),
        ("open", 1234, "5% of 200 compared answers over it (bounds 2% to 9%): at most 10% is neither proven nor refuted; about 1,234 more cases like these would decide."),
        ("open", None, "5% of 200 compared answers over it (bounds 2% to 9%): at most 10% is neither proven nor refuted; over 100,000 more cases would be needed to decide."),
    ],
)  # fmt: skip
def test_each_state_has_its_sentence(state, more, said):
    """What was found, over which weeks, and what follows from it."""
    alarms = ("2026-W30",) if state == "alarm" else ()
    watched = Watched("one", (), 0.1, ("2026-W30",), (0.0,), alarms, None, state)
    estimate = Estimate("disagreement", 0.05, 0.02, 0.09, 10, 200, promised.METHOD)
    assert promised._reason(watched, estimate, "over it", more) == said


def test_weeks_are_named_by_their_ends():
    """One week by itself, two and more by the first and the last."""
    span = ("2026-W30", "2026-W31", "2026-W33")
    named = [promised._weeks(span[:n]) for n in (1, 2, 3)]
    assert named == ["the week 2026-W30", "the 2 weeks 2026-W30 to 2026-W31", "the 3 weeks 2026-W30 to 2026-W33"]
