"""Cases to ask about: a golden, an audit sample, traffic in any shape, or a file of prompts."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import math
from typing import TYPE_CHECKING, Any

from cascade_eval.errors import DataError, Problem
from cascade_eval.recording.nouns import LINE_COLUMNS, Case
from cascade_eval.traffic import canonical, convert, files, jsonl, names, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cascade_eval.traffic.names import Layout


def read(path: str, base: Path | None = None) -> tuple[Case, ...]:
    """Read cases from any file that traffic is read from, or one without a model: `case_id` and what prompts name.

    Parameters
    ----------
    path
        A file, a folder or an fsspec URL.
    base
        Folder that a relative path starts at.

    Returns
    -------
    tuple of Case
        In the order of the file, one for each `case_id`.

    Raises
    ------
    DataError
        Nothing there, lines that cannot be parsed, no `case_id`, one twice, or one whose question differs between rows.
    """
    converted = [_converted(file) for file in files.find(path, base)]
    source = parts.Rows(tuple(part for one in converted for part in one.parts))
    broken = [problem for one in converted for problem in (*one.notes.broken, *one.notes.problems)]
    if broken:
        raise DataError(broken)
    models = dict.fromkeys(model for one in converted for model in one.notes.models)
    layout, _ = names.layout(list(source.types), {}, models)
    if "case_id" not in source.types:
        raise DataError([Problem("no column 'case_id'.", path)])
    found = _Cases(layout if _answered(layout) else None, path)
    for number, row in enumerate(_rows(source)):
        found.add(row, functools.partial(_place, source, number))
    return found.cases()


def answered(path: str, base: Path | None = None) -> bool:
    """Whether a file of cases holds answers of some model, or only questions."""
    found = {name for file in files.find(path, base) for part in _converted(file).parts for name in part.schema.names}
    return _answered(names.layout([name for name in found if name != parts.LINE], {})[0])


def _answered(layout: Layout | None) -> bool:
    """Whether some model answered; dotted names alone are columns of the case."""
    if layout is None or layout.shape == "long":
        return layout is not None
    return any(field.model is not None and field.name in names.OUTCOME_COLUMNS for field in layout.fields)


def _converted(file: files.File) -> convert.Converted:
    if file.format == "parquet":
        part = parts.ParquetPart(file.name, lambda: file.path if file.system is None else file.open())
        return convert.Converted((part,), jsonl.Notes())
    return convert.read(file, None)


def _rows(source: parts.Rows) -> Iterator[dict[str, Any]]:
    for _, columns in source.scan(list(source.types), 4096):
        values = [column.to_pylist() for column in columns.values()]
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))


def _place(source: parts.Rows, number: int) -> tuple[str, int]:
    import numpy as np

    return source.where(np.array([number]))[0]


class _Cases:
    """Rows put together case by case."""

    def __init__(self, layout: Layout | None, path: str) -> None:
        self.layout = layout
        self.path = path
        self.columns: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, str]] = {}
        self.differing: set[str] = set()
        self.problems: list[Problem] = []

    def add(self, row: Mapping[str, Any], place: functools.partial[tuple[str, int]]) -> None:
        if row["case_id"] is None:
            self.problems.append(Problem("'case_id' is empty.", *place()))
            return
        case_id = str(row["case_id"])
        mine = {name: _plain(value) for name, value in self._case_columns(row).items()}
        if case_id not in self.columns:
            self.columns[case_id], self.answers[case_id] = mine, {}
        elif self.layout is None or self.layout.shape != "long":
            self.problems.append(Problem(f"the case '{case_id}' was there before.", *place()))
        else:
            self._merge(case_id, mine, place)
        self.answers[case_id].update(self._answers(row))

    def _case_columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if self.layout is None:
            return {name: value for name, value in row.items() if name != "case_id"}
        # Of an earlier recording, what its lines know beside the traffic is no column of the case.
        told = LINE_COLUMNS if self.layout.shape == "long" else frozenset()
        return {name: row[name] for name in self.layout.case_columns if name not in told}

    def _answers(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if self.layout is None:
            return
        if self.layout.shape == "long":
            if not row.get("run") and row.get("status") in {None, "ok"} and row.get("answer") is not None:
                yield str(row["model"]), str(canonical.text(row["answer"]))
            return
        for model in self.layout.models:
            answer, status = row.get(f"{model}.answer"), row.get(f"{model}.status")
            if answer is not None and status in {None, "ok"}:
                yield model, str(canonical.text(answer))

    def _merge(self, case_id: str, row: Mapping[str, Any], place: functools.partial[tuple[str, int]]) -> None:
        before = self.columns[case_id]
        for name, value in row.items():
            if before[name] is None:
                before[name] = value
            elif value is not None and value != before[name]:
                if name in names.CASE_COLUMNS:
                    self.problems.append(Problem(f"'{name}' differs between rows of the case '{case_id}'.", *place()))
                self.differing.add(name)

    def cases(self) -> tuple[Case, ...]:
        """Return the cases; a column that differs between rows of one case describes outcomes and is left out."""
        if not self.columns and not self.problems:
            self.problems.append(Problem("no cases.", self.path))
        if self.problems:
            raise DataError(self.problems)
        return tuple(
            Case(
                case_id,
                {name: value for name, value in columns.items() if name not in self.differing},
                self.answers[case_id],
            )
            for case_id, columns in self.columns.items()
        )


def _plain(value: Any) -> Any:
    """Return a value JSON can hold."""
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
