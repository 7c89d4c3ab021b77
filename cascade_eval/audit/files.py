"""Samples and audited traffic as files: Parquet or JSONL, wide, under the names every recorded traffic uses."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cascade_eval import atomic, traffic
from cascade_eval.errors import UsageError
from cascade_eval.traffic import STATUSES, Field
from cascade_eval.traffic.batch import view

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cascade_eval.traffic import Batch, Traffic


def columns(batch: Batch, foreign: Mapping[str, str] | None = None) -> dict[str, pa.Array]:
    """Return the columns of aligned cases under the names of wide traffic, statuses in words.

    Parameters
    ----------
    batch
        The cases.
    foreign
        Foreign name by our name, as a suite's ``columns:`` has it, so that the suite reads the file as its own.
    """
    names = foreign or {}
    return {_name(field, names): _plain(field, column) for field, column in batch.columns.items()}


def _name(field: Field, foreign: Mapping[str, str]) -> str:
    if field.model is None:
        return foreign.get(field.name, field.name)
    return foreign.get(str(field), f"{field.model}.{foreign.get(field.name, field.name)}")


def _plain(field: Field, column: pa.Array) -> pa.Array:
    if field.name == "status" and field.model is not None:
        # ABSENT is -1 and takes the last place: null.
        words = np.array([*STATUSES, None], dtype=object)
        return pa.array(words[view(column, np.int8)].tolist(), pa.string())
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def batch(table: pa.Table, name: str) -> Batch:
    """Read a table as the file it would be written to is read."""
    return traffic.from_frame(table, name=name).read()


def write(path: str | Path, cases: Batch, foreign: Mapping[str, str] | None = None) -> Path:
    """Write aligned cases whole or not at all: JSONL where the name ends so, else Parquet."""
    found = columns(cases, foreign)
    if str(path).endswith(".jsonl"):
        rows = pa.table(found).to_pylist()
        lines = [json.dumps(row, ensure_ascii=False, default=_text) + "\n" for row in rows]
        return atomic.write(path, "".join(lines).encode())
    if not str(path).endswith(".parquet"):
        raise UsageError(f"{path}: name a file that ends in .parquet or .jsonl.")
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(found), sink)
    return atomic.write(path, sink.getvalue())


def to_parquet(path: str | Path, cases: Traffic, *, columns: Mapping[str, str] | None = None) -> Path:
    """Write traffic, such as `merge` returns, as wide Parquet.

    Parameters
    ----------
    path
        Where; the name ends in ``.parquet``, or ``.jsonl``.
    cases
        Read whole.
    columns
        Foreign name by our name, where the suite that will read it has some.
    """
    return write(path, cases.read(), columns)


def _text(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
