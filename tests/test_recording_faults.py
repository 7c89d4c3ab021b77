"""Servers that misbehave: each fault is recorded as what it was, none is lost or doubled, and the spend is exact."""

from __future__ import annotations

import collections
import json
import time
from fractions import Fraction

import pytest
import scripted_server as scripted
from scripted_server import Act, asked, chat, events, message, ok, streamed

from cascade_eval import recording, traffic
from cascade_eval.recording import clients, responses

pytestmark = pytest.mark.loopback

JSON = {"content-type": "application/json"}
STREAM = {"content-type": "text/event-stream"}
PRICE = {"input": Fraction(15, 100), "output": Fraction(6, 10)}
"""Dollars per million tokens."""


def said(status, text="it said", **headers):
    body = json.dumps({"error": {"message": text}}).encode()
    return Act(status, {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}, body)


def late(act, seconds):
    return Act(**{**vars(act), "after": seconds})


def plain(body):
    """Answer as a healthy server does, streamed where that was asked for."""
    if body.get("stream"):
        return Act(pieces=events(*streamed(["to ", asked(body)], input_tokens=120, output_tokens=7)), headers=STREAM)
    return ok(f"to {asked(body)}", input_tokens=120, output_tokens=7)


BROKEN = Act(body=json.dumps(chat()).encode()[:-5], headers=JSON)
HALF = Act(body=json.dumps(chat()).encode()[:40], headers=JSON, drop=True)
TORN = Act(pieces=events(*streamed(["a", "b"]))[:2], headers=STREAM, drop=True)
ENDED = Act(pieces=events(*streamed(["a", "b"])[:2], done=False), headers=STREAM)

# Fault: what the server does at each request of one call, then: status, requests, whether billed by usage, nothing, or
# nobody knows, and what the reason says.
FAULTS = {
    "none": ([], "ok", 1, "usage", None),
    "429 with Retry-After": ([said(429, retry_after="1")], "ok", 2, "usage", None),
    "429 twice, in milliseconds": ([said(429, retry_after_ms="50")] * 2, "ok", 3, "usage", None),
    "500 once": ([said(500)], "ok", 2, "usage", None),
    "503 for ever": ([said(503, retry_after_ms="20")] * 9, "error", 3, "nothing", "503: it said; gave up after 3 requests"),
    "429, wait for nothing": ([said(429, retry_after="0")] * 1, "ok", 2, "usage", None),
    "502 from a gateway": ([said(502)], "error", 1, "unknown", "502: it said"),
    "504 from a gateway": ([said(504)], "timeout", 1, "unknown", "504: it said"),
    "400": ([said(400, "too long")], "error", 1, "nothing", "400: too long"),
    "a filter": ([said(400, "content_filter")], "refused", 1, "nothing", "400: content_filter"),
    "slow, but in time": ([late(ok("to {}", input_tokens=120, output_tokens=7), 0.3)], "ok", 1, "usage", None),
    "after the timeout": ([late(ok(), 2.5)], "timeout", 1, "unknown", "no whole answer within 1.5 s"),
    "dropped in the body": ([HALF], "error", 1, "unknown", "the connection was dropped after 40 bytes"),
    "dropped in mid-stream": ([TORN], "error", 1, "unknown", "the connection was dropped after"),
    "a stream that just ends": ([ENDED], "error", 1, "unknown", "ended after 2 characters without finishing"),
    "malformed JSON": ([BROKEN], "error", 1, "unknown", "malformed JSON: {"),
    "not an answer": ([Act(body=b"{}", headers=JSON)], "error", 1, "unknown", "not an answer of this interface: {}"),
    "a list": ([Act(body=b"[]", headers=JSON)], "error", 1, "unknown", "not an object"),
    "an error with 200": ([Act(body=b'{"error": "x"}', headers=JSON)], "error", 1, "unknown", "an error with status 200"),
    "wrong content type": (
        [Act(body=b"<html>hello</html>", headers={"content-type": "text/html; charset=utf-8"})],
        "error", 1, "unknown", "wrong content type 'text/html', not 'application/json': <html>hello",
    ),
    "no usage": ([Act(body=json.dumps({**chat(), "usage": None}).encode(), headers=JSON)], "ok", 1, "unknown", None),
}  # fmt: skip
STREAMED = {"dropped in mid-stream", "a stream that just ends"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Record one case for each fault; return the recording, its lines by fault, and what the server heard."""
    folder = tmp_path_factory.mktemp("faults")
    names = list(FAULTS)
    rows = [{"case_id": name, "input": name, "streams": name in STREAMED} for name in names]

    def script(headers, body, before):
        acts = FAULTS[asked(body)][0]
        act = acts[before] if before < len(acts) else plain(body)
        return (
            Act(**{**vars(act), "body": act.body.replace(b"{}", asked(body).encode())}) if b"to {}" in act.body else act
        )

    heard, found = [], []
    with scripted.Server(script) as server:
        for streams in (False, True):
            path = folder / f"cases{streams}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["streams"] == streams))
            text = f"""
cases: {path.name}
output: out{streams}
models:
  m:
    model: x
    base_url: "{server.url}"
    price: {{input: $0.15, output: $0.60}}
    max_output_tokens: 50
    timeout: 1500ms
    attempts: 3
    concurrency: 30
    stream: {str(streams).lower()}
"""
            found.append(recording.run(recording.parse(text, base=folder), environ={}, max_usd=1))
        heard = collections.Counter(map(asked, server.heard))
    lines = [json.loads(line) for one in found for line in one.journal.read_text().splitlines()]
    assert len(lines) == len(names)
    return found, {line["case_id"]: line for line in lines}, heard


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_recorded_as_what_it_was(recorded, name):
    """Status, requests, reason and cost of each fault; nobody's guess stands where nobody knows."""
    _, status, requests, billed, reason = FAULTS[name]
    _, lines, heard = recorded
    line = lines[name]
    assert (line["status"], line["attempts"], heard[name]) == (status, requests, requests)
    assert (reason or "") in (line.get("reason") or "")
    assert ("reason" in line) == (reason is not None)
    cost = {"usage": 120 * PRICE["input"] + 7 * PRICE["output"], "nothing": 0, "unknown": None}[billed]
    assert line["cost_usd"] == (None if cost is None else float(cost / 10**6))
    assert ("cost_at_most_usd" in line) == (billed == "unknown")
    if billed == "usage":
        assert line["answer"] == f"to {name}"
    elif status != "ok":
        assert line["answer"] is None


def test_none_is_lost_none_doubled_and_the_spend_is_exact(recorded):
    """One line a call, one note a request, and dollars that add up to what the responses said."""
    found, lines, heard = recorded
    assert sum(one.requests for one in found) == sum(heard.values()) == sum(fault[2] for fault in FAULTS.values())
    paid = sum(fault[3] == "usage" for fault in FAULTS.values()) * (120 * PRICE["input"] + 7 * PRICE["output"])
    assert sum(one.spent for one in found) == paid * 1000
    assert sum(one.unpriced for one in found) == sum(fault[3] == "unknown" for fault in FAULTS.values())
    worst = sum(line.get("cost_at_most_usd", 0) for line in lines.values())
    assert sum(one.uncertain_usd for one in found) == pytest.approx(worst)
    assert {one.unheard for one in found} == {0}
    assert {one.outcome for one in found} == {"failures"}


def test_faults_read_back_as_traffic(recorded):
    """Replay can read every line: a failure is a status, never a missing row."""
    for one in recorded[0]:
        batch = traffic.open(one.journal, cache=False).read()
        assert batch.cases == one.total
        words = [traffic.STATUSES[code] for code in batch.status("m")]
        assert words == [json.loads(line)["status"] for line in one.journal.read_text().splitlines()]


def test_retry_after_is_respected(tmp_path):
    """No request of the model is sent before the time the server named."""
    times = []

    def script(headers, body, before):
        times.append(time.monotonic())
        return said(429, retry_after="1") if len(times) == 1 else ok()

    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": f"q{i}"}) + "\n" for i in range(3))
    )
    with scripted.Server(script) as server:
        text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free, concurrency: 1}}\n"
        found = recording.run(recording.parse(text, base=tmp_path), environ={})
    assert (found.outcome, found.requests) == ("complete", 4)
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("wish", ["3600", "inf", "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_a_server_that_asks_for_an_hour_is_left_alone(tmp_path, wish):
    """No other call of the model is sent into the wait, none gets a line that says failed, and the next run asks them."""
    patient = [False]

    def script(headers, body, before):
        return ok() if patient[0] else said(429, "enough for today", retry_after=wish)

    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": f"q{i}"}) + "\n" for i in range(9))
    )
    with scripted.Server(script) as server:
        text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free, concurrency: 2}}\n"
        found = recording.run(recording.parse(text, base=tmp_path), environ={})
        assert len(server.heard) <= 2
        assert (found.outcome, found.statuses, found.unasked) == ("unasked", {}, {"m": 9})
        assert "429: enough for today; it asks to wait" in next(iter(found.reasons))
        patient[0] = True
        assert recording.run(recording.parse(text, base=tmp_path), environ={}).outcome == "complete"


@pytest.mark.parametrize(
    ("status", "text"), [(403, "Input was flagged by moderation"), (400, "content_policy_violation")]
)
def test_a_prompt_that_is_filtered_is_refused_alone(tmp_path, status, text):
    """One prompt a provider will not answer says nothing about the next one."""
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": f"q{i}"}) + "\n" for i in range(3))
    )
    with scripted.Server(lambda _h, body, _b: said(status, text) if asked(body) == "q0" else ok()) as server:
        recipe = f"cases: c.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free, concurrency: 1}}\n"
        found = recording.run(recording.parse(recipe, base=tmp_path), environ={})
    assert (found.outcome, found.statuses) == ("complete", {("m", "ok"): 2, ("m", "refused"): 1})


@pytest.mark.parametrize("status", [401, 403, 404, 402])
def test_a_hopeless_model_is_not_asked_again_and_again(tmp_path, status):
    """A wrong key or an unknown model ends that model's calls, unpaid and unasked; the others go on."""

    def script(headers, body, before):
        return said(status, "wrong") if body["model"] == "bad" else ok()

    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": f"q{i}"}) + "\n" for i in range(9))
    )
    with scripted.Server(script) as server:
        text = "cases: c.jsonl\nmodels:\n" + "".join(
            f"  {name}: {{model: {name}, base_url: '{server.url}', price: free, concurrency: 2}}\n"
            for name in ("bad", "good")
        )
        found = recording.run(recording.parse(text, base=tmp_path), environ={})
    assert found.outcome == "unasked"
    assert (found.unasked, found.statuses) == ({"bad": 9, "good": 0}, {("good", "ok"): 9})
    assert found.reasons == {f"bad: {status}: wrong": 9}
    assert sum(body["model"] == "bad" for body in server.heard) <= 2


def test_a_server_that_is_not_there(tmp_path):
    """Nothing was sent and nothing is recorded: the calls are unasked, and why is said."""
    (tmp_path / "c.jsonl").write_text('{"case_id": "a", "input": "q"}\n')
    text = "cases: c.jsonl\nmodels:\n  m: {model: x, base_url: 'http://127.0.0.1:9/v1', price: free, attempts: 2}\n"
    found = recording.run(recording.parse(text, base=tmp_path), environ={})
    assert (found.outcome, found.unasked, found.unheard) == ("unasked", {"m": 1}, 0)
    assert "cannot connect" in next(iter(found.reasons))


@pytest.mark.parametrize("streams", [False, True])
def test_anthropic_is_asked_through_its_own_client(tmp_path, streams):
    """Messages, whole and streamed: answer, tokens with the cached ones among them, refusals, and the key's header."""
    usage = {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 10}

    def script(headers, body, before):
        stop = "refusal" if asked(body) == "q1" else "end_turn"
        whole = {**message("yes", stop_reason=stop), "usage": usage}
        if not streams:
            return Act(body=json.dumps(whole).encode(), headers=JSON)
        parts = (
            {
                "type": "message_start",
                "message": {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ye"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "s"}},
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 10}},
            {"type": "message_stop"},
        )
        return Act(pieces=events(*parts, done=False), headers=STREAM)

    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"case_id": f"c{i}", "input": f"q{i}"}) + "\n" for i in range(2))
    )
    with scripted.Server(script) as server:
        text = f"""
cases: c.jsonl
models:
  m:
    client: anthropic
    model: x
    base_url: "{server.url[:-3]}"
    system: be short
    stream: {str(streams).lower()}
    price: {{input: $3, cached_input: $0.30, output: $15}}
"""
        found = recording.run(
            recording.parse(text, base=tmp_path), environ={"ANTHROPIC_API_KEY": "a-key-of-mine"}, max_usd=1
        )
    assert found.statuses == {("m", "ok"): 1, ("m", "refused"): 1}
    assert found.outcome == "complete"
    rows = {line["case_id"]: line for line in map(json.loads, found.journal.read_text().splitlines())}
    assert (rows["c0"]["answer"], rows["c0"]["input_tokens"], rows["c0"]["cached_input_tokens"]) == ("yes", 100, 80)
    assert rows["c0"]["cost_usd"] == pytest.approx((20 * 3 + 80 * 0.3 + 10 * 15) / 1e6)
    assert server.heard[0]["max_tokens"] == 1024
    assert "a-key-of-mine" in " ".join(server.headers[0].values())


def test_logprobs_are_recorded_as_offered(tmp_path):
    """Tokens and their alternatives, streamed or not, are the numbers the server sent."""
    content = [
        {"token": t, "logprob": lp, "top_logprobs": [{"token": t, "logprob": lp}, {"token": "x", "logprob": -5.5}]}
        for t, lp in (("to", -0.25), (" you", float("-inf")))
    ]

    def script(headers, body, before):
        if not body.get("stream"):
            return ok("to you", logprobs={"content": content})
        deltas = [
            {"choices": [{"index": 0, "delta": {"content": token["token"]}, "logprobs": {"content": [token]}}]}
            for token in content
        ]
        return Act(pieces=events(*deltas, *streamed([])), headers=STREAM)

    (tmp_path / "c.jsonl").write_text('{"case_id": "a", "input": "q"}\n')
    with scripted.Server(script) as server:
        text = "cases: c.jsonl\nmodels:\n" + "".join(
            f"  m{streams}: {{model: x, base_url: '{server.url}', price: free, logprobs: 1, stream: {streams}}}\n"
            for streams in ("true", "false")
        )
        found = recording.run(recording.parse(text, base=tmp_path), environ={})
    for line in map(json.loads, found.journal.read_text().splitlines()):
        assert line["answer"] == "to you"
        assert line["token_logprobs"] == [-0.25, -9999.0]
        assert line["top_logprobs"] == [[-0.25, -5.5], [-9999.0, -5.5]]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "nan"}, None),
        # By the server's own clock, whatever ours says.
        ({"retry-after": "Wed, 21 Oct 2015 07:29:00 GMT", "date": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers, seconds):
    """Seconds and milliseconds; nonsense is no wish."""
    assert clients.wait(headers) == seconds


def test_a_date_to_wait_for():
    """Retry-After may be a date, also one that has passed."""
    assert clients.wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert clients.wait({"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"}) > 0


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[" * 100_000, b'{"choices": []}', b'{"choices": [{"message": {"content": 5}}]}', b'{"choices": {"a": 1}}',
     b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"logprob": "x"}]}}]}', b"\xff\xfe"],
)  # fmt: skip
def test_nonsense_is_an_error_and_never_an_exception(body):
    """Whatever a server sends with status 200 is read as an error with a reason."""
    reply = responses.read("openai", body, "application/json", streamed=False)
    assert (reply.status, reply.billed, reply.answer) == ("error", "unknown", None)
    assert reply.reason
