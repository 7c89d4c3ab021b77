"""Calls into cases: against a slow reading, whatever the order of lines; damaged records; memory."""

from __future__ import annotations

import io
import json
import random

import made_logs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import traffic
from cascade_eval.errors import DataError
from cascade_eval.importers import buckets, calls, grouping, lines
from cascade_eval.importers.calls import Aside, Call

CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "trace": st.integers(1, 3),
            "model": st.sampled_from(made_logs.MODELS),
            "prompt": st.sampled_from([None, "a?", "b?"]),
            "status": st.sampled_from(["ok", "ok", "error", "timeout"]),
            "answer": st.sampled_from(["x", "y"]),
            "tokens": st.sampled_from([None, 3, 5]),
        }
    ),
    min_size=1,
    max_size=10,
)


def numbered(made):
    """Give calls an order in time; a failed one has no answer."""
    return [
        {**call, "number": number, "answer": call["answer"] if call["status"] == "ok" else None}
        for number, call in enumerate(made)
    ]


def spans(made):
    return [made_logs.span(**call) for call in made]


@settings(max_examples=40, deadline=None)
@given(made=CALLS, chance=st.randoms(use_true_random=False))
def test_rows_are_those_of_a_slow_reading_in_any_order_of_lines(tmp_path_factory, made, chance):
    """Retries, repeats and steps come out as a plain loop finds them, however lines are shuffled and grouped."""
    folder = tmp_path_factory.mktemp("log")
    made = numbered(made)
    expected = {
        key: {name: value for name, value in row.items() if value is not None}
        for key, row in made_logs.slow_rows(made).items()
    }
    tables = []
    for attempt in range(2):
        shuffled = spans(made)
        chance.shuffle(shuffled)
        cut = chance.randrange(len(shuffled) + 1)
        written = [made_logs.line(*shuffled[:cut]), *map(made_logs.line, shuffled[cut:])]
        log = made_logs.write(folder / f"{attempt}.jsonl", written)
        found = made_logs.read(log, folder / f"out{attempt}")
        assert made_logs.accounted(found.report)
        assert found.report.merged == len(made) - len(expected)
        tables.append(made_logs.rows(found.folder))
    assert tables[0] == tables[1]
    names = ("status", "answer", "input_tokens", "latency_s")
    rows = {
        (row["case_id"], row["model"], row["run"]): {name: row[name] for name in names if name in row}
        for row in tables[0]
    }
    assert rows == expected
    assert traffic.open(folder / "out0").cases == len({call["trace"] for call in made})


def test_a_record_delivered_twice_counts_once(tmp_path):
    """The same span again is no repeat and no retry; the same id with another answer is set aside, both times."""
    one = made_logs.span(1, 1, prompt="a?", answer="x", tokens=5)
    other = made_logs.span(1, 1, prompt="a?", answer="y", tokens=5)
    kept = made_logs.span(2, 2, prompt="a?", answer="x")
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, [one, kept, one]))
    report = made_logs.read(log, tmp_path / "out").report
    assert (report.calls, report.repeated, report.rows, report.bad) == (2, 1, 2, 0)
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, [one, kept, other]))
    report = made_logs.read(log, tmp_path / "out").report
    [reason] = report.set_aside
    assert (reason.reason, reason.records, report.cases) == ("records with one id say different things", 2, 1)
    assert made_logs.accounted(report)


@pytest.mark.parametrize(("hit", "runs", "twice"), [(True, [0], 1), (False, [0, 1], 0)])
def test_what_a_cache_repeats_is_no_second_answer(tmp_path, hit, runs, twice):
    """A gateway's cache agrees with the model always: its answer is no repeat by which the flagship's noise is measured."""
    first = {"id": "a", "trace_id": "t", "call_type": "completion", "model": "gpt-4.1", "startTime": 1783328400.0}
    first |= {"messages": [{"role": "user", "content": "Where is my money?"}], "response": "yes", "cache_hit": False}
    again = {**first, "id": "b", "startTime": 1783328401.0, "cache_hit": hit}
    log = made_logs.write(tmp_path / "log.jsonl", map(json.dumps, [first, again]))
    found = made_logs.read(log, tmp_path / "out", kind="litellm")
    assert [row["run"] for row in made_logs.rows(found.folder)] == runs
    assert found.report.repeated == twice
    assert made_logs.accounted(found.report)


def test_a_call_seen_by_two_instrumentations_counts_once(tmp_path):
    """A framework's span around the client's span of the same model is left out; of another model it is a call."""
    outer = made_logs.span(1, 1, answer="x", tokens=5)
    inner = {**made_logs.span(1, 2, answer="x", tokens=5), "parentSpanId": outer["spanId"]}
    different = {**made_logs.span(1, 3, made_logs.MODELS[1], answer="x"), "parentSpanId": outer["spanId"]}
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, [outer, inner, different]))
    report = made_logs.read(log, tmp_path / "out").report
    assert (report.repeated, report.calls, report.rows, report.merged) == (1, 2, 2, 0)


def test_columns_that_contradict_each_other_set_the_case_aside(tmp_path):
    """Text of a case that differs between its records is refused; a number of each call is a signal of that call."""
    spans = [
        made_logs.span(1, 1, made_logs.MODELS[0], attributes={"lang": "en", "margin": 3}),
        made_logs.span(1, 2, made_logs.MODELS[1], attributes={"lang": "en", "margin": 4}),
        made_logs.span(2, 3, made_logs.MODELS[0], attributes={"lang": "en"}),
        made_logs.span(2, 4, made_logs.MODELS[1], attributes={"lang": "pt"}),
    ]
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, spans))
    found = made_logs.read(log, tmp_path / "out", columns={"language": "lang", "margin": "margin"})
    [reason] = found.report.set_aside
    assert (reason.reason, reason.records) == ("language differs between the records of one case", 2)
    assert [row["margin"] for row in made_logs.rows(found.folder)] == [4, 3]
    assert made_logs.accounted(found.report)


def test_several_prompts_of_one_provider_are_refused_until_the_map_names_one(tmp_path):
    """Promptfoo's matrix of prompts is no repeat: the map must say which prompt is which tier."""
    result = {"provider": {"id": "p"}, "vars": {"q": 1}, "response": {"output": "x"}, "failureReason": 0}
    results = [{**result, "promptIdx": n, "promptId": f"p{n}", "prompt": {"raw": f"{n}"}} for n in (0, 1)]
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"results": {"results": results}}))
    with pytest.raises(DataError, match="several prompts of one case went to one model; name one of them"):
        made_logs.read(log, tmp_path / "out", "promptfoo")
    models = {"mini": {"promptIdx": "0"}, "flagship": {"promptIdx": "1"}}
    report = made_logs.read(log, tmp_path / "out", "promptfoo", models=models).report
    assert dict(report.models) == {"mini": 1, "flagship": 1}


def NAME(call):  # noqa: N802  what stands for a map
    return call.names[0] if call.names else None


def test_batches_join_results_to_the_requests_of_their_model():
    """Dated names find their request, a failure takes the request that is left, and nobody's is set aside."""
    asked = [Call(case="c", names=(m,), join="c", part=True, input=m) for m in ("gpt-4.1", "gpt-4.1-nano", "o3")]
    answered = [
        Call(case="c", names=("gpt-4.1-nano-2025-04-14",), join="c", id="1", answer="x"),
        Call(case="c", join="c", id="2", status="error"),
    ]
    for first in ([*asked[:2], *answered], [*answered[::-1], *asked[1::-1]]):
        made = grouping.case(first, NAME, lambda _, problem: pytest.fail(str(problem)))
        assert {row["model"]: row["status"] for row in made.rows} == {"gpt-4.1-nano": "ok", "gpt-4.1": "error"}
        assert made.joined == 2
    aside = []
    grouping.case([*asked, answered[1]], NAME, lambda _, problem: aside.append(problem.reason))
    assert sorted(aside) == ["a request without a result"] * 3 + ["no model"]


# --- damaged records -----------------------------------------------------------------------------------------------

GOOD = made_logs.span(1, 1, prompt="a?", answer="x", tokens=5)


def broken(**attributes):
    return made_logs.line({**made_logs.span(2, 2), "attributes": [
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        *({"key": key.replace("__", "."), "value": value} for key, value in attributes.items()),
    ]})  # fmt: skip


DAMAGED = {
    "truncated": ('{"resourceSpans": [{"scopeSpans": [{"sp', "the line is not JSON"),
    "not UTF-8 in a string": ('{"resourceSpans": "\udcff"}', "the line is not JSON"),
    "NaN": ('{"resourceSpans": NaN}', "the line is not JSON"),
    "a list": ("[1]", "the line is not an object"),
    "another log": ('{"spans": []}', "not OTLP JSON"),
    "deep": ("[" * 100_000 + "]" * 100_000, "the line is not JSON"),
    "negative tokens": (broken(gen_ai__usage__input_tokens={"intValue": "-5"}), "gen_ai.usage.input_tokens is not a whole"),
    "huge tokens": (broken(gen_ai__usage__input_tokens={"intValue": "9" * 30}), "gen_ai.usage.input_tokens is not a whole"),
    "tokens as text": (broken(gen_ai__usage__output_tokens={"stringValue": "many"}), "gen_ai.usage.output_tokens is not"),
    "half a token": (broken(gen_ai__usage__output_tokens={"doubleValue": 1.5}), "gen_ai.usage.output_tokens is not a whole"),
    "infinite cost": (broken(gen_ai__usage__cost={"doubleValue": "Infinity"}), "gen_ai.usage.cost is not between"),
    "NaN cost": (broken(gen_ai__usage__cost={"doubleValue": "NaN"}), "gen_ai.usage.cost is not between"),
    "a model that is no text": (broken(gen_ai__response__model={"boolValue": True}), "the model is not a short line"),
    "answers of no list": (broken(gen_ai__output__messages={"stringValue": "hm"}), "is not a list of messages"),
    "no trace": (made_logs.line({**GOOD, "traceId": ""}), "no trace id"),
    "a trace of zeros": (made_logs.line({**GOOD, "traceId": "0" * 32}), "no trace id"),
    "an id with a line break": (made_logs.line({**GOOD, "traceId": "a\nb"}), "traceId is not a short line"),
    "ends before it starts": (made_logs.line({**GOOD, "spanId": "9", "endTimeUnixNano": "1"}), "ends before it starts"),
    "a time far away": (made_logs.line({**GOOD, "startTimeUnixNano": "9" * 25}), "startTimeUnixNano is not a time"),
    "no model": (made_logs.line({**GOOD, "attributes": [made_logs.attribute("gen_ai.operation.name", "chat")]}), "no model"),
    "attributes of no list": (made_logs.line({**GOOD, "attributes": 5}), "a span of wrong types"),
    "a span that is a number": (made_logs.line(5), "a span of wrong types"),
    "spans of no list": ('{"resourceSpans": [{"scopeSpans": [{"spans": 3}]}]}', "spans is not a list"),
    "a huge whole number": (made_logs.line({**GOOD, "endTimeUnixNano": 7}).replace(" 7", " " + "7" * 4400), "the line is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_records_are_set_aside_with_their_line(tmp_path, name):
    """One bad line between good ones is set aside with file, line and reason, and takes nothing with it."""
    line, reason = DAMAGED[name]
    other = made_logs.span(3, 3, answer="y")
    log = tmp_path / "log.jsonl"
    text = "\n".join([made_logs.line(GOOD), line, made_logs.line(other)])
    log.write_bytes(text.encode("utf-8", "surrogateescape"))
    report = made_logs.read(log, tmp_path / "out").report
    assert (report.records, report.cases, report.bad) == (3, 2, 1)
    [found] = report.set_aside
    assert reason in found.reason
    assert (found.first[0].file, found.first[0].line) == (str(log), 2)
    assert len(str(found.first[0])) < len(str(log)) + 400
    assert made_logs.accounted(report)


def test_a_bad_span_takes_no_neighbour_of_its_export_with_it(tmp_path):
    """Of three spans of one line the one with wrong types is set aside and the others are read."""
    log = made_logs.write(tmp_path / "log.jsonl", [made_logs.line(GOOD, {"traceId": 7}, made_logs.span(2, 2))])
    report = made_logs.read(log, tmp_path / "out").report
    assert (report.records, report.calls, report.bad) == (3, 2, 1)


@pytest.mark.parametrize(
    ("kind", "record", "reason"),
    [
        ("litellm", {"hello": 1}, "neither a standard logging payload nor a spend log"),
        (
            "litellm",
            {"trace_id": "t", "model": "m", "startTime": "yesterday"},
            "startTime is neither an ISO 8601 time nor seconds since 1970 as a number",
        ),
        ("litellm", {"trace_id": "t", "model": "m", "status": "maybe"}, "status is neither success nor failure"),
        ("litellm", {"trace_id": "t", "model": "m", "response_cost": -1}, "cost is not between 0 and 1,000,000"),
        ("litellm", {"trace_id": "t", "model": "m", "prompt_tokens": True}, "prompt_tokens is not a whole number"),
        ("litellm", {"trace_id": "t", "model": "m", "response": {"choices": 3}}, "choices is not a list"),
        ("langfuse", {"type": "GENERATION", "traceId": "t"}, "no model"),
        ("langfuse", {"type": "GENERATION", "model": "m"}, "no trace id"),
        (
            "langfuse",
            {"type": "GENERATION", "traceId": "t", "model": "m", "usage": {"input": "x"}},
            "usage.input is not",
        ),
        ("langfuse", {"observations": [4]}, "neither a type nor a trace"),
        ("openai_batch", {"body": {}}, "no custom_id"),
        ("openai_batch", {"custom_id": "c"}, "neither a request nor a result"),
        ("openai_batch", {"custom_id": "c", "response": 7}, "response is not an object"),
        ("openai_batch", {"custom_id": "c", "body": {"model": "m"}}, "a request without a result"),
        ("anthropic_batch", {"custom_id": "c", "result": {"type": "odd"}}, "result.type is none of"),
        ("anthropic_batch", {"custom_id": "c", "params": {}}, "no model"),
        ("promptfoo", {"provider": "p", "vars": {}}, "no vars id"),
        ("promptfoo", {"provider": "p", "vars": {"a": 1}, "latencyMs": -1}, "latencyMs is not between"),
        ("decisions", {"request_id": "r", "confidence": 0.5}, "escalated is missing"),
        ("decisions", {"request_id": "r", "escalated": "perhaps"}, "escalated is not true or false"),
        ("decisions", {"request_id": "r", "escalated": True, "confidence": "high"}, "confidence is not a number"),
        (
            "decisions",
            {"request_id": "r", "escalated": True, "decided_at": "2026-07-06"},
            "decided_at has no time zone",
        ),
        ("decisions", {"escalated": True}, "no request id"),
    ],
)
def test_each_kind_names_what_is_wrong_with_a_record(tmp_path, kind, record, reason):
    """A log of nothing but one bad record is an error that names its line and reason: never an empty success."""
    log = made_logs.write(tmp_path / "log.jsonl", [json.dumps(record)])
    with pytest.raises(
        DataError, match=r"log\.jsonl:1: (.|\n)*no call to a model could be used, of 1 records"
    ) as caught:
        made_logs.read(log, tmp_path / "out", kind)
    assert reason in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b'{"resourceSpans": [{"scope', "not one JSON document"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00rubbish", "cannot be read to its end"),
        ("a.parquet", b"PAR1", "cannot be read to its end"),
        ("a.csv", b'a,b\n"1,2', "not readable as CSV"),
        ("a.txt", b"x", "no file of a log"),
    ],
)
def test_a_file_that_ends_too_early_is_never_tolerated(tmp_path, name, data, message):
    """Nobody knows how much of it is missing, so it is an error and no count."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        made_logs.read(tmp_path / name, tmp_path / "out")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["traceId", "model", "type", "body", "response", "custom_id", "usage", "vars", "provider", "result",
                         "escalated", "messages", "choices", "input", "output", "trace_id", "results", "metadata"]),
                        inner, max_size=5), max_leaves=12),
       st.sampled_from(["otel", "openinference", "litellm", "langfuse", "openai_batch", "anthropic_batch", "promptfoo",
                        "decisions"]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whatever_stands_in_a_log_is_read_or_set_aside(value, kind):
    """No value of any shape makes an importer fail in any other way than setting a record aside."""
    from cascade_eval.importers import catalogue

    importer = catalogue.find(kind)
    try:
        for record in importer.records(value):
            if not isinstance(record, Aside):
                found, view = importer.read(record)
                assert all(isinstance(call, Call) for call in found)
                assert isinstance(view, dict)
                assert all(
                    msgspec.msgpack.decode(msgspec.msgpack.encode(call), type=Call).case == call.case for call in found
                )
    except Aside:
        return


# --- memory --------------------------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_set_aside_and_the_next_is_read():
    """A line beyond the limit is skipped to its end, and counted as the one line it is."""
    stream = io.BytesIO(b'{"a": 1}\n' + b"x" * 100 + b'\n{"b": 2}\n')
    found = list(lines._lines(stream, 1, json.loads, longest=20))
    assert [number for number, _ in found] == [1, 2, 3]
    assert "longer than 20 bytes" in found[1][1].reason
    assert found[2][1] == {"b": 2}


def test_buckets_give_the_same_cases_however_often_they_are_divided(tmp_path):
    """A tiny limit divides every bucket again and again, and each case still comes once, whole and in the same order."""
    made = [Call(case=f"case-{number % 700}", id=str(number)) for number in range(2000)]
    seen = []
    for limit in (1 << 30, 200):
        folder = tmp_path / str(limit)
        folder.mkdir()
        kept = buckets.Buckets(folder, largest=limit)
        shuffled = random.Random(limit).sample(made, len(made))
        for call in shuffled:
            kept.add(call)
        seen.append([(case, sorted(call.id for call in found), more) for case, found, more in kept.cases()])
        assert not list(folder.iterdir())
    assert {case: ids for case, ids, _ in seen[0]} == {case: ids for case, ids, _ in seen[1]}
    assert len(seen[0]) == len(seen[1]) == 700


def test_every_division_divides_further():
    """Cases that share a bucket are spread over buckets of their own at the next depth."""
    together = [case for case in map(str, range(20_000)) if buckets._bits(case, 0) == 5]
    for depth in range(1, buckets.DEEPEST + 1):
        assert len({buckets._bits(case, depth) for case in together}) > 50


def test_a_case_without_end_is_cut_off(tmp_path):
    """A case id that every record shares does not fill the memory: calls beyond the limit are counted only."""
    kept = buckets.Buckets(tmp_path, most=10)
    for number in range(25):
        kept.add(Call(case="all", id=str(number)))
    [(case, found, more)] = list(kept.cases())
    assert (case, len(found), more) == ("all", 10, 15)


@given(st.integers() | st.floats() | st.text(max_size=12) | st.none() | st.booleans())
def test_tokens_are_whole_numbers_or_a_reason(value):
    """What comes back is a whole number in range or nothing; everything else is a reason."""
    try:
        found = calls.tokens(value, "tokens")
    except Aside:
        return
    assert found is None or (isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= calls.MOST_TOKENS)
