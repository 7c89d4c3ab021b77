"""What a proposal says: plain frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cascade_eval import budgets

if TYPE_CHECKING:
    import datetime as dt

SCHEMA: Final = "cascade-eval/proposal/1"

SLICES: Final = 12
"""Cohorts of kept cases that are shown, worst first, and points of a front; JSON has all."""

Estimated = tuple[float | None, float | None, float | None]
"""A value with its bounds."""


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
        The certified one that keeps most; None where none is.
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
        The one that keeps most among those certified wherever it was asked for; None where there is none.
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
    chosen_on
        Sketch of the cases at this gate, which a suite keeps beside the threshold.
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
    escalation: Estimated | None
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
    chosen_on: str | None = None

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
        return f"certified in each of {len(self.parts)} cohorts, each with a chance of {each} to be wrong"

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        found = {"schema": SCHEMA, **asdict(self), "coverage": self.coverage, "reason": self.reason}
        return found | {"created_at": self.created_at.isoformat()}


@dataclass(frozen=True)
class Escalation:
    """A threshold for a share to escalate, and what its ties take.

    Parameters
    ----------
    suite, cascade, tier, signal
        Whose gate, and what it compares.
    at
        Share of the cases at this gate to escalate.
    threshold, current
        Proposed, and in use.
    share
        Share of the cases exactly at the threshold that have to escalate as well.
    tied, missing
        Share of the cases at the gate that are exactly at the threshold, and that have no value and so escalate.
    plain, split
        Share that escalates with a plain gate, which settles ties, and with the tied cases split.
    key
        Of the hash that splits them, which `thresholds.Target.escalates` describes.
    escalation, disagreement
        Predicted of all traffic with a plain gate, with bounds.
    escalation_now, disagreement_now
        The same with the threshold in use.
    cases, gated
        All cases, and those at this gate.
    data, data_sha256
        Which data.
    created_at
        When, with zone.
    notes
        What limits it.
    """

    suite: str
    cascade: str
    tier: str
    signal: str
    at: float
    threshold: float
    current: float | None
    share: float
    tied: float
    missing: float
    plain: float
    split: float
    key: str
    escalation: Estimated
    disagreement: Estimated
    escalation_now: float | None
    disagreement_now: float | None
    cases: int
    gated: int
    data: str
    data_sha256: str
    created_at: dt.datetime
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {"schema": SCHEMA, **asdict(self), "created_at": self.created_at.isoformat()}


@dataclass(frozen=True)
class Point:
    """One pair of thresholds on a front: what all cases say it would do, which chooses nothing.

    Parameters
    ----------
    thresholds
        Of the first and the second gate.
    escalation, disagreement, cost
        Shares of all traffic and of kept cases, and the ratio to always-flagship; None where unknown.
    high
        Upper bound of the disagreement by itself.
    """

    thresholds: tuple[float, float]
    escalation: float | None
    disagreement: float | None
    high: float | None
    cost: float | None


@dataclass(frozen=True)
class Pair:
    """Two proposed thresholds, or none, with the reason.

    Parameters
    ----------
    suite, cascade, tiers, signals
        Whose gates, and what they compare.
    target, delta, per
        As in `Threshold`.
    thresholds, current
        The cheapest certified pair, None where there is none; and the one in use.
    reason
        One sentence.
    parts
        Overall, or each cohort; `threshold` is None, and `kept` and `disagreeing` are at the proposed pair.
    kept, slices
        Cases the pair keeps with their disagreement, and the same by cohort, the worst first.
    bound
        Upper bound of what was certified, the largest of all cohorts; at most the target.
    escalation, cost
        Predicted of all traffic with bounds; None without a pair.
    escalation_now, cost_now
        The same with the thresholds in use.
    front
        The pairs no other pair beats in cost (or escalation, where costs are unknown) and disagreement, cheapest first.
    cases, gated, labelled, used
        As in `Threshold`; at either gate.
    data, data_sha256
        Which data.
    created_at
        When, with zone.
    notes
        What limits the promise.
    chosen_on
        Sketch of the cases at each gate, which a suite keeps beside the thresholds.
    """

    suite: str
    cascade: str
    tiers: tuple[str, str]
    signals: tuple[str, str]
    target: float
    delta: float
    per: tuple[str, ...]
    thresholds: tuple[float, float] | None
    current: tuple[float | None, float | None]
    reason: str
    parts: tuple[Part, ...]
    kept: Rate | None
    slices: tuple[Rate, ...]
    bound: float | None
    escalation: Estimated | None
    cost: Estimated | None
    escalation_now: float | None
    cost_now: float | None
    front: tuple[Point, ...]
    cases: int
    gated: int
    labelled: int
    used: int
    data: str
    data_sha256: str
    created_at: dt.datetime
    notes: tuple[str, ...] = ()
    chosen_on: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the cases at either gate that were compared with the flagship."""
        return self.labelled / self.gated if self.gated else 0.0

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        found = {"schema": SCHEMA, **asdict(self), "coverage": self.coverage}
        return found | {"created_at": self.created_at.isoformat()}
