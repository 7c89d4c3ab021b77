"""Requests and answers as the providers write them: chat completions, responses, Anthropic messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cascade_eval.importers import calls
from cascade_eval.importers.calls import Aside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


_decoder = msgspec.json.Decoder()

_TEXTS = (None, "text", "input_text", "output_text", "refusal")
"""Types of the parts of a message that are text."""


class Answer(NamedTuple):
    """What a model answered, and what it used."""

    text: str | None = None
    samples: list[str] | None = None
    status: str = "ok"
    token_logprobs: list[float] | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return an object, an empty one where it is absent."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Aside(f"{name} is not an object", calls.shown(value))
    return value


def items(value: Any, name: str) -> Sequence[Any]:
    """Return a list, an empty one where it is absent."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Aside(f"{name} is not a list", calls.shown(value))
    return value


def decoded(value: Any) -> Any:
    """Return what JSON text says, and other values as they are."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return _decoder.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def content(value: Any) -> str | None:
    """Return the text of a message's content: text, or a list of parts of which some are text."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        return calls.canonical(value)
    texts = [text for part in value if (text := _part(part)) is not None]
    return "".join(texts) if texts else None


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    # A tuple: what stands there may be of any type, also one that a set cannot be asked about.
    if not isinstance(part, dict) or part.get("type") not in _TEXTS:
        return None
    for key in ("text", "content", "refusal"):
        if isinstance(found := part.get(key), str):
            return found
    return None


def question(messages: Any) -> str | None:
    """Return the last thing the user said; the whole prompt where it is text."""
    messages = decoded(messages)
    if isinstance(messages, str):
        return messages or None
    if isinstance(messages, dict):
        messages = messages.get("messages", [messages])
    if not isinstance(messages, list):
        return None
    for each in reversed(messages):
        if isinstance(each, dict) and each.get("role") == "user" and (text := said(each)):
            return text
    return None


def said(message: Mapping[str, Any]) -> str | None:
    """Return the text of a message, whichever key it stands under."""
    found = message.get("content")
    return content(message.get("parts") if found is None else found)


def prompt(value: Any) -> str | None:
    """Return a text that is equal for equal prompts, None where none was recorded."""
    value = decoded(value)
    return calls.digest(value) if value or isinstance(value, int | float) else None


def completion(body: Mapping[str, Any]) -> Answer:
    """Read the body of a chat completion, a text completion, or a response of the Responses API."""
    if "output" in body and "choices" not in body:
        return _response(body)
    choices = [mapping(choice, "a choice") for choice in items(body.get("choices"), "choices")]
    texts = [_choice(choice) for choice in choices]
    usage = mapping(body.get("usage"), "usage")
    details = mapping(usage.get("prompt_tokens_details"), "prompt_tokens_details")
    first = choices[0] if choices else {}
    refused = calls.refused(first.get("finish_reason")) or bool(
        mapping(first.get("message"), "a message").get("refusal")
    )
    return Answer(
        texts[0] if texts else None,
        samples(texts),
        "refused" if refused else "ok",
        _logprobs(first),
        calls.tokens(usage.get("prompt_tokens"), "prompt_tokens"),
        calls.tokens(details.get("cached_tokens"), "cached_tokens"),
        calls.tokens(usage.get("completion_tokens"), "completion_tokens"),
    )


def samples(texts: Sequence[str | None]) -> list[str] | None:
    """Return all answers where there are several and each is text."""
    if len(texts) < 2:
        return None
    found = [text for text in texts if text is not None]
    return found if len(found) > 1 else None


def _choice(choice: Mapping[str, Any]) -> str | None:
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = mapping(choice.get("message"), "a message")
    found = content(message.get("content"))
    if not found and message.get("refusal"):
        return content(message["refusal"])
    return found or tool_calls(message.get("tool_calls")) or found


def tool_calls(value: Any) -> str | None:
    """Write the tools an answer calls as canonical JSON, without the ids, which differ every time."""
    asked = []
    for one in items(value, "tool_calls"):
        function = mapping(mapping(one, "a tool call").get("function", one), "a function")
        asked.append({"name": function.get("name"), "arguments": decoded(function.get("arguments"))})
    return calls.canonical({"tool_calls": asked}) if asked else None


def _logprobs(choice: Mapping[str, Any]) -> list[float] | None:
    recorded = mapping(choice.get("logprobs"), "logprobs")
    if recorded.get("content") is not None:
        tokens = [mapping(token, "a token") for token in items(recorded["content"], "logprobs")]
        return calls.logprobs([token.get("logprob") for token in tokens])
    return calls.logprobs(recorded.get("token_logprobs"))


def _response(body: Mapping[str, Any]) -> Answer:
    texts, tools, tokens = [], [], []
    refused = False
    for item in (mapping(one, "an output item") for one in items(body.get("output"), "output")):
        if item.get("type") == "function_call":
            tools.append({"function": item})
        for part in (mapping(one, "a part") for one in items(item.get("content"), "content")):
            refused |= part.get("type") == "refusal"
            texts.append(_part(part) or "")
            tokens += [mapping(token, "a token").get("logprob") for token in items(part.get("logprobs"), "logprobs")]
    usage = mapping(body.get("usage"), "usage")
    details = mapping(usage.get("input_tokens_details"), "input_tokens_details")
    return Answer(
        "".join(texts) or tool_calls(tools),
        None,
        "refused" if refused else "error" if body.get("status") == "failed" else "ok",
        calls.logprobs(tokens),
        calls.tokens(usage.get("input_tokens"), "input_tokens"),
        calls.tokens(details.get("cached_tokens"), "cached_tokens"),
        calls.tokens(usage.get("output_tokens"), "output_tokens"),
    )


def message(body: Mapping[str, Any]) -> Answer:
    """Read an Anthropic message; its input tokens leave out those read from and written to the cache."""
    blocks = [mapping(block, "a block") for block in items(body.get("content"), "content")]
    used = [block for block in blocks if block.get("type") == "tool_use"]
    tools = [{"name": block.get("name"), "arguments": block.get("input")} for block in used]
    usage = mapping(body.get("usage"), "usage")
    read = calls.tokens(usage.get("cache_read_input_tokens"), "cache_read_input_tokens")
    written = calls.tokens(usage.get("cache_creation_input_tokens"), "cache_creation_input_tokens")
    fresh = calls.tokens(usage.get("input_tokens"), "input_tokens")
    return Answer(
        content([block for block in blocks if block.get("type") == "text"]) or tool_calls(tools),
        status="refused" if body.get("stop_reason") == "refusal" else "ok",
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        cached_input_tokens=read,
        output_tokens=calls.tokens(usage.get("output_tokens"), "output_tokens"),
    )


def first(record: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """Return the first of several values that is there and not empty text."""
    for key in keys:
        found = record.get(key)
        if found is not None and found != "":
            return found
    return None
