"""Goldens: traffic that is frozen and described by the `golden.yaml` beside it.

::

    name: support
    description: Ten healthy weeks.
    licence: Apache-2.0
    recorded: {how: sampled from production, when: 2026-05}
    models: [mini, flagship]
    cases: 4812
    cohorts:
      language: {en: 4000, fr: 812}
    sha256: 3f…   # of the bytes of the data files, in the order of their relative names

A golden whose data no longer has that hash is an error that says what changed, never a quietly different test.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval import atomic, errors, traffic
from cascade_eval.errors import DataError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cascade_eval.traffic import Traffic

FILE = "golden.yaml"
"""Name of the description, in the folder of the data."""

LARGEST = 1 << 20
"""Bytes a description may have."""

_KEYS = ("name", "description", "licence", "recorded", "models", "cases", "cohorts", "sha256")
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Golden:
    """A golden whose data is what its description says.

    Parameters
    ----------
    traffic
        The cases.
    name, description, licence
        What it is called, what it holds, under which terms it may be used.
    recorded
        How and when.
    models
        Recorded models.
    cases
        How many.
    cohorts
        Cases by value, by cohort column; null is ``(none)``.
    sha256
        Of the data.
    """

    traffic: Traffic = field(repr=False)
    name: str
    description: str
    licence: str
    recorded: Mapping[str, str]
    models: tuple[str, ...]
    cases: int
    cohorts: Mapping[str, Mapping[str, int]]
    sha256: str


def open(  # noqa: A001  called as goldens.open, like traffic.open; nothing here opens by the built-in
    folder: str | Path, *, columns: Mapping[str, str] = _NONE, tolerate: int = 0, base: Path | None = None
) -> Golden:
    """Open a golden and make sure that it is the data that was described.

    Parameters
    ----------
    folder
        Holds the data and `golden.yaml`; relative paths start at `base`.
    columns, tolerate
        As in `traffic.open`.
    base
        Folder of the suite that names it.

    Raises
    ------
    DataError
        No description, a broken one, or data that changed: what changed, and the command that accepts it.
    """
    path = _path(folder, base)
    described, name = _described(path, str(folder))
    found = traffic.open(folder, columns=columns, tolerate=tolerate, base=base)
    if found.sha256() != described["sha256"]:
        raise DataError([_changed(described, found, name)])
    whole = not found.bad_rows
    if whole and (described["cases"] != found.cases or set(map(str, described["models"])) != set(found.models)):
        raise DataError([_misdescribed(described, found, name)])
    recorded = described.get("recorded") or {}
    return Golden(
        traffic=found,
        name=str(described["name"]),
        description=str(described.get("description") or ""),
        licence=str(described.get("licence") or ""),
        recorded={str(key): str(value) for key, value in recorded.items()},
        models=tuple(map(str, described["models"])),
        cases=described["cases"],
        cohorts=_cohorts(described),
        sha256=described["sha256"],
    )


def promised(folder: str | Path, *, base: Path | None = None) -> dict[str, dict[str, int]]:
    """Return cases by value by cohort column as a golden describes them, without a look at its data.

    What is judged in its stead, such as a fresh sample of production, is asked for the same cohorts.

    Parameters
    ----------
    folder, base
        As in `open`.

    Raises
    ------
    DataError
        No description, or a broken one.
    """
    described, _ = _described(_path(folder, base), str(folder))
    return _cohorts(described)


def describe(
    folder: str | Path,
    *,
    name: str,
    description: str,
    licence: str,
    recorded: Mapping[str, str],
    cohorts: Iterable[str] = (),
    columns: Mapping[str, str] = _NONE,
) -> Path:
    """Freeze the data of a folder: write the `golden.yaml` that describes it, over the one that is there.

    Parameters
    ----------
    folder
        Holds the data.
    name, description, licence, recorded
        What only people know.
    cohorts
        Columns whose values are counted.
    columns
        As in `traffic.open`.

    Returns
    -------
    Path
        Of the description.
    """
    found = traffic.open(folder, columns=columns)
    known = {"name": name, "description": description, "licence": licence, "recorded": dict(recorded)}
    return _write(Path(folder) / FILE, {**known, **_facts(found, tuple(cohorts))})


def update(
    folder: str | Path,
    *,
    columns: Mapping[str, str] = _NONE,
    tolerate: int = 0,
    base: Path | None = None,
    force: bool = False,
) -> Path:
    """Accept changed data: renew models, counts and hash in `golden.yaml`, keeping everything people wrote.

    Parameters
    ----------
    folder, columns, tolerate, base
        As in `open`.
    force
        Accept even where the environment has `CI` set.

    Raises
    ------
    UsageError
        On CI without `force`: a golden that accepts itself there guards nothing.
    """
    if os.environ.get("CI") and not force:
        raise errors.UsageError(
            f"{folder}: a golden is not updated where CI is set. Update it on your machine and commit {FILE},"
            " or force it: --cascade-update=force"
        )
    path = _path(folder, base)
    described, _ = _described(path, str(folder))
    found = traffic.open(folder, columns=columns, tolerate=tolerate, base=base)
    facts = _facts(found, tuple(described.get("cohorts") or ()))
    document = _yaml("rt").load((path / FILE).read_bytes())
    _renew(document, facts)
    return _write(path / FILE, document)


def _path(folder: str | Path, base: Path | None) -> Path:
    path = Path(folder).expanduser()
    return path if base is None or path.is_absolute() else base / path


def _facts(found: Traffic, cohorts: tuple[str, ...]) -> dict[str, Any]:
    if missing := [column for column in cohorts if column not in found.case_columns]:
        raise DataError(
            Problem(f"no column {column!r}.{errors.did_you_mean(column, found.case_columns)}", found.name)
            for column in missing
        )
    return {
        "models": list(found.models),
        "cases": found.cases,
        "cohorts": _count(found, cohorts),
        "sha256": found.sha256(),
    }


def _count(found: Traffic, cohorts: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Cases by value, most frequent first."""
    import numpy as np

    counts: dict[str, dict[str, int]] = {column: {} for column in cohorts}
    for batch in found.batches([traffic.Field(None, column) for column in cohorts]):
        for column, tally in counts.items():
            codes, values = batch.codes(None, column)
            for value, cases in zip(["(none)", *map(_text, values)], np.bincount(codes + 1).tolist(), strict=False):
                if cases:
                    tally[value] = tally.get(value, 0) + cases
    return {
        column: dict(sorted(tally.items(), key=lambda item: (-item[1], item[0]))) for column, tally in counts.items()
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(path: Path, name: str) -> tuple[dict[str, Any], str]:
    """Read and check a description; the name says where problems stand."""
    where = f"{name.rstrip('/')}/{FILE}"
    file = path / FILE
    if not path.is_dir():
        raise DataError([Problem(f"a golden is a folder with its data and {FILE}{_near(path)}", name)])
    if not file.is_file():
        raise DataError(
            [
                Problem(
                    f'a golden needs a {FILE} beside its data. Write one: python -c "from cascade_eval import goldens;'
                    f" goldens.describe('{name}', name='…', description='…', licence='…', recorded={{'how': '…'}})\","
                    " or name the data as 'traffic:' in the suite",
                    name,
                )
            ]
        )
    if file.stat().st_size > LARGEST:
        raise DataError([Problem(f"larger than {LARGEST >> 20} MB", where)])
    described = _load(file, where)
    if problems := _wrong(described):
        raise DataError(Problem(problem, where) for problem in problems)
    return described, where


def _near(path: Path) -> str:
    return "" if path.exists() else f"; there is no such folder{errors.beside(path)}"


def _load(file: Path, where: str) -> Any:
    from ruamel.yaml import error

    try:
        return _yaml("safe").load(file.read_bytes())
    except (error.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        mark = getattr(problem, "problem_mark", None)
        said = getattr(problem, "problem", None) or str(problem)
        raise DataError([Problem(f"not readable: {said}", where, mark.line + 1 if mark else None)]) from problem


def _yaml(kind: str) -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ=kind, pure=True)
    yaml.width = 120
    return yaml


def _wrong(described: Any) -> list[str]:
    if not isinstance(described, dict):
        return ["a description is a mapping: name, models, cases, sha256, …"]
    problems = [f"unknown key {key!r}.{errors.did_you_mean(str(key), _KEYS)}" for key in described if key not in _KEYS]
    wanted: dict[str, tuple[type, str]] = {
        "name": (str, "text"),
        "models": (list, "a list"),
        "cases": (int, "a whole number"),
        "sha256": (str, "text in quotes"),
    }
    for key, (kind, words) in wanted.items():
        if key not in described:
            problems.append(f"'{key}' is missing. Renew the facts: pytest --cascade-update")
        elif not isinstance(described[key], kind) or isinstance(described[key], bool):
            problems.append(f"'{key}' is {described[key]!r}, not {words}")
    if not isinstance(described.get("recorded") or {}, dict):
        problems.append("'recorded' is not a mapping of how and when")
    cohorts = described.get("cohorts") or {}
    if not isinstance(cohorts, dict) or not all(isinstance(values, dict) for values in cohorts.values()):
        problems.append("'cohorts' is not a mapping of columns to cases by value")
    return problems


def _cohorts(described: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {
        str(column): {_text(value): cases for value, cases in values.items()}
        for column, values in (described.get("cohorts") or {}).items()
    }


def _changed(described: Mapping[str, Any], found: Traffic, where: str) -> Problem:
    before = _cohorts(described)
    differences = []
    if described["cases"] != found.cases:
        differences.append(f"cases {described['cases']:,} before, {found.cases:,} now")
    if set(described["models"]) != set(found.models):
        differences.append(f"models {', '.join(described['models'])} before, {', '.join(found.models)} now")
    there = tuple(column for column in before if column in found.case_columns)
    differences += [f"column {column} is gone" for column in before if column not in there]
    now = _count(found, there) if there else {}
    for column in there:
        values = dict.fromkeys([*before[column], *now[column]])
        differences += [
            f"{column}={value} {before[column].get(value, 0):,} before, {now[column].get(value, 0):,} now"
            for value in values
            if before[column].get(value, 0) != now[column].get(value, 0)
        ]
    said = "; ".join(differences) or "same cases, models and cohorts, other values or other files"
    return Problem(
        f"the golden changed: {said} (sha256 {described['sha256'][:12]} before, {found.sha256()[:12]} now)."
        " If that is meant, accept it: pytest --cascade-update",
        where,
    )


def _misdescribed(described: Mapping[str, Any], found: Traffic, where: str) -> Problem:
    return Problem(
        f"the description is not of this data: it says {described['cases']:,} cases of {', '.join(map(str, described['models']))}, "
        f"and there are {found.cases:,} of {', '.join(found.models)}, under the same sha256. Renew it: pytest --cascade-update",
        where,
    )


def _renew(document: Any, facts: Mapping[str, Any]) -> None:
    """Put new facts into a description, touching only what differs, so that comments stay where they are."""
    for key, value in facts.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            for gone in [old for old in document[key] if old not in value]:
                del document[key][gone]
            _renew(document[key], value)
        elif document.get(key) != value:
            document[key] = value


def _write(file: Path, document: Any) -> Path:
    import io

    text = io.BytesIO()
    _yaml("rt").dump(document, text)
    return atomic.write(file, text.getvalue())
