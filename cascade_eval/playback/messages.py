"""Anthropic's Messages, as sent and as read back.

There ``input_tokens`` leave out what was read from the cache; in traffic they include it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.playback import pieces
from cascade_eval.playback.nouns import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade_eval.playback.nouns import Request

PATH = "/messages"


def render(outcome: Outcome, _request: Request) -> dict[str, Any]:
    """Return a message."""
    content = [] if outcome.answer is None else [{"type": "text", "text": outcome.answer}]
    return {
        "id": "msg_recorded",
        "type": "message",
        "role": "assistant",
        "model": outcome.model,
        "content": content,
        "stop_reason": "refusal" if outcome.status == "refused" else "end_turn",
        "stop_sequence": None,
        "usage": _usage(outcome),
    }


def _usage(outcome: Outcome) -> dict[str, Any]:
    whole, cached = outcome.input_tokens, outcome.cached_input_tokens or 0
    return {
        "input_tokens": None if whole is None else whole - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": outcome.output_tokens,
    }


def stream(outcome: Outcome, request: Request) -> Iterator[tuple[str | None, Any]]:
    """Yield the events of a message."""
    whole = render(outcome, request)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events: list[tuple[str, dict[str, Any]]] = [("message_start", {"message": begun})]
    for block in whole["content"]:
        events.append(("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}))
        events += [
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
            for text in pieces.deltas(block["text"])
        ]
        events.append(("content_block_stop", {"index": 0}))
    events.append(("message_delta", {"delta": ended, "usage": {"output_tokens": outcome.output_tokens}}))
    events.append(("message_stop", {}))
    for name, data in events:
        yield name, {"type": name, **data}


def joined(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Put the events of a stream together as one message."""
    found: dict[str, Any] = {"usage": {}}
    texts: list[str] = []
    for event in events:
        kind = event.get("type")
        if kind == "message_start":
            found |= event["message"]
        elif kind == "content_block_delta" and event["delta"].get("type") == "text_delta":
            texts.append(event["delta"]["text"])
        elif kind == "message_delta":
            found |= {key: value for key, value in event["delta"].items() if value is not None}
            found["usage"] = {**found["usage"], **(event.get("usage") or {})}
        elif kind == "error":
            found["error"] = event.get("error")
    return found | {"content": [{"type": "text", "text": "".join(texts)}] if texts else []}


def parse(body: dict[str, Any]) -> Outcome:
    """Read a message."""
    texts = [block["text"] for block in body.get("content") or [] if block.get("type") == "text"]
    usage = body.get("usage") or {}
    fresh, cached = usage.get("input_tokens"), usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    refused = body.get("stop_reason") == "refusal"
    return Outcome(
        str(body.get("model") or ""),
        "error" if body.get("type") == "error" or body.get("error") else "refused" if refused else "ok",
        "".join(texts) if texts else None,
        None if fresh is None else fresh + cached + written,
        cached,
        usage.get("output_tokens"),
    )
