"""Recorded rows as answers, without a client: limits, repeats, retries, content, costs and plain services."""

from __future__ import annotations

import dataclasses
import json
import re

import pandas as pd
import pytest

from cascade_eval import playback, prices, traffic
from cascade_eval.playback import answering
from cascade_eval.playback.answering import NoRecording
from cascade_eval.playback.nouns import Request

ROWS = [
    {"case_id": "a", "model": "mini", "run": 0, "status": "ok", "answer": "x", "latency_s": 2.0, "cost_usd": 0.5},
    {"case_id": "a", "model": "mini", "run": 1, "status": "ok", "answer": "y", "latency_s": 3.0, "cost_usd": 0.25},
    {"case_id": "b", "model": "mini", "run": 0, "status": "error", "answer": None, "latency_s": 1.0, "cost_usd": 0.0},
    {
        "case_id": "d",
        "model": "mini",
        "run": 0,
        "status": "timeout",
        "answer": None,
        "latency_s": None,
        "cost_usd": 0.0,
    },
]
PRICES = prices.parse({"mini": {"input": 1, "output": 1}})


def recorded(**settings):
    frame = pd.DataFrame([{**row, "language": "en"} for row in ROWS])
    return answering.FromTraffic(traffic.from_frame(frame), answering.Settings(**settings))


def chat(timeout=None, headers=(), **body):
    written = json.dumps({"model": "mini", "messages": [], **body}).encode()
    return Request("POST", "https://host/v1/chat/completions", dict(headers), written, timeout)


def said(response):
    return json.loads(response.body)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("client", "tier", "stream", "latency", "late", "limit"),
    [
        (2.0, None, False, 2.0, False, None), (2.0, None, False, 2.5, False, 2.0), (2.0, None, True, 2.5, False, None),
        (None, 1.0, False, 2.0, False, 1.0), (None, 1.0, True, 2.0, False, 1.0), (3.0, 1.0, False, 2.0, False, 1.0),
        (None, None, False, 9.0, True, None), (5.0, None, False, None, True, 5.0), (5.0, None, False, None, False, None),
        (5.0, None, False, 3.0, True, None),
    ],
)  # fmt: skip
def test_when_a_call_would_have_timed_out(client, tier, stream, latency, late, limit):
    """Where it took longer than the shorter of the client's limit and the tier's; a stream has the tier's only."""
    settings = answering.Settings(timeouts={} if tier is None else {"mini": tier})
    assert settings.limit(chat(client, stream=stream), "mini", latency, late=late) == limit


def test_what_takes_too_long_gets_no_answer_and_costs_the_time_it_may_take():
    """The answer is kept back, the call has timed out, and it took its limit."""
    found = recorded()
    response, asked, fresh = found.answer(chat(1.5), "a")
    assert (response.fault, asked.status, asked.limit, fresh) == ("timeout", "timeout", 1.5, True)
    assert b"longer when it was recorded than the 1.5 s" in response.body
    [priced] = found.priced([asked], PRICES)
    assert (priced.latency, priced.nano) == (1.5, 500_000_000)


def test_each_new_call_gets_the_next_repeat_and_pays_for_it():
    """A second call has the second answer at its own price and time; a third is refused, for there are two."""
    found = recorded()
    calls = [found.answer(chat(), "a") for _ in range(2)]
    assert [(said(response), asked.run, fresh) for response, asked, fresh in calls] == [("x", 0, True), ("y", 1, True)]
    priced = found.priced([asked for _, asked, _ in calls], PRICES)
    assert [(one.latency, one.nano) for one in priced] == [(2.0, 500_000_000), (3.0, 250_000_000)]
    with pytest.raises(NoRecording, match=r"asked 'mini' 3 times; .* has 2 answers of it"):
        found.answer(chat(), "a")


@pytest.mark.parametrize(("case", "headers"), [("a", {"x-stainless-retry-count": "1"}), ("b", {}), ("d", {})])
def test_a_retry_gets_the_same_and_is_no_new_call(case, headers):
    """A client that says it tries again, and one whose call failed, are given what they were given."""
    found = recorded()
    first, second = found.answer(chat(), case), found.answer(chat(headers=headers), case)
    assert (first[1].run, second[1].run, first[2], second[2]) == (0, 0, True, False)
    assert first[1].status == second[1].status


def test_a_count_of_no_retries_is_a_new_call():
    """A client that says that this is its first try asks anew."""
    found = recorded()
    runs = [found.answer(chat(headers={"x-stainless-retry-count": "0"}), "a")[1].run for _ in range(2)]
    assert runs == [0, 1]


def test_content_is_made_from_the_row_with_the_columns_of_its_case():
    """What a model said may be put together from its row; what failed stays as it failed."""
    found = recorded(content=lambda row: f"{row['answer']} {row['language']} {row['model']}")
    assert said(found.answer(chat(), "a")[0]) == "x en mini"
    assert found.answer(chat(), "b")[0].status >= 500


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"n": 2}, "asked 'mini' for 2 answers at once"),
        ({"tool_choice": "required"}, "asked 'mini' to call a tool"),
        ({"logprobs": True}, "has no 'mini.token_logprobs'"),
        ({"include": ["message.output_text.logprobs"]}, "has no 'mini.token_logprobs'"),
        ({"model": "minni"}, "Did you mean 'mini'?"),
    ],
)
def test_what_traffic_does_not_hold_is_refused(body, says):
    """Half an answer would look like a sure one, so nothing is answered; one answer and plain words are."""
    with pytest.raises(NoRecording, match=re.escape(says)):
        recorded().answer(chat(**body), "a")
    assert said(recorded().answer(chat(n=1, tool_choice="auto", include=["other"]), "a")[0]) == "x"


@pytest.mark.parametrize("charged", [True, False])
def test_a_plain_service_answers_from_its_row(charged):
    """One that is charged takes repeats as a model does and pays; one that reads a column costs nothing and never ends."""
    service = playback.Adapter("/score", "mini", lambda row: {"said": row["answer"], "in": row["language"]}, charged)
    found = recorded(adapters=(service,))
    asked = [found.answer(Request("POST", "https://host/score"), "a") for _ in range(2)]
    assert [json.loads(one[0].body) for one in asked] == [
        {"said": "x", "in": "en"},
        {"said": "y" if charged else "x", "in": "en"},
    ]
    costs = [one.nano for one in found.priced([one[1] for one in asked], PRICES)]
    assert costs == ([500_000_000, 250_000_000] if charged else [0, 0])
    if charged:
        assert found.answer(Request("POST", "https://host/score"), "b")[0].status >= 500
        assert found.answer(Request("POST", "https://host/score"), "d")[0].fault == "timeout"


def test_names_are_translated_and_unknown_services_are_said():
    """A name that the code uses may stand for a recorded one; a service nobody described is no model's."""
    found = recorded(models={"gpt": "mini"})
    _, asked, _ = found.answer(chat(model="gpt"), "a")
    assert dataclasses.replace(asked, said=None).model == "mini"
    with pytest.raises(NoRecording, match="host/other is no model's"):
        found.answer(Request("POST", "https://host/other"), "a")
    with pytest.raises(NoRecording, match="but for which case"):
        found.answer(chat(), None)
    assert found.unplayed(["a"]) == ["b", "d"]
    assert found.cases(["d", "a", "z"], (), {})[0] == ["a", "d"]
