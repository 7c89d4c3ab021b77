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
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from cascade_eval import atomic, scrubbing
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.recording.nouns import NANO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO
    from pathlib import Path

ANSWERS: Final = "answers.jsonl"
REQUESTS: Final = "requests.log"
REPLACED: Final = "replaced.log"
TORN: Final = "torn.log"

FAILED: Final = frozenset({"timeout", "error"})
_CUT: Final = frozenset({"length", "max_tokens"})

_Fields: TypeAlias = "Mapping[str, Callable[[Any], bool]]"
"""What must stand in a line, and what it may be."""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _dollars(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf)


def _text(value: Any) -> bool:
    return isinstance(value, str)


_LINE: Final[_Fields] = {
    **dict.fromkeys(("call", "case_id", "model"), _text),
    "run": _whole,
    "attempts": lambda value: _whole(value) and value > 0,
    "status": lambda value: value in ("ok", "timeout", "error", "refused"),
    "answer": lambda value: value is None or _text(value),
    "cost_usd": _dollars,
}
_REQUEST: Final[_Fields] = {"call": _text, "attempt": _whole}
_NOTES: Final[dict[Any, _Fields]] = {
    "settings": {"model": _text, "settings": lambda _: True},
    "sent": {**_REQUEST, "at_most_nano_usd": _whole},
    "unbilled": _REQUEST,
}


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
    cut, without_logprobs
        Answers by model that ended at the longest output, and that have no log-probabilities.
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
    cut: Counter[str] = field(default_factory=Counter)
    without_logprobs: Counter[str] = field(default_factory=Counter)

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the journal."""
        case, model, status = str(line["case_id"]), str(line["model"]), str(line["status"])
        self.finished[line["call"]] = status
        self.keys[case, model, int(line["run"])] = line["call"]
        self.statuses[model, status] += 1
        if status in FAILED:
            self.reasons[model, f"{model}: {line.get('reason')}"] += 1
        if status == "ok":
            self.cut[model] += line.get("finish_reason") in _CUT
            self.without_logprobs[model] += "token_logprobs" not in line
        if status == "ok" and line["run"] == 0 and line["answer"] is not None:
            self.answers[case, model] = line["answer"]


def read(folder: Path) -> Past:
    """Read what a recording amounts to so far.

    Raises
    ------
    DataError
        A line in the middle of a file cannot be read, or a call has two: someone changed it.
    """
    past = Past()
    twice: Counter[tuple[str, str, int]] = Counter()
    known: dict[tuple[str, int], int | None] = {}
    # A line whose note is lost was sent and paid for all the same.
    worst: dict[tuple[str, int], int] = {}
    for name in (ANSWERS, REPLACED):
        for line in lines(folder / name):
            request = line["call"], line["attempts"]
            known[request] = _nano(line.get("cost_usd"))
            worst[request] = _nano(line.get("cost_at_most_usd")) or 0
            past.sent[line["call"]] = max(past.sent[line["call"]], line["attempts"])
            if name == ANSWERS:
                twice[line["case_id"], line["model"], line["run"]] += 1
                past.add(line)
    _refuse_doubled(folder / ANSWERS, twice)
    for note in _lines(folder / REQUESTS, _note):
        if note["event"] == "settings":
            past.settings[note["model"]] = note["settings"]
            continue
        request = note["call"], note["attempt"]
        if note["event"] == "sent":
            worst[request] = note["at_most_nano_usd"]
            past.sent[note["call"]] = max(past.sent[note["call"]], note["attempt"])
        else:
            known[request] = 0
    _add_up(past, worst, known)
    return past


def _refuse_doubled(path: Path, often: Mapping[tuple[str, str, int], int]) -> None:
    problems = [
        Problem(
            f"{count:,} lines for the case '{case}', '{model}', repeat {run}; a call has one. Remove the others.",
            str(path),
        )
        for (case, model, run), count in often.items()
        if count > 1
    ]
    if problems:
        raise DataError(problems)


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
    return _lines(path, lambda _: _LINE)


def _note(note: Mapping[str, Any]) -> _Fields:
    event = note.get("event")
    return _NOTES.get(event if isinstance(event, str) else None, {"event": lambda _: False})


def _wrong(line: Mapping[str, Any], fields: _Fields) -> str | None:
    """Say what is wrong with a line; None where nothing is."""
    for name, right in fields.items():
        if name not in line:
            return f"'{name}' is missing"
        if not right(line[name]):
            return f"'{name}' cannot be {str(line[name])[:40]!r}"
    return None


def _lines(path: Path, fields: Callable[[Mapping[str, Any]], _Fields]) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    problems = []
    for number, written in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(written)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"not a line of a journal: {error}", str(path), number))
            continue
        wrong = _wrong(line, fields(line)) if isinstance(line, dict) else "it is no object"
        if wrong is None:
            yield line
        else:
            problems.append(Problem(f"not a line of a journal: {wrong}.", str(path), number))
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
        except OSError as error:
            self._lock.release()
            problem = Problem(f"cannot be used: {error.strerror or error}", str(error.filename or self.folder))
            raise UsageError([problem]) from error
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

    async def append(self, name: str, line: Mapping[str, Any]) -> dict[str, Any]:
        """Append a line; on return it is on disk. Lines that wait at the same time share one flush.

        Returns
        -------
        dict
            The line as it was written, without keys.

        Raises
        ------
        UsageError
            The disk is full, or the file cannot be written.
        """
        scrubbed: dict[str, Any] = scrubbing.scrub_json(line, self.environ)
        written = json.dumps(scrubbed, ensure_ascii=True, allow_nan=False) + "\n"
        if self._broken is not None:
            raise self._broken
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, written.encode(), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        # A line once handed in is written, even if who handed it in is cancelled.
        await asyncio.shield(done)
        return scrubbed

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
            new = not (self.folder / name).exists()
            file = self._files[name] = (self.folder / name).open("ab", buffering=0)
            if new:
                self._flush_folder()
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())

    def _flush_folder(self) -> None:
        """Flush the names of new files too: a power cut takes a file whose name is not on disk, with all its lines."""
        if os.name != "posix":
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

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
