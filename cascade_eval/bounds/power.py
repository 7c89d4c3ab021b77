"""How many cases decide a budget for a rate, and what a number of cases could have noticed.

The power of an exact test is saw-toothed in the number of cases. A test rejects at a critical count; between two steps
of that count the power runs one way only. So it is enough to look at the ends of these segments, one per critical
count: the *peak* of a segment decides where the power is first reached, its *valley* from where it always holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from cascade_eval.bounds import rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]
    Flags: TypeAlias = NDArray[np.bool_]


class _Test(NamedTuple):
    """An exact test of a rate against a budget, and how sure it must be to reject the other side."""

    value: float
    budget: float
    miss: float
    power: float
    limit: int


def cases_to_decide(
    value: float,
    budget: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    limit: int = 100_000,
    family: int = 1,
    at: Literal["most", "least"] = "most",
) -> int | None:
    """Find how many cases always decide a budget with this power, if the true rate is `value`.

    Parameters
    ----------
    value, budget : float
        Rates as fractions. "At most" passes below the budget and fails above it; "at least" the other way round.
    alpha : float, default=0.05
        Level of the verdict.
    power : float, default=0.8
        Chance of the verdict, with that many cases or more.
    limit : int, default=100_000
        Largest number worth naming.
    family : int, default=1
        Cohorts judged together: failing one takes alpha / family, the first step of Holm's correction. Passing takes
        no correction.
    at : {"most", "least"}, default="most"
        Which way the budget goes.

    Returns
    -------
    int or None
        None beyond the limit, and for a rate exactly on its budget, which no number of cases decides.

    Examples
    --------
    >>> cases_to_decide(0.05, 0.10), cases_to_decide(0.20, 0.10), cases_to_decide(0.20, 0.10, family=6)
    (203, 89, 138)
    """
    fails = value > budget if at == "most" else value < budget
    return power_needed(value, budget, alpha=alpha / family if fails else alpha, power=power, limit=limit)[1]


def power_needed(
    value: float, budget: float, *, alpha: float = 0.05, power: float = 0.8, limit: int = 100_000
) -> tuple[int | None, int | None]:
    """First number of cases with this power, and the number from which it always holds.

    The exact one-sided test is the one on the side of `value`: below the budget that of `bounds.p_at_most`, above it
    that of `bounds.p_at_least`.

    Parameters
    ----------
    value, budget : float
        The true rate and the budget, as fractions.
    alpha, power : float
        Level and power of the test.
    limit : int, default=100_000
        None stands for any number above it.

    Returns
    -------
    first, always : int or None

    Examples
    --------
    >>> power_needed(0.05, 0.10)
    (179, 203)
    >>> power_needed(0.25, 0.10)
    (40, 44)
    """
    _check_shares(value=value, budget=budget)
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha and power lie between 0 and 1, not {alpha!r} and {power!r}.")
    if value == budget:
        return None, None
    if budget in {0.0, 1.0}:
        # One case on the right side of the budget refutes it.
        odds = value if budget == 0 else 1 - value
        return _within(limit, *[1 if odds == 1 else math.ceil(math.log1p(-power) / math.log1p(-odds) - 1e-9)] * 2)
    test = _Test(value, budget, alpha, power, limit)
    if _guess(test) > 2 * limit:
        # So near the budget the search is long, and its end is beyond the limit by a factor no approximation errs by.
        return None, None
    return _within(limit, *(_below(test) if value < budget else _above(test)))


def smallest_excess(nobs: float, budget: float, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest true rate above the budget that this many cases would have failed with this power.

    Parameters
    ----------
    nobs : float
        Cases; an effective number counts whole cases only.
    budget : float
        "At most", as a fraction. For "at least" hand in 1 - budget and take 1 minus the answer.
    alpha, power : float
        Level, divided by the size of the family where there is one, and power.

    Returns
    -------
    float or None
        None where not even a rate of 100% would have been noticed.

    Examples
    --------
    >>> round(smallest_excess(60, 0.10), 4), smallest_excess(1, 0.10)
    (0.2205, None)
    """
    from scipy import special

    _check_shares(budget=budget)
    n = int(nobs)
    if n < 1 or not special.betainc(n, 1, budget) <= alpha:
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        # The tail of `rates.p_at_least` without its arrays: a report asks this for each of its cells.
        low, high = (low, middle) if special.betainc(middle, n - middle + 1, budget) <= alpha else (middle, high)
    return float(special.betaincinv(high, n - high + 1, power))


def zero_disagreement_minimum(budget: float, alpha: float = 0.05) -> int:
    """Fewest cases that prove "at most budget", none of them counting against it.

    Examples
    --------
    >>> [zero_disagreement_minimum(budget) for budget in (0.10, 0.05, 0.25)]
    [29, 59, 11]
    """
    if not 0 < budget < 1:
        raise ValueError(f"no number of cases proves a budget of {budget!r}; it must lie between 0 and 1.")
    n = max(1, math.ceil(math.log(alpha) / math.log1p(-budget)) - 1)
    return n if rates.p_at_most(0, n, budget) <= alpha else n + 1


def smallest_provable(nobs: ArrayLike, alpha: float = 0.05) -> Floats:
    """Smallest budget "at most" that this many cases prove, none of them counting against it; 1 without cases.

    Examples
    --------
    >>> smallest_provable([60, 1000]).round(4)
    array([0.0487, 0.003 ])
    """
    n = np.asarray(nobs, dtype=np.float64)
    return np.where(n > 0, -np.expm1(math.log(alpha) / np.where(n > 0, n, 1.0)), 1.0)


def _below(test: _Test) -> tuple[int, int]:
    """First and always, for a rate below the budget.

    The segment of critical count x begins where P(Bin(n, budget) <= x) reaches alpha; the power falls within it.
    """

    def start(x: Ints) -> Ints:
        return _smallest(lambda n, at: _at_most(at, n, test.budget) <= test.miss, x)

    def peak_holds(x: Ints) -> Flags:
        return _at_most(x, start(x), test.value) >= test.power

    def valley_holds(x: Ints) -> Flags:
        return _at_most(x, start(x + 1) - 1, test.value) >= test.power

    last = _last_count(test)
    first = _first_true(peak_holds, last, test)
    always = _last_false(valley_holds, last, test) + 1
    return int(start(np.array([first]))[0]), int(start(np.array([always]))[0])


def _above(test: _Test) -> tuple[int, int]:
    """First and always, for a rate above the budget.

    The segment of critical count x ends where P(Bin(n, budget) >= x) exceeds alpha; the power rises within it.
    """

    def after(x: Ints) -> Ints:
        return _smallest(lambda n, at: _at_least(at, n, test.budget) > test.miss, x)

    def peak_holds(x: Ints) -> Flags:
        return _at_least(x, after(x) - 1, test.value) >= test.power

    def valley_holds(x: Ints) -> Flags:
        return _at_least(x, after(x - 1), test.value) >= test.power

    def reached(x: int) -> int:
        """Smallest number of cases in the segment with the power, or the one after the segment."""
        at = np.array([x])
        n = _smallest(lambda n, k: _at_least(k, n, test.value) >= test.power, at)
        return int(np.clip(n, after(at - 1), after(at))[0])

    last = _last_count(test)
    return reached(_first_true(peak_holds, last, test)), reached(_last_false(valley_holds, last, test))


def _at_most(x: Ints, n: Ints, share: float) -> Floats:
    from scipy import special

    return np.where(x < n, special.betaincc(x + 1, np.maximum(n - x, 1), share), 1.0)


def _at_least(x: Ints, n: Ints, share: float) -> Floats:
    from scipy import special

    inside = special.betainc(np.maximum(x, 1), np.maximum(n - x, 0) + 1, share)
    return np.where(x <= 0, 1.0, np.where(x > n, 0.0, inside))


def _smallest(enough: Callable[[Ints, Ints], Flags], x: Ints) -> Ints:
    """Smallest n with `enough(n, x)`, which is false before and true after, and later for greater x."""
    if x.size > 2:
        ends = _smallest(enough, x[[0, -1]])
        low, high = np.full(x.shape, ends[0] - 1), np.full(x.shape, ends[1])
    else:
        low, high = np.full(x.shape, -1), np.maximum(2 * x, 8)
        while not (ok := enough(high, x)).all():
            low, high = np.where(ok, low, high), np.where(ok, high, 2 * high)
    while (high - low > 1).any():
        middle = (low + high) // 2
        ok = enough(middle, x)
        low, high = np.where(ok, low, middle), np.where(ok, middle, high)
    return high


def _last_count(test: _Test) -> int:
    """Return a critical count no test within the limit goes beyond."""
    return int(test.limit * test.budget + 8 * math.sqrt(test.limit * test.budget * (1 - test.budget))) + 10


def _first_true(holds: Callable[[Ints], Flags], last: int, test: _Test) -> int:
    near = _near(_crossing(holds, last, int(min(test.limit, _guess(test)) * test.budget)), test)
    ok = holds(near)
    return int(near[np.argmax(ok)]) if ok.any() else int(near[-1]) + 1


def _last_false(holds: Callable[[Ints], Flags], last: int, test: _Test) -> int:
    near = _near(_crossing(holds, last, int(min(test.limit, _guess(test)) * test.budget)), test)
    short = ~holds(near)
    return int(near[short][-1]) if short.any() else int(near[0]) - 1


def _guess(test: _Test) -> float:
    """Return about how many cases a normal approximation needs for the power."""
    from scipy import special

    spread = -special.ndtri(test.miss) * math.sqrt(test.budget * (1 - test.budget))
    spread += special.ndtri(test.power) * math.sqrt(test.value * (1 - test.value))
    return (spread / (test.budget - test.value)) ** 2


def _crossing(holds: Callable[[Ints], Flags], last: int, guess: int) -> int:
    """About where the power begins to hold, as if the ends of the segments lay on a curve that only rises."""
    low, high = 0, last + 1
    around = np.array([guess // 2, min(2 * guess + 10, last)])
    if around[0] > 0 and holds(around).tolist() == [False, True]:
        low, high = int(around[0]), int(around[1])
    while high - low > 1:
        points = np.unique(np.linspace(low + 1, high - 1, 24).astype(np.int64))
        found = np.flatnonzero(holds(points))
        if found.size:
            at = int(found[0])
            low, high = (int(points[at - 1]) if at else low), int(points[at])
        else:
            low = int(points[-1])
    return high


def _near(count: int, test: _Test) -> Ints:
    """List counts around a crossing: cases are whole, so the ends scatter around the curve, more so near the budget."""
    width = 10 + math.ceil(2 * test.value * test.budget / abs(test.budget - test.value))
    first = 0 if test.value < test.budget else 1
    return np.arange(max(first, count - width), max(first, count) + width + 1)


def _within(limit: int, first: int, always: int) -> tuple[int | None, int | None]:
    return (first if first <= limit else None), (always if always <= limit else None)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share!r}; a rate lies between 0 and 1.")
