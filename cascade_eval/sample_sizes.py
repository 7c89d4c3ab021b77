"""How much data a verdict takes: the cases that would decide it, and the excess these would have noticed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from cascade_eval import bounds
from cascade_eval.basis import Binomial

if TYPE_CHECKING:
    from cascade_eval import budgets
    from cascade_eval.basis import Basis

POWER: Final = 0.8
"""Chance with which so many cases decide, or notice."""


def smallest_excess(basis: Basis | None, bound: budgets.Bound, alpha: float) -> float | None:
    """Smallest true rate beyond the budget this much data would have noticed; for rates only."""
    limits = bound.limits
    if not isinstance(basis, Binomial) or not limits:
        return None
    end, at = limits[-1]
    if not 0 < end < 1:
        return None
    end, nobs = end if at == "most" else 1 - end, basis.low[1]
    excess = bounds.smallest_excess(nobs, end, alpha=alpha / len(limits), power=POWER)
    return excess if excess is None or at == "most" else 1 - excess


def more_cases(
    value: float | None, nobs: int | None, basis: Basis | None, bound: budgets.Bound, *, alpha: float, family: int
) -> int | None:
    """How many more cases would decide, if the truth is the observed value."""
    if value is None or basis is None or not nobs:
        return None
    limits = bound.limits
    # A range fails on either side, each at half of alpha.
    tests = max(family, 1) * len(limits)
    if isinstance(basis, Binomial):
        needed = [_needed_of_rate(value, nobs, basis, end, at, alpha, tests) for end, at in limits]
    else:
        needed = [_needed(nobs, basis, end, alpha, tests) for end, _ in limits]
    more = max((n for n in needed if n is not None), default=None)
    return more if more is not None and None not in needed and more <= 100_000 else None


def _needed(nobs: int, basis: Basis, limit: float, alpha: float, tests: int) -> int | None:
    from scipy.special import ndtri

    p = min(basis.below(limit), basis.above(limit))
    observed = abs(float(ndtri(min(max(p, 1e-300), 0.5))))
    wanted = abs(float(ndtri(alpha / tests))) + abs(float(ndtri(1 - POWER)))
    if observed == 0:
        return None
    factor = (wanted / observed) ** 2
    return max(1, math.ceil(nobs * (factor - 1))) if factor < 1e6 else None


def _needed_of_rate(
    value: float, nobs: int, basis: Binomial, limit: float, at: Literal["least", "most"], alpha: float, tests: int
) -> int | None:
    within = value <= limit if at == "most" else value >= limit
    # Unknown comparisons count against whichever claim is to be proven.
    count, size = basis.high if within == (at == "most") else basis.low
    rate = min(count / size, 1.0)
    if within != (rate <= limit if at == "most" else rate >= limit):
        return None
    enough = bounds.cases_to_decide(rate, limit, alpha=alpha, power=POWER, family=tests, at=at)
    # A weighted or clustered case is worth less than one case; more of the same kind will be, too.
    return None if enough is None else max(1, math.ceil(enough * nobs / size) - nobs)
