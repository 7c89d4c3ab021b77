"""Python tests that ask for replays, cohorts and baselines of a suite, and what they assert of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascade_eval.pytest_items import FINDING, Finding, properties, safe
from cascade_eval.pytest_run import RUN, Record, Run, Used, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ALWAYS_FLAGSHIP = "always-flagship"

USED = pytest.StashKey[Used]()
"""What a test asks for."""

PLAYED = pytest.StashKey[bool]()
"""Set where a test plays recordings."""

RECORDED = pytest.StashKey[dict[str, str]]()
"""The cassettes recorded in this run, and by which test."""


def parametrize(metafunc: pytest.Metafunc, mark: pytest.Mark | None) -> None:
    """Give a test the cascades and cohorts of the suite it is marked with."""
    from cascade_eval import errors

    run = metafunc.config.stash[RUN]
    try:
        _parametrize(metafunc, mark, run)
    except errors.UsageError as error:
        run.refuse(str(error))


def _parametrize(metafunc: pytest.Metafunc, mark: pytest.Mark | None, run: Run) -> None:
    from cascade_eval import errors

    test = metafunc.definition.nodeid
    if mark is None:
        raise errors.UsageError(
            f"{test}: asks for a cascade, but of which suite? "
            'Mark it with @pytest.mark.cascade("suites/support.cascade.yaml").'
        )
    path, only = _read_mark(mark, test, metafunc.definition.path, metafunc.config.rootpath)
    if "_cascade_name" not in metafunc.fixturenames:
        return
    record = run.record(path)
    names = _names(record, only, test)
    ids = [safe(name) if len(names) > 1 else pytest.HIDDEN_PARAM for name in names]
    metafunc.parametrize("_cascade_name", [(path, name) for name in names], ids=ids, indirect=True)
    if "_cascade_cohort" in metafunc.fixturenames:
        members = _members(record, names, test)
        metafunc.parametrize("_cascade_cohort", list(members.values()), ids=map(safe, members), indirect=True)


def _read_mark(mark: pytest.Mark, test: str, file: Path, root: Path) -> tuple[Path, str | None]:
    from cascade_eval import errors

    problems = [
        f"{test}: the mark 'cascade' has no option '{name}'.{errors.did_you_mean(name, ['cascade'])}"
        for name in mark.kwargs
        if name not in {"cascade", "suite"}
    ]
    given = [*mark.args, *([mark.kwargs["suite"]] if "suite" in mark.kwargs else [])]
    if len(given) != 1 or not isinstance(given[0], str | Path):
        problems.append(f'{test}: write @pytest.mark.cascade("suites/support.cascade.yaml"): one suite, by its path.')
        raise errors.UsageError(problems)
    path = next((folder / given[0] for folder in (root, file.parent) if (folder / given[0]).is_file()), None)
    if path is None:
        found = [shown(near, root) for near in (root / given[0]).parent.glob("*.cascade.yaml")]
        problems.append(f"{test}: no suite '{given[0]}'.{errors.did_you_mean(str(given[0]), found)}")
    if path is None or problems:
        raise errors.UsageError(problems)
    return path, mark.kwargs.get("cascade")


def _names(record: Record, only: str | None, test: str) -> list[str]:
    from cascade_eval import errors

    names = [cascade["name"] for cascade in record["cascades"] if cascade["name"] != ALWAYS_FLAGSHIP]
    if only is None:
        return names
    if only not in names:
        near = errors.did_you_mean(str(only), names)
        raise errors.UsageError(f"{test}: {record['suite']} has no cascade '{only}'.{near}")
    return [only]


def _members(record: Record, names: Iterable[str], test: str) -> dict[str, dict[str, str]]:
    """Return every member of the suite's cohort columns, but those that a route sends to the flagship in all cascades."""
    from cascade_eval import errors
    from cascade_eval.report import terminal

    cells = [cell for cascade in record["cascades"] if cascade["name"] in names for cell in cascade["cohorts"]]
    members = {terminal.member(c["cohort"]): c["cohort"] for c in cells if len(c["cohort"]) == 1 and not c["routed"]}
    if not members:
        raise errors.UsageError(
            f"{test}: {record['suite']} has no cohort to judge. Name columns in its 'cohorts:', or ask for 'replay'."
        )
    return members


def use(item: pytest.Item, path: Path, name: str) -> Any:
    """Return the replay a test asks for, and remember that it did."""
    run = item.config.stash[RUN]
    item.stash[USED] = Used(run.record(path), name, item)
    return run.replays(path)[name]


def narrow(replay: Any, cohort: Mapping[str, str]) -> Any:
    """Return the replay of one cohort, which knows its siblings."""
    found = next((member for member in replay.cohorts(*cohort) if member.cohort == cohort), None)
    if found is None:
        pytest.fail(f"{cohort} has no cases in {replay.name}: nothing was measured.", pytrace=False)
    return found


def compared_with(replay: Any) -> Any:
    """Return the replay of the baseline on the same cases."""
    if replay.baseline is None:
        pytest.fail(
            f"{replay.name} has no baseline. Name one in the suite, 'baseline: git:origin/main', or by --cascade-baseline.",
            pytrace=False,
        )
    return replay.baseline


@contextlib.contextmanager
def judging(item: pytest.Item) -> Iterator[None]:
    """Keep the verdicts a test asks about while it runs, and settle what the test came to."""
    from cascade_eval import verdicts

    used, run = item.stash[USED], item.config.stash[RUN]
    asked: list[Any] = []
    answered: list[Any] = []
    run.current, decisive = used, None
    try:
        with verdicts.keeping(asked, answered):
            yield
        decisive = next((one for one in asked if not any(one is other for other in answered)), None)
        if decisive is not None:
            pytest.fail(f"compared, but never asserted: {decisive.headline}. Write `assert` before it.", pytrace=False)
    except verdicts.Inconclusive as error:
        decisive = error.verdict
        finding = _found(used, [*asked, decisive], decisive)
        if finding.excused:
            pytest.skip(finding.headline())
        raise
    except AssertionError:
        decisive = next((verdict for verdict in reversed(asked) if verdict.outcome == "fail"), None)
        raise
    finally:
        run.current = None
        finding = _found(used, asked if decisive is None else [*asked, decisive], decisive)
        item.stash[FINDING] = finding
        item.user_properties += [one for record in finding.asserted for one in properties(record)]


def player(item: pytest.Item, *, recording: bool) -> Callable[..., Any]:
    """Return what plays recordings to a test, or records them."""
    item.stash[PLAYED] = True
    mark = item.get_closest_marker("cascade")
    options = item.config.stash[RUN].options
    root = item.config.rootpath
    mine: set[str] = set()

    def playing(source: Any = None, **given: Any) -> Any:
        from cascade_eval import playback

        if mark is not None and not {"suite", "tiers", "cascade"} & set(given):
            given["suite"], given["cascade"] = _read_mark(mark, item.nodeid, item.path, root)
        given.setdefault("inconclusive", options.inconclusive)
        if source is None and given.get("suite") is not None and options.traffic_path is not None:
            source = options.traffic_path
        found = _beside(source, root, item.path.parent)
        if recording and playback.recordable(found):
            _record_once(item, found, mine)
            return playback.record(found, **playback.recordable_options(given))
        return playback.play(found, **given)

    return playing


def _record_once(item: pytest.Item, path: str, mine: set[str]) -> None:
    """Refuse to write over what another block recorded in this run; a test that is run again may do it anew."""
    from cascade_eval import errors

    recorded = item.config.stash.setdefault(RECORDED, {})
    if path in mine or recorded.get(path, item.nodeid) != item.nodeid:
        raise errors.UsageError(
            f"'{path}' was recorded in this run already, by {recorded[path]}, and would be written over. Give each block "
            "a cassette of its own."
        )
    mine.add(path)
    recorded[path] = item.nodeid


def _beside(source: Any, root: Path, folder: Path) -> Any:
    """Return a path as found from the root folder or beside the test; a new one lies beside the test."""
    if not isinstance(source, str | os.PathLike) or "://" in os.fspath(source):
        return source
    places = [folder / source, root / source]
    existing = (path for path in reversed(places) if path.exists())
    found = next(existing, next((path for path in places if path.parent.is_dir()), places[0]))
    return os.path.relpath(found)


@contextlib.contextmanager
def asserting() -> Iterator[None]:
    """Let a verdict that is excused skip a test that plays recordings, and none be compared without being asserted."""
    from cascade_eval import verdicts

    made: list[Any] = []
    asked: list[Any] = []
    try:
        with verdicts.keeping(made, asked):
            yield
    except verdicts.Inconclusive as error:
        if error.verdict.warned:
            pytest.skip(error.verdict.headline)
        raise
    loose = next((one for one in made if not any(one is other for other in asked)), None)
    if loose is not None:
        pytest.fail(f"compared, but never asserted: {loose.headline}. Write `assert` before it.", pytrace=False)


def _found(used: Used, asked: list[Any], decisive: Any) -> Finding:
    # The decisive verdict is among those that were kept, unless it was made before the test began.
    once = {id(verdict): verdict for verdict in asked}
    records = {key: asserted(used, verdict) for key, verdict in once.items()}
    verdict = records[id(decisive)] if decisive is not None else None
    # Its siblings in the table were promised something else, in the suite: only their numbers belong beside it.
    cascade = {**used.record(), "verdicts": []}
    return Finding(used.suite, cascade, verdict, tuple(records.values()))


def asserted(used: Used, verdict: Any) -> Record:
    """Return a verdict of a Python test as evidence stores it."""
    from cascade_eval.report import terminal

    file, line, _ = used.item.location
    record: Record = verdict.record()
    excusable = record["outcome"] == "inconclusive" and not record["not_measured"]
    return record | {
        "scope": terminal.member(record["cohort"]),
        "warned": excusable and used.suite["inconclusive"] == "warn",
        "file": Path(file).as_posix(),
        "line": None if line is None else line + 1,
        "test": used.item.nodeid,
    }


def compared(run: Run, verdict: Any) -> list[str]:
    """Say in two lines how a comparison came out; its block follows on the report, where pytest cuts nothing off."""
    if run.current is None:
        return [verdict.headline, verdict.reason]
    from cascade_eval.report import terminal

    record = asserted(run.current, verdict)
    return [terminal.headline(record), terminal.promised(record)]
