"""Weeks put into a reference period and now, cohort by cohort, small cohorts pooled as the suite says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import budgets, cohorts
from cascade_eval.diagnosis import points
from cascade_eval.diagnosis.facts import EACH_DEFAULT, OVERALL_DEFAULT, CohortFacts, Period

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.monitor import Cohort, Finding, Findings, Row, Watched
    from cascade_eval.suite import Suite

WEEKS: Final = 4
"""Weeks of each period, where there are as many."""

CALM: Final = 12
"""Latest weeks that may vouch for now where nothing began inside cohorts: a quarter of a year."""


@dataclass(frozen=True)
class Split:
    """Which weeks are compared with which; `before` is empty where there is one window only.

    `mixed` is the week from which other traffic arrived, where nothing else began; None where none did. `calm` are the weeks
    in which nothing began inside cohorts, the latest ones; they end with those of now.
    """

    windows: tuple[str, ...]
    before: tuple[str, ...]
    now: tuple[str, ...]
    mixed: str | None = None
    calm: tuple[str, ...] = ()


def promised(suite: Suite) -> tuple[tuple[budgets.Budget, ...], tuple[str, ...]]:
    """Return the disagreement budgets to judge by, stated defaults where there are none, and notes about them."""
    families = [(column.name,) for column in suite.cohorts]
    found = [one for one in suite.budgets if one.metric == "disagreement" and one.bound.high is not None]
    if not found:
        rate, each = (budgets.show(value, "rate") for value in (OVERALL_DEFAULT, EACH_DEFAULT))
        made = [_at_most(OVERALL_DEFAULT, "overall")]
        made += [_at_most(EACH_DEFAULT, f"each {' and '.join(family)}") for family in families]
        note = f"The suite promises nothing about disagreement: {rate} overall and {each} in each cohort are taken instead."
        return tuple(made), (note,)
    notes = []
    overall = max((one.bound.high or 0 for one in found if one.scope.kind == "overall"), default=None)
    if overall is None:
        widest = max(OVERALL_DEFAULT, *(one.bound.high or 0 for one in found))
        found.append(_at_most(widest, "overall"))
        notes.append(f"The suite promises nothing about disagreement overall: {budgets.show(widest, 'rate')} is taken.")
    named = {one.scope.columns for one in found if one.scope.kind == "each"}
    for family in families:
        if family not in named:
            widest = max(EACH_DEFAULT, overall or 0)
            found.append(_at_most(widest, f"each {' and '.join(family)}"))
            notes.append(
                f"The suite promises nothing about disagreement of each {' and '.join(family)}: "
                f"{budgets.show(widest, 'rate')} is taken."
            )
    return tuple(found), tuple(notes)


def _at_most(rate: float, scope: str) -> budgets.Budget:
    return budgets.Budget("disagreement", budgets.parse_scope(scope), budgets.make(None, rate, "rate"))


def allowed(cohort: Cohort, given: Sequence[budgets.Budget]) -> float:
    """Smallest budget that speaks of a cohort; of pooled cohorts that of each."""
    columns = tuple(column for column, _ in cohort)
    found = [
        one.bound.high
        for one in given
        if one.bound.high is not None
        and (
            (one.scope.kind == "each" and one.scope.columns == columns)
            or (one.scope.kind != "each" and tuple(zip(one.scope.columns, one.scope.values, strict=True)) == cohort)
        )
    ]
    return min(found, default=EACH_DEFAULT)


def split(rows: Sequence[Row], standing: Sequence[Finding], sequences: Sequence[Watched]) -> Split:
    """Choose the reference weeks and those of now; rows and findings are of one cascade.

    Now begins where cohorts began to escalate or disagree differently, or where an alarm that still stands began, or where
    other traffic arrived; else it is the last four weeks. The first four complete weeks before that are the reference.
    """
    windows = tuple(sorted({row.window for row in rows}))
    if len(windows) < 2:
        return Split(windows, (), windows)
    complete = tuple(sorted({row.window for row in rows if row.complete and not row.cohort}))
    base = complete if len(complete) >= 2 else windows
    before = base[: min(WEEKS, len(base) // 2)]
    onset, mixed = _onset(rows, windows, standing, sequences)
    earlier = tuple(window for window in base if onset is not None and window < onset)
    if onset is None or not earlier:
        start = max(windows[-WEEKS:][0], next(window for window in windows if window > before[-1]))
        now = tuple(window for window in windows if window >= start)
        return Split(windows, before, now, calm=() if onset is not None else windows[-CALM:])
    now = tuple(window for window in windows if window >= onset)
    return Split(windows, earlier[:WEEKS], now, mixed, () if mixed is None else windows[-CALM:])


def _onset(
    rows: Sequence[Row], windows: tuple[str, ...], standing: Sequence[Finding], sequences: Sequence[Watched]
) -> tuple[str | None, str | None]:
    """Return the week from which now counts, and the one in which other traffic arrived; None where nothing began."""
    within = points.latest([_table(rows, windows, *names) for names in _WITHIN], longer=WEEKS)
    if within is not None:
        return windows[within], None
    since = [one.since for one in sequences if one.state == "alarm" and one.since is not None]
    since += [one.first for one in standing if one.test.startswith("escalation")]
    # What stands from the first weeks on did not begin: it was so from the start.
    since = [window for window in since if window >= windows[min(WEEKS, len(windows) // 2)]]
    if since:
        return min(since), None
    mixed = points.strongest([_table(rows, windows, "traffic", None)])
    if mixed is None:
        return None, None
    # Inside cohorts nothing changed, so more weeks say more about them.
    return windows[max(1, min(mixed, len(windows) - WEEKS))], windows[mixed]


_WITHIN: Final = (("escalated", "decisions"), ("disagreed", "compared"))
"""Series of a cohort that change only where the cascade, or its cases, do."""


def _table(
    rows: Sequence[Row], windows: tuple[str, ...], count: str, nobs: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return counts by cohort and week, of the finest single family; shares of all cases where `nobs` is None."""
    columns = [row.family for row in rows if len(row.family) == 1]
    family = columns[0] if columns else ()
    mine = [row for row in rows if row.family == family]
    members = sorted({row.cohort for row in mine})
    tables = [_period([row for row in mine if row.cohort == cohort], windows) for cohort in members]
    if nobs is not None:
        return np.stack([getattr(one, count) for one in tables]), np.stack([getattr(one, nobs) for one in tables])
    sizes = np.stack([one.decisions for one in tables])
    return sizes, np.broadcast_to(sizes.sum(axis=0), sizes.shape)


def pooled(suite: Suite, rows: Sequence[Row], now: Sequence[str]) -> dict[Cohort, Cohort]:
    """Where small cohorts go: cohorts of fewer cases now than their column asks for are judged as one."""
    least = {column.name: column.at_least for column in suite.cohorts if column.at_least is not None}
    cases: dict[Cohort, int] = defaultdict(int)
    for row in rows:
        cases[row.cohort] += row.cases if row.window in now else 0
    small = {c for c, n in cases.items() if len(c) == 1 and n < least.get(c[0][0], 0)}
    return {
        cohort: tuple((column, cohorts.OTHER if ((column, value),) in small else value) for column, value in cohort)
        for cohort in cases
    }


def facts(
    rows: Sequence[Row],
    weeks: Split,
    places: Mapping[Cohort, Cohort],
    given: Sequence[budgets.Budget],
    sequences: Sequence[Watched],
    *,
    assumed: bool,
) -> Iterator[CohortFacts]:
    """Yield what the rows of one cascade say of each cohort, all cases first."""
    grouped: dict[Cohort, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[places[row.cohort]].append(row)
    state = {one.cohort: one for one in sequences}
    for cohort in sorted(grouped, key=lambda c: (len(c), c)):
        mine = grouped[cohort]
        watched = state.get(cohort)
        last = [row for row in mine if row.window == weeks.windows[-1]]
        yield CohortFacts(
            cohort,
            allowed(cohort, given),
            assumed,
            _period(mine, weeks.before),
            _period(mine, weeks.now),
            watched.since if watched is not None and watched.state == "alarm" else None,
            watched is not None and watched.state == "within",
            next((row.reason for row in last if row.reason is not None), None),
            pooled=tuple(sorted({c[-1][1] for c, to in places.items() if to == cohort and c != to})),
            calm=_period(mine, weeks.calm),
        )


def _period(rows: Sequence[Row], windows: Sequence[str]) -> Period:
    place = {window: i for i, window in enumerate(windows)}
    sums = np.zeros((7, len(windows)))
    for row in rows:
        if row.window in place:
            size, escalated = _escalated(row)
            sums[:, place[row.window]] += (
                row.traffic, size, escalated, row.least_size, row.least, row.most_size, row.most,
            )  # fmt: skip
    return Period(*sums)


def _escalated(row: Row) -> tuple[float, float]:
    """Return decisions and those that escalated; where every signal was lost the rate is no estimate, but all escalated."""
    if row.escalation is None and row.escalated == row.decisions:
        return float(row.decisions), float(row.decisions)
    return row.escalation_size, (row.escalation or 0.0) * row.escalation_size


def standing(findings: Findings, cascade: str) -> tuple[Finding, ...]:
    """Return findings of one cascade that hold in its last week."""
    return tuple(one for one in findings.found if one.cascade == cascade and one.standing)
