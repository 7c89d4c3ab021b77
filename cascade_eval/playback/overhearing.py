"""Letting real calls through, and keeping what went to and fro.

A response is read whole before it is handed on: while recording, a stream arrives when it has ended.
"""

from __future__ import annotations

import contextlib
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

from cascade_eval.playback.interception import cores
from cascade_eval.playback.nouns import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Keep = Callable[[Request, Response, float], None]


@contextlib.contextmanager
def overheard(keep: Keep) -> Iterator[None]:
    """Let every request of `httpx` and `httpx2` through, and keep what comes back.

    Parameters
    ----------
    keep
        Gets request, response and seconds, when the response has arrived.
    """
    with contextlib.ExitStack() as stack:
        for core in map(import_module, cores()):
            for pool, method, wrap in (
                (core.ConnectionPool, "handle_request", _sync),
                (core.AsyncConnectionPool, "handle_async_request", _async),
            ):
                stack.enter_context(mock.patch.object(pool, method, wrap(getattr(pool, method), core, keep)))
        yield


def _sync(real: Callable[[Any, Any], Any], core: ModuleType, keep: Keep) -> Callable[[Any, Any], Any]:
    def handle_request(pool: Any, request: Any) -> Any:
        body = b"".join(request.stream)
        with _kept(request, body, keep) as found:
            response = real(pool, _again(core, request, body))
            try:
                content = b"".join(response.stream)
            finally:
                _maybe(response.stream, "close")
            found.append(_plain(response, content))
        return _whole(core, response, content)

    return handle_request


def _async(real: Callable[[Any, Any], Any], core: ModuleType, keep: Keep) -> Callable[[Any, Any], Any]:
    async def handle_async_request(pool: Any, request: Any) -> Any:
        body = b"".join([part async for part in request.stream])
        with _kept(request, body, keep) as found:
            response = await real(pool, _again(core, request, body))
            try:
                content = b"".join([part async for part in response.stream])
            finally:
                closing = _maybe(response.stream, "aclose")
                if closing is not None:
                    await closing
            found.append(_plain(response, content))
        return _whole(core, response, content)

    return handle_async_request


@contextlib.contextmanager
def _kept(request: Any, body: bytes, keep: Keep) -> Iterator[list[Response]]:
    """Keep what a call came to, be it a response or none."""
    found: list[Response] = []
    begun = time.perf_counter()
    try:
        yield found
    except Exception as error:
        found.append(Response(fault=_fault(error)))
        raise
    finally:
        if found:
            keep(_heard(request, body), found[0], time.perf_counter() - begun)


def _fault(error: Exception) -> Literal["timeout", "dropped"]:
    return "timeout" if "Timeout" in type(error).__name__ else "dropped"


def _maybe(stream: Any, method: str) -> Any:
    return getattr(stream, method)() if hasattr(stream, method) else None


def _heard(request: Any, body: bytes) -> Request:
    url = request.url
    port = "" if url.port is None else f":{url.port}"
    address = f"{url.scheme.decode()}://{url.host.decode()}{port}{url.target.decode()}"
    return Request(request.method.decode(), address, _named(request.headers), body)


def _named(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _again(core: ModuleType, request: Any, body: bytes) -> Any:
    """Make the request anew: its body has been read."""
    return core.Request(
        request.method, request.url, headers=request.headers, content=body, extensions=request.extensions
    )


def _plain(response: Any, content: bytes) -> Response:
    """Return a response with its content decoded."""
    import httpx

    headers = _named(response.headers)
    encoded = {"content-encoding": headers["content-encoding"]} if "content-encoding" in headers else {}
    body = httpx.Response(response.status, headers=encoded, content=content).content
    return Response(response.status, headers, body)


def _whole(core: ModuleType, response: Any, content: bytes) -> Any:
    return core.Response(response.status, headers=response.headers, content=content, extensions=response.extensions)
