"""Which format a request speaks, and recorded outcomes said in it: whole, streamed, refused, failed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cascade_eval.playback import chat, messages, pieces, responses
from cascade_eval.playback.nouns import Outcome, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cascade_eval.playback.nouns import Request


@dataclass(frozen=True)
class Format:
    """One provider's format.

    Parameters
    ----------
    path
        End of the URL's path.
    render, stream
        From an outcome and the request it answers to a JSON object, and to server-sent events.
    joined, parse
        From the objects of a stream to one, and from that to an outcome.
    """

    path: str
    render: Callable[[Outcome, Request], dict[str, Any]]
    stream: Callable[[Outcome, Request], Iterator[tuple[str | None, Any]]]
    joined: Callable[[Iterable[dict[str, Any]]], dict[str, Any]]
    parse: Callable[[dict[str, Any]], Outcome]


FORMATS: Final = tuple(
    Format(one.PATH, one.render, one.stream, one.joined, one.parse) for one in (chat, responses, messages)
)

TIMEOUTS: Final = frozenset({408, 504, 524})
"""Statuses by which a server says that it took too long."""

# What was recorded is what came of a call after its own retries: clients of both providers obey this.
_FINAL: Final = {"x-should-retry": "false"}


def format_of(request: Request) -> Format | None:
    """Return the format a request speaks, None where it is none of the known ones."""
    return next((one for one in FORMATS if request.method == "POST" and request.path.endswith(one.path)), None)


def model_of(request: Request) -> str:
    """Return the model a request asks: of its body, else the deployment its path names."""
    named = request.asked("model")
    if named:
        return str(named)
    before, found, after = request.path.partition("/deployments/")
    return after.partition("/")[0] if found and before else ""


def answer(form: Format, outcome: Outcome, request: Request) -> Response:
    """Say an outcome in the format of a request, streamed if it asks for that."""
    if outcome.status == "timeout":
        return Response(fault="timeout")
    if outcome.status == "error":
        error = {
            "message": "this call failed when it was recorded",
            "type": "server_error",
            "param": None,
            "code": None,
        }
        return _json(500, {"type": "error", "error": error}, _FINAL)
    if request.asked("stream"):
        return Response(200, {"content-type": "text/event-stream"}, pieces.encode(form.stream(outcome, request)))
    return _json(200, form.render(outcome, request), {})


def plain(reply: Any) -> Response:
    """Return a JSON response of any service."""
    return _json(200, reply, {})


def failed() -> Response:
    """Return what a plain service says where its call failed when it was recorded."""
    return _json(500, {"error": "this call failed when it was recorded"}, _FINAL)


def _json(status: int, value: Any, headers: dict[str, str]) -> Response:
    return Response(status, {"content-type": "application/json", **headers}, json.dumps(value).encode())


def outcome(request: Request, response: Response) -> Outcome | None:
    """Read what came of a call; None where it speaks none of the known formats.

    Examples
    --------
    >>> from cascade_eval.playback.nouns import Request
    >>> request = Request("POST", "https://api.openai.com/v1/chat/completions", body=b'{"model": "mini"}')
    >>> outcome(request, answer(chat_format := FORMATS[0], Outcome("mini", answer="yes"), request)).answer
    'yes'
    """
    form = format_of(request)
    if form is None:
        return None
    asked = model_of(request)
    if response.fault is not None or response.status >= 400:
        late = response.fault == "timeout" or response.status in TIMEOUTS
        return Outcome(asked, "timeout" if late else "error")
    try:
        if "event-stream" in response.headers.get("content-type", "") or response.body.startswith(
            (b"data:", b"event:")
        ):
            body = form.joined(pieces.decode(response.body))
        else:
            body = json.loads(response.body)
        found = form.parse(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Outcome(asked, "error")
    return replace(found, model=asked or found.model)
