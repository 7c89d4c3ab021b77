"""The official clients, each request on its own: no retry of theirs, one time limit, every ending named."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final, Protocol

from cascade_eval import scrubbing
from cascade_eval.errors import Problem, UsageError
from cascade_eval.recording import responses
from cascade_eval.recording.nouns import Reply
from cascade_eval.recording.responses import QUOTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cascade_eval.recording.nouns import Call, Model

KEYS: Final = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
ADDRESSES: Final = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that need no key, and that no proxy of the environment stands before."""

DOMAINS: Final = {"openai": (".openai.com",), "anthropic": (".anthropic.com",)}
"""Where a provider's own key may go unasked."""

LOGGERS: Final = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
"""Whoever logs requests, their addresses and their headers, and with them keys."""

MOST_BYTES: Final = 50_000_000

_AGAIN: Final = frozenset({409, 425, 429, 500, 503, 529})
"""Refused before any work was billed; asking again costs nothing twice."""
_LATE: Final = frozenset({408, 504, 524})
"""Someone on the way gave up waiting; the model may have answered, and billed."""
_HOPELESS: Final = frozenset({401, 402, 403, 404, 407})
"""The next call would be refused for the same reason."""
_FILTERED: Final = ("content_filter", "content management policy", "content_policy", "flagged", "moderation")
"""What providers say of a prompt that they will not answer: that one, and not the next."""


class Client(Protocol):
    """Sends requests to one model."""

    async def ask(self, call: Call) -> Reply:
        """Send one request; whatever happens is a reply, never an exception."""

    async def close(self) -> None:
        """Close its connections."""


class Official:
    """An official client of `openai` or `anthropic`.

    Parameters
    ----------
    model
        Whom to ask.
    key
        Its key.
    http_client
        An `httpx2.AsyncClient` to send with, for tests and proxies.
    """

    def __init__(self, model: Model, key: str, http_client: Any = None) -> None:
        self._sdk = _library(model.client)
        base_url = model.base_url or ADDRESSES[model.client]
        make = self._sdk.AsyncOpenAI if model.client == "openai" else self._sdk.AsyncAnthropic
        # A redirect would carry the prompt to wherever the server says.
        http_client = http_client or self._sdk.DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=host(model) not in LOOPBACK
        )
        options = {"api_key": key, "base_url": base_url, "max_retries": 0, "http_client": http_client}
        self._client = make(timeout=model.timeout, **options)
        self._resource = (
            self._client.chat.completions if model.client == "openai" else self._client.messages
        ).with_streaming_response

    async def ask(self, call: Call) -> Reply:
        """Send one request; whatever happens is a reply, never an exception."""
        limit = call.model.timeout
        try:
            async with asyncio.timeout(limit):
                return await self._send(call)
        except (TimeoutError, self._sdk.APITimeoutError):
            return Reply("timeout", reason=f"no whole answer within {limit:g} s")
        except self._sdk.APIStatusError as error:
            return refusal(error.status_code, error.response.headers, _said(error))
        except self._sdk.APIConnectionError as error:
            return _unconnected(error)
        except Exception as error:  # noqa: BLE001  a call that broke in any way is an outcome, and the rest goes on
            return Reply("error", reason=f"{type(error).__name__}: {error}"[:QUOTED])

    async def _send(self, call: Call) -> Reply:
        body = dict(call.body)
        named = {name: body.pop(name) for name in ("model", "messages", "max_tokens") if name in body}
        received = bytearray()
        async with self._resource.create(**named, extra_body=body) as response:
            content_type = response.headers.get("content-type", "")
            try:
                async for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > MOST_BYTES:
                        return Reply("error", reason=f"more than {MOST_BYTES:,} bytes")
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  the transport's errors differ between versions
                return Reply("error", reason=_dropped(error, len(received)))
        return responses.read(call.model.client, bytes(received), content_type, streamed=call.model.stream)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _library(client: str) -> Any:
    from importlib import import_module

    try:
        return import_module(client)
    except ImportError:
        message = f"the package '{client}' is not installed. Install: pip install 'cascade-eval[live]'."
        raise UsageError([Problem(message)]) from None


def connect(model: Model, key: str) -> Client:
    """Return a client for one model.

    Raises
    ------
    UsageError
        The official client is not installed, or the environment names a proxy that cannot be one.
    """
    try:
        return Official(model, key)
    except ValueError as error:
        message = scrubbing.scrub(f"'{model.name}' cannot be asked: {error}")
        raise UsageError([Problem(message)]) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let nobody who sends requests log more than warnings: ``ANTHROPIC_LOG=debug`` shows addresses, prompts, headers.

    Clients are made before: importing them is what reads such variables.
    """
    names = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in LOGGERS]
    before = {name: logging.getLogger(name).level for name in dict.fromkeys([*LOGGERS, *names])}
    for name, level in before.items():
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def host(model: Model) -> str:
    """Return the host a model is asked at.

    Examples
    --------
    >>> from cascade_eval.recording import Model
    >>> host(Model("m", "openai", "x")), host(Model("m", "openai", "x", base_url="http://LOCALHOST:8080/v1"))
    ('api.openai.com', 'localhost')
    """
    return urllib.parse.urlsplit(model.base_url or ADDRESSES[model.client]).hostname or ""


def _dropped(error: Exception, received: int) -> str:
    return f"the connection was dropped after {received:,} bytes of the answer ({type(error).__name__})"


def _said(error: Any) -> str:
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    said = inner.get("message", inner) if isinstance(inner, dict) else inner
    code = inner.get("code") if isinstance(inner, dict) else None
    shown = responses.readable(str(said or error.message))[:QUOTED]
    return f"{shown} ({code})" if isinstance(code, str) else shown


def _unconnected(error: BaseException) -> Reply:
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in {"ConnectError", "ProxyError", "UnsupportedProtocol"}:
            # Nothing was sent, so nothing was billed, and no other call of this model will get further.
            return Reply("error", billed="nothing", reason=f"cannot connect: {cause}", again=True, hopeless=True)
        cause = cause.__cause__
    return Reply("error", reason=_dropped(error.__cause__ or error, 0))  # type: ignore[arg-type]


def refusal(status: int, headers: Mapping[str, str], said: str) -> Reply:
    """Say what an error status means.

    Parameters
    ----------
    status
        Of the response.
    headers
        May ask to wait.
    said
        The server's message.

    Returns
    -------
    Reply
        Only requests that were surely not billed may be asked again.

    Examples
    --------
    >>> reply = refusal(429, {"retry-after": "2"}, "slow down")
    >>> reply.again, reply.after, reply.billed, reply.reason
    (True, 2.0, 'nothing', '429: slow down')
    >>> refusal(504, {}, "upstream").status, refusal(504, {}, "upstream").billed
    ('timeout', 'unknown')
    """
    reason = f"{status}: {said}"
    if status in _LATE:
        return Reply("timeout", reason=reason)
    if status < 400:
        where = scrubbing.url(headers.get("location", "")) or "nowhere"
        reason = f"{status}: no redirect is followed, write the address itself as base_url: {where[:QUOTED]}"
        return Reply("error", billed="nothing", reason=reason, hopeless=True)
    if status in {400, 403} and any(word in said.lower() for word in _FILTERED):
        return Reply("refused", billed="nothing", reason=reason)
    if status in _HOPELESS or "insufficient_quota" in said:
        return Reply("error", billed="nothing", reason=reason, hopeless=True)
    if status in _AGAIN:
        return Reply("error", billed="nothing", reason=reason, again=True, after=wait(headers))
    if status >= 500:
        return Reply("error", reason=reason)
    return Reply("error", billed="nothing", reason=reason)


def wait(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a response asks to wait: ``Retry-After`` in seconds or as a date, or ``retry-after-ms``.

    Examples
    --------
    >>> wait({"retry-after-ms": "250"}), wait({"retry-after": "soon"}), wait({})
    (0.25, None, None)
    >>> wait({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"})
    30.0
    """
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        if seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(date.timestamp() - _now(headers), 0.0)


def _now(headers: Mapping[str, str]) -> float:
    """Return the server's own time where it says it, for its date to wait for is by the same clock."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return time.time()
