"""Responses as replies: what a server said, read without trusting that it said it well."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cascade_eval.recording.nouns import Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

QUOTED: Final = 3000
"""Characters quoted of a body that is not what it should be: so many that no key is cut before keys are taken out."""

MOST_TOKENS: Final = 100_000_000
"""More tokens than any call has; a server that counts more does not tell what a call cost."""


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
    shown = body[:QUOTED].decode("utf-8", "replace")
    if kind != expected:
        return Reply("error", reason=f"wrong content type {kind!r}, not {expected!r}: {shown}")
    whole, parse, used = _INTERFACES[client]
    data: dict[str, Any] = {}
    try:
        data = whole(events(body)) if streamed else _json(body)
        _check_error(data)
        return _believed(parse(data))
    except MalformedError as error:
        reason = f"{error}: {shown}"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        reason = f"not an answer of this interface: {shown}"
    # A body that is no answer may still say what it cost.
    return _believed(Reply("error", usage=used(data.get("usage")), reason=reason))


def _believed(reply: Reply) -> Reply:
    """Take usage for unknown where it cannot be true: a prompt of nothing, or an answer that took no token."""
    usage = reply.usage
    if usage is not None and (
        not usage.input or usage.cached + usage.written > usage.input or (reply.answer and not usage.output)
    ):
        usage = None
    return dataclasses.replace(reply, usage=usage, billed="unknown" if usage is None else "usage")


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("malformed JSON") from None
    if not isinstance(value, dict):
        raise MalformedError("not an object")
    return value


def _check_error(data: Mapping[str, Any]) -> None:
    if data.get("error"):
        raise MalformedError("an error with status 200")


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
            event = _json(data)
            _check_error(event)
            yield event


def _tokens(value: Any) -> int:
    """Read a count of tokens.

    Raises
    ------
    ValueError
        It is none that a call could have.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{value!r} is not a count of tokens")
    return math.ceil(value)


def _usage(read_usage: Callable[[Mapping[str, Any]], Usage], usage: Any) -> Usage | None:
    """Read usage; None where it is missing, or no usage at all."""
    try:
        return read_usage(usage)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def readable(text: str) -> str:
    r"""Put halves of a character together that came apart, and replace a half whose other one never came.

    Examples
    --------
    >>> readable("\ud83d" + "\ude00" + "\ud83d")
    '😀�'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _said(value: Any) -> str | None:
    return readable(value) if isinstance(value, str) else None


def _tools(called: Iterable[tuple[Any, Any]]) -> str:
    """Write the functions a model called, and with what, as JSON: the answer of a model that says nothing else."""
    return json.dumps([{"arguments": arguments, "name": name} for name, arguments in called], sort_keys=True)


# --- OpenAI's chat completions -------------------------------------------------------------------------------------


def _chat_events(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    text: list[str] = []
    refusal: list[str] = []
    logprobs: list[Any] = []
    tools: dict[int, dict[str, str]] = defaultdict(lambda: {"name": "", "arguments": ""})
    last: dict[str, Any] = {"finish_reason": None, "usage": None, "model": None, "error": None}
    for event in found:
        last.update({name: event[name] for name in ("usage", "model") if event.get(name)})
        for choice in event.get("choices") or []:
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            text.append(delta.get("content") or "")
            refusal.append(delta.get("refusal") or "")
            logprobs += (choice.get("logprobs") or {}).get("content") or []
            for part in delta.get("tool_calls") or []:
                for name, value in part["function"].items():
                    tools[part["index"]][name] += value or ""
            last.update({name: choice[name] for name in ("finish_reason", "error") if choice.get(name)})
    if last["finish_reason"] is None:
        raise MalformedError(f"the stream ended after {sum(map(len, text)):,} characters without finishing")
    called = [{"function": tools[index]} for index in sorted(tools)]
    content = None if called and not any(text) else "".join(text)
    message = {"content": content, "refusal": "".join(refusal) or None, "tool_calls": called}
    told = {name: last[name] for name in ("finish_reason", "error")}
    choice = {"message": message, **told, "logprobs": {"content": logprobs}}
    return {"choices": [choice], "usage": last["usage"], "model": last["model"]}


def _chat(data: Mapping[str, Any]) -> Reply:
    choice = data["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    if finish == "error" or choice.get("error"):
        # OpenRouter's way to say that the provider behind it broke in the middle of an answer.
        raise MalformedError("the answer ended with an error")
    refused = bool(message.get("refusal")) or finish == "content_filter"
    content = message.get("refusal") or message.get("content")
    if content is None and message.get("tool_calls"):
        called = [call["function"] for call in message["tool_calls"]]
        content = _tools((function["name"], function["arguments"]) for function in called)
    token_logprobs, top_logprobs = _logprobs(choice.get("logprobs"))
    return Reply(
        "refused" if refused else "ok",
        _text(content),
        _chat_usage(data.get("usage")),
        finish=_said(finish),
        served=_said(data.get("model")),
        reason="the provider's filter stopped the answer" if finish == "content_filter" else None,
        token_logprobs=token_logprobs,
        top_logprobs=top_logprobs,
    )


def _chat_usage(usage: Any) -> Usage | None:
    return _usage(_chat_tokens, usage)


def _chat_tokens(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    whole, output = _tokens(usage["prompt_tokens"]), _tokens(usage["completion_tokens"])
    # Some count reasoning beside `completion_tokens`, as xAI does: the total alone has it.
    output = max(output, _tokens(usage.get("total_tokens") or 0) - whole)
    cached, written = (_tokens(details.get(name) or 0) for name in ("cached_tokens", "cache_write_tokens"))
    return Usage(whole, cached, output, written)


def _logprobs(found: Any) -> tuple[tuple[float, ...] | None, tuple[tuple[float, ...], ...] | None]:
    """Read log-probabilities; none at all where one is missing, for a mean over the others would be another number."""
    found = found if isinstance(found, dict) else {}
    tokens = [token for token in found.get("content") or [] if token]
    if not tokens:
        # The form of the older completions, which some servers give for chats: Together, Fireworks.
        numbers = found.get("token_logprobs") or []
        return (tuple(map(_log, numbers)) or None) if None not in numbers else None, None
    if any(token.get("logprob") is None for token in tokens):
        return None, None
    return tuple(_log(token["logprob"]) for token in tokens), _alternatives(tokens)


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
        return readable(content)
    if isinstance(content, list):
        return readable("".join(part.get("text") or "" for part in content if part.get("type") in {None, "text"}))
    raise MalformedError("the answer is not text")


# --- Anthropic's messages ------------------------------------------------------------------------------------------


def _message_events(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    written: dict[int, str] = defaultdict(str)
    for event in found:
        kind = event.get("type")
        if kind == "message_start":
            message = dict(event["message"])
            usage |= message.get("usage") or {}
        elif kind == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif kind == "content_block_delta":
            written[event["index"]] += event["delta"].get("text") or event["delta"].get("partial_json") or ""
        elif kind == "message_delta":
            message |= event["delta"]
            usage |= event.get("usage") or {}
    if not message.get("stop_reason"):
        raise MalformedError(f"the stream ended after {sum(map(len, written.values())):,} characters without finishing")
    content = [_block(blocks.get(index, {}), written[index]) for index in sorted(blocks.keys() | written.keys())]
    return {**message, "content": content, "usage": usage}


def _block(started: Mapping[str, Any], written: str) -> dict[str, Any]:
    if started.get("type") == "tool_use":
        return {**started, "input": json.loads(written or "{}")}
    return {"type": "text", **started, "text": (started.get("text") or "") + written}


def _message(data: Mapping[str, Any]) -> Reply:
    refused = data.get("stop_reason") == "refusal"
    texts = [part["text"] for part in data["content"] if part.get("type") == "text"]
    called = [part for part in data["content"] if part.get("type") == "tool_use"]
    answer = "".join(texts) if texts else None
    if called and not answer:
        answer = _tools((part["name"], json.dumps(part["input"], sort_keys=True)) for part in called)
    return Reply(
        "refused" if refused else "ok",
        _text(answer),
        _message_usage(data.get("usage")),
        finish=_said(data.get("stop_reason")),
        served=_said(data.get("model")),
        reason="the model refused" if refused else None,
    )


def _message_usage(usage: Any) -> Usage | None:
    return _usage(_message_tokens, usage)


def _message_tokens(usage: Mapping[str, Any]) -> Usage:
    # Anthropic counts cached tokens beside `input_tokens`, recorded traffic within it.
    names = ("cache_read_input_tokens", "cache_creation_input_tokens")
    cached, written = (_tokens(usage.get(name) or 0) for name in names)
    return Usage(_tokens(usage["input_tokens"]) + cached + written, cached, _tokens(usage["output_tokens"]), written)


_Interface: TypeAlias = "tuple[Callable[..., dict[str, Any]], Callable[..., Reply], Callable[[Any], Usage | None]]"
_INTERFACES: Final[dict[str, _Interface]] = {
    "openai": (_chat_events, _chat, _chat_usage),
    "anthropic": (_message_events, _message, _message_usage),
}
