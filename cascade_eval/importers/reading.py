"""A whole log: every record read once, grouped by case on disk, written as long rows; memory does not grow with it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cascade_eval import atomic, traffic
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.importers import buckets, catalogue, choices, grouping, lines, rows
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Reason, Report
from cascade_eval.traffic import convert, files, findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cascade_eval.importers.choices import Choices
    from cascade_eval.importers.definition import Importer
    from cascade_eval.traffic import Traffic
    from cascade_eval.traffic.files import File

_NONE: Mapping[str, Any] = {}

CASES = "cases.parquet"
REPORT = "import.json"
"""Written last: a folder that has it is complete."""

VERSION = "4"
"""Changes when the same log would give other rows."""

FIRST = 20
"""Records named for each reason."""

REASONS = 100
"""Reasons told apart."""


@dataclass(frozen=True)
class Imported:
    """A log as traffic.

    Parameters
    ----------
    folder
        Where the rows are, for `traffic.open`.
    report
        What became of every record.
    """

    folder: Path
    report: Report


def read(
    kind: str,
    path: str | Path,
    *,
    output: str | Path,
    case: str | None = None,
    models: Mapping[str, str | Mapping[str, str]] = _NONE,
    columns: Mapping[str, str] = _NONE,
    base: Path | None = None,
) -> Imported:
    """Read a log and write its calls as long-form traffic.

    Parameters
    ----------
    kind
        One of `names()`.
    path
        A file, a folder or an fsspec URL; relative paths start at `base`.
    output
        Folder for the rows and the report; new, or an earlier import, which is replaced.
    case
        What a case is: a word of the importer (``trace``, ``conversation``, …) or a dotted path.
    models
        Recorded model by the name it is to have: ``{"mini": "gpt-4.1-nano"}``; or values at dotted paths:
        ``{"flagship": {"metadata.tier": "large"}}``. Calls it does not name are counted and left out. Recorded names
        are kept where it is empty.
    columns
        Dotted path by column: ``{"language": "metadata.language"}``.
    base
        Folder that relative paths start at.

    Raises
    ------
    UsageError
        No such importer, a map that cannot be, a model that no record has, nothing that could be used.

    Examples
    --------
    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> _ = log.write_text('''{"request_id": "r1", "decided_at": "2026-07-06T09:00:00Z", "confidence": 0.9, "escalated": false}
    ... {"request_id": "r2", "decided_at": "2026-07-06T09:01:00Z", "confidence": 0.4, "escalated": true}
    ... ''')
    >>> found = read("decisions", log, output=log.parent / "imported")
    >>> found.report.records, found.report.cases, dict(found.report.models), found.report.bad
    (2, 2, {'cheap': 2, 'flagship': 1}, 0)
    >>> traffic.open(found.folder).cases
    2
    """
    importer = catalogue.find(kind)
    chosen = choices.read(importer, case=case, models=models, columns=columns)
    target = Path(output)
    _replaceable(target)
    found = lines.find(str(path), base)
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=parent) as working:
        report = _import(importer, files.shown(str(path), base), found, chosen, Path(working))
        target.mkdir(exist_ok=True)
        (target / REPORT).unlink(missing_ok=True)
        (Path(working) / CASES).replace(target / CASES)
    atomic.write(target / REPORT, _written(report))
    return Imported(target, report)


def open(  # noqa: A001  called as importers.open, like traffic.open; nothing in this file opens by the built-in
    kind: str,
    path: str | Path,
    *,
    case: str | None = None,
    models: Mapping[str, str | Mapping[str, str]] = _NONE,
    columns: Mapping[str, str] = _NONE,
    tolerate: int = 0,
    base: Path | None = None,
    cache: Path | Literal[False] | None = None,
) -> Traffic:
    """Open a log as traffic; the rows are kept in the cache under the log's content and what was said about it.

    Parameters
    ----------
    kind, path, case, models, columns, base
        As for `read`.
    tolerate
        How many records may be set aside, counted in `Traffic.bad_rows`.
    cache
        As for `traffic.open`.

    Raises
    ------
    UsageError
        As for `read`; and where more records were set aside than tolerated.
    """
    choices.read(catalogue.find(kind), case=case, models=models, columns=columns)
    found = lines.find(str(path), base)
    shown = files.shown(str(path), base)
    digest = _digest(kind, found, case, models, columns)
    place = (convert.cache_folder() if cache is None else cache) or None
    said: dict[str, Any] = {"case": case, "models": models, "columns": columns, "base": base}
    if place is not None:
        with contextlib.suppress(OSError):
            folder = _cached(place / "imported", digest, functools.partial(read, kind, path, **said))
            return _traffic(
                traffic.open(folder, cache=False), _here(_report(folder / REPORT), shown), str(path), tolerate, digest
            )
    with tempfile.TemporaryDirectory(prefix="cascade-eval-") as temporary:
        imported = read(kind, path, output=Path(temporary) / "rows", **said)
        return _traffic(_in_memory(imported.folder), _here(imported.report, shown), str(path), tolerate, digest)


def _cached(place: Path, digest: str, importing: Callable[..., Imported]) -> Path:
    """Return the folder of an import, made beside it and renamed: of two processes one wins, and both are right."""
    folder = place / digest
    if not (folder / REPORT).exists():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=place) as building:
            made = importing(output=Path(building) / "rows").folder
            # An entry that is there without its report is broken.
            if not (folder / REPORT).exists():
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                made.rename(folder)
    return folder


def _in_memory(folder: Path) -> Traffic:
    import pyarrow.parquet as pq

    return traffic.from_frame(pq.ParquetFile(folder / CASES).read())


def _here(report: Report, path: str) -> Report:
    """Name the log as it is called now: the rows of a cache were made of the same bytes, wherever they lay."""
    before, now = report.path.rstrip("/"), path.rstrip("/")

    def moved(problem: Problem) -> Problem:
        return replace(problem, file=now + (problem.file or "").removeprefix(before))

    aside = tuple(replace(reason, first=tuple(map(moved, reason.first))) for reason in report.set_aside)
    return replace(report, path=path, set_aside=aside)


def _traffic(rows_: Traffic, report: Report, name: str, tolerate: int, digest: str) -> Traffic:
    problems = tuple(_problems(report))
    if report.bad > tolerate:
        findings.raise_all(problems[: findings.SHOWN], report.bad, report.path)
    named = [*problems, *[Problem("set aside", report.path)] * (report.bad - len(problems))]
    source = replace(rows_.source, problems=tuple(named))
    found = replace(
        rows_,
        name=name,
        shown=report.path,
        source=source,
        tolerate=tolerate,
        digest=functools.partial(str, digest),
        notes=tuple(_left_out(report)),
        _established=set(),
    )
    found.inspect()
    return found


def _left_out(report: Report) -> Iterator[str]:
    if report.undeclared:
        calls = sum(report.undeclared.values())
        named = ", ".join(map(repr, list(report.undeclared)[:3])) + (", …" if len(report.undeclared) > 3 else "")
        may = "".join(f". '{name}' may be '{label}'" for name, label in list(report.alike.items())[:3])
        yield f"{report.path}: {calls:,} calls of models the map does not name ({named}) are left out, and in no cost{may}"
    for name, path in report.unfound.items():
        yield f"{report.path}: no record has a value at '{path}', which is to be the column '{name}'"


def _problems(report: Report) -> Iterator[Problem]:
    for reason in report.set_aside:
        yield from reason.first


def _digest(kind: str, found: Sequence[File], *said: Any) -> str:
    told = json.dumps([VERSION, kind, *said], sort_keys=True, default=dict)
    return hashlib.sha256(f"{files.sha256(found)}\n{told}".encode()).hexdigest()


def _replaceable(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError([Problem("is a file; the output of an import is a folder", str(target))])
    strange = [each.name for each in target.iterdir() if each.name not in {CASES, REPORT}] if target.is_dir() else []
    if strange:
        raise UsageError([Problem(f"holds '{strange[0]}', which no import wrote. Name a new folder", str(target))])


# --- one pass ------------------------------------------------------------------------------------------------------


@dataclass
class _Notes:
    """What is left out, by reason."""

    files: Sequence[File]
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[Problem]] = field(default_factory=dict)

    def add(self, problem: Aside, file: int, line: int, records: int = 1) -> None:
        reason = problem.reason if problem.reason in self.counts or len(self.counts) < REASONS else "other reasons"
        self.counts[reason] += records
        named = self.first.setdefault(reason, [])
        if len(named) < FIRST:
            message = f"{problem.reason} ({problem.detail})" if problem.detail else problem.reason
            named.append(Problem(message, self.files[file].name, line))

    def reasons(self) -> tuple[Reason, ...]:
        ordered = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        return tuple(Reason(reason, self.counts[reason], tuple(_by_place(self.first[reason]))) for reason in ordered)


def _by_place(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0, problem.message))


def _import(importer: Importer, path: str, found: Sequence[File], chosen: Choices, folder: Path) -> Report:
    spilled = folder / "calls"
    spilled.mkdir()
    kept = buckets.Buckets(spilled)
    notes = _Notes(found)
    types = rows.Types()
    count = {"records": 0, "second": 0, "other": 0}
    for call in _calls(importer, found, chosen, notes, count):
        types.add(call)
        kept.add(call)
    report = _write(kept, types, chosen, notes, folder / CASES)
    report = replace(report, kind=importer.name, path=path, records=count["records"], second=count["second"])
    unfound = {name: each for name, each in chosen.columns.items() if name != "run" and name not in types}
    report = replace(report, other=report.other + count["other"], set_aside=notes.reasons(), unfound=unfound)
    _refuse_nothing(report, chosen)
    return report


def _calls(
    importer: Importer, found: Sequence[File], chosen: Choices, notes: _Notes, count: dict[str, int]
) -> Iterator[Call]:
    """Read every record of every file: yield its calls, note what is wrong, and count the rest."""
    for number, file in enumerate(found):
        for line, decoded in lines.read(file, importer.decode):
            for record in _records(importer, decoded):
                count["records"] += 1
                try:
                    calls = _read(importer, record, chosen, number, line)
                except Aside as problem:
                    notes.add(problem, number, line)
                    continue
                if len(calls) != 1:
                    count["other"] += not calls
                    count["second"] += max(0, len(calls) - 1)
                yield from calls


def _records(importer: Importer, decoded: Any) -> Iterator[Any]:
    """Yield the records of a line; what is wrong with the line comes in the place of a record."""
    if isinstance(decoded, Aside):
        yield decoded
        return
    try:
        yield from importer.records(decoded)
    except Aside as problem:
        yield problem


def _read(importer: Importer, record: Any, chosen: Choices, file: int, line: int) -> list[Call]:
    if isinstance(record, Aside):
        raise record
    calls, view = importer.read(record)
    outcomes, columns = chosen.columns_of(view) if chosen.columns else ({}, {})
    label = chosen.label(view) if chosen.places else None
    if not calls or calls[0].between:
        return _columns_only(calls, view, outcomes, columns, chosen, importer, file, line)
    made = []
    for call in calls:
        case = call.case if chosen.case is None else chosen.case_of(view)
        if not case:
            raise Aside(f"no {_case_name(importer, chosen)}")
        said: dict[str, Any] = {"case": case, "file": file, "line": line}
        if label is not None:
            said["label"] = label
        if columns:
            said["columns"] = call.columns | columns
        if outcomes:
            run = outcomes.pop("run", None)
            said["outcomes"] = call.outcomes | outcomes
            said["run"] = call.run if run is None else _run(run)
        if call.cost_usd == 0 and _unpriced(call):
            said["cost_usd"] = None
        made.append(msgspec.structs.replace(call, **said))
    if chosen.roles:
        # What contradicts the map is set aside as the one record it is, not call by call.
        for call in made:
            chosen.name(call)
    return made


def _unpriced(call: Call) -> bool:
    """Whether a call that cost nothing used tokens all the same: gateways write so where they know no price."""
    return bool(call.input_tokens or call.output_tokens) and not call.columns.get("cached")


def _run(value: Any) -> int:
    from cascade_eval.importers import calls

    found = calls.tokens(value, "run")
    assert found is not None
    return found


def _columns_only(
    link: Sequence[Call],
    view: Mapping[str, Any],
    outcomes: dict[str, Any],
    columns: dict[str, Any],
    chosen: Choices,
    importer: Importer,
    file: int,
    line: int,
) -> list[Call]:
    """Keep the columns of a record that is no call: a trace's first span often knows what its calls do not.

    Where it has none it may still stand between two calls; a case id that is none is then nobody's trouble.
    """
    if not columns and not outcomes and not link:
        return []
    path = chosen.case if chosen.case is not None else next(iter(importer.cases.values()))
    try:
        case = replace(chosen, case=path).case_of(view)
    except Aside:
        if columns or outcomes:
            raise
        return []
    outcomes.pop("run", None)
    own, parent = (link[0].id, link[0].parent) if link else (None, None)
    part = Call(case=case, id=own, parent=parent, part=True, outcomes=outcomes, columns=columns, file=file, line=line)
    return [part] if case else []


def _case_name(importer: Importer, chosen: Choices) -> str:
    paths = chosen.case if chosen.case is not None else next(iter(importer.cases.values()))
    words = [word for word, known in importer.cases.items() if known == paths]
    near = "" if words else did_you_mean(paths[0], importer.cases)
    return f"{words[0]} id" if words else f"value at '{paths[0]}', which is to be the case.{near}"


_COUNTED = ("calls", "joined", "repeated", "other", "merged")


def _write(kept: buckets.Buckets, types: rows.Types, chosen: Choices, notes: _Notes, target: Path) -> Report:
    cases, total = 0, [0] * len(_COUNTED)
    models: Counter[str] = Counter()
    undeclared: Counter[str] = Counter()

    def aside(call: Call, problem: Aside) -> None:
        notes.add(problem, call.file, call.line)

    with rows.Writer(target, types) as writer:
        for _, found, more in kept.cases():
            if more:
                endless = Aside(f"a case of more than {buckets.MOST:,} calls", found[0].case)
                notes.add(endless, found[0].file, found[0].line, len(found) + more)
                continue
            made = grouping.case(found, chosen.name, aside)
            writer.add(made.rows)
            for row in made.rows:
                models[row["model"]] += 1
            if made.undeclared:
                undeclared.update(made.undeclared)
            if made.rows:
                cases += 1
            for place, name in enumerate(_COUNTED):
                total[place] += getattr(made, name)
    order = {label: place for place, label in enumerate(chosen.labels)}
    by_model = dict(sorted(models.items(), key=lambda item: (order.get(item[0], 0), item[0])))
    named = dict(undeclared.most_common())
    report = Report("", "", undeclared=named, cases=cases, rows=models.total(), models=by_model)
    calls, joined, repeated, other, merged = total
    alike = {name: label for name in named if (label := chosen.alike(name))}
    return replace(report, calls=calls, joined=joined, repeated=repeated, other=other, merged=merged, alike=alike)


def _refuse_nothing(report: Report, chosen: Choices) -> None:
    """Refuse a log of which nothing could be used, and a map that names what is not there."""
    missing = [label for label in chosen.labels if label not in report.models]
    wanted = {label: name for name, label in chosen.models.items()}
    seen = [*report.undeclared, *(wanted[label] for label in report.models if label in wanted)]
    problems = [
        Problem(
            f"models: {label}: no record that could be used names '{wanted[label]}'.{_near(wanted[label], seen)}"
            if label in wanted
            else f"models: {label}: no record that could be used has {dict(dict(chosen.places)[label])}",
            report.path,
        )
        for label in missing
    ]
    if not report.rows:
        said = f"no call to a model could be used, of {report.records:,} records"
        hint = f"; {report.other:,} are no calls. Is it a log of another kind?" if report.other else ""
        problems.append(Problem(said + hint, report.path))
    if problems:
        bad = [problem for reason in report.set_aside for problem in reason.first[:3]]
        bad += [Problem(f"{r.records:,} records: {r.reason}", report.path) for r in report.set_aside if r.records > 3]
        raise DataError([*bad, *problems])


def _near(wanted: str, seen: Sequence[str]) -> str:
    """Name what is recorded of the same model, dated or with its provider; else the nearest name."""
    same = [name for name in seen if choices.bare(name) == choices.bare(wanted)]
    return f" Did you mean '{same[0]}'?" if same else did_you_mean(wanted, seen)


def _written(report: Report) -> bytes:
    return json.dumps(asdict(report), indent=2, ensure_ascii=False).encode() + b"\n"


def _report(path: Path) -> Report:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    reasons = [{**each, "first": tuple(Problem(**problem) for problem in each["first"])} for each in told["set_aside"]]
    return Report(**{**told, "set_aside": tuple(Reason(**each) for each in reasons)})
