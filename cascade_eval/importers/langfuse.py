"""Langfuse: observations as its exports, its blob storage and its API write them, alone or within their trace.

Exports write ``trace_id``, the API ``traceId``; both are read. Only observations of type GENERATION are calls. Kinds of
usage are disjoint in Langfuse, so every kind of input counts as input. Times without a zone are UTC.

Source: Langfuse, "Blob storage export field reference" and the public API.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CAPITAL = re.compile(r"(?<=[a-z])([A-Z])")


def _records(decoded: Any) -> Iterable[Any]:
    """Yield observations: of a trace with all it holds, of a page of the API, or a line by itself."""
    if not isinstance(decoded, dict):
        raise Aside("the line is not an object", calls.shown(decoded))
    inside = decoded.get("observations")
    if isinstance(inside, list) and (not inside or isinstance(inside[0], dict)):
        trace = {key: value for key, value in decoded.items() if key not in {"observations", "scores"}}
        return [{**each, "trace": trace} if isinstance(each, dict) else each for each in inside]
    data = decoded.get("data")
    return data if isinstance(data, list) else [decoded]


def _read(record: Any) -> tuple[Sequence[Call], Mapping[str, Any]]:
    if not isinstance(record, dict):
        raise Aside("an observation is not an object", calls.shown(record))
    found = {_CAPITAL.sub(r"_\1", key).lower(): value for key, value in record.items()}
    for key in ("metadata", "input", "output", "usage_details", "cost_details", "usage"):
        found[key] = messages.decoded(found.get(key))
    kind = found.get("type")
    if kind is None and "trace_id" not in found:
        raise Aside("neither a type nor a trace: not an observation")
    trace = messages.mapping(found.get("trace"), "the trace")
    view = {**record, **found}
    view.setdefault("session_id", trace.get("sessionId"))
    if kind != "GENERATION":
        # What a tool asks is its own.
        return () if kind == "TOOL" else _between(found), view
    names = [
        name
        for key in ("provided_model_name", "model", "model_id")
        if (name := calls.text(found.get(key), "the model"))
    ]
    if not names:
        raise Aside("no model")
    started = calls.moment(found.get("start_time"), "startTime", naive_is_utc=True)
    ended = calls.moment(found.get("end_time"), "endTime", naive_is_utc=True)
    usage = messages.mapping(found["usage_details"] or found["usage"], "usage")
    call = Call(
        case=calls.text(found.get("trace_id"), "traceId") or "",
        names=tuple(dict.fromkeys(names)),
        id=calls.text(found.get("id"), "the id"),
        parent=calls.text(found.get("parent_observation_id"), "parentObservationId"),
        started=started,
        status=_status(found),
        answer=_answer(found["output"]),
        input_tokens=_usage(usage, "input"),
        cached_input_tokens=_usage(usage, "cache_read", "cached"),
        output_tokens=_usage(usage, "output"),
        cost_usd=_cost(found),
        latency_s=calls.lasted(started, ended) if ended is not None else calls.seconds(found.get("latency")),
        prompt=messages.prompt(found["input"]),
        input=messages.question(found["input"]),
    )
    return (call,), view


def _between(found: Mapping[str, Any]) -> tuple[Call, ...]:
    with contextlib.suppress(Aside):
        ids = [calls.text(found.get(key), key) for key in ("trace_id", "id", "parent_observation_id")]
        return calls.link(ids[0] or "", ids[1], ids[2])
    return ()


def _status(found: Mapping[str, Any]) -> str:
    return calls.failure(found.get("status_message")) if found.get("level") == "ERROR" else "ok"


def _answer(output: Any) -> str | None:
    """Return the text of an output: text, a message, or a provider's whole response."""
    if isinstance(output, dict):
        if "choices" in output:
            return messages.completion(output).text
        if "content" in output or "tool_calls" in output:
            return messages.said(output) or messages.tool_calls(output.get("tool_calls"))
        return calls.canonical(output)
    if isinstance(output, list) and output and all(isinstance(each, dict) and "role" in each for each in output):
        return _answer(output[-1])
    return output if output is None or isinstance(output, str) else calls.canonical(output)


def _usage(usage: Mapping[str, Any], *words: str) -> int | None:
    values = [
        calls.tokens(value, f"usage.{kind}")
        for kind, value in usage.items()
        if any(word in kind.lower() for word in words) and "cost" not in kind.lower()
    ]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _cost(found: Mapping[str, Any]) -> float | None:
    details = messages.mapping(found["cost_details"], "costDetails")
    for value in (found.get("total_cost"), found.get("calculated_total_cost"), details.get("total")):
        if value is not None:
            return calls.dollars(value)
    parts = [cost for value in details.values() if (cost := calls.dollars(value)) is not None]
    return sum(parts) if parts else None


IMPORTER = Importer(
    name="langfuse",
    help="Langfuse observations, from its exports or its API.",
    records=_records,
    read=_read,
    cases={"trace": ("trace_id",), "conversation": ("session_id",)},
)
