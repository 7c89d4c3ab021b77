"""A week of one cohort under one cascade, and what is said about many of them: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from cascade_eval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["production", "held-out", "judge"]
"""Where a row's cases come from: live traffic, or a fixed set that is asked again each week."""

Cohort: TypeAlias = tuple[tuple[str, str], ...]
"""Value by column, in the order of the family; () is all cases."""

KINDS: tuple[Kind, ...] = ("production", "held-out", "judge")


@dataclass(frozen=True)
class Row:
    """One week, cohort and cascade: counts, and the numbers a chart shows.

    Parameters
    ----------
    suite, cascade
        Whose row it is.
    kind
        Live traffic, or a fixed set.
    window
        ISO week in UTC, such as ``2026-W28``.
    cohort
        Which cases.
    complete
        Whether the traffic reaches over the whole week; partial first and last weeks stay out of trends.
    cases
        Requests, those a cache answered included.
    decisions, escalated
        Cases that came to a gate, and those of them the flagship settled; raw counts.
    escalation, escalation_low, escalation_high
        The rate with its bounds; None where it was not measured.
    escalation_size
        Plain cases the escalation rate is worth: `decisions` where cases are equal and independent.
    traffic
        Weighted decisions: what shares are computed from.
    share
        Of the cascade's decisions in this week.
    kept
        Unescalated cases.
    compared, disagreed
        Unescalated cases whose comparison with the flagship is known, and those that disagree; raw counts.
    disagreement, disagreement_low, disagreement_high
        The rate with its bounds; None where it was not measured.
    least, least_size, most, most_size
        Disagreements in how many plain cases: the least and the most that unknown comparisons allow.
    cost_per_request, cost_ratio
        Dollars per case, and cost over always-flagship's; None where unknown.
    latency_p50, latency_p95
        Seconds; None where unknown.
    regenerated, regeneration_known
        Answers after which the user asked again, and answers of which that is known.
    feedback_bad, feedback_known
        Cases with bad feedback, and cases with any.
    completed_bad, completed_known
        Cases of tasks that were not completed, and cases of which it is known.
    label_bad, label_known
        Served answers that are not what was `expected`, and those of which it is known; graded ones are in neither.
    agreed, answered
        On fixed sets: answers that agree with the reference, and answers that were compared.
    reason
        Why disagreement (on fixed sets: agreement) was not measured; None where it was.
    routed
        Cases that a route sent to the flagship at once; raw count.
    definition
        Hash of the cascade and of the rule of agreement the week was measured under; None where nobody knows.
    origin
        The suite's file from the root of its repository; None outside of one.
    """

    suite: str
    cascade: str
    kind: Kind
    window: str
    cohort: Cohort
    complete: bool = True
    cases: int = 0
    decisions: int = 0
    escalated: int = 0
    escalation: float | None = None
    escalation_low: float | None = None
    escalation_high: float | None = None
    escalation_size: float = 0.0
    traffic: float = 0.0
    share: float | None = None
    kept: int = 0
    compared: int = 0
    disagreed: int = 0
    disagreement: float | None = None
    disagreement_low: float | None = None
    disagreement_high: float | None = None
    least: float = 0.0
    least_size: float = 0.0
    most: float = 0.0
    most_size: float = 0.0
    cost_per_request: float | None = None
    cost_ratio: float | None = None
    latency_p50: float | None = None
    latency_p95: float | None = None
    regenerated: int = 0
    regeneration_known: int = 0
    agreed: int = 0
    answered: int = 0
    reason: str | None = None
    routed: int = 0
    definition: str | None = None
    origin: str | None = None
    feedback_bad: int = 0
    feedback_known: int = 0
    completed_bad: int = 0
    completed_known: int = 0
    label_bad: int = 0
    label_known: int = 0

    @property
    def key(self) -> tuple[str, str, str, str, Cohort]:
        """What a history holds one row of: suite, cascade, kind, window and cohort."""
        return self.suite, self.cascade, self.kind, self.window, self.cohort

    @property
    def family(self) -> tuple[str, ...]:
        """Columns of the cohort."""
        return tuple(column for column, _ in self.cohort)


def label(cohort: Cohort) -> str:
    """Write a cohort as ids and budgets do.

    Examples
    --------
    >>> label((("language", "pt"),)), label(())
    ('language=pt', 'overall')
    """
    return ",".join(f"{column}={value}" for column, value in cohort) or "overall"


def check_week(text: str) -> str:
    """Return an ISO week, or raise UsageError where the calendar has none such.

    Examples
    --------
    >>> check_week("2026-W53")
    '2026-W53'
    >>> check_week("2026-28")
    Traceback (most recent call last):
    cascade_eval.errors.UsageError: '2026-28' is not an ISO week. Write it as '2026-W28'.
    """
    import datetime as dt

    year, separator, week = text.partition("-W")
    try:
        dt.date.fromisocalendar(int(year), int(week), 1)
    except ValueError:
        separator = ""
    if not separator or len(week) != 2:
        raise UsageError(f"'{text}' is not an ISO week. Write it as '2026-W28'.")
    return text


@dataclass(frozen=True)
class Watched:
    """A disagreement budget watched in one cohort.

    Parameters
    ----------
    cascade, cohort, budget
        What is watched: at most this rate, in natural units.
    windows
        Weeks there are rows of.
    log_m
        Restarted evidence over the budget after each week, held at the alarm.
    alarms
        Weeks in which the alarm stands.
    first
        First week of alarm; None where there was none.
    state
        In the last week of the cascade: ``alarm``, ``within`` (shown to be within budget), ``open`` (neither), or
        ``not measured``.
    reason
        Why it was not measured; None where it was.
    proof
        Weeks that `within` and `open` rest on: at most the last eight of the calendar, since any alarm, and measured under
        the definition of the last one.
    """

    cascade: str
    cohort: Cohort
    budget: float
    windows: tuple[str, ...]
    log_m: tuple[float, ...]
    alarms: tuple[str, ...]
    first: str | None
    state: Literal["alarm", "within", "open", "not measured"]
    reason: str | None = None
    proof: tuple[str, ...] = ()

    @property
    def since(self) -> str | None:
        """First week of the latest alarm; None where there was none."""
        if not self.alarms:
            return None
        start = self.windows.index(self.alarms[-1])
        while start and self.windows[start - 1] in self.alarms:
            start -= 1
        return self.windows[start]


@dataclass(frozen=True)
class Change:
    """How a week's escalation differs from the reference weeks', split.

    Parameters
    ----------
    cascade, family, window
        Which series, over which cohorts, in which week.
    total, within, mix
        In points as fractions; `within` plus `mix` is `total`.
    low, high
        Bounds of `within`.
    standardised
        The week's escalation with the mix of the reference weeks.
    mixed
        Whether the shares of cohorts changed more than a year of weekly looks would show by chance.
    largest
        The cohort whose share changed most, with its share before and now.
    """

    cascade: str
    family: tuple[str, ...]
    window: str
    total: float
    within: float
    mix: float
    low: float
    high: float
    standardised: float
    mixed: bool
    largest: tuple[Cohort, float, float]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing.

    Parameters
    ----------
    test
        ``disagreement``, ``escalation trend``, ``escalation shift``, ``fixed set``, ``mix shift`` or ``aggregate rule``.
    cascade, cohort
        Where.
    first, windows
        First week it was found in, and all of them.
    standing
        Whether it holds in the last week.
    alarm
        Whether it is an alarm; a mix shift and the aggregate rule are not.
    message
        One sentence.
    evidence
        The numbers behind it.
    """

    test: str
    cascade: str
    cohort: Cohort
    first: str
    windows: tuple[str, ...]
    standing: bool
    alarm: bool
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def jump(self) -> bool:
        """Whether a cohort's own escalation jumped: what it was before does not vouch for what it is."""
        return self.alarm and self.test == "escalation shift"


@dataclass(frozen=True)
class Findings:
    """What the weeks say.

    Parameters
    ----------
    found
        Alarms first, then by week.
    sequences
        Every disagreement budget in every cohort it names.
    changes
        Splits of the escalation of each complete week against the reference weeks.
    windows
        Weeks there are rows of, by cascade.
    notes
        What could not be looked at, and what an alarm promises.
    """

    found: tuple[Finding, ...]
    sequences: tuple[Watched, ...] = ()
    changes: tuple[Change, ...] = ()
    windows: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Alarms that stand in the last week."""
        return tuple(finding for finding in self.found if finding.alarm and finding.standing)

    @property
    def outcome(self) -> Literal["alarm", "quiet", "undecided"]:
        """``alarm`` where one stands; ``quiet`` where no alarm stands and something was decided; else ``undecided``.

        A cascade is decided when at least one of its disagreement budgets was shown to hold in the last weeks, none that
        speaks of all its cases was left unmeasured, and none of its cohorts is among `suspicions`.
        """
        if self.alarms:
            return "alarm"
        decided = self.windows and all(self._decided(cascade) for cascade in self.windows) and not self.suspicions
        return "quiet" if decided else "undecided"

    @property
    def suspicions(self) -> tuple[Watched, ...]:
        """Promises not shown to hold in cohorts whose own escalation once jumped: the jump ends, its cause may not have."""
        jumped = {(finding.cascade, finding.cohort) for finding in self.found if finding.jump}
        return tuple(
            sequence
            for sequence in self.sequences
            if (sequence.cascade, sequence.cohort) in jumped and sequence.state in {"open", "not measured"}
        )

    def _decided(self, cascade: str) -> bool:
        mine = [sequence for sequence in self.sequences if sequence.cascade == cascade]
        blind = any(sequence.state == "not measured" and not sequence.cohort for sequence in mine)
        return not blind and any(sequence.state == "within" for sequence in mine)

    def first(self, test: str, cohort: Mapping[str, str] | None = None) -> str | None:
        """Return the first week a test found something in, of any cohort or of one; None where it never did."""
        wanted = None if cohort is None else tuple(cohort.items())
        weeks = [f.first for f in self.found if f.test == test and (wanted is None or f.cohort == wanted)]
        return min(weeks, default=None)
