"""Rows in long form, written as Parquet some thousand at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from cascade_eval.traffic.batch import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from cascade_eval.importers.calls import Call

KNOWN: dict[str, pa.DataType] = {
    "answer": pa.string(),
    "samples": pa.list_(pa.string()),
    "token_logprobs": pa.list_(pa.float64()),
    "input_tokens": pa.int64(),
    "cached_input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "cost_usd": pa.float64(),
    "latency_s": pa.float64(),
    "input": pa.string(),
}
"""Columns of a call that not every log has."""

TIME = pa.timestamp("us", "UTC")
CHUNK = 8192
"""Rows written at once."""


class Types:
    """Which columns a log has, and of what type: a column that no call has is not written."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._missing = list(KNOWN)
        self._kinds: dict[str, set[type]] = {}
        self._timed = False

    def add(self, call: Call) -> None:
        """Note what one call has."""
        if not self._timed:
            self._timed = call.started is not None
        for name in self._missing:
            if getattr(call, name) is not None:
                self._known.add(name)
        if len(self._known) + len(self._missing) > len(KNOWN):
            self._missing = [name for name in KNOWN if name not in self._known]
        for columns in (call.outcomes, call.columns):
            for name, value in columns.items():
                self._kinds.setdefault(name, set()).add(type(value))

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def schema(self) -> pa.Schema:
        """Return the columns of the rows."""
        fields = {"case_id": pa.string(), "model": pa.string(), "run": pa.int64(), "status": pa.string()}
        fields |= {name: kind for name, kind in KNOWN.items() if name in self._known}
        fields |= {"attempts": pa.string()}
        # Beside a user's own column of this name there is what the calls say, which is text.
        texts = {name for name in ("input", "attempts") if name in fields}
        fields |= {
            name: _type(kinds | {str} if name in texts else kinds) for name, kinds in sorted(self._kinds.items())
        }
        if self._timed or "decided_at" in fields:
            fields["decided_at"] = TIME
        return pa.schema(list(fields.items()))


def _type(kinds: set[type]) -> pa.DataType:
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


class Writer:
    """Writes rows to a Parquet file.

    Parameters
    ----------
    path
        A file that does not exist.
    types
        What the log has.
    """

    def __init__(self, path: Path, types: Types) -> None:
        import pyarrow.parquet as pq

        self._schema = types.schema()
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write the rows of one case."""
        self._rows += rows
        if len(self._rows) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        columns = [_column(field, [row.get(field.name) for row in self._rows]) for field in self._schema]
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows = []


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    if field.type == TIME:
        # Nanoseconds come in; microseconds are what traffic keeps.
        return pa.array([None if value is None else value // 1000 for value in values], pa.int64()).cast(TIME)
    if field.name == "status":
        assert set(values) <= set(STATUSES)
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        written = float if pa.types.is_floating(field.type) else _text
        return pa.array([None if value is None else written(value) for value in values], field.type)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
