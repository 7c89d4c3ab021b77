"""Rows that arrive late: a few cases of an old week do not replace what was measured of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade_eval.monitor.nouns import Row


def without_late(rows: Sequence[Row], kept: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Leave out the weeks of which a history knows more than twice as many cases, and say which.

    The last week of the rows always stays: it is the one that is looked at.

    Parameters
    ----------
    rows
        Of the traffic at hand.
    kept
        Of the history.

    Returns
    -------
    rows, notes

    Examples
    --------
    >>> from cascade_eval.monitor import Row
    >>> old = [Row("s", "c", "production", "2026-W30", (), cases=3000)]
    >>> new = [Row("s", "c", "production", f"2026-W{week}", (), cases=cases) for week, cases in ((30, 2), (31, 3000))]
    >>> rows, [note] = without_late(new, old)
    >>> [row.window for row in rows]
    ['2026-W31']
    >>> note
    '2026-W30: 2 cases of this traffic do not replace the 3,000 the history keeps; to measure that week again, hand in all of it'
    """
    last = max((row.window for row in rows), default="")
    here = {row.key: row.cases for row in rows if not row.cohort and row.kind == "production" and row.window != last}
    fewer = {row.key[:4]: (here[row.key], row.cases) for row in kept if 2 * here.get(row.key, row.cases) < row.cases}
    said = {window: counts for (*_, window), counts in sorted(fewer.items())}
    notes = tuple(
        f"{window}: {few:,} cases of this traffic do not replace the {many:,} the history keeps; to measure that week "
        "again, hand in all of it"
        for window, (few, many) in said.items()
    )
    return tuple(row for row in rows if row.key[:4] not in fewer), notes
