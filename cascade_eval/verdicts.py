"""Estimates and verdicts: judged with exact bounds, and explained in words.

An `Estimate` is a value with its counts and bounds. Comparing it with a number gives a `Verdict`: **pass** when the
data prove the promise, **fail** when they refute it, **inconclusive** otherwise. An inconclusive verdict has no truth
value; asking for it raises `Inconclusive`.

A verdict passes when ``p_pass <= alpha``, without correction, because a run passes only if every verdict does
(intersection-union: Berger, Technometrics 24, 1982). It fails when the Holm-adjusted ``p_fail <= alpha`` within its
family, the cohorts of one budget line, so that the chance of any false failure in a family is at most alpha (Holm,
Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
import numbers
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from cascade_eval import bounds, budgets, sample_sizes
from cascade_eval.basis import Basis, Binomial, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Outcome = Literal["pass", "fail", "inconclusive"]

_KEPT: ContextVar[list[Verdict] | None] = ContextVar("verdicts made by comparison", default=None)


_ASKED: ContextVar[list[Verdict] | None] = ContextVar("verdicts asked whether they are true", default=None)


@contextmanager
def keeping(made: list[Verdict], asked: list[Verdict] | None = None) -> Iterator[list[Verdict]]:
    """Collect every verdict that comparisons make inside the block, in order.

    Parameters
    ----------
    made
        The list they are added to.
    asked
        Gets those of them whose truth was asked for, as `assert` does; a comparison nobody asked about promises nothing.

    Examples
    --------
    >>> with keeping([]) as made:
    ...     ok = rate("disagreement", 1, 200) <= 0.05
    >>> [verdict.outcome for verdict in made]
    ['pass']
    """
    tokens = _KEPT.set(made), _ASKED.set(asked)
    try:
        yield made
    finally:
        _KEPT.reset(tokens[0])
        _ASKED.reset(tokens[1])


class Inconclusive(Exception):  # noqa: N818  it is not an error: it is the third outcome of a comparison
    """Raised when an inconclusive verdict is asked whether it is true; carries the `verdict`."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@dataclass(frozen=True)
class Estimate:  # noqa: PLW1641  the decorator gives it a hash of the fields it compares
    """A number with what it rests on.

    Parameters
    ----------
    metric
        What was measured.
    value, low, high
        Point estimate and one-sided bounds at the suite's confidence on each side; None where unknown.
    count, nobs
        Raw integers: cases with the property, cases looked at. None where the metric has no such count.
    method
        How the bounds were computed.
    unit
        ``rate``, ``ratio``, ``points``, ``seconds``, ``dollars`` or ``days``.
    estimated
        False, or the share of cases whose always-flagship cost had to be estimated.
    reason
        Why there is no value, or why the value cannot be judged; None where all is well.
    blocked
        The promise could not be measured: an inconclusive verdict that no option excuses.
    basis
        What it is tested by.
    effective
        Sample size the bounds used, below `nobs` where cases are weighted or clustered.
    family
        The same metric of the sibling cohorts, this one included; called when a verdict is asked for.
    setting
        Confidence, cohort and origin of the estimate, for verdicts made by comparison in Python.
    """

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    nobs: int | None = None
    method: str = "exact"
    unit: str = "rate"
    estimated: float | Literal[False] = False
    reason: str | None = None
    blocked: bool = False
    basis: Basis | None = field(default=None, repr=False, compare=False)
    effective: float | None = field(default=None, repr=False)
    family: Callable[[], Sequence[Estimate]] | None = field(default=None, repr=False, compare=False)
    setting: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __le__(self, other: float) -> Verdict:
        return self._compare(None, other)

    def __ge__(self, other: float) -> Verdict:
        return self._compare(other, None)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, numbers.Real):
            raise TypeError(
                f"an estimate has bounds and equals no number; compare it: {self.metric} <= {other}, or its .value"
            )
        if not isinstance(other, Estimate):
            return NotImplemented
        compared = [one.name for one in fields(self) if one.compare]
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    def __lt__(self, other: object) -> NoReturn:
        raise TypeError(f"a promise includes its bound; write {self.metric} <= {other} or >= {other}")

    __gt__ = __lt__

    def __bool__(self) -> bool:
        raise TypeError(f"an estimate is neither true nor false; compare it: {self.metric} <= 0.05")

    def __float__(self) -> float:
        if self.value is None:
            # NaN is above no limit, and `not estimate > limit` would hold of what nobody knows.
            raise TypeError(f"{self.metric} is unknown: {self.reason}")
        return float(self.value)

    def within(self, low: float, high: float) -> Verdict:
        """Promise that the truth lies between two numbers, both included.

        Parameters
        ----------
        low, high
            In the metric's natural unit: rates as fractions, latency in seconds.
        """
        return self._compare(low, high)

    def _compare(self, low: float | None, high: float | None) -> Verdict:
        bound = budgets.make(low, high, self.unit)
        siblings = list(self.family()) if self.family is not None else [self]
        here = next((i for i, sibling in enumerate(siblings) if sibling.setting == self.setting), None)
        if here is None:
            siblings, here = [self], 0
        judged = judge(siblings, bound, confidence=self.setting.get("confidence", 0.95))
        verdict = replace(
            judged[here],
            cohort=dict(self.setting.get("cohort", {})),
            inconclusive=self.setting.get("inconclusive", "fail"),
        )
        kept = _KEPT.get()
        if kept is not None:
            kept.append(verdict)
        return verdict

    def record(self) -> dict[str, Any]:
        """Return the estimate as evidence stores it."""
        return {
            "value": self.value,
            "low": _finite(self.low),
            "high": _finite(self.high),
            "count": self.count,
            "nobs": self.nobs,
            "method": self.method,
            "estimated": self.estimated,
            "unit": self.unit,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.metric} unknown: {self.reason}"
        text = budgets.show(self.value, self.unit)
        if self.low is not None and self.high is not None and math.isfinite(self.low) and math.isfinite(self.high):
            text += f" ({budgets.show(self.low, self.unit)} to {budgets.show(self.high, self.unit)})"
        return f"{text}, n={self.nobs:,}" if self.nobs is not None else text


@dataclass(frozen=True)
class Verdict:
    """A promise, judged.

    Parameters
    ----------
    metric, cohort, scope
        What was promised, for which cases, and the scope as written.
    bound
        The promise.
    outcome
        ``pass``, ``fail`` or ``inconclusive``.
    not_measured
        Inconclusive because nothing, or too little, could be measured; no option excuses it.
    estimate
        What was measured.
    p_pass, p_fail, p_holm
        P-values of the two tests, and the adjusted one of the second.
    family
        Number of cohorts looked at together.
    reason
        One sentence.
    cases_to_decide
        How many more cases would decide, None when more cases would not or more than 100,000 would be needed.
    smallest_excess
        Smallest true rate over the budget that this much data would have noticed with power 0.8.
    advice
        What would fix it, computed; None where nothing is known.
    file, line
        Where it was promised.
    test
        Node id of the test that promised it, for verdicts from Python.
    inconclusive
        The policy it was judged under.
    """

    metric: str
    bound: budgets.Bound
    outcome: Outcome
    estimate: Estimate
    reason: str
    not_measured: bool = False
    p_pass: float | None = None
    p_fail: float | None = None
    p_holm: float | None = None
    family: int = 1
    cases_to_decide: int | None = None
    smallest_excess: float | None = None
    cohort: Mapping[str, str] = field(default_factory=dict)
    scope: str = "overall"
    advice: str | None = None
    file: str | None = None
    line: int | None = None
    test: str | None = None
    inconclusive: Literal["fail", "warn"] = "fail"

    def __bool__(self) -> bool:
        asked = _ASKED.get()
        if asked is not None:
            asked.append(self)
        if self.outcome == "inconclusive":
            raise Inconclusive(self)
        return self.outcome == "pass"

    @property
    def warned(self) -> bool:
        """Inconclusive for want of cases, and the suite says that is only worth a warning."""
        return self.outcome == "inconclusive" and not self.not_measured and self.inconclusive == "warn"

    @property
    def headline(self) -> str:
        """The verdict in one short line, such as ``15.9% > 10% (n=314)``."""
        if self.not_measured or self.estimate.value is None:
            return f"not measured: {self.reason}"
        value = budgets.show_against(self.estimate.value, self.bound)
        nobs = "" if self.estimate.nobs is None else f" (n={self.estimate.nobs:,})"
        if self.outcome == "fail":
            sign, limit = self._crossed()
            return f"{value} {sign} {limit}{nobs}"
        if self.outcome == "pass":
            return f"{value} is within {self.bound.plain}{nobs}"
        return f"{value}, {self.bound.plain} neither proven nor refuted{nobs}"

    def _crossed(self) -> tuple[str, str]:
        value = self.estimate.value
        assert value is not None
        if self.bound.high is not None and (self.bound.low is None or value > self.bound.low):
            return ">", budgets.show(self.bound.high, self.bound.unit)
        assert self.bound.low is not None
        return "<", budgets.show(self.bound.low, self.bound.unit)

    def record(self) -> dict[str, Any]:
        """Return the verdict as evidence stores it."""
        return {
            "metric": self.metric,
            "cohort": dict(self.cohort),
            "scope": self.scope,
            "bound": str(self.bound),
            "low": self.bound.low,
            "high": self.bound.high,
            "outcome": self.outcome,
            "warned": self.warned,
            "not_measured": self.not_measured,
            "estimate": self.estimate.record(),
            "p_pass": self.p_pass,
            "p_fail": self.p_fail,
            "p_holm": self.p_holm,
            "family": self.family,
            "reason": self.reason,
            "cases_to_decide": self.cases_to_decide,
            "smallest_excess": self.smallest_excess,
            "advice": self.advice,
            "file": self.file,
            "line": self.line,
            "test": self.test,
        }


def judge(estimates: Sequence[Estimate], bound: budgets.Bound, *, confidence: float = 0.95) -> list[Verdict]:
    """Judge one budget line over its cohorts.

    Parameters
    ----------
    estimates
        The family: one estimate per cohort.
    bound
        What was promised of each.
    confidence
        One minus the level of each test.

    Returns
    -------
    list of Verdict
        In the order of the estimates.

    Examples
    --------
    >>> family = [rate("disagreement", x, n) for x, n in ((2, 100), (4, 120), (9, 60), (25, 100))]
    >>> [verdict.outcome for verdict in judge(family, budgets.parse("at most 10%", "rate"))]
    ['pass', 'pass', 'inconclusive', 'fail']
    """
    alpha = bounds.alpha(confidence)
    pairs = [_p_values(estimate, bound) for estimate in estimates]
    tested = [i for i, pair in enumerate(pairs) if pair is not None and not math.isnan(pair[1])]
    adjusted = dict(zip(tested, bounds.holm([pairs[i][1] for i in tested]), strict=True)) if tested else {}  # type: ignore[index]
    return [
        _verdict(estimate, bound, pair, float(adjusted[i]) if i in adjusted else None, alpha=alpha, family=len(tested))
        for i, (estimate, pair) in enumerate(zip(estimates, pairs, strict=True))
    ]


def rate(metric: str, count: int, nobs: int, *, confidence: float = 0.95, unit: str = "rate") -> Estimate:
    """Estimate a rate of equally weighted, independent cases.

    Parameters
    ----------
    metric
        Its name.
    count, nobs
        Cases with the property, cases looked at.
    confidence
        Of each bound on its own side.
    unit
        As the metric's.

    Examples
    --------
    >>> print(rate("disagreement", 50, 314))
    15.9% (12.6% to 19.7%), n=314
    """
    if nobs == 0:
        return Estimate(metric, None, count=0, nobs=0, unit=unit, reason="no case to judge", blocked=True)
    low, high = bounds.rate(count, nobs, confidence=confidence)
    return Estimate(
        metric,
        count / nobs,
        float(low),
        float(high),
        int(count),
        int(nobs),
        "clopper-pearson",
        unit,
        basis=Binomial((count, nobs), (count, nobs)),
    )


def _p_values(estimate: Estimate, bound: budgets.Bound) -> tuple[float, float] | None:
    """Evidence for and against the promise; None where nothing was measured."""
    if estimate.blocked or estimate.basis is None or estimate.value is None:
        return None
    basis = estimate.basis
    limits = bound.limits
    if not limits:
        return 0.0, 1.0
    proven = [basis.above(end) if at == "least" else basis.below(end) for end, at in limits]
    refuted = [basis.below(end, strict=True) if at == "least" else basis.above(end, strict=True) for end, at in limits]
    return max(proven), min(1.0, len(limits) * min(refuted))


def _verdict(
    estimate: Estimate,
    bound: budgets.Bound,
    pair: tuple[float, float] | None,
    adjusted: float | None,
    *,
    alpha: float,
    family: int,
) -> Verdict:
    verdict = Verdict(estimate.metric, bound, "inconclusive", estimate, "", family=max(family, 1))
    if pair is None or any(map(math.isnan, pair)):
        reason = estimate.reason or "too few cases for any test"
        return replace(verdict, reason=reason, not_measured=True)
    p_pass, p_fail = pair
    verdict = replace(
        verdict,
        p_pass=p_pass,
        p_fail=p_fail,
        p_holm=adjusted,
        smallest_excess=sample_sizes.smallest_excess(estimate.basis, bound, alpha / max(family, 1)),
    )
    if p_pass <= alpha or bound.cannot_fail:
        return replace(verdict, outcome="pass", reason=_held(estimate, bound))
    if adjusted is not None and adjusted <= alpha:
        return replace(verdict, outcome="fail", reason=f"{_with_bounds(estimate, bound)}: {bound} is refuted.")
    more = sample_sizes.more_cases(estimate.value, estimate.nobs, estimate.basis, bound, alpha=alpha, family=family)
    return replace(
        verdict, cases_to_decide=more, reason=_undecided(estimate, bound, p_fail <= alpha, more, family=family)
    )


def _held(estimate: Estimate, bound: budgets.Bound) -> str:
    assert estimate.value is not None
    if bound.cannot_fail:
        return f"{budgets.show_against(estimate.value, bound)}: {bound} cannot fail."
    if isinstance(estimate.basis, Fact):
        return f"{budgets.show_against(estimate.value, bound)} is within {bound}."
    return f"{_with_bounds(estimate, bound)}: {bound} is proven."


def _undecided(estimate: Estimate, bound: budgets.Bound, over: bool, more: int | None, *, family: int) -> str:  # noqa: FBT001  one caller, one reading
    text = f"{_with_bounds(estimate, bound)}: {bound} is neither proven nor refuted"
    if over and family > 1:
        text += f"; over budget on its own, not after looking at {family} cohorts"
    if more is None:
        return f"{text}; over 100,000 more cases would be needed to decide."
    return f"{text}; about {more:,} more cases like these would decide."


def _with_bounds(estimate: Estimate, bound: budgets.Bound) -> str:
    assert estimate.value is not None
    text = budgets.show_against(estimate.value, bound)
    if estimate.low is not None and estimate.high is not None:
        low = budgets.show_against(estimate.low, bound) if math.isfinite(estimate.low) else "unbounded"
        high = budgets.show_against(estimate.high, bound) if math.isfinite(estimate.high) else "unbounded"
        text += f" (bounds {low} to {high}{'' if estimate.nobs is None else f', n={estimate.nobs:,}'})"
    return text


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
