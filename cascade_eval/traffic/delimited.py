"""CSV into tables whose columns hold one type each; every row keeps the line it began on."""

from __future__ import annotations

import csv
import io
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval.errors import Problem
from cascade_eval.traffic import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from cascade_eval.traffic.jsonl import Notes

LONGEST_LINE = 64 << 20
"""Characters one line may have."""

_ROWS = 32_768


def tables(stream: BinaryIO, name: str, notes: Notes, *, longest: int = LONGEST_LINE) -> Iterator[pa.Table]:
    """Yield the rows of a stream as tables of text, and note the rows that do not fit the header.

    Parameters
    ----------
    stream
        Bytes, decompressed.
    name
        The file as the user named it.
    notes
        Added to: what is wrong.
    longest
        Characters one line may have.
    """
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text, _long_fields():
        rows = _rows(csv.reader(_lines(text, longest), strict=True), name, notes)
        header = next(rows, None)
        if header is None:
            return
        if twice := sorted({column for column in header[1] if header[1].count(column) > 1}):
            notes.broken.append(Problem(f"columns named twice: {', '.join(map(repr, twice))}", name, header[0]))
            return
        while chunk := list(itertools.islice(_fitting(rows, header[1], name, notes), _ROWS)):
            columns = zip(*(row for _, row in chunk), strict=True)
            found = {key: _text(values) for key, values in zip(header[1], columns, strict=True)}
            yield pa.table({**found, parts.LINE: pa.array([line for line, _ in chunk], pa.int64())})


def typed(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Give text columns the type that all their values have: whole number, number, yes/no, or text.

    A number with leading zeros or a sign in front stays text, because it is a code and not a quantity. Answers stay
    text as well: `7` and `7.0` may be different labels.
    """
    if not tables:
        return []
    table = pa.concat_tables(tables)
    columns = {
        name: column if name == parts.LINE else _typed(name, parts.whole(column))
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return [pa.table(columns)]


def _typed(name: str, column: pa.Array) -> pa.Array:
    if name.rpartition(".")[2] in {"answer", "expected", "case_id", "model", "input"}:
        return column
    if _all(column, r"^(0|-?[1-9][0-9]{0,17})$"):
        return column.cast(pa.int64())
    if _all(column, r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|[nN]a[nN]|-?[iI]nf(inity)?)$"):
        return column.cast(pa.float64())
    if _all(column, r"^([tT]rue|[fF]alse|TRUE|FALSE)$"):
        return pc.equal(pc.utf8_lower(column), "true")
    return column


def _all(column: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(column, pattern), min_count=1).as_py() is True


def _text(values: Sequence[str]) -> pa.Array:
    return pa.array([value or None for value in values], pa.string())


def _rows(reader: Iterator[list[str]], name: str, notes: Notes) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the line they begin on; what cannot be read ends the file."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it, its protocol does not
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            notes.broken.append(Problem(f"the row cannot be read: {error}; nothing after it was read", name, line))
            return
        if row:
            yield line, row


def _fitting(
    rows: Iterator[tuple[int, list[str]]], header: Sequence[str], name: str, notes: Notes
) -> Iterator[tuple[int, list[str]]]:
    for line, row in rows:
        if len(row) == len(header):
            yield line, row
        else:
            notes.problems.append(Problem(f"the row has {len(row)} fields, the header {len(header)}", name, line))


def _lines(text: io.TextIOWrapper, longest: int) -> Iterator[str]:
    while line := text.readline(longest + 1):
        if len(line) > longest:
            raise csv.Error(f"line longer than {longest:,} characters")
        yield line


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allow long fields for a while: the limit of the csv module is the process's, so it is put back."""
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
