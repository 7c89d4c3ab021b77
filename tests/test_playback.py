"""The user's own code, answered from recorded traffic through every client, with no network behind it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import httpx
import httpx2
import numpy as np
import openai
import played_cascades
import pytest
from played_cascades import said

from cascade_eval import errors, goldens, playback, replay, suite, traffic
from cascade_eval.playback import pieces

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "suites" / "weekly_replay.cascade.yaml"
URL = "https://models.example/v1/chat/completions"
CLIENT = httpx.Client(timeout=None, verify=False)


@pytest.fixture(scope="module")
def incident():
    """Take forty cases of the incident golden."""
    batch = goldens.open(ROOT / "goldens" / "incident").traffic.read().take(np.arange(40))
    return traffic.from_batch(batch)


def quick():
    """Make a client of httpx2 without reading certificates, which takes longer than all of its calls."""
    return httpx2.Client(timeout=None, verify=False)


def ask(model, client=CLIENT, *, url=URL, headers=None, **body):
    return client.post(url, json={"model": model, "messages": [], **body}, headers=headers or {})


def text(reply):
    return reply.json()["choices"][0]["message"]["content"]


def cases(*names, **mini):
    return [
        {"case_id": name, "models": {"mini": {"answer": f"of {name}", **mini}, "flagship": {"answer": f"of {name}"}}}
        for name in names
    ]


# One cascade, every client.


@pytest.mark.parametrize("way", played_cascades.WAYS, ids=lambda way: way.__name__)
def test_one_cascade_gives_one_replay_through_every_client(way, incident):
    """Async, streamed, by whichever client and format: the same cases are settled by the same tiers at the same cost."""
    found = suite.load(SUITE)
    batch = incident.read()
    ids = batch.arrow(None, "case_id").to_pylist()
    with playback.play(incident, suite=found, content=said) as played:
        given = way(ids, played.case)
    rules = replay.Rules(found.agreement_rule, played.judged.rules.prices)
    expected = replay.run(found.cascades[0], batch, rules)
    got = played.replay
    for name in ("settled", "served", "cost", "latency"):
        np.testing.assert_array_equal(getattr(got.decisions, name), getattr(expected.decisions, name))
    for name in ("escalation", "disagreement", "cost", "latency p95", "quality", "audited"):
        assert got.estimate(name).value == expected.estimate(name).value
    tiers = np.array(["mini", "flagship"])[expected.decisions.settled]
    assert given == {
        case: batch.text(model, "answer", row) for row, (case, model) in enumerate(zip(ids, tiers, strict=True))
    }
    assert len(played.calls) == len(ids) + int((expected.decisions.settled == 1).sum())


OLD_PYTHON = "CASCADE_EVAL_OLD_OPENAI"


@pytest.mark.skipif(OLD_PYTHON not in os.environ, reason=f"{OLD_PYTHON} names no interpreter with openai below 3")
def test_openai_before_3_gives_the_same_replay():
    """The client of the years before, which speaks httpx, sees the same recordings."""
    code = (
        "import openai, played_cascades as ways; from cascade_eval import goldens, playback, traffic; import numpy as np\n"
        "assert int(openai.__version__.partition('.')[0]) < 3, openai.__version__\n"
        "batch = goldens.open('goldens/incident').traffic.read().take(np.arange(60))\n"
        "ids = batch.arrow(None, 'case_id').to_pylist()\n"
        "for way in (ways.raw_httpx, ways.openai_async, ways.openai_streaming, ways.openai_responses):\n"
        "    with playback.play(traffic.from_batch(batch), tiers=['mini', 'flagship'], content=ways.said) as played:\n"
        "        way(ids, played.case)\n"
        "    decisions = played.replay.decisions\n"
        "    print(decisions.settled.tolist(), decisions.cost.sum(), round(decisions.latency.sum(), 9))\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    ran = [os.environ[OLD_PYTHON], "-c", code]
    done = subprocess.run(ran, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1


# Both cores, both colours.


def test_both_generations_of_clients_at_once():
    """`httpx` and `httpx2`, sync and async, are answered in one playback."""

    async def one(client, name):
        with played.case(name):
            return text(await client.post(URL, json={"model": "mini", "messages": []}))

    async def both():
        async with httpx.AsyncClient(verify=False) as old, httpx2.AsyncClient(verify=False) as new:
            return await asyncio.gather(one(old, "c"), one(new, "d"))

    with playback.play(cases("a", "b", "c", "d")) as played:
        with played.case("a"):
            got = [text(ask("mini"))]
        with played.case("b"), quick() as client:
            got.append(text(ask("mini", client)))
        got += asyncio.run(both())
    assert got == ["of a", "of b", "of c", "of d"]
    assert sorted(one.case for one in played.calls) == ["a", "b", "c", "d"]


def test_the_case_is_known_by_header_variable_or_block():
    """A header names the case, else the block the call is made in, else the code's own context variable."""
    own = ContextVar("own")
    with playback.play(cases("a", "b", "c"), case_header="X-Request", case_variable=own) as played:
        own.set("a")
        got = [text(ask("mini"))]
        with played.case("b"):
            got.append(text(ask("mini")))
            got.append(text(ask("mini", headers={"x-request": "c"})))
    assert got == ["of a", "of b", "of c"]
    assert [one.case for one in played.calls] == ["a", "b", "c"]


def test_threads_name_their_case_themselves():
    """Threads share a playback; each call is counted for the case its header names."""
    names = [f"case {number}" for number in range(40)]
    with playback.play(cases(*names), tiers=["mini", "flagship"]) as played, ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda name: text(ask("mini", headers={"x-case-id": name})), names))
    assert got == [f"of {name}" for name in names]
    assert played.replay.escalation.nobs == 40


# What was recorded, said again.


def test_log_probabilities_are_said_where_asked_for():
    """Recorded log-probabilities come back token by token, minus infinity as providers write it; unasked they stay away."""
    rows = cases("a", token_logprobs=[-0.5, -np.inf], top_logprobs=[[-0.5, -2.0], [-3.0]])
    with playback.play([{**rows[0], "case_id": name} for name in ("a", "b", "c")]) as played:
        with played.case("a"):
            listed = ask("mini", logprobs=True).json()["choices"][0]["logprobs"]["content"]
        with played.case("b"):
            unasked = ask("mini").json()["choices"][0]["logprobs"]
        with played.case("c"):
            body = ask("mini", logprobs=True, stream=True).content
    assert [one["logprob"] for one in listed] == [-0.5, -9999.0]
    assert [[one["logprob"] for one in token["top_logprobs"]] for token in listed] == [[-0.5, -2.0], [-3.0]]
    assert unasked is None
    streamed = [one["choices"][0]["logprobs"] for one in pieces.decode(body)]
    assert [one["logprob"] for part in streamed if part for one in part["content"]] == [-0.5, -9999.0]


def test_a_stream_ends_with_its_usage_where_asked_for():
    """`stream_options` is obeyed: tokens come in a last chunk of their own."""
    rows = cases("a", input_tokens=100, cached_input_tokens=60, output_tokens=7)
    with (
        playback.play(rows) as played,
        played.case("a"),
        openai.OpenAI(api_key="none", http_client=quick()) as client,
        client.chat.completions.create(
            model="mini", messages=[], stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        chunks = list(stream)
    assert (chunks[-1].choices, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == ([], 100, 7)
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 60
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.fixture
def impatient():
    with openai.OpenAI(api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("recorded", "raised"),
    [
        ({"status": "timeout"}, openai.APITimeoutError),
        ({"status": "error"}, openai.InternalServerError),
        ({"latency_s": 30.0}, openai.APITimeoutError),
    ],
)
def test_failures_are_those_of_the_client(recorded, raised, impatient):
    """A recorded timeout or error is raised as the client's own, and so is a call slower than the client waits."""
    with playback.play(cases("a", **recorded), tiers=["mini", "flagship"]) as played, played.case("a"):
        with pytest.raises(raised):
            impatient.chat.completions.create(model="mini", messages=[], timeout=5)
        assert impatient.chat.completions.create(model="flagship", messages=[]).choices[0].message.content == "of a"
    assert [one.status for one in played.calls] == ["error" if recorded == {"status": "error"} else "timeout", "ok"]
    assert played.replay.escalation.count == 1


def test_an_error_is_not_retried_by_the_client():
    """What was recorded came after the retries of then, so the client is told not to begin its own."""
    with (
        playback.play(cases("a", status="error")) as played,
        played.case("a"),
        openai.OpenAI(api_key="none", http_client=quick()) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="mini", messages=[])
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_refusal_is_a_refusal(impatient):
    """A refused call has no content, and says what was said in its refusal."""
    with playback.play(cases("a", status="refused")) as played, played.case("a"):
        message = impatient.chat.completions.create(model="mini", messages=[]).choices[0].message
        assert (message.content, message.refusal) == (None, "of a")
        assert played.calls[0].status == "refused"


def test_models_may_have_other_names_in_the_code():
    """`models` maps what the code asks for to what was recorded; the answer bears the name that was asked for."""
    with playback.play(cases("a"), models={"gpt-4.1-nano": "mini"}) as played, played.case("a"):
        reply = ask("gpt-4.1-nano")
    assert (text(reply), reply.json()["model"], played.calls[0].model) == ("of a", "gpt-4.1-nano", "mini")


# What nothing was recorded for.


@pytest.mark.parametrize(
    ("model", "url", "case", "message"),
    [
        ("minni", URL, "a1", "asked 'minni', which records has no answers of. Did you mean 'mini'"),
        ("mini", URL, None, "'mini' was asked, but for which case"),
        ("mini", "https://models.example/v1/embeddings", "a1", "POST models.example/v1/embeddings is no model's"),
        (
            "medium",
            URL,
            "a1",
            "case 'a1' asked 'medium', which was never asked that.*of this case it has 'flagship', 'mini'",
        ),
    ],
)
def test_an_unmatched_call_says_what_there_is(model, url, case, message):
    """A request nothing was recorded for stops the code, and the error names the nearest thing that was."""
    rows = [*cases("a1"), {"case_id": "b", "models": {"medium": {"answer": "x"}}}]
    with pytest.raises(playback.Unmatched, match=message), playback.play(rows) as played:  # noqa: PT012  leaving the block is what is tested
        if case is None:
            ask(model, url=url)
        with played.case(case):
            ask(model, url=url)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"n": 3}, "for 3 answers at once; traffic holds one for each run"),
        ({"logprobs": True}, "for log-probabilities, and records has no 'mini.token_logprobs'"),
    ],
)
def test_half_an_answer_is_no_answer(body, message):
    """A gate over several answers or log-probabilities is not handed one answer, or none, as if that had been recorded."""
    with (
        pytest.raises(playback.Unmatched, match=message),
        playback.play(cases("a"), tiers=["mini", "flagship"]) as played,
        played.case("a"),
    ):
        ask("mini", **body)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_call_in_a_forked_process_is_not_lost():
    """The child's call to the flagship would be missing here, and the case look as if mini had settled it."""

    def cascade():
        ask("mini")
        child = os.fork()
        if child == 0:
            try:
                ask("flagship")
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    with (
        pytest.raises(playback.Unmatched, match="in another process"),
        playback.play(cases("a"), tiers=["mini", "flagship"]) as played,
        played.case("a"),
    ):
        cascade()


def test_an_unknown_case_names_the_nearest():
    """A case that was never recorded is refused where it is begun."""
    with (
        pytest.raises(playback.Unmatched, match=r"no case 'case-17' in records\. Did you mean 'case-16'"),
        playback.play(cases("case-16")) as played,
        played.case("case-17"),
    ):
        pass


def test_code_that_swallows_everything_does_not_hide_an_unmatched_call():
    """A cascade that takes any failure for a reason to escalate is stopped, and leaving the block fails in any case."""
    after = []
    with (  # noqa: PT012  leaving the block is what is tested
        pytest.raises(playback.Unmatched, match="Did you mean 'mini'"),
        playback.play(cases("a")) as played,
        played.case("a"),
    ):
        try:
            ask("minnie")
        except Exception:  # noqa: BLE001  what a cascade does that escalates on failure
            after.append("escalated")
    assert after == []
    with pytest.raises(playback.Unmatched, match="Did you mean 'mini'"), playback.play(cases("a")) as played:  # noqa: PT012  leaving the block is what is tested
        with played.case("a"):
            try:
                ask("minnie")
            except BaseException:  # noqa: BLE001  nothing escapes this
                after.append("escalated")
        with pytest.raises(playback.Unmatched):
            _ = played.replay
    assert after == ["escalated"]


def test_two_different_questions_of_one_case_and_model_are_no_match():
    """Traffic holds one answer for a case and model; a second, other question is an error that shows the difference."""
    with (  # noqa: PT012  leaving the block is what is tested
        pytest.raises(playback.Unmatched, match=r"(?s)twice, and not the same.*-\s+\"n\": 1.*\+\s+\"n\": 2"),
        playback.play(cases("a")) as played,
        played.case("a"),
    ):
        ask("mini", extra={"n": 1})
        ask("mini", extra={"n": 2})


def test_ignored_fields_may_differ():
    """A field that is listed does not make two requests different."""
    rows = [{"case_id": "a", "model": "mini", "run": run, "answer": str(run)} for run in (0, 1)]
    with playback.play(rows, ignore=["extra.n", "seed"]) as played, played.case("a"):
        assert [text(ask("mini", extra={"n": n}, seed=n)) for n in (1, 2)] == ["0", "1"]


# Sockets.


def test_nothing_reaches_a_socket(socket_disabled):
    """With sockets blocked a playback runs as without: every client is answered before one is opened."""
    with playback.play(cases("a", "b"), tiers=["mini", "flagship"]) as played:
        with played.case("a"):
            assert text(ask("mini")) == "of a"
        with played.case("b"), openai.OpenAI(api_key="none", http_client=quick()) as client:
            client.chat.completions.create(model="flagship", messages=[])
    assert played.replay.escalation.count == 1


def test_an_unmatched_call_reaches_no_socket():
    """A request nothing was recorded for ends before any address is looked up or connected to."""
    reached = []

    class Watched(socket.socket):
        def connect(self, address):
            reached.append(address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Watched)
        patch.setattr(socket, "getaddrinfo", lambda *a, **_: reached.append(a))
        with pytest.raises(playback.Unmatched), playback.play(cases("a")) as played, played.case("a"):
            ask("nobody", url="https://api.openai.com/v1/chat/completions")
    assert reached == []


@pytest.mark.parametrize("client", ["name", pytest.param("address", marks=pytest.mark.loopback)])
def test_what_goes_past_the_clients_is_stopped_at_the_socket(client):
    """A library that is neither httpx nor httpx2 is stopped as well, and named hosts are let through."""
    with (  # noqa: PT012  leaving the block is what is tested
        pytest.raises(playback.Unmatched, match=r"a connection to (scorer.example|192.0.2.1) was about to be opened"),
        playback.play(cases("a")),
    ):
        if client == "name":
            socket.create_connection(("scorer.example", 443))
        else:
            with socket.socket() as opened:
                opened.connect(("192.0.2.1", 443))


@pytest.mark.loopback
def test_allowed_hosts_pass():
    """Requests to a host that is allowed are not answered from the recording."""
    transport = httpx.MockTransport(lambda _: httpx.Response(204))
    with playback.play(cases("a"), allow=["localhost"]), httpx.Client(transport=transport) as client:
        assert client.get("http://localhost/").status_code == 204
    with (
        playback.play(cases("a"), allow=["127.0.0.1"]),
        httpx.Client(verify=False) as client,
        pytest.raises((httpx.ConnectError, RuntimeError)),
    ):
        client.get("http://127.0.0.1:9/")


# What is said wrongly.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cascade": "current"}, "of which suite"),
        ({"tiers": ["mini", "mini"]}, "tiers are recorded models, each once"),
        ({"tiers": "mini"}, "tiers are recorded models"),
        ({"agreement": "same labell"}, "same label"),
        ({"prices": {"mini": {"input": 1}}}, "prices of 'mini': 'output' is missing"),
        ({"ignore": ["a..b"]}, "'a..b' is no field"),
        ({"inconclusive": "maybe"}, "'fail' or 'warn'"),
        ({"suite": SUITE, "cascade": "curent"}, "no cascade 'curent'. Did you mean 'current'"),
        ({"suite": SUITE, "tiers": ["mini"]}, "the suite says what the tiers are"),
    ],
)
def test_wrong_options_are_usage_errors(options, message):
    """What cannot be used is refused before any code runs, with what is allowed."""
    with pytest.raises(errors.UsageError, match=message), playback.play(cases("a"), **options):
        pytest.fail("nothing may run")


def test_something_has_to_be_played():
    """Without source and suite there is nothing to answer from."""
    with pytest.raises(errors.UsageError, match="what is to be played"), playback.play(tiers=["mini"]):
        pytest.fail("nothing may run")


def test_importing_playback_loads_no_client():
    """The package is imported without respx, httpx and openai: they are paid for where a playback begins."""
    code = "import sys; from cascade_eval import playback; print({'respx', 'httpx', 'httpx2', 'openai', 'pytest'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
