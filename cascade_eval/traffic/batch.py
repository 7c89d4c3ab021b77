"""Aligned cases in memory: one row per case, one column per field, numpy out.

A field is either of the case (`Field(None, "language")`) or of one model's recorded outcome
(`Field("mini", "confidence")`). Everything that computes takes a `Batch` and asks it for whole columns; no
Python object per case exists. Text stays in Arrow until something asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ABSENT, OK, TIMEOUT, ERROR, REFUSED = -1, 0, 1, 2, 3
"""Codes of `Batch.status`: the row is missing, or how the call ended."""

STATUSES = ("ok", "timeout", "error", "refused")
"""What a `status` column may say; the position is the code."""


class Field(NamedTuple):
    """One column: of the case when `model` is None, else of that model's outcome."""

    model: str | None
    name: str

    def __str__(self) -> str:
        return self.name if self.model is None else f"{self.model}.{self.name}"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some aligned cases.

    Parameters
    ----------
    cases
        How many.
    columns
        Arrow arrays of length `cases` by field. For each model present there is always a
        `Field(model, "status")` of type int8 with the codes of this module.
    first
        Position of the first case in the traffic this is part of.
    hashed
        Hash of each case's id, shape (cases,), where reading has computed it.
    """

    cases: int
    columns: Mapping[Field, pa.Array]
    first: int = 0
    hashed: NDArray[np.uint64] | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Models with at least a status column, in order of appearance."""
        return tuple(dict.fromkeys(field.model for field in self.columns if field.model is not None))

    def has(self, model: str | None, name: str) -> bool:
        """Whether the column exists (it may still be null in every row)."""
        return Field(model, name) in self.columns

    def arrow(self, model: str | None, name: str) -> pa.Array:
        """Return the column as recorded; KeyError where it does not exist."""
        return self.columns[Field(model, name)]

    def numbers(self, model: str | None, name: str) -> NDArray[np.floating]:
        """Return the column as floats of shape (cases,), NaN where null or where the column does not exist.

        float32 stays float32, so that a threshold can be compared in the recorded precision.
        """
        field = Field(model, name)
        if field not in self.columns:
            return np.full(self.cases, np.nan)
        column = self.columns[field]
        if pa.types.is_null(column.type):
            return np.full(self.cases, np.nan)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        if not pa.types.is_float32(column.type) and not pa.types.is_float64(column.type):
            column = column.cast(pa.float64())
        return _floats(column)

    def integers(self, model: str | None, name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the column as int64 with 0 where null, and where it is known; both of shape (cases,)."""
        field = Field(model, name)
        if field not in self.columns or pa.types.is_null(self.columns[field].type):
            return np.zeros(self.cases, dtype=np.int64), np.zeros(self.cases, dtype=np.bool_)
        column = self.columns[field].cast(pa.int64())
        known, values = valid(column), view(column, np.int64)
        return (np.where(known, values, 0) if column.null_count else values), known

    def codes(self, model: str | None, name: str) -> tuple[NDArray[np.int32], list[object]]:
        """Dictionary-encode a column: codes of shape (cases,), -1 where null, and the values that occur."""
        field = Field(model, name)
        if field not in self.columns or pa.types.is_null(self.columns[field].type):
            return np.full(self.cases, -1, dtype=np.int32), []
        stored = self.columns[field]
        under = pa.types.is_dictionary(stored.type)
        column = stored if under else stored.dictionary_encode()
        indices = column.indices.cast(pa.int32())
        codes = view(indices, np.int32)
        codes = np.where(valid(indices), codes, np.int32(-1)) if indices.null_count else codes
        return _occurring(codes, column.dictionary) if under else (codes, column.dictionary.to_pylist())

    def flags(self, model: str | None, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return a yes/no column: true where it is truthy, and where it is known; both of shape (cases,)."""
        values = self.numbers(model, name)
        known = ~np.isnan(values)
        return known & (np.nan_to_num(values) != 0), known

    def status(self, model: str) -> NDArray[np.int8]:
        """How the model's call ended: ABSENT, OK, TIMEOUT, ERROR or REFUSED; shape (cases,)."""
        field = Field(model, "status")
        if field not in self.columns:
            return np.full(self.cases, ABSENT, dtype=np.int8)
        column = self.columns[field]
        return view(column, np.int8)

    def nano_dollars(self, model: str, name: str = "cost_usd") -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return recorded dollars as integer nano-dollars (0 where unknown), and where they are known."""
        dollars = self.numbers(model, name).astype(np.float64, copy=False)
        known = ~np.isnan(dollars)
        return np.rint(np.where(known, dollars, 0.0) * 1e9).astype(np.int64), known

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Batch:
        """Return the cases at these positions, or where a mask is true, in that order."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        picked = array(rows.astype(np.int64))
        return replace(
            self,
            cases=len(rows),
            columns={field: column.take(picked) for field, column in self.columns.items()},
            hashed=None if self.hashed is None else self.hashed[rows],
        )

    def text(self, model: str | None, name: str, row: int) -> object:
        """Return one cell as a Python object, None where null or where the column does not exist."""
        field = Field(model, name)
        return self.columns[field][row].as_py() if field in self.columns else None


def _occurring(codes: NDArray[np.int32], dictionary: pa.Array) -> tuple[NDArray[np.int32], list[object]]:
    """Leave out the values of a stored dictionary that no case here has."""
    cases = np.bincount(codes + np.int32(1), minlength=len(dictionary) + 1)[1:]
    present = np.flatnonzero(cases)
    if len(present) < len(cases):
        place = np.full(len(cases) + 1, -1, dtype=np.int32)
        place[present] = np.arange(len(present), dtype=np.int32)
        codes, dictionary = place[codes], dictionary.take(array(present))
    return codes, dictionary.to_pylist()


# Arrow's own `to_numpy`, `pa.array` and `pa.scalar` import pandas, which costs more than most evaluations; the buffers
# do not.


def valid(column: pa.Array) -> NDArray[np.bool_]:
    """Return where an Arrow array is not null; shape (n,)."""
    if column.null_count == 0:
        return np.ones(len(column), dtype=np.bool_)
    bits = np.frombuffer(column.buffers()[0], dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[column.offset : column.offset + len(column)].astype(np.bool_)


def view(column: pa.Array, dtype: type[np.generic]) -> NDArray[Any]:
    """View the values of a numeric Arrow array; anything may stand where it is null."""
    return np.frombuffer(column.buffers()[1] or b"", dtype=dtype)[column.offset : column.offset + len(column)]


def array(values: NDArray[Any], null: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers or truth values as an Arrow array, null where the mask is true.

    Examples
    --------
    >>> array(np.array([1, 2, 3]), np.array([False, True, False])).to_pylist()
    [1, None, 3]
    """
    known = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))
    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [known, pa.py_buffer(data)])


def _floats(column: pa.Array) -> NDArray[np.floating]:
    dtype = np.float32 if pa.types.is_float32(column.type) else np.float64
    values: NDArray[np.floating] = view(column, dtype)
    return np.where(valid(column), values, dtype(np.nan)) if column.null_count else values
