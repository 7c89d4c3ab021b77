"""Long rows, one per case and model: found to lie together or not, and aligned to one row per case."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval.traffic import checks, keys, parts
from cascade_eval.traffic.batch import ABSENT, OK, Batch, Field, array, valid
from cascade_eval.traffic.names import CASE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.findings import Findings
    from cascade_eval.traffic.names import Layout

    Columns: TypeAlias = dict[str, pa.Array]


@dataclass(frozen=True)
class Piece:
    """Some rows by our column names.

    Parameters
    ----------
    columns
        Arrow arrays of shape (n,); `case_id` and `model` are never null.
    rows
        Which rows these are, shape (n,).
    """

    columns: Columns
    rows: NDArray[np.int64]

    def slice(self, start: int, end: int) -> Piece:
        """Return rows from `start` to before `end`."""
        return Piece({name: column[start:end] for name, column in self.columns.items()}, self.rows[start:end])

    def where(self, kept: NDArray[np.bool_]) -> Piece:
        """Return the rows for which the mask is true."""
        if kept.all():
            return self
        bits = array(kept)
        return Piece({name: column.filter(bits) for name, column in self.columns.items()}, self.rows[kept])


@dataclass(frozen=True)
class Survey:
    """What the keys say.

    Parameters
    ----------
    models
        In order of appearance.
    cases
        How many.
    together
        Whether the rows of every case lie together.
    """

    models: tuple[str, ...]
    cases: int
    together: bool


def stored(layout: Layout, wanted: Iterable[Field]) -> list[str]:
    """Name the stored columns to read for these fields."""
    needed = [layout.names[key] for key in ("case_id", "model", "run", "status") if key in layout.names]
    return list(dict.fromkeys([*needed, *filter(None, map(layout.stored, wanted))]))


def checked(layout: Layout, raw: Columns, rows: NDArray[np.int64], trouble: Findings) -> Piece:
    """Type and check the stored columns of some rows."""
    columns: Columns = {}
    for name, foreign in layout.names.items():
        if foreign not in raw:
            continue
        if name in {"case_id", "model"}:
            columns[name] = keys.required(name, raw[foreign], rows, trouble)
        else:
            columns[name], wrong = checks.read(name, raw[foreign])
            trouble.add(rows, name, wrong)
    return Piece(columns, rows)


def runs(piece: Piece) -> NDArray[np.int64]:
    """Return which repeat each row is, 0 where nothing is said; shape (n,)."""
    column = piece.columns.get("run")
    if column is None or pa.types.is_null(column.type):
        return np.zeros(len(piece.rows), dtype=np.int64)
    column = column.cast(pa.int64())
    return np.where(valid(column), parts.numpy(column), 0)


def first_runs(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Leave out repeats."""
    return (piece.where(runs(piece) == 0) for piece in pieces)


def survey(pieces: Iterable[Piece]) -> Survey:
    """Look at the keys of all rows once."""
    models: dict[str, None] = {}
    hashed = [np.zeros(0, dtype=np.uint64)]
    last = None
    for piece in pieces:
        if not len(piece.rows):
            continue
        models |= dict.fromkeys(piece.columns["model"].unique().to_pylist())
        ids = piece.columns["case_id"]
        starts = run_starts(ids)
        if ids[0].as_py() == last:
            starts = starts[1:]
        last = ids[len(ids) - 1].as_py()
        hashed.append(keys.hashes(ids.take(array(starts))))
    models.pop("", None)
    ordered = np.sort(np.concatenate(hashed))
    distinct = int(np.count_nonzero(np.diff(ordered))) + 1 if len(ordered) else 0
    return Survey(tuple(models), distinct, distinct == len(ordered))


def run_starts(ids: pa.Array) -> NDArray[np.int64]:
    """Rows at which another id than the row before begins, the first row included."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(checks.mask(pc.not_equal(ids[1:], ids[:-1]))) + 1])


def case_of_row(pieces: Iterable[Piece], total: int) -> NDArray[np.int32]:
    """Give each case a number in order of appearance, by the text of its id.

    Parameters
    ----------
    pieces
        The rows that count.
    total
        Number of all rows.

    Returns
    -------
    ndarray of int32, shape (total,)
        Case of each row, -1 where it does not count.
    """
    found = np.full(total, -1, dtype=np.int32)
    ids, rows = [pa.nulls(0, pa.string())], [np.zeros(0, dtype=np.int64)]
    for piece in pieces:
        ids.append(piece.columns["case_id"])
        rows.append(piece.rows)
    found[np.concatenate(rows)] = parts.numpy(parts.joined(ids).dictionary_encode().indices)
    return found


def numbered(
    pieces: Iterable[Piece], cases: NDArray[np.int32] | None
) -> Iterator[tuple[Piece, NDArray[np.int32], int]]:
    """Yield whole cases: their rows, the case of each row from 0 to total - 1 in order of appearance, and the total.

    Parameters
    ----------
    pieces
        Rows as they are stored.
    cases
        Case of every stored row; None where the rows of every case lie together, which need not be held in memory.
    """
    if cases is not None:
        for piece in _all_at_once(pieces):
            local = cases[piece.rows]
            yield piece, local, int(local.max()) + 1
        return
    for piece in _whole_cases(pieces):
        starts = run_starts(piece.columns["case_id"])
        begins = np.zeros(len(piece.rows), dtype=np.int32)
        begins[starts[1:]] = 1
        yield piece, np.cumsum(begins, dtype=np.int32), len(starts)


def _all_at_once(pieces: Iterable[Piece]) -> Iterator[Piece]:
    found = [piece for piece in pieces if len(piece.rows)]
    if found:
        yield _joined(found)


def _joined(pieces: Sequence[Piece]) -> Piece:
    columns = {name: parts.joined([piece.columns[name] for piece in pieces]) for name in pieces[0].columns}
    return Piece(columns, np.concatenate([piece.rows for piece in pieces]))


def _whole_cases(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Keep the last case of a piece back, because the piece after it may have more of its rows."""
    held: list[Piece] = []
    for piece in pieces:
        if not len(piece.rows):
            continue
        here = _joined([*held, piece])
        cut = int(run_starts(here.columns["case_id"])[-1])
        held = [here.slice(cut, len(here.rows))]
        if cut:
            yield here.slice(0, cut)
    yield from held


def aligned(
    wanted: Sequence[Field],
    models: Sequence[str],
    piece: Piece,
    cases: NDArray[np.int32],
    total: int,
    trouble: Findings,
) -> Batch:
    """Align rows to one row per case.

    Parameters
    ----------
    wanted
        Fields to align; a status for each model that is named.
    models
        All recorded models.
    piece
        All rows of some cases.
    cases
        Case of each row, shape (n,), 0 to total - 1.
    total
        How many cases.
    trouble
        Added to: two rows for one case and model, columns of the case that differ between its rows.
    """
    columns = piece.columns
    codes = model_codes(columns["model"], models)
    find_duplicates(piece, cases, codes, np.zeros(len(codes), dtype=np.int64), trouble)
    every = np.arange(len(cases))
    found = {Field(None, "case_id"): _gather(columns["case_id"], positions(cases, every, total))}
    at = functools.cache(lambda model: positions(cases, np.flatnonzero(codes == models.index(model)), total))
    for field in wanted:
        if field.model is None:
            found[field], differing = per_case(columns[field.name], cases, total)
            add_differing(piece, differing, cases, field.name, trouble)
        elif field.name == "status":
            found[field] = _statuses(columns.get("status"), at(field.model))
        else:
            found[field] = _gather(columns[field.name], at(field.model))
    return Batch(total, found)


def model_codes(column: pa.Array, models: Sequence[str]) -> NDArray[np.int64]:
    """Position of each row's model in `models`, -1 where it is none of them."""
    encoded = column.dictionary_encode()
    table = [models.index(name) if name in models else -1 for name in encoded.dictionary.to_pylist()]
    found: NDArray[np.int64] = np.array(table, dtype=np.int64)[parts.numpy(encoded.indices)]
    return found


def find_duplicates(
    piece: Piece,
    cases: NDArray[np.int32],
    codes: NDArray[np.int64],
    repeats: NDArray[np.int64],
    trouble: Findings,
) -> None:
    """Note rows whose case, model and run an earlier row had."""
    width = int(codes.max(initial=0)) + 2, int(repeats.max(initial=0)) + 1
    key = (cases.astype(np.int64) * width[0] + codes + 1) * width[1] + repeats
    ordered = np.sort(key)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        suspects = np.flatnonzero(np.isin(key, twice))
        _, first = np.unique(key[suspects], return_index=True)
        later = np.delete(suspects, first)
        what = "and model were there before" if not repeats.any() else "model and run were there before"
        trouble.add_rows(piece.rows[later], "case_id", what)


def add_differing(
    piece: Piece, differing: NDArray[np.int64], cases: NDArray[np.int32], name: str, trouble: Findings
) -> None:
    """Note one row of each case in which a column of the case differs."""
    if len(differing):
        _, first = np.unique(cases[differing], return_index=True)
        sentence = "differs between rows of one case"
        if name not in CASE_COLUMNS:
            sentence += ", so it describes outcomes and cannot be read as a column of the case"
        trouble.add_rows(piece.rows[differing[first]], name, sentence, tolerable=name in CASE_COLUMNS)


def positions(cases: NDArray[np.int32], picked: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Row of each case among the picked ones, shape (total,): the first, or -1 where a case has none."""
    found = np.full(total, -1, dtype=np.int64)
    found[cases[picked][::-1]] = picked[::-1]
    return found


def per_case(column: pa.Array, cases: NDArray[np.int32], total: int) -> tuple[pa.Array, NDArray[np.int64]]:
    """Reduce a column that says the same in every row of a case to one value per case.

    Parameters
    ----------
    column
        Of shape (n,). A null beside a value says nothing and is no difference.
    cases
        Case of each row, 0 to total - 1.
    total
        How many cases.

    Returns
    -------
    column, differing
        Of shape (total,), and the rows that differ from the first value of their case.

    Examples
    --------
    >>> column, differing = per_case(pa.array(["en", None, "fr", "de"]), np.array([0, 0, 1, 1]), 2)
    >>> column.to_pylist(), differing.tolist()
    (['en', 'fr'], [3])
    """
    if pa.types.is_null(column.type):
        return pa.nulls(total), np.zeros(0, dtype=np.int64)
    codes = _value_codes(column)
    known = np.flatnonzero(codes >= 0)
    rows = positions(cases, known, total)
    differing = known[codes[known] != codes[rows[cases[known]]]]
    return _gather(column, rows), differing


def _value_codes(column: pa.Array) -> NDArray[np.int32]:
    """Equal numbers for equal values, -1 for null."""
    if pa.types.is_nested(column.type):
        column = parts.cast(column, pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.cast(pa.int32())
    return np.where(valid(codes), parts.numpy(codes), np.int32(-1)) if codes.null_count else parts.numpy(codes)


def _gather(column: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Take rows of a column, null where the row is -1."""
    absent = rows < 0
    return column.take(array(rows, absent if absent.any() else None))


def _statuses(recorded: pa.Array | None, rows: NDArray[np.int64]) -> pa.Array:
    codes = np.int8(OK) if recorded is None else parts.numpy(recorded)[np.maximum(rows, 0)]
    return array(np.where(rows >= 0, codes, np.int8(ABSENT)))
