"""Anthropic's message batches: requests (`custom_id`, `params`) and results (`custom_id`, `result`).

A case is a `custom_id`. Requests that expired or were cancelled are failed calls. Anthropic counts input read from and
written to its cache apart; here all of it is input, and what was read from the cache is cached.

Source: Anthropic API reference, "Message Batches".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, lines, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def _records(decoded: Any) -> Iterable[Any]:
    """Yield results and requests; the body that created a batch holds many requests."""
    if isinstance(decoded, dict) and isinstance(decoded.get("requests"), list):
        return list(decoded["requests"])
    return lines.unchanged(decoded)


def _read(record: Any) -> tuple[Sequence[Call], Mapping[str, Any]]:
    record = messages.mapping(record, "a request")
    custom = calls.text(record.get("custom_id"), "custom_id") or ""
    if not custom:
        raise Aside("no custom_id")
    if "params" in record:
        return (_request(custom, messages.mapping(record["params"], "params")),), record
    if "result" not in record:
        raise Aside("neither a request nor a result of a batch")
    result = messages.mapping(record["result"], "result")
    kind = result.get("type")
    if kind in ("errored", "expired", "canceled"):
        told = result.get("error")
        status = calls.failure(calls.canonical(told) if told else None)
        return (Call(case=custom, join=custom, status=status),), record
    if kind != "succeeded":
        raise Aside("result.type is none of succeeded, errored, expired, canceled", calls.shown(kind))
    return (_succeeded(custom, messages.mapping(result.get("message"), "message")),), record


def _request(custom: str, params: Mapping[str, Any]) -> Call:
    model = calls.text(params.get("model"), "the model")
    if model is None:
        raise Aside("no model")
    asked = {"system": params.get("system"), "messages": params.get("messages")}
    return Call(
        case=custom,
        names=(model,),
        join=custom,
        part=True,
        prompt=messages.prompt(asked),
        input=messages.question(params.get("messages")),
    )


def _succeeded(custom: str, message: Mapping[str, Any]) -> Call:
    model = calls.text(message.get("model"), "the model")
    if model is None:
        raise Aside("no model")
    answer = messages.message(message)
    return Call(
        case=custom,
        names=(model,),
        id=calls.text(message.get("id"), "the id"),
        join=custom,
        status=answer.status,
        answer=answer.text,
        input_tokens=answer.input_tokens,
        cached_input_tokens=answer.cached_input_tokens,
        output_tokens=answer.output_tokens,
    )


IMPORTER = Importer(
    name="anthropic_batch",
    help="Anthropic message batches: requests and results.",
    records=_records,
    read=_read,
    cases={"request": ("custom_id",)},
)
