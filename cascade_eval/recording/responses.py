"""Responses as replies: what a server said, read without trusting that it said it well."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from cascade_eval.recording.nouns import Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SHOWN: Final = 300
"""Characters of a body that is not what it should be, in a reason."""


class MalformedError(Exception):
    """A body is not what its interface promises."""


def read(client: str, body: bytes, content_type: str, *, streamed: bool) -> Reply:
    """Read the whole body of a response with status 200.

    Parameters
    ----------
    client
        ``openai`` or ``anthropic``.
    body, content_type
        As received.
    streamed
        Whether events were asked for.

    Returns
    -------
    Reply
        An ``error`` whose reason says what was wrong, where the body is not an answer; it may have been billed.

    Examples
    --------
    >>> read("openai", b"<html>", "text/html", streamed=False).reason
    "wrong content type 'text/html', not 'application/json': <html>"
    """
    kind = content_type.partition(";")[0].strip().lower()
    expected = "text/event-stream" if streamed else "application/json"
    shown = body[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]
    if kind != expected:
        return Reply("error", reason=f"wrong content type {kind!r}, not {expected!r}: {shown}")
    whole, parse = _INTERFACES[client]
    try:
        return parse(whole(events(body)) if streamed else _json(body))
    except MalformedError as error:
        return Reply("error", reason=f"{error}: {shown}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Reply("error", reason=f"not an answer of this interface: {shown}")


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("malformed JSON") from None
    if not isinstance(value, dict):
        raise MalformedError("not an object")
    if value.get("error"):
        raise MalformedError("an error with status 200")
    return value


def events(body: bytes) -> Iterator[dict[str, Any]]:
    r"""Yield the objects of server-sent events.

    Examples
    --------
    >>> list(events(b'event: x\ndata: {"a": 1}\n\n: ping\n\ndata: [DONE]\n\n'))
    [{'a': 1}]
    """
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].lstrip() for line in block.split(b"\n") if line.startswith(b"data:"))
        if data and data != b"[DONE]":
            yield _json(data)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


# --- OpenAI's chat completions -------------------------------------------------------------------------------------


def _chat_events(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    text: list[str] = []
    refusal: list[str] = []
    logprobs: list[Any] = []
    last: dict[str, Any] = {"finish_reason": None, "usage": None, "model": None}
    for event in found:
        last.update({name: event[name] for name in ("usage", "model") if event.get(name)})
        for choice in event.get("choices") or []:
            delta = choice.get("delta") or {}
            text.append(delta.get("content") or "")
            refusal.append(delta.get("refusal") or "")
            logprobs += (choice.get("logprobs") or {}).get("content") or []
            last["finish_reason"] = choice.get("finish_reason") or last["finish_reason"]
    if last["finish_reason"] is None:
        raise MalformedError(f"the stream ended after {sum(map(len, text)):,} characters without finishing")
    message = {"content": "".join(text), "refusal": "".join(refusal) or None}
    choice = {"message": message, "finish_reason": last["finish_reason"], "logprobs": {"content": logprobs}}
    return {"choices": [choice], "usage": last["usage"], "model": last["model"]}


def _chat(data: Mapping[str, Any]) -> Reply:
    choice = data["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    usage = _chat_usage(data.get("usage"))
    refused = bool(message.get("refusal")) or finish == "content_filter"
    content = message.get("refusal") or message["content"] if "content" in message else message.get("refusal")
    if content is None and message.get("tool_calls"):
        content = json.dumps([call["function"] for call in message["tool_calls"]], sort_keys=True)
    tokens = [token for token in (choice.get("logprobs") or {}).get("content") or [] if token]
    return Reply(
        "refused" if refused else "ok",
        _text(content),
        usage,
        "unknown" if usage is None else "usage",
        finish=finish,
        served=data.get("model"),
        reason="the provider's filter stopped the answer" if finish == "content_filter" else None,
        token_logprobs=tuple(_log(token["logprob"]) for token in tokens) or None,
        top_logprobs=_alternatives(tokens),
    )


def _chat_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    cached = _number((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
    return Usage(_number(usage["prompt_tokens"]), cached, _number(usage.get("completion_tokens")))


def _alternatives(tokens: list[dict[str, Any]]) -> tuple[tuple[float, ...], ...] | None:
    if not any(token.get("top_logprobs") for token in tokens):
        return None
    return tuple(tuple(_log(other["logprob"]) for other in token.get("top_logprobs") or []) for token in tokens)


def _log(value: Any) -> float:
    # JSON knows no infinity; servers write a very small number for it, as OpenAI does.
    number = float(value)
    return number if math.isfinite(number) else -9999.0


def _text(content: Any) -> str | None:
    if content is None:
        return None
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    raise MalformedError("the answer is not text")


# --- Anthropic's messages ------------------------------------------------------------------------------------------


def _message_events(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    text: list[str] = []
    for event in found:
        kind = event.get("type")
        if kind == "message_start":
            message = dict(event["message"])
            usage |= message.get("usage") or {}
        elif kind == "content_block_delta":
            text.append(event["delta"].get("text") or "")
        elif kind == "message_delta":
            message |= event["delta"]
            usage |= event.get("usage") or {}
    if not message.get("stop_reason"):
        raise MalformedError(f"the stream ended after {sum(map(len, text)):,} characters without finishing")
    return {**message, "content": [{"type": "text", "text": "".join(text)}], "usage": usage}


def _message(data: Mapping[str, Any]) -> Reply:
    usage = _message_usage(data.get("usage"))
    refused = data.get("stop_reason") == "refusal"
    texts = [part["text"] for part in data["content"] if part.get("type") == "text"]
    return Reply(
        "refused" if refused else "ok",
        "".join(texts) if texts else None,
        usage,
        "unknown" if usage is None else "usage",
        finish=data.get("stop_reason"),
        served=data.get("model"),
        reason="the model refused" if refused else None,
    )


def _message_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict) or not isinstance(usage.get("input_tokens"), int):
        return None
    # Anthropic counts cached tokens beside `input_tokens`, recorded traffic within it.
    cached = _number(usage.get("cache_read_input_tokens"))
    whole = _number(usage["input_tokens"]) + cached + _number(usage.get("cache_creation_input_tokens"))
    return Usage(whole, cached, _number(usage.get("output_tokens")))


_INTERFACES: Final[dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., Reply]]]] = {
    "openai": (_chat_events, _chat),
    "anthropic": (_message_events, _message),
}
