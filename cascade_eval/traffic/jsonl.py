"""JSON lines, flat or nested by model, into tables whose columns hold one type each.

Every line is parsed on its own with its own number, so that one bad line names itself and hides no other.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from cascade_eval.errors import Problem
from cascade_eval.traffic import canonical, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

LONGEST_LINE = 64 << 20
"""Bytes one record may have."""

BLOCK = 4 << 20
"""Bytes parsed at once."""

_VALUES = msgspec.json.Decoder()
_HALF = re.compile("[\ud800-\udfff]")


@dataclass
class Notes:
    """What a conversion found beside rows.

    Parameters
    ----------
    problems
        Lines that are no records.
    broken
        Why the file could not be read to its end.
    models
        Models that nested records name, in order of appearance.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)
    models: dict[str, None] = field(default_factory=dict)


def tables(
    stream: BinaryIO, name: str, notes: Notes, *, block: int = BLOCK, longest: int = LONGEST_LINE
) -> Iterator[pa.Table]:
    """Yield the records of a stream as tables, and note the lines that are none.

    Parameters
    ----------
    stream
        Bytes, decompressed.
    name
        The file as the user named it.
    notes
        Added to: what is wrong, and the models nested records name.
    block
        Bytes parsed at once.
    longest
        Bytes one record may have.
    """
    number = 1
    for text, whole in _blocks(stream, block, longest):
        if not whole:
            notes.broken.append(Problem(f"the line is longer than {longest:,} bytes", name, number))
            return
        lines = text.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        found, numbers = _records(text, lines, number, name, notes.problems)
        number += len(lines)
        table = records(found, name, notes, numbers)
        if table is not None:
            yield table


def records(found: Sequence[Any], name: str, notes: Notes, lines: Sequence[int] | None = None) -> pa.Table | None:
    """Turn parsed records into a table; None where none of them is a record.

    Parameters
    ----------
    found
        Flat or nested.
    name
        The file as the user named it.
    notes
        Added to.
    lines
        Where each record began; 1, 2, 3 … where None.
    """
    numbers = range(1, len(found) + 1) if lines is None else lines
    flat = [_flat(record, name, line, notes) for record, line in zip(found, numbers, strict=True)]
    rows = [(record, line) for record, line in zip(flat, numbers, strict=True) if record is not None]
    try:
        return _table(rows) if rows else None
    except UnicodeEncodeError:
        whole = [(record, line) for record, line in rows if not _halves(record, name, line, notes)]
        return _table(whole) if whole else None


def _halves(record: dict[str, Any], name: str, line: int, notes: Notes) -> bool:
    """Whether a text of the record holds one half of a character written as two, which JSON allows and nothing stores."""
    broken = [
        key for key, value in record.items() if _HALF.search(json.dumps([key, value], ensure_ascii=False, default=str))
    ]
    if broken:
        notes.problems.append(Problem(f"{broken[0]!a} holds half a character (a lone surrogate)", name, line))
    return bool(broken)


def _blocks(stream: BinaryIO, block: int, longest: int) -> Iterator[tuple[bytes, bool]]:
    """Yield whole lines, some megabytes at a time; the last value is false where a line never ended."""
    held: list[bytes] = []
    size = 0
    first = True
    while piece := stream.read(block):
        if first:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        cut = piece.rfind(b"\n") + 1
        if not cut:
            held.append(piece)
            size += len(piece)
            if size > longest:
                yield b"", False
                return
            continue
        yield b"".join([*held, piece[:cut]]), True
        held, size = [piece[cut:]], len(piece) - cut
    if rest := b"".join(held):
        yield rest, True


def _records(
    block: bytes, lines: Sequence[bytes], first: int, name: str, problems: list[Problem]
) -> tuple[list[Any], list[int]]:
    try:
        records = _VALUES.decode_lines(block)
        if len(records) == len(lines) and not _repeats(block, records):
            return records, list(range(first, first + len(lines)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    found, numbers = [], []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            found.append(_value(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            begins = line[:60].decode("utf-8", "replace")
            problems.append(Problem(f"the line is not JSON ({error}): {begins}", name, number))
    return found, numbers


def _value(line: bytes) -> Any:
    try:
        value = _VALUES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Python and its friends write NaN and Infinity, which JSON does not have.
        value = json.loads(line)
    return json.loads(line, object_pairs_hook=_once) if _repeats(line, [value]) else value


def _repeats(text: bytes, records: Sequence[Any]) -> bool:
    """Whether more keys seem to be written than were read: parsers keep the last of two, and say nothing.

    Text that looks like a key counts, too; which of the two it is, only the slow reading can tell.
    """
    written = sum(text.count(mark) for mark in (b'":', b'" :')) - sum(text.count(mark) for mark in (b'\\":', b'\\" :'))
    if written <= sum(len(record) for record in records if isinstance(record, dict)):
        return False
    return written > sum(map(_keys, records))


def _keys(value: Any) -> int:
    """Count the keys of all objects in a value."""
    if isinstance(value, dict):
        return len(value) + sum(_keys(item) for item in value.values() if isinstance(item, dict | list))
    return sum(_keys(item) for item in value if isinstance(item, dict | list)) if isinstance(value, list) else 0


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' is there twice")
    return found


def _flat(record: Any, name: str, line: int, notes: Notes) -> dict[str, Any] | None:
    if not isinstance(record, dict):
        notes.problems.append(Problem(f"the line is {_kind(record)}, not an object", name, line))
        return None
    if "models" not in record:
        return record
    nested = record["models"]
    if not isinstance(nested, dict):
        notes.problems.append(Problem(f"models is {_kind(nested)}, not an object of outcomes by model", name, line))
        return None
    flat = {key: value for key, value in record.items() if key != "models"}
    for model, outcome in nested.items():
        if outcome is None:
            continue
        if not isinstance(outcome, dict):
            notes.problems.append(Problem(f"models.{model} is {_kind(outcome)}, not an object", name, line))
            return None
        notes.models.setdefault(model)
        # An outcome without any value was still asked for.
        flat.update({f"{model}.{key}": value for key, value in outcome.items()} or {f"{model}.status": "ok"})
    return flat


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _table(rows: Sequence[tuple[dict[str, Any], int]]) -> pa.Table:
    keys = dict.fromkeys(key for record, _ in rows for key in record)
    columns = {
        key: (_alternatives if key.rpartition(".")[2] == "top_logprobs" else _column)(
            [record.get(key) for record, _ in rows]
        )
        for key in keys
    }
    return pa.table({**columns, parts.LINE: pa.array([line for _, line in rows], pa.int64())})


def _column(values: list[Any]) -> pa.Array:
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([canonical.text(value) for value in values], pa.string())
    if _has_objects(column.type):
        return pa.array([canonical.text(value) for value in values], pa.string())
    return column


def _alternatives(values: list[Any]) -> pa.Array:
    """Keep the log-probabilities of alternative tokens as lists of lists, with or without the tokens' texts."""

    def number(item: Any) -> Any:
        return item["logprob"] if isinstance(item, dict) else item

    try:
        found = [None if row is None else [[number(item) for item in token] for token in row] for row in values]
        return pa.array(found, pa.list_(pa.list_(pa.float64())))
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, TypeError):
        return _column(values)


def _has_objects(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return bool(pa.types.is_nested(kind.value_type))
    return bool(pa.types.is_struct(kind))


def lists(texts: Sequence[str | None], *, numbers: bool) -> tuple[list[Any], NDArray[np.bool_]]:
    """Parse lists written as JSON text; None, and true in the mask, where it is not a list of that kind."""
    values: list[Any] = []
    wrong = np.zeros(len(texts), dtype=np.bool_)
    allowed = (int, float, type(None)) if numbers else (str, type(None))
    for row, written in enumerate(texts):
        try:
            value = None if written is None else json.loads(written)
        except (ValueError, RecursionError):
            value = ()
        bad = value is not None and not (isinstance(value, list) and all(isinstance(item, allowed) for item in value))
        wrong[row] = bad
        values.append(None if bad else value)
    return values, wrong
