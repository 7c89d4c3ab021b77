"""Which recording of a cassette answers a request: what counts as the same without its keys, and what is said of others."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from chat_calls import CLIENT, PRICES, TIERS, URL, ask, chat, kept, text
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import errors, playback
from cascade_eval.playback import cassettes, matching, pieces, wire
from cascade_eval.playback.nouns import Outcome, Request, Response

KEY = "sk-proj-Ab12Cd34Ef56Gh78Ij90"
CASES = [{"case_id": "c1", "models": {"mini": {"answer": "a"}, "flagship": {"answer": "a"}}}]


@pytest.mark.parametrize("form", wire.FORMATS, ids=lambda form: form.path)
def test_a_key_in_pieces_is_not_written(form):
    """A key that a stream brings in pieces, none of which looks like one, is found when they are put together."""
    request = Request("POST", f"https://models.example/v1{form.path}", {}, b'{"model": "m", "stream": true}')
    events = []
    for name, data in form.stream(Outcome("m", answer=f"say {KEY} twice", output_tokens=1), request):
        whole, halves = json.dumps(data), (f" {KEY[:10]}", KEY[10:])
        cut = [json.loads(whole.replace(f'" {KEY}"', f'"{half}"')) for half in halves]
        events += [(name, one) for one in (cut if cut[0] != data else cut[:1])]
    assert len(events) == 1 + len(list(form.stream(Outcome("m", answer=f"say {KEY} twice"), request)))
    for ended in (len(events), len(events) // 2 + 1):
        response = Response(200, {"content-type": "text/event-stream"}, pieces.encode(events[:ended]))
        clean = cassettes.scrubbed(cassettes.Exchange(request, response))
        assert KEY[10:] not in cassettes.line(clean)
        assert "[scrubbed]" in cassettes.line(clean)
    whole = cassettes.scrubbed(cassettes.Exchange(request, replace(response, body=pieces.encode(events))))
    assert wire.outcome(request, whole.response).answer == "say [scrubbed] twice"


def test_a_scrubbed_request_still_matches(tmp_path):
    """A request with a key in it is answered by the recording it was scrubbed from."""
    path = tmp_path / "a.jsonl"
    with playback.play(CASES), playback.record(path) as taped, taped.case("c1"):
        ask("mini", user=KEY)
    with playback.play(path) as played, played.case("c1"):
        assert text(ask("mini", user=KEY)) == "a"


# Matching.


def test_identical_calls_replay_in_order_and_then_end(tmp_path):
    """The same request gets its recordings one after the other; one more is an error that counts them."""
    path = kept(tmp_path / "a.jsonl", chat("one"), chat("two"))
    got = []
    with (
        pytest.raises(playback.Unmatched, match=r"was asked 3 times, and recorded 2 times"),
        playback.play(path) as played,
        played.case("x"),
    ):
        got.extend(text(ask()) for _ in range(3))
    assert got == ["one", "two"]


def test_a_case_gets_its_own_recordings(tmp_path):
    """Of identical requests each case is answered by what was recorded for it, in whatever order they come."""
    path = kept(tmp_path / "a.jsonl", (*chat("of a"), "a"), (*chat("of b"), "b"))
    with playback.play(path) as played:
        for name in ("b", "a"):
            with played.case(name):
                assert text(ask()) == f"of {name}"


def test_calls_cost_what_their_own_recording_says(tmp_path):
    """However threads note what they were answered, the dollars of a call are never those of another."""
    request, _ = chat(model="flagship")
    longer = Outcome("flagship", answer="yes", input_tokens=200, cached_input_tokens=0, output_tokens=10)
    path = kept(tmp_path / "a.jsonl", chat(), (request, wire.answer(wire.FORMATS[0], longer, request)))
    with playback.play(path, **TIERS, prices=PRICES) as played, played.case("c1"):
        ask()
        ask("flagship")
        asked = list(played._asked)
        there, back = (played.source.priced(order, played.judged.rules.prices) for order in (asked, asked[::-1]))
    assert [one.nano for one in there] == [one.nano for one in back[::-1]] == [120_000, 2_200_000]


def test_the_order_of_keys_does_not_matter(tmp_path):
    """Two bodies are the same when they are the same JSON."""
    path = kept(tmp_path / "a.jsonl", chat("yes", extra={"a": 1, "b": 2}))
    with playback.play(path) as played, played.case("x"):
        reply = CLIENT.post(URL, content=b'{"extra": {"b": 2, "a": 1}, "messages": [], "model": "mini"}')
    assert text(reply) == "yes"


def test_the_nearest_recording_is_shown_with_what_differs(tmp_path):
    """Of many recordings the most alike is shown, and only the lines that differ; keys are not."""
    near = chat("near", messages=[{"role": "user", "content": "Where is order 7?"}])
    path = kept(tmp_path / "a.jsonl", chat("far", messages=[{"role": "user", "content": "Thanks!"}]), near)
    asked = [{"role": "user", "content": f"Where is order 8? {KEY}"}]
    with pytest.raises(playback.Unmatched) as caught, playback.play(path) as played, played.case("x"):
        CLIENT.post(URL, json={"model": "mini", "messages": asked})
    message = str(caught.value)
    assert '-   "content": "Where is order 7?"' in message
    assert '+   "content": "Where is order 8? [scrubbed]"' in message
    assert "Thanks!" not in message
    assert KEY not in message


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v2/chat/completions")])
def test_method_and_path_matter(tmp_path, method, path):
    """The same body under another method or path is another request."""
    source = kept(tmp_path / "a.jsonl", chat())
    body = {"model": "mini", "messages": []}
    with pytest.raises(playback.Unmatched, match=f"{method} {path} is not in"), playback.play(source):
        CLIENT.request(method, f"https://models.example{path}", json=body)


def test_ignored_fields_are_left_out_on_both_sides(tmp_path):
    """A listed field may differ, be missing, or be there in one of the two only."""
    path = kept(tmp_path / "a.jsonl", chat("yes", metadata={"trace": "1"}, seed=3))
    with playback.play(path, ignore=["metadata.trace", "seed"]) as played, played.case("x"):
        assert text(ask(metadata={})) == "yes"


def test_what_differs_is_cut_off():
    """A difference of a thousand lines is shown in a few."""
    one = matching.key("POST", "/x", list(range(1000)), ())
    two = matching.key("POST", "/x", list(range(1000, 2000)), ())
    assert len(matching.difference(one, two).splitlines()) == matching.LINES + 1


def test_a_retried_failure_waits_for_nothing(tmp_path):
    """A recorded 429 is played with the shortest wait, and costs nothing: who does no work charges for none."""
    request, good = chat("yes")
    path = kept(
        tmp_path / "a.jsonl", (request, Response(429, {"content-type": "application/json"}, b"{}")), (request, good)
    )
    with playback.play(path, **TIERS, prices=PRICES) as played, played.case("x"):
        first = ask()
        assert (first.status_code, first.headers["retry-after-ms"], first.headers["retry-after"]) == (429, "1", "0")
        assert text(ask()) == "yes"
    assert [(one.status, one.cost_usd) for one in played.calls] == [("error", 0.0), ("ok", 0.00012)]
    assert played.replay.cost_per_request.value == 0.00012


def test_a_service_nobody_named_is_played_and_its_cost_unknown(tmp_path):
    """Plain HTTP is in a cassette as it was; what it cost is unknown unless an adapter says that it is free."""
    scorer = (Request("POST", "http://scorer.internal/score", {}, b'{"x":1}'), Response(200, {}, b'{"score": 0.5}'))
    path = kept(tmp_path / "a.jsonl", scorer, chat())
    free = playback.Adapter("/score", "scorer", dict, charged=False)
    for adapters, known in (([], False), ([free], True)):
        with playback.play(path, **TIERS, prices=PRICES, adapters=adapters) as played, played.case("x"):
            assert CLIENT.post("http://scorer.internal/score", json={"x": 1}).json() == {"score": 0.5}
            ask()
        assert (played.replay.cost_per_request.value is not None) is known


@pytest.mark.parametrize("form", wire.FORMATS, ids=lambda form: form.path)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_stream_is_played_whole_and_the_reverse(tmp_path, form, streamed):
    """Where `stream` is ignored, code that has begun to stream, or ceased to, gets its answer in the form it asks for."""
    url = f"https://models.example/v1{form.path}"
    body = {"model": "mini", "messages": []}
    asked = Request("POST", url, {}, json.dumps({**body, "stream": streamed}).encode())
    outcome = Outcome("mini", answer="first things first", input_tokens=3, cached_input_tokens=0, output_tokens=4)
    path = kept(tmp_path / "a.jsonl", (asked, wire.answer(form, outcome, asked)))
    again = {**body, "stream": not streamed, "stream_options": {"include_usage": True}}
    with playback.play(path, ignore=["stream", "stream_options"]) as played, played.case("x"):
        reply = CLIENT.post(url, json=again)
    assert ("event-stream" in reply.headers["content-type"]) is not streamed
    sent = Request("POST", url, {}, json.dumps(again).encode())
    found = wire.outcome(sent, Response(200, {"content-type": reply.headers["content-type"]}, reply.content))
    assert found.answer == "first things first"


def test_a_stream_of_tools_is_not_played_in_another_form(tmp_path):
    """A call of a tool would be lost where an answer is said anew, so that it is refused."""
    asked = Request("POST", URL, {}, b'{"model": "mini", "messages": []}')
    called = {"choices": [{"message": {"tool_calls": [{"id": "1"}], "content": None}}]}
    answered = Response(200, {"content-type": "application/json"}, json.dumps(called).encode())
    path = kept(tmp_path / "a.jsonl", (asked, answered))
    with (
        pytest.raises(playback.Unmatched, match="was recorded whole"),
        playback.play(path, ignore=["stream"]) as played,
        played.case("x"),
    ):
        ask(stream=True)


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 1.0}, {"temperature": 1}),
        ({"top_p": 1e2}, {"top_p": 100}),
        ({"extra": [{"x": -0.0}]}, {"extra": [{"x": 0}]}),
    ],
)
def test_a_number_is_the_same_however_it_is_written(tmp_path, recorded, asked):
    """JSON has one kind of number, and 0 and 0.0 ask for the same temperature."""
    path = kept(tmp_path / "a.jsonl", chat("yes", **recorded))
    with playback.play(path) as played, played.case("x"):
        assert text(ask(**asked)) == "yes"


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def same(one, other):
    """Compare two JSON values slowly: numbers by value, truth values by themselves."""
    if isinstance(one, bool) or isinstance(other, bool) or isinstance(one, str | None):
        return type(one) is type(other) and one == other
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return isinstance(other, int | float) and one == other


@settings(max_examples=150, deadline=None)
@given(JSONS, JSONS)
def test_equal_bodies_are_equal_texts(one, other):
    """Two bodies have one canonical text exactly where they are the same JSON."""
    assert (matching.canonical(one) == matching.canonical(other)) is same(one, other)
    assert matching.canonical(one) == matching.canonical(json.loads(json.dumps(one)))


def test_no_truth_value_is_a_number(tmp_path):
    """`true` is not 1, although Python says so; no more is a text a number."""
    path = kept(tmp_path / "a.jsonl", chat("yes", logprobs=1, user="x 1.0 e"))
    with pytest.raises(playback.Unmatched), playback.play(path) as played, played.case("x"):
        ask(logprobs=True, user="x 1.0 e")


def test_two_services_that_are_asked_the_same_are_told_apart(tmp_path):
    """Of equal bodies those recorded at the same address answer, whatever the order; a service that moved still does."""
    hosts = ("first", "second")
    path = kept(
        tmp_path / "a.jsonl",
        *[
            (Request("POST", f"http://{host}.internal/score", {}, b'{"x":1}'), Response(200, {}, host.encode()))
            for host in hosts
        ],
    )
    with playback.play(path):
        found = [CLIENT.post(f"http://{host}.internal/score", json={"x": 1}).text for host in hosts[::-1]]
    assert found == ["second", "first"]
    with playback.play(path):
        assert CLIENT.post("http://elsewhere.internal/score", json={"x": 1}).text == "first"


def test_what_is_asked_in_the_address_matters(tmp_path):
    """Without a body the query is the question; the order of its parts is none."""
    path = kept(
        tmp_path / "a.jsonl",
        *[
            (Request("GET", f"http://find.internal/s?q={word}&n=1"), Response(200, {}, word.encode()))
            for word in ("rome", "oslo")
        ],
    )
    with playback.play(path):
        found = [CLIENT.get(f"http://find.internal/s?n=1&q={word}").text for word in ("oslo", "rome")]
    assert found == ["oslo", "rome"]
    with pytest.raises(playback.Unmatched, match=r"(?s)\+GET /s\?n=1&q=paris"), playback.play(path):
        CLIENT.get("http://find.internal/s?q=paris&n=1")


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"\xff\xfe\x00 not text"},
        {"files": {"sound": ("a.wav", b"RIFF\xff\x00")}, "data": {"model": "mini"}},
        {"data": {"model": "mini", "client_secret": "hush-hush-1"}},
        {"content": gzip.compress(b'{"x": "hidden-value-1"}'), "headers": {"content-encoding": "gzip"}},
        {"content": b"\xff hidden-value-1"},
    ],
    ids=["bytes", "form with a file", "form", "compressed", "key between bytes"],
)
def test_bodies_of_any_kind_are_recorded_and_played(tmp_path, monkeypatch, options):
    """Bytes, forms whose parts are marked off anew each time, compressed bodies: found again, and without keys."""
    monkeypatch.setenv("SCORER_TOKEN", "hidden-value-1")
    path = tmp_path / "a.jsonl"
    there = [playback.Adapter("/up", "mini", lambda row: {"score": row["score"]})]
    rows = [{"case_id": "a", "models": {"mini": {"answer": "a", "score": 1}}}]
    with playback.play(rows, adapters=there), playback.record(path) as taped, taped.case("a"):
        CLIENT.post("http://scorer.internal/up", **options)
    with playback.play(path) as played, played.case("a"):
        assert CLIENT.post("http://scorer.internal/up", **options).json() == {"score": 1}
    (exchange,) = cassettes.read(path, "a.jsonl")
    for secret in (b"hidden-value-1", b"hush-hush-1"):
        assert secret not in exchange.request.body
        assert secret not in path.read_bytes()


def test_a_key_in_a_path_is_found_again(tmp_path, monkeypatch):
    """A request whose path has a key in it is answered by what was recorded without it."""
    monkeypatch.setenv("SCORER_TOKEN", "hidden-value-1")
    path = kept(tmp_path / "a.jsonl", (Request("GET", "http://s.internal/[scrubbed]/x"), Response(200, {}, b"yes")))
    with playback.play(path):
        assert CLIENT.get("http://s.internal/hidden-value-1/x").text == "yes"


def test_accents_that_look_the_same_are_written_out(tmp_path):
    """Two prompts that are printed alike and are not the same differ visibly in what is shown."""
    path = kept(tmp_path / "a.jsonl", chat("yes", user="caf\u00e9"))
    with pytest.raises(playback.Unmatched) as caught, playback.play(path) as played, played.case("x"):
        ask(user="cafe\u0301")
    assert '- "user": "caf\\u00e9"' in str(caught.value)
    assert '+ "user": "cafe\\u0301"' in str(caught.value)


def test_a_long_line_is_cut_to_where_it_differs():
    """Of two prompts of many pages the place at which they part is shown."""
    one, two = (
        matching.key("POST", "/x", {"q": "lorem " * 9000 + end + "ipsum " * 9000}, ()) for end in ("one", "two")
    )
    shown = matching.difference(one, two)
    assert "lorem one" in shown
    assert "lorem two" in shown
    assert max(map(len, shown.splitlines())) <= matching.WIDE + 3


# Edited by hand.

HEAD = json.dumps({"cassette": cassettes.SCHEMA}) + "\n"
LINE = cassettes.line(cassettes.Exchange(*chat())) + "\n"


@pytest.mark.parametrize(
    "written",
    [
        "\ufeff" + HEAD + LINE,
        "\n" + HEAD + "\n" + LINE,
        HEAD.replace("{", "{ ") + LINE,
        (HEAD + LINE).replace("\n", "\r\n"),
        HEAD + LINE + HEAD + LINE,
        HEAD + LINE.replace('"POST"', '"post"'),
    ],
    ids=["byte order mark", "empty lines", "a space", "windows", "two put together", "small letters"],
)
def test_a_cassette_edited_by_hand_is_played(tmp_path, written):
    """What editors and merges do to a file without changing what it says changes nothing."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(written.encode())
    assert cassettes.is_cassette(path)
    with playback.play(path) as played, played.case("x"):
        assert text(ask()) == "yes"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (f"<<<<<<< HEAD\n{HEAD}{LINE}=======\n{HEAD}{LINE}>>>>>>> other\n", "a.jsonl:1: a merge was not resolved here"),
        (f"{HEAD}<<<<<<< HEAD\n{LINE}=======\n{LINE}>>>>>>> other\n", "a.jsonl:4: a merge was not resolved here"),
        (HEAD + LINE.replace('"json"', '"jsn"'), "a.jsonl:2: unknown key 'response.jsn'. Did you mean 'json'"),
        (HEAD + LINE.replace('"body"', '"bdy"'), "a.jsonl:2: unknown key 'request.bdy'. Did you mean 'body'"),
        (HEAD + LINE.replace("https://models.example", "models.example"), "'url' is an address such as"),
        (HEAD + LINE.replace("https://models.example", "http://[x"), "a.jsonl:2: Invalid IPv6 URL"),
        (HEAD + LINE.replace('"status": 200', '"status": true'), "a number from 100 to 599, not True"),
        (HEAD + LINE[:-3] + ', "latency_s": true}\n', "a.jsonl:2: not JSON"),
        (HEAD + LINE[:-2] + ', "latency_s": true}\n', "'latency_s' is seconds, not True"),
        (HEAD + LINE.replace("yes", "\udcff"), "a.jsonl:2: not UTF-8: byte 0xff"),
        (HEAD + LINE.replace("yes", '"' + "[" * 100_000), "a.jsonl:2: not"),
        (HEAD + '{"request": ' + "[" * 100_000 + "\n", "a.jsonl:2: nested too deep"),
    ],
)
def test_a_cassette_edited_wrongly_says_where(tmp_path, monkeypatch, written, message):
    """Line and reason are said, never a stack of the parser; a broken text is not mended in silence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(written.encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.DataError) as caught, playback.play("a.jsonl"):
        pytest.fail("nothing may run")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("a" * 200, "b" * 200, "a" * 200),
        ("a" * 201, "b" * 201, "a" * 200 + "…"),
        ("a" * 300 + "b" * 300, "a" * 300 + "c" * 300, "…" + "a" * 50 + "b" * 150 + "…"),
        ("a" * 300 + "b" * 150, "a" * 300 + "c" * 150, "…" + "a" * 50 + "b" * 150),
        ("a" * 300 + "b", "a" * 300 + "c", "…" + "a" * 199 + "b"),
        ("a" * 49 + "b" * 300, "a" * 49 + "c" * 300, "a" * 49 + "b" * 151 + "…"),
    ],
)
def test_a_long_line_is_shown_from_a_little_before_it_differs(one, other, shown):
    """Two hundred characters of a line, with a mark where more was cut away; a line of so many is shown whole."""
    assert matching._cropped([f"-{one}", f"+{other}"])[0] == f"-{shown}"


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        (["a"], {"b": [{"c": 1}, {"c": 2, "d": 3}, "c"], "e": {"f": 4}}),
        (["e", "f"], {"a": 0, "b": [{"c": 1}, {"c": 2, "d": 3}, "c"], "e": {}}),
        (["b", "*", "c"], {"a": 0, "b": [{}, {"d": 3}, "c"], "e": {"f": 4}}),
        (["b", "*"], {"a": 0, "b": [{"c": 1}, {"c": 2, "d": 3}, "c"], "e": {"f": 4}}),
        *((path, None) for path in (["z"], ["a", "z"], ["b", "c"], ["e", "*"], ["e", "f", "g"], ["z", "f"])),
    ],
)
def test_what_is_left_of_a_body_without_a_field(ignored, left):
    """A path takes out the field at its end, of every item where it says so; where there is none nothing changes."""
    body = {"a": 0, "b": [{"c": 1}, {"c": 2, "d": 3}, "c"], "e": {"f": 4}}
    assert matching._without(body, ignored) == (body if left is None else left)
