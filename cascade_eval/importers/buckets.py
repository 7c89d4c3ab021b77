"""Calls on disk by case, so that all calls of a case meet again while memory stays the same for any log.

Calls are written into one of 64 files by the hash of their case; a file that became too large for memory is divided
again by the next bits. The order in which cases come back depends on the cases alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from cascade_eval.importers.calls import Call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BITS = 6
DEEPEST = 4
LARGEST = 1 << 20
"""Bytes of calls decoded at once."""

BUFFERED = 1 << 17
"""Bytes held back for each file; an eighth at every further depth, where less is written and calls are held as well."""

MOST = 10_000
"""Calls one case may have; a log in which every call has the same case id is no log of cases."""

_encode = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(Call)


class Buckets:
    """Calls by case, below a folder of their own.

    Parameters
    ----------
    folder
        Where files are written; it exists and is empty.
    depth
        How often the cases were divided before.
    largest
        Bytes of calls decoded at once.
    most
        Calls one case may have.
    """

    def __init__(self, folder: Path, depth: int = 0, *, largest: int = LARGEST, most: int = MOST) -> None:
        self._folder = folder
        self._depth = depth
        self._largest = largest
        self._most = most
        self._buffered = BUFFERED >> 3 * depth
        self._buffers = [bytearray() for _ in range(1 << BITS)]

    def add(self, call: Call) -> None:
        """Write a call."""
        number = _bits(call.case, self._depth)
        written = _encode.encode(call)
        buffer = self._buffers[number]
        buffer += len(written).to_bytes(4, "little")
        buffer += written
        if len(buffer) > self._buffered:
            self._flush(number)

    def _flush(self, number: int) -> None:
        with self._file(number).open("ab") as file:
            file.write(self._buffers[number])
        self._buffers[number].clear()

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:02d}"

    def cases(self) -> Iterator[tuple[str, list[Call], int]]:
        """Yield each case with its calls, in any order, and how many more it had than a case may have."""
        for number, buffer in enumerate(self._buffers):
            if buffer:
                self._flush(number)
        for number in range(1 << BITS):
            file = self._file(number)
            if not file.exists():
                continue
            if file.stat().st_size > self._largest and self._depth < DEEPEST:
                yield from self._divided(file)
            else:
                yield from _grouped(file, self._most)
            file.unlink(missing_ok=True)

    def _divided(self, file: Path) -> Iterator[tuple[str, list[Call], int]]:
        below = file.with_suffix(".d")
        below.mkdir()
        inner = Buckets(below, self._depth + 1, largest=self._largest, most=self._most)
        for call in _calls(file):
            inner.add(call)
        file.unlink()
        yield from inner.cases()
        below.rmdir()


def _bits(case: str, depth: int) -> int:
    found = int.from_bytes(hashlib.blake2b(case.encode(), digest_size=8).digest(), "big")
    return (found >> (64 - BITS * (depth + 1))) & ((1 << BITS) - 1)


def _calls(file: Path) -> Iterator[Call]:
    with file.open("rb", buffering=1 << 20) as stream:
        while head := stream.read(4):
            yield _decode.decode(stream.read(int.from_bytes(head, "little")))


def _grouped(file: Path, most: int) -> Iterator[tuple[str, list[Call], int]]:
    found: dict[str, list[Call]] = {}
    more: dict[str, int] = {}
    for call in _calls(file):
        calls = found.get(call.case)
        if calls is None:
            found[call.case] = [call]
        elif len(calls) < most:
            calls.append(call)
        else:
            more[call.case] = more.get(call.case, 0) + 1
    for case in sorted(found):
        yield case, found.pop(case), more.get(case, 0)
