"""What a request costs, against fractions; the worst case is never less; the ledger, against a list of requests."""

from __future__ import annotations

import datetime as dt
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_eval import prices, recording
from cascade_eval.prices import Rate
from cascade_eval.recording import pricing
from cascade_eval.recording.ledger import Ledger
from cascade_eval.recording.pricing import Sheet

NOW = dt.datetime(2026, 7, 6, 12, tzinfo=dt.UTC)

amounts = st.integers(0, 90_000_000_000)
stepped = st.tuples(amounts, st.one_of(st.none(), st.tuples(st.integers(1, 2000), amounts))).map(
    lambda drawn: ((0, drawn[0]), *([drawn[1]] if drawn[1] else []))
)
rates = st.builds(
    Rate,
    input=stepped,
    cached_input=st.none() | stepped,
    output=stepped,
    request=st.integers(0, 10**6),
    cache_write=st.none() | stepped,
)
tokens = st.integers(0, 2500)


def price(steps, length):
    """Return the dollars of a token as a provider's price list says it: the last step that the input is longer than."""
    found = steps[0][1]
    for start, each in steps[1:]:
        if length > start:
            found = each
    return Fraction(found, 10**15)


def slow(rate, usage):
    """Return nano-dollars of a request, token by token, rounded half up at the end."""
    kinds = ["cached"] * usage.cached + ["written"] * usage.written
    kinds += ["full"] * (usage.input - len(kinds))
    of = {"cached": rate.cached_input or rate.input, "written": rate.cache_write or rate.input, "full": rate.input}
    dollars = sum(kinds.count(kind) * price(of[kind], usage.input) for kind in of)
    dollars += usage.output * price(rate.output, usage.input)
    return int(dollars * 10**9 + Fraction(1, 2)) + rate.request


@given(rate=rates, full=tokens, cached=tokens, written=tokens, output=tokens)
def test_a_cost_is_that_of_its_tokens_and_never_more_than_the_worst(rate, full, cached, written, output):
    """Cached, written and fresh tokens each at their own price and step; no request costs more than was held for it."""
    usage = recording.Usage(full + cached + written, cached, output, written)
    sheet = Sheet(((rate, None),))
    assert sheet.cost(usage, NOW) == slow(rate, usage)
    assert sheet.cost(usage, NOW) <= sheet.worst(usage.input, output)
    assert sheet.worst(usage.input, output) <= sheet.worst(usage.input + 1, output)
    assert sheet.worst(usage.input, output) <= sheet.worst(usage.input, output + 1)


def test_a_step_holds_for_inputs_that_are_longer():
    """At its length the first price still holds, and one token further the other holds for the whole request."""
    sheet = Sheet(((Rate(((0, 10**9), (100, 2 * 10**9)), None, ((0, 0),)), None),))
    assert [sheet.cost(recording.Usage(n, 0, 0), NOW) for n in (100, 101)] == [100_000, 202_000]
    assert sheet.worst(1, 0) == 2000


@pytest.mark.parametrize(("input_price", "fee", "free"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_free_is_what_can_never_cost_anything(input_price, fee, free):
    """A price of a token or of a request is a price, however small."""
    assert Sheet(((Rate(((0, input_price),), None, ((0, 0),), fee), None),)).free is free


def test_more_cached_tokens_than_there_are_cost_no_less_than_nothing():
    """Where a response counts more tokens as cached than as input, no fresh ones are taken off."""
    sheet = Sheet(((Rate(((0, 10**12),), ((0, 10**9),), ((0, 0),)), None),))
    assert sheet.cost(recording.Usage(5, 10, 0), NOW) == 10_000


def test_the_price_of_the_day_counts_and_the_dearest_day_is_held():
    """A dated price holds from its first day on; what is held for a request is enough on any day."""

    class Since:
        start_date = dt.date(2026, 7, 1)

    cheap, dear = Rate(((0, 10**9),), None, ((0, 0),)), Rate(((0, 3 * 10**9),), None, ((0, 0),))
    for first, later in ((cheap, dear), (dear, cheap)):
        sheet = Sheet(((first, None), (later, Since)))
        costs = [sheet.cost(recording.Usage(1, 0, 0), NOW - dt.timedelta(days=days)) for days in (0, 5, 6)]
        assert costs == [later.input[0][1] // 10**6] * 2 + [first.input[0][1] // 10**6]
        assert sheet.worst(1, 0) == 3000


@pytest.mark.parametrize(
    ("name", "url", "near"),
    [
        ("gpt-4.1-nanoo", None, "Did you mean 'gpt-4.1-nano'?"),
        ("gpt-4.1-nanoo", "http://127.0.0.1/v1", None),
        ("zzzzqqqq", None, None),
    ],
)
def test_a_model_without_a_price_is_told_the_nearest_that_has_one(name, url, near):
    """Only a provider's own model has a near name; a server of one's own may call its model what it likes."""
    with pytest.raises(ValueError, match="no price is known") as caught:
        pricing.sheet(recording.Model("m", "openai", name, base_url=url))
    assert (f"no price is known for '{name}'. {near or 'Write price'}") in str(caught.value)
    assert "Known" not in str(caught.value)


def test_a_price_of_the_recipe_goes_before_the_table():
    """The table's price of a model is used where the recipe has none."""
    listed = pricing.sheet(recording.Model("m", "openai", "gpt-4.1"))
    assert listed.rates == prices.rates("gpt-4.1", prices.parse(None))
    own = pricing.sheet(recording.Model("m", "openai", "gpt-4.1", price={"input": 1, "output": 2}))
    assert own.worst(10**6, 10**6) == 3 * 10**9


@given(st.text(max_size=50), st.booleans())
def test_an_input_has_no_more_tokens_than_bytes_and_room(text, tools):
    """The bound counts every byte of the body as it is sent, and more room where tools are offered."""
    body = {"messages": [{"role": "user", "content": text}]} | ({"tools": []} if tools else {})
    sent = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert pricing.input_bound(body) == len(sent) + (1024 if tools else 256)


# --- the ledger ----------------------------------------------------------------------------------------------------


@given(
    cap=st.none() | st.integers(0, 300),
    most=st.none() | st.integers(0, 5),
    steps=st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.none() | st.integers(0, 100)), max_size=12),
)
def test_the_ledger_is_a_list_of_requests(cap, most, steps):
    """Whether a request may be sent, and whether waiting may help, by adding all requests up each time."""
    ledger, requests = Ledger(cap, most, spent=7, uncertain=11, requests=1), []
    for worst, send, cost in steps:
        held = [each for each in requests if each[1] == "under way"]
        gone = 18 + sum(each[2] for each in requests if each[1] == "done") + sum(each[0] for each in held)
        room = most is None or len(requests) + 1 < most
        assert ledger.may_change is bool(held and room)
        if send:
            fits = room and (cap is None or gone + worst <= cap)
            assert ledger.reserve(worst) is fits
            if fits:
                requests.append([worst, "under way", 0])
        elif held:
            ledger.settle(held[0][0], cost)
            held[0][1:] = ["done", held[0][0] if cost is None else cost]
            held[0].append(cost is None)
        done = [each for each in requests if each[1] == "done"]
        assert ledger.spent == 7 + sum(each[2] for each in done if not each[3])
        assert ledger.uncertain == 11 + sum(each[2] for each in done if each[3])
        assert ledger.reserved == sum(each[0] for each in requests if each[1] == "under way")
        assert (ledger.requests, ledger.under_way) == (1 + len(requests), len(requests) - len(done))
