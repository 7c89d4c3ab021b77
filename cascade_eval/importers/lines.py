"""Files of a log, record by record: lines, one document, or rows of a table, in constant memory."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from cascade_eval.errors import DataError, Problem
from cascade_eval.importers import calls
from cascade_eval.importers.calls import Aside
from cascade_eval.traffic import convert, files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cascade_eval.traffic.files import File

LONGEST = 64 << 20
"""Bytes one line may have."""

LARGEST = 256 << 20
"""Bytes a file may have that is one JSON document, which is read as a whole."""

ROWS = 8192
"""Rows of a table turned into objects at once."""

KINDS = {".json": "json", ".jsonl": "lines", ".ndjson": "lines", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


def find(path: str, base: Path | None) -> list[File]:
    """List the files of a log, a folder or an fsspec URL in the order of their names.

    Raises
    ------
    DataError
        Nothing there, nothing that can be read, or beside it what may be a part of the log and cannot.
    """
    every = files.every(path, base)
    found = [file for file in every if _kind(file) is not None]
    if not found:
        raise DataError([Problem(f"no file of a log. {_READABLE}", path)])
    files.refuse_unread(every, found, KINDS, _READABLE)
    return sorted(found, key=lambda file: file.relative)


_READABLE = "Readable: .jsonl, .ndjson, .json (each also .gz, .zst), .csv, .parquet, or a folder of them."


def _kind(file: File) -> str | None:
    stem = Path(file.relative)
    if file.compression is not None:
        stem = stem.with_suffix("")
    kind = KINDS.get(stem.suffix.lower())
    return None if kind == "parquet" and file.compression else kind


def read(file: File, decode: Callable[[bytes], Any]) -> Iterator[tuple[int, Any]]:
    """Yield what each line (element, row) of a file says with its number; an `Aside` in place of one that is bad.

    Raises
    ------
    DataError
        The file ends too early: nobody knows how much is missing.
    """
    kind = _kind(file)
    try:
        if kind == "parquet":
            yield from _parquet(file)
            return
        with file.open() as raw:
            stream = convert.decompressed(raw, file.compression)
            if kind == "csv":
                yield from _csv(stream, file.name)
            elif kind == "json":
                yield from _json(stream, file.name, decode)
            else:
                yield from _lines(stream, 1, decode)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError([Problem(f"the file cannot be read to its end: {error}", file.name)]) from error


def _lines(
    stream: Any, number: int, decode: Callable[[bytes], Any], longest: int = LONGEST
) -> Iterator[tuple[int, Any]]:
    while line := stream.readline(longest + 1):
        if len(line) > longest:
            _skip(stream, line)
            yield number, Aside(f"the line is longer than {longest:,} bytes")
        elif not line.isspace():
            yield number, _decoded(line, decode)
        number += 1


def _skip(stream: Any, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(LONGEST)


def _decoded(line: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return Aside("the line is not JSON", f"{error}: {line[:40].decode('utf-8', 'replace')!r}")


def _json(stream: Any, name: str, decode: Callable[[bytes], Any]) -> Iterator[tuple[int, Any]]:
    """Read a file called .json: one document, or lines all the same."""
    first = stream.readline(LONGEST)
    found = _decoded(first, decode)
    rest = stream.read(LARGEST + 1 - len(first)) if isinstance(found, Aside) else b""
    if not isinstance(found, Aside) and not isinstance(found, list):
        yield 1, found
        yield from _lines(stream, 2, decode)
        return
    document = first + rest
    if len(document) > LARGEST:
        message = f"one JSON document of more than {LARGEST:,} bytes. Write a record on each line and call it .jsonl"
        raise DataError([Problem(message, name)])
    try:
        whole = msgspec.json.decode(document.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"not one JSON document ({error}). A file with a record on each line is called .jsonl"
        raise DataError([Problem(message, name)]) from error
    yield from enumerate(whole, 1) if isinstance(whole, list) else [(1, whole)]


def _csv(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="strict", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        for row in reader:
            yield reader.line_num, _row(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError([Problem(f"not readable as CSV: {error}", name, reader.line_num)]) from error
    finally:
        # The stream is closed by whoever opened it.
        text.detach()


def _row(row: dict[str | Any, Any]) -> Any:
    """Return the cells that are not empty; a row that is shorter or longer than the head has None among them."""
    if None in row or None in row.values():
        return Aside("the row has other columns than the head")
    return {name: value for name, value in row.items() if value != ""}


def _parquet(file: File) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet as pq

    number = 0
    with file.open() as raw:
        for batch in pq.ParquetFile(raw).iter_batches(ROWS):
            for row in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in row.items() if value is not None}


def unchanged(record: Any) -> list[Any]:
    """Take a line for one record, which must be an object."""
    if not isinstance(record, dict):
        raise Aside("the line is not an object", calls.shown(record))
    return [record]
