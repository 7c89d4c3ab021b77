"""Weeks kept between runs: nothing lost, nothing doubled, whoever is killed and whoever writes at the same time."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import errors, history
from cascade_eval.monitor import Row

ROOT = Path(__file__).parents[1]
SERVER = all(shutil.which(name) for name in ("initdb", "postgres"))


@contextlib.contextmanager
def postgres_server():
    """Run a PostgreSQL of our own on a free loopback port, in a folder that goes with it."""
    # The server refuses to run as root; its folder has to be reachable for whoever runs it.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="history-pg-", ignore_cleanup_errors=True) as folder:
        if owner:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = f"{folder}/data"
        made = ["initdb", "-D", data, "-U", "watch", "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **owner)
        command = ["postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **owner)
        try:
            _await(port, server)
            yield f"postgresql+psycopg://watch@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)  # nothing in it is worth a checkpoint
            server.wait(20)


def _await(port, server):
    import psycopg

    for _ in range(200):
        assert server.poll() is None, "the server ended"
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=watch dbname=postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def server():
    """Start a real PostgreSQL, for this file."""
    with postgres_server() as url:
        yield url


PLACES = [
    "folder",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.skipif(not SERVER, reason="no PostgreSQL server is installed")),
]


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    """Name an empty history: a folder, a SQLite file, a PostgreSQL database."""
    if request.param == "folder":
        return str(tmp_path / "history")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'history.db'}"
    import sqlalchemy as sa

    url = request.getfixturevalue("server")
    name = f"h{random.randrange(10**9)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.replace("/postgres", f"/{name}")


def row(week=1, language=None, cascade="current", **values):
    """Make a row with a few numbers."""
    cohort = () if language is None else (("language", language),)
    return Row("support", cascade, "production", f"2026-W{week:02d}", cohort, **values)


ROWS = (
    row(1, cases=10, escalation=0.25, complete=False),
    row(1, "no", cases=4, disagreement=0.1, reason=None),
    row(1, 'a "quoted", 語=x', cases=3, reason="nothing was compared"),
    row(2, cases=2**40, cost_per_request=1.5e-7),
)


def by_key(rows):
    """Rows in the order in which a history returns them."""
    return tuple(sorted(rows, key=lambda one: one.key))


def test_what_was_written_is_read(place):
    """Every value comes back as it was, nulls and odd names included."""
    assert history.read(place) == ()
    assert history.write(place, ROWS) == 4
    assert history.read(place) == by_key(ROWS)


def test_writing_again_replaces(place):
    """A job that runs twice leaves one row of each week and cohort, the later one; other rows stay."""
    history.write(place, ROWS)
    history.write(place, ROWS)
    later = replace(ROWS[0], cases=11, escalation=None)
    history.write(place, [later])
    assert history.read(place) == by_key([later, *ROWS[1:]])


def test_a_write_is_whole_or_nothing(place):
    """Where one row cannot be stored, none of them is."""
    history.write(place, [row(1, cases=1)])
    with pytest.raises((OverflowError, errors.UsageError, pa.ArrowException)):
        history.write(place, [row(1, cases=2), row(2), row(3, cases=2**70)])
    assert history.read(place) == (row(1, cases=1),)


def test_a_row_is_known_by_suite_cascade_kind_week_and_cohort(place):
    """Rows that differ in any of them are different rows."""
    one = row(3, "pt")
    others = [
        replace(one, suite="other"),
        replace(one, cascade="wider"),
        replace(one, kind="held-out"),
        replace(one, window="2026-W04"),
        replace(one, cohort=(("language", "en"),)),
        replace(one, cohort=(("locale", "pt"),)),
    ]
    history.write(place, [one, *others])
    assert len(history.read(place)) == 7


def test_reading_chooses_suite_and_first_week(place):
    """One suite's rows, from a week on."""
    history.write(place, [*ROWS, replace(ROWS[3], suite="other")])
    assert history.read(place, suite="support", since="2026-W02") == (ROWS[3],)
    with pytest.raises(errors.UsageError, match="not an ISO week"):
        history.read(place, since="2026-02")


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.sampled_from([None, "en", "pt"]), st.integers(0, 99)), max_size=5),
        max_size=6,
    )
)
@settings(max_examples=25, deadline=None)
def test_a_folder_is_a_dictionary(writes):
    """After any writes and a compaction a folder holds what a dictionary would."""
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, write in enumerate(writes):
            rows = [row(week, language, cases=cases) for week, language, cases in write]
            history.write(folder, rows)
            kept.update({one.key: one for one in rows})
            if number == 3:
                history.compact(folder)
        assert history.read(folder) == by_key(kept.values())
        history.compact(folder)
        assert history.read(folder) == by_key(kept.values())


def test_writing_nothing_leaves_nothing(place, tmp_path):
    """Without rows no file, no table and no folder is made."""
    assert history.write(place, []) == 0
    assert list(tmp_path.iterdir()) == []


def test_without_an_upsert_a_row_is_removed_and_written_anew(tmp_path):
    """What other engines than PostgreSQL and SQLite are asked for; its neighbours stay as they are."""
    import sqlalchemy as sa

    place = f"sqlite:///{tmp_path / 'history.db'}"
    history.write(place, ROWS)
    changed = replace(ROWS[0], cases=11)
    engine = sa.create_engine(place)
    with engine.begin() as connection:
        table, _ = history._tables(sa.MetaData())
        history._replace(connection, table, history._records([changed]))
    engine.dispose()
    assert history.read(place) == by_key([changed, *ROWS[1:]])


def test_many_files_become_one_by_themselves(tmp_path):
    """A folder never holds many more files than its limit, and loses nothing by it."""
    for week in range(history.FILES + 3):
        history.write(tmp_path, [row(week % 52 + 1, str(week))])
    assert len(list(tmp_path.glob("*.parquet"))) <= history.FILES
    assert len(history.read(tmp_path)) == history.FILES + 3


def test_a_half_finished_compaction_costs_nothing(tmp_path):
    """Killed after writing the one file and before removing the many: every row is still there once."""
    for week in range(1, 6):
        history.write(tmp_path, [row(week)])
    before = {file: file.read_bytes() for file in tmp_path.glob("*.parquet")}
    assert history.compact(tmp_path) == 5
    for file, data in before.items():
        file.write_bytes(data)
    assert history.read(tmp_path) == tuple(row(week) for week in range(1, 6))


def test_what_a_killed_writer_leaves_is_not_read(tmp_path):
    """A half-written temporary file is no row; once it is old, a compaction removes it."""
    history.write(tmp_path, [row(1)])
    history.write(tmp_path, [row(2)])
    half = tmp_path / ".123-abc.parquet.99.tmp"
    half.write_bytes(b"PAR1 half")
    assert len(history.read(tmp_path)) == 2
    os.utime(half, (1, 1))
    history.compact(tmp_path)
    assert not half.exists()
    assert len(history.read(tmp_path)) == 2


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused(tmp_path):
    """A file of a later version says how to get on, and is not guessed at."""
    history.write(tmp_path, [row(1)])
    [file] = tmp_path.glob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({b"cascade_eval.history": b"99"}), file)
    with pytest.raises(errors.UsageError, match=r"newer cascade_eval \(schema 99, this one knows 1\)"):
        history.read(tmp_path)


def test_a_newer_table_is_refused(tmp_path):
    """The same in a database."""
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path / 'h.db'}"
    history.write(url, [row(1)])
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE cascade_eval_history_schema SET version = 99"))
    engine.dispose()
    for use in (lambda: history.read(url), lambda: history.write(url, [row(2)])):
        with pytest.raises(errors.UsageError, match="schema 99"):
            use()


def test_columns_an_old_file_lacks_are_empty(tmp_path):
    """A file from before a column existed is read, with that column as a row has it by default."""
    history.write(tmp_path, [row(1, cases=5, latency_p95=2.0)])
    [file] = tmp_path.glob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["latency_p95"]), file)
    assert history.read(tmp_path) == (row(1, cases=5),)


def test_columns_an_old_table_lacks_are_added(tmp_path):
    """The same in a database: what was kept is read, and new rows have the column."""
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path / 'h.db'}"
    history.write(url, [row(1, cases=5, latency_p95=2.0)])
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE cascade_eval_history DROP COLUMN latency_p95"))
    engine.dispose()
    assert history.read(url) == (row(1, cases=5),)
    history.write(url, [row(2, latency_p95=3.0)])
    assert history.read(url) == (row(1, cases=5), row(2, latency_p95=3.0))


def test_foreign_and_broken_files_are_named(tmp_path):
    """Neither is skipped: a history that cannot be read whole is not read."""
    history.write(tmp_path, [row(1)])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "1-foreign.parquet")
    with pytest.raises(errors.UsageError, match=r"1-foreign.parquet: is no part of a history"):
        history.read(tmp_path)
    (tmp_path / "1-foreign.parquet").write_bytes(b"PAR1")
    with pytest.raises(errors.UsageError, match=r"1-foreign.parquet: is not a readable Parquet file"):
        history.read(tmp_path)


@pytest.mark.parametrize("url", ["nonsense://somewhere/x", "postgresql+psycopg://u:secret@127.0.0.1:1/x", "a b://"])
def test_a_database_that_cannot_be_reached_is_a_usage_error_without_its_password(url):
    """What is wrong is said, the password is not."""
    with pytest.raises(errors.UsageError) as caught:
        history.write(url, [row(1)])
    assert "secret" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
    """A path to a file says what a history is."""
    (tmp_path / "x").write_text("")
    with pytest.raises(errors.UsageError, match="a history is a folder"):
        history.read(tmp_path / "x")


# --- killing, and writing at once ----------------------------------------------------------------------------------

WRITER = """
import sys
from cascade_eval import history
from cascade_eval.monitor import Row
where, name, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
for number in range(first, first + count):
    rows = [
        Row("support", name, "production", f"{2000 + number}-W01", (("part", str(part)),), cases=number)
        for part in range(20)
    ]
    history.write(where, rows)
    print(number, flush=True)
"""


def start(place, name, first=0, count=10_000):
    """Start a writer that says which writes have returned."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, place, name, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def weeks(place, name):
    """Parts of each week a writer left, as numbers; every row must be whole and there once."""
    found = {}
    for one in history.read(place):
        if one.cascade == name:
            assert one.window == f"{2000 + one.cases}-W01"
            found.setdefault(one.cases, []).append(int(one.cohort[0][1]))
    return {number: sorted(parts) for number, parts in found.items()}


def test_kill_in_mid_write_loses_and_doubles_nothing(place):
    """Killed with SIGKILL at random moments, three times over: what returned is there, all or nothing of the rest."""
    rng = random.Random(7)
    told, first = set(), 0
    for _ in range(3):
        writer = start(place, "killed", first)
        assert writer.stdout.readline() == "ready\n"
        for _ in range(rng.randrange(1, 5)):
            told.add(int(writer.stdout.readline()))
        time.sleep(rng.random() * 0.02)
        writer.kill()
        told |= {int(line) for line in writer.communicate()[0].split()}
        first = max(told)  # the next one begins by writing the last week again
    found = weeks(place, "killed")
    assert told <= set(found)
    assert len(found) - len(told) <= 3  # at most one write of each killed process came through untold
    assert all(parts == list(range(20)) for parts in found.values())


def test_two_writers_at_once_lose_and_double_nothing(place):
    """Two processes write the same rows, and a third others, at the same time, while a fourth reads."""
    writers = [start(place, name, 0, 8) for name in ("one", "both", "both")]
    while any(writer.poll() is None for writer in writers):
        for one in history.read(place):
            assert one.window == f"{2000 + one.cases}-W01"
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    for name in ("one", "both"):
        assert weeks(place, name) == {number: list(range(20)) for number in range(8)}


def test_a_compaction_beside_a_writer_loses_nothing(tmp_path):
    """Files are put together again and again while another process writes; then it is killed."""
    place = str(tmp_path / "history")
    writer = start(place, "busy")
    assert writer.stdout.readline() == "ready\n"
    told = {int(writer.stdout.readline())}
    for _ in range(10):
        history.compact(place)
        told.add(int(writer.stdout.readline()))
    writer.kill()
    told |= {int(line) for line in writer.communicate()[0].split()}
    found = weeks(place, "busy")
    assert told <= set(found)
    assert all(parts == list(range(20)) for parts in found.values())
