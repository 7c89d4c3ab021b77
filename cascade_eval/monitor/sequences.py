"""Disagreement budgets, watched by sequences that stay valid however often one looks."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cascade_eval import budgets, sequential
from cascade_eval.monitor.nouns import Cohort, Finding, Row, Watched, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

RECENT: Final = 8
"""Weeks that together may show a cohort to be within its budget."""


def run(
    cascade: str,
    rows: Sequence[Row],
    promised: Sequence[budgets.Budget],
    alpha: float,
    at: float,
    jumped: Mapping[Cohort, str] | None = None,
) -> Iterator[tuple[Watched, list[Finding]]]:
    """Watch every disagreement budget of one cascade in every cohort it names.

    `rows` are its production rows; `jumped` are the weeks of `jumps`.
    """
    windows = tuple(sorted({row.window for row in rows}))
    by_key = {(row.cohort, row.window): row for row in rows}
    for cohort, most in _watched(rows, promised).items():
        own = [by_key.get((cohort, window)) for window in windows]
        yield _sequence(cascade, cohort, most, windows, own, alpha, at, (jumped or {}).get(cohort, ""))


def jumps(found: Iterable[Finding]) -> dict[Cohort, str]:
    """Return the last week in which a cohort's own escalation jumped: what it was before does not vouch for what it is."""
    made: dict[Cohort, str] = {}
    for one in found:
        if one.jump:
            made[one.cohort] = max(one.windows[0], made.get(one.cohort, ""))
    return made


def _watched(rows: Sequence[Row], promised: Sequence[budgets.Budget]) -> dict[Cohort, float]:
    """Cohorts whose disagreement is promised to stay under a rate; the smallest promise of each."""
    seen = dict.fromkeys(row.cohort for row in rows)
    found: dict[Cohort, float] = {}
    for budget in promised:
        most = budget.bound.high
        if budget.metric != "disagreement" or most is None or not 0 < most < 1:
            continue
        scope = budget.scope
        if scope.kind == "each":
            cohorts = [cohort for cohort in seen if tuple(column for column, _ in cohort) == scope.columns]
        else:
            cohorts = [tuple(zip(scope.columns, scope.values, strict=True))]
        for cohort in cohorts:
            found[cohort] = min(most, found.get(cohort, 1.0))
    return found


def _sequence(
    cascade: str,
    cohort: Cohort,
    most: float,
    windows: tuple[str, ...],
    rows: Sequence[Row | None],
    alpha: float,
    at: float,
    jumped: str,
) -> tuple[Watched, list[Finding]]:
    s = np.array([row.least if row is not None else 0.0 for row in rows])
    n = np.array([row.least_size if row is not None else 0.0 for row in rows])
    log_e = sequential.log_e_process(s, n - s, most, *sequential.prior(most))
    # Nothing was kept: gates or a route sent everything to the flagship, and there is nothing to be wrong about.
    empty = np.array([row is not None and row.kept == 0 and row.decisions + row.routed > 0 for row in rows])
    run = sequential.watch(np.where(n > 0, log_e, np.nan), at=at, released=empty)
    standing = tuple(window for window, on in zip(windows, run.alarm.tolist(), strict=True) if on)
    proof = [i for i in recent(windows, rows, run.alarm) if windows[i] >= jumped]
    state, reason = _state(rows, [rows[i] for i in proof], run.alarm, most, alpha)
    logs = tuple(run.log_m.tolist())
    first = standing[0] if standing else None
    found = [_disagreement(cascade, cohort, most, windows, rows, span) for span in _episodes(run.alarm)]
    weeks = tuple(windows[i] for i in proof)
    return Watched(cascade, cohort, most, windows, logs, standing, first, state, reason, weeks), found


def recent(windows: Sequence[str], rows: Sequence[Row | None], alarms: NDArray[np.bool_]) -> list[int]:
    """Return positions of the weeks that may show what the last one's rate is.

    Weeks of an alarm that is over are not held against what came after. Weeks long past, and those of another gate, model
    or rule of agreement, vouch for nothing that was measured now.
    """
    last = rows[-1]
    if last is None:
        return []
    start = int(np.flatnonzero(alarms).max(initial=-1)) + 1
    numbers = [number(window) for window in windows]
    return [
        i
        for i in range(start, len(rows))
        if numbers[-1] - numbers[i] < RECENT and getattr(rows[i], "definition", last.definition) == last.definition
    ]


def number(window: str) -> int:
    """Return the number of a week of the calendar, counted through the years; traffic that is looked at as one has none."""
    year, separator, week = window.partition("-W")
    return dt.date.fromisocalendar(int(year), 1, 1).toordinal() // 7 + int(week) if separator else 0


def _state(
    rows: Sequence[Row | None],
    proof: Sequence[Row | None],
    alarms: NDArray[np.bool_],
    most: float,
    alpha: float,
) -> tuple[Literal["alarm", "within", "open", "not measured"], str | None]:
    last = rows[-1]
    if alarms[-1]:
        return "alarm", None
    if last is None:
        return "not measured", "no case in the last week"
    if last.reason is not None or last.least_size == 0:
        return "not measured", last.reason or "no unescalated case was compared with the flagship"
    known = [row for row in proof if row is not None]
    s, n = sum(row.most for row in known), sum(row.most_size for row in known)
    proven = float(sequential.log_e_process(s, max(n - s, 0.0), most, claim="below")) >= -math.log(alpha)
    return ("within" if proven else "open"), None


def _episodes(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last week of each time an alarm stood."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _disagreement(
    cascade: str,
    cohort: Cohort,
    most: float,
    windows: tuple[str, ...],
    rows: Sequence[Row | None],
    span: tuple[int, int],
) -> Finding:
    start, end = span
    inside = [row for row in rows[start : end + 1] if row is not None and row.least_size > 0]
    count, nobs = sum(row.least for row in inside), sum(row.least_size for row in inside)
    rate = count / nobs
    standing = end == len(windows) - 1
    since = f"since {windows[start]}" if standing else f"from {windows[start]} to {windows[end]}"
    message = (
        f"{label(cohort)}: the flagship disagrees with {budgets.show(rate, 'rate')} of the unescalated answers "
        f"{since} (n={nobs:,.0f}), budget at most {budgets.show(most, 'rate')}"
    )
    evidence = {"disagreement": rate, "nobs": nobs, "budget": most}
    return Finding(
        "disagreement", cascade, cohort, windows[start], windows[start : end + 1], standing, True, message, evidence
    )
