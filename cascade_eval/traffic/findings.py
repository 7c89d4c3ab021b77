"""What is wrong with rows, gathered over a whole pass and said together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.errors import DataError, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.parts import Rows

SHOWN = 50
"""Problems listed before the rest is counted."""

OFFENDERS = 5
"""Rows named in one problem."""


class Findings:
    """Bad rows by what is wrong with them.

    Parameters
    ----------
    source
        To say in which file and line a row stands.
    case_id
        Stored name of the column that names the cases.
    """

    def __init__(self, source: Rows, case_id: str) -> None:
        self._source = source
        self._case_id = case_id
        self._tolerable = True
        self._rows: dict[tuple[str, str], list[NDArray[np.int64]]] = {}

    @property
    def any(self) -> bool:
        """Whether something is wrong."""
        return bool(self._rows)

    @property
    def rows(self) -> NDArray[np.int64]:
        """All bad rows, sorted, each once."""
        return _sorted(self._rows.values())

    def rows_of(self, columns: Collection[str]) -> NDArray[np.int64]:
        """Rows that are bad because of one of these columns, sorted, each once."""
        return _sorted(pieces for (column, _), pieces in self._rows.items() if column in columns)

    def add(self, rows: NDArray[np.int64], column: str, found: Iterable[tuple[str, NDArray[np.bool_]]]) -> None:
        """Note what was found in one column of a batch: sentences, and masks over its rows."""
        for sentence, bad in found:
            self.add_rows(rows[bad], column, sentence)

    def add_rows(self, rows: NDArray[np.int64], column: str, sentence: str, *, tolerable: bool = True) -> None:
        """Note bad rows of a column; setting rows aside does not help where it is not tolerable."""
        if len(rows):
            self._tolerable &= tolerable
            self._rows.setdefault((column, sentence), []).append(rows)

    def problems(self) -> list[Problem]:
        """One problem per file, column and sentence, at its first row, naming the first few offenders."""
        found = []
        for (column, sentence), pieces in self._rows.items():
            rows = _sorted([pieces])
            files = np.array([self._source.parts[index].file for index in self._source.part_of(rows)])
            found += [
                self._problem(column, sentence, rows[files == file], file) for file in dict.fromkeys(files.tolist())
            ]
        return sorted(found, key=lambda problem: (problem.file or "", problem.line or 0, problem.message))

    def _problem(self, column: str, sentence: str, rows: NDArray[np.int64], file: str) -> Problem:
        every = 1 < len(rows) == sum(part.rows for part in self._source.parts if part.file == file)
        shown = rows[: 1 if every else OFFENDERS]
        places = self._source.where(shown)
        ids = self._source.take(shown, [self._case_id])[self._case_id].to_pylist()
        named = ", ".join(f"{name or '(no case_id)'} (row {line})" for name, (_, line) in zip(ids, places, strict=True))
        more = f" and {len(rows) - len(shown):,} more" if len(rows) > len(shown) else ""
        said = f"in every row, the first of {len(rows):,} is {named}" if every else f"{named}{more}"
        return Problem(f"{column} {sentence}: {said}", places[0][0], places[0][1])

    def raise_any(self, name: str) -> None:
        """Raise everything found as one DataError about the traffic called `name`."""
        if self.any:
            raise_all(self.problems(), len(self.rows) if self._tolerable else 0, name, of=self._source.total)


def raise_all(problems: Sequence[Problem], bad: int, name: str, *, of: int | None = None) -> None:
    """Raise problems; where they make up a few of so many rows, say how to set those aside."""
    rest = len(problems) - SHOWN
    more = [Problem(f"and {rest:,} more problems")] if rest > 0 else []
    rows = "1 bad row" if bad == 1 else f"{bad:,} bad rows"
    advice = f"{rows}. Mend the data, or set bad rows aside and count them: --cascade-tolerate {bad} of pytest, --tolerate {bad} of a command"
    if of is not None and 10 * bad > 9 * of:
        # What is wrong with (nearly) every row is wrong with a column or its name.
        advice = f"{bad:,} of {of:,} rows are bad: setting them aside would leave {of - bad:,}. Mend the columns named above, or name others for them under 'columns:'"
    raise DataError([*problems[:SHOWN], *more, *([Problem(advice, name)] if bad else [])])


def _sorted(pieces: Iterable[Sequence[NDArray[np.int64]]]) -> NDArray[np.int64]:
    found = [rows for group in pieces for rows in group]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
