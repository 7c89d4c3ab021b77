"""Suites from text: every problem of a file at once, each with its line and the nearest valid word.

`cascade_eval.suite.model` says what each mapping may hold. Here the parts are put together and checked against each
other; cascades and budgets have files of their own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cascade_eval import agreement, prices
from cascade_eval.errors import Problem, SuiteError, did_you_mean
from cascade_eval.suite import cascades, files, mappings, model, phrases, promises, text, tiers
from cascade_eval.suite.nouns import CohortColumn, Source, Suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cascade_eval.suite.text import Lines

# Read part by part and not by the model, so that one bad part of them does not hide the others.
_SEPARATELY = frozenset({"cascades", "budgets", "agreement", "prices"})


def load(path: str | Path, *, baseline: str | None = None) -> Suite:
    """Read a suite from a file.

    Parameters
    ----------
    path
        The suite; paths in it are relative to its folder.
    baseline
        Goes before the suite's own `baseline`.

    Raises
    ------
    SuiteError
        With every problem, each with file and line.
    """
    path = Path(path)
    shown = path.as_posix()
    try:
        written = files.read(path, shown)
    except FileNotFoundError as error:
        raise SuiteError([Problem(f"there is no such file.{error}", shown)]) from None
    return parse(written, file=shown, base=path.parent, baseline=baseline)


def parse(
    written: str,
    *,
    file: str,
    base: str | Path,
    baseline: str | None = None,
    read_file: Callable[[str], str] | None = None,
) -> Suite:
    """Read a suite from its text.

    Parameters
    ----------
    written
        YAML.
    file
        How messages and ids name it.
    base
        Folder that paths in the suite are relative to.
    baseline
        Goes before the suite's own `baseline`.
    read_file
        Returns the text of a cascade file, given its path as written; by default it is read from `base`.

    Raises
    ------
    SuiteError
        With every problem, each with file and line.
    """
    base = Path(base)
    document = text.read(written, file=file, as_text=cascades.in_route)
    if not isinstance(document.value, dict):
        raise SuiteError([document.lines.problem("a suite is a mapping that begins with 'goldens:' or 'traffic:'.")])
    problems: list[Problem] = []
    known, lines = _spelled(document.value, document.lines, problems)
    top = _top(known, lines, problems)
    named = cascades.read(known.get("cascades"), lines, read_file or files.beside(base, file), problems)
    _once(top.columns, lines, problems)
    cohorts = _cohort_columns(top.cohorts, known, lines, problems)
    compared = _baseline(baseline, top.baseline, named, lines, problems)
    promised = promises.read(
        known.get("budgets"),
        promises.Words(tuple(named.values()), cohorts, compares=compared is not None or "baseline" in known),
        lines,
        problems,
    )
    suite = Suite(
        name=file,
        base=base,
        source=_source(top, known, lines, problems),
        cascades=tuple(cascade for cascade in named.values() if cascade is not None),
        budgets=promised,
        cohorts=cohorts or (),
        baseline=compared,
        history=top.history,
        agreement=known.get("agreement", "exact"),
        agreement_rule=_agreement(known.get("agreement", "exact"), lines, problems),
        prices=_prices(known.get("prices", {}), lines, problems),
        confidence=top.confidence,
        inconclusive=top.inconclusive,
        coverage=top.coverage,
        audited=top.audited,
        description=top.description,
        lines=lines,
        notes=(*tiers.notes(named, lines), *promises.notes(promised)),
    )
    if problems:
        raise SuiteError(_in_order(problems))
    return suite


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0))


def _spelled(value: dict[str, Any], lines: Lines, problems: list[Problem]) -> tuple[dict[str, Any], Lines]:
    # A misspelled key at the top is read as the one it was meant to be, so that what is in it is checked too.
    known, written, unknown = model.WrittenSuite.spelled(value)
    problems += [lines.problem(message, key) for key, message in unknown.items()]
    return known, lines.renamed({there: name for name, there in written.items()})


def _top(known: Mapping[str, Any], lines: Lines, problems: list[Problem]) -> model.WrittenSuite:
    plain = {key: value for key, value in known.items() if key not in _SEPARATELY and value is not None}
    empty = [key for key, value in known.items() if key not in _SEPARATELY and value is None]
    problems += [lines.problem(f"'{key}' is empty. Write what it is, or remove it.", key) for key in empty]
    try:
        return model.WrittenSuite.model_validate(plain)
    except ValidationError as error:
        problems += mappings.problems(error, plain, lines)
        bad = {found["loc"][0] for found in error.errors() if found["loc"]}
    return model.WrittenSuite.model_validate({key: value for key, value in plain.items() if key not in bad})


def _source(top: model.WrittenSuite, known: Mapping[str, Any], lines: Lines, problems: list[Problem]) -> Source:
    if "goldens" not in known and "traffic" not in known:
        problems.append(lines.problem("a suite needs 'goldens' or 'traffic': the cases it judges."))
    if "goldens" in known and "traffic" in known:
        problems.append(lines.problem("a suite has either 'goldens' or 'traffic', not both.", "traffic"))
    if isinstance(top.traffic, model.WrittenTraffic):
        return top.traffic.source(top.columns)
    if top.traffic is not None:
        return Source("traffic", top.traffic, top.columns)
    return Source("goldens", top.goldens or "", top.columns)


def _once(columns: Mapping[str, str], lines: Lines, problems: list[Problem]) -> None:
    """Refuse a foreign column under two of our names: one of them would be read as something it is not."""
    for foreign in [name for name, times in Counter(columns.values()).items() if times > 1]:
        ours = [our for our, name in columns.items() if name == foreign]
        said = " and ".join(f"'{our}'" for our in ours)
        problems.append(lines.problem(f"{said} are both read from '{foreign}'. Name each once.", "columns", ours[-1]))


def _cohort_columns(
    written: list[str] | dict[str, model.WrittenCohort | None],
    known: Mapping[str, Any],
    lines: Lines,
    problems: list[Problem],
) -> tuple[CohortColumn, ...] | None:
    """Return None where they could not be read, so that budgets do not complain about the same again."""
    before = len(problems)
    columns = []
    for position, (name, how) in enumerate(
        written.items() if isinstance(written, dict) else ((name, None) for name in written)
    ):
        try:
            columns.append(phrases.read_cohort(name, None if how is None else how.at_least))
        except ValueError as error:
            problems.append(lines.problem(str(error), "cohorts", name if isinstance(written, dict) else position))
    twice = [name for name, times in Counter(column.name for column in columns).items() if times > 1]
    problems += [lines.problem(f"the cohort column '{name}' is listed twice.", "cohorts") for name in twice]
    unread = not columns and bool(known.get("cohorts"))
    return None if unread or len(problems) > before else tuple(columns)


def _baseline(
    given: str | None, written: str | None, named: Iterable[str], lines: Lines, problems: list[Problem]
) -> str | None:
    chosen = written if given is None else given
    message = None if chosen is None else baseline_problem(chosen, named)
    if message is not None:
        problems.append(lines.problem(message, "baseline") if given is None else Problem(message, lines.file))
    return chosen


def baseline_problem(written: str, cascades: Iterable[str]) -> str | None:
    """Say why this cannot name a baseline; None when it can.

    Examples
    --------
    >>> baseline_problem("git:origin/main", ["current"]) is None
    True
    >>> baseline_problem("curent", ["current", "wider"])
    "unknown baseline 'curent'. Did you mean 'current'?"
    """
    names = list(cascades)
    if written in names or written.endswith(".json"):
        return None
    if written.startswith("git:"):
        ref = written.removeprefix("git:")
        return (
            None
            if ref and not ref.startswith("-") and " " not in ref
            else f"'{written}' names no commit. Write 'git:origin/main'."
        )
    return f"unknown baseline '{written}'.{did_you_mean(written, [*names, 'git:<ref>', '<evidence>.json'])}"


def _agreement(written: Any, lines: Lines, problems: list[Problem]) -> agreement.Rule | None:
    try:
        return agreement.parse(written)
    except ValueError as error:
        problems.append(lines.problem(str(error), "agreement"))
        return None


def _prices(written: Any, lines: Lines, problems: list[Problem]) -> dict[str, Any]:
    if not isinstance(written, dict):
        problems.extend(lines.problem(message, "prices") for message in prices.check(written))
        return {}
    for name, sheet in written.items():
        problems.extend(lines.problem(message, "prices", name) for message in prices.check({name: sheet}))
    return written
