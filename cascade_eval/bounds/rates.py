"""Bounds and p-values for rates.

Counts may be fractional, as effective counts of weighted samples are: the beta function continues the binomial, and
bounds and p-values continue together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

Method = Literal["clopper-pearson", "wilson", "jeffreys"]

# A weighted rate of 1 may come out as 1 + 2e-16 of its effective count.
_ROUNDING = 1e-9


def alpha(confidence: float) -> float:
    """Return what a bound at `confidence` may miss on its side, without the noise of 1 - 0.95.

    Examples
    --------
    >>> alpha(0.95)
    0.05
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must lie between 0.5 and 1, for example 0.95.")
    return round(1 - confidence, 15)


def rate(
    count: ArrayLike, nobs: ArrayLike, *, confidence: float = 0.95, method: Method = "clopper-pearson"
) -> tuple[Floats, Floats]:
    """Confidence bounds for rates, one pair per cohort.

    Parameters
    ----------
    count : array-like of shape (n_cohorts,)
        Cases with the property; fractional where it is an effective count.
    nobs : array-like of shape (n_cohorts,)
        Cases looked at. A cohort without cases gets the bounds 0 and 1.
    confidence : float, default=0.95
        Confidence of each bound on its own side.
    method : {"clopper-pearson", "wilson", "jeffreys"}, default="clopper-pearson"
        clopper-pearson
            Never covers less than promised, on either side. The only one verdicts use.
        wilson, jeffreys
            Shorter; cover less than promised near 0 and 1. For drawing only.

    Returns
    -------
    low, high : ndarray of shape (n_cohorts,)

    Raises
    ------
    ValueError
        For an unknown method, a confidence outside (0.5, 1), or a count outside 0 to nobs.

    References
    ----------
    Clopper and Pearson, Biometrika 26 (1934); Brown, Cai and DasGupta, Statistical Science 16 (2001).

    Examples
    --------
    >>> low, high = rate([50, 3], [314, 41])
    >>> low.round(3), high.round(3)
    (array([0.126, 0.02 ]), array([0.197, 0.178]))
    """
    if method not in METHODS:
        raise ValueError(f"{method!r} is not a method. Allowed: {', '.join(map(repr, METHODS))}.")
    bounds = METHODS[method]
    miss = alpha(confidence)
    count, nobs = _counts(count, nobs)
    low, high = _on_unique(lambda x, n: np.stack(bounds(x, n, miss)), count, nobs)
    unseen = nobs == 0
    return np.where(unseen, 0.0, low), np.where(unseen, 1.0, high)


def p_at_most(count: ArrayLike, nobs: ArrayLike, budget: ArrayLike) -> Floats:
    """Exact p-value of "the rate is at most the budget": P(Bin(nobs, budget) <= count).

    Small where the rate is surely below the budget, so it is what a budget "at most" passes by, and what a budget
    "at least" fails by.

    Parameters
    ----------
    count, nobs : array-like of shape (n_cohorts,)
        As for `rate`. Without cases the p-value is 1.
    budget : float or array-like of shape (n_cohorts,)
        As a fraction.

    Returns
    -------
    ndarray of shape (n_cohorts,)
        At most `alpha(confidence)` exactly where the upper Clopper-Pearson bound is at most the budget. The one
        exception is a budget of 1 with every case counted: the probability is 1 although nothing can exceed 1.

    Examples
    --------
    >>> p_at_most([2, 4, 9, 25], [100, 120, 60, 100], 0.10).round(4)
    array([0.0019, 0.0056, 0.9269, 1.    ])
    """
    from scipy import special

    def tail(x: Floats, n: Floats, share: Floats) -> Floats:
        below = x < n
        return np.where(below, special.betaincc(x + 1, np.where(below, n - x, 1.0), share), 1.0)

    return _p(tail, count, nobs, budget)


def p_at_least(count: ArrayLike, nobs: ArrayLike, budget: ArrayLike) -> Floats:
    """Exact p-value of "the rate is at least the budget": P(Bin(nobs, budget) >= count).

    Small where the rate is surely above the budget, so it is what a budget "at least" passes by, and what a budget
    "at most" fails by.

    Parameters
    ----------
    count, nobs : array-like of shape (n_cohorts,)
        As for `rate`. Without cases the p-value is 1.
    budget : float or array-like of shape (n_cohorts,)
        As a fraction.

    Returns
    -------
    ndarray of shape (n_cohorts,)
        At most `alpha(confidence)` exactly where the lower Clopper-Pearson bound is at least the budget. The one
        exception is a budget of 0 with no case counted: the probability is 1 although nothing can go below 0.

    Examples
    --------
    >>> p_at_least([2, 4, 9, 25], [100, 120, 60, 100], 0.10).round(5)
    array([9.9968e-01, 9.9843e-01, 1.4164e-01, 1.0000e-05])
    """
    from scipy import special

    def tail(x: Floats, n: Floats, share: Floats) -> Floats:
        some = x > 0
        return np.where(some, special.betainc(np.where(some, x, 1.0), n - x + 1, share), 1.0)

    return _p(tail, count, nobs, budget)


def _clopper_pearson(count: Floats, nobs: Floats, miss: float) -> tuple[Floats, Floats]:
    from scipy import special

    some, below = count > 0, count < nobs
    low = special.betaincinv(np.where(some, count, 1.0), nobs - count + 1, miss)
    high = special.betainccinv(count + 1, np.where(below, nobs - count, 1.0), miss)
    return np.where(some, low, 0.0), np.where(below, high, 1.0)


def _wilson(count: Floats, nobs: Floats, miss: float) -> tuple[Floats, Floats]:
    from scipy import special

    z = -special.ndtri(miss)
    n = np.where(nobs > 0, nobs, 1.0)
    share = count / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return np.where(count > 0, (centre - spread) / scale, 0.0), np.where(count < nobs, (centre + spread) / scale, 1.0)


def _jeffreys(count: Floats, nobs: Floats, miss: float) -> tuple[Floats, Floats]:
    from scipy import special

    low = special.betaincinv(count + 0.5, nobs - count + 0.5, miss)
    high = special.betainccinv(count + 0.5, nobs - count + 0.5, miss)
    # Brown, Cai and DasGupta, section 4.1.2: without this the coverage falls to 0 near 0 and 1.
    return np.where(count > 0, low, 0.0), np.where(count < nobs, high, 1.0)


METHODS: dict[str, Callable[[Floats, Floats, float], tuple[Floats, Floats]]] = {
    "clopper-pearson": _clopper_pearson,
    "wilson": _wilson,
    "jeffreys": _jeffreys,
}
"""Bounds for rates by name; each takes counts, cases, and what it may miss on each side."""


def _counts(count: ArrayLike, nobs: ArrayLike) -> tuple[Floats, Floats]:
    x, n = np.broadcast_arrays(np.asarray(count, dtype=np.float64), np.asarray(nobs, dtype=np.float64))
    if np.any((x < -_ROUNDING) | (x > n * (1 + _ROUNDING))):
        raise ValueError("every count must lie between 0 and its number of cases.")
    return np.clip(x, 0.0, n), n


def _p(
    tail: Callable[[Floats, Floats, Floats], Floats], count: ArrayLike, nobs: ArrayLike, budget: ArrayLike
) -> Floats:
    share = np.asarray(budget, dtype=np.float64)
    if np.any((share < 0) | (share > 1)):
        raise ValueError(f"a budget for a rate lies between 0 and 1, not {budget!r}.")
    x, n = _counts(count, nobs)
    if share.ndim:
        return tail(x, n, share)
    p = _on_unique(lambda xs, ns: tail(xs, ns, share)[None], x, n)
    return p.reshape(x.shape)


def _on_unique(function: Callable[[Floats, Floats], Floats], count: Floats, nobs: Floats) -> Floats:
    """Apply to each distinct pair once: beta inversions cost microseconds, and sweeps repeat their pairs."""
    if count.size < 64:
        return function(count, nobs)
    pairs = np.empty(count.shape, dtype=np.complex128)
    pairs.real, pairs.imag = count, nobs
    distinct, where = np.unique(pairs, return_inverse=True)
    values = function(distinct.real.copy(), distinct.imag.copy())
    return np.asarray(values[:, where.reshape(count.shape)])
