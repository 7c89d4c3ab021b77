"""Standing between the user's code and the network: below its HTTP clients, and in front of every socket.

`httpx` is answered by respx, `httpx2` by pytest-httpx2, both below the client, so that its own handling of timeouts,
errors and streams runs as it does in production. What goes past them is stopped at the socket.

Playbacks may stand within one another, or beside one another in threads and tasks. A call belongs to the one its own
context began last; where a context began none, such as that of a worker thread, to the one begun last anywhere.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import socket
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module, util
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from cascade_eval import errors
from cascade_eval.playback.nouns import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

CORES: Final = ("httpcore", "httpcore2")
"""What `httpx` and `httpx2` send their requests through."""

_HERE: Final = ("localhost", "127.", "::", "0.0.0.0")  # noqa: S104  compared with, not listened on

_INSTALL: Final = "playback needs respx and pytest-httpx2. Install them: pip install 'cascade-eval[playback]'"


@dataclass(frozen=True, eq=False)
class Player:
    """What stands between code and network.

    Parameters
    ----------
    answer
        From request to response; None lets the request through.
    stop
        Makes what is raised where something else is to be connected to, from a sentence.
    allow
        Hosts that may be reached.
    addresses
        Where those are, as far as it was looked up.
    """

    answer: Callable[[Request], Response | None]
    stop: Callable[[str], BaseException]
    allow: tuple[str, ...] = ()
    addresses: set[str] = field(default_factory=set)


_STANDING: Final[list[Player]] = []
_OWN: ContextVar[Player | None] = ContextVar("cascade_eval.playback.player", default=None)
_PATCHES: Final = contextlib.ExitStack()
_LOCK: Final = threading.Lock()


def _current() -> Player:
    own = _OWN.get()
    return own if own is not None and own in _STANDING else _STANDING[-1]


def cores() -> list[str]:
    """Return what installed clients send their requests through."""
    return [core for core in CORES if util.find_spec(core) is not None]


@contextlib.contextmanager
def standing(player: Player) -> Iterator[None]:
    """Answer every request of `httpx` and `httpx2`, sync or async, and stop all other connections."""
    with _LOCK:
        if not _STANDING:
            _PATCHES.enter_context(_intercepted())
        _STANDING.append(player)
    before = _OWN.get()
    _OWN.set(player)
    try:
        yield
    finally:
        # A fixture may be left in another context than it was entered in, so no token is kept.
        _OWN.set(before)
        with _LOCK:
            _STANDING.remove(player)
            if not _STANDING:
                _PATCHES.close()


@contextlib.contextmanager
def _intercepted() -> Iterator[None]:
    router = _router()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_sockets())
        for core in cores():
            stack.enter_context(router(import_module(core)))
        yield


@functools.cache
def _router() -> Any:
    """Return a router of respx without routes: each is tried in turn, and every call kept, which takes longer than to answer."""
    try:
        import httpx
        import pytest_httpx2  # noqa: F401  registers what answers httpx2
        import respx
        from respx.models import PassThrough
    except ImportError as error:
        raise errors.UsageError(_INSTALL) from error

    class Router(respx.MockRouter):
        def __init__(self, core: ModuleType) -> None:
            super().__init__(using=core.__name__, assert_all_called=False)
            self._core = core
            self._through = self.route()

        def handler(self, request: httpx.Request) -> httpx.Response:
            response = _current().answer(_request(request))
            if response is None:
                raise PassThrough(f"{request!r} is let through", request=request, origin=self._through)
            _raise_fault(response, self._core)
            return httpx.Response(response.status, headers=dict(response.headers), content=response.body)

        async def async_handler(self, request: httpx.Request) -> httpx.Response:
            return self.handler(request)

    return Router


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
def _no_sockets() -> Iterator[None]:
    """Stop every connection that is not allowed, whoever opens it.

    One to this machine is stopped as well: there may be a model behind it, or a proxy.
    """
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    resolve = socket.getaddrinfo

    def guarded(name: str) -> Callable[..., Any]:
        def connect(self: socket.socket, *rest: Any) -> Any:
            address = rest[-1] if rest else None
            if isinstance(address, tuple) and address and not _of_a_pair(address[0]):
                try:
                    _check(_text(address[0]))
                except BaseException:
                    self.close()  # whoever opened it waits for an OSError before he does
                    raise
            return real[name](self, *rest)

        return connect

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        name = _text(host)
        # A server of the test looks its own address up too; whoever connects to it is asked when he does.
        if not name.startswith(_HERE):
            _check(name)
        found = resolve(host, *rest, **options)
        if name in (player := _current()).allow:
            player.addresses.update(str(one[4][0]) for one in found)
        return found

    with contextlib.ExitStack() as stack:
        for name in real:
            stack.enter_context(mock.patch.object(socket.socket, name, guarded(name)))
        stack.enter_context(mock.patch.object(socket, "getaddrinfo", getaddrinfo))
        yield


def _text(host: object) -> str:
    return host.decode() if isinstance(host, bytes) else host if isinstance(host, str) else ""


def _of_a_pair(host: object) -> bool:
    """Whether two ends of one pipe are being connected, which an event loop needs and Windows has no other way for."""
    frame = inspect.currentframe()
    caller = frame.f_back.f_back if frame is not None and frame.f_back is not None else None
    return caller is not None and caller.f_code.co_name.endswith("socketpair") and _text(host).startswith(_HERE)


def _check(host: str) -> None:
    player = _current()
    if host and host not in player.allow and host not in player.addresses:
        raise player.stop(
            f"a connection to {host} was about to be opened, past httpx and httpx2. Playback answers those two; "
            f"to let it through, say allow=['{host}']."
        )
