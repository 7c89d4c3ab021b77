"""OpenAI's Chat Completions, as sent and as read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.playback import pieces
from cascade_eval.playback.nouns import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade_eval.playback.nouns import Request

PATH = "/chat/completions"


def render(outcome: Outcome, request: Request) -> dict[str, Any]:
    """Return a completion."""
    refused = outcome.status == "refused"
    message = {
        "role": "assistant",
        "content": None if refused else outcome.answer,
        "refusal": (outcome.answer or "") if refused else None,
    }
    listed = pieces.logprobs(outcome) if request.asked("logprobs") else None
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None if listed is None else {"content": listed, "refusal": None},
        "finish_reason": "stop",
    }
    return _head(outcome, "chat.completion") | {"choices": [choice], "usage": _usage(outcome)}


def _head(outcome: Outcome, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-recorded", "object": kind, "created": 0, "model": outcome.model}


def _usage(outcome: Outcome) -> dict[str, Any] | None:
    if outcome.input_tokens is None or outcome.output_tokens is None:
        return None
    return {
        "prompt_tokens": outcome.input_tokens,
        "completion_tokens": outcome.output_tokens,
        "total_tokens": outcome.input_tokens + outcome.output_tokens,
        "prompt_tokens_details": {"cached_tokens": outcome.cached_input_tokens or 0, "audio_tokens": 0},
    }


def stream(outcome: Outcome, request: Request) -> Iterator[tuple[str | None, Any]]:
    """Yield the chunks of a completion, the usage last where it was asked for."""
    whole = render(outcome, request)["choices"][0]
    options = request.asked("stream_options")
    wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    head = _head(outcome, "chat.completion.chunk")
    after = {"usage": None} if wants_usage else {}

    def chunk(delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> tuple[None, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return None, head | {"choices": [choice]} | after

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    key = "refusal" if outcome.status == "refused" else "content"
    texts = pieces.deltas(whole["message"][key] or "") or [""]
    listed = (whole["logprobs"] or {}).get("content")
    for text, part in zip(texts, pieces.spread(listed, len(texts)), strict=True):
        yield chunk({key: text}, None if part is None else {"content": part, "refusal": None})
    yield chunk({}, None, "stop")
    if wants_usage:
        yield None, head | {"choices": [], "usage": _usage(outcome)}
    yield None, "[DONE]"


def joined(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Put the chunks of a stream together as one completion."""
    found: dict[str, Any] = {"choices": [{"message": {}, "logprobs": None}], "usage": None}
    message: dict[str, Any] = found["choices"][0]["message"]
    listed: list[Any] = []
    for chunk in chunks:
        found |= {key: chunk[key] for key in ("model", "usage", "error") if chunk.get(key)}
        for choice in (chunk.get("choices") or [])[:1]:
            for key, text in (choice.get("delta") or {}).items():
                if key in {"content", "refusal"} and isinstance(text, str):
                    message[key] = (message.get(key) or "") + text
            listed += (choice.get("logprobs") or {}).get("content") or []
    found["choices"][0]["logprobs"] = {"content": listed} if listed else None
    return found


def parse(body: dict[str, Any]) -> Outcome:
    """Read a completion."""
    choice = (body.get("choices") or [{}])[0]
    message, usage = choice.get("message") or {}, body.get("usage") or {}
    refusal = message.get("refusal")
    own, top = pieces.read_logprobs((choice.get("logprobs") or {}).get("content"))
    return Outcome(
        str(body.get("model") or ""),
        "error" if body.get("error") else "ok" if refusal is None else "refused",
        message.get("content") if refusal is None else refusal,
        usage.get("prompt_tokens"),
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        usage.get("completion_tokens"),
        own,
        top,
    )
