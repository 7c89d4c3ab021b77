"""What goes to and fro: requests, responses, what a model said in them, and the calls of one playback."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

Row: TypeAlias = Mapping[str, Any]
"""What was recorded of one case and one model, by column."""

Status: TypeAlias = Literal["ok", "timeout", "error", "refused"]

NOT_JSON: Final = object()
"""`Request.json` of a body that is no JSON."""


@dataclass(frozen=True)
class Request:
    """A request as it left the client.

    Parameters
    ----------
    method
        In capitals.
    url
        With scheme, host and query.
    headers
        By lower-case name.
    body
        As sent.
    timeout
        Seconds the client waits for an answer; None where it waits for ever.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout: float | None = None

    @cached_property
    def path(self) -> str:
        """Path of the URL, without the query."""
        return urllib.parse.urlsplit(self.url).path or "/"

    @cached_property
    def query(self) -> str:
        """Query of the URL, without its question mark."""
        return urllib.parse.urlsplit(self.url).query

    @cached_property
    def host(self) -> str:
        """Host name of the URL."""
        return urllib.parse.urlsplit(self.url).hostname or ""

    @cached_property
    def json(self) -> Any:
        """The body as JSON; `NOT_JSON` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return NOT_JSON

    def asked(self, key: str) -> Any:
        """Return what a JSON body says under `key`, None where it says nothing."""
        return self.json.get(key) if isinstance(self.json, dict) else None


@dataclass(frozen=True)
class Response:
    """A response as the client gets it.

    Parameters
    ----------
    status
        Of HTTP.
    headers
        By lower-case name.
    body
        Decoded.
    fault
        ``timeout`` or ``dropped`` where the client got no response at all, or not all of it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: Literal["timeout", "dropped"] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a model's call came to, in the words of traffic.

    Parameters
    ----------
    model
        As the request or the response names it.
    status
        How the call ended.
    answer
        What was said.
    input_tokens, cached_input_tokens, output_tokens
        As billed; None where not said.
    token_logprobs, top_logprobs
        Natural logarithms, by token; None where not recorded.
    """

    model: str
    status: Status = "ok"
    answer: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    token_logprobs: list[float] | None = None
    top_logprobs: list[Any] | None = None


@dataclass(frozen=True)
class Adapter:
    """How a plain HTTP service, such as a scorer, is answered from recorded traffic.

    Parameters
    ----------
    path
        Path of its URL, or the end of it.
    model
        The recorded model whose row answers, or a function from the request to it.
    reply
        From the row, with the columns of the case, to what is sent back as JSON.
    charged
        Whether the row is this call's own, to be paid. False where a column recorded with another model's answer is
        read, such as its confidence: the call then costs nothing, as a gate on that column does.
    method
        Of HTTP.
    """

    path: str
    model: str | Callable[[Request], str]
    reply: Callable[[Row], Any]
    charged: bool = True
    method: str = "POST"

    def takes(self, request: Request) -> bool:
        """Whether it is this service that was asked."""
        return request.method == self.method and request.path.endswith(self.path)

    def model_of(self, request: Request) -> str:
        """Return the recorded model that answers a request."""
        return self.model if isinstance(self.model, str) else self.model(request)


@dataclass(frozen=True)
class Asked:
    """One call that was made and answered.

    Parameters
    ----------
    case
        The case it was made for; None where it is not known.
    model
        As recorded; None where a service is no model anyone named.
    status
        How the call ended for the code that made it.
    run
        Which of the recorded repeats answered.
    charged
        Whether it is paid.
    limit
        Seconds after which it timed out, where the recording took longer.
    said
        What it answered, as text.
    number
        Which recording of a cassette answered.
    """

    case: str | None
    model: str | None
    status: Status = "ok"
    run: int = 0
    charged: bool = True
    limit: float | None = None
    said: str | None = None
    number: int = -1


@dataclass(frozen=True)
class Call:
    """One call of the code under test, with what was recorded of it.

    Parameters
    ----------
    case, model
        Whom it was made for and who answered; None where that is not known.
    tier
        Name of the model's tier, None where it is none.
    status
        ``ok``, ``timeout``, ``error`` or ``refused``.
    input_tokens, output_tokens, cost_usd, latency_s
        As recorded, None where unknown.
    """

    case: str | None
    model: str | None
    tier: str | None
    status: Status
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float | None
