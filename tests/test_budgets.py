"""Phrases of budgets: what is read, what is refused and how, and how numbers are written for people."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascade_eval import budgets

UNITS = ("rate", "ratio", "points", "seconds", "dollars", "days")


@pytest.mark.parametrize(
    ("text", "unit", "low", "high"),
    [
        ("at most 5%", "rate", None, 0.05),
        ("at least 95 %", "rate", 0.95, None),
        ("15% to 40%", "rate", 0.15, 0.40),
        ("15 to 40%", "rate", 0.15, 0.40),
        ("at most .5%", "rate", None, 0.005),
        ("at most 57%", "rate", None, 0.57),
        ("at most 45% of always-flagship", "ratio", None, 0.45),
        ("at most 105%", "ratio", None, 1.05),
        ("at least  -3   points", "points", -0.03, None),
        ("−3 to 3 points", "points", -0.03, 0.03),
        ("at most 1 point", "points", None, 0.01),
        ("at most 800 ms", "seconds", None, 0.8),
        ("200 ms to 1.5s", "seconds", 0.2, 1.5),
        ("at most 1,000 ms", "seconds", None, 1.0),
        ("at most $0.002", "dollars", None, 0.002),
        ("$0.001 to $0.002", "dollars", 0.001, 0.002),
        ("at most 30 days", "days", None, 30.0),
        ("at most 1 day", "days", None, 1.0),
    ],
)
def test_a_bound_is_read_exactly(text, unit, low, high):
    """A phrase gives the same floats as the decimal written in Python."""
    bound = budgets.parse(text, unit)
    assert (bound.low, bound.high, bound.unit) == (low, high, unit)
    assert str(bound) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("at mots 5%", "rate", "'at mots 5%' is not a bound. Write 'at most 5%', 'at least 5%' or '5% to 10%'."),
        ("at leest 60%", "rate", "'at leest 60%' is not a bound. Write 'at least 60%', 'at most 60%' or '30% to 60%'."),
        ("<= 5%", "rate", "'<= 5%' is not a bound. Write 'at most 5%', 'at least 5%' or '5% to 10%'."),
        ("5", "rate", "'5' is not a bound. Write 'at most 5%', 'at least 5%' or '5% to 10%'."),
        ("at most 5", "rate", "'at most 5' has no unit. Write 'at most 5%', 'at least 5%' or '5% to 10%'."),
        (
            "at most 0.05",
            "rate",
            "'at most 0.05' has no unit. Write 'at most 5%' or 'at most 0.05%', whichever is meant.",
        ),
        ("at most 105%", "rate", "'at most 105%' is over 100%, which no rate can be."),
        ("10% to 5%", "rate", "'10% to 5%' ends before it begins. Write '5% to 10%'."),
        ("at most -3%", "rate", "'at most -3%' is negative; only points may be. Write 'at most 3%'"),
        ("at most 0%", "rate", "0 of 1,000 proves at most 0.3%"),
        ("0% to 0%", "rate", "0 of 1,000 proves at most 0.3%"),
        ("at most 200 ms", "rate", "'at most 200 ms' is not in %."),
        ("at most 5%", "seconds", "'at most 5%' is not in ms or s. Write 'at most 5 ms'"),
        ("at mots 7s", "seconds", "Write 'at most 7 s', 'at least 7 s' or '7 s to 14 s'."),
        (
            "at most 0.3",
            "rate",
            "'at most 0.3' has no unit. Write 'at most 30%' or 'at most 0.3%', whichever is meant.",
        ),
        ("0.2 to 0.4", "ratio", "'0.2 to 0.4' has no unit. Write '20% to 40%' or '0.2% to 0.4%', whichever is meant."),
        ("at most 0.002", "dollars", "has no unit. Write 'at most $0.002', 'at least $0.002' or '$0.002 to $0.004'."),
        ("at most $5%", "dollars", "'at most $5%' is not in $."),
        ("200 to 500", "seconds", "'200 to 500' has no unit."),
        ("$5 to 10%", "rate", "'$5 to 10%' is not in %."),
        ("5 ms to 10%", "rate", "'5 ms to 10%' is not in %."),
        ("at most 45% of always-flagship", "rate", "is not a bound"),
        ("at most", "days", "Write 'at most 30 days', 'at least 30 days' or '30 days to 60 days'."),
        ("", "points", "'' is not a bound. Write 'at most 3 points'"),
        ("at most nan%", "rate", "is not a bound"),
    ],
)
def test_what_is_no_bound_is_refused_with_what_to_write(text, unit, message):
    """A wrong phrase raises ValueError that names it and shows right phrases with its own number and unit."""
    with pytest.raises(ValueError) as caught:
        budgets.parse(text, unit)
    assert message in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", ["nonsense", "at most", "at mots 7", "", "at leest 200"])
def test_every_example_in_an_error_is_itself_a_bound(text, unit):
    """What an error tells the user to write can be read."""
    with pytest.raises(ValueError) as caught:
        budgets.parse(text, unit)
    advice = str(caught.value).partition("Write ")[2].split("'")[1::2]
    assert len(advice) == 3
    for phrase in advice:
        budgets.parse(phrase, unit)


@pytest.mark.parametrize(
    ("text", "unit", "cannot"),
    [
        ("0% to 100%", "rate", True),
        ("at most 100%", "rate", True),
        ("at least 0%", "rate", True),
        ("at most 99.9%", "rate", False),
        ("at least 100%", "rate", False),
        ("at most 100%", "ratio", False),
        ("at least 0%", "ratio", False),
        ("at least 0 points", "points", False),
        ("at least 0 s", "seconds", True),
    ],
)
def test_a_bound_that_nothing_can_break_says_so(text, unit, cannot):
    """`cannot_fail` is true exactly where every possible value lies within the bound."""
    assert budgets.parse(text, unit).cannot_fail is cannot


@settings(deadline=None)
@given(st.decimals(min_value="0.01", max_value="100", places=2), st.sampled_from(UNITS))
def test_made_bounds_read_back(number, unit):
    """A bound made from numbers says what `parse` reads back as the same bound, in every unit."""
    value = float(number / 100)
    for low, high in ((None, value), (value, None), (value / 2, value)):
        made = budgets.make(low, high, unit)
        assert budgets.parse(made.text, unit) == made


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (None, 5, "'500%' is no bound for one. Write 0.05 for 5%."),
        (None, None, "a bound needs at least one end."),
        (None, 0, "0 of 1,000 proves at most 0.3%"),
        (0.2, 0.1, "ends before it begins"),
        (math.nan, None, "is not finite"),
    ],
)
def test_numbers_that_are_no_bound_are_refused(low, high, message):
    """Bounds made in Python are held to the same rules as phrases."""
    with pytest.raises(ValueError, match=message):
        budgets.make(low, high, "rate")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.272, "rate", "27.2%"),
        (0.2718, "rate", "27.2%"),
        (0.1, "rate", "10%"),
        (0.05004, "rate", "5.0%"),
        (0.0, "rate", "0%"),
        (0.0004, "rate", "0.04%"),
        (0.000001, "rate", "0.0001%"),
        (0.99996, "rate", "99.996%"),
        (1.0, "rate", "100%"),
        (1.2345, "ratio", "123.4%"),
        (0.1 + 0.2, "rate", "30%"),
        (0.031, "points", "3.1 points"),
        (0.01, "points", "1 point"),
        (-0.02, "points", "-2 points"),
        (-1e-17, "points", "0 points"),
        (-0.0, "ratio", "0%"),
        (0.0012, "dollars", "$0.0012"),
        (0.2, "dollars", "$0.20"),
        (12345.678, "dollars", "$12,345.68"),
        (-0.5, "dollars", "-$0.50"),
        (1.2412, "seconds", "1.24 s"),
        (0.24, "seconds", "240 ms"),
        (0.9996, "seconds", "1.000 s"),
        (0, "seconds", "0 s"),
        (123.45, "seconds", "123 s"),
        (3.5, "days", "3.5 days"),
        (1, "days", "1 day"),
        (None, "rate", "unknown"),
        (math.nan, "rate", "unknown"),
        (math.inf, "ratio", "unbounded"),
    ],
)
def test_numbers_are_written_for_people(value, unit, text):
    """Each unit has its look; exact numbers lose their zeros and rounded ones keep them."""
    assert budgets.show(value, unit) == text


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.001, 0.999))
def test_a_number_is_never_rounded_onto_its_budget(value, budget):
    """The number shown lies on the same side of the budget as the number itself."""
    assume(abs(value - budget) > 1e-13)
    bound = budgets.Bound(None, budget, "", "rate")
    shown = Decimal(budgets.show_against(value, bound).rstrip("%")) / 100
    exact = Decimal(repr(budget))
    assert (shown > exact) == (value > budget)
    assert shown != exact


@settings(deadline=None)
@given(st.floats(0, 1))
def test_nothing_and_everything_are_shown_only_when_exact(value):
    """0% means none and 100% means all, up to the rounding of a sum."""
    text = budgets.show(value, "rate")
    assert (text == "0%") == (value < 5e-15)
    assert (text == "100%") == (value > 1 - 1e-14)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("overall", budgets.Scope("overall")),
        ("each language", budgets.Scope("each", ("language",))),
        ("each language and intent", budgets.Scope("each", ("language", "intent"))),
        ("language=no", budgets.Scope("one", ("language",), ("no",))),
        ("language=no, intent=refund", budgets.Scope("one", ("language", "intent"), ("no", "refund"))),
        ("formula=a=b", budgets.Scope("one", ("formula",), ("a=b",))),
        ("city=Paris, Texas", budgets.Scope("one", ("city",), ("Paris, Texas",))),
    ],
)
def test_a_scope_is_read_and_written_back(text, scope):
    """Every scope is read however it is spaced, and its text comes back."""
    assert budgets.parse_scope(text) == budgets.parse_scope(f"  {text.replace(' ', '   ')}\n") == scope
    assert str(scope) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eahc language", "'eahc language' is not a scope. Did you mean 'each language'?"),
        ("per language", "Did you mean 'each language'?"),
        ("every language", "Did you mean 'each language'?"),
        ("by language", "Did you mean 'each language'?"),
        ("overal", "Did you mean 'overall'?"),
        ("all", "Did you mean 'overall'?"),
        ("total", "Did you mean 'overall'?"),
        ("aggregate", "Did you mean 'overall'?"),
        ("a=1, b=", "names no value"),
        ("language", "Write 'overall', 'each language' or 'language=<value>'."),
        ("each", "Write 'overall', 'each language' or 'language=<value>'."),
        ("language=", "'language=' names no value. Write 'language=no' or 'each language'."),
        ("=no", "'=no' names no column."),
        ("each a and a", "names the column 'a' twice"),
        ("a=1, a=2", "names the column 'a' twice"),
    ],
)
def test_what_is_no_scope_is_refused_with_what_to_write(text, message):
    """A wrong scope raises ValueError with the nearest right one."""
    with pytest.raises(ValueError) as caught:
        budgets.parse_scope(text)
    assert message in str(caught.value)
