"""Weekly rows, kept between runs: a folder of Parquet files, or one table of any database SQLAlchemy speaks to.

A history holds one row for each suite, cascade, kind, week and cohort. Writing the same row again replaces it, so that a
job may run twice; of two jobs that write the same row at once, the one that began to write later wins.

*Folder.* Each write adds one file under a name no other write has, complete or not at all, and touches no other file:
a killed writer leaves nothing behind that is read, and writers need no lock. Reading takes all files and keeps the
newest of each row. `compact` puts many files into one: it writes the one first and removes the many afterwards, so a
reader sees each row at any moment, and a kill in between costs a few files that say the same.

*Database.* One table, ``cascade_eval_history``, written in one transaction per call: ``INSERT … ON CONFLICT DO UPDATE``
where the database has it, else delete and insert.

Both carry the version of their schema; a newer one is refused. Columns a file does not have yet are read as empty.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import uuid
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import atomic, monitor
from cascade_eval.errors import Problem, UsageError
from cascade_eval.monitor import Row
from cascade_eval.traffic import database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    import sqlalchemy as sa

VERSION: Final = 1
"""Of the schema; raised when a column changes its meaning or goes, not when one is added."""

TABLE: Final = "cascade_eval_history"

FILES: Final = 64
"""A folder with more files than this is compacted by the next write."""

_KEY: Final = {"suite": 100, "cascade": 100, "kind": 16, "window": 16, "cohort": 400}
"""What a row is known by; with lengths, because some databases index nothing longer."""

_STAMP: Final = "written_at"
_VERSION: Final = b"cascade_eval.history"
_ATTEMPTS: Final = 10
_PLAIN: Final = {"str": str, "int": int, "float": float, "bool": bool, "Kind": str, "Cohort": str}
_TYPES: Final = {field.name: _PLAIN[str(field.type).removesuffix(" | None")] for field in fields(Row)}
"""Python type of each column."""


class HistoryError(UsageError):
    """A history cannot be read or written."""


def write(where: str | os.PathLike[str], rows: Iterable[Row]) -> int:
    """Add rows to a history, replacing those it has.

    Parameters
    ----------
    where
        A folder, made if need be, or an SQLAlchemy URL such as ``postgresql+psycopg://user@host/database``.
    rows
        From `monitor.weekly` or `monitor.fixed`.

    Returns
    -------
    int
        Rows written. When this returns they are kept, whatever happens to the process.

    Raises
    ------
    UsageError
        The place cannot be written, or holds a newer schema.

    Examples
    --------
    >>> import tempfile
    >>> week = Row("support", "current", "production", "2026-W28", (), decisions=400, escalated=120)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, [week]), write(folder, [week]), read(folder) == (week,)
    (1, 1, True)
    """
    records = _records(rows)
    if not records:
        return 0
    if _is_database(where):
        _write_table(str(where), records)
    else:
        _write_file(_folder(where), records)
    return len(records)


def read(where: str | os.PathLike[str], *, suite: str | None = None, since: str | None = None) -> tuple[Row, ...]:
    """Return the rows of a history, each once.

    Parameters
    ----------
    where
        As for `write`. A folder that does not exist is empty, and so is a table.
    suite
        Only rows of this suite, as `Row.suite` names it.
    since
        Only weeks from this one on, such as ``2026-W28``.

    Returns
    -------
    tuple of Row
        By cascade, kind, week and cohort.

    Raises
    ------
    UsageError
        The place cannot be read, or holds a newer schema; `since` is no week.

    Examples
    --------
    >>> import tempfile
    >>> weeks = [Row("support", "current", "production", f"2026-W{week}", ()) for week in (27, 28, 29)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write(folder, weeks)
    ...     [row.window for row in read(folder, suite="support", since="2026-W28")]
    ['2026-W28', '2026-W29']
    """
    if since is not None:
        monitor.check_week(since)
    records = _read_table(str(where)) if _is_database(where) else _read_files(_folder(where))
    rows = [_row(record) for record in records]
    chosen = [row for row in rows if suite in {None, row.suite} and (since is None or row.window >= since)]
    return tuple(sorted(chosen, key=lambda row: row.key))


def compact(where: str | os.PathLike[str]) -> int:
    """Put the files of a folder into one; a database needs no such thing.

    Returns
    -------
    int
        Files that were put together; 0 where another process is at it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for week in (27, 28):
    ...         _ = write(folder, [Row("support", "current", "production", f"2026-W{week}", ())])
    ...     compact(folder), len(read(folder))
    (2, 2)
    """
    if _is_database(where):
        return 0
    from filelock import FileLock, Timeout

    folder = _folder(where)
    if not folder.is_dir():
        return 0
    try:
        # The operating system lets go of the lock when its owner dies.
        with FileLock(folder / ".compacting", timeout=0):
            return _compact(folder)
    except Timeout:
        return 0


# --- rows as records -----------------------------------------------------------------------------------------------


def _records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Make plain records, one of each key, in the order of their keys: two writers lock rows in the same order."""
    now = time.time_ns()
    newest = {row.key: row for row in rows}
    ordered = [newest[key] for key in sorted(newest)]
    names = [field.name for field in fields(Row)]
    return [
        {name: getattr(row, name) for name in names}
        | {"cohort": json.dumps(dict(row.cohort), ensure_ascii=False, separators=(",", ":")), _STAMP: now}
        for row in ordered
    ]


def _row(record: dict[str, Any]) -> Row:
    values = {name: record[name] for name in _TYPES if record.get(name) is not None}
    values["cohort"] = tuple(json.loads(values["cohort"]).items())
    return Row(**values)


def _newest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the newest record of each key."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        key = tuple(record[name] for name in _KEY)
        if key not in kept or record[_STAMP] >= kept[key][_STAMP]:
            kept[key] = record
    return list(kept.values())


def _refuse_newer(version: int, where: str) -> None:
    if version > VERSION:
        message = f"written by a newer cascade_eval (schema {version}, this one knows {VERSION}). Upgrade: pip install -U cascade-eval"
        raise HistoryError([Problem(message, where)])


# --- a folder of files ---------------------------------------------------------------------------------------------


def _folder(where: str | os.PathLike[str]) -> Path:
    folder = Path(os.fspath(where).removeprefix("file://"))
    if folder.exists() and not folder.is_dir():
        raise HistoryError([Problem("is a file; a history is a folder, or an SQLAlchemy URL", str(folder))])
    return folder


def _write_file(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    data = _parquet(records)
    atomic.write(folder / f"{records[0][_STAMP]}-{uuid.uuid4().hex}.parquet", data)
    if len(_files(folder)) > FILES:
        compact(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.parquet"))


def _parquet(records: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(list(records), schema=_schema())
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    columns = [(name, types[kind]) for name, kind in _TYPES.items()]
    return pa.schema([*columns, (_STAMP, pa.int64())], metadata={_VERSION: str(VERSION).encode()})


def _read_files(folder: Path) -> list[dict[str, Any]]:
    for attempt in range(_ATTEMPTS):
        files = _files(folder)
        with contextlib.suppress(FileNotFoundError):
            found = _newest(record for file in files for record in _read_file(file))
            if _files(folder) == files:
                return found
        # Compacted meanwhile: what is gone stands in a file that this listing may not have shown.
        time.sleep(0.01 * 2**attempt)
    raise HistoryError([Problem("its files keep changing; try again", str(folder))])


def _read_file(file: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = file.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowException as error:
        message = f"is not a readable Parquet file ({str(error).splitlines()[0]}); nothing here writes half a file: restore or remove it"
        raise HistoryError([Problem(message, str(file))]) from error
    metadata = table.schema.metadata or {}
    if _VERSION not in metadata:
        raise HistoryError([Problem("is no part of a history; keep other files out of this folder", str(file))])
    _refuse_newer(int(metadata[_VERSION]), str(file))
    records: list[dict[str, Any]] = table.to_pylist()
    return records


def _compact(folder: Path) -> int:
    files = _files(folder)
    if len(files) < 2:
        return 0
    records = _newest(record for file in files for record in _read_file(file))
    name = f"{max(record[_STAMP] for record in records)}-{uuid.uuid4().hex}.parquet"
    atomic.write(folder / name, _parquet(records))
    for file in files:
        file.unlink(missing_ok=True)
    _sweep(folder)
    return len(files)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left half-written, once it is certainly theirs."""
    for file in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > 3600:
                file.unlink()


# --- a table -------------------------------------------------------------------------------------------------------


def _is_database(where: str | os.PathLike[str]) -> bool:
    text = os.fspath(where)
    return "://" in text and not text.startswith("file://")


def _write_table(url: str, records: list[dict[str, Any]]) -> None:
    with _connected(url) as engine:
        table = _prepared(engine, url)
        with engine.begin() as connection:
            _upsert(connection, table, records)


def _read_table(url: str) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    with _connected(url) as engine:
        if not sa.inspect(engine).has_table(TABLE):
            return []  # whoever only reads makes no tables
        table = _prepared(engine, url)
        with engine.connect() as connection:
            return [dict(record) for record in connection.execute(table.select()).mappings()]


@contextlib.contextmanager
def _connected(url: str) -> Iterator[sa.Engine]:
    try:
        import sqlalchemy as sa
    except ModuleNotFoundError as error:
        raise HistoryError(
            "a history in a database needs SQLAlchemy. Install: pip install 'cascade-eval[sql]'"
        ) from error
    shown = url.partition("://")[0] + "://…"
    try:
        parsed = sa.make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        engine = sa.create_engine(parsed)
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise HistoryError([Problem(database.no_driver(parsed.drivername, error), shown)]) from error
    except sa.exc.ArgumentError as error:
        message = f"{_first(error)}. A history is a folder or an SQLAlchemy URL, such as postgresql+psycopg://user@host/database"
        raise HistoryError([Problem(message, shown)]) from error
    try:
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise HistoryError(
            [Problem(f"the database says: {_first(getattr(error, 'orig', None) or error)}", shown)]
        ) from error
    finally:
        engine.dispose()


def _first(error: object) -> str:
    return str(error).strip().partition("\n")[0]


def _tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    import sqlalchemy as sa

    types: dict[type, Any] = {str: sa.Text(), int: sa.BigInteger(), float: sa.Double(), bool: sa.Boolean()}
    columns = [
        sa.Column(name, sa.String(_KEY[name]), primary_key=True) if name in _KEY else sa.Column(name, types[kind])
        for name, kind in _TYPES.items()
    ]
    stamp = sa.Column(_STAMP, sa.BigInteger(), nullable=False)
    rows = sa.Table(TABLE, metadata, *columns, stamp)
    version = sa.Table(f"{TABLE}_schema", metadata, sa.Column("version", sa.Integer(), primary_key=True))
    return rows, version


def _prepared(engine: sa.Engine, url: str) -> sa.Table:
    """Make the tables where they are missing, and look at their version."""
    import sqlalchemy as sa

    rows, version = _tables(metadata := sa.MetaData())
    # A database that is not there says so now; what fails below is another job at the same tables.
    engine.connect().close()
    found = None
    for attempt in range(_ATTEMPTS):
        try:
            metadata.create_all(engine)
            with engine.begin() as connection:
                _add_columns(connection, rows)
                found = connection.execute(sa.select(sa.func.max(version.c.version))).scalar()
                if found is None:
                    connection.execute(version.insert().values(version=VERSION))
            break
        except (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.OperationalError):
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05 * 2**attempt)
    _refuse_newer(found or VERSION, sa.make_url(url).render_as_string(hide_password=True))
    return rows


def _add_columns(connection: sa.Connection, table: sa.Table) -> None:
    """Add columns a table made by an earlier version lacks; its rows are empty there, as those of files are."""
    import sqlalchemy as sa

    have = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    prepare = connection.dialect.identifier_preparer
    for column in table.columns:
        if column.name not in have:
            kind = column.type.compile(connection.dialect)
            name = f"{prepare.quote(table.name)} ADD COLUMN {prepare.quote(column.name)}"
            connection.execute(sa.text(f"ALTER TABLE {name} {kind}"))


def _upsert(connection: sa.Connection, table: sa.Table, records: list[dict[str, Any]]) -> None:
    name = connection.dialect.name
    if name not in {"postgresql", "sqlite"}:
        _replace(connection, table, records)
        return
    from sqlalchemy.dialects import postgresql, sqlite

    insert = (postgresql if name == "postgresql" else sqlite).insert(table)
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in _KEY}
    statement = insert.on_conflict_do_update(
        index_elements=list(_KEY), set_=changed, where=insert.excluded[_STAMP] >= table.c[_STAMP]
    )
    connection.execute(statement, records)


def _replace(connection: sa.Connection, table: sa.Table, records: list[dict[str, Any]]) -> None:
    import sqlalchemy as sa

    key = sa.and_(*(table.c[name] == sa.bindparam(f"key_{name}") for name in _KEY))
    connection.execute(table.delete().where(key), [{f"key_{name}": r[name] for name in _KEY} for r in records])
    connection.execute(table.insert(), records)
