"""The suites of one session, each evaluated once.

Under workers the first to need a suite evaluates it, under a lock that the operating system releases when its holder
dies; the others, and the controller, read the stored record. What every test came to travels on its report, so that
whoever holds the reports can write evidence.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

Record: TypeAlias = "dict[str, Any]"
"""A part of evidence: a suite, one of its cascades, one of their verdicts."""


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Parameters
    ----------
    path, name
        The suite, and how items and messages call it.
    traffic_path, tolerate, inconclusive, baseline
        Go before what the suite says; None leaves the suite its say.
    update
        Accept goldens that changed.
    redact
        Leave the text of cases out of everything.
    """

    path: Path
    name: str
    traffic_path: str | None = None
    tolerate: int | None = None
    inconclusive: str | None = None
    baseline: str | None = None
    update: bool = False
    redact: bool = False


class Core(Protocol):
    """What evaluates. The real one is used unless a test hands in its own through `config.stash[CORE]`."""

    def evaluate(self, request: Request) -> Record:
        """Return the suite's record of evidence; UsageError where it cannot be evaluated."""

    def replays(self, request: Request) -> Mapping[str, Any]:
        """Return a replay with its columns for each cascade by name."""


class Evaluating:
    """The evaluating core, imported at its first use."""

    def evaluate(self, request: Request) -> Record:
        """Evaluate every cascade and budget of a suite."""
        from cascade_eval import evidence, runs

        evaluation = runs.evaluate(self._load(request), **self._options(request))
        record: Record = {**evaluation.record, "suite": request.name}
        return evidence.redact({"suites": [record]})["suites"][0] if request.redact else record

    def replays(self, request: Request) -> Mapping[str, Any]:
        """Replay every cascade of a suite and keep the columns."""
        from cascade_eval import runs

        return runs.replays(self._load(request), **self._options(request))

    def _load(self, request: Request) -> Any:
        from cascade_eval import goldens, suite
        from cascade_eval.suite import files

        text = files.read(request.path, request.name)
        found = suite.parse(text, file=request.name, base=request.path.parent, baseline=request.baseline)
        if request.update and found.source.kind == "goldens" and request.traffic_path is None:
            # Whether accepting is allowed here has been asked already, once, before anything was read.
            known: dict[str, Any] = {
                "columns": found.source.columns,
                "tolerate": request.tolerate or 0,
                "base": found.base,
            }
            goldens.update(found.source.path, **known, force=True)
        return found

    def _options(self, request: Request) -> dict[str, Any]:
        return {name: getattr(request, name) for name in ("traffic_path", "tolerate", "inconclusive")}


@dataclass(eq=False)
class Run:
    """The suites of one session, each evaluated once.

    Parameters
    ----------
    config
        Of the session.
    core
        What evaluates.
    options
        A request without a suite.
    shared
        Folder in which workers keep what one of them evaluated; None without workers.
    """

    config: pytest.Config
    core: Core
    options: Request
    shared: Path | None = None
    tests: int = 0
    current: Used | None = None
    problems: dict[str, None] = field(default_factory=dict)
    facts: dict[str, Record] = field(default_factory=dict)
    _outcomes: dict[str, Record] = field(default_factory=dict)
    _replays: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def worker(self) -> bool:
        """Whether this process only runs what a controller gives it."""
        return hasattr(self.config, "workerinput")

    def request(self, path: Path) -> Request:
        """Return what to ask the core about a suite."""
        return replace(self.options, path=path, name=shown(path, self.config.rootpath))

    def record(self, path: Path) -> Record:
        """Return the record of a suite; UsageError, each time anew, where it cannot be evaluated."""
        request = self.request(path)
        if request.name not in self._outcomes:
            outcome = self._evaluate(request) if self.shared is None else self._evaluate_once(request, self.shared)
            self._outcomes[request.name] = outcome
        outcome = self._outcomes[request.name]
        if "problems" in outcome:
            from cascade_eval import errors

            raise errors.UsageError(outcome["problems"])
        record: Record = outcome["record"]
        return record

    def replays(self, path: Path) -> Mapping[str, Any]:
        """Return the replays of a suite by cascade, with their columns."""
        request = self.request(path)
        if request.name not in self._replays:
            self._replays[request.name] = self.core.replays(request)
        return self._replays[request.name]

    def records(self) -> list[Record]:
        """Return every suite that was evaluated, by name; on a controller from what its workers stored."""
        outcomes = dict(self._outcomes)
        if self.shared is not None and not self.worker and self.shared.is_dir():
            stored = (json.loads(path.read_bytes()) for path in self.shared.glob("suite-*.json"))
            outcomes |= {outcome["name"]: outcome for outcome in stored}
        return [outcome["record"] for _, outcome in sorted(outcomes.items()) if "record" in outcome]

    def refuse(self, text: str) -> None:
        """Remember what cannot be used, for the end of collection; raise it where only a collection error is heard."""
        self.problems[text] = None
        if self.worker or self.config.option.continue_on_collection_errors:
            raise pytest.Collector.CollectError(text)

    def publish_tests(self) -> None:
        """Tell the controller how many Python tests ask for a cascade, whatever is selected or crashes later."""
        if self.shared is not None and self.worker and self.tests:
            _store(self.shared / "tests.json", self.tests)

    def count(self) -> dict[str, int]:
        """Count the items that ran, and all there are."""
        tests = self.tests
        if self.shared is not None and (self.shared / "tests.json").is_file():
            tests = json.loads((self.shared / "tests.json").read_bytes())
        return {"items": len(self.facts), "of": sum(len(verdicts_of(record)) for record in self.records()) + tests}

    def merged(self) -> list[Record]:
        """Return the records with what Python tests asserted among the verdicts of their cascades."""
        found = [facts for _, facts in sorted(self.facts.items())]
        return [_with_asserted(record, found) for record in self.records()]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a call came to, be it of this process or of a worker."""
        if report.when == "call" and hasattr(report, "cascade"):
            self.facts[report.nodeid] = report.cascade

    def _evaluate(self, request: Request) -> Record:
        from cascade_eval import errors

        try:
            return {"name": request.name, "record": self.core.evaluate(request)}
        except errors.UsageError as error:
            return {"name": request.name, "problems": [str(problem) for problem in error.problems]}

    def _evaluate_once(self, request: Request, shared: Path) -> Record:
        from filelock import FileLock

        stored = shared / f"suite-{hashlib.sha256(request.name.encode()).hexdigest()[:16]}.json"
        shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(stored.with_suffix(".lock")):
            if not stored.exists():
                _store(stored, self._evaluate(request))
        outcome: Record = json.loads(stored.read_bytes())
        return outcome


@dataclass(frozen=True)
class Used:
    """The suite and cascade a Python test asks for."""

    suite: Record
    cascade: str
    item: pytest.Item

    def record(self) -> Record:
        """Return the cascade's record."""
        return next(cascade for cascade in self.suite["cascades"] if cascade["name"] == self.cascade)


CORE = pytest.StashKey[Core]()
RUN = pytest.StashKey[Run]()


def shown(path: Path, root: Path) -> str:
    """Write a path as ids do: from the root folder, with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def verdicts_of(suite: Record) -> list[Record]:
    """Return all verdicts of a suite."""
    return [verdict for cascade in suite["cascades"] for verdict in cascade["verdicts"]]


def _with_asserted(suite: Record, found: list[Record]) -> Record:
    def verdicts(cascade: Record) -> list[Record]:
        of = (facts for facts in found if (facts["suite"], facts["cascade"]) == (suite["suite"], cascade["name"]))
        return [*cascade["verdicts"], *(verdict for facts in of for verdict in facts["asserted"])]

    return {**suite, "cascades": [{**cascade, "verdicts": verdicts(cascade)} for cascade in suite["cascades"]]}


def _store(path: Path, value: object) -> None:
    from cascade_eval import atomic

    atomic.write(path, json.dumps(value).encode())


def refuse_idle_globs(config: pytest.Config) -> None:
    """Refuse a glob of suites that no file has: what it was to judge would be missed by nobody."""
    idle = list(dict.fromkeys(config.getini("cascade_suites")))
    if not idle or hasattr(config, "workerinput"):
        return
    skipped = config.getini("norecursedirs")
    for folder, below, names in os.walk(config.rootpath):
        below[:] = [name for name in below if not any(fnmatch(name, glob) for glob in skipped)]
        here = [shown(Path(folder) / name, config.rootpath) for name in names]
        idle = [glob for glob in idle if not any(fnmatch(name, glob) for name in here)]
        if not idle:
            return
    globs = ", ".join(f"'{glob}'" for glob in idle)
    raise pytest.UsageError(
        f"cascade_suites: no file below {config.rootpath} is called {globs}. Write globs from the root folder, such as "
        "gates/*.yml, or remove it."
    )
