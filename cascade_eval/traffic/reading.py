"""Doors to recorded traffic: paths, frames, records, batches."""

from __future__ import annotations

import functools
import hashlib
import io
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from cascade_eval.errors import DataError, Problem
from cascade_eval.traffic import convert, database, files, jsonl, names, parts
from cascade_eval.traffic.batch import Batch, Field
from cascade_eval.traffic.recorded import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_NONE: Mapping[str, str] = {}


def open(  # noqa: A001  called as traffic.open, like gzip.open; nothing in this file opens by the built-in
    path: str | Path,
    *,
    columns: Mapping[str, str] = _NONE,
    tolerate: int = 0,
    base: Path | None = None,
    cache: Path | Literal[False] | None = None,
) -> Traffic:
    """Open recorded traffic: a file, a folder of files, or an fsspec URL of either.

    Parquet is read by column when batches are asked for; JSONL (also .gz, .zst) and CSV are converted once and kept
    in the cache. Long, wide and nested rows are told apart by their columns.

    Parameters
    ----------
    path
        Relative paths start at `base`.
    columns
        Foreign column by our name: ``{"case_id": "request_id"}``.
    tolerate
        How many bad rows may be set aside, counted in `Traffic.bad_rows`.
    base
        Folder of the suite that names the path; the working directory where None.
    cache
        Folder for converted files. None is `$XDG_CACHE_HOME/cascade_eval` or `~/.cache/cascade_eval`, off where the
        environment has ``CASCADE_EVAL_CACHE=off``; False keeps nothing.

    Raises
    ------
    DataError
        Nothing there, no `case_id`, no model, lines that cannot be parsed: all problems together.

    Examples
    --------
    >>> found = open("goldens/tickets/cases.parquet")
    >>> found.cases, found.models, "language" in found.case_columns
    (330, ('mini', 'flagship'), True)
    """
    name = str(path)
    found = files.find(name, base)
    place = convert.cache_folder() if cache is None else cache or None
    converted = [_converted(file, place) for file in found]
    source = parts.Rows(
        tuple(part for item in converted for part in item.parts),
        tuple(problem for item in converted for problem in item.notes.problems),
        tuple(problem for item in converted for problem in item.notes.broken),
    )
    models = dict.fromkeys(model for item in converted for model in item.notes.models)
    return _traffic(name, source, columns, tolerate, files.hasher(found), models, files.shown(name, base))


def query(
    url: str, sql: str, *, columns: Mapping[str, str] = _NONE, tolerate: int = 0, base: Path | None = None
) -> Traffic:
    """Read traffic from a database, in the shapes that files have: long, wide, or outcomes nested in a JSON column.

    The query runs once, here, and its rows are kept in a temporary folder that goes with the traffic, so that every
    pass reads columns and memory does not grow with rows. It runs in a read-only transaction on PostgreSQL, SQLite and
    DuckDB, and nothing is committed anywhere.

    Parameters
    ----------
    url
        An SQLAlchemy URL: ``postgresql+psycopg://user@host/database``, ``sqlite:///log.db``, ``duckdb:///log.duckdb``.
        Leave the password to the environment (`PGPASSWORD`, ``~/.pgpass``); it is never shown.
    sql
        One statement that returns rows. It is sent as it is: ``:`` and ``%`` mean what they mean to the database.
    columns
        Foreign column by our name: ``{"case_id": "request_id"}``.
    tolerate
        How many bad rows may be set aside, counted in `Traffic.bad_rows`.
    base
        Where relative paths of SQLite and DuckDB files start; the working directory where None.

    Returns
    -------
    Traffic
        Named by the URL without its password and the query's hash. Its sha256 is of the rows, in whatever order.

    Raises
    ------
    QueryError
        No SQLAlchemy or driver, no such database, a statement the database refuses, no rows.
    DataError
        Rows that are no traffic: all problems together, each with its row of the query.

    Examples
    --------
    >>> recorded = query("sqlite://", "SELECT 'a' AS case_id, 'mini' AS model, 'refund' AS answer")
    >>> recorded.models, recorded.cases, recorded.name
    (('mini',), 1, 'sqlite://, query c0648373')
    """
    found = database.fetch(url, sql, base)
    return _traffic(found.name, found.source, columns, tolerate, functools.partial(str, found.sha256), found.models)


def from_frame(
    frame: Any, *, columns: Mapping[str, str] = _NONE, tolerate: int = 0, name: str = "data frame"
) -> Traffic:
    """Take traffic from a pandas data frame or an Arrow table in memory, long or wide.

    Examples
    --------
    >>> rows = {"case_id": ["a", "a"], "model": ["mini", "flagship"], "answer": ["yes", "no"]}
    >>> recorded = from_frame(pa.table(rows))
    >>> recorded.models, recorded.cases
    (('mini', 'flagship'), 1)
    """
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    source = parts.Rows((parts.TablePart(name, table),))
    return _traffic(name, source, columns, tolerate, _once(table))


def from_records(
    records: Iterable[Mapping[str, Any]],
    *,
    columns: Mapping[str, str] = _NONE,
    tolerate: int = 0,
    name: str = "records",
) -> Traffic:
    """Take traffic from dictionaries: flat rows, or cases with their outcomes nested under ``models``.

    Examples
    --------
    >>> recorded = from_records([{"case_id": "a", "models": {"mini": {"answer": 4}, "flagship": {"answer": 5}}}])
    >>> recorded.read([Field("mini", "answer")]).arrow("mini", "answer").to_pylist()
    [4]
    """
    notes = jsonl.Notes()
    tables = jsonl.records([dict(record) for record in records], name, notes)
    table = tables if tables is not None else pa.table({})
    source = parts.Rows((parts.TablePart(name, table),), tuple(notes.problems))
    return _traffic(name, source, columns, tolerate, _once(table), notes.models)


def from_batch(batch: Batch, name: str = "batch") -> Traffic:
    """Take traffic from aligned cases; they are trusted to be well formed.

    Examples
    --------
    >>> one = from_records([{"case_id": "a", "mini.answer": "yes"}]).read()
    >>> from_batch(one).read().text("mini", "answer", 0)
    'yes'
    """
    fields = {field: f"{number} {field}" for number, field in enumerate(batch.columns)}
    columns = dict(zip(fields.values(), batch.columns.values(), strict=True))
    if Field(None, "case_id") not in fields:
        fields[Field(None, "case_id")] = "case_id"
        columns["case_id"] = pa.array([str(batch.first + case) for case in range(batch.cases)], pa.string())
    table = pa.table(columns)
    source = parts.Rows((parts.TablePart(name, table),))
    return Traffic(name, source, names.Layout("aligned", {}, fields), 0, _once(table))


def _converted(file: files.File, cache: Path | None) -> convert.Converted:
    if file.format != "parquet":
        return convert.read(file, cache)
    part = parts.ParquetPart(file.name, functools.partial(_parquet, file))
    try:
        twice = sorted({name for name in part.schema.names if part.schema.names.count(name) > 1})
    except (OSError, pa.ArrowInvalid) as error:
        return convert.Converted((), jsonl.Notes(broken=[Problem(f"not a readable Parquet file: {error}", file.name)]))
    if twice:
        problem = Problem(f"columns named twice: {', '.join(map(repr, twice))}", file.name)
        return convert.Converted((), jsonl.Notes(broken=[problem]))
    return convert.Converted((part,), jsonl.Notes())


def _parquet(file: files.File) -> Any:
    return file.path if file.system is None else file.open()


def _traffic(
    name: str,
    source: parts.Rows,
    columns: Mapping[str, str],
    tolerate: int,
    digest: Callable[[], str],
    models: Iterable[str] = (),
    shown: str | None = None,
) -> Traffic:
    stored = list(source.types)
    layout, problems = names.layout(stored, columns, models) if stored else (None, ["no cases"])
    if layout is None:
        # Lines that could not be parsed are the likelier reason, so they come first.
        raise DataError([*source.broken, *source.problems, *(Problem(problem, shown or name) for problem in problems)])
    found = Traffic(name, source, layout, tolerate, digest, shown=shown)
    found.inspect()
    return found


def _once(table: pa.Table) -> Callable[[], str]:
    return functools.cache(functools.partial(_table_sha256, table))


def _table_sha256(table: pa.Table) -> str:
    """Hash names, types and values, however the table is cut into chunks."""
    sink = io.BytesIO()
    plain = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    return hashlib.sha256(sink.getbuffer()).hexdigest()
