"""The pytest door: options, collection of suites, fixtures, and what a run leaves behind.

An unrelated run pays for this module and nothing else: it prints nothing, writes nothing and imports nothing beyond
the standard library and pytest until a suite is collected or a test asks for a cascade.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascade_eval import pytest_items, pytest_run, pytest_tests
from cascade_eval.pytest_items import FINDING
from cascade_eval.pytest_run import CORE, RUN, Record, Run
from cascade_eval.pytest_tests import PLAYED, USED

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SHARED = pytest.StashKey[Path]()
WRITTEN = pytest.StashKey[list[str]]()
FAILED = pytest.StashKey[list[str]]()
RECORDING = pytest.StashKey[bool]()

BLOCKS = 3
"""Inconclusive verdicts that are explained in full; of the others the first line is shown."""

LINES = 30
"""Inconclusive verdicts that are named; the rest is counted."""

ANNOTATIONS = 10
"""As many as a step of a workflow shows."""

POLICIES = ("fail", "warn")

# option, metavar, help; each has an ini of the same name.
_VALUES = (
    ("report", "PATH", "Write the HTML report there."),
    ("evidence", "PATH", "Write evidence.json there: all numbers and verdicts of the run."),
    ("markdown", "PATH", "Write a short Markdown summary there, for a comment on a pull request."),
    ("baseline", "BASELINE", "Compare with a cascade of the suite, git:<ref>, or the evidence of an earlier run."),
    ("traffic", "PATH", "Judge these cases instead of the suites' own, such as a fresh sample of production."),
    ("tolerate", "N", "Set up to N bad rows aside and count them on the report; 0 unless given."),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options, and an ini setting of the same name for each that may stand for all runs."""
    group = parser.getgroup("cascade_eval", "cascade budgets (cascade_eval)")
    for name, metavar, text in _VALUES:
        group.addoption(f"--cascade-{name}", metavar=metavar, default=None, help=text)
        parser.addini(f"cascade_{name}", text, default=None)
    text = "Whether an inconclusive verdict fails the run or only warns; goes before the suites' own."
    group.addoption("--cascade-inconclusive", choices=POLICIES, default=None, help=text)
    parser.addini("cascade_inconclusive", text, default=None)
    text = "Leave the text of cases (questions, answers) out of everything that is printed or written."
    group.addoption("--cascade-redact", action="store_true", default=False, help=text)
    parser.addini("cascade_redact", text, type="bool", default=False)
    # No ini: an order to accept every change, standing in a file, would be no check at all.
    text = "Accept goldens that changed. Refused where CI is set, unless --cascade-update=force."
    group.addoption("--cascade-update", nargs="?", const="yes", choices=("yes", "force"), default=None, help=text)
    text = "Let playback make its real calls and write its cassettes anew. Refused where CI is set, unless =force."
    group.addoption("--cascade-record", nargs="?", const="yes", choices=("yes", "force"), default=None, help=text)
    parser.addini("cascade_suites", "Globs of suites, beside *.cascade.yaml, from the root folder.", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and find wrong settings before anything runs."""
    config.addinivalue_line(
        "markers",
        "cascade(suite, *, cascade=None): the suite whose replays, cohorts and baseline the test asks for, by its path "
        "from the root folder or beside the test; with `cascade`, only the cascade of that name.",
    )
    core = config.stash.get(CORE, None) or pytest_run.Evaluating()
    config.stash[RUN] = Run(config, core, _options(config), _shared(config))
    config.stash[RECORDING] = _accepted(config, "record")
    config.pluginmanager.register(config.stash[RUN], "cascade_eval_run")


def _options(config: pytest.Config) -> pytest_run.Request:
    from_here = config.invocation_params.dir
    traffic, baseline = _setting(config, "traffic"), _setting(config, "baseline")
    return pytest_run.Request(
        path=from_here,
        name="",
        traffic_path=None if traffic is None else _near(config, _located(config, "traffic", traffic)),
        tolerate=_tolerate(config),
        inconclusive=_inconclusive(config),
        baseline=_located(config, "baseline", baseline) if baseline and baseline.endswith(".json") else baseline,
        update=_accepted(config, "update"),
        redact=bool(config.getoption("cascade_redact") or config.getini("cascade_redact")),
    )


def _setting(config: pytest.Config, name: str) -> str | None:
    """Look a setting up. The command line goes before the ini file, and the ini file before the suite."""
    given = config.getoption(f"cascade_{name}")
    value = given if given is not None else config.getini(f"cascade_{name}")
    return None if value in {None, ""} else str(value)


def _located(config: pytest.Config, name: str, value: str) -> str:
    """Return a path as meant: from the working directory on the command line, from its folder in the ini file."""
    if "://" in value:
        return value
    by_hand = config.getoption(f"cascade_{name}") is not None
    folder = config.inipath.parent if config.inipath is not None else config.rootpath
    return str((config.invocation_params.dir if by_hand else folder) / Path(value).expanduser())


def _near(config: pytest.Config, path: str) -> str:
    """Write a path from the working directory, as evidence shows it: never the path of one machine."""
    return path if "://" in path else os.path.relpath(path, config.invocation_params.dir)


def _tolerate(config: pytest.Config) -> int | None:
    value = _setting(config, "tolerate")
    if value is not None and not value.isdecimal():
        raise pytest.UsageError(f"cascade_tolerate must be a number of rows, 0 or more, not {value!r}.")
    return None if value is None else int(value)


def _inconclusive(config: pytest.Config) -> str | None:
    value = _setting(config, "inconclusive")
    if value is not None and value not in POLICIES:
        from cascade_eval import errors

        near = errors.did_you_mean(value, POLICIES)
        raise pytest.UsageError(f"cascade_inconclusive must be 'fail' or 'warn', not {value!r}.{near}")
    return value


_REFUSED = {
    "update": "a run there would accept any change unseen. Accept the change",
    "record": "a run there would pay for calls and judge itself by what it just recorded. Record",
}


def _accepted(config: pytest.Config, order: str) -> bool:
    given = config.getoption(f"cascade_{order}")
    if given == "yes" and os.environ.get("CI"):
        raise pytest.UsageError(
            f"--cascade-{order} is refused where CI is set: {_REFUSED[order]} "
            f"on your machine and commit it, or write --cascade-{order}=force."
        )
    return given is not None


def _shared(config: pytest.Config) -> Path | None:
    given = getattr(config, "workerinput", {}).get("cascade_shared")
    return None if given is None else Path(given)


# Workers.


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where its like keep what one of them evaluated; the first to need the folder makes it."""
    run = node.config.stash[RUN]
    if run.shared is None:
        run.shared = Path(tempfile.gettempdir()) / f"cascade-eval-{uuid.uuid4().hex}"
        node.config.stash[SHARED] = run.shared
    node.workerinput["cascade_shared"] = str(run.shared)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the workers' folder."""
    if SHARED in config.stash:
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


# Collection.


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take suites, and no other YAML."""
    if not file_path.name.endswith(".cascade.yaml"):
        globs = parent.config.getini("cascade_suites")
        name = pytest_run.shown(file_path, parent.config.rootpath) if globs else ""
        if not any(fnmatch(name, glob) for glob in globs):
            if not pytest_items.misnamed(file_path):
                return None
            return pytest_items.Misnamed.from_parent(parent, path=file_path)
    return pytest_items.SuiteFile.from_parent(parent, path=file_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give marked tests their cascades and cohorts."""
    mark = metafunc.definition.get_closest_marker("cascade")
    if mark is not None or "_cascade_name" in metafunc.fixturenames:
        pytest_tests.parametrize(metafunc, mark)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count tests that ask for a cascade before any is deselected."""
    if "_cascade_name" in getattr(item, "fixturenames", ()):
        item.config.stash[RUN].tests += 1


def pytest_collection_finish(session: pytest.Session) -> None:
    """Publish the count where workers are."""
    session.config.stash[RUN].publish_tests()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """End with a usage error, all problems together, where a suite cannot be used: nothing was judged."""
    pytest_run.refuse_idle_globs(session.config)
    problems = session.config.stash[RUN].problems
    carry_on = session.config.option.continue_on_collection_errors or hasattr(session.config, "workerinput")
    try:
        result = yield
    except pytest.UsageError:
        # Ids inside a suite that cannot be read are not found; why they are not is the thing to say.
        if not problems or carry_on:
            raise
    if problems and not carry_on:
        raise pytest.UsageError("\n".join(problems))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run what can be run where asked to carry on, and still end with a usage error."""
    result = yield
    problems = session.config.stash[RUN].problems
    if problems and not hasattr(session.config, "workerinput"):
        raise pytest.UsageError(f"{_some(len(problems), 'suite')} could not be used; see the collection errors.")
    return result


# Fixtures. The parametrised ones are private, so that a project's own fixture of a public name stays its own.


@pytest.fixture
def _cascade_name(request: pytest.FixtureRequest) -> tuple[Path, str]:
    named: tuple[Path, str] = request.param
    return named


@pytest.fixture
def _cascade_cohort(request: pytest.FixtureRequest) -> dict[str, str]:
    cohort: dict[str, str] = request.param
    return cohort


@pytest.fixture
def replay(request: pytest.FixtureRequest, _cascade_name: tuple[Path, str]) -> Any:
    """Replay of the marked suite's cascade; the test runs once for each cascade."""
    return pytest_tests.use(request.node, *_cascade_name)


@pytest.fixture
def cohort(request: pytest.FixtureRequest, _cascade_name: tuple[Path, str], _cascade_cohort: dict[str, str]) -> Any:
    """Replay of one cohort of the marked suite; the test runs once for each member of each cohort column.

    Members that a route sends wholly to the flagship are left out: there is nothing to promise about them.
    """
    return pytest_tests.narrow(pytest_tests.use(request.node, *_cascade_name), _cascade_cohort)


@pytest.fixture
def baseline(request: pytest.FixtureRequest, _cascade_name: tuple[Path, str]) -> Any:
    """Replay of what the marked suite's cascade is compared with, on the same cases."""
    return pytest_tests.compared_with(pytest_tests.use(request.node, *_cascade_name))


@pytest.fixture
def playback(request: pytest.FixtureRequest) -> Any:
    """Play recordings to the code under test: `with playback("goldens/support") as played:`.

    Takes what `cascade_eval.playback.play` takes; paths are looked for from the root folder and beside the test, and a
    marked suite says which data, tiers, prices and agreement are meant. With --cascade-record, cassettes are recorded.
    """
    return pytest_tests.player(request.node, recording=request.config.stash[RECORDING])


# Running.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the verdicts a test asks about."""
    if USED in item.stash:
        with pytest_tests.judging(item):
            return (yield)
    if PLAYED in item.stash:
        with pytest_tests.asserting():
            return (yield)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what was found onto the report."""
    report = yield
    if call.when == "call" and FINDING in item.stash:
        pytest_items.complete(item, report)
    return report


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a failing comparison as a failing budget is explained."""
    verdicts = sys.modules.get("cascade_eval.verdicts")
    if verdicts is None or op not in {"<=", ">="}:
        return None
    if isinstance(right, verdicts.Estimate):
        left, right, op = right, left, {"<=": ">=", ">=": "<="}[op]
    if not isinstance(left, verdicts.Estimate):
        return None
    # The assertion has made and kept this verdict already; this one is for words alone.
    with verdicts.keeping([]):
        verdict = left <= right if op == "<=" else left >= right
    return pytest_tests.compared(config.stash[RUN], verdict)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Give an inconclusive verdict a category of its own; the report's outcome decides what it does to the run."""
    facts = getattr(report, "cascade", None)
    if facts is None or facts["outcome"] != "inconclusive" or report.when != "call":
        return None
    if report.passed or hasattr(report, "wasxfail"):
        return None
    colour = {"yellow": True} if facts["excused"] else {"red": True}
    return "inconclusive", "?", ("INCONCLUSIVE", colour)


# What a run leaves behind.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Write what was asked for, once, on the controller; a run that could not do so does not end well."""
    config = session.config
    run = config.stash[RUN]
    if not run.worker and run.facts:
        config.stash[WRITTEN] = []
        config.stash[FAILED] = []
        _leave(config, run)
    result = yield
    failed = config.stash.get(FAILED, [])
    if failed and exitstatus == pytest.ExitCode.OK:
        # pytest's own way to end a session with another status.
        pytest.exit("; ".join(failed), returncode=pytest.ExitCode.USAGE_ERROR)
    return result


def _leave(config: pytest.Config, run: Run) -> None:
    wanted = {name: _output(config, name) for name in ("evidence", "report", "markdown")}
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if not step and not any(wanted.values()):
        return
    writers = {"evidence": _write_evidence, "report": _write_report, "markdown": _write_markdown}
    try:
        found = _evidence(config, run)
        for name, path in wanted.items():
            if path is not None:
                writers[name](path, found)
                config.stash[WRITTEN].append(_near(config, str(path)))
        if step:
            _append(Path(step), found)
    except Exception as error:  # noqa: BLE001  a report that cannot be written must not hide the verdicts
        config.stash[FAILED].append(f"what was asked for could not be written: {error}")


def _output(config: pytest.Config, name: str) -> Path | None:
    value = _setting(config, name)
    return None if value is None else Path(_located(config, name, value))


def _evidence(config: pytest.Config, run: Run) -> Record:
    from cascade_eval import errors, evidence

    records = run.merged()
    lost = {facts["suite"] for facts in run.facts.values()} - {record["suite"] for record in records}
    if lost:
        raise errors.UsageError(f"workers on another machine kept their records there: {', '.join(sorted(lost))}")
    return evidence.build(records, selected=run.count(), git=evidence.git_state(config.rootpath))


def _write_evidence(path: Path, found: Record) -> None:
    from cascade_eval import evidence

    evidence.write(path, found)


def _write_report(path: Path, found: Record) -> None:
    from cascade_eval.report import html

    html.write(path, found)


def _write_markdown(path: Path, found: Record) -> None:
    from cascade_eval import atomic
    from cascade_eval.report import markdown

    atomic.write(path, markdown.render(found).encode())


def _append(path: Path, found: Record) -> None:
    from cascade_eval.report import markdown

    with path.open("a", encoding="utf-8") as file:
        file.write(f"{markdown.render(found)}\n")


# What a run says at its end.


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how the suites went; nothing where none was involved."""
    run = config.stash[RUN]
    if not run.facts:
        return
    found = [facts for _, facts in sorted(run.facts.items())]
    if not config.getoption("no_summary") and terminalreporter.verbosity > -2:
        undecided = [(nodeid, facts) for nodeid, facts in sorted(run.facts.items()) if _undecided(facts)]
        _explain_undecided(terminalreporter, [facts for _, facts in undecided])
        terminalreporter.section("cascade budgets")
        for line in _closing(run, undecided, verbose=terminalreporter.verbosity >= 0):
            terminalreporter.line(line)
        for path in config.stash.get(WRITTEN, []):
            terminalreporter.line(f"written: {path}")
        for text in config.stash.get(FAILED, []):
            terminalreporter.line(text, red=True)
    if os.environ.get("GITHUB_ACTIONS"):
        _annotate(terminalreporter, [facts for facts in found if facts["outcome"] != "pass"])


def _undecided(facts: Record) -> bool:
    return bool(facts["outcome"] == "inconclusive")


def _explain_undecided(reporter: pytest.TerminalReporter, undecided: list[Record]) -> None:
    """Print what pytest does not: it explains what is in its own category of failures only."""
    if not undecided or reporter.config.getoption("tbstyle") == "no":
        return
    reporter.section("INCONCLUSIVE", yellow=True)
    for facts in undecided[:BLOCKS]:
        reporter.write_sep("_", facts["title"], yellow=True, bold=True)
        for line in facts["block"]:
            reporter.line(line)


def _closing(run: Run, undecided: list[tuple[str, Record]], *, verbose: bool) -> Iterator[str]:
    from cascade_eval.report import terminal

    for record in run.merged():
        tests = [one for cascade in record["cascades"] for one in cascade["verdicts"] if one["test"]]
        yield from terminal.overview(record, tests=tests, verbose=verbose)
    for nodeid, facts in undecided[:LINES]:
        yield f"INCONCLUSIVE {terminal.clean(nodeid)} - {facts['headline']}"
    if len(undecided) > LINES:
        yield f"… and {len(undecided) - LINES:,} more inconclusive verdicts"
    missing = sum(facts["not_measured"] for _, facts in undecided)
    excused = sum(facts["excused"] for _, facts in undecided)
    if missing:
        yield f"not measured always counts as failure: {_some(missing, 'verdict')}"
    if len(undecided) > missing + excused:
        yield f"inconclusive counts as failure: {_some(len(undecided) - missing - excused, 'verdict')}"
    if excused:
        yield f"inconclusive counts as a warning: {_some(excused, 'verdict')}"
    count = run.count()
    if count["items"] < count["of"]:
        yield f"a partial run: {count['items']:,} of {count['of']:,} items ran"


def _annotate(reporter: pytest.TerminalReporter, found: list[Record]) -> None:
    from cascade_eval.report import annotations

    for facts in found[:ANNOTATIONS]:
        level = "warning" if facts["excused"] else "error"
        text = annotations.line(
            level, facts["headline"], file=facts["file"], line=facts["line"], heading=facts["title"]
        )
        # A command is only read where it starts a line.
        reporter.ensure_newline()
        reporter.line(text)


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
