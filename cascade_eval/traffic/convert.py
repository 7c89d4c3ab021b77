"""Text files as columns, converted once and kept under the hash of their content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cascade_eval.errors import Problem
from cascade_eval.traffic import delimited, jsonl, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade_eval.traffic.files import File

_VERSION = "2"
"""Changes when the same bytes would convert to other tables."""

_FACTS = "facts.json"
"""Written last: a folder that has it is complete."""


def cache_folder() -> Path | None:
    """Return where converted files are kept; None where `CASCADE_EVAL_CACHE` is ``off``."""
    if os.environ.get("CASCADE_EVAL_CACHE", "").lower() == "off":
        return None
    root = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(root) / "cascade_eval"


@dataclass(frozen=True)
class Converted:
    """A text file as columns, and what was noted on the way."""

    parts: tuple[parts.Part, ...]
    notes: jsonl.Notes


def read(file: File, cache: Path | None) -> Converted:
    """Convert a JSONL or CSV file.

    Converted tables are kept below `cache` where that is possible; a cache that cannot be written is done without.
    """
    if cache is None or file.system is not None:
        return _in_memory(file)
    place = cache / "converted" / _key(file)
    with contextlib.suppress(OSError, ValueError, KeyError, pa.ArrowInvalid):
        return stored(file.name, place)
    with contextlib.suppress(OSError, ValueError, KeyError, pa.ArrowInvalid):
        _store(file, place)
        return stored(file.name, place)
    return _in_memory(file)


def _key(file: File) -> str:
    digest = hashlib.sha256(f"{_VERSION} {file.format} {file.compression}\n".encode())
    with file.open() as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _in_memory(file: File) -> Converted:
    notes = jsonl.Notes()
    segments: dict[str, list[pa.Table]] = {}
    for table in _widening(_tables(file, notes)):
        segments.setdefault(str(table.schema), []).append(table)
    found = tuple(parts.TablePart(file.name, pa.concat_tables(tables)) for tables in segments.values())
    return Converted(found, notes)


def _tables(file: File, notes: jsonl.Notes) -> Iterator[pa.Table]:
    try:
        with file.open() as raw:
            stream = decompressed(raw, file.compression)
            if file.format == "jsonl":
                yield from jsonl.tables(stream, file.name, notes)
            else:
                yield from delimited.typed(list(delimited.tables(stream, file.name, notes)))
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        notes.broken.append(Problem(f"the file cannot be read to its end: {error}", file.name))


def decompressed(raw: Any, compression: str | None) -> Any:
    """Return a stream of the bytes a file holds once unpacked; `compression` is ``gzip``, ``zstd`` or None."""
    if compression is None:
        return raw
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression), 1 << 20)


def _widening(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cast each table to the types seen so far, so that the schema changes only when it must grow."""
    types: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            types[field.name] = parts.common_type([types.get(field.name, pa.null()), field.type])
        here = set(table.column_names)
        columns = {
            name: parts.cast(parts.whole(table.column(name)), kind) if name in here else pa.nulls(table.num_rows, kind)
            for name, kind in types.items()
        }
        yield pa.table(columns)


def _store(file: File, place: Path) -> None:
    """Convert into a folder of its own and rename it into place: of two processes one wins, both are right."""
    place.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=place.parent))
    try:
        notes = jsonl.Notes()
        write(_tables(file, notes), notes, building)
        # An entry that is there although it could not be used is broken.
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            building.rename(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write(tables: Iterable[pa.Table], notes: jsonl.Notes, folder: Path) -> None:
    """Write tables into a folder, one Parquet file for each schema they grow to, and what was noted on the way.

    Parameters
    ----------
    tables
        May be a generator; one table is held at a time.
    notes
        Complete once the tables have been read.
    folder
        Exists and is empty.
    """
    import pyarrow.parquet as pq

    rows: list[int] = []
    writer = None
    try:
        for table in _widening(tables):
            if writer is None or writer.schema != table.schema:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(folder / _segment(len(rows)), table.schema)
                rows.append(0)
            writer.write_table(table)
            rows[-1] += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    (folder / _FACTS).write_text(json.dumps(_facts(notes, rows)), encoding="utf-8")


def _segment(number: int) -> str:
    return f"{number:05d}.parquet"


def _facts(notes: jsonl.Notes, rows: list[int]) -> dict[str, Any]:
    return {
        "rows": rows,
        "models": list(notes.models),
        "problems": [[problem.message, problem.line] for problem in notes.problems],
        "broken": [[problem.message, problem.line] for problem in notes.broken],
    }


def stored(name: str, place: Path) -> Converted:
    """Read what `write` left in a folder, under the name that messages use.

    Raises
    ------
    OSError, ValueError, KeyError, pa.ArrowInvalid
        It is not complete.
    """
    facts = json.loads((place / _FACTS).read_text(encoding="utf-8"))
    problems, broken = (
        [Problem(message, name, line) for message, line in facts[kind]] for kind in ("problems", "broken")
    )
    segments = [place / _segment(number) for number in range(len(facts["rows"]))]
    found = tuple(parts.ParquetPart(name, functools.partial(str, path)) for path in segments)
    if [part.rows for part in found] != facts["rows"]:
        raise ValueError("rows are missing")
    return Converted(found, jsonl.Notes(problems, broken, dict.fromkeys(facts["models"])))
