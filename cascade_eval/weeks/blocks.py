"""What evidence shows of weeks: plain values, few enough for a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import sequential

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.monitor import Cohort, Finding, Findings, Row, Watched

WEEKS: Final = 52
"""Last weeks that evidence keeps."""

COHORTS: Final = 40
"""Cohorts of a cascade that evidence keeps."""

_STATES: Final = ("alarm", "not measured", "open", "within")


def blocks(rows: Sequence[Row], findings: Findings) -> dict[str, Any]:
    """Return weeks, sequences and movements as evidence holds them.

    Parameters
    ----------
    rows
        Of one suite.
    findings
        From `monitor.judge`, of these rows.

    Returns
    -------
    dict
        ``weeks``, ``sequences`` and ``movements``. At most the last 52 weeks, and the 40 cohorts of each cascade that
        need most attention; what was left out is said.
    """
    production = [row for row in rows if row.kind == "production"]
    kept: set[tuple[str, Cohort]] = set()
    cut: list[str] = []
    shown: dict[str, frozenset[str]] = {}
    for cascade, windows in findings.windows.items():
        ordered = _cohorts(cascade, [row for row in production if row.cascade == cascade], findings)
        kept |= {(cascade, cohort) for cohort in ordered[:COHORTS]}
        shown[cascade] = frozenset(windows[-WEEKS:])
        cut += _cut(cascade, len(ordered), len(windows))
    return {
        "weeks": {
            "rows": [
                _week(row)
                for row in production
                if (row.cascade, row.cohort) in kept and row.window in shown[row.cascade]
            ],
            "cut": cut,
            "notes": list(findings.notes),
        },
        "sequences": [_sequence(one) for one in findings.sequences if (one.cascade, one.cohort) in kept],
        "movements": [_movement(one) for one in findings.found[: 5 * COHORTS]],
    }


def _cohorts(cascade: str, rows: Sequence[Row], findings: Findings) -> list[Cohort]:
    """Cohorts of a cascade, all cases first and then what needs most attention."""
    state = {one.cohort: _STATES.index(one.state) for one in findings.sequences if one.cascade == cascade}
    moved = {one.cohort for one in findings.found if one.cascade == cascade and one.standing}
    size: dict[Cohort, int] = dict.fromkeys(state, 0)
    for row in rows:
        size[row.cohort] = row.decisions
    return sorted(size, key=lambda c: (c != (), state.get(c, 9) > 0, c not in moved, state.get(c, 9), -size[c], c))


def _cut(cascade: str, cohorts: int, windows: int) -> Iterator[str]:
    if cohorts > COHORTS:
        yield f"{cascade}: {cohorts - COHORTS:,} of {cohorts:,} cohorts are left out, those that need attention are kept"
    if windows > WEEKS:
        yield f"{cascade}: {windows - WEEKS:,} earlier weeks are left out"


def _week(row: Row) -> dict[str, Any]:
    names = (
        "cascade", "window", "complete", "cases", "decisions", "share", "escalation", "escalation_low", "escalation_high",
        "kept", "compared", "disagreed", "disagreement", "disagreement_low", "disagreement_high", "cost_per_request",
        "latency_p95", "reason",
    )  # fmt: skip
    return {"cohort": dict(row.cohort), **{name: getattr(row, name) for name in names}}


def _sequence(one: Watched) -> dict[str, Any]:
    windows = one.windows[-WEEKS:]
    return {
        "cascade": one.cascade,
        "cohort": dict(one.cohort),
        "budget": one.budget,
        "alarm_at": sequential.ALARM,
        "windows": list(windows),
        "log_m": [value if math.isfinite(value) else None for value in one.log_m[-WEEKS:]],
        "alarms": [window for window in one.alarms if window in windows],
        "first": one.first,
        "since": one.since,
        "state": one.state,
        "reason": one.reason,
    }


def _movement(one: Finding) -> dict[str, Any]:
    names = ("test", "cascade", "first", "standing", "alarm", "message")
    return {
        "cohort": dict(one.cohort),
        **{name: getattr(one, name) for name in names},
        "windows": list(one.windows[-WEEKS:]),
        "evidence": dict(one.evidence),
    }
