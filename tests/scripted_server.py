"""A loopback server that answers as its script says: late, not at all, broken in the middle, or well.

It speaks HTTP by hand, because what it must do wrong no server library does. Every request it hears is kept, so that a
test can ask who paid for what. ``python scripted_server.py`` serves in a process of its own, until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Act:
    """What one request gets.

    Parameters
    ----------
    status, headers, body
        The response.
    after
        Seconds before it.
    pieces
        The body in pieces, sent one by one, instead of `body`.
    drop
        Whether the connection is closed before the announced end.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0
    pieces: tuple[bytes, ...] = ()
    drop: bool = False


def chat(answer="yes", *, input_tokens=100, output_tokens=10, **extra):
    """Write a chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}, **extra}
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return {"id": "c", "object": "chat.completion", "model": "scripted", "choices": [choice], "usage": usage}


def ok(answer="yes", **values):
    """Answer well."""
    return Act(body=json.dumps(chat(answer, **values)).encode(), headers={"content-type": "application/json"})


def message(answer="yes", *, input_tokens=100, output_tokens=10, stop_reason="end_turn"):
    """Write a message of Anthropic's interface."""
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [{"type": "text", "text": answer}],
        "stop_reason": stop_reason,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    }


def events(*objects, done=True):
    """Write server-sent events, one piece each."""
    pieces = [f"data: {json.dumps(one)}\n\n".encode() for one in objects]
    return tuple([*pieces, b"data: [DONE]\n\n"] if done else pieces)


def streamed(words, *, input_tokens=100, output_tokens=10):
    """Write the events of a streamed chat completion."""
    deltas = [{"model": "scripted", "choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}}
    return [*deltas, end, usage]


class Server:
    """Serves in a thread.

    Parameters
    ----------
    script
        Gives the act for a request: its headers, its body, and how often this very body came before.
    """

    def __init__(self, script) -> None:
        self.script = script
        self.heard: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._times: dict[str, int] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader, writer) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _exchange(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        written = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(written or b"{}")
        key = json.dumps(body, sort_keys=True)
        before = self._times.get(key, 0)
        self._times[key] = before + 1
        self.heard.append(body)
        self.headers.append(headers)
        act = self.script(headers, body, before)
        await asyncio.sleep(act.after)
        await self._answer(writer, act)
        return not act.drop

    async def _answer(self, writer, act: Act) -> None:
        pieces = act.pieces or (act.body,)
        length = sum(map(len, pieces)) + (100 if act.drop else 0)
        lines = [f"HTTP/1.1 {act.status} Said", f"content-length: {length}"]
        lines += [f"{name}: {value}" for name, value in act.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)


def asked(body) -> str:
    """Return the question of a request."""
    return body["messages"][-1]["content"]


if __name__ == "__main__":
    with Server(
        lambda _headers, body, _before: Act(**{**vars(ok(f"to {asked(body)}")), "after": float(sys.argv[1])})
    ) as it:
        sys.stdout.write(f"{it.port}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            if line.strip() == "heard":
                sys.stdout.write(json.dumps([asked(body) for body in it.heard]) + "\n")
                sys.stdout.flush()
                it.heard.clear()
