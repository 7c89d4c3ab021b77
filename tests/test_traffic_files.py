"""Files: formats, compression, folders, URLs, the cache, the hash."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade_eval import traffic
from cascade_eval.errors import DataError
from cascade_eval.traffic import Field, convert, delimited, jsonl

ROWS = [{"case_id": f"c{i}", "m.answer": f"x{i}", "m.confidence": i / 8} for i in range(9)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def answers(opened):
    return opened.read([Field("m", "answer")]).arrow("m", "answer").to_pylist()


WANT = [row["m.answer"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", LINES),
        ("x.ndjson", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n").rstrip()),
        ("x.jsonl.gz", gzip.compress(LINES[:100]) + gzip.compress(LINES[100:])),
        ("x.jsonl.zst", pa.compress(LINES, codec="zstd", asbytes=True)),
        ("x.csv", b"case_id,m.answer\r\n" + "".join(f"c{i},x{i}\r\n" for i in range(9)).encode()),
        ("x.csv.gz", gzip.compress(b"case_id,m.answer\n" + "".join(f"c{i},x{i}\n" for i in range(9)).encode())),
    ],
    ids=["jsonl", "ndjson", "jsonl.gz", "jsonl.zst", "csv", "csv.gz"],  # bytes packed now differ between workers
)
@pytest.mark.parametrize("cached", [True, False])
def test_every_text_format_is_read(tmp_path, name, data, cached):
    """Byte order marks, line ends, compression in several members and a missing last newline change nothing."""
    (tmp_path / name).write_bytes(data)
    for _ in range(2):
        assert answers(traffic.open(tmp_path / name, cache=tmp_path / "cache" if cached else False)) == WANT


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst", "x.csv.gz"])
def test_a_truncated_file_is_never_tolerated(tmp_path, name):
    """Half a file is an error under any tolerance: nobody knows how much is missing."""
    text = LINES if "jsonl" in name else b"case_id,m.answer\na,b\n"
    whole = gzip.compress(text) if name.endswith("gz") else pa.compress(text, codec="zstd", asbytes=True)
    (tmp_path / name).write_bytes(whole[:-6])
    for cache in (False, tmp_path / "cache", tmp_path / "cache"):
        with pytest.raises(DataError, match="cannot be read to its end"):
            traffic.open(tmp_path / name, cache=cache, tolerate=1000)


def test_an_endless_line_is_an_error():
    """A record larger than the limit stops the reading with its line, in JSONL and in CSV, and is never tolerated."""
    notes = jsonl.Notes()
    endless = io.BytesIO(LINES.split(b"\n")[0] + b'\n{"case_id": "' + b"x" * 5000)
    assert sum(t.num_rows for t in jsonl.tables(endless, "x.jsonl", notes, block=100, longest=1000)) == 1
    assert [str(problem) for problem in notes.broken] == ["x.jsonl:2: the line is longer than 1,000 bytes"]
    endless = io.BytesIO(b"case_id,m.answer\na,b\nc1," + b"x" * 5000)
    assert sum(t.num_rows for t in delimited.tables(endless, "x.csv", notes, longest=1000)) == 1
    assert str(notes.broken[1]).startswith("x.csv:3: the row cannot be read: line longer than 1,000 characters")


@pytest.mark.parametrize("block", [1, 7, 40, 100_000])
def test_blocks_do_not_matter(block):
    """However many bytes are parsed at once, records and their lines are the same."""
    text = LINES[:90] + b"broken\n\n" + LINES
    notes = jsonl.Notes()
    found = [row for t in jsonl.tables(io.BytesIO(text), "x", notes, block=block) for row in t.to_pylist()]
    want = [
        (n, json.loads(line))
        for n, line in enumerate(text.split(b"\n"), 1)
        if line.startswith(b"{") and line.endswith(b"}")
    ]
    assert [(row.pop("__line__"), row) for row in found] == want
    assert [problem.line for problem in notes.problems] == [
        n for n, line in enumerate(text.split(b"\n"), 1) if line and not line.endswith(b"}")
    ]


def test_types_may_grow_along_a_log(tmp_path):
    """A column that starts null, becomes whole and then broken numbers is one column of numbers, line by line."""
    pad = "x" * (jsonl.BLOCK // 3)
    values = [None, None, None, 1, 2, 2.5, None, 3]
    lines = [json.dumps({"case_id": str(i), "m.answer": pad, "m.x": v}) for i, v in enumerate(values)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    for cache in (False, tmp_path / "cache", tmp_path / "cache"):
        opened = traffic.open(tmp_path / "x.jsonl", cache=cache)
        assert opened.read().arrow("m", "x").to_pylist() == values


def test_lines_are_counted_through_quotes_and_blanks(tmp_path):
    """In CSV a row is named by the line it begins on, whatever its quoted fields hold; a short row is a problem."""
    (tmp_path / "x.csv").write_text('case_id,m.answer,m.cost_usd\na,"two\nlines",1\n\nb,x,-1\nc,x\n"d",x,-2\n')
    with pytest.raises(DataError) as caught:
        traffic.open(tmp_path / "x.csv", cache=False)
    assert [(problem.line, problem.message.split(":")[0]) for problem in caught.value.problems[:-1]] == [
        (6, "the row has 2 fields, the header 3"),
        (5, "m.cost_usd is negative"),
    ]
    assert "d (row 7)" in str(caught.value)


def test_a_url_is_opened_like_a_path():
    """Any fsspec file system serves files and folders of Parquet and text."""
    import fsspec

    memory = fsspec.filesystem("memory")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS[:4]), sink)
    memory.pipe("/traffic-test/a.parquet", sink.getvalue().to_pybytes())
    memory.pipe("/traffic-test/b.jsonl.gz", gzip.compress(b"\n".join(LINES.splitlines()[4:])))
    memory.pipe("/traffic-test/notes.txt", b"not data")
    assert answers(traffic.open("memory://traffic-test")) == WANT
    assert answers(traffic.open("memory://traffic-test/a.parquet")) == WANT[:4]
    with pytest.raises(DataError, match="no such file"):
        traffic.open("memory://traffic-test/c.parquet")


def test_paths_start_at_the_suite_and_keep_the_users_words(tmp_path):
    """A relative path is looked up from `base`; errors and `name` say what the user wrote."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.jsonl").write_bytes(LINES)
    opened = traffic.open("logs", base=tmp_path, cache=False)
    assert opened.name == "logs"
    assert answers(opened) == WANT
    for path, message in (("logz", "Did you mean 'logs'"), ("logs/y.jsonl", "Beside it: 'x.jsonl'")):
        with pytest.raises(DataError, match=message):
            traffic.open(path, base=tmp_path)
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"no data file\. Readable"):
        traffic.open("x.xlsx", base=tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        traffic.open("x.parquet", base=tmp_path)


def test_the_hash_is_of_the_bytes(tmp_path):
    """sha256 of one file is the file's; of a folder, of the data files in the order of their names; the path is no part."""
    for folder in ("one", "two"):
        (tmp_path / folder / "b").mkdir(parents=True)
        (tmp_path / folder / "a.jsonl").write_bytes(LINES[:200].rsplit(b"\n", 1)[0])
        (tmp_path / folder / "b" / "c.jsonl").write_bytes(LINES)
    (tmp_path / "two" / "golden.yaml").write_text("x: 1")
    single = traffic.open(tmp_path / "one" / "b", cache=False)
    assert single.sha256() == hashlib.sha256(LINES).hexdigest()
    both = hashlib.sha256((tmp_path / "one" / "a.jsonl").read_bytes() + LINES).hexdigest()
    assert [traffic.open(tmp_path / n, cache=False).sha256() for n in ("one", "two")] == [both, both]


def test_the_hash_of_a_frame_is_of_its_values():
    """Chunks change nothing, values do."""
    table = pa.table({"case_id": ["a", "b"], "m.answer": ["x", "y"]})
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert traffic.from_frame(table).sha256() == traffic.from_frame(cut).sha256()
    other = table.set_column(1, "m.answer", pa.array(["x", "z"]))
    assert traffic.from_frame(table).sha256() != traffic.from_frame(other).sha256()


def test_the_cache_is_used_and_follows_the_content(tmp_path, monkeypatch):
    """A second opening reads converted columns; another content is converted again; off means off."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("CASCADE_EVAL_CACHE", raising=False)
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES + b"not json\n")
    with pytest.raises(DataError, match=r"x\.jsonl:10: the line is not JSON"):
        traffic.open(path)
    folder = tmp_path / "xdg" / "cascade_eval" / "converted"
    assert len(list(folder.iterdir())) == 1
    again = traffic.open(path, tolerate=1)
    assert (answers(again), again.bad_rows) == (WANT, 1)
    path.write_bytes(LINES.replace(b"x8", b"y8"))
    assert answers(traffic.open(path)) == [*WANT[:-1], "y8"]
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setenv("CASCADE_EVAL_CACHE", "off")
    assert convert.cache_folder() is None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    """A file where the cache folder should be, or a cache with a broken entry, costs time and nothing else."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES)
    (tmp_path / "file").write_text("in the way")
    assert answers(traffic.open(path, cache=tmp_path / "file")) == WANT
    traffic.open(path, cache=tmp_path / "cache")
    (facts,) = (tmp_path / "cache").rglob("facts.json")
    for break_it in (lambda: facts.write_text("{"), (facts.parent / "00000.parquet").unlink):
        break_it()
        assert answers(traffic.open(path, cache=tmp_path / "cache")) == WANT
        assert json.loads(facts.read_text())["rows"] == [9]


def test_two_at_once_share_the_cache(tmp_path):
    """Openings at the same moment all see whole data, and one entry is left."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES * 1)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(answers(traffic.open(path, cache=tmp_path / "cache"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WANT] * 8
    assert len(list((tmp_path / "cache" / "converted").iterdir())) == 1


def test_reading_parquet_needs_no_pandas(tmp_path):
    """Wide and long rows are read, aligned and picked with numpy and Arrow alone; pandas would cost more than the read."""
    columns = {"case_id": ["a", "b"], "m.answer": ["x", None], "m.cost_usd": [1.0, None], "language": ["en", None]}
    pq.write_table(pa.table(columns), tmp_path / "wide.parquet")
    keys = {"case_id": ["b", "a", "b"], "model": ["m", "m", "n"]}
    pq.write_table(pa.table({**keys, "answer": ["x", "y", None], "run": [0, None, 0]}), tmp_path / "long.parquet")
    code = (
        "import sys; from cascade_eval import traffic\n"
        "for path in sys.argv[1:]:\n"
        "    opened = traffic.open(path)\n"
        "    batch = opened.read(); opened.rows([1], []); batch.codes(None, 'language'); batch.take(batch.status('m') == 0)\n"
        "print([name for name in ('pandas', 'scipy', 'fsspec', 'pyarrow.dataset') if name in sys.modules])"
    )
    paths = [str(tmp_path / "wide.parquet"), str(tmp_path / "long.parquet")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
