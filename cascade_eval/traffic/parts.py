"""Raw rows as stored: one part per file, read by column, addressed by row."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from cascade_eval.errors import DataError, Problem
from cascade_eval.traffic import canonical
from cascade_eval.traffic.batch import array, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow.parquet as pq
    from numpy.typing import NDArray

LINE = "__line__"
"""Hidden column of converted text files: the line a row began on."""


_BUFFER = 1 << 18
"""Bytes of a column read at once; without a buffer Arrow keeps whole row groups."""

_BATCH = 65_536
"""Rows in memory at once where a few of them are wanted."""


class Part(Protocol):
    """The rows of one file."""

    @property
    def file(self) -> str:
        """As the user named it."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def schema(self) -> pa.Schema:
        """Stored names and types."""

    def scan(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Yield the columns in batches of at most `size` rows."""

    def take(self, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return some rows."""

    def never_null(self, column: str) -> bool:
        """Whether every row is known to have a value."""


@dataclass(frozen=True, eq=False)
class TablePart:
    """Rows in memory."""

    file: str
    table: pa.Table

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.table.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """Stored names and types."""
        return self.table.schema

    def scan(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Yield the columns in batches of at most `size` rows."""
        yield from self.table.select(list(columns)).to_batches(max_chunksize=size)

    def take(self, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return some rows."""
        return self.table.select(list(columns)).take(array(rows))

    def never_null(self, column: str) -> bool:
        """Whether every row has a value."""
        return int(self.table.column(column).null_count) == 0


@dataclass(frozen=True, eq=False)
class ParquetPart:
    """Rows of a Parquet file; opened when asked, so that a part costs nothing while it waits."""

    file: str
    opener: Callable[[], Any]

    @functools.cached_property
    def _file(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        # pre_buffer keeps the whole file in memory while it streams.
        return pq.ParquetFile(self.opener(), pre_buffer=False, buffer_size=_BUFFER)

    @property
    def rows(self) -> int:
        """How many."""
        return int(self._file.metadata.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """Stored names and types."""
        return self._file.schema_arrow

    def scan(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Yield the columns in batches of at most `size` rows."""
        if not columns:
            return
        try:
            for batch in self._file.iter_batches(batch_size=size, columns=list(columns), use_threads=False):
                yield batch.select(list(columns))
        except (OSError, pa.ArrowException) as error:
            message = f"cannot be read to its end; it is damaged, or was replaced while it was read ({_first(error)})"
            raise DataError([Problem(message, self.file)]) from error

    def take(self, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return some rows, reading only the row groups they stand in."""
        metadata = self._file.metadata
        ends = np.cumsum([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
        groups = np.unique(np.searchsorted(ends, rows, side="right"))
        if not len(groups):
            return self._none(columns)
        starts = np.concatenate([[0], ends[:-1]])
        kept = np.cumsum([0, *(ends - starts)[groups]])
        group_of = np.searchsorted(ends, rows, side="right")
        local = rows - starts[group_of] + kept[np.searchsorted(groups, group_of)]
        order = np.argsort(local, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        pieces = [self._none(columns), *self._picked(groups, local[order], columns)]
        return pa.concat_tables(pieces).take(array(back))

    def _none(self, columns: Sequence[str]) -> pa.Table:
        """Return no row of these columns; `Schema.empty_table` would do, and imports pandas."""
        fields = [self.schema.field(name) for name in columns]
        return pa.Table.from_arrays([pa.nulls(0, field.type) for field in fields], schema=pa.schema(fields))

    def _picked(self, groups: NDArray[np.int64], rows: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some rows of these row groups, numbered within them and ascending, a batch at a time."""
        first = 0
        for batch in self._file.iter_batches(
            batch_size=_BATCH, row_groups=groups.tolist(), columns=list(columns), use_threads=False
        ):
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            if low < high:
                here = array(rows[low:high] - first)
                yield pa.Table.from_batches([batch.select(list(columns)).take(here)])
            first += batch.num_rows

    def never_null(self, column: str) -> bool:
        """Whether the statistics of the file promise a value in every row."""
        metadata = self._file.metadata
        try:
            index = metadata.schema.to_arrow_schema().names.index(column)
        except ValueError:
            return False
        if pa.types.is_nested(self.schema.field(index).type):
            return False
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
            if chunk.statistics is None or not chunk.statistics.has_null_count or chunk.statistics.null_count:
                return False
        return True


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of all parts, numbered through, with one type per column.

    Parameters
    ----------
    parts
        In the order in which rows are numbered.
    problems
        Lines that could not be parsed and therefore are no rows; each counts as one bad row.
    broken
        Why a file could not be read to its end; never tolerated, for nobody knows how much is missing.
    """

    parts: tuple[Part, ...]
    problems: tuple[Problem, ...] = ()
    broken: tuple[Problem, ...] = ()

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first row of each part, and the number of rows at the end."""
        return np.cumsum([0, *(part.rows for part in self.parts)], dtype=np.int64)

    @property
    def total(self) -> int:
        """How many rows."""
        return int(self.starts[-1])

    @functools.cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Type by stored column name; text where the parts cannot be reconciled otherwise."""
        found: dict[str, list[pa.DataType]] = {}
        for part in self.parts:
            for column in part.schema:
                if column.name != LINE:
                    found.setdefault(column.name, []).append(column.type)
        return {name: common_type(types) for name, types in found.items()}

    def scan(
        self, columns: Sequence[str], size: int, *, encoded: bool = False
    ) -> Iterator[tuple[int, dict[str, pa.Array]]]:
        """Yield the number of the first row, and the columns, of successive batches.

        With `encoded`, text that is stored with a dictionary keeps it; else every column is plain.
        """
        for start, part in zip(self.starts[:-1].tolist(), self.parts, strict=True):
            here = [name for name in columns if name in part.schema.names]
            row = start
            for batch in part.scan(here, size):
                yield row, self._aligned(columns, here, batch, encoded=encoded)
                row += batch.num_rows

    def _aligned(
        self, columns: Sequence[str], here: Sequence[str], batch: pa.RecordBatch, *, encoded: bool
    ) -> dict[str, pa.Array]:
        found = dict(zip(here, batch.columns, strict=True))
        return {
            name: _kept(found[name], self.types[name], encoded=encoded)
            if name in found
            else pa.nulls(batch.num_rows, self.types[name])
            for name in columns
        }

    def take(self, rows: NDArray[np.int64], columns: Sequence[str]) -> dict[str, pa.Array]:
        """Return some rows, in the order asked for."""
        order = np.argsort(rows, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        pieces: dict[str, list[pa.Array]] = {name: [] for name in columns}
        for (start, end), part in zip(itertools.pairwise(self.starts.tolist()), self.parts, strict=True):
            local = rows[order][(rows[order] >= start) & (rows[order] < end)] - start
            if not len(local):
                continue
            here = [name for name in columns if name in part.schema.names]
            table = part.take(local, here)
            for name in columns:
                piece = whole(table.column(name)) if name in here else pa.nulls(len(local), self.types[name])
                pieces[name].append(cast(piece, self.types[name]))
        picked = array(back)
        return {
            name: (pa.concat_arrays(found) if found else pa.nulls(0, self.types[name])).take(picked)
            for name, found in pieces.items()
        }

    def never_null(self, column: str) -> bool:
        """Whether every part promises a value in every row."""
        return all(column in part.schema.names and part.never_null(column) for part in self.parts)

    def part_of(self, rows: NDArray[np.int64]) -> list[int]:
        """Return the position in `parts` of the part each row stands in."""
        return [int(index) for index in np.searchsorted(self.starts, rows, side="right") - 1]

    def where(self, rows: NDArray[np.int64]) -> list[tuple[str, int]]:
        """File and one-based line (text files) or row (Parquet, frames) of some rows."""
        places = []
        for row, index in zip(rows.tolist(), self.part_of(rows), strict=True):
            part, local = self.parts[index], row - int(self.starts[index])
            converted = LINE in part.schema.names
            line = part.take(np.array([local]), [LINE]).column(0)[0].as_py() if converted else local + 1
            places.append((part.file, line))
        return places


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return one contiguous array of a chunked one."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)


def joined(columns: Sequence[pa.Array]) -> pa.Array:
    """Put successive pieces of a column into one array of their common type."""
    if len({column.type for column in columns}) > 1:
        kind = common_type([column.type for column in columns])
        columns = [cast(column, kind) for column in columns]
    return pa.concat_arrays(columns)


def numpy(column: pa.Array) -> NDArray[Any]:
    """View a numeric column as numpy; anything may stand where it is null."""
    return view(column, column.type.to_pandas_dtype())


def offsets(text: pa.Array) -> NDArray[np.int32]:
    """View where each value of a string array begins and the last one ends; shape (n + 1,)."""
    if not len(text):
        return np.zeros(1, dtype=np.int32)
    return np.frombuffer(text.buffers()[1], dtype=np.int32)[text.offset : text.offset + len(text) + 1]


def common_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """Return the narrowest type that holds all of these, text where there is none."""
    plain = [_plain(kind) for kind in types]
    try:
        schemas = [pa.schema([("x", kind)]) for kind in plain]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _plain(kind: pa.DataType) -> pa.DataType:
    """One text type, no dictionaries: what the rest of the package computes on."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def _kept(column: pa.Array, kind: pa.DataType, *, encoded: bool) -> pa.Array:
    """Cast a column, or leave text of that type under its dictionary."""
    under = pa.types.is_dictionary(column.type) and column.type.value_type == kind and pa.types.is_string(kind)
    return column if encoded and under else cast(column, kind)


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast a column to the common type; values that only exist as text become JSON text."""
    if column.type == kind:
        return column
    if pa.types.is_nested(column.type) and pa.types.is_string(kind):
        return pa.array([canonical.text(value) for value in column.to_pylist()], kind)
    return column.cast(kind)
