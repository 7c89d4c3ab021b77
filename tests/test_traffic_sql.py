"""Traffic from a database: the same cases as from files, streamed, read only, and no password anywhere."""

from __future__ import annotations

import datetime as dt
import gc
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_replays
from fail_closed_cases import CASES, columns, text, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_tables import CASE, as_long, fill, run, table_of
from test_history import SERVER, postgres_server

from cascade_eval import replay, runs, suite, traffic
from cascade_eval.errors import DataError
from cascade_eval.traffic import database

NO_SERVER = pytest.mark.skipif(not SERVER, reason="no PostgreSQL server is installed")
NO_DUCKDB = pytest.mark.skipif(importlib.util.find_spec("duckdb_engine") is None, reason="duckdb-engine is missing")
PASSWORD = "hunter2/&@ é"
ENCODED = "hunter2%2F%26%40+%C3%A9"
ALL = "SELECT * FROM log ORDER BY case_id"


@pytest.fixture(scope="module")
def server():
    """Start a real PostgreSQL, for this file."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NO_SERVER), pytest.param("duckdb", marks=NO_DUCKDB)])
def url(request, tmp_path):
    """Name an empty database of each kind."""
    if request.param != "postgresql":
        return f"{request.param}:///{tmp_path / 'log.db'}"
    place = request.getfixturevalue("server")
    name = f"t{random.randrange(10**9)}"
    run(place, f"CREATE DATABASE {name}", isolation_level="AUTOCOMMIT")
    return place.replace("/postgres", f"/{name}")


# The same as from files


def of_query(folder, place, sql="SELECT * FROM log"):
    """Write a suite that asks a database, and read it."""
    path = folder / "made.cascade.yaml"
    path.write_text(text(data=f"{{sql: '{place}',\n  query: {sql}}}"), encoding="utf-8")
    return suite.load(path)


@pytest.mark.parametrize("shape", [lambda table: table, as_long], ids=["wide", "long"])
def test_a_suite_says_the_same_of_a_query_as_of_the_file(tmp_path, url, shape):
    """Every number of every cascade and verdict is the one that the Parquet file of the same rows gives."""
    write(tmp_path, None, text().replace("cases.parquet", "cases.parquet\n"))
    table = shape(pa.table(columns()))
    pq.write_table(table, tmp_path / "cases.parquet")
    fill(url, table)
    from_file = runs.evaluate(suite.load(tmp_path / "made.cascade.yaml")).record
    from_query = runs.evaluate(of_query(tmp_path, url)).record
    assert from_query["cascades"] == from_file["cascades"]
    assert from_query["data"]["cases"] == CASES
    assert from_query["data"]["path"] == f"{url}, query 505c16d5"


def check_same_counts(place, cases, shape):
    """Assert that replaying what the database returns counts what replaying the table counts."""
    table = shape(table_of(cases))
    fill(place, table)
    found = [
        replay.run(small_replays.two(0.5), recorded.read(), small_replays.RULES).counts("language")
        for recorded in (traffic.from_frame(table), traffic.query(place, "SELECT * FROM log"))
    ]
    assert found[0].members == found[1].members
    assert found[0].arrays.keys() == found[1].arrays.keys()
    for name, array in found[0].arrays.items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(st.lists(CASE, min_size=1, max_size=6), st.sampled_from([lambda table: table, as_long]))
def test_counts_from_sqlite_equal_counts_from_columns(cases, shape):
    """For any rows, wide and long, nulls and odd text included, every count is the same."""
    with tempfile.TemporaryDirectory() as folder:
        check_same_counts(f"sqlite:///{folder}/log.db", cases, shape)


@NO_SERVER
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=st.lists(CASE, min_size=1, max_size=6), shape=st.sampled_from([lambda table: table, as_long]))
def test_counts_from_postgresql_equal_counts_from_columns(server, cases, shape):
    """The same with a real server, which has types of its own."""
    check_same_counts(server, cases, shape)


def test_rows_in_another_order_are_the_same_data(tmp_path):
    """The hash does not depend on an order no one asked for, and changes with a value, a name or a row."""
    place = f"sqlite:///{tmp_path}/log.db"
    fill(place, pa.table(columns(50)))
    hashes = [
        traffic.query(place, sql).sha256()
        for sql in (
            ALL,
            f"{ALL} DESC",
            f"{ALL} LIMIT 49",
            'SELECT *, 1 AS "more" FROM log',
            'SELECT *, NULL AS "more" FROM log',
            'SELECT *, 1 AS "other" FROM log',
        )
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


def test_more_rows_than_are_held_at_once(tmp_path):
    """Rows that come in several portions are all there, a column that was null for long included, and rows keep their number."""
    rows = 2 * database.ROWS + 7
    place = f"sqlite:///{tmp_path}/log.db"
    run(
        place,
        "CREATE TABLE log (case_id INTEGER, answer TEXT, note TEXT, cost REAL)",
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO log"
        f" SELECT i, 'a' || (i % 3), CASE WHEN i = {rows} THEN 'last' END, i * 0.5 FROM n",
    )
    sql = 'SELECT case_id, note, answer AS "mini.answer", cost AS "mini.cost_usd" FROM log ORDER BY case_id'
    found = traffic.query(place, sql).read()
    assert found.cases == rows
    assert found.text(None, "note", rows - 1) == "last"
    assert found.text(None, "case_id", rows - 1) == str(rows)
    run(place, f"UPDATE log SET cost = -1 WHERE case_id = {rows - 1}")
    with pytest.raises(DataError, match=rf"query [0-9a-f]{{8}}:{rows - 1}: .*negative: {rows - 1} \(row {rows - 1}\)"):
        traffic.query(place, sql).read()


def test_the_copy_goes_with_the_traffic(tmp_path):
    """Rows are kept in the temporary folder for as long as someone may read them, and no longer."""
    place = f"sqlite:///{tmp_path}/log.db"
    fill(place, pa.table(columns(5)))

    def copies():
        return {path.name for path in Path(tempfile.gettempdir()).glob("cascade-eval-query-*")}

    before = copies()
    found = traffic.query(place, "SELECT * FROM log")
    source = found.source
    assert len(copies() - before) == 1
    del found
    gc.collect()
    assert source.total == 5
    assert len(copies() - before) == 1
    del source
    gc.collect()
    with pytest.raises(traffic.QueryError):
        traffic.query(place, "SELECT * FROM nowhere")
    assert not copies() - before


# Types of PostgreSQL

PG_TYPES = """
    SELECT * FROM (VALUES
        (1::bigint, 'mini', '{"b": 1, "a": [true, null]}'::jsonb, 0.000123::numeric, '{-0.5,-0.25}'::float8[],
         ARRAY['x', NULL, 'y'], TIMESTAMPTZ '2026-01-31 09:00:00+01', 12::numeric, true, DATE '2026-01-31',
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '\\x616263'::bytea),
        (2::bigint, 'mini', '"refund"'::jsonb, 1e-9::numeric, '{-0.5}'::float8[],
         ARRAY['x'], TIMESTAMPTZ '2026-02-01 00:00:00Z', 9007199254741::numeric, false, DATE '2026-02-01',
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'::uuid, '\\x64'::bytea),
        (3::bigint, 'mini', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
    ) AS log(case_id, model, answer, cost_usd, token_logprobs, samples, decided_at, output_tokens, completed, day,
             user_id, raw)
"""


@NO_SERVER
def test_types_of_postgresql(server):
    """Numeric, JSON, arrays, times with a zone, booleans, dates, UUIDs and bytes come as the columns of files do."""
    found = traffic.query(server, PG_TYPES).read()
    per_case = {name: found.arrow(None, name).to_pylist() for name in ("case_id", "completed", "user_id", "raw", "day")}
    outcome = {
        name: found.arrow("mini", name).to_pylist()
        for name in ("answer", "cost_usd", "token_logprobs", "samples", "output_tokens")
    }
    assert per_case["case_id"] == ["1", "2", "3"]
    assert per_case["completed"] == [True, False, None]
    assert per_case["user_id"][0] == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert per_case["raw"] == ["abc", "d", None]
    assert per_case["day"] == [dt.date(2026, 1, 31), dt.date(2026, 2, 1), None]
    assert outcome["answer"] == ['{"a":[true,null],"b":1}', "refund", None]
    assert outcome["cost_usd"] == [0.000123, 1e-9, None]
    assert outcome["token_logprobs"] == [[-0.5, -0.25], [-0.5], None]
    assert outcome["samples"] == [["x", None, "y"], ["x"], None]
    assert outcome["output_tokens"] == [12, 9007199254741, None]
    assert found.arrow(None, "decided_at").to_pylist()[:2] == [
        dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC),
        dt.datetime(2026, 2, 1, tzinfo=dt.UTC),
    ]


@NO_SERVER
def test_outcomes_in_one_json_column(server):
    """A column `models` of JSON objects is read as nested records are."""
    sql = """SELECT 'a' AS case_id, '{"mini": {"answer": "x", "confidence": 0.5}, "flagship": {"answer": "y"}}'::json AS models"""
    found = traffic.query(server, sql)
    assert found.models == ("mini", "flagship")
    assert found.read().text("flagship", "answer", 0) == "y"


BAD_VALUES = [
    ("TIMESTAMP '2026-01-31 09:00:00' AS decided_at", "decided_at has no time zone"),
    ("'NaN'::numeric AS cost_usd", "cost_usd is NaN"),
    ("'Infinity'::float8 AS cost_usd", "cost_usd is infinite"),
    ("1e40::numeric AS output_tokens", "output_tokens is not a whole number"),
    ("9007199254740993::numeric AS output_tokens", "output_tokens is above 10,000,000,000,000"),
    ("12.5::numeric AS output_tokens", "output_tokens is not a whole number"),
    ("INTERVAL '2 seconds' AS latency_s", r"latency_s is duration\[us\], not a number"),
    ("ARRAY['a'] AS token_logprobs", "token_logprobs is list.*, not a list of numbers"),
    ("'late' AS status", "status is 'late'. Allowed: 'error', 'ok', 'refused', 'timeout'."),
]


@NO_SERVER
@pytest.mark.parametrize(("column", "said"), BAD_VALUES)
def test_values_of_postgresql_that_are_no_traffic(server, column, said):
    """What would be bad data in a file is bad data in a row, and the row is named."""
    with pytest.raises(DataError, match=rf"query [0-9a-f]{{8}}:1: {said}: a-1 \(row 1\)"):
        traffic.query(server, f"SELECT 'a-1' AS case_id, 'mini' AS model, 'x' AS answer, {column}").read()


def test_bad_rows_are_set_aside_when_that_is_tolerated(tmp_path):
    """A bad row is an error, or one counted row, as in a file."""
    place = f"sqlite:///{tmp_path}/log.db"
    table = pa.table(columns(20) | {"mini.cost_usd": [-1.0, *[0.5] * 19]})
    fill(place, table)
    with pytest.raises(DataError, match="--cascade-tolerate 1"):
        traffic.query(place, ALL).read()
    found = traffic.query(place, ALL, tolerate=1)
    assert (found.cases, found.bad_rows) == (19, 1)


def test_foreign_columns_are_named_as_in_files(tmp_path):
    """`columns` maps names of the query's result."""
    sql = "SELECT 'r-1' AS request, 'mini' AS engine, 'yes' AS reply"
    found = traffic.query("sqlite://", sql, columns={"case_id": "request", "model": "engine", "answer": "reply"})
    assert found.read().text("mini", "answer", 0) == "yes"


# What a query may do


WRITES = ["DELETE FROM log", "DROP TABLE log", "UPDATE log SET language = 'xx'", "INSERT INTO log SELECT * FROM log"]


@pytest.mark.parametrize("sql", [*WRITES, *(f"{sql} RETURNING *" for sql in WRITES if "DROP" not in sql)])
def test_a_query_cannot_write(url, sql):
    """A statement that writes is refused, and the table is what it was."""
    table = pa.table(columns(20))
    fill(url, table)
    before = traffic.query(url, ALL).sha256()
    with pytest.raises(traffic.QueryError) as caught:
        traffic.query(url, sql)
    assert caught.value.part == "query"
    assert traffic.query(url, ALL).sha256() == before


DETOURS = [
    ("WITH gone AS (DELETE FROM log RETURNING *) SELECT * FROM gone", "must not contain data-modifying statements"),
    ("SELECT * FROM log; COMMIT; DELETE FROM log", "cannot insert multiple commands"),
    (
        "SELECT set_config('transaction_read_only', 'off', false) FROM log",
        "read-write mode must be set before any query",
    ),
    ("SELECT nextval('counter') AS case_id", "in a read-only transaction"),
]


@NO_SERVER
@pytest.mark.parametrize(("sql", "said"), DETOURS)
def test_a_query_cannot_write_by_detours(server, sql, said):
    """A writing expression, a second statement and a way out of the transaction are refused, and change nothing."""
    fill(server, pa.table(columns(20)))
    run(server, "DROP SEQUENCE IF EXISTS counter", "CREATE SEQUENCE counter")
    with pytest.raises(traffic.QueryError, match=said):
        traffic.query(server, sql)
    assert traffic.query(server, "SELECT * FROM log").cases == 20


@NO_SERVER
def test_rows_come_through_a_cursor_of_a_reading_transaction(server):
    """PostgreSQL itself says that it keeps the result and hands it out in portions, and that nothing may be written."""
    answer = "current_setting('transaction_read_only') || (SELECT count(*) FROM pg_cursors)"
    found = traffic.query(server, f"SELECT 'a' AS case_id, 'mini' AS model, {answer} AS answer").read()
    assert found.text("mini", "answer", 0) == "on1"


def test_a_query_is_sent_as_it_is(url):
    """Colons and per cent signs are the database's, not placeholders of ours."""
    fill(url, pa.table(columns(20)))
    sql = "SELECT case_id, 'mini' AS model, ' :x %s %(y)s 100%' AS answer FROM log WHERE case_id LIKE 'case-%1'"
    found = traffic.query(url, sql).read()
    assert found.cases == 2
    assert found.text("mini", "answer", 0) == " :x %s %(y)s 100%"


# What cannot be used

UNUSABLE = [
    ("sqlite:///{here}/log.db", "SELEC 1", "query", 'near "SELEC": syntax error'),
    ("sqlite:///{here}/log.db", "SELECT * FROM logs", "query", "no such table: logs"),
    ("sqlite:///{here}/log.db", "SELECT * FROM log WHERE 1 = 0", "query", "the query returned no rows"),
    ("sqlite:///{here}/log.db", "", "query", "the statement returns no rows; write a SELECT"),
    ("sqlite:///{here}/log.db", "SELECT 1 AS a, 2 AS a", "query", "columns named twice: 'a'; name them apart with AS"),
    ("sqlite:///{here}/lag.db", "SELECT 1", "sql", "there is no such database file. Did you mean 'log.db'?"),
    ("sqlite:///{here}/no.txt", "SELECT 1", "sql", "the database says: file is not a database"),
    ("sqlight:///{here}/log.db", "SELECT 1", "sql", "knows no database 'sqlight'; .* Did you mean 'sqlite'?"),
    ("mysql+pymysql://me@127.0.0.1/x", "SELECT 1", "sql", "the driver 'pymysql' is not installed"),
    ("not a url", "SELECT 1", "sql", "is not an SQLAlchemy URL. Write it like postgresql"),
    ("postgresql+psycopg://me@127.0.0.1:1/x", "SELECT 1", "sql", "the database says: connection .*failed"),
]


@pytest.mark.parametrize(("place", "sql", "part", "said"), UNUSABLE)
def test_what_cannot_be_asked_says_why(tmp_path, place, sql, part, said):
    """The message names the database and the reason, and which of the two keys of the suite is at fault."""
    fill(f"sqlite:///{tmp_path}/log.db", pa.table(columns(5)))
    (tmp_path / "no.txt").write_text("this is no database " * 100, encoding="utf-8")
    with pytest.raises(traffic.QueryError, match=said) as caught:
        traffic.query(place.replace("{here}", str(tmp_path)), sql)
    assert caught.value.part == part
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.db", "no.txt"]


def test_rows_that_are_no_traffic_are_said_as_of_files():
    """A query without the columns that make up cases is told which are missing."""
    with pytest.raises(DataError, match=r"query c3b9b519: no column 'case_id'\. .*Columns here: 'x'"):
        traffic.query("sqlite://", "SELECT 1 AS x")


def test_the_suite_says_which_line_is_wrong(tmp_path):
    """A refused query is reported at `query:`, a missing database at `sql:`; a relative path starts at the suite."""
    fill(f"sqlite:///{tmp_path}/log.db", pa.table(columns()))
    assert (
        runs.evaluate(of_query(tmp_path, "sqlite:///log.db")).record["data"]["path"]
        == "sqlite:///log.db, query 505c16d5"
    )
    with pytest.raises(DataError, match=r"made\.cascade\.yaml:2: sqlite:///log\.db, query .*no such table: lag"):
        runs.open(of_query(tmp_path, "sqlite:///log.db", "SELECT * FROM lag"))
    with pytest.raises(DataError, match=r"made\.cascade\.yaml:1: sqlite:///lag\.db: there is no such database file"):
        runs.open(of_query(tmp_path, "sqlite:///lag.db"))


def test_without_sqlalchemy_the_message_has_the_command():
    """A missing extra is named with what installs it."""
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from cascade_eval import traffic\n"
        "try: traffic.query('sqlite://', 'SELECT 1')\n"
        "except traffic.QueryError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "traffic from a database needs SQLAlchemy. Install: pip install 'cascade-eval[sql]'\n"


# Passwords


def messages(url, sql="SELECT 1"):
    """Return everything an error would show, chained errors included."""
    with pytest.raises(DataError) as caught:
        traffic.query(url, sql)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{ENCODED}@127.0.0.1:1/x",
        f"postgresql+psycopg://me@127.0.0.1:1/x?password={ENCODED}",
        f"postgresql+psycopg://me:{ENCODED}@127.0.0.1:port/x",
        f"postgresql+nothing://me:{ENCODED}@127.0.0.1/x",
        f"mysql+pymysql://me:{ENCODED}@127.0.0.1/x?ssl_key_password={ENCODED}",
        f"postgresql+psycopg://me@127.0.0.1:1/x?unknown_option=1&sslpassword={ENCODED}",
    ],
)
def test_errors_show_no_password(url):
    """However a URL is wrong, neither the password nor its encoded form is in any message."""
    said = messages(url)
    assert PASSWORD not in said
    assert ENCODED not in said
    assert "hunter2" not in said


def test_what_a_driver_says_is_scrubbed():
    """A driver that quotes the whole URL, or the password as it was decoded, is quoted without it."""
    asked = database._database(f"postgresql+psycopg://me@127.0.0.1/x?password={ENCODED}", None)
    said = asked.said(ValueError(f"cannot use {PASSWORD} of sqlite://me:{ENCODED}@/?password={ENCODED}\nHINT: more"))
    asked.engine.dispose()
    assert said == "cannot use [scrubbed] of sqlite://me:[scrubbed]@/?password=[scrubbed]. HINT: more"


@NO_SERVER
def test_a_run_shows_no_password_anywhere(server, tmp_path):
    """Terminal, evidence, report and JUnit file of a real run name the URL without its password."""
    fill(server, pa.table(columns()))
    of_query(tmp_path, server.replace("watch@", f"watch:{ENCODED}@"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-v",
        "made.cascade.yaml",
        "--junit-xml=junit.xml",
    ]
    command += ["--cascade-evidence=evidence.json", "--cascade-report=report.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    files = {name: (tmp_path / name).read_text() for name in ("junit.xml", "evidence.json", "report.html")}
    for shown in (done.stdout, done.stderr, *files.values()):
        assert "hunter2" not in shown
    data = json.loads(files["evidence.json"])["suites"][0]["data"]
    assert data["path"] == f"{server.replace('watch@', 'watch:[scrubbed]@')}, query 505c16d5"
    assert data["sha256"] == traffic.query(server, "SELECT * FROM log").sha256()


@NO_SERVER
def test_the_password_may_come_from_the_environment(server, tmp_path):
    """`PGPASSWORD` reaches the driver, and a server that asks for a password is answered."""
    run(server, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'let me in'")
    shown = server.replace("watch@", "reader@")
    code = f"from cascade_eval import traffic; print(traffic.query({shown!r}, \"SELECT 'a' AS case_id, 'm' AS model\").name)"
    environment = {**os.environ, "PGPASSWORD": "let me in"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{shown}, query ")
