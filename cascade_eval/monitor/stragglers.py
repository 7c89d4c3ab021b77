"""Rows out of their time: a few late cases of an old week do not replace it, and weeks to come have not been."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade_eval.monitor.nouns import Row


def without_late(rows: Sequence[Row], kept: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Leave out the weeks of which a history knows more than twice as many cases, and say which.

    The last week of the rows always stays: it is the one that is looked at. What replaces a week by fewer cases is said.

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
    here = {row.key: row.cases for row in rows if not row.cohort and row.kind == "production"}
    less = {row.key[:4]: (here[row.key], row.cases) for row in kept if here.get(row.key, row.cases) < row.cases}
    late = {key for key, (few, many) in less.items() if 2 * few < many and key[3] != last}
    said = {key[3]: (key in late, *counts) for key, counts in sorted(less.items())}
    notes = tuple(
        f"{window}: {few:,} cases of this traffic do not replace the {many:,} the history keeps; to measure that week "
        "again, hand in all of it"
        if left_out
        else f"{window}: {few:,} cases of this traffic replace the {many:,} the history kept: make sure that none was lost"
        for window, (left_out, few, many) in said.items()
    )
    return tuple(row for row in rows if row.key[:4] not in late), notes


def without_future(
    rows: Sequence[Row], last: str, *, now: dt.datetime | None = None
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Leave out weeks of a history that lie after this traffic and have not begun yet, and say so.

    One case of a wrong clock would make every later week an old one, whose alarms are past.

    Parameters
    ----------
    rows
        Of the history.
    last
        Last week of the traffic at hand; it stays, whatever the clock of this machine says.
    now
        The present by default.

    Returns
    -------
    rows, notes

    Examples
    --------
    >>> from cascade_eval.monitor import Row
    >>> rows = [Row("s", "c", "production", week, ()) for week in ("2026-W30", "2026-W31", "2062-W31")]
    >>> kept, [note] = without_future(rows, "2026-W30", now=dt.datetime(2026, 8, 1, tzinfo=dt.UTC))
    >>> [row.window for row in kept]
    ['2026-W30', '2026-W31']
    >>> note
    'the history has 1 week that has not begun, the last 2062-W31: a clock was wrong, and it was left out'
    """
    year, week, _ = ((now or dt.datetime.now(dt.UTC)) + dt.timedelta(days=1)).isocalendar()
    limit = max(last, f"{year}-W{week:02}")
    early = sorted({row.window for row in rows if row.window > limit})
    if not early:
        return tuple(rows), ()
    what = "1 week that has not begun" if len(early) == 1 else f"{len(early):,} weeks that have not begun"
    were = "it was" if len(early) == 1 else "they were"
    note = f"the history has {what}, the last {early[-1]}: a clock was wrong, and {were} left out"
    return tuple(row for row in rows if row.window <= limit), (note,)
