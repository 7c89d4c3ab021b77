"""Cassettes: what is recorded can be played, read by people, and shown to anyone."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import threading

import httpx
import numpy as np
import played_cascades
import pytest
from chat_calls import CLIENT, PRICES, TIERS, URL, ask, chat, kept, text
from hypothesis import given, settings
from hypothesis import strategies as st
from played_cascades import said

from cascade_eval import errors, playback
from cascade_eval.playback import cassettes, foreign, wire
from cascade_eval.playback.nouns import Outcome, Request


def case(number, confidence=0.9, answer="a"):
    tokens = {"input_tokens": 100 + number, "output_tokens": 10, "cached_input_tokens": 0}
    return {
        "case_id": f"c{number}",
        "models": {
            "mini": {"answer": answer, "confidence": confidence, **tokens},
            "flagship": {"answer": "a", **tokens},
        },
    }


CASES = [case(1), case(2, 0.1), case(3, 0.95, "b"), case(4, 0.2, "b"), case(5, 0.8)]
IDS = [one["case_id"] for one in CASES]


# Recorded and played.


@pytest.mark.parametrize("way", played_cascades.WAYS, ids=lambda way: way.__name__)
def test_a_cassette_plays_what_was_recorded(way, tmp_path):
    """The same code sees the same answers, whole or streamed, and its replay has the same decisions and costs."""
    path = tmp_path / "cascade.jsonl"
    with (
        playback.play(CASES, **TIERS, content=said),
        playback.record(path, **TIERS, prices=PRICES) as recorded,
    ):
        first = way(IDS, recorded.case)
    with playback.play(path, **TIERS, prices=PRICES) as played:
        assert way(IDS, played.case) == first
    expected, got = recorded.replay, played.replay
    for name in ("start", "settled", "served", "cost"):
        np.testing.assert_array_equal(getattr(got.decisions, name), getattr(expected.decisions, name))
    assert (got.escalation.count, got.escalation.nobs) == (2, 5)
    with playback.play(CASES, **TIERS, prices=PRICES, content=said) as direct:
        way(IDS, direct.case)
    assert got.decisions.cost.tolist() == direct.replay.decisions.cost.tolist()


def test_what_was_recorded_besides_is_compared(tmp_path):
    """A cassette in which both models were asked tells whether a case that is kept agrees with the flagship."""
    path = tmp_path / "both.jsonl"
    with playback.play(CASES), playback.record(path) as taped:
        for name in IDS:
            with taped.case(name):
                ask("mini")
                ask("flagship")
    with playback.play(path, **TIERS, prices=PRICES) as played:
        for name in IDS[:4]:
            with played.case(name, language="de"):
                ask("mini")
    found = played.replay
    assert (found.disagreement.count, found.disagreement.nobs) == (2, 4)
    assert found.where(language="de").cost.value == pytest.approx(0.1)
    assert played.missing == ["c5"]


def test_lines_stand_in_the_order_of_asking(tmp_path):
    """A cassette is one line per call under a head, without headers, and the same again when recorded again."""
    path = tmp_path / "a.jsonl"
    written = []
    for _ in range(2):
        with playback.play(CASES), playback.record(path) as taped:
            for name in IDS[:2]:
                with taped.case(name):
                    CLIENT.post(
                        URL, json={"model": "mini", "messages": []}, headers={"authorization": "Bearer sk-12345678"}
                    )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all(line.pop("latency_s") >= 0 for line in lines[1:])
        written.append(lines)
    assert written[0] == written[1]
    head, one, two = written[0]
    assert head == {"cassette": "cascade-eval/cassette/1"}
    assert [one["case"], two["case"]] == ["c1", "c2"]
    assert one["request"] == {"method": "POST", "url": URL, "body": {"model": "mini", "messages": []}}
    assert set(one["response"]) == {"status", "json"}


def test_a_recording_that_fails_leaves_the_cassette_as_it_was(tmp_path):
    """What was asked before a failure is left beside the old cassette, which stays."""
    path = kept(tmp_path / "a.jsonl", chat("old"))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), playback.play(CASES), playback.record(path) as taped, taped.case("c1"):  # noqa: PT012  leaving the block is what is tested
        ask("mini")
        _ = 1 / 0
    assert path.read_bytes() == before
    assert len(cassettes.read(tmp_path / "a.partial.jsonl", "partial")) == 1


def test_nothing_asked_is_nothing_recorded(tmp_path):
    """A recording in which no call was made is an error, not an empty cassette."""
    with pytest.raises(errors.DataError, match="nothing was asked"), playback.record(tmp_path / "a.jsonl"):
        pass
    assert not (tmp_path / "a.jsonl").exists()


def test_failures_are_recorded_as_what_they_were(tmp_path):
    """A timeout and a server's error are in the cassette, and are raised and counted again when it is played."""
    path = tmp_path / "a.jsonl"
    cases = [case(1)]
    cases[0]["models"]["mini"] = {"status": "timeout"}
    cases[0]["models"]["flagship"] = {"status": "error"}

    def run(entered):
        with entered("c1"):
            with pytest.raises(httpx.ReadTimeout):
                ask("mini")
            assert ask("flagship").status_code == 500

    with playback.play(cases), playback.record(path) as taped:
        run(taped.case)
    with playback.play(path, **TIERS) as played:
        run(played.case)
    assert [one.status for one in played.calls] == ["timeout", "error"]
    assert (played.replay.unanswered.count, played.replay.timeouts.count) == (1, 1)


# Secrets.

KEY = "sk-proj-Ab12Cd34Ef56Gh78Ij90"


def test_no_key_is_written(tmp_path, monkeypatch):
    """Keys in headers, addresses, bodies, answers and the pieces of a stream are taken out before anything is written."""
    monkeypatch.setenv("SCORER_API_KEY", "correct-horse-battery-9")
    path = tmp_path / "a.jsonl"
    rows = [{"case_id": "c1", "models": {"mini": {"answer": f"use {KEY} or correct-horse-battery-9"}}}]
    again = [{**rows[0], "case_id": "c2"}]
    with playback.play([*rows, *again]), playback.record(path) as taped:
        for name, stream in (("c1", False), ("c2", True)):
            with taped.case(name):
                CLIENT.post(
                    f"https://ann:hunter22@models.example/v1/chat/completions?key={KEY}",
                    json={
                        "model": "mini",
                        "messages": [{"role": "user", "content": f"is {KEY} safe?"}],
                        "stream": stream,
                    },
                    headers={"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "cookie": f"s={KEY}"},
                )
    written = path.read_text()
    for secret in (KEY, "correct-horse-battery-9", "hunter22", KEY[8:], "authorization"):
        assert secret not in written
    assert written.count("[scrubbed]") >= 6
    played = [wire.outcome(one.request, one.response).answer for one in cassettes.read(path, "a")]
    assert played[0] == played[1] == "use [scrubbed] or [scrubbed]"


def test_a_form_in_an_archive_is_found(tmp_path):
    """Browsers write a form as its fields, and may begin the file with a byte order mark."""
    entry = json.loads(json.dumps(HAR["log"]["entries"][1]))
    entry["request"]["postData"] = {"params": [{"name": "a", "value": "1 2"}, {"name": "b"}]}
    (tmp_path / "a.har").write_text("\ufeff" + json.dumps({"log": {"entries": [entry]}}))
    with playback.play(tmp_path / "a.har") as played, played.case("x"):
        assert text(CLIENT.post(URL, data={"a": "1 2", "b": ""})) == "from elsewhere"


def test_a_key_in_the_recording_of_another_tool_is_no_hindrance(tmp_path):
    """Others leave keys in what they record; today's request has another one, and is the same without them."""
    sent = json.dumps({"model": "mini", "api_key": "sk-of-yesterday-123456"})
    recorded = {
        "request": {"method": "POST", "uri": URL, "body": sent},
        "response": {"status": {"code": 200}, "headers": {}, "body": {"string": BODY}},
    }
    (tmp_path / "a.json").write_text(json.dumps({"interactions": [recorded]}))
    with playback.play(tmp_path / "a.json") as played, played.case("x"):
        reply = CLIENT.post(URL, json={"model": "mini", "api_key": "sk-of-today-123456789"})
    assert text(reply) == "from elsewhere"


# Formats.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(0, 10**6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(wire.FORMATS), TEXTS, NUMBERS, NUMBERS, st.booleans(), st.sampled_from(["ok", "refused"]))
def test_what_is_said_is_read_back(form, answer, tokens, output, stream, status):
    """Rendering an outcome in any format, whole or streamed, and reading it again gives the outcome."""
    request = Request(
        "POST",
        f"https://models.example/v1{form.path}",
        {},
        json.dumps({"model": "m", "stream": stream, "stream_options": {"include_usage": True}}).encode(),
    )
    told = Outcome("m", status, answer, tokens + 5, 5, output)
    found = wire.outcome(request, wire.answer(form, told, request))
    nothing = {"", None}
    assert found.answer == answer or {found.answer, answer} <= nothing
    assert (found.status, found.input_tokens, found.cached_input_tokens, found.output_tokens) == (
        status,
        tokens + 5,
        5,
        output,
    )


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.booleans(), st.one_of(st.none(), TEXTS.filter(bool)), st.sampled_from([None, 0.25]))
def test_a_line_is_read_back(answer, stream, name, latency):
    """An exchange written as a line and read again answers the same."""
    request, response = chat(answer, stream=stream)
    exchange = cassettes.Exchange(request, response, name, latency)
    again = cassettes._exchange(json.loads(cassettes.line(exchange)))
    assert (again.case, again.latency_s, again.request.json) == (name, latency, request.json)
    assert wire.outcome(again.request, again.response) == wire.outcome(request, response)


BODY = json.dumps({"model": "mini", "choices": [{"message": {"content": "from elsewhere"}}]})
SENT = json.dumps({"messages": [], "model": "mini"})

VCR = f"""
interactions:
- request:
    body: '{SENT}'
    headers: {{host: [models.example]}}
    method: POST
    uri: {URL}
  response:
    body: {{string: '{BODY}'}}
    headers: {{content-type: [application/json]}}
    status: {{code: 200, message: OK}}
- request:
    body: !!binary {base64.b64encode(SENT.encode()).decode()}
    headers: {{}}
    method: post
    uri: {URL}
  response:
    body:
      string: !!binary {base64.b64encode(gzip.compress(BODY.replace("elsewhere", "gzip").encode())).decode()}
    headers: {{Content-Type: [application/json], Content-Encoding: [gzip]}}
    status: {{code: 200, message: OK}}
version: 1
"""

HAR = {
    "log": {
        "version": "1.2",
        "entries": [
            {
                "startedDateTime": f"2026-01-0{day}T00:00:00Z",
                "time": 250,
                "request": {"method": "POST", "url": URL, "postData": {"text": SENT}},
                "response": {
                    "status": 200,
                    "headers": [{"name": "Content-Encoding", "value": "gzip"}],
                    "content": {"mimeType": "application/json", **content},
                },
            }
            for day, content in (
                (
                    2,
                    {
                        "text": base64.b64encode(BODY.replace("elsewhere", "gzip").encode()).decode(),
                        "encoding": "base64",
                    },
                ),
                (1, {"text": BODY}),
            )
        ],
    }
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", VCR),
        ("a.har", json.dumps(HAR)),
        ("a.json", json.dumps(HAR)),
        (
            "b.json",
            json.dumps(
                {
                    "interactions": [
                        {
                            "request": {"method": "POST", "uri": URL, "body": SENT},
                            "response": {"status": {"code": 200}, "headers": {}, "body": {"string": text}},
                        }
                        for text in (BODY, BODY.replace("elsewhere", "gzip"))
                    ]
                }
            ),
        ),
    ],
)
def test_cassettes_of_others_are_played(tmp_path, name, content):
    """VCR.py's YAML and JSON, bodies as text, bytes or compressed, and HAR files in order of time."""
    path = tmp_path / name
    path.write_text(content)
    with playback.play(path, **TIERS) as played, played.case("x"):
        assert [text(ask()), text(ask())] == ["from elsewhere", "from gzip"]
    assert [one.model for one in played.calls] == ["mini", "mini"]
    assert played.calls[0].latency_s == (0.25 if "log" in content[:6] else None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "interactions:\n- !!python/object:os.system {}\n", "a.yaml:2: not plain YAML"),
        ("a.yaml", "interactions: []\n", "nothing was recorded"),
        ("a.yaml", "a: 1\n", "no recording: a cassette of VCR.py has 'interactions'"),
        ("a.har", '{"log": {"entries": [{"request": {}}]}}', "entry 1 cannot be read: KeyError: 'response'"),
        ("a.har", "{", "not JSON"),
        ("a.jsonl", '{"cassette": "other"}\n', "a.jsonl:1: a cassette begins with"),
        ("a.jsonl", '{"cassette": "cascade-eval/cassette/1"}\n', "no exchange was recorded"),
        (
            "missing.jsonl",
            None,
            "missing.jsonl: there is no cassette that can be read. Record it with --cascade-record",
        ),
    ],
)
def test_what_is_no_cassette_is_refused(tmp_path, monkeypatch, name, content, message):
    """A file that cannot be read says what is wrong and where; tags of YAML are never followed."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(errors.DataError, match=message), playback.play(name):
        pytest.fail("nothing may run")


def test_all_problems_of_a_cassette_are_shown_together(tmp_path):
    """Each bad line is named with what is allowed."""
    path = tmp_path / "a.jsonl"
    lines = [
        {"cassette": "cascade-eval/cassette/1"},
        {"requst": {}},
        {"request": {"method": "POST"}, "response": {}},
        {"request": {"method": "POST", "url": "/"}, "response": {"status": 99}},
        {"request": {"method": "POST", "url": "/"}, "response": {"fault": "slow"}},
        {"request": {"method": "POST", "url": "/"}, "response": {"status": 200}, "latency_s": -1},
        {"request": {"method": "POST", "url": "/"}, "response": {"status": 200, "events": ["x"]}},
        {"request": {"method": "POST", "url": "/"}, "response": {"status": 200, "base64": "?"}},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n[]\n{")
    with pytest.raises(errors.DataError) as caught:
        cassettes.read(path, "a.jsonl")
    assert [problem.line for problem in caught.value.problems] == list(range(2, 11))
    assert "a.jsonl:2: unknown key 'requst'. Did you mean 'request'?" in str(caught.value)


def test_a_cassette_of_another_name_is_not_recorded(tmp_path):
    """Recording writes one format, and says so."""
    with (
        pytest.raises(errors.UsageError, match=r"recorded as 'a\.jsonl', not 'a\.har'"),
        playback.record(tmp_path / "a.har"),
    ):
        pytest.fail("nothing may run")


def test_traffic_in_a_json_lines_file_is_no_cassette(tmp_path):
    """Records under the same ending are traffic, as everywhere."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, CASES)))
    assert not cassettes.is_cassette(path)
    with playback.play(path, **TIERS) as played, played.case("c1"):
        assert text(ask()) == "a"


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    """A cassette beyond the limit is not read into memory."""
    path = kept(tmp_path / "a.jsonl", chat())
    monkeypatch.setattr(cassettes, "LARGEST", 10)
    with pytest.raises(errors.DataError, match="a cassette may have 10"):
        cassettes.read(path, "a.jsonl")


def test_foreign_heads_are_recognised():
    """Archives begin in one of a few ways; anything else with .json is traffic."""
    assert foreign.looks_recorded(b'{"log": {"version"')
    assert not foreign.looks_recorded(b'{"case_id": "a"}')


# A real server.


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = Request("POST", URL, {}, json.dumps(body).encode())
        response = wire.answer(wire.FORMATS[0], Outcome(body["model"], answer="a real answer"), request)
        packed = gzip.compress(response.body)
        self.send_response(200)
        self.send_header("content-type", response.headers["content-type"])
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *args):
        pass


@pytest.mark.loopback
@pytest.mark.parametrize("stream", [False, True])
def test_real_calls_are_recorded(tmp_path, stream):
    """Against a server on this machine, compressed and streamed, the client sees what it sees without recording."""
    import openai

    path = tmp_path / "a.jsonl"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/v1"

    def run():
        with openai.OpenAI(api_key="sk-local-12345678", base_url=address, max_retries=0) as client:
            reply = client.chat.completions.create(model="mini", messages=[], stream=stream)
            if not stream:
                return reply.choices[0].message.content
            return "".join(chunk.choices[0].delta.content or "" for chunk in reply)

    try:
        with playback.record(path) as taped, taped.case("c1"):
            assert run() == "a real answer"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with playback.play(path) as played, played.case("c1"):
        assert run() == "a real answer"
    assert "sk-local" not in path.read_text()
