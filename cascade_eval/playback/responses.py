"""OpenAI's Responses, as sent and as read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.playback import pieces
from cascade_eval.playback.nouns import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade_eval.playback.nouns import Request

PATH = "/responses"

LOGPROBS = "message.output_text.logprobs"


def render(outcome: Outcome, request: Request) -> dict[str, Any]:
    """Return a completed response."""
    output = [] if outcome.answer is None and outcome.status == "ok" else [_message(_part(outcome, request))]
    return _head(outcome, "completed") | {"output": output, "usage": _usage(outcome)}


def _head(outcome: Outcome, status: str) -> dict[str, Any]:
    return {
        "id": "resp_recorded",
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": outcome.model,
        "error": None,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _part(outcome: Outcome, request: Request) -> dict[str, Any]:
    if outcome.status == "refused":
        return {"type": "refusal", "refusal": outcome.answer or ""}
    listed = pieces.logprobs(outcome) if LOGPROBS in (request.asked("include") or []) else None
    return {"type": "output_text", "text": outcome.answer or "", "annotations": [], "logprobs": listed or []}


def _message(*parts: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return {"id": "msg_recorded", "type": "message", "role": "assistant", "status": status, "content": list(parts)}


def _usage(outcome: Outcome) -> dict[str, Any] | None:
    if outcome.input_tokens is None or outcome.output_tokens is None:
        return None
    return {
        "input_tokens": outcome.input_tokens,
        "input_tokens_details": {"cached_tokens": outcome.cached_input_tokens or 0},
        "output_tokens": outcome.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": outcome.input_tokens + outcome.output_tokens,
    }


def stream(outcome: Outcome, request: Request) -> Iterator[tuple[str | None, Any]]:
    """Yield the events of a response."""
    for number, (name, data) in enumerate(_events(outcome, request)):
        yield name, {"type": name, "sequence_number": number, **data}


def _events(outcome: Outcome, request: Request) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = render(outcome, request)
    begun = _head(outcome, "in_progress")
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    if whole["output"]:
        yield from _item(whole["output"][0])
    yield "response.completed", {"response": whole}


def _item(message: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    part = message["content"][0]
    kind, key = ("output_text", "text") if part["type"] == "output_text" else ("refusal", "refusal")
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    listed = part.get("logprobs")
    yield "response.output_item.added", {"output_index": 0, "item": _message(status="in_progress")}
    yield "response.content_part.added", at | {"part": part | {key: ""} | ({} if listed is None else {"logprobs": []})}
    texts = pieces.deltas(part[key]) or [""]
    for text, own in zip(texts, pieces.spread(listed, len(texts)), strict=True):
        yield f"response.{kind}.delta", at | {"delta": text} | ({} if own is None else {"logprobs": own})
    yield f"response.{kind}.done", at | {key: part[key]} | ({} if listed is None else {"logprobs": listed})
    yield "response.content_part.done", at | {"part": part}
    yield "response.output_item.done", {"output_index": 0, "item": message}


def joined(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the response a stream ended with; one that never ended is an error."""
    for event in events:
        if event.get("type") in {"response.completed", "response.incomplete", "response.failed"}:
            found: dict[str, Any] = event.get("response") or {}
            return found
    return {"error": {"message": "the stream broke off"}}


def parse(body: dict[str, Any]) -> Outcome:
    """Read a response."""
    messages = [item for item in body.get("output") or [] if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or []]
    texts = [part["text"] for part in parts if part.get("type") == "output_text"]
    refusals = [part["refusal"] for part in parts if part.get("type") == "refusal"]
    listed = [one for part in parts for one in part.get("logprobs") or []]
    usage = body.get("usage") or {}
    said = refusals or texts
    return Outcome(
        str(body.get("model") or ""),
        "error" if body.get("error") else "refused" if refusals else "ok",
        "".join(said) if said else None,
        usage.get("input_tokens"),
        (usage.get("input_tokens_details") or {}).get("cached_tokens"),
        usage.get("output_tokens"),
        *pieces.read_logprobs(listed),
    )
