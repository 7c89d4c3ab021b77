"""Standing between the user's code and the network: below its HTTP clients, and in front of every socket.

`httpx` is answered by respx, `httpx2` by pytest-httpx2, both below the client, so that its own handling of timeouts,
errors and streams runs as it does in production. What goes past them is stopped at the socket.
"""

from __future__ import annotations

import contextlib
import socket
from importlib import import_module, util
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from cascade_eval import errors
from cascade_eval.playback.nouns import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Answer = Callable[[Request], Response | None]

CORES: Final = ("httpcore", "httpcore2")
"""What `httpx` and `httpx2` send their requests through."""

HERE: Final = ("localhost", "127.", "::1", "0.0.0.0")  # noqa: S104  compared with, not listened on

_INSTALL: Final = "playback needs respx and pytest-httpx2. Install them: pip install 'cascade-eval[playback]'"


def _need(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise errors.UsageError(_INSTALL) from error


def cores() -> list[str]:
    """Return what installed clients send their requests through."""
    return [core for core in CORES if util.find_spec(core) is not None]


@contextlib.contextmanager
def answered(answer: Answer) -> Iterator[None]:
    """Answer every request of `httpx` and `httpx2`, sync or async.

    Parameters
    ----------
    answer
        From request to response; None lets the request through.
    """
    respx = _need("respx")
    _need("pytest_httpx2")
    with contextlib.ExitStack() as stack:
        for core in cores():
            router = respx.mock(using=core, assert_all_called=False, assert_all_mocked=True)
            stack.enter_context(router)
            route = router.route()
            route.mock(side_effect=_effect(answer, import_module(core), (router.calls, route.calls)))
        yield


def _effect(answer: Answer, core: ModuleType, kept: tuple[Any, Any]) -> Callable[[Any], Any]:
    import httpx

    def effect(request: Any) -> Any:
        for calls in kept:  # respx keeps every request and response; for a whole golden that is too much
            list.clear(calls)
        response = answer(_request(request))
        if response is None:
            return request
        _raise_fault(response, core)
        return httpx.Response(response.status, headers=dict(response.headers), content=response.body)

    return effect


def _request(request: Any) -> Request:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers.raw}
    waits = (request.extensions.get("timeout") or {}).get("read")
    return Request(request.method, str(request.url), headers, request.content, waits)


def _raise_fault(response: Response, core: ModuleType) -> None:
    if response.fault == "timeout":
        raise core.ReadTimeout(response.body.decode() or "timed out when it was recorded")
    if response.fault == "dropped":
        raise core.RemoteProtocolError("the connection broke when this was recorded")


@contextlib.contextmanager
def no_sockets(stop: Callable[[str], BaseException], allow: tuple[str, ...] = ()) -> Iterator[None]:
    """Stop every connection that leaves this machine, whoever opens it.

    Parameters
    ----------
    stop
        Makes what is raised, from a sentence.
    allow
        Hosts that may be reached.
    """

    def check(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name and not name.startswith(HERE) and name not in allow:
            raise stop(
                f"a connection to {name} was about to be opened, past httpx and httpx2. Playback answers those two; "
                f"to let it through, say allow=['{name}']."
            )

    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    resolve = socket.getaddrinfo

    def guarded(name: str) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if isinstance(address, tuple) and address:
                check(address[0])
            return real[name](self, address)

        return connect

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        check(host)
        return resolve(host, *rest, **options)

    with contextlib.ExitStack() as stack:
        for name in real:
            stack.enter_context(mock.patch.object(socket.socket, name, guarded(name)))
        stack.enter_context(mock.patch.object(socket, "getaddrinfo", getaddrinfo))
        yield
