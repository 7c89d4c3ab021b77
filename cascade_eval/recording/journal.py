"""The files of a recording: one line for every finished call, one note before every request.

::

    answers.jsonl    a line per finished call: traffic in long form, with the call's key
    requests.log     a note before each request is sent, and one where it surely was not billed
    replaced.log     lines of failed calls that were asked again
    torn.log         the torn end of a file whose process was killed while it wrote

Lines are only appended, each flushed to disk before anything builds on it. The note goes first: a request that was
under way when the process ended has a note and no line, so that the next run knows that it may have been paid.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from cascade_eval import atomic, scrubbing
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.recording.nouns import NANO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import FileIO
    from pathlib import Path

ANSWERS: Final = "answers.jsonl"
REQUESTS: Final = "requests.log"
REPLACED: Final = "replaced.log"
TORN: Final = "torn.log"

FAILED: Final = frozenset({"timeout", "error"})


@dataclass
class Past:
    """What the files of a recording say.

    Parameters
    ----------
    finished
        Status by key of each finished call.
    keys
        Key by case, model and repeat, as they stand in the journal.
    answers
        Answer by case and model, where one was given.
    statuses
        Finished calls by model and status.
    sent
        Requests by key of the call.
    requests, spent, uncertain, unpriced, unheard
        As in `Recording`.
    settings
        The last settings of each model.
    reasons
        Why finished calls failed, by model and reason.
    """

    finished: dict[str, str] = field(default_factory=dict)
    keys: dict[tuple[str, str, int], str] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    spent: int = 0
    uncertain: int = 0
    unpriced: int = 0
    unheard: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the journal."""
        case, model, status = str(line["case_id"]), str(line["model"]), str(line["status"])
        self.finished[line["call"]] = status
        self.keys[case, model, int(line["run"])] = line["call"]
        self.statuses[model, status] += 1
        if status in FAILED:
            self.reasons[model, f"{model}: {line.get('reason')}"] += 1
        if status == "ok" and line["run"] == 0 and line["answer"] is not None:
            self.answers[case, model] = line["answer"]


def read(folder: Path) -> Past:
    """Read what a recording amounts to so far.

    Raises
    ------
    DataError
        A line in the middle of a file cannot be read: someone changed it.
    """
    past = Past()
    known: dict[tuple[str, int], int | None] = {}
    for name in (ANSWERS, REPLACED):
        for line in lines(folder / name):
            known[line["call"], line["attempts"]] = _nano(line.get("cost_usd"))
            if name == ANSWERS:
                past.add(line)
    worst: dict[tuple[str, int], int] = {}
    for note in _lines(folder / REQUESTS, ("event",)):
        if note["event"] == "settings":
            past.settings[note["model"]] = note["settings"]
            continue
        request = note["call"], note["attempt"]
        if note["event"] == "sent":
            worst[request] = note["at_most_nano_usd"]
            past.sent[note["call"]] += 1
        else:
            known[request] = 0
    _add_up(past, worst, known)
    return past


def _add_up(past: Past, worst: Mapping[tuple[str, int], int], known: Mapping[tuple[str, int], int | None]) -> None:
    past.requests = len(worst)
    for request, most in worst.items():
        cost = known.get(request)
        if cost is not None:
            past.spent += cost
            continue
        past.uncertain += most
        past.unpriced += request in known
        past.unheard += request not in known


def _nano(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * NANO)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of finished calls.

    Raises
    ------
    DataError
        With every line that is none.
    """
    return _lines(path, ("call", "case_id", "model", "run", "status", "answer", "attempts"))


def _lines(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    problems = []
    for number, written in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(written)
            missing = [name for name in needed if name not in line]
        except (ValueError, TypeError) as error:
            problems.append(Problem(f"not a line of a journal: {error}", str(path), number))
            continue
        if missing:
            problems.append(Problem(f"not a line of a journal: '{missing[0]}' is missing.", str(path), number))
        else:
            yield line
    if problems:
        raise DataError(problems)


class Journal:
    """The files of one recording, open for appending by one process.

    Parameters
    ----------
    folder
        Made where it does not exist.
    environ
        Where secret values are looked up; they are taken out of everything that is written.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.torn = 0
        self._files: dict[str, FileIO] = {}
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._lock: Any = None
        self._broken: UsageError | None = None

    def __enter__(self) -> Self:
        """Lock the folder, and set aside what a killed process left half-written."""
        import filelock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.folder / ".lock", timeout=0)
            self._lock.acquire()
        except filelock.Timeout:
            message = "another process records into this folder. Wait for it, or name another --output."
            raise UsageError([Problem(message, str(self.folder))]) from None
        except OSError as error:
            raise UsageError([Problem(f"cannot be written: {error.strerror or error}", str(self.folder))]) from error
        try:
            for name in (ANSWERS, REQUESTS, REPLACED):
                self._mend(self.folder / name)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files and give the folder free."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._lock.release()

    def _mend(self, path: Path) -> None:
        """Set a torn last line aside, so that it neither counts nor runs into the next one."""
        if not path.exists():
            return
        written = path.read_bytes()
        whole = written.rfind(b"\n") + 1
        tail = written[whole:]
        if not tail:
            return
        with path.open("r+b") as file:
            if _is_object(tail):
                # Only its line feed is missing: no beginning of a JSON object is itself one.
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            else:
                self.torn += 1
                self._append(TORN, tail + b"\n")
                file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())

    # --- appending -------------------------------------------------------------------------------------------------

    async def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append a line; on return it is on disk. Lines that wait at the same time share one flush.

        Raises
        ------
        UsageError
            The disk is full, or the file cannot be written.
        """
        written = json.dumps(scrubbing.scrub_json(line, self.environ), ensure_ascii=True, allow_nan=False) + "\n"
        if self._broken is not None:
            raise self._broken
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, written.encode(), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        # A line once handed in is written, even if who handed it in is cancelled.
        await asyncio.shield(done)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append_all, batch)
            except OSError as error:
                # Half a line may stand at the end now: nothing may follow it before it is set aside.
                problem = Problem(f"cannot be written: {error.strerror or error}", str(self.folder))
                self._broken = UsageError([problem])
                for _, _, done in [*batch, *self._waiting]:
                    if not done.done():
                        done.set_exception(self._broken)
                return
            for _, _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _append_all(self, batch: list[tuple[str, bytes, asyncio.Future[None]]]) -> None:
        for name in dict.fromkeys(name for name, _, _ in batch):
            self._append(name, b"".join(line for to, line, _ in batch if to == name))

    def _append(self, name: str, data: bytes) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self.folder / name).open("ab", buffering=0)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())

    async def drain(self) -> None:
        """Wait until everything handed in is on disk."""
        while self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    # --- asking failed calls again ---------------------------------------------------------------------------------

    def set_failed_aside(self, models: frozenset[str]) -> int:
        """Move the lines of failed calls of these models to `replaced.log`, so that they are asked again.

        What they cost stays counted. A process killed in between leaves a line in both files, which counts once.
        """
        path = self.folder / ANSWERS
        if not path.exists():
            return 0
        kept: list[bytes] = []
        moved: list[bytes] = []
        for written in path.read_bytes().splitlines(keepends=True):
            line = json.loads(written)
            (moved if line["status"] in FAILED and line["model"] in models else kept).append(written)
        if moved:
            self._append(REPLACED, b"".join(moved))
            atomic.write(path, b"".join(kept))
        return len(moved)


def _is_object(tail: bytes) -> bool:
    try:
        return isinstance(json.loads(tail), dict)
    except ValueError:
        return False
