"""LiteLLM: the standard logging payload its callbacks send, and rows of the proxy's spend logs.

The two differ in a few names; ``response_cost`` and ``spend`` both hold dollars. Times without a zone are UTC.

Source: `StandardLoggingPayload` and `SpendLogsPayload` of litellm 1.106.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, lines, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWERING = frozenset(
    {None, "", "completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses",
     "anthropic_messages", "generate_content", "agenerate_content"}
)  # fmt: skip
"""Kinds of calls that answer; embeddings, images and the like do not."""


def _read(record: Mapping[str, Any]) -> tuple[Sequence[Call], Mapping[str, Any]]:
    view = {**record, "metadata": messages.decoded(record.get("metadata"))}
    if not {"response_cost", "spend", "call_type", "trace_id", "litellm_call_id"} & record.keys():
        raise Aside("neither a standard logging payload nor a spend log")
    kind = record.get("call_type")
    if not (kind is None or isinstance(kind, str)) or kind not in ANSWERING:
        return (), view
    names = [name for key in ("model", "model_group") if (name := calls.text(record.get(key), key))]
    if not names:
        raise Aside("no model")
    started = calls.moment(record.get("startTime"), "startTime", naive_is_utc=True)
    ended = calls.moment(record.get("endTime"), "endTime", naive_is_utc=True)
    body = messages.decoded(record.get("response"))
    answer = messages.completion(body) if isinstance(body, dict) else messages.Answer(messages.content(body) or None)
    asked = messages.decoded(record.get("messages"))
    hit = _hit(record.get("cache_hit"))
    status = _status(record, view["metadata"], answer)
    call = Call(
        case=calls.text(messages.first(record, ("trace_id", "session_id", "litellm_call_id", "id", "request_id")), "id")
        or "",
        names=tuple(dict.fromkeys(names)),
        id=calls.text(messages.first(record, ("litellm_call_id", "id", "request_id")), "the request id"),
        started=started,
        status=status,
        answer=answer.text,
        samples=answer.samples,
        token_logprobs=answer.token_logprobs,
        input_tokens=_used(record, "prompt_tokens", status),
        cached_input_tokens=answer.cached_input_tokens,
        output_tokens=_used(record, "completion_tokens", status),
        cost_usd=calls.dollars(messages.first(record, ("response_cost", "spend")), "cost"),
        latency_s=_latency(record, calls.lasted(started, ended)),
        prompt=messages.prompt(asked),
        input=messages.question(asked),
        columns={} if hit is None else {"cached": hit},
    )
    return (call,), view


def _used(record: Mapping[str, Any], name: str, status: str) -> int | None:
    """Return tokens; a failed call has zeros where nothing was counted."""
    found = calls.tokens(record.get(name), name)
    return None if status != "ok" and not found else found


def _latency(record: Mapping[str, Any], lasted: float | None) -> float | None:
    if record.get("response_time") is not None:
        return calls.seconds(record["response_time"], "response_time")
    if record.get("request_duration_ms") is not None:
        milliseconds = calls.amount(record["request_duration_ms"], "request_duration_ms", calls.MOST_SECONDS * 1000)
        return None if milliseconds is None else milliseconds / 1000
    return lasted


def _hit(value: Any) -> bool | None:
    """Read whether a cache answered: a flag in payloads, text in spend logs."""
    words = {"true": True, "false": False}
    return value if isinstance(value, bool) else words.get(str(value).lower())


def _status(record: Mapping[str, Any], metadata: Any, answer: messages.Answer) -> str:
    if record.get("status", "success") == "success":
        return answer.status
    if record["status"] != "failure":
        raise Aside("status is neither success nor failure", calls.shown(record["status"]))
    inside = metadata.get("error_information") if isinstance(metadata, dict) else None
    told = record.get("error_information") or inside
    if isinstance(told, dict):
        return calls.failure(told.get("error_class"), told.get("error_code"), told.get("error_message"))
    return calls.failure(record.get("error_str"))


IMPORTER = Importer(
    name="litellm",
    help="LiteLLM standard logging payloads, and rows of its spend logs.",
    records=lines.unchanged,
    read=_read,
    cases={
        "trace": ("trace_id", "session_id", "litellm_call_id", "id", "request_id"),
        "conversation": ("session_id",),
        "request": ("litellm_call_id", "id", "request_id"),
    },
)
