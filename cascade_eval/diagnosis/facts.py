"""What was measured of one cascade, before anything is concluded from it: counts in a reference period and now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cascade_eval import bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cascade_eval.monitor import Cohort, Finding

    Floats = NDArray[np.float64]

OVERALL_DEFAULT: Final = 0.05
"""Disagreement allowed overall where a suite promises nothing."""

EACH_DEFAULT: Final = 0.10
"""The same for a cohort."""


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Period:
    """Some weeks of one cohort; each array has shape (weeks,).

    Parameters
    ----------
    traffic
        Weighted decisions.
    decisions, escalated
        Cases at the gates with a known path, and those the flagship settled, as plain cases.
    compared, disagreed
        Unescalated cases in plain cases, and the least of them that disagree: unknown ones counted as agreeing.
    most_size, most
        The same with unknown ones counted as disagreeing.
    cheap_size, cheap
        Cases with both the first tier's and the flagship's answer, escalated ones included, and those that agree.
    """

    traffic: Floats = field(default_factory=_none)
    decisions: Floats = field(default_factory=_none)
    escalated: Floats = field(default_factory=_none)
    compared: Floats = field(default_factory=_none)
    disagreed: Floats = field(default_factory=_none)
    most_size: Floats = field(default_factory=_none)
    most: Floats = field(default_factory=_none)
    cheap_size: Floats = field(default_factory=_none)
    cheap: Floats = field(default_factory=_none)

    def total(self, name: str) -> float:
        """Sum one of the arrays."""
        return float(getattr(self, name).sum())

    def rate(self, count: str, nobs: str) -> float:
        """Divide two sums; NaN without cases."""
        size = self.total(nobs)
        return self.total(count) / size if size else float("nan")

    @property
    def disagreement(self) -> float:
        """Least disagreement among compared cases."""
        return self.rate("disagreed", "compared")

    @property
    def escalation(self) -> float:
        """Escalated over decisions."""
        return self.rate("escalated", "decisions")


@dataclass(frozen=True)
class Overstated:
    """Calibrated confidence of kept cases against what it promised.

    Parameters
    ----------
    expected, observed
        Mean calibrated value, and share that agreed.
    nobs
        Kept cases with a known comparison.
    p
        One-sided p-value of "they agree as often as the calibration says".
    """

    expected: float
    observed: float
    nobs: float
    p: float


@dataclass(frozen=True, eq=False)
class CohortFacts:
    """What was measured of one cohort.

    Parameters
    ----------
    cohort
        Which; () is all cases.
    budget, assumed
        Disagreement allowed, and whether nobody promised it.
    before, now
        The reference period, empty where there is none, and the latest weeks.
    alarm
        First week of the standing alarm of its sequence; None where none stands.
    shown
        Whether the sequence shows it to be within its budget.
    reason
        Why its disagreement was not measured in the last week.
    covered
        Whether the stored calibration in use has seen it; None where there is none.
    overstated
        Where a stored calibration is in use.
    pooled
        Small cohorts judged together as this one.
    calm
        The latest weeks, of which those of now are the last, where nothing began inside cohorts; else empty.
    """

    cohort: Cohort
    budget: float
    assumed: bool
    before: Period
    now: Period
    alarm: str | None = None
    shown: bool = False
    reason: str | None = None
    covered: bool | None = None
    overstated: Overstated | None = None
    pooled: tuple[str, ...] = ()
    calm: Period = field(default_factory=Period)

    @property
    def family(self) -> tuple[str, ...]:
        """Columns of the cohort."""
        return tuple(column for column, _ in self.cohort)


@dataclass(frozen=True)
class Money:
    """Cost over always-flagship's.

    Parameters
    ----------
    ratio, low, high
        Now.
    before
        The same in the reference period: value, low, high.
    budget
        What the suite allows; None where it does not say.
    overhead, overhead_before
        The ratio less escalation: what is paid beside the flagship's calls.
    per_request
        Dollars; None where unknown.
    last, overhead_last
        The ratio in the last week alone, with its bounds, and its overhead; None where now is one week.
    """

    ratio: float
    low: float
    high: float
    before: tuple[float, float, float] | None = None
    budget: float | None = None
    overhead: float = 0.0
    overhead_before: float | None = None
    per_request: float | None = None
    last: tuple[float, float, float] | None = None
    overhead_last: float | None = None


@dataclass(frozen=True)
class Frontier:
    """A gate that is certified on the data at hand.

    Parameters
    ----------
    model
        Whose gate.
    threshold
        The laxest certified one; None where none is.
    target
        Disagreement it is certified for.
    escalation, ratio
        What it would escalate and cost, of always-flagship.
    low, high
        Bounds of `ratio`.
    reason
        Why none is certified.
    current, current_ratio
        The threshold and the cost of today, on the same cases.
    kept
        Whether no cohort is seen over its own budget at `threshold`.
    """

    model: str
    threshold: float | None
    target: float
    escalation: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    current: float | None = None
    current_ratio: float | None = None
    kept: bool = True


@dataclass(frozen=True)
class Feedback:
    """Something users or labels say about served answers, before and now, with the mix taken out.

    Parameters
    ----------
    name
        ``regenerated``, ``feedback``, ``completed``, ``flagship quality`` or ``served quality``.
    before, now
        Share of cases with the bad outcome.
    nobs_before, nobs
        Cases of which it is known.
    within, low, high
        Change inside cohorts, with bounds.
    """

    name: str
    before: float
    now: float
    nobs_before: int
    nobs: int
    within: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """What an audit cost, and what it guards.

    Parameters
    ----------
    drawn
        Unescalated cases the flagship was asked for the audit's sake.
    cost
        Dollars those calls cost.
    saved, saved_high
        Dollars the cascade saved in the same cases, before the audit, with its upper bound.
    """

    drawn: int
    cost: float
    saved: float
    saved_high: float


@dataclass(frozen=True, eq=False)
class Facts:
    """What was measured of one cascade.

    Parameters
    ----------
    cascade
        Its name.
    tiers
        Names of its tiers; one is always-flagship.
    confidence
        One minus the level of tests and bounds.
    windows, before, now
        Weeks there are rows of, in the reference period, and now; one window ``all`` for traffic without a time.
    cohorts
        All cases first, then members of every family.
    chosen
        How the gate was justified: ``calibration``, ``threshold`` (the data that chose it is named), or None.
    rests_on_judge
        Whether agreement is `judged`, or whether a judge gates.
    fixed
        Fixed sets that moved and still do.
    asked_again
        Kinds of fixed sets there are at least two weeks of.
    held_out
        Agreement on the held-out set in its first and last week, with the cases of the last.
    money, frontier, audit
        None where they could not be computed.
    feedback
        What users and labels say.
    without
        Disagreement now of a cohort without the cases of another: least, and cases.
    escalations
        Findings of the weekly monitor about escalation that stand.
    paying
        Another cascade of the suite that is within its budgets and cheaper than always-flagship: name and cost ratio.
    mixed
        Week from which other traffic arrived, where it is later than the first week of now.
    notes
        What was assumed.
    """

    cascade: str
    tiers: tuple[str, ...]
    confidence: float
    windows: tuple[str, ...]
    before: tuple[str, ...]
    now: tuple[str, ...]
    cohorts: tuple[CohortFacts, ...]
    chosen: Literal["calibration", "threshold"] | None = None
    rests_on_judge: Literal["agreement", "gate"] | None = None
    fixed: tuple[Finding, ...] = ()
    asked_again: frozenset[str] = frozenset()
    held_out: tuple[float, float, int] | None = None
    money: Money | None = None
    frontier: Frontier | None = None
    audit: Audit | None = None
    feedback: tuple[Feedback, ...] = ()
    without: Mapping[tuple[Cohort, Cohort], tuple[float, float]] = field(default_factory=dict)
    escalations: tuple[Finding, ...] = ()
    paying: tuple[str, float] | None = None
    mixed: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return bounds.alpha(self.confidence)

    @property
    def overall(self) -> CohortFacts:
        """All cases."""
        return self.cohorts[0]

    @property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """Cohort columns, in order."""
        return tuple(dict.fromkeys(one.family for one in self.cohorts if one.cohort))

    def of(self, family: tuple[str, ...]) -> tuple[CohortFacts, ...]:
        """Members of one family."""
        return tuple(one for one in self.cohorts if one.family == family)
