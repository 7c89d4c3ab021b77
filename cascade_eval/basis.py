"""What an estimate is tested by: two p-values, one for each side of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cascade_eval import bounds

if TYPE_CHECKING:
    from collections.abc import Callable


class Basis(Protocol):
    """What an estimate is tested by."""

    def below(self, budget: float, *, strict: bool = False) -> float:
        """P-value that is small when the data prove the truth at most (strict: below) the budget."""

    def above(self, budget: float, *, strict: bool = False) -> float:
        """P-value that is small when the data prove the truth at least (strict: above) the budget."""


@dataclass(frozen=True)
class Binomial:
    """A rate, tested exactly.

    Parameters
    ----------
    low, high
        ``(count, nobs)`` for the smallest and the largest rate that unknown comparisons allow; the same where
        everything is known. Real numbers where cases are weighted or clustered.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    def below(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Exact binomial p-value, unknown comparisons counted against the claim."""
        return float(bounds.p_at_most(*self.high, budget))

    def above(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Exact binomial p-value, unknown comparisons counted against the claim."""
        return float(bounds.p_at_least(*self.low, budget))


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sums over independent units, tested by t on ``x - budget * y``.

    Parameters
    ----------
    moments
        ``(units, sum x, sum y, sum x*x, sum x*y, sum y*y)``.
    complement
        The estimate is one minus the ratio.
    scale
        The estimate is the ratio times this.
    cases
        Independent cases behind the sums. So few cases cannot prove more than a rate of none among them would: the t-test
        alone takes a handful of cases that happen to be alike for certainty.
    """

    moments: tuple[Any, Any, Any, Any, Any, Any]
    complement: bool = False
    scale: float = 1.0
    cases: float = math.inf

    def below(self, budget: float, *, strict: bool = False) -> float:
        """One-sided t-test."""
        test = bounds.p_ratio_at_least if self.complement else bounds.p_ratio_at_most
        return self._surest(float(test(*self.moments, budget=self._inner(budget), strict=strict)), budget)

    def above(self, budget: float, *, strict: bool = False) -> float:
        """One-sided t-test."""
        test = bounds.p_ratio_at_most if self.complement else bounds.p_ratio_at_least
        return self._surest(float(test(*self.moments, budget=self._inner(budget), strict=strict)), budget)

    def _surest(self, p: float, budget: float) -> float:
        """Return p, or the chance that these cases hide a kind of case that would break the budget, if that is more.

        A case of the kind not seen shifts the ratio by at most one unit of its denominator, so it has to be as frequent as
        the ratio is far from the budget. Dollars have no such unit, and the distance is taken in proportion.
        """
        ratio, inner = float(self.moments[1] / self.moments[2]), self._inner(budget)
        if self.scale == 1.0:
            near = max(0.0, 1.0 - abs(ratio - inner))
        else:
            near = min(ratio, inner) / max(ratio, inner) if max(ratio, inner) > 0 else 1.0
        return p if math.isnan(p) else max(p, near**self.cases)

    def _inner(self, budget: float) -> float:
        inner = budget / self.scale
        # 1 - 0.55 is not 0.45 in binary; budgets are read as their shortest decimal.
        return round(1.0 - inner, 15) if self.complement else inner


@dataclass(frozen=True)
class Slower:
    """A latency quantile, tested as the share of cases slower than the budget.

    Parameters
    ----------
    count
        Number of cases slower than so many seconds, exactly.
    nobs
        Number of cases with a known latency.
    share
        Share that may be slower: 0.05 for p95.
    unknown
        Number of cases beside them with an unknown latency: slower for the one side, not slower for the other.
    """

    count: Callable[[float], float]
    nobs: float
    share: float
    unknown: float = 0.0

    def below(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Exact binomial p-value of the share slower than the budget."""
        return float(bounds.p_at_most(self.count(budget) + self.unknown, self.nobs + self.unknown, self.share))

    def above(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Exact binomial p-value of the share slower than the budget."""
        return float(bounds.p_at_least(self.count(budget), self.nobs + self.unknown, self.share))


@dataclass(frozen=True)
class Paired:
    """A difference of two rates on the same cases (Tango, Statistics in Medicine 17, 1998).

    Parameters
    ----------
    more, fewer
        Cases with the property only in the candidate, only in the baseline.
    nobs
        Cases known for both.
    """

    more: float
    fewer: float
    nobs: float

    def below(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Score test of the difference."""
        return float(bounds.p_difference_at_most(self.more, self.fewer, self.nobs, budget))

    def above(self, budget: float, *, strict: bool = False) -> float:  # noqa: ARG002  the same for both
        """Score test of the difference."""
        return float(bounds.p_difference_at_least(self.more, self.fewer, self.nobs, budget))


@dataclass(frozen=True)
class Fact:
    """A number known exactly about this data: compared, not estimated.

    Parameters
    ----------
    value
        The number.
    """

    value: float

    def below(self, budget: float, *, strict: bool = False) -> float:
        """0 where it is so, 1 where it is not."""
        return 0.0 if self.value < budget or (self.value == budget and not strict) else 1.0

    def above(self, budget: float, *, strict: bool = False) -> float:
        """0 where it is so, 1 where it is not."""
        return 0.0 if self.value > budget or (self.value == budget and not strict) else 1.0
