"""Two cascades on the same cases, and several tests at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from cascade_eval.bounds import rates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]


class McNemar(NamedTuple):
    """p-values of one paired comparison.

    Parameters
    ----------
    exact : ndarray
        Two-sided, never above its level.
    mid_p : ndarray
        Two-sided, closer to its level; to show, not to gate.
    regression : ndarray
        One-sided: small where the candidate is worse.
    """

    exact: Floats
    mid_p: Floats
    regression: Floats


def holm(p: ArrayLike) -> Floats:
    """Adjust the p-values of one family, so that the chance of any false rejection stays below alpha.

    Parameters
    ----------
    p : array-like of shape (n_tests,)
        NaN stays NaN and still counts as a member of the family.

    Returns
    -------
    ndarray of shape (n_tests,)

    References
    ----------
    Holm, Scandinavian Journal of Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.9, 0.03, 0.01]).round(2)
    array([0.9 , 0.06, 0.03])
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = (p.size - np.arange(p.size)) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def mcnemar(b: ArrayLike, c: ArrayLike) -> McNemar:
    """Compare two cascades by the cases on which only one of them disagrees.

    Parameters
    ----------
    b, c : array-like of shape (n_cohorts,)
        Cases on which only the candidate disagrees, and only the baseline.

    Returns
    -------
    McNemar
        All 1 without a discordant case.

    References
    ----------
    McNemar, Psychometrika 12 (1947); Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013).

    Examples
    --------
    >>> [float(p.round(4)) for p in mcnemar(28, 12)]
    [0.0166, 0.0115, 0.0083]
    """
    b, c = np.broadcast_arrays(np.asarray(b, dtype=np.float64), np.asarray(c, dtype=np.float64))
    fewer, n = np.minimum(b, c), b + c
    tail = rates.p_at_most(fewer, n, 0.5)
    below = np.where(fewer > 0, rates.p_at_most(np.maximum(fewer - 1, 0), n, 0.5), 0.0)
    return McNemar(np.minimum(2 * tail, 1.0), np.minimum(tail + below, 1.0), rates.p_at_least(b, n, 0.5))


def tango(b: ArrayLike, c: ArrayLike, n: ArrayLike, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Score bounds for the paired difference (b - c) / n.

    Parameters
    ----------
    b, c : array-like of shape (n_cohorts,)
        Cases on which only the candidate has the property, and only the baseline.
    n : array-like of shape (n_cohorts,)
        All pairs. Without any the bounds are -1 and 1.
    confidence : float, default=0.95
        Of each bound on its own side.

    Returns
    -------
    low, high : ndarray of shape (n_cohorts,)

    References
    ----------
    Tango, Statistics in Medicine 17 (1998).

    Examples
    --------
    >>> low, high = tango(28, 12, 1000, confidence=0.975)
    >>> float(low.round(4)), float(high.round(4))
    (0.0038, 0.0295)
    """
    from scipy import special

    z = -special.ndtri(rates.alpha(confidence))
    b, c, n = _pairs(b, c, n)
    return _solve(b, c, n, z, np.float64(-1.0)), _solve(b, c, n, -z, np.float64(1.0))


def p_difference_at_most(b: ArrayLike, c: ArrayLike, n: ArrayLike, margin: float) -> Floats:
    """p-value of "the paired difference is at most the margin"; the inversion of the upper bound of `tango`.

    NaN without pairs.

    Examples
    --------
    >>> float(p_difference_at_most(28, 12, 1000, 0.0295).round(3))
    0.025
    """
    return _p_difference(b, c, n, margin, 1.0)


def p_difference_at_least(b: ArrayLike, c: ArrayLike, n: ArrayLike, margin: float) -> Floats:
    """p-value of "the paired difference is at least the margin"; the inversion of the lower bound of `tango`.

    NaN without pairs.

    Examples
    --------
    >>> float(p_difference_at_least(28, 12, 1000, 0.0).round(4))
    0.0057
    """
    return _p_difference(b, c, n, margin, -1.0)


def _p_difference(b: ArrayLike, c: ArrayLike, n: ArrayLike, margin: float, side: float) -> Floats:
    from scipy import special

    if not -1 <= margin <= 1:
        raise ValueError(f"a difference of rates lies between -1 and 1, not {margin!r}.")
    b, c, n = _pairs(b, c, n)
    score = _score(b, c, np.where(n > 0, n, 1.0), np.float64(margin))
    return np.where(n > 0, special.ndtr(side * score), np.nan)


def _score(b: Floats, c: Floats, n: Floats, difference: Floats | np.float64) -> Floats:
    """Tango's statistic; falls as the difference rises."""
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    # hypot, because the square of a tiny margin is 0 in floating point and a variance of 0 would decide everything.
    inside = np.sqrt(np.maximum(linear**2 - 8 * n * np.maximum(constant, 0.0), 0.0))
    root = np.where(constant > 0, inside, np.hypot(linear, np.sqrt(8 * n * np.maximum(-constant, 0.0))))
    # Of the two ways to write the root of the quadratic, the one that does not cancel.
    both = linear + root
    share = np.where(linear > 0, -2 * constant / np.where(linear > 0, both, 1.0), (root - linear) / (4 * n))
    variance = n * np.maximum(2 * share + difference * (1 - difference), 0.0)
    above = b - c - n * difference
    flat = variance <= 0
    infinite = np.where(above == 0, 0.0, np.copysign(np.inf, above))
    return np.where(flat, infinite, above / np.sqrt(np.where(flat, 1.0, variance)))


def _solve(b: Floats, c: Floats, n: Floats, z: float, otherwise: np.float64) -> Floats:
    pairs = np.where(n > 0, n, 1.0)
    low, high = np.full(b.shape, -1.0), np.full(b.shape, 1.0)
    for _ in range(60):  # halves the interval 60 times: below the precision of a float
        middle = (low + high) / 2
        higher = _score(b, c, pairs, middle) > z
        low, high = np.where(higher, middle, low), np.where(higher, high, middle)
    return np.where(n > 0, (low + high) / 2, otherwise)


def _pairs(b: ArrayLike, c: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats, Floats]:
    b, c, n = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (b, c, n)))
    if np.any((b < 0) | (c < 0) | (b + c > n)):
        raise ValueError("discordant pairs must not be negative or more than all pairs.")
    return b, c, n
