"""Playbacks within and beside one another, and calls that leave the path they are looked for on."""

from __future__ import annotations

import asyncio
import http.server
import re
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cascade_eval import playback

URL = "https://models.example/v1/chat/completions"
TIERS = {"tiers": ["mini", "flagship"]}
CLIENT = httpx.Client(timeout=None, verify=False)


def cases(*names):
    return [
        {"case_id": name, "models": {model: {"answer": f"{model} of {name}"} for model in ("mini", "flagship")}}
        for name in names
    ]


def ask(model="mini", **options):
    return CLIENT.post(URL, json={"model": model, "messages": []}, **options)


def text(reply):
    return reply.json()["choices"][0]["message"]["content"]


def asked(played):
    return [(one.case, one.model) for one in played.calls]


# Several playbacks.


def test_a_playback_within_another_answers_its_own_calls():
    """What is asked within the inner block is its own, and what is asked after it again the outer's."""
    with playback.play(cases("a", "b"), **TIERS) as outer:
        with outer.case("a"):
            ask()
        with playback.play(cases("x"), **TIERS) as inner, inner.case("x"):
            assert text(ask("flagship")) == "flagship of x"
        with outer.case("b"):
            ask()
    assert (asked(outer), asked(inner)) == ([("a", "mini"), ("b", "mini")], [("x", "flagship")])


def test_playbacks_in_threads_do_not_hear_each_other():
    """Each thread's calls are answered by the playback it began, however they end."""
    both = threading.Barrier(2, timeout=5)
    found = {}

    def run(name):
        with playback.play(cases(name), **TIERS) as played:
            both.wait()
            with played.case(name):
                ask()
            both.wait()
            if name == "b":
                threading.Event().wait(0.05)
                with played.case(name):
                    ask("flagship")
        found[name] = asked(played)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ["a", "b"]))
    assert found == {"a": [("a", "mini")], "b": [("b", "mini"), ("b", "flagship")]}


def test_a_thread_of_the_code_belongs_to_the_last_playback():
    """A worker thread has no context of its own; its calls are those of the playback that was begun last."""
    with (
        playback.play(cases("a"), **TIERS) as outer,
        playback.play(cases("x"), **TIERS) as inner,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(ask, headers={"x-case-id": "x"}).result()
    assert (asked(outer), asked(inner)) == ([], [("x", "mini")])


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_the_network_is_as_before_when_a_block_ends(raised):
    """However a block is left, sockets and clients are what they were."""
    before = socket.socket.connect, socket.getaddrinfo
    with pytest.raises(raised), playback.play(cases("a")):  # noqa: PT012  leaving the block is what is tested
        assert (socket.socket.connect, socket.getaddrinfo) != before
        raise raised
    assert (socket.socket.connect, socket.getaddrinfo) == before
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
        assert client.get("http://localhost/").status_code == 204


# Code that hides what happened.


def test_a_task_that_stops_in_a_group_is_unmatched():
    """Task groups wrap what stops a task; what leaves the block is the unmatched request all the same."""

    async def main(played):
        async with asyncio.TaskGroup() as group, httpx.AsyncClient(timeout=None, verify=False) as client:
            for name in "ab":
                with played.case(name):
                    group.create_task(client.post(URL, json={"model": "minnie", "messages": []}))
            await asyncio.sleep(0)

    with (
        pytest.raises(playback.Unmatched, match="Did you mean 'mini'") as caught,
        playback.play(cases("a", "b")) as played,
    ):
        asyncio.run(main(played))
    assert caught.value.__cause__ is None


def test_an_outcome_of_pytest_does_not_hide_an_unmatched_call():
    """An outcome of pytest is no ordinary exception; leaving the block with one says what was not answered."""
    with (  # noqa: PT012  leaving the block is what is tested
        pytest.raises(playback.Unmatched, match="minnie"),
        playback.play(cases("a")) as played,
        played.case("a"),
    ):
        try:
            ask("minnie")
        except BaseException:  # noqa: BLE001  nothing escapes this
            pytest.fail("no answer")


def test_a_cancelled_case_answered_nobody():
    """A limit around the whole case ends it without an answer, whatever mini had said."""
    same = [{"case_id": name, "models": {m: {"answer": "x"} for m in ("mini", "flagship")}} for name in "ab"]

    async def one(played, name, pause):
        with played.case(name):
            async with httpx.AsyncClient(timeout=None, verify=False) as client:
                await client.post(URL, json={"model": "mini", "messages": []})
            await asyncio.sleep(pause)

    async def main(played):
        await one(played, "a", 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one(played, "b", 60), 0.2)

    with playback.play(same, **TIERS) as played:
        asyncio.run(main(played))
    assert played.replay.disagreement.value == 0.5


def test_the_error_names_the_line_that_asked_and_no_frames_of_clients():
    """Whoever reads the failure sees their own line, not what lies between a client and a socket."""
    with pytest.raises(playback.Unmatched) as caught, playback.play(cases("a")) as played, played.case("a"):
        ask("minnie")
    assert re.match(r"\S*test_playback_concurrent\.py:\d+: case 'a' asked 'minnie'", str(caught.value))
    frames = [frame.path.name for frame in caught.traceback]
    assert frames == ["test_playback_concurrent.py", "playing.py"]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# What goes past the clients.


class Silent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.reached.append(self.path)

    def log_message(self, *args):
        pass


@pytest.mark.loopback
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_model_on_this_machine_is_not_reached_either(host):
    """A local model or a proxy asked past httpx would be asked in earnest, and be missing in the replay."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Silent)
    server.reached = []
    with (
        server,
        pytest.raises(playback.Unmatched, match=r"a connection to (127\.0\.0\.1|::1) was about to be opened"),
        playback.play(cases("a")),
    ):
        urllib.request.urlopen(f"http://{host}:{server.server_port}/v1", timeout=1)
    assert server.reached == []


@pytest.mark.loopback
def test_a_datagram_is_stopped_as_well():
    """What is sent without a connection leaves this machine no less."""
    with (
        pytest.raises(playback.Unmatched, match=r"a connection to 192\.0\.2\.1"),
        playback.play(cases("a")),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened,
    ):
        opened.sendto(b"question", ("192.0.2.1", 53))


@pytest.mark.loopback
def test_an_allowed_name_is_reached_at_its_address(monkeypatch):
    """A host is allowed by name; what that name stands for may be connected to, and nothing else."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with playback.play(cases("a"), allow=["db.example"]), pytest.raises(OSError, match="refused"):
        socket.create_connection(("db.example", 9))
    with (
        pytest.raises(playback.Unmatched, match=r"127\.0\.0\.1"),
        playback.play(cases("a")),
        socket.socket() as opened,
    ):
        opened.connect(("127.0.0.1", 9))


@pytest.mark.loopback
def test_an_event_loop_and_a_server_begin_in_a_playback():
    """Neither the ends of a loop's own pipe nor an address to listen on is a connection to anyone."""

    async def served():
        await asyncio.sleep(0)
        return text(await asyncio.to_thread(ask))

    with playback.play(cases("a"), **TIERS) as played, played.case("a"):
        assert asyncio.run(served()) == "mini of a"
        assert socket.getaddrinfo("localhost", 0)


# Tools.


@pytest.mark.parametrize(
    ("body", "tool"),
    [
        ({"tool_choice": "required"}, "a tool"),
        ({"tool_choice": {"type": "any"}}, "a tool"),
        ({"tool_choice": {"type": "function", "function": {"name": "reply"}}}, "'reply'"),
        ({"tool_choice": {"type": "tool", "name": "reply"}}, "'reply'"),
        ({"function_call": {"name": "reply"}}, "'reply'"),
    ],
)
def test_a_call_that_a_tool_must_answer_is_refused(body, tool):
    """Code that reads a tool's arguments would find none, take that for a failure, and escalate."""
    with (
        pytest.raises(playback.Unmatched, match=f"asked 'mini' to call {tool}"),
        playback.play(cases("a")) as played,
        played.case("a"),
    ):
        CLIENT.post(URL, json={"model": "mini", "messages": [], **body})


@pytest.mark.parametrize("choice", ["auto", "none", {"type": "auto"}, None])
def test_a_tool_that_may_be_called_is_no_reason(choice):
    """Where the model may answer in words, the recorded words are its answer."""
    with playback.play(cases("a")) as played, played.case("a"):
        body = {"model": "mini", "messages": [], "tools": [], "tool_choice": choice}
        assert text(CLIENT.post(URL, json=body)) == "mini of a"
