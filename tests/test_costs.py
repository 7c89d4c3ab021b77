"""Costs: every call is charged, exactly, and what is unknown stays unknown."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
from collections import Counter
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import DataSnapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import costs, errors, prices
from cascade_eval.traffic.batch import ABSENT, OK, TIMEOUT, Batch, Field

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA names no folder")

SHEET = {"mini": {"input": "$0.10", "cached_input": "$0.025", "output": "$0.40", "per": "1M tokens"}}


def batch_of(model="mini", status=None, decided_at=None, **columns):
    size = len(next(iter(columns.values())))
    found = {Field(model, "status"): pa.array(status or [OK] * size, pa.int8())}
    found |= {
        Field(model, name): values if isinstance(values, pa.Array) else pa.array(values)
        for name, values in columns.items()
    }
    if decided_at is not None:
        found[Field(None, "decided_at")] = pa.array(decided_at, pa.timestamp("us", tz="UTC"))
    return Batch(size, found)


def test_recorded_dollars_go_before_tokens():
    """A row's own cost is used where it has one, its tokens where it does not, and neither is unknown, never zero."""
    batch = batch_of(
        cost_usd=[0.002, None, None, 0.0, None], input_tokens=[1000, 1000, None, 5, 0], output_tokens=[10, 10, 10, 5, 0]
    )
    charge = costs.call(batch, "mini", costs.parse(SHEET))
    assert charge.nano.tolist() == [2_000_000, 104_000, 0, 0, 0]
    assert charge.known.tolist() == [True, True, False, True, True]
    assert costs.used(charge) == Counter(
        {costs.Use("mini", "recorded"): 2, costs.Use("mini", "tokens × price", 0.1, 0.025, 0.4, "the suite"): 2}
    )


def test_failed_calls_are_charged_and_missing_rows_are_not():
    """A timeout that recorded its tokens costs them; a model without a row has no known cost."""
    batch = batch_of(status=[TIMEOUT, ABSENT], input_tokens=[1000, 1000], output_tokens=[0, 0])
    charge = costs.call(batch, "mini", costs.parse(SHEET))
    assert (charge.nano.tolist(), charge.known.tolist()) == ([100_000, 0], [True, False])


def test_cached_tokens_are_part_of_the_input():
    """Cached tokens are charged at their price and the rest at the full one; without a price they cost what others do."""
    batch = batch_of(input_tokens=[1000], cached_input_tokens=[600], output_tokens=[0])
    assert costs.call(batch, "mini", costs.parse(SHEET)).nano.tolist() == [400 * 100 + 600 * 25]
    plain = {"mini": {"input": 0.1, "output": 0.4}}
    assert costs.call(batch, "mini", costs.parse(plain)).nano.tolist() == [1000 * 100]


def test_a_missing_column_is_unknown():
    """Without any recorded cost or token column nothing is known; without the cached column nothing was cached."""
    assert not costs.call(batch_of(answer=["x"]), "mini", costs.parse(SHEET)).known.any()
    assert not costs.call(batch_of(input_tokens=[5]), "mini", costs.parse(SHEET)).known.any()
    assert not costs.call(
        batch_of("nobody", input_tokens=[5], output_tokens=[5]), "nobody", costs.parse(SHEET)
    ).known.any()


amounts = st.decimals(min_value=0, max_value=500, places=4)
tokens = st.integers(0, 10**7)


@given(st.tuples(amounts, amounts, amounts), st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=6))
def test_money_is_exact(sheet, rows):
    """Every case costs its tokens times the decimal price, rounded half up once to a nano-dollar."""
    full, cached, output = sheet
    rows = [(a, min(a, c), o) for a, c, o in rows]
    written = {"mini": {"input": str(full), "cached_input": str(cached), "output": f"${output}"}}
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    batch = batch_of(**dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    charge = costs.call(batch, "mini", costs.parse(written))
    slow = [
        int((((a - c) * full + c * cached + o * output) * 1000 + Decimal("0.5")).to_integral_value(ROUND_FLOOR))
        for a, c, o in rows
    ]
    assert charge.nano.tolist() == slow


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.one_of(st.none(), tokens)), min_size=2, max_size=9),
    st.data(),
)
def test_partitions_add_up(rows, data):
    """Nano-dollars and what was used add up to the same whatever the partition."""
    dollars, used = map(list, zip(*rows, strict=True))
    batch = batch_of(
        cost_usd=pa.array(dollars, pa.float64()),
        input_tokens=pa.array(used, pa.int64()),
        output_tokens=pa.array(used, pa.int64()),
    )
    cut = data.draw(st.integers(0, len(rows)))
    sheet = costs.parse(SHEET)
    whole = costs.call(batch, "mini", sheet)
    parts = [costs.call(batch.take(np.arange(*ends)), "mini", sheet) for ends in ((0, cut), (cut, len(rows)))]
    assert sum(int(part.nano.sum()) for part in parts) == int(whole.nano.sum())
    assert costs.used(parts[0]) + costs.used(parts[1]) == costs.used(whole)
    assert np.concatenate([part.known for part in parts]).tolist() == whole.known.tolist()


def test_what_was_used_counts_only_the_calls_that_were_made():
    """With a mask, provenance is of the calls on the path; shares are of a model's calls."""
    charge = costs.call(
        batch_of(cost_usd=[0.1, None, None], input_tokens=[1, 1, 1], output_tokens=[1, 1, 1]),
        "mini",
        costs.parse(SHEET),
    )
    counts = costs.used(charge, np.array([True, True, False]))
    assert [(entry["source"], entry["calls"], entry["share"]) for entry in costs.provenance(counts)] == [
        ("recorded", 1, 0.5),
        ("tokens × price", 1, 0.5),
    ]


def test_samples_pay_their_input_again():
    """Each sample is a call; recorded dollars go first, null samples cost nothing, and an unknown number is unknown."""
    batch = batch_of(
        input_tokens=[1000, 1000, 1000, 1000],
        samples=[["a", "b", "c"], ["a", "b"], None, ["a"]],
        samples_output_tokens=[30, 20, None, None],
        samples_cost_usd=[None, 0.5, None, None],
    )
    charge = costs.samples(batch, "mini", costs.parse(SHEET))
    assert charge.nano.tolist() == [3 * 1000 * 100 + 30 * 400, 500_000_000, 0, 0]
    assert charge.known.tolist() == [True, True, True, False]
    assert [(use.source, n) for use, n in costs.used(charge).items()] == [("recorded", 2), ("tokens × price", 1)]
    assert costs.used(charge, np.array([True, False, False, True])).total() == 1
    without = Batch(4, {field: column for field, column in batch.columns.items() if field.name != "samples"})
    assert costs.samples(without, "mini", costs.parse(SHEET)).known.tolist() == [False, True, False, False]


def table(model, rows, moments):
    """Ask genai-prices itself what each call costs at its moment, in nano-dollars."""
    from genai_prices import data

    snapshot = DataSnapshot(providers=data.providers, from_auto_update=False)
    found = []
    for (given_tokens, cached, output), moment in zip(rows, moments, strict=True):
        usage = Usage(input_tokens=given_tokens, cache_read_tokens=cached, output_tokens=output)
        price = snapshot.calc(usage, model, None, None, moment).total_price
        found.append(int((price * 10**9 + Decimal("0.5")).to_integral_value(ROUND_FLOOR)))
    return found


@pytest.mark.parametrize(
    "model", ["gpt-4.1-nano", "o3", "deepseek-chat", "gemini-2.5-pro", "claude-sonnet-4-5", "gemini-1.5-pro"]
)
def test_the_table_is_applied_as_its_authors_do(model):
    """By date, by hour and by length of the call, whole columns cost what the price package computes call by call."""
    rng = np.random.default_rng(7)
    rows = [
        (int(n), int(n * share), int(o))
        for n, share, o in zip(rng.integers(1, 400_000, 60), rng.random(60), rng.integers(0, 9000, 60), strict=True)
    ]
    rows += [(n, 0, 10) for n in (128_000, 128_001, 200_000, 200_001)]
    start = dt.datetime(2024, 11, 1, tzinfo=dt.UTC)
    moments = [start + dt.timedelta(hours=float(h)) for h in rng.uniform(0, 24 * 300, len(rows) - 6)]
    moments += [
        dt.datetime(2025, 6, d, h, m, tzinfo=dt.UTC)
        for d, h, m in [(9, 23, 59), (10, 0, 0), (1, 0, 29), (1, 0, 30), (1, 16, 29), (1, 16, 30)]
    ]
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    batch = batch_of(model, decided_at=moments, **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    charge = costs.call(batch, model, costs.Prices())
    assert charge.known.all()
    assert charge.nano.tolist() == table(model, rows, moments)
    assert sum(costs.used(charge).values()) == len(rows)


def test_undated_calls():
    """Without a date the latest listed price holds; a price by the hour is unknown then."""
    batch = batch_of("o3", input_tokens=[1_000_000], output_tokens=[0], decided_at=[None])
    latest = prices.rates("o3", costs.Prices())[-1][0]
    assert costs.call(batch, "o3", costs.Prices()).nano.tolist() == [latest.input[0][1]]
    hourly = batch_of(
        "deepseek-chat",
        input_tokens=[1, 1],
        output_tokens=[1, 1],
        decided_at=[None, dt.datetime(2025, 1, 1, tzinfo=dt.UTC)],
    )
    assert costs.call(hourly, "deepseek-chat", costs.Prices()).known.tolist() == [False, True]
    assert "depends on the time of day" in costs.why_unknown("deepseek-chat", costs.Prices(), hourly.columns)


def test_hours_may_pass_midnight():
    """A daily interval from 22:00 to 02:00 holds at both ends of the day and not at noon."""

    class Night:
        start_time = dt.time(22, tzinfo=dt.UTC)
        end_time = dt.time(3, tzinfo=dt.timezone(dt.timedelta(hours=1)))

    day, night = prices.Rate(None, None, None), prices.Rate(None, None, None)
    seconds = np.array([21, 22, 23, 0, 1, 2, 12]) * 3600 + 86_400 * 20_000
    held = prices.holding(((day, None), (night, Night)), seconds, np.ones(7, dtype=bool))
    assert held.tolist() == [0, 1, 1, 1, 1, 0, 0]


def test_a_price_per_call_is_paid_on_top():
    """A model that charges for a thousand calls charges a thousandth of it for one."""
    from genai_prices import data

    [listed] = [m for p in data.providers if p.id == "perplexity" for m in p.models if m.id == "sonar"]
    batch = batch_of("perplexity/sonar", input_tokens=[1000, 0], output_tokens=[0, 1000])
    found = costs.call(batch, "perplexity/sonar", costs.Prices()).nano.tolist()
    tokens = [int(price * 10**6) for price in (listed.prices.input_mtok, listed.prices.output_mtok)]
    assert found == [each + int(listed.prices.requests_kcount * 10**6) for each in tokens]


@given(st.times(), st.times(), st.sampled_from([-5, 0, 2]), st.lists(st.integers(0, 86_399), max_size=5))
@settings(deadline=None)
def test_a_daily_interval_holds_to_the_second(start, end, hours, others):
    """From its first second to the one before its end, whatever zone it is written in, over midnight too."""
    zone = dt.timezone(dt.timedelta(hours=hours))
    first, last = (time.replace(microsecond=0, tzinfo=zone) for time in (start, end))
    day = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
    ends = [(moment.hour - hours) * 3600 + moment.minute * 60 + moment.second for moment in (first, last)]
    seconds = sorted({(near + step) % 86_400 for near in ends for step in (-1, 0, 1)} | set(others))

    def holds(second):
        local = (day + dt.timedelta(seconds=second)).astimezone(zone).time().replace(tzinfo=zone)
        return first <= local < last if first <= last else local >= first or local < last

    constraint = SimpleNamespace(start_time=first, end_time=last)
    rate = prices.Rate(None, None, None)
    moments = np.array(seconds) + 86_400 * 20_000
    held = prices.holding(((rate, None), (rate, constraint)), moments, np.ones(len(seconds), dtype=bool))
    assert held.tolist() == [int(holds(second)) for second in seconds]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_price_is_of_its_day_in_every_unit_of_time(unit):
    """Moments recorded in seconds or in nanoseconds are the same moments."""
    days = [dt.datetime(2025, 6, 9, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(2025, 6, 10, tzinfo=dt.UTC), None]
    batch = batch_of("o3", input_tokens=[1000] * 3, output_tokens=[0] * 3)
    batch.columns[Field(None, "decided_at")] = pa.array(days, pa.timestamp(unit, tz="UTC"))
    assert costs.call(batch, "o3", costs.Prices()).nano.tolist() == [10_000_000, 2_000_000, 2_000_000]


def test_what_is_no_time_is_refused_and_no_time_at_all_is_unknown():
    """A column of nulls is as if it was not there; words in the place of moments are an error."""
    batch = batch_of("o3", input_tokens=[1000], output_tokens=[0])
    without = costs.call(batch, "o3", costs.Prices()).nano.tolist()
    batch.columns[Field(None, "decided_at")] = pa.nulls(1)
    assert costs.call(batch, "o3", costs.Prices()).nano.tolist() == without
    batch.columns[Field(None, "decided_at")] = pa.array(["yesterday"])
    with pytest.raises(errors.DataError, match="'decided_at' is string, not a time with a zone"):
        costs.call(batch, "o3", costs.Prices())


def test_a_provider_may_stand_before_the_model():
    """`openai/gpt-4.1` and `openai:gpt-4.1` have the price of gpt-4.1; an unknown model has none."""
    plain = prices.rates("gpt-4.1", costs.Prices())
    assert plain
    assert prices.rates("openai/gpt-4.1", costs.Prices()) == plain
    assert prices.rates("openai:gpt-4.1", costs.Prices()) == plain
    for name in ("flagship", "", "/", "openai/", "nobody/gpt-4.1"):
        assert prices.rates(name, costs.Prices()) == ()


def test_the_suite_goes_before_the_table():
    """An override replaces the listed price, whatever the date."""
    batch = batch_of("o3", input_tokens=[1_000_000], output_tokens=[0])
    assert costs.call(batch, "o3", costs.parse({"o3": {"input": 7, "output": 0}})).nano.tolist() == [7_000_000_000]
    assert not costs.call(batch, "o3", costs.Prices(table=False)).known.any()


def test_prices_per_thousand():
    """`per: 1K tokens` is a thousand times dearer."""
    assert costs.parse({"m": {"input": 0.1, "output": 0.2, "per": "1K tokens"}}).overrides["m"].input == (
        (0, 100 * 10**9),
    )


def test_every_wrong_price_is_named_at_once():
    """All problems of all sheets are said together, each with the model and the nearest key."""
    spec = {
        "mini": {"inptu": 1, "output": "forty"},
        "big": 3,
        "huge": {"input": -1, "output": math.nan, "per": "token"},
        "flag": {"input": True, "output": "$1,000.50"},
    }
    with pytest.raises(ValueError) as error:
        costs.parse(spec)
    assert str(error.value).splitlines() == [
        "prices of 'mini': unknown key 'inptu'. Did you mean 'input'?",
        "prices of 'mini': 'input' is missing",
        "prices of 'mini': output: 'forty' is not a price; write 0.10 or $0.10",
        "prices of 'big': write {input: $0.10, cached_input: $0.025, output: $0.40, per: 1M tokens}, not 3",
        "prices of 'huge': input: -1 is not a price; write 0.10 or $0.10",
        "prices of 'huge': output: nan is not a price; write 0.10 or $0.10",
        "prices of 'huge': per: 'token' is not a unit; write 1M tokens or 1K tokens",
        "prices of 'flag': input: True is not a price; write 0.10 or $0.10",
    ]
    assert costs.check([1]) == ["prices are a mapping from models to prices, not [1]"]


def test_needs_are_the_columns_that_exist_and_are_used():
    """Tokens are read only where there is a price for them, the date only where the price changed."""
    exist = {
        Field(model, name)
        for model in ("mini", "o3", "x")
        for name in ("status", "input_tokens", "output_tokens", "cost_usd", "answer")
    }
    exist |= {Field(None, "decided_at"), Field("mini", "samples"), Field("mini", "samples_output_tokens")}
    found = {model: sorted(map(str, costs.needs(model, costs.parse(SHEET), exist))) for model in ("mini", "o3", "x")}
    assert found == {
        "mini": ["mini.cost_usd", "mini.input_tokens", "mini.output_tokens", "mini.status"],
        "o3": ["decided_at", "o3.cost_usd", "o3.input_tokens", "o3.output_tokens", "o3.status"],
        "x": ["x.cost_usd", "x.status"],
    }
    assert sorted(map(str, costs.samples_needs("mini", costs.parse(SHEET), exist))) == [
        "mini.input_tokens",
        "mini.output_tokens",
        "mini.samples",
        "mini.samples_output_tokens",
        "mini.status",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            set(),
            "'mini' has a price, but its input_tokens and output_tokens are not recorded. Record them, or cost_usd.",
        ),
        ({"input_tokens"}, "'mini' has a price, but its output_tokens is not recorded. Record them, or cost_usd."),
        (
            {"input_tokens", "output_tokens"},
            "'mini' has a price, but some of its calls have neither cost_usd nor both token counts.",
        ),
    ],
)
def test_why_a_cost_is_unknown(fields, expected):
    """The sentence names what is missing."""
    assert costs.why_unknown("mini", costs.parse(SHEET), {Field("mini", name) for name in fields}) == expected


def test_why_a_price_is_unknown():
    """Near names of the suite and the table are offered; far ones are not listed."""
    assert "Did you mean 'mini'?" in costs.why_unknown("minni", costs.parse(SHEET), set())
    assert costs.why_unknown("qqqqqqq", costs.parse(SHEET), set()) == (
        "no price is known for 'qqqqqqq'. Write it under prices:, or record cost_usd."
    )


def test_no_updater_and_no_network_is_touched():
    """Looking up a price opens no connection and starts no thread."""
    code = (
        "import sys, threading, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from cascade_eval import costs, prices\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert prices.rates('gpt-4.1', costs.Prices())\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_charge_model_oracles():
    """Break-even .700/.550/.400, cost at 30% escalation .600/.750/.900, three tiers .26 against .35."""
    cheap, flagship = 0.00885, 0.0295
    gates = (0.0, cheap / 2, cheap)
    assert [round(costs.break_even(cheap, gate, flagship), 9) for gate in gates] == [0.7, 0.55, 0.4]
    at_thirty = [costs.expected((cheap, flagship), (0.3,), (gate,)) / flagship for gate in gates]
    assert [round(cost, 9) for cost in at_thirty] == [0.6, 0.75, 0.9]
    assert round(costs.expected((0.05, 0.3, 1.0), (0.3, 0.4)), 9) == 0.26
    assert round(costs.expected((0.05, 1.0), (0.3,)), 9) == 0.35


def test_corrected_figures_of_published_cost_models():
    """The cheap call of escalated requests is paid (1.750, not 1.725), and so is the verifier of every cheap answer."""
    assert round(costs.expected((0.5, 12.5), (0.1,)), 9) == 1.75
    # The verifier runs on every cheap answer: small + verifier + e × large.
    assert round(costs.break_even(0.3, 0.3, 1.0), 9) == 0.4
    assert round(costs.saving(0.2, 0.3, 0.0, 1.0), 9) == 0.5
    assert all(costs.saving(e, 0.3, 0.3, 1.0) < 0.5 for e in (0.0, 0.1, 0.2))


shares = st.floats(0, 1)


@given(shares, shares, shares, st.floats(0.01, 10))
def test_saving_is_linear_with_slope_one(first, second, cheap, flagship):
    """A point more escalation saves a point less, everywhere; saving is one minus the charge model's cost."""
    one, two = (costs.saving(e, cheap, 0.0, flagship) for e in (first, second))
    assert one - two == pytest.approx(second - first, abs=1e-9 * (1 + cheap / flagship))
    assert one == pytest.approx(
        1 - costs.expected((cheap, flagship), (first,)) / flagship, abs=1e-9 * (1 + cheap / flagship)
    )


@given(shares, shares, shares, shares)
def test_a_middle_tier_pays_exactly_when_it_makes_the_cascade_cheaper(e1, e2, call, gate):
    """The rule agrees with the charge model of three tiers against two."""
    three, two = costs.expected((0.05, call, 1.0), (e1, e2), (0.0, gate)), costs.expected((0.05, 1.0), (e1,))
    if abs(three - two) > 1e-12:
        assert (three < two) == costs.middle_pays(call, gate, e2, 1.0)
        assert (three < two) == costs.middle_pays(8 * call, 8 * gate, e2, 8.0), "in cents or in dollars"


def test_a_flagship_that_costs_nothing_is_never_beaten():
    """No escalation is low enough to break even with it."""
    assert costs.break_even(0.1, 0.0, 0.0) == -math.inf


def test_wrong_shapes_are_refused():
    """One escalation per tier but the last."""
    with pytest.raises(ValueError, match="one escalation"):
        costs.expected((1.0, 2.0), (0.1, 0.2))


@needs_data
def test_recorded_tokens_at_list_price_are_the_recorded_cost():
    """Where recorded costs are tokens times a flat list price, solving for the price reproduces every cost."""
    path = Path(os.environ["CASCADE_EVAL_DATA"]) / "wmt17_mt_confidence.parquet"
    rows = pq.read_table(path, columns=["tier_model", "input_tokens", "output_tokens", "cost_usd"]).to_pandas()
    for model, mine in rows.groupby("tier_model"):
        sheet, *_ = np.linalg.lstsq(
            mine[["input_tokens", "output_tokens"]].to_numpy(float), mine["cost_usd"].to_numpy() * 1e6, rcond=None
        )
        spec = {model: {"input": round(float(sheet[0]), 4), "output": round(float(sheet[1]), 4)}}
        batch = batch_of(
            model,
            input_tokens=mine["input_tokens"].to_numpy(np.int64),
            output_tokens=mine["output_tokens"].to_numpy(np.int64),
        )
        charge = costs.call(batch, model, costs.parse(spec))
        assert charge.known.all()
        np.testing.assert_allclose(charge.nano / 1e9, mine["cost_usd"], atol=2e-9, rtol=1e-6)
