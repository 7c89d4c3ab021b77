"""How escalation moved: each cohort by itself, and the whole split into mix and within-cohort change."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds, budgets, drift
from cascade_eval.monitor.nouns import Change, Cohort, Finding, Row, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LOOKS: Final = 52
"""Tests that do not stay valid by themselves are held to alpha over a year of weekly looks."""

SPAN: Final = 12
"""Weeks a trend looks back."""

REFERENCE: Final = 4
"""First complete weeks, which later ones are compared with."""

POINTS: Final = 0.05
"""A rule many dashboards use: escalation of all cases moved by more than this. Shown for comparison only."""


@dataclass(frozen=True, eq=False)
class Series:
    """Complete weeks of one cascade and family as whole arrays; tables are of shape (n_cohorts, n_weeks).

    Parameters
    ----------
    cascade, family, cohorts, windows
        What the axes are.
    weeks
        Position of each window in time, in weeks.
    count, nobs
        Escalated cases and cases at the gates, as plain cases; zero where a cohort has no known rate.
    traffic
        Weighted cases at the gates.
    """

    cascade: str
    family: tuple[str, ...]
    cohorts: tuple[Cohort, ...]
    windows: tuple[str, ...]
    weeks: Floats
    count: Floats
    nobs: Floats
    traffic: Floats


def series(cascade: str, family: tuple[str, ...], rows: Sequence[Row]) -> Series:
    """Put the production rows of one cascade side by side."""
    mine = [row for row in rows if row.family == family and row.complete]
    windows = tuple(sorted({row.window for row in rows if row.complete}))
    cohorts = tuple(sorted({row.cohort for row in mine}))
    count, nobs, traffic = (np.zeros((len(cohorts), len(windows))) for _ in range(3))
    place, when = {c: i for i, c in enumerate(cohorts)}, {w: i for i, w in enumerate(windows)}
    for row in mine:
        at = place[row.cohort], when[row.window]
        if row.escalation is not None:
            count[at], nobs[at], traffic[at] = row.escalation * row.escalation_size, row.escalation_size, row.traffic
    return Series(cascade, family, cohorts, windows, np.array([_number(w) for w in windows]), count, nobs, traffic)


def _number(window: str) -> float:
    """Count weeks through the turn of years."""
    year, week = window.split("-W")
    return dt.date.fromisocalendar(int(year), int(week), 1).toordinal() // 7


def moved(found: Series, alpha: float) -> Iterator[Finding]:
    """Find trends and sudden shifts of each cohort's own escalation, at every week one could have looked."""
    hits: dict[tuple[str, int], dict[int, tuple[float, float]]] = defaultdict(dict)
    for end in range(drift.WEEKS, len(found.windows) + 1):
        near = np.flatnonzero(found.weeks[:end] > found.weeks[end - 1] - SPAN)
        if len(near) < drift.WEEKS:
            continue
        count, nobs = found.count[:, near], found.nobs[:, near]
        middle = len(near) // 2
        for i in _significant(drift.trend(count, nobs, found.weeks[near]).p, alpha):
            hits["escalation trend", i][end - 1] = (
                _rate(count[i, :middle], nobs[i, :middle]),
                _rate(count[i, middle:], nobs[i, middle:]),
            )
        for i in _significant(drift.shift(count, nobs).p, alpha):
            hits["escalation shift", i][end - 1] = (
                _rate(count[i, :-1], nobs[i, :-1]),
                _rate(count[i, -1:], nobs[i, -1:]),
            )
    for (test, i), weeks in hits.items():
        yield from _episodes(found, test, found.cohorts[i], weeks)


def _significant(p: Floats, alpha: float) -> list[int]:
    hits: list[int] = np.flatnonzero(bounds.holm(p) <= alpha / LOOKS).tolist() if len(p) else []
    return hits


def _rate(count: Floats, nobs: Floats) -> float:
    return float(count.sum() / nobs.sum()) if nobs.sum() else float("nan")


def _episodes(found: Series, test: str, cohort: Cohort, weeks: dict[int, tuple[float, float]]) -> Iterator[Finding]:
    """Make one finding of each run of consecutive weeks."""
    runs: list[list[int]] = []
    for week in sorted(weeks):
        if runs and runs[-1][-1] == week - 1:
            runs[-1].append(week)
        else:
            runs.append([week])
    for run in runs:
        before, after = weeks[run[0]]
        first, standing = found.windows[run[0]], run[-1] == len(found.windows) - 1
        verb = "fell" if after < before else "rose"
        when = f"in {first}" if test == "escalation shift" else f"over the weeks to {first}"
        message = (
            f"{label(cohort)}: escalation {verb} from {budgets.show(before, 'rate')} to {budgets.show(after, 'rate')} "
            f"{when}, more than weeks differ by chance"
        )
        windows = tuple(found.windows[week] for week in run)
        evidence = {"before": before, "after": after}
        yield Finding(test, found.cascade, cohort, first, windows, standing, True, message, evidence)


def changes(found: Series, alpha: float, confidence: float) -> list[Change]:
    """Split the change of each complete week against the reference weeks."""
    made = []
    start = slice(0, REFERENCE)
    x0, n0, w0 = (table[:, start].sum(axis=1) for table in (found.count, found.nobs, found.traffic))
    if len(found.windows) <= REFERENCE or not w0.sum():
        return []
    rates = np.divide(found.count, found.nobs, out=np.full(found.count.shape, np.nan), where=found.nobs > 0)
    steady = drift.standardised(rates, w0)
    for week in range(REFERENCE, len(found.windows)):
        x1, n1, w1 = (table[:, week] for table in (found.count, found.nobs, found.traffic))
        if not w1.sum():
            continue
        split = drift.kitagawa(x0, n0, x1, n1, weight0=w0, weight1=w1, confidence=confidence)
        before, after = w0 / w0.sum(), w1 / w1.sum()
        # Where two cohorts trade places, the one that grew is named: its cases are the new ones.
        most = max(range(len(after)), key=lambda i: (round(abs(after[i] - before[i]), 9), after[i] - before[i]))
        mixed = _mixed(n0, n1) <= alpha / LOOKS
        largest = (found.cohorts[most], float(before[most]), float(after[most]))
        parts = split.total, split.within, split.mix, split.low, split.high, float(steady[week])
        made.append(Change(found.cascade, found.family, found.windows[week], *parts, mixed, largest))
    return made


def _mixed(n0: Floats, n1: Floats) -> float:
    """P-value of "the cohorts' shares are the same in both periods" (chi-squared)."""
    from scipy.stats import chi2

    table = np.stack([n0, n1])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(chi2.sf(((table - expected) ** 2 / expected).sum(), table.shape[1] - 1))


def mix_shift(split: Sequence[Change], windows: Sequence[str]) -> Iterator[Finding]:
    """Say when other traffic arrived, and what it alone did to escalation."""
    mixed = [change for change in split if change.mixed]
    if not mixed:
        return
    last = mixed[-1]
    cohort, before, after = last.largest
    steady = "did not measurably change" if last.low <= 0 <= last.high else f"moved it by {_points(last.within)}"
    message = (
        f"{label(cohort)} went from {budgets.show(before, 'rate')} to {budgets.show(after, 'rate')} of the decisions: the mix "
        f"alone moves escalation by {_points(last.mix)}, and cohorts themselves {steady} "
        f"({_points(last.low).removesuffix(' points')} to {_points(last.high)})"
    )
    weeks = tuple(change.window for change in mixed)
    standing = last.window == windows[-1]
    evidence = {"total": last.total, "within": last.within, "mix": last.mix, "low": last.low, "high": last.high}
    yield Finding("mix shift", last.cascade, cohort, weeks[0], weeks, standing, False, message, evidence)


def explained(found: Sequence[Finding], split: Sequence[Change]) -> Iterator[Finding]:
    """Take the alarm off movements of one family that other traffic by another family explains.

    New Portuguese requests, harder than the rest, raise the escalation of every department they go to, and no department
    has changed. A movement is explained where the shares of another family changed in its first week, that family's
    cohorts did not, and the mix alone moved all cases the same way and at least half as far.
    """
    quiet = [change for change in split if change.mixed and change.low <= 0 <= change.high]
    for finding in found:
        by = next((change for change in quiet if _explains(change, finding)), None)
        if by is None:
            yield finding
            continue
        message = (
            f"{finding.message}; the new mix of {', '.join(by.family)} explains it ({_points(by.mix)} of all cases)"
        )
        yield replace(finding, alarm=False, message=message)


def _explains(change: Change, finding: Finding) -> bool:
    if not finding.test.startswith("escalation") or finding.cascade != change.cascade:
        return False
    own = {column for column, _ in finding.cohort}
    step = finding.evidence["after"] - finding.evidence["before"]
    return (
        own.isdisjoint(change.family)
        and change.window == finding.first
        and change.mix * step > 0
        and abs(step) <= 2 * abs(change.mix)
    )


def _points(value: float) -> str:
    return budgets.show(value, "points")


def aggregate_rule(found: Series) -> Iterator[Finding]:
    """Say when escalation of all cases first differed from the first complete week's by more than five points."""
    nobs = found.nobs[0] if len(found.nobs) else np.zeros(0)
    if len(nobs) < 2 or not nobs[0]:
        return
    rates = np.divide(found.count[0], nobs, out=np.full(len(nobs), np.nan), where=nobs > 0)
    over = np.flatnonzero(np.abs(rates - rates[0]) > POINTS).tolist()
    if not over:
        return
    weeks = tuple(found.windows[week] for week in over)
    message = (
        f"overall: escalation moved from {budgets.show(float(rates[0]), 'rate')} to {budgets.show(float(rates[over[0]]), 'rate')}, "
        "which a rule of five points would report; it cannot tell other traffic from another cascade"
    )
    evidence = {"before": float(rates[0]), "after": float(rates[over[0]])}
    standing = over[-1] == len(rates) - 1
    yield Finding("aggregate rule", found.cascade, (), weeks[0], weeks, standing, False, message, evidence)
