"""What a proposal says: plain frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cascade_eval import budgets

if TYPE_CHECKING:
    import datetime as dt

SCHEMA: Final = "cascade-eval/proposal/1"

SLICES: Final = 12
"""Cohorts of kept cases that are shown, worst first; JSON has all."""


@dataclass(frozen=True)
class Rate:
    """A share of cases with exact bounds.

    Parameters
    ----------
    cohort
        Whose, ``overall`` or ``language=fr``.
    count, nobs
        Disagreeing cases, and cases kept.
    rate, low, high
        The share, and bounds each at the suite's confidence by itself; None where nothing is kept.
    """

    cohort: str
    count: int
    nobs: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Part:
    """What could be certified for all cases or for one cohort.

    Parameters
    ----------
    cohort
        ``overall`` or ``language=fr``.
    delta
        Its share of the allowed error.
    nobs
        Labelled cases it rests on.
    threshold
        The laxest certified; None where none is.
    kept, disagreeing
        At that threshold.
    bound
        Upper bound of what was certified; at most the target.
    reason
        One sentence.
    needed
        Labelled cases that would probably suffice where nothing was certified; None where no number would, or beyond
        100,000.
    """

    cohort: str
    delta: float
    nobs: int
    threshold: float | None
    kept: int
    disagreeing: int
    bound: float | None
    reason: str
    needed: int | None = None


@dataclass(frozen=True)
class Threshold:
    """A proposed threshold, or none, with the reason.

    Parameters
    ----------
    suite, cascade, tier, signal
        Whose gate, and what it compares.
    target, delta, harm
        ``P(harm > target) <= delta``; harm is disagreement of kept cases, or joint harm of all traffic.
    per
        Columns in whose every cohort it has to hold; empty for overall.
    threshold
        The laxest that is certified wherever it was asked for; None where there is none.
    current
        The threshold in use.
    parts
        Overall, or each cohort.
    kept
        Cases the threshold keeps, with their disagreement.
    bound
        Upper bound of what was certified at this threshold, the largest of all cohorts; at most the target.
    escalation
        Predicted share of all traffic that reaches the flagship, with bounds; None without a threshold.
    escalation_now
        The same with the threshold in use.
    slices
        Disagreement of kept cases by cohort, the worst first.
    cases, gated, labelled, used
        All cases; those at this gate that stand for it; those of them compared with the flagship; those counted.
    data, data_sha256
        Which data.
    created_at
        When, with zone.
    notes
        What limits the promise.
    """

    suite: str
    cascade: str
    tier: str
    signal: str
    target: float
    delta: float
    harm: Literal["disagreement", "joint"]
    per: tuple[str, ...]
    threshold: float | None
    current: float | None
    parts: tuple[Part, ...]
    kept: Rate | None
    bound: float | None
    escalation: tuple[float | None, float | None, float | None] | None
    escalation_now: float | None
    slices: tuple[Rate, ...]
    cases: int
    gated: int
    labelled: int
    used: int
    data: str
    data_sha256: str
    created_at: dt.datetime
    notes: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the cases at the gate that were compared with the flagship."""
        return self.labelled / self.gated if self.gated else 0.0

    @property
    def reason(self) -> str:
        """One sentence about why this threshold, or none."""
        if len(self.parts) == 1:
            return self.parts[0].reason
        lost = [part.cohort for part in self.parts if part.threshold is None]
        if lost:
            return f"no threshold is certified in {', '.join(lost[:SLICES])}, so none is for every cohort"
        if self.threshold is None:
            return "each cohort has a certified threshold, and no single one is certified in all of them"
        each = budgets.show(self.parts[0].delta, "rate")
        return f"certified in each of {len(self.parts)} cohorts, each wrong with {each}"

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        found = {"schema": SCHEMA, **asdict(self), "coverage": self.coverage, "reason": self.reason}
        return found | {"created_at": self.created_at.isoformat()}
