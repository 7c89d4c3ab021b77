"""Which rows are set aside, decided once before anything is read.

What is bad must not depend on what a pass happens to read, so that a position means the same case in every pass:
where rows may be set aside, every column that has rules is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.errors import DataError, Problem
from cascade_eval.traffic import checks, findings, keys, long, names
from cascade_eval.traffic.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from cascade_eval.traffic.parts import Rows

_SIZE = 131_072


@dataclass(frozen=True)
class SetAside:
    """Rows that are left out.

    Parameters
    ----------
    rows
        Numbers of the rows, sorted. In long form a bad value of the case takes all rows of the case with it.
    bad
        How many rows were bad, lines that are no rows included.
    problems
        What was wrong with them.
    """

    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    bad: int = 0
    problems: tuple[Problem, ...] = ()


def inspect(source: Rows, layout: names.Layout, tolerate: int, name: str) -> SetAside:
    """Find the bad rows, all of them.

    Raises
    ------
    DataError
        More bad rows than tolerated, a file that ends too early, or no row left.
    """
    unread = [*source.broken, *source.problems]
    if layout.shape == "aligned" or not (unread or tolerate):
        return SetAside()
    trouble = Findings(source, layout.case_id)
    rows = _long(source, layout, trouble) if layout.shape == "long" else _wide(source, layout, trouble)
    bad = len(trouble.rows) + len(source.problems)
    problems = [*unread, *trouble.problems()]
    if source.broken:
        raise DataError(problems)
    if bad > tolerate:
        findings.raise_all(problems, bad, name, of=source.total + len(source.problems))
    if len(rows) == source.total:
        raise DataError([*problems, Problem("no cases: every row was set aside", name)])
    return SetAside(rows, bad, tuple(problems))


def _scan(source: Rows, columns: list[str]) -> Iterator[tuple[dict[str, pa.Array], NDArray[np.int64]]]:
    for first, raw in source.scan(list(dict.fromkeys(columns)), _SIZE):
        yield raw, first + np.arange(len(raw[columns[0]]))


def _wide(source: Rows, layout: names.Layout, trouble: Findings) -> NDArray[np.int64]:
    ruled = {
        field: stored for field, stored in layout.fields.items() if checks.has_rules(field.name, source.types[stored])
    }
    hashed = [np.zeros(0, dtype=np.uint64)]
    for raw, rows in _scan(source, [layout.case_id, *ruled.values()]):
        hashed.append(keys.hashes(keys.required("case_id", raw[layout.case_id], rows, trouble)))
        for column, stored in ruled.items():
            trouble.add(rows, str(column), checks.read(column.name, raw[stored])[1])
    keys.find_duplicates(np.concatenate(hashed), None, layout.case_id, source, trouble)
    return trouble.rows


def _long(source: Rows, layout: names.Layout, trouble: Findings) -> NDArray[np.int64]:
    read = [
        stored
        for name, stored in layout.names.items()
        if name in names.KEYS or name in names.CASE_COLUMNS or checks.has_rules(name, source.types[stored])
    ]
    pieces = [long.checked(layout, raw, rows, trouble) for raw, rows in _scan(source, [layout.case_id, *read])]
    lost = [np.zeros(0, dtype=np.int64)]
    for piece, cases, total in long.numbered(pieces, long.case_of_row(pieces, source.total)):
        models = piece.columns["model"].unique().to_pylist()
        codes = long.model_codes(piece.columns["model"], models)
        long.find_duplicates(piece, cases, codes, long.runs(piece), trouble)
        for name in sorted(names.CASE_COLUMNS & piece.columns.keys()):
            _, differing = long.per_case(piece.columns[name], cases, total)
            long.add_differing(piece, differing, cases, name, trouble)
        bad = np.isin(piece.rows, trouble.rows_of(names.CASE_COLUMNS))
        lost.append(piece.rows[np.isin(cases, cases[bad])])
    return np.union1d(trouble.rows, np.concatenate(lost))
