"""Bodies of responses that servers really send: what they say is read, and what they cannot mean is not believed."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import PRICED, Fake, good, lines, recipe, write_cases
from scripted_server import chat, events, message

from cascade_eval import recording, traffic
from cascade_eval.recording import pricing, responses

JSON, STREAM = "application/json", "text/event-stream"
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USED = {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


def read(body, *, client="openai"):
    return responses.read(client, json.dumps(body).encode(), JSON, streamed=False)


def stream(*pieces, client="openai"):
    return responses.read(client, b"".join(pieces), STREAM, streamed=True)


def part(index=0, **delta):
    return {"choices": [{"index": index, "delta": delta}]}


# --- usage ---------------------------------------------------------------------------------------------------------

# What a response says it used, and what is believed of it: (input, cached, output, written), or nothing.
USAGE = {
    "plain": ({"prompt_tokens": 100, "completion_tokens": 10}, (100, 0, 10, 0)),
    "reasoning within": (
        {"prompt_tokens": 100, "completion_tokens": 510, "total_tokens": 610}, (100, 0, 510, 0),
    ),
    "reasoning beside, in the total": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 610, "completion_tokens_details": {"reasoning_tokens": 500}},
        (100, 0, 510, 0),
    ),
    "a total too small": ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 3}, (100, 0, 10, 0)),
    "cached": ({"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 80}}, (100, 80, 10, 0)),
    "written to a cache": (
        {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cache_write_tokens": 70}}, (100, 0, 10, 70),
    ),
    "whole numbers as floats": ({"prompt_tokens": 100.0, "completion_tokens": 10.0}, (100, 0, 10, 0)),
    "details of null": ({"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": None}, (100, 0, 10, 0)),
    "negative": ({"prompt_tokens": -100, "completion_tokens": -10}, None),
    "nothing": ({"prompt_tokens": 0, "completion_tokens": 0}, None),
    "an answer of no token": ({"prompt_tokens": 100, "completion_tokens": 0}, None),
    "no output": ({"prompt_tokens": 100}, None),
    "no input": ({"completion_tokens": 10}, None),
    "texts": ({"prompt_tokens": "100", "completion_tokens": "10"}, None),
    "truths": ({"prompt_tokens": True, "completion_tokens": True}, None),
    "more than any call": ({"prompt_tokens": 10**30, "completion_tokens": 10}, None),
    "more cached than there was": ({"prompt_tokens": 10, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 50}}, None),
    "null": (None, None),
    "a list": ([1, 2], None),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGE)
def test_usage_that_cannot_be_true_is_unknown(name):
    """Tokens are what was used, reasoning included; numbers no call can have leave the cost unknown, never low or zero."""
    usage, believed = USAGE[name]
    reply = read({**chat("yes"), "usage": usage})
    assert (reply.status, reply.answer) == ("ok", "yes")
    assert reply.usage == believed
    assert reply.billed == ("unknown" if believed is None else "usage")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_no_usage_breaks_an_answer(value):
    """Whatever stands in the place of a number, the answer stays, and what is believed could have been used."""
    reply = read({**chat("yes"), "usage": {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}})
    assert (reply.status, reply.answer) == ("ok", "yes")
    assert reply.usage is None or 0 < min(reply.usage.input, reply.usage.output) <= responses.MOST_TOKENS


def test_what_is_written_into_a_cache_has_its_price():
    """Anthropic's cache writes are charged at their own rate of the table; a price of one's own has only one for input."""
    usage = {"input_tokens": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30, "output_tokens": 10}
    reply = read({**message("yes"), "usage": usage}, client="anthropic")
    assert reply.usage == (100, 50, 10, 30)
    sheet = pricing.sheet(recording.Model("m", "anthropic", "claude-opus-4-5"))
    own = pricing.sheet(recording.Model("m", "anthropic", "x", price={"input": 1, "output": 2}))
    assert own.worst(10**6, 0) == 10**9
    # $5 in, $0.50 cached, $6.25 written, $25 out, a million.
    assert charged(sheet, reply.usage) == 20 * 5000 + 50 * 500 + 30 * 6250 + 10 * 25_000
    assert charged(sheet, reply.usage) <= sheet.worst(100, 10)


def charged(sheet, usage):
    return sheet.cost(usage, dt.datetime(2026, 6, 1, tzinfo=dt.UTC))


def test_tools_cost_more_than_their_bytes():
    """Where tools are offered, the instructions a provider puts before them are in the worst case."""
    assert pricing.input_bound({"tools": []}) >= len('{"tools": []}') + 600


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "finish", "extra", "status", "answer"),
    [
        ("", "stop", {}, "ok", ""),
        (None, "stop", {}, "ok", None),
        ("half an ans", "length", {}, "ok", "half an ans"),
        (None, "stop", {"refusal": "no"}, "refused", "no"),
        ("par", "content_filter", {}, "refused", "par"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "yes"}], "stop", {}, "ok", "yes"),
        (
            None, "tool_calls", {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            "ok", '[{"arguments": "{}", "name": "f"}]',
        ),
        ("half\ud83d", "length", {}, "ok", "half\ufffd"),
    ],
)  # fmt: skip
def test_an_answer_is_what_was_said(content, finish, extra, status, answer):
    """Empty is empty, nothing is null, a refusal is one, a call of a tool is JSON, half a character is none."""
    body = chat()
    body["choices"][0].update(message={"role": "assistant", "content": content, **extra}, finish_reason=finish)
    reply = read(body)
    assert (reply.status, reply.answer, reply.finish) == (status, answer, finish)


def test_an_answer_that_ended_with_an_error_is_an_error():
    """OpenRouter says within a choice that the provider behind it broke: no empty answer, and its tokens are paid."""
    body = chat("")
    body["choices"][0].update(finish_reason="error", error={"code": 502, "message": "upstream"})
    reply = read(body)
    assert (reply.status, reply.answer, reply.usage) == ("error", None, (100, 0, 10, 0))
    assert "ended with an error" in reply.reason


@pytest.mark.parametrize("body", [{**chat(), "choices": []}, {**chat(), "error": {"message": "x"}}])
def test_no_answer_may_still_have_its_price(body):
    """A body that is no answer and says its tokens costs what they cost."""
    reply = read(body)
    assert (reply.status, reply.usage, reply.billed) == ("error", (100, 0, 10, 0), "usage")


@pytest.mark.parametrize(
    ("logprobs", "token_logprobs"),
    [
        ({"content": [{"token": "a", "logprob": -0.5}]}, (-0.5,)),
        ({"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": None}]}, None),
        ({"tokens": ["a"], "token_logprobs": [-0.5]}, (-0.5,)),
        ({"tokens": ["a", "b"], "token_logprobs": [None, -0.5]}, None),
        ({"content": None}, None),
        (None, None),
        ([], None),
    ],
)
def test_logprobs_are_all_there_or_not_at_all(logprobs, token_logprobs):
    """OpenAI's form and the older one of other servers; one that is missing would make a mean of the others."""
    reply = read(chat("ab", logprobs=logprobs))
    assert (reply.status, reply.answer, reply.token_logprobs) == ("ok", "ab", token_logprobs)


# --- streams -------------------------------------------------------------------------------------------------------


def test_streams_of_many_shapes():
    """Usage in the last chunk, in every chunk or with the end; a second choice, halves of characters: one answer."""
    halves = (b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
              b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}\n\n')  # fmt: skip
    assert stream(*halves, *events(END, USED)).answer == "😀"
    every = [{**part(content=word), "usage": {"prompt_tokens": 100, "completion_tokens": 9}} for word in "ab"]
    reply = stream(*events(*every, {**END, "usage": USED["usage"]}, {"choices": [], "usage": None}))
    assert (reply.answer, reply.usage) == ("ab", (100, 0, 10, 0))
    assert stream(*events(part(content="one"), part(1, content="two"), END, USED)).answer == "one"
    reply = stream(*events(part(content="a"), END))
    assert (reply.status, reply.answer, reply.usage, reply.billed) == ("ok", "a", None, "unknown")
    reply = stream(*events(part(content="a"), {"error": {"message": "overloaded"}}))
    assert (reply.status, reply.usage) == ("error", None)


def test_a_streamed_call_of_a_tool_is_the_same_answer():
    """What a model calls is put together from its pieces, and reads as when it is not streamed."""
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ": 1}"}]
    deltas = [part(tool_calls=[{"index": 0, "function": piece}]) for piece in pieces]
    expected = json.dumps([{"arguments": '{"a": 1}', "name": "f"}])
    assert stream(*events(*deltas, END, USED)).answer == expected
    used = {**message(), "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]}
    assert read(used, client="anthropic").answer == expected
    begun = [
        {"type": "message_start", "message": {**used, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {**used["content"][0], "input": {}}},
        *({"type": "content_block_delta", "index": 0, "delta": {"partial_json": half}} for half in ('{"a"', ": 1}")),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 10}},
    ]
    assert stream(*events(*begun, done=False), client="anthropic").answer == expected


# --- what a reader is told -----------------------------------------------------------------------------------------


def test_cut_answers_and_missing_logprobs_are_said(tmp_path):
    """A cascade would be judged by them: how many answers were cut off, and how many lack what was asked for."""

    def answer(call, _before):
        cut = call.case.case_id == "c1"
        return good(finish="length" if cut else "stop", token_logprobs=None if cut else (-0.5,))

    write_cases(tmp_path, 3)
    text = f"cases: cases.jsonl\nmodels:\n  m: {{model: x, base_url: '{{url}}', {PRICED}, logprobs: true}}\n"
    for _ in range(2):
        found = recording.run(recipe(tmp_path, text), connect=Fake(answer), environ={}, max_usd=1)
        assert found.outcome == "complete"
        assert found.notes == (
            "1 of 3 answers of 'm' were cut off at max_output_tokens: 1,024.",
            "1 of 3 answers of 'm' came without the log-probabilities asked for.",
        )


def test_a_score_too_large_to_be_one_is_none(tmp_path):
    """A judge that writes four hundred digits gave no score, and ends nothing."""
    write_cases(tmp_path, 2)
    text = (
        "cases: cases.jsonl\nmodels:\n"
        f"  m: {{model: x, base_url: '{{url}}', {PRICED}}}\n"
        f"  j: {{model: y, base_url: '{{url}}', {PRICED}, prompt: '{{answer}}?', judges: {{of: m, score: true}}}}\n"
    )
    found = recording.run(recipe(tmp_path, text), connect=Fake(lambda *_: good("9" * 400)), environ={}, max_usd=1)
    assert found.outcome == "complete"
    assert [line.get("score") for line in lines(found.output)] == [None] * 4
    assert traffic.open(found.journal, cache=False).cases == 2
