"""OpenTelemetry's GenAI conventions: today's names, and those up to v1.36 that most instrumentations still write.

Today prompts and answers are attributes of the span (``gen_ai.input.messages``, ``gen_ai.output.messages``). Up to
v1.36 they were events, as log records of their own (``gen_ai.user.message``, ``gen_ai.choice``) or on the span. Tokens
were once ``gen_ai.usage.prompt_tokens``, and the provider ``gen_ai.system``.

Source: OpenTelemetry semantic conventions, "Generative client AI spans", v1.27 to v1.40.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, messages, otlp
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWERING = frozenset({None, "chat", "text_completion", "generate_content", "completion"})
"""Operations that answer; embeddings, tools and agents around them do not."""

AROUND = frozenset(
    {"embeddings", "embedding", "rerank", "retrieval", "execute_tool", "create_agent", "invoke_agent", "invoke_workflow",
     "plan", "create_memory", "search_memory", "update_memory", "delete_memory", "upsert_memory", "create_memory_store",
     "delete_memory_store"}
)  # fmt: skip
"""Operations that do not answer, though they may name a model and, as agents do, count the tokens of the calls within."""

_PROMPT = "gen_ai.input.messages"
_ANSWER = "gen_ai.output.messages"


def _read(record: otlp.Span | otlp.Record) -> tuple[Sequence[Call], Mapping[str, Any]]:
    return _event(record) if isinstance(record, otlp.Record) else _span(record)


def _is_call(operation: Any, found: Mapping[str, Any]) -> bool:
    """Whether an operation answers; one that nobody knows, and that wrote tokens, is neither counted in nor passed over."""
    if operation is None or (isinstance(operation, str) and operation in ANSWERING):
        return True
    if isinstance(operation, str) and operation not in AROUND and _tokens(found, _OUTPUT_TOKENS):
        raise Aside("an operation that is not known used output tokens", operation)
    return False


def _span(span: otlp.Span) -> tuple[Sequence[Call], Mapping[str, Any]]:
    found = otlp.attributes(span.attributes)
    trace = otlp.trace(span)
    view = otlp.view(span, found, trace)
    asked, answered = found.get("gen_ai.request.model"), found.get("gen_ai.response.model")
    # Instrumentations that came before the operation said `llm.request.type`.
    operation = found.get("gen_ai.operation.name") or found.get("llm.request.type")
    if not _is_call(operation, found) or (operation is None and asked is None and answered is None):
        # What a tool asks is its own.
        return () if operation == "execute_tool" else otlp.between(span, trace), view
    first, second = calls.text(asked, "the model"), calls.text(answered, "the model")
    names = tuple(name for name in (first, second if second != first else None) if name)
    if not names:
        raise Aside("no model")
    own = otlp.span_id(span.spanId, "spanId")
    started, latency = otlp.times(span)
    texts, reasons = _answers(span, found)
    status = otlp.status(span, found)
    if status == "ok" and reasons and any(map(calls.refused, reasons)):
        status = "refused"
    asking = messages.decoded(_asked(span, found))
    call = Call(
        case=trace,
        names=names,
        id=own,
        join=own,
        parent=otlp.span_id(span.parentSpanId, "parentSpanId"),
        started=started,
        status=status,
        answer=texts[0] if texts else None,
        samples=messages.samples(texts),
        input_tokens=_tokens(found, _INPUT_TOKENS),
        cached_input_tokens=_tokens(found, _CACHED_TOKENS),
        output_tokens=_tokens(found, _OUTPUT_TOKENS),
        cost_usd=calls.dollars(found.get("gen_ai.usage.cost"), "gen_ai.usage.cost"),
        latency_s=latency,
        prompt=_prompt(asking, found),
        input=messages.question(asking),
    )
    return (call,), view


_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_CACHED_TOKENS = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")


def _tokens(found: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return calls.tokens(messages.first(found, names), names[0])


def _answers(span: otlp.Span, found: Mapping[str, Any]) -> tuple[list[str | None], list[Any]]:
    """Return every answer of a span, and why each ended."""
    reasons = found.get("gen_ai.response.finish_reasons") or []
    reasons = list(reasons) if isinstance(reasons, list) else [reasons]
    written = messages.decoded(found.get(_ANSWER))
    if isinstance(written, list):
        return [_text(each) for each in written], reasons
    if isinstance(written, str):
        raise Aside(f"{_ANSWER} is not a list of messages", calls.shown(written))
    for event in span.events or ():
        inside = otlp.attributes(event.attributes)
        if event.name == "gen_ai.content.completion" and inside.get("gen_ai.completion") is not None:
            completion = messages.decoded(inside["gen_ai.completion"])
            several = completion if isinstance(completion, list) else [completion]
            return [_text(each) for each in several], reasons
    choices = [otlp.attributes(event.attributes) for event in span.events or () if event.name == "gen_ai.choice"]
    if choices:
        return [_choice(each) for each in choices], reasons or [each.get("finish_reason") for each in choices]
    flat = found.get("gen_ai.completion.0.content")
    return [flat if flat is None else messages.content(flat)], reasons


def _text(message: Any) -> str | None:
    """Return the text of a message: parts today, `content` before; the tools it calls where it says nothing."""
    if not isinstance(message, dict):
        return message if isinstance(message, str) else None
    text = messages.said(message)
    if text:
        return text
    parts = [part for part in message.get("parts") or [] if isinstance(part, dict)]
    tools = [{"function": part} for part in parts if part.get("type") == "tool_call"]
    return messages.tool_calls(tools or message.get("tool_calls")) or text


def _choice(body: Mapping[str, Any]) -> str | None:
    message = messages.decoded(body.get("message"))
    return _text(message) if message is not None else _text(body)


def _asked(span: otlp.Span, found: Mapping[str, Any]) -> Any:
    """Return the messages a span was asked with, None where they were not recorded."""
    if found.get(_PROMPT) is not None:
        return found[_PROMPT]
    for event in span.events or ():
        if event.name == "gen_ai.content.prompt":
            return otlp.attributes(event.attributes).get("gen_ai.prompt")
    said = [
        {"role": event.name.split(".")[1], "content": otlp.attributes(event.attributes).get("content")}
        for event in span.events or ()
        if event.name and event.name.startswith("gen_ai.") and event.name.endswith(".message")
    ]
    return said or found.get("gen_ai.prompt.0.content")


def _prompt(asking: Any, found: Mapping[str, Any]) -> str | None:
    """Tell prompts apart, also by the instructions that today's conventions write beside the messages."""
    instructions = messages.decoded(found.get("gen_ai.system_instructions"))
    return messages.prompt(asking if instructions is None or not asking else [instructions, asking])


def _event(record: otlp.Record) -> tuple[Sequence[Call], Mapping[str, Any]]:
    """Read a log record: what was said within a span."""
    found = otlp.attributes(record.attributes)
    name = record.eventName or found.get("event.name") or ""
    view: dict[str, Any] = {**found, "trace_id": otlp.trace(record)}
    if not isinstance(name, str) or not name.startswith("gen_ai."):
        return (), view
    body = otlp.plain(record.body) if record.body is not None else None
    body = body if isinstance(body, dict) else {}
    part: dict[str, Any] = {"case": view["trace_id"], "join": otlp.span_id(record.spanId, "spanId"), "part": True}
    # Delivered again, an event says the same of the same span; choices of one moment stay in their order.
    index = body.get("index") if isinstance(body.get("index"), int) else 0
    part["id"] = f"{name} {index:04d} {part['join']}"
    if name == "gen_ai.choice":
        part["answer"] = answer = _choice(body)
        # A second choice says that there are samples.
        part["samples"] = [answer] if index and answer is not None else None
        part["status"] = "refused" if calls.refused(body.get("finish_reason")) else "ok"
    elif name.endswith(".message"):
        part["prompt"] = messages.prompt([name, body])
        part["input"] = messages.content(body.get("content")) if name == "gen_ai.user.message" else None
    elif name == "gen_ai.client.inference.operation.details":
        texts, _ = _answers(otlp.Span(), found)
        part |= {"answer": texts[0] if texts else None, "samples": messages.samples(texts)}
        asking = messages.decoded(found.get(_PROMPT))
        part |= {"prompt": _prompt(asking, found), "input": messages.question(asking)}
    else:
        return (), view
    if part["join"] is None:
        raise Aside("an event without the id of its span")
    # Events of one call are put in order by their time, which says nothing about when the call began.
    times = (record.timeUnixNano, record.observedTimeUnixNano)
    started = next((time for each in times if (time := calls.nanoseconds(each, "timeUnixNano"))), None)
    return (Call(started=started, **part),), view


IMPORTER = Importer(
    name="otel",
    help="OpenTelemetry spans of model calls, as OTLP JSON.",
    records=otlp.records,
    read=_read,
    cases={
        "trace": ("trace_id",),
        "conversation": ("gen_ai.conversation.id", "session.id"),
        "response": ("gen_ai.response.id",),
    },
    decode=otlp.decode,
)
