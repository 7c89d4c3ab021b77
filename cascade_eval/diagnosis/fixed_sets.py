"""Sets whose answers do not change: which of them moved, by single weeks and by weeks since something changed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import budgets, monitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.diagnosis.periods import Split
    from cascade_eval.monitor import Cohort, Finding, Findings, Row


def moved(findings: Findings, cascade: str, rows: Sequence[Row], weeks: Split, alpha: float) -> Iterator[Finding]:
    """Yield fixed sets that moved and have not come back.

    Parameters
    ----------
    findings
        Of the weekly monitor, which holds every week against the first.
    cascade, rows
        Whose rows, fixed sets among them.
    weeks
        The reference period and now: single weeks may be too small to tell, and both periods are held against each other.
    alpha
        Level of the latter, for all sets together.
    """
    sets: dict[tuple[str, Cohort], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.window):
        if row.kind != "production" and row.reason is None and row.answered:
            sets[f"fixed set: {row.kind}", row.cohort].append(row)
    seen = {
        (one.test, one.cohort): one
        for one in findings.found
        if one.cascade == cascade and (one.test, one.cohort) in sets and _lasts(one, sets[one.test, one.cohort][-1])
    }
    for (test, cohort), mine in sets.items():
        if (test, cohort) in seen:
            yield seen[test, cohort]
        else:
            yield from _by_period(test, mine, weeks, alpha / len(sets))


def _lasts(finding: Finding, last: Row) -> bool:
    """Whether the last week shows it by itself, or two weeks did and the last is nearer to them than to the first."""
    return finding.standing or (len(finding.windows) > 1 and _stays(last, **finding.evidence))


def _stays(last: Row, before: float, after: float) -> bool:
    rate = last.agreed / last.answered
    return abs(rate - after) < abs(rate - before)


def _by_period(test: str, rows: Sequence[Row], weeks: Split, alpha: float) -> Iterator[Finding]:
    from scipy.stats import fisher_exact

    sides = [[row for row in rows if row.window in windows] for windows in (weeks.before, weeks.now)]
    (x0, n0), (x1, n1) = ((sum(row.agreed for row in side), sum(row.answered for row in side)) for side in sides)
    # The same cases are asked again, so weeks lie closer together than the test expects: it errs on the quiet side.
    if not (n0 and n1) or fisher_exact(np.array([[x0, n0 - x0], [x1, n1 - x1]])).pvalue > alpha:
        return
    if not _stays(rows[-1], x0 / n0, x1 / n1):
        return
    what = "agreement with the flagship" if test.endswith("held-out") else "the judge's agreement with the known grades"
    message = (
        f"{monitor.label(rows[0].cohort)}: on the fixed set, {what} went from {budgets.show(x0 / n0, 'rate')} before to "
        f"{budgets.show(x1 / n1, 'rate')} since {sides[1][0].window} (n={n0:,} and {n1:,})"
    )
    windows = tuple(row.window for row in sides[1])
    evidence = {"before": x0 / n0, "after": x1 / n1}
    yield monitor.Finding(test, rows[0].cascade, rows[0].cohort, windows[0], windows, True, True, message, evidence)
