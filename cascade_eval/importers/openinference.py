"""OpenInference spans, as Arize Phoenix and its instrumentations write them: OTLP JSON with attributes of their own.

Lists are flattened into keys: ``llm.output_messages.0.message.content``. Only spans of kind LLM are calls.

Source: OpenInference semantic conventions (openinference-semantic-conventions 0.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, messages, otlp
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COUNT = "llm.token_count"


def _read(record: otlp.Span | otlp.Record) -> tuple[Sequence[Call], Mapping[str, Any]]:
    if isinstance(record, otlp.Record):
        return (), {}
    found = otlp.attributes(record.attributes)
    trace = otlp.trace(record)
    view = otlp.view(record, found, trace)
    view["metadata"] = messages.decoded(found.get("metadata"))
    kind = found.get("openinference.span.kind")
    if kind != "LLM":
        # What a tool asks is its own.
        return () if kind == "TOOL" else otlp.between(record, trace), view
    # The model that answered is dated; what was asked stands in the parameters, also where nothing answered.
    asked_of = messages.decoded(found.get("llm.invocation_parameters"))
    named = (
        found.get("llm.request.model_name"),
        asked_of.get("model") if isinstance(asked_of, dict) else None,
        found.get("llm.model_name"),
        found.get("llm.response.model_name"),
    )
    names = [name for value in named if (name := calls.text(value, "the model"))]
    if not names:
        raise Aside("no model")
    started, latency = otlp.times(record)
    asked = _messages(found, "llm.input_messages") or messages.decoded(found.get("input.value"))
    said = _messages(found, "llm.output_messages")
    texts = [messages.said(message) or messages.tool_calls(message.get("tool_calls")) for message in said]
    status = otlp.status(record, found)
    refused = calls.refused(found.get("llm.finish_reason")) and status == "ok"
    call = Call(
        case=trace,
        names=tuple(dict.fromkeys(names)),
        id=otlp.span_id(record.spanId, "spanId"),
        parent=otlp.span_id(record.parentSpanId, "parentSpanId"),
        started=started,
        status="refused" if refused else status,
        answer=texts[0] if texts else _plain_output(found),
        samples=messages.samples(texts),
        input_tokens=calls.tokens(found.get(f"{_COUNT}.prompt"), "llm.token_count.prompt"),
        cached_input_tokens=calls.tokens(found.get(f"{_COUNT}.prompt_details.cache_read"), "cache_read"),
        output_tokens=calls.tokens(found.get(f"{_COUNT}.completion"), "llm.token_count.completion"),
        cost_usd=calls.dollars(found.get("llm.cost.total"), "llm.cost.total"),
        latency_s=latency,
        prompt=messages.prompt(asked),
        input=messages.question(asked),
    )
    return (call,), view


def _plain_output(found: Mapping[str, Any]) -> str | None:
    """Return the output where it is text; an output of JSON is the provider's whole response."""
    value = found.get("output.value")
    return value if isinstance(value, str) and found.get("output.mime_type") != "application/json" else None


def _messages(found: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Put flattened messages together again, in order."""
    gathered: dict[int, dict[str, Any]] = {}
    for key, value in found.items():
        if not key.startswith(f"{prefix}."):
            continue
        number, _, rest = key[len(prefix) + 1 :].partition(".")
        if number.isascii() and number.isdigit() and len(number) < 6:
            gathered.setdefault(int(number), {})[rest.removeprefix("message.")] = value
    return [_message(gathered[number]) for number in sorted(gathered)]


def _message(flat: Mapping[str, Any]) -> dict[str, Any]:
    parts = sorted((key, value) for key, value in flat.items() if key.endswith("message_content.text"))
    content = flat.get("content") if flat.get("content") is not None else "".join(str(v) for _, v in parts) or None
    tools: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        if key.startswith("tool_calls."):
            number = key.split(".")[1]
            tools.setdefault(number, {})[key.rpartition(".")[2]] = value
    asked = [{"function": tools[number]} for number in sorted(tools)]
    return {"role": flat.get("role"), "content": content, "tool_calls": asked or None}


IMPORTER = Importer(
    name="openinference",
    help="OpenInference spans (Arize Phoenix), as OTLP JSON.",
    records=otlp.records,
    read=_read,
    cases={"trace": ("trace_id",), "conversation": ("session.id",)},
    decode=otlp.decode,
)
