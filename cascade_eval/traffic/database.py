"""Rows of a SQL query: read once through SQLAlchemy and kept as columns in a temporary folder.

The query runs as it is given, in a transaction that may only read where the database has such a thing (PostgreSQL,
SQLite, DuckDB); nothing is committed anywhere. Rows arrive through a cursor of the server, some thousands at a time,
and become columns as the records of a JSONL file do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import shutil
import tempfile
import urllib.parse
import weakref
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cascade_eval import errors, scrubbing
from cascade_eval.errors import DataError, Problem
from cascade_eval.traffic import convert, jsonl, parts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    import pyarrow as pa
    import sqlalchemy as sa

ROWS = 10_000
"""Rows held as Python objects at once."""

_FILES = ("sqlite", "duckdb")
"""Databases that are a file, which opening would make where it is missing."""

_SECRET = ("pass", "pwd", "secret", "token", "key")
_EXAMPLE = "postgresql+psycopg://user@host/database"
_PLAIN = (str, int, float, bool, type(None), dt.date, dt.time, dt.timedelta)


class QueryError(DataError):
    """A database that cannot be reached, or a query it does not answer.

    Parameters
    ----------
    problem
        What is wrong.
    part
        Which of the two is at fault: the URL (``sql``) or the ``query``.
    """

    def __init__(self, problem: Problem, part: Literal["sql", "query"]) -> None:
        super().__init__([problem])
        self.part: Literal["sql", "query"] = part


@dataclass(frozen=True)
class Fetched:
    """What a query returned.

    Parameters
    ----------
    name
        The URL without its password, and the first digits of the query's hash.
    source
        The rows, in a folder that goes when they go.
    sha256
        Of the rows in whatever order they came.
    models
        Models that a column of nested outcomes names.
    """

    name: str
    source: parts.Rows
    sha256: str
    models: tuple[str, ...]


def fetch(url: str, sql: str, base: Path | None = None) -> Fetched:
    """Run a query once and keep its rows.

    Parameters
    ----------
    url
        An SQLAlchemy URL.
    sql
        One statement that returns rows.
    base
        Where relative paths of SQLite and DuckDB files start.

    Raises
    ------
    QueryError
        No SQLAlchemy or driver, no such database, a statement the database refuses, no rows.
    """
    database = _database(url, base)
    folder = Path(tempfile.mkdtemp(prefix="cascade-eval-query-"))
    try:
        found = _fetched(database, sql, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        database.engine.dispose()
    weakref.finalize(found.source, shutil.rmtree, folder, ignore_errors=True)
    return found


def _fetched(database: _Database, sql: str, folder: Path) -> Fetched:
    name = f"{database.shown}, query {hashlib.sha256(sql.encode()).hexdigest()[:8]}"
    notes, digest = jsonl.Notes(), Digest()
    with contextlib.closing(_tables(database, sql, name, notes, digest)) as tables:
        convert.write(tables, notes, folder)
    if not digest.rows:
        raise QueryError(Problem("the query returned no rows, so there is nothing to judge", name), "query")
    kept = convert.stored(name, folder)
    source = parts.Rows(kept.parts, tuple(kept.notes.problems), tuple(kept.notes.broken))
    return Fetched(name, source, digest.hexdigest(), tuple(kept.notes.models))


class Digest:
    """Hash rows in any order: the sum of their hashes.

    A query without ORDER BY may return the same rows in another order, and they are the same data.

    Examples
    --------
    >>> one, other = Digest(), Digest()
    >>> one.update(["case_id"], [("a",), ("b",)])
    >>> other.update(["case_id"], [("b",)])
    >>> other.update(["case_id"], [("a",)])
    >>> one.hexdigest() == other.hexdigest(), one.rows
    (True, 2)
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: list[str] = []
        self._sum = 0

    def update(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows; their columns are always the same."""
        self._names = list(names)
        for row in rows:
            self.rows += 1
            self._sum += int.from_bytes(hashlib.sha256(repr(tuple(row)).encode("utf-8", "replace")).digest())

    def hexdigest(self) -> str:
        """Return the sha256 of the names, the number of rows and the sum."""
        return hashlib.sha256(json.dumps([self._names, self.rows, self._sum % (1 << 256)]).encode()).hexdigest()


# --- the database --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Database:
    engine: sa.Engine
    shown: str
    secrets: tuple[str, ...]

    def said(self, error: BaseException) -> str:
        """Return what an error says in its first line, and the hint PostgreSQL adds; no password."""
        lines = [line.strip() for line in str(getattr(error, "orig", None) or error).strip().splitlines()]
        said = [*lines[:1], *(line for line in lines[1:] if line.startswith("HINT:"))]
        return ". ".join(map(self._scrubbed, said))

    def _scrubbed(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, scrubbing.MARK).replace(urllib.parse.quote_plus(secret), scrubbing.MARK)
        return scrubbing.scrub(text)


def _database(url: str, base: Path | None) -> _Database:
    try:
        import sqlalchemy as sa
    except ModuleNotFoundError:
        message = "traffic from a database needs SQLAlchemy. Install: pip install 'cascade-eval[sql]'"
        raise QueryError(Problem(message), "sql") from None
    # Chained errors would print the URL they could not read.
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        message = f"is not an SQLAlchemy URL. Write it like {_EXAMPLE} or sqlite:///log.db"
        raise QueryError(Problem(message, f"{url.partition('://')[0]}://…" if "://" in url else None), "sql") from None
    shown = _shown(parsed)
    if parsed.get_backend_name() in _FILES:
        parsed = _placed(parsed, base, shown)
    read_only = {"read_only": True} if parsed.get_backend_name() == "duckdb" and _file(parsed) else {}
    try:
        engine = sa.create_engine(parsed, poolclass=sa.NullPool, connect_args=read_only)
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise QueryError(Problem(no_driver(parsed.drivername, error), shown), "sql") from None
    except (sa.exc.ArgumentError, TypeError, ValueError):
        raise QueryError(
            Problem(f"SQLAlchemy does not take this URL. Write it like {_EXAMPLE}", shown), "sql"
        ) from None
    return _Database(engine, shown, _secrets(parsed))


def _shown(parsed: sa.URL) -> str:
    query = {key: scrubbing.MARK if _secret(key) else value for key, value in parsed.query.items()}
    return scrubbing.url(parsed.set(query=query).render_as_string(hide_password=True))


def _secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET)


def _secrets(parsed: sa.URL) -> tuple[str, ...]:
    in_query = [value for key, value in parsed.query.items() if _secret(key) and isinstance(value, str)]
    return tuple(value for value in (parsed.password, *in_query) if value)


def _file(parsed: sa.URL) -> str | None:
    """Name the file of a SQLite or DuckDB URL; None for one in memory or written as a URI of its own."""
    path = parsed.database
    return None if not path or path.startswith((":", "file:")) else path


def _placed(parsed: sa.URL, base: Path | None, shown: str) -> sa.URL:
    path = _file(parsed)
    if path is None:
        return parsed
    place = (base or Path()) / Path(path).expanduser()
    if not place.is_file():
        raise QueryError(Problem(f"there is no such database file{errors.beside(place)}", shown), "sql")
    return parsed.set(database=str(place))


def no_driver(driver: str, error: Exception) -> str:
    """Say why SQLAlchemy has no such database, and what to install or write."""
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and missing:
        return f"the driver '{missing}' is not installed. Install it; cascade-eval[sql] brings psycopg: {_EXAMPLE}"
    known = ("postgresql+psycopg", "sqlite", "duckdb", "mysql+pymysql", "mssql+pyodbc", "oracle+oracledb", "snowflake")
    return f"SQLAlchemy knows no database '{driver}'; is its package installed?{errors.did_you_mean(driver, known)}"


@contextlib.contextmanager
def _saying(database: _Database, name: str, part: Literal["sql", "query"]) -> Iterator[None]:
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        message = f"the database says: {database.said(error)}"
        raise QueryError(Problem(message, name), part) from None


def _connected(database: _Database) -> sa.Connection:
    """Connect for reading only."""
    connection = database.engine.connect()
    try:
        options: dict[str, Any] = {"stream_results": True, "yield_per": ROWS, "no_parameters": True}
        if connection.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
        connection = connection.execution_options(**options)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON").close()
            # Reads the header: a file that is no database says so here.
            connection.exec_driver_sql("PRAGMA schema_version").close()
    except BaseException:
        connection.close()
        raise
    return connection


# --- its rows ------------------------------------------------------------------------------------------------------


def _tables(
    database: _Database, sql: str, name: str, notes: jsonl.Notes, digest: Digest
) -> Generator[pa.Table, None, None]:
    """Yield the rows of a query as tables; every row keeps its number."""
    with _saying(database, database.shown, "sql"):
        connection = _connected(database)
    with connection, _saying(database, name, "query"):
        result = connection.exec_driver_sql(sql)
        if not result.returns_rows:
            raise QueryError(Problem("the statement returns no rows; write a SELECT", name), "query")
        names = [str(column) for column in result.keys()]  # noqa: SIM118  a result is no mapping
        if twice := sorted({column for column in names if names.count(column) > 1}):
            message = f"columns named twice: {', '.join(map(repr, twice))}; name them apart with AS"
            raise QueryError(Problem(message, name), "query")
        for rows in result.partitions(ROWS):
            first = digest.rows + 1
            columns = [_plain(list(values)) for values in zip(*rows, strict=True)]
            digest.update(names, zip(*columns, strict=True))
            records = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            table = jsonl.records(records, name, notes, range(first, first + len(rows)))
            if table is not None:
                yield table


def _plain(values: list[Any]) -> list[Any]:
    """Turn what drivers return into numbers, text, times, lists and objects.

    Examples
    --------
    >>> _plain([Decimal("2.50"), None, Decimal(3)]), _plain([Decimal(2), Decimal("3.00")]), _plain([b"a-1"])
    ([2.5, None, 3.0], [2, 3], ['a-1'])
    """
    kinds = set(map(type, values))
    if kinds <= {str, int, float, bool, type(None)}:
        return values
    if Decimal in kinds:
        values = _numbers(values)
    return [_value(value) for value in values]


def _numbers(values: list[Any]) -> list[Any]:
    """Whole numbers where all are whole, as a sum of integers is in PostgreSQL; else floats."""
    decimals = [value for value in values if isinstance(value, Decimal)]
    whole = all(value.is_finite() and value == value.to_integral_value() for value in decimals)
    kind = int if whole else float
    return [kind(value) if isinstance(value, Decimal) else value for value in values]


def _value(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return _plain(list(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)
