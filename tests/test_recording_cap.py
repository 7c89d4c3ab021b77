"""The cap holds whatever calls cost and however they end, over restarts too."""

from __future__ import annotations

import asyncio
import json
import os
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import recording
from cascade_eval.recording.ledger import Ledger

EXAMPLES = 1000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 100
"""Settings that are tried; a thousand take a minute or two."""

ENDINGS = ("ok", "ok", "ok", "no usage", "dropped", "late", "again", "refused", "bad request")


class Paid:
    """A provider that bills by its own books, which the recorder never sees where an answer is lost."""

    def __init__(self, price, draw):
        self.price, self.draw = price, draw
        self.billed = Fraction(0)
        self.requests = self.at_once = self.most_at_once = 0

    def __call__(self, _model, _key):
        return self

    async def close(self):
        pass

    async def ask(self, call):
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        ending, share_in, share_out, turns = self.draw()
        for _ in range(turns):
            await asyncio.sleep(0)
        self.at_once -= 1
        usage = recording.Usage(
            int(share_in * len(json.dumps(call.body, ensure_ascii=False).encode())),
            0,
            int(share_out * call.model.max_output_tokens),
        )
        if ending == "again":
            return recording.Reply("error", billed="nothing", again=True, after=0.0, reason="429")
        if ending == "bad request":
            return recording.Reply("error", billed="nothing", reason="400")
        # Billed exactly as it was used, whether or not the recorder is told.
        self.billed += Fraction(usage.input) * self.price[0] + Fraction(usage.output) * self.price[1]
        if ending == "no usage":
            return recording.Reply("ok", "a", None, "unknown")
        if ending in {"dropped", "late"}:
            return recording.Reply("timeout" if ending == "late" else "error", reason=ending)
        return recording.Reply("refused" if ending == "refused" else "ok", "a", usage, "usage")


# The dearest a request can become is where a cap breaks.
shares = st.one_of(st.just(1.0), st.floats(0, 1))
cents = st.integers(0, 10_000).map(lambda n: n / 100)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    prices=st.tuples(cents, cents),
    calls_worth=st.one_of(st.floats(0, 4), st.none()),
    most_requests=st.one_of(st.none(), st.integers(0, 8)),
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=3),
    longest=st.integers(1, 3000),
    concurrency=st.integers(1, 4),
    endings=st.lists(st.tuples(st.sampled_from(ENDINGS), shares, shares, st.integers(0, 3)), min_size=1, max_size=7),
)
def test_spend_never_exceeds_the_cap(
    tmp_path_factory, prices, calls_worth, most_requests, lengths, longest, concurrency, endings
):
    """By the provider's own books the spend of two runs stays under one cap, and requests under theirs."""
    if calls_worth is None and most_requests is None:
        most_requests = 5
    # Around what a few calls can cost, for that is where it decides.
    worst = (max(lengths) + 400) * prices[0] + longest * prices[1]
    cap = None if calls_worth is None else calls_worth * worst / 10**6
    folder = tmp_path_factory.mktemp("cap")
    (folder / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": "x" * n}) + "\n" for i, n in enumerate(lengths))
    )
    text = f"""
cases: c.jsonl
models:
  m:
    model: x
    base_url: http://127.0.0.1:9
    price: {{input: {prices[0]}, output: {prices[1]}}}
    max_output_tokens: {longest}
    concurrency: {concurrency}
    attempts: 3
"""
    drawn = iter(endings * 100)
    provider = Paid([Fraction(str(price)) / 10**6 for price in prices], lambda: next(drawn))
    found = recording.parse(text, base=folder)
    for again in (False, True):
        done = recording.run(
            found, environ={}, connect=provider, max_usd=cap, max_calls=most_requests, retry_failed=again
        )
        # Each bill is rounded to nano-dollars on its own.
        assert abs(done.spent - provider.billed * 10**9) <= provider.requests or done.unpriced
        assert provider.billed * 10**9 <= done.spent + done.uncertain + provider.requests
        if cap is not None:
            assert provider.billed <= Fraction(cap) + Fraction(provider.requests, 2 * 10**9)
            assert done.spent + done.uncertain <= Fraction(cap) * 10**9
        assert done.requests == provider.requests <= (most_requests if most_requests is not None else 10**6)
        assert provider.most_at_once <= concurrency
        assert sum(done.statuses.values()) + sum(done.unasked.values()) == len(lengths)
        assert (done.outcome == "unasked") == any(done.unasked.values())


@given(
    cap=st.integers(0, 1000),
    steps=st.lists(st.tuples(st.integers(0, 400), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 5))),
)
def test_the_ledger_never_lets_a_worst_case_break_the_cap(cap, steps):
    """In any order of sending and settling, what may be gone stays within the cap."""
    ledger, under_way, gone = Ledger(cap=cap), [], 0
    for worst, share, settle in steps:
        if ledger.reserve(worst):
            under_way.append((worst, share))
        assert sum(held for held, _ in under_way) + gone <= cap
        for _ in range(min(settle, len(under_way))):
            held, part = under_way.pop(0)
            cost = None if part is None else int(held * part)
            # What nobody knows the price of may have cost all it could.
            gone += held if cost is None else cost
            ledger.settle(held, cost)
        assert ledger.committed == sum(held for held, _ in under_way) + gone <= cap
        assert ledger.reserved == sum(held for held, _ in under_way)


def test_a_server_that_charges_more_than_it_can_is_left(tmp_path):
    """A response that bills more than the worst case ends the model's calls, and says so."""

    class Liar(Paid):
        async def ask(self, _call):
            self.requests += 1
            return recording.Reply("ok", "a", recording.Usage(10, 0, 10_000), "usage")

    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"case_id": f"c{i}", "input": "q"}) + "\n" for i in range(9)))
    text = """
cases: c.jsonl
models:
  m: {model: x, base_url: "http://127.0.0.1:9", price: {input: 1, output: 1}, max_output_tokens: 10, concurrency: 1}
"""
    liar = Liar((1, 1), None)
    found = recording.run(recording.parse(text, base=tmp_path), environ={}, connect=liar, max_usd=1)
    assert (liar.requests, found.outcome) == (1, "unasked")
    assert "cost $0.010010, more than it could" in found.notes[0]


def test_a_call_that_does_not_fit_waits_for_those_under_way(tmp_path):
    """The cap is the reason for a call that is not made only when nothing under way can still give money back."""
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"case_id": f"c{i}", "input": "q"}) + "\n" for i in range(6)))
    text = """
cases: c.jsonl
models:
  m: {model: x, base_url: "http://127.0.0.1:9", price: {input: 0, output: 1}, max_output_tokens: 1000, concurrency: 6}
"""
    # Room for two worst cases at a time; six real ones cost a tenth each.
    provider = Paid([Fraction(0), Fraction(1, 10**6)], lambda: ("ok", 0.5, 0.1, 3))
    found = recording.run(recording.parse(text, base=tmp_path), environ={}, connect=provider, max_usd=0.0025)
    assert (found.outcome, provider.most_at_once, found.spent_usd) == ("complete", 2, 0.0006)


def test_calls_nobody_knows_the_price_of_use_the_cap_up(tmp_path):
    """Lost answers may all have been billed in full: their worst cases stay held, over a restart and a retry too."""
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"case_id": f"c{i}", "input": "q"}) + "\n" for i in range(9)))
    text = """
cases: c.jsonl
models:
  m: {model: x, base_url: "http://127.0.0.1:9", price: {input: 0, output: 1}, max_output_tokens: 1000, concurrency: 3}
"""
    provider = Paid([Fraction(0), Fraction(1, 10**6)], lambda: ("late", 1.0, 1.0, 1))
    for again in (False, True, True):
        found = recording.run(
            recording.parse(text, base=tmp_path), environ={}, connect=provider, max_usd=0.0045, retry_failed=again
        )
        assert (provider.requests, provider.billed, found.outcome) == (4, Fraction(4, 1000), "unasked")
        assert (found.uncertain_usd, found.unpriced) == (0.004, 4)
