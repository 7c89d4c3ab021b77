"""A recording goes on where it ended, was cut short or killed: nothing is lost, doubled, or paid for twice."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scripted_server as scripted
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import TWO, Fake, good, lines, recipe, write_cases

from cascade_eval import errors, recording, traffic
from cascade_eval.recording import journal

# --- going on ------------------------------------------------------------------------------------------------------


def test_what_has_a_line_is_never_asked_again(tmp_path):
    """A second run asks nothing, spends nothing, and says the same."""
    write_cases(tmp_path)
    fake = Fake(lambda *_: good())
    first = recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    again = recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert len(fake.sent) == 10
    assert first == again
    assert len(lines(first.output)) == 10


def test_new_cases_and_models_are_added(tmp_path):
    """More cases, or another model, ask only what is new."""
    write_cases(tmp_path, 2)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1, only=["mini"])
    write_cases(tmp_path, 3)
    found = recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert found.outcome == "complete"
    assert sorted((name, text) for _, name, text in fake.sent) == [
        (name, f"q{i}") for name in ("big", "mini") for i in range(3)
    ]


def test_another_question_is_not_mixed_in(tmp_path):
    """Changed settings are refused with what changed: one journal holds the answers to one question."""
    write_cases(tmp_path, 2)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    with pytest.raises(
        errors.UsageError, match=r"2 calls of 'mini' were made with another 'seed'\. Record into another"
    ):
        recording.run(recipe(tmp_path, TWO.replace("seed: 1", "seed: 2")), connect=fake, environ={}, max_usd=1)
    write_cases(tmp_path, 2, language="fr")
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    (tmp_path / "cases.jsonl").write_text('{"case_id": "c0", "input": "another"}\n')
    with pytest.raises(errors.UsageError, match="another question"):
        recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert len(fake.sent) == 4


def test_failed_calls_are_asked_again_on_request(tmp_path):
    """--retry failed asks only what failed; the journal keeps one line a call, and the first try stays paid for."""
    write_cases(tmp_path, 3)
    first = Fake(lambda call, _: recording.Reply("timeout", reason="late") if call.case.case_id == "c1" else good())
    failed = recording.run(recipe(tmp_path, TWO), connect=first, environ={}, max_usd=1)
    assert (failed.outcome, failed.failed, failed.unpriced) == ("failures", 2, 2)
    again = Fake(lambda *_: good())
    found = recording.run(recipe(tmp_path, TWO), connect=again, environ={}, max_usd=1, retry_failed=True)
    assert len(again.sent) == 2
    assert (found.outcome, found.requests, found.unpriced) == ("complete", 8, 2)
    assert found.uncertain == failed.uncertain > 0
    assert traffic.open(found.journal, cache=False).cases == 3
    assert len(lines(found.output)) == 6


@pytest.mark.parametrize("tail", [b'{"case_id": "c0", "mod', b'{"case_id', b"\x00\x00\x00", "…".encode()[:1]])
def test_a_torn_line_is_set_aside(tmp_path, tail):
    """What a killed process left half-written counts for nothing and harms no line after it."""
    write_cases(tmp_path, 3)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1, only=["mini"])
    path = tmp_path / "recorded" / "answers.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + tail)
    found = recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert found.outcome == "complete"
    assert path.read_bytes().startswith(before)
    assert len(lines(found.output)) == 6
    assert (tmp_path / "recorded" / "torn.log").read_bytes() == tail + b"\n"
    assert "torn" in found.notes[0]


def test_a_whole_line_without_its_line_feed_counts(tmp_path):
    """Only the line feed was lost: the call has its answer, and is not paid for again."""
    write_cases(tmp_path, 3)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    path = tmp_path / "recorded" / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1).outcome == "complete"
    assert len(fake.sent) == 6
    assert len(lines(tmp_path / "recorded")) == 6


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_any_cut_of_the_journal_is_gone_on_from(tmp_path_factory, place):
    """Whatever byte a power cut left as the journal's last one: nothing is lost, doubled, or asked in vain."""
    folder = tmp_path_factory.mktemp("cut")
    write_cases(folder, 3)
    fake = Fake(lambda *_: good())
    recording.run(recipe(folder, TWO), connect=fake, environ={}, max_usd=1)
    whole = (folder / "recorded" / "answers.jsonl").read_bytes()
    cut = len(whole) * place // 10_000
    (folder / "recorded" / "answers.jsonl").write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
    again = Fake(lambda *_: good())
    found = recording.run(recipe(folder, TWO), connect=again, environ={}, max_usd=1)
    assert (found.outcome, len(again.sent)) == ("complete", 6 - kept)
    assert sorted((line["case_id"], line["model"]) for line in lines(folder / "recorded")) == [
        (f"c{i}", name) for i in range(3) for name in ("big", "mini")
    ]
    # What has a note and no line may have been paid: its worst case stays counted.
    assert (found.unheard, found.requests) == (6 - kept, 12 - kept)


def test_a_changed_journal_is_refused(tmp_path):
    """A broken line in the middle is no torn end: someone changed the file, and nothing is asked."""
    write_cases(tmp_path, 3)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    path = tmp_path / "recorded" / "answers.jsonl"
    path.write_bytes(b"{broken\n" + path.read_bytes())
    with pytest.raises(errors.DataError, match=r"answers.jsonl:1: not a line of a journal"):
        recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert len(fake.sent) == 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost_usd", "1"),
        ("cost_usd", -5),
        ("run", "x"),
        ("status", "done"),
        ("status", ["ok"]),
        ("call", None),
        ("attempts", 0),
    ],
)
def test_a_line_edited_by_hand_is_named(tmp_path, field, value):
    """A value no recorder writes is refused with its line, its field, and what it says."""
    write_cases(tmp_path, 1)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    first, second = lines(tmp_path / "recorded")
    path = tmp_path / "recorded" / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, {**second, field: value})))
    with pytest.raises(errors.DataError, match=rf"answers.jsonl:2: not a line of a journal: '{field}' cannot be"):
        recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)


@pytest.mark.parametrize("broken", ["[1]", '"call"', "7", '{"event": ["sent"]}', '{"event": "sent", "call": "x"}'])
def test_a_note_edited_by_hand_is_named(tmp_path, broken):
    """The notes of requests say what may have been paid: none is passed over."""
    write_cases(tmp_path, 1)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    with (tmp_path / "recorded" / "requests.log").open("a") as file:
        file.write(broken + "\n")
    with pytest.raises(errors.DataError, match=r"requests.log:\d+: not a line of a journal"):
        recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)


def test_a_call_with_two_lines_is_refused(tmp_path):
    """Two journals put together, or one line twice, would count a call twice."""
    write_cases(tmp_path, 2)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    path = tmp_path / "recorded" / "answers.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(errors.DataError, match=r"2 lines for the case 'c\d', '(mini|big)', repeat 0"):
        recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)


def test_what_was_spent_is_known_without_the_notes(tmp_path):
    """Where the notes of requests are lost, the lines still say what was paid: the cap is not opened again."""
    write_cases(tmp_path, 3)

    def answer(call, _before):
        return recording.Reply("timeout", reason="late") if call.case.case_id == "c1" else good()

    first = recording.run(recipe(tmp_path, TWO), connect=Fake(answer), environ={}, max_usd=1)
    (tmp_path / "recorded" / "requests.log").unlink()
    again = recording.run(recipe(tmp_path, TWO), connect=Fake(answer), environ={}, max_usd=1)
    assert (again.requests, again.spent, again.uncertain) == (first.requests, first.spent, first.uncertain)
    assert again.spent > 0 < again.uncertain
    (tmp_path / "recorded" / "requests.log").unlink()
    retried = recording.run(
        recipe(tmp_path, TWO), connect=Fake(lambda *_: good()), environ={}, max_calls=6, retry_failed=True
    )
    assert (retried.requests, retried.failed, retried.unasked) == (6, 0, {"mini": 1, "big": 1})


def test_nothing_is_opened_where_nothing_is_left_to_ask(tmp_path):
    """A finished recording builds no client."""

    def refuse(_model, _key):
        raise AssertionError

    write_cases(tmp_path, 2)
    recording.run(recipe(tmp_path, TWO), connect=Fake(lambda *_: good()), environ={}, max_usd=1)
    assert recording.run(recipe(tmp_path, TWO), connect=refuse, environ={}, max_usd=1).outcome == "complete"


def test_other_cases_in_a_journal_are_said(tmp_path):
    """Lines of cases that are none of these stay and count, which is said."""
    write_cases(tmp_path, 3)
    fake = Fake(lambda *_: good())
    recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    (tmp_path / "cases.jsonl").write_text('{"case_id": "z", "input": "q"}\n')
    found = recording.run(recipe(tmp_path, TWO), connect=fake, environ={}, max_usd=1)
    assert found.notes == ("3 cases of the journal are not among these cases; their lines stay, and count.",)


def test_it_records_where_a_loop_runs_already(tmp_path):
    """In a notebook, whose loop is running, recording is called like anything else."""

    async def cell():
        return recording.run(recipe(tmp_path, TWO), connect=Fake(lambda *_: good()), environ={}, max_usd=1)

    write_cases(tmp_path, 2)
    assert asyncio.run(cell()).outcome == "complete"


def test_a_journal_that_cannot_be_opened(tmp_path):
    """A folder in the place of a file is a sentence, and no traceback."""
    write_cases(tmp_path, 1)
    (tmp_path / "recorded" / "answers.jsonl").mkdir(parents=True)
    with pytest.raises(errors.UsageError, match=r"answers.jsonl: cannot be used: Is a directory"):
        recording.run(recipe(tmp_path, TWO), connect=Fake(lambda *_: good()), environ={}, max_usd=1)


def test_one_process_records_into_a_folder(tmp_path):
    """A second recorder is refused with what to do, and the first goes on."""
    write_cases(tmp_path, 1)
    with (
        journal.Journal(tmp_path / "recorded", {}),
        pytest.raises(errors.UsageError, match="another process records into this folder"),
    ):
        recording.run(recipe(tmp_path, TWO), connect=Fake(lambda *_: good()), environ={}, max_usd=1)


# --- killed, and interrupted ---------------------------------------------------------------------------------------


LAUNCHER = """
import json, os, resource, signal, sys
import openai, pyarrow.parquet
from cascade_eval import cli, recording
from cascade_eval.recording import running
for line in sys.stdin:
    arguments, output, most_bytes = json.loads(line)
    child = os.fork()
    if not child:
        file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if most_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        code = cli.run(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Recorder:
    """Starts recorders in processes of their own, without importing everything each time."""

    def __init__(self, process):
        self._process = process

    def start(self, folder, *, most_bytes=0):
        """Start one; return its process id."""
        arguments = ["record", str(folder / "r.record.yaml"), "--max-usd", "1"]
        self.output = folder / "output.txt"
        self._process.stdin.write(json.dumps([arguments, str(self.output), most_bytes]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self):
        """Return its exit code, negative where a signal ended it, and what it said."""
        code = int(self._process.stdout.readline())
        return code, self.output.read_text()

    def run(self, folder, **options):
        """Start one and wait for it."""
        self.start(folder, **options)
        return self.wait()


def process(*arguments):
    started = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()


@pytest.fixture(scope="module")
def recorder():
    """Start recorders that can be killed."""
    for started in process("-c", LAUNCHER):
        yield Recorder(started)


@pytest.fixture(scope="module")
def server():
    """Serve in a process of its own, a moment after every question; give it and its address."""
    for started in process(scripted.__file__, "0.02"):
        yield started, f"http://127.0.0.1:{int(started.stdout.readline())}/v1"


def heard(server):
    """Ask a server what it heard since it was last asked."""
    server.stdin.write("heard\n")
    server.stdin.flush()
    return collections.Counter(json.loads(server.stdout.readline()))


def wait_for_lines(folder, more_than):
    """Wait until a journal has more whole lines than so many."""
    path, deadline = folder / "recorded" / "answers.jsonl", time.monotonic() + 20
    while not path.exists() or path.read_bytes().count(b"\n") <= more_than:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.loopback
def test_killed_again_and_again_it_ends_as_if_left_alone(tmp_path, server, recorder):
    """After kill -9 at random moments: the same cases, answers and statuses, each with one line and paid once."""
    process, url = server
    heard(process)
    write_cases(tmp_path, 60)
    text = TWO.replace("{url}", url).replace("timeout: 5s", "timeout: 20s, concurrency: 2")
    (tmp_path / "r.record.yaml").write_text(text)
    moments = random.Random(3)
    kills = 0
    for number in range(5):
        running = recorder.start(tmp_path)
        wait_for_lines(tmp_path, 18 * number)
        time.sleep(moments.random() * 0.05)
        os.kill(running, signal.SIGKILL)
        kills += recorder.wait()[0] == -signal.SIGKILL
    assert kills == 5
    code, out = recorder.run(tmp_path)
    assert code == 0, out
    rows = lines(tmp_path / "recorded")
    assert len(rows) == 120
    assert {(row["case_id"], row["model"]) for row in rows} == {
        (f"c{i}", m) for i in range(60) for m in ("mini", "big")
    }
    assert all((row["status"], row["answer"]) == ("ok", f"to q{row['case_id'][1:]}") for row in rows)
    notes = [json.loads(line) for line in (tmp_path / "recorded" / "requests.log").read_text().splitlines()]
    sent = sum(note["event"] == "sent" for note in notes)
    # Whatever reached the server has a note; at most the four calls under way at each kill have no line.
    assert sum(heard(process).values()) <= sent <= 120 + kills * 4
    said = re.search(r"(\d+) requests? (?:was|were) under way", out)
    assert (int(said[1]) if said else 0) == sent - 120


@pytest.mark.loopback
def test_a_full_disk_ends_the_run(tmp_path, server, recorder):
    """Where a line cannot be written nothing more is asked and it is no success; with room again it goes on."""
    process, url = server
    heard(process)
    write_cases(tmp_path, 30)
    (tmp_path / "r.record.yaml").write_text(TWO.replace("{url}", url))
    code, out = recorder.run(tmp_path, most_bytes=4096)
    assert code == 4
    assert "cannot be written: File too large" in out
    assert sum(heard(process).values()) < 40
    assert recorder.run(tmp_path)[0] == 0
    assert len(lines(tmp_path / "recorded")) == 60


@pytest.mark.loopback
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_under_way(tmp_path, server, recorder, number):
    """Ctrl-C stops sending, waits for what is under way, says how to go on, and ends with 130."""
    write_cases(tmp_path, 300)
    (tmp_path / "r.record.yaml").write_text(TWO.replace("{url}", server[1]))
    running = recorder.start(tmp_path)
    wait_for_lines(tmp_path, 0)
    os.kill(running, number)
    code, out = recorder.wait()
    assert code == 130
    assert "Interrupted. Go on with the same command" in out
    assert "NOT ASKED" in out
    found = journal.read(tmp_path / "recorded")
    assert 0 < found.requests == len(found.finished) < 600
    assert found.unheard == 0
