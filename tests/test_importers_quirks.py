"""Logs as other programs really write them: JSON of Protocol Buffers, events, spans around calls, names with a date."""

from __future__ import annotations

import base64
import itertools
import json

import made_logs
import pytest

from cascade_eval import cli, importers, traffic
from cascade_eval.errors import DataError
from cascade_eval.importers import choices

GPT = {"mini": "gpt-4.1-nano", "flagship": "gpt-4.1"}
NANO, LARGE = made_logs.MODELS


def imported(tmp_path, lines, kind="otel", **said):
    """Return the rows and the report of lines."""
    found = made_logs.read(made_logs.write(tmp_path / "log.jsonl", lines), tmp_path / "out", kind, **said)
    assert made_logs.accounted(found.report)
    return made_logs.rows(found.folder), found.report


def say(*texts, role="assistant"):
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]} for text in texts])


# --- what JSON of Protocol Buffers may look like -------------------------------------------------------------------


def as_base64(span):
    return {
        **span,
        **{key: base64.b64encode(bytes.fromhex(span[key])).decode() for key in ("traceId", "spanId")},
    }


def with_nulls(span):
    return {**span, "parentSpanId": None, "events": None, "status": None, "name": None}


def with_numbers(span):
    found = {
        **span,
        "startTimeUnixNano": int(span["startTimeUnixNano"]),
        "endTimeUnixNano": int(span["endTimeUnixNano"]),
    }
    found["attributes"] = [
        {"key": each["key"], "value": {kind: int(value) if kind == "intValue" else value}}
        for each in span["attributes"]
        for kind, value in each["value"].items()
    ]
    return found


def in_capitals(span):
    return {**span, "traceId": span["traceId"].upper(), "spanId": span["spanId"].upper()}


@pytest.mark.parametrize("written", [as_base64, with_nulls, with_numbers, in_capitals])
def test_spans_mean_the_same_however_they_are_encoded(tmp_path, written):
    """Ids in base64 or capitals, nulls for what is absent, and whole numbers as numbers give the rows of plain OTLP."""
    plain = [
        made_logs.span(0xABC, 0xD, prompt="a?", answer="x", tokens=5),
        made_logs.span(0xABC, 0xE, LARGE, answer="y"),
    ]
    (tmp_path / "plain").mkdir()
    expected, _ = imported(tmp_path / "plain", map(made_logs.line, plain))
    assert len(expected) == 2
    found, report = imported(tmp_path, [made_logs.line(written(plain[0])), made_logs.line(plain[1])])
    assert (found, report.bad, report.cases) == (expected, 0, 1)


def test_a_trace_of_zeros_is_none_in_base64_either(tmp_path):
    """Spans without a trace are set aside and never become one large case."""
    spans = [as_base64(made_logs.span(0, n)) for n in range(2)]
    _, report = imported(tmp_path, map(made_logs.line, [*spans, made_logs.span(5, 5)]))
    assert [(each.reason, each.records) for each in report.set_aside] == [("no trace id", 2)]


def test_a_collector_writes_metrics_into_the_same_file(tmp_path):
    """Exports of metrics count as records without a call; a group without spans is set aside, not passed over."""
    lines = [
        made_logs.line(made_logs.span(1, 1)),
        '{"resourceMetrics": [{"scopeMetrics": []}]}',
        '{"resourceSpans": [{}]}',
    ]
    _, report = imported(tmp_path, lines)
    assert (report.records, report.calls, report.other, report.bad) == (3, 1, 1, 1)
    assert report.set_aside[0].reason == "resourceSpans without scopeSpans"


def test_several_exports_in_one_line_are_all_read(tmp_path):
    """Groups of spans of several services in one line are one log; attributes of every kind are columns."""
    one, two = made_logs.span(1, 1), made_logs.span(1, 2, LARGE)
    one["attributes"] += [
        {"key": "app.tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 2}]}}},
        {"key": "app.user", "value": {"kvlistValue": {"values": [{"key": "tier", "value": {"boolValue": True}}]}}},
        {"key": "app.blob", "value": {"bytesValue": "AAEC"}},
        {"key": "app.nothing", "value": {"arrayValue": {}}},
    ]
    groups = [json.loads(made_logs.line(each))["resourceSpans"][0] for each in (one, two)]
    columns = {"tags": "app.tags", "paying": "app.user.tier", "none": "app.nothing"}
    rows, report = imported(tmp_path, [json.dumps({"resourceSpans": groups})], columns=columns)
    assert (report.records, report.calls, report.bad) == (2, 2, 0)
    assert (rows[0]["tags"], rows[0]["paying"], rows[0]["none"]) == ('["a",2]', True, "[]")


# --- operations and events -----------------------------------------------------------------------------------------


def operation(name, **more):
    attributes = {"gen_ai.operation.name": name, **more.pop("attributes", {})}
    return made_logs.line(made_logs.span(1, 7, attributes=attributes, **more))


@pytest.mark.parametrize(
    ("attributes", "other", "aside"),
    [
        ({"gen_ai.operation.name": "embeddings"}, 1, 0),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.output_tokens": 9}, 1, 0),
        ({"gen_ai.operation.name": "execute_tool"}, 1, 0),
        ({"gen_ai.operation.name": "", "llm.request.type": "embedding"}, 1, 0),
        ({"gen_ai.operation.name": "responses"}, 1, 0),
        ({"gen_ai.operation.name": "responses", "gen_ai.usage.output_tokens": 9}, 0, 1),
    ],
)
def test_operations_around_calls_are_none_and_unknown_ones_with_tokens_are_said(tmp_path, attributes, other, aside):
    """Agents, tools and embeddings are no calls; what wrote tokens under a name nobody knows is set aside, not left out."""
    lines = [made_logs.line(made_logs.span(1, 1)), made_logs.line(made_logs.span(1, 7, attributes=attributes))]
    _, report = imported(tmp_path, lines)
    assert (report.calls, report.other, report.bad) == (1, other, aside)


def record(number, name, body, trace=1, span=2):
    """Make a log record of an event up to v1.36."""

    def value(each):
        if isinstance(each, dict):
            return {"kvlistValue": {"values": [{"key": key, "value": value(inner)} for key, inner in each.items()]}}
        return {"intValue": each} if isinstance(each, int) else {"stringValue": each}

    made = {"traceId": f"{trace:032x}", "spanId": f"{span:016x}", "eventName": name, "body": value(body)}
    made["timeUnixNano"] = str(made_logs.START + number)
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [made]}]}]})


def test_choices_of_a_call_told_by_events_are_its_samples(tmp_path):
    """Of several choices the first is the answer, whatever order they came in, and an event delivered twice counts once."""
    choices_ = [
        record(9 - n, "gen_ai.choice", {"index": n, "message": {"content": text}}) for n, text in enumerate("xyz")
    ]
    asked = record(5, "gen_ai.user.message", {"content": "Where?"})
    lines = [*choices_[::-1], asked, made_logs.line(made_logs.span(1, 1)), choices_[1]]
    [row], report = imported(tmp_path, lines)
    assert (row["answer"], row["samples"], row["input"]) == ("x", ["x", "y", "z"], "Where?")
    assert (report.joined, report.repeated, report.bad) == (4, 1, 0)


def test_a_refusal_is_read_from_the_event_of_a_choice(tmp_path):
    """A span whose choice ended by the content filter was refused, though the span itself does not say so."""
    span = made_logs.span(1, 1)
    attributes = [
        made_logs.attribute("finish_reason", "content_filter"),
        made_logs.attribute("message", '{"content": "no"}'),
    ]
    [row], _ = imported(
        tmp_path, [made_logs.line({**span, "events": [{"name": "gen_ai.choice", "attributes": attributes}]})]
    )
    assert (row["status"], row["answer"]) == ("refused", "no")


def test_details_of_a_call_may_come_as_an_event(tmp_path):
    """`gen_ai.client.inference.operation.details` completes its span with prompt, instructions and answer."""
    found = {"gen_ai.input.messages": say("Where?", role="user"), "gen_ai.output.messages": say("refund")}
    made = json.loads(record(3, "gen_ai.client.inference.operation.details", {}))
    made["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["attributes"] = [
        made_logs.attribute(key, value) for key, value in found.items()
    ]
    [row], report = imported(tmp_path, [json.dumps(made), made_logs.line(made_logs.span(1, 1))])
    assert (row["answer"], row["input"], report.joined) == ("refund", "Where?", 1)


@pytest.mark.parametrize(("second", "runs"), [("Sort it.", [0, 1]), ("Check the answer.", [0])])
def test_instructions_beside_the_messages_tell_prompts_apart(tmp_path, second, runs):
    """The same question under other instructions is a further step, and under the same ones a repeat."""
    spans = [
        made_logs.span(1, n, prompt="a?", answer="x", attributes={"gen_ai.system_instructions": say(text)})
        for n, text in enumerate(["Sort it.", second])
    ]
    rows, _ = imported(tmp_path, map(made_logs.line, spans))
    assert [row["run"] for row in rows] == runs


# --- folders -------------------------------------------------------------------------------------------------------

LOST = (
    "x.jsonl.1",
    "x.parquet.tmp",
    "x.csv.bz2",
    "y.parquet.gz",
    "part-00000",
    "x.tsv",
    "cases.json",
    "x.jsonl.txt",
    "x.db",
)
BESIDE = ("README", "LICENSE", "notes.md", "golden.yaml", "make.py", "_SUCCESS", ".x.jsonl.swp", "x.jsonl.sha256",
          "import.json", "rows.schema.json", "report.html", "_old/x.jsonl.1")  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_a_folder_of_traffic_names_what_it_would_not_read(tmp_path, name):
    """Rotated, unfinished, otherwise packed or foreign files are an error with their name and what is read."""
    (tmp_path / "x.jsonl").write_text('{"case_id": "a", "mini.answer": "x"}\n')
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match=rf"{name}: is not read, and would be left out\. Readable: \.parquet, \.jsonl"):
        traffic.open(tmp_path, cache=False)


def test_what_describes_the_data_may_lie_beside_it(tmp_path):
    """Documents, checksums, hidden files and the like are no traffic, and no error."""
    (tmp_path / "x.jsonl").write_text('{"case_id": "a", "mini.answer": "x"}\n')
    (tmp_path / "_old").mkdir()
    for name in BESIDE:
        (tmp_path / name).write_bytes(b"?")
    assert traffic.open(tmp_path, cache=False).cases == 1


def test_calls_without_id_of_one_moment_are_ordered_by_what_they_say(tmp_path):
    """Where neither time nor id decides, the order of lines does not either: any order gives the same rows."""
    spans = [{**made_logs.span(1, 1, answer=text), "spanId": ""} for text in "xyz"]
    rows = []
    for number, order in enumerate(itertools.permutations(spans)):
        (tmp_path / str(number)).mkdir()
        rows.append(imported(tmp_path / str(number), map(made_logs.line, order))[0])
    assert len(rows[0]) == 1
    assert all(found == rows[0] for found in rows)


# --- names ---------------------------------------------------------------------------------------------------------


def test_a_name_with_a_provider_or_a_date_is_recognised_in_messages(tmp_path, capsys):
    """A recorded name that differs by provider and date only is the one that is proposed, and not a nearer other model."""
    recorded = ["gpt-4.1-nano", "openai/gpt-4.1-2025-04-14"]
    lines = [made_logs.line(made_logs.span(1, n, name)) for n, name in enumerate(recorded)]
    log = made_logs.write(tmp_path / "log.jsonl", lines)
    with pytest.raises(DataError, match=r"names 'gpt-4\.1'\. Did you mean 'openai/gpt-4\.1-2025-04-14'\?"):
        made_logs.read(log, tmp_path / "out", models=GPT)
    made_logs.write(log, [*lines, made_logs.line(made_logs.span(2, 5, "gpt-4.1"))])
    opened = importers.open("otel", log, models=GPT, cache=False)
    assert opened.notes[0].endswith("in no cost. 'openai/gpt-4.1-2025-04-14' may be 'flagship'")
    said = [f"--model={label}={name}" for label, name in GPT.items()]
    assert cli.run(["import", "otel", str(log), "-o", str(tmp_path / "out"), *said]) == 0
    assert "which the map does not name; may be 'flagship'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("azure/eu/gpt-4.1-2025-04-14", "gpt-4.1"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("mistral-small-latest", "mistral-small"),
    ],
)
def test_a_bare_name_has_no_provider_and_no_date(name, bare):
    """Sizes and versions stay: they are other models."""
    assert choices.bare(name) == bare


def test_a_column_named_input_may_be_a_number_where_texts_are_recorded_too(tmp_path):
    """A user's own `input` beside recorded questions makes a column of text, and no failure while it is written."""
    spans = [made_logs.span(1, 1, attributes={"app.number": 7}), made_logs.span(2, 2, prompt="Where?")]
    rows, _ = imported(tmp_path, map(made_logs.line, spans), columns={"input": "app.number", "attempts": "app.number"})
    assert sorted(row["input"] for row in rows) == ["7", "Where?"]


def test_a_column_of_the_request_says_that_a_cache_answered(tmp_path):
    """`cached` on the span around the calls reaches their rows as any column does."""
    outer = made_logs.span(1, 1, attributes={"gen_ai.operation.name": "invoke_agent", "app.hit": "yes"})
    rows, _ = imported(tmp_path, map(made_logs.line, [outer, made_logs.span(1, 2)]), columns={"cached": "app.hit"})
    assert [row["cached"] for row in rows] == ["yes"]


# --- other logs ----------------------------------------------------------------------------------------------------

ODD = [
    ("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [made_logs.span(9, 9, attributes={"gen_ai.output.messages": json.dumps([{"role": "a", "parts": [{"type": ["text"], "content": "x"}]}])})]}]}]}, True),
    ("litellm", {"trace_id": "t", "model": "m", "response": 5}, True),
    ("litellm", {"trace_id": "t", "model": "m", "response": {"choices": [{"finish_reason": ["stop"], "message": {"content": [{"type": {}, "text": "x"}]}}]}}, True),
    ("langfuse", {"type": "GENERATION", "traceId": "t", "model": "m", "output": [5], "level": ["ERROR"]}, True),
    ("openai_batch", {"custom_id": "c", "response": {"status_code": [4], "body": {"model": "m", "choices": []}}}, True),
    ("anthropic_batch", {"custom_id": "c", "result": {"type": ["odd"]}}, False),
    ("promptfoo", {"provider": "p", "vars": {"a": 1}, "response": {"output": {"k": [1]}}, "promptIdx": [1]}, True),
    ("decisions", {"request_id": "r", "escalated": [True]}, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "odd", "read"), ODD)
def test_values_of_odd_types_are_read_or_set_aside_through_to_the_rows(tmp_path, kind, odd, read):
    """A list where a word stands elsewhere never ends an import: the record is read, or set aside with its reason."""
    log = made_logs.write(tmp_path / "log.jsonl", [json.dumps(odd)])
    if read:
        found = made_logs.read(log, tmp_path / "out", kind)
        assert found.report.rows == traffic.open(found.folder).cases == 1
        return
    with pytest.raises(DataError, match=r"log\.jsonl:1: "):
        made_logs.read(log, tmp_path / "out", kind)


def result(custom, code, message, status=None):
    response = (
        None if status is None else {"status_code": status, "body": {"error": {"code": code, "message": message}}}
    )
    error = {"code": code, "message": message} if status is None else None
    return {"id": f"batch_req_{custom}", "custom_id": custom, "response": response, "error": error}


def test_the_file_of_errors_of_a_batch_gives_calls_that_failed(tmp_path):
    """Expired, refused and timed-out requests keep their case, their model and their question."""
    asked = [
        {"custom_id": c, "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "gpt-4.1", "messages": [{"role": "user", "content": f"{c}?"}]}}
        for c in "abc"
    ]  # fmt: skip
    failed = [
        result("a", "batch_expired", "This request could not be executed before the completion window expired."),
        result("b", "content_filter", "filtered", 400),
        result("c", "server_error", "Gateway timeout", 504),
    ]
    rows, report = imported(
        tmp_path, map(json.dumps, [*asked, *failed]), "openai_batch", models={"flagship": "gpt-4.1"}
    )
    assert {row["input"]: row["status"] for row in rows} == {"a?": "error", "b?": "refused", "c?": "timeout"}
    assert (report.joined, report.bad) == (3, 0)


@pytest.mark.parametrize("end", ["errored", "expired", "canceled"])
def test_requests_of_a_message_batch_that_did_not_succeed_have_failed(tmp_path, end):
    """Each way a request can end without a message is a failed call of the model that was asked."""
    asked = {"custom_id": "a", "params": {"model": "claude-opus", "messages": [{"role": "user", "content": "a?"}]}}
    told = {"type": "error", "error": {"type": "api_error", "message": "x"}} if end == "errored" else None
    done = {"custom_id": "a", "result": {"type": end, **({"error": told} if told else {})}}
    [row], _ = imported(tmp_path, map(json.dumps, [asked, done]), "anthropic_batch")
    assert (row["model"], row["status"], row["input"]) == ("claude-opus", "error", "a?")


def test_usage_and_cost_of_langfuse_are_read_by_kind(tmp_path):
    """`usageDetails` and `costDetails` of today, numbers or text, add up to input, cached input, output and cost."""
    seen = {"id": "o1", "traceId": "t", "type": "GENERATION", "model": "gpt-4.1", "startTime": "2026-07-06T09:00:00Z"}
    seen |= {
        "usageDetails": {
            "input": 12,
            "input_cached_tokens": "8",
            "output": 3,
            "output_reasoning_tokens": 4,
            "total": 27,
        }
    }
    seen |= {"costDetails": {"input": "0.002", "output": 0.001}, "output": {"role": "assistant", "content": "x"}}
    around = {"id": "o0", "traceId": "t", "type": "AGENT", "startTime": "2026-07-06T09:00:00Z"}
    [row], report = imported(tmp_path, map(json.dumps, [seen, around]), "langfuse")
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (20, 8, 7)
    assert (row["cost_usd"], row["answer"], report.other) == (pytest.approx(0.003), "x", 1)
