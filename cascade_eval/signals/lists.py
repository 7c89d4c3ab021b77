"""List columns as flat values: one pass over all tokens or samples, no Python object per case."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import errors
from cascade_eval.traffic.batch import Batch, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Lists(NamedTuple):
    """The lists of a column that are neither null nor empty, one after the other.

    Parameters
    ----------
    items
        Every element of those lists, in order.
    rows
        Position of each list in the column.
    starts, lengths
        Where each list begins in `items`, and how many it has.
    size
        Length of the column.
    """

    items: pa.Array
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    size: int

    @property
    def owners(self) -> NDArray[np.int64]:
        """Which list each item belongs to; shape (items,)."""
        return np.repeat(np.arange(len(self.rows)), self.lengths)

    def numbers(self) -> NDArray[np.float64]:
        """Return the items as float64, NaN where null."""
        return _numbers(self.items)

    def spread(self, per_list: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give each row of the column the number of its list, NaN where it has none; shape (size,)."""
        values = np.full(self.size, np.nan)
        values[self.rows] = per_list
        return values

    def mean(self, per_item: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each list; NaN where one of its items is NaN."""
        return reduce(np.add, per_item, self.starts) / self.lengths


def reduce(operation: np.ufunc, values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Reduce each list by a ufunc; there may be no list at all."""
    return np.asarray(operation.reduceat(values, starts)) if len(starts) else np.empty(0)


def of(batch: Batch, model: str, name: str) -> Lists:
    """Return a list column of a model; a column that does not exist has no lists.

    Raises
    ------
    DataError
        The column does not hold lists.
    """
    if not batch.has(model, name) or pa.types.is_null(batch.arrow(model, name).type):
        return flatten(pa.nulls(batch.cases, pa.list_(pa.float64())))
    column = batch.arrow(model, name)
    if not _is_list(column):
        raise errors.DataError(f"'{Field(model, name)}' holds {column.type}, not lists")
    return flatten(column)


def flatten(column: pa.Array) -> Lists:
    """Take one level of lists apart."""
    lengths = np.nan_to_num(_numbers(pc.list_value_length(column))).astype(np.int64)
    rows = np.flatnonzero(lengths)
    starts = np.cumsum(lengths[rows]) - lengths[rows]
    # flatten() leaves out what null lists may still cover in the buffer.
    return Lists(column.flatten(), rows, starts, lengths[rows], len(column))


def _is_list(column: pa.Array) -> bool:
    kind = column.type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def inner(lists: Lists, field: str) -> Lists:
    """Return the lists inside each list; of structures, the lists of one of their fields.

    Raises
    ------
    DataError
        The items are not lists, or not lists of numbers or of structures with that field.
    """
    if not _is_list(lists.items):
        if pa.types.is_null(lists.items.type) or not len(lists.items):
            return flatten(pa.nulls(len(lists.items), pa.list_(pa.float64())))
        raise errors.DataError(f"lists of lists are needed, not lists of {lists.items.type}")
    found = flatten(lists.items)
    if not pa.types.is_struct(found.items.type):
        return found
    if found.items.type.get_field_index(field) < 0:
        raise errors.DataError(f"structures with the field '{field}' are needed, not {found.items.type}")
    return found._replace(items=pc.struct_field(found.items, field))


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    field = Field(None, "items")
    if not len(column):  # what is left of an empty list column may have a buffer of any size
        return np.empty(0)
    try:
        values = Batch(len(column), {field: column}).numbers(*field)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise errors.DataError(f"lists of numbers are needed, not lists of {column.type}") from None
    return values.astype(np.float64, copy=False)
