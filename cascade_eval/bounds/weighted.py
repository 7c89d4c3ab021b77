"""Effective counts of weighted, clustered and stratified samples.

A weighted rate P with variance v is as sure as n* plain cases of which x* = P n* have the property. Bounds and
p-values of `rates` then take (x*, n*). The variance alone is not enough: where the heaviest cases happen to agree it
is zero, and the bound collapses. Kish's effective size, which looks at weights only, is the guard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cascade_eval.bounds import rates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stratified:
    """A rate estimated from strata.

    Parameters
    ----------
    value, se : ndarray
        The weighted rate and its standard error.
    n_ht, n_kish : ndarray
        Effective sizes by variance (infinite where it is 0) and by weights; the smaller one counts.
    count, nobs : ndarray
        Effective count and size, for p-values.
    low, high : ndarray
        One-sided bounds.
    """

    value: Floats
    se: Floats
    n_ht: Floats
    n_kish: Floats
    count: Floats
    nobs: Floats
    low: Floats
    high: Floats


def effective(
    value: ArrayLike, variance: ArrayLike, sum_w: ArrayLike, sum_w2: ArrayLike, *, nobs: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Turn a weighted rate into the plain counts it is worth.

    Parameters
    ----------
    value, variance : array-like of shape (n_cohorts,)
        The weighted rate and its estimated variance. An unknown variance (NaN, one unit only) leaves the guard.
    sum_w, sum_w2 : array-like of shape (n_cohorts,)
        Sums of the weights and of their squares, over cases; over clusters, of cluster totals, where cases of one
        cluster are not independent.
    nobs : array-like of shape (n_cohorts,), optional
        Raw cases. Where all of them weigh the same and stand alone the plain count comes back exactly, instead of one
        case fewer, which is what the variance estimate loses.

    Returns
    -------
    count, nobs : ndarray of shape (n_cohorts,)
        Fractional. A cohort without weight, or without a value, is worth 0 of 0 cases.

    References
    ----------
    Korn and Graubard, Survey Methodology 24 (1998); Kish, Survey Sampling (1965).

    Examples
    --------
    >>> count, nobs = effective(0.05, 0.00019323, 1.0, 0.0054167)
    >>> float(count.round(2)), float(nobs.round(1))
    (9.23, 184.6)
    """
    value, variance, sum_w, sum_w2 = (np.asarray(a, dtype=np.float64) for a in (value, variance, sum_w, sum_w2))
    n_kish = _divide(sum_w**2, sum_w2, 0.0)
    n_star = np.fmin(_n_ht(value, variance), n_kish)
    if nobs is not None:
        raw = np.asarray(nobs, dtype=np.float64)
        n_star = np.where(np.isclose(n_kish, raw, rtol=1e-12, atol=0), raw, n_star)
    n_star = np.where(np.isnan(value), 0.0, n_star)
    count = np.nan_to_num(value) * n_star
    whole = np.rint(count)
    return np.where(np.isclose(count, whole, rtol=1e-12, atol=0), whole, count), n_star


def linearised_variance(
    sum_w: ArrayLike, sum_ww: ArrayLike, sum_wwd: ArrayLike, value: ArrayLike, units: ArrayLike
) -> Floats:
    """Variance of the weighted rate sum(w d) / sum(w) of independent cases, d being 0 or 1.

    Parameters
    ----------
    sum_w, sum_ww, sum_wwd : array-like of shape (n_cohorts,)
        Sums of w, of w squared, and of w squared over the cases with d = 1.
    value : array-like of shape (n_cohorts,)
        The weighted rate.
    units : array-like of shape (n_cohorts,)
        Number of cases; NaN comes back below 2.

    Examples
    --------
    >>> float(linearised_variance(4, 4, 1, 0.25, 4))
    0.0625
    """
    sum_w, sum_ww, sum_wwd, value = (np.asarray(a, dtype=np.float64) for a in (sum_w, sum_ww, sum_wwd, value))
    spread = (1 - value) ** 2 * sum_wwd + value**2 * (sum_ww - sum_wwd)
    return _small_sample(units) * _divide(spread, sum_w**2, np.nan)


def ratio_variance(
    saa: ArrayLike, sab: ArrayLike, sbb: ArrayLike, a: ArrayLike, b: ArrayLike, units: ArrayLike
) -> Floats:
    """Variance of a ratio of totals sum(a) / sum(b) over independent units, by linearisation.

    For clusters, a is the weight with the property in a cluster and b the cluster's whole weight.

    Parameters
    ----------
    saa, sab, sbb : array-like of shape (n_cohorts,)
        Sums over units of a squared, a b and b squared.
    a, b : array-like of shape (n_cohorts,)
        The totals.
    units : array-like of shape (n_cohorts,)
        Number of units; NaN comes back below 2.

    Examples
    --------
    >>> float(ratio_variance(1, 1, 4, 1, 4, 4))
    0.0625
    """
    saa, sab, sbb, a, b = (np.asarray(s, dtype=np.float64) for s in (saa, sab, sbb, a, b))
    ratio = _divide(a, b, np.nan)
    spread = np.maximum(saa - 2 * ratio * sab + ratio**2 * sbb, 0.0)
    return _small_sample(units) * _divide(spread, b**2, np.nan)


def stratified(shares: ArrayLike, nobs: ArrayLike, count: ArrayLike, *, confidence: float = 0.95) -> Stratified:
    """Estimate one rate from a sample of each stratum.

    Parameters
    ----------
    shares : array-like of shape (..., n_strata)
        Population shares, or anything proportional to them. Strata are the last axis; strata without share are ignored.
    nobs, count : array-like of shape (..., n_strata)
        Cases looked at, and those with the property.
    confidence : float, default=0.95
        Of each bound on its own side.

    Returns
    -------
    Stratified
        A stratum with a share and no case leaves the whole rate unknown: value NaN, bounds 0 and 1. A stratum of one
        case shows no variance of its own and borrows that of the whole, P(1 - P). With a single stratum this is
        Clopper-Pearson.

    References
    ----------
    Korn and Graubard, Survey Methodology 24 (1998), with Kish's size as an upper limit.

    Examples
    --------
    >>> audit = stratified([0.5, 0.2, 0.15, 0.1, 0.05], [60] * 5, [2, 3, 2, 1, 20])
    >>> [float(part.round(4)) for part in (audit.value, audit.low, audit.high)]
    [0.05, 0.0266, 0.0851]
    """
    w, n, x = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (shares, nobs, count)))
    if np.any((w < 0) | (x < 0) | (x > n)):
        raise ValueError("shares must not be negative, and every count must lie between 0 and its number of cases.")
    w = _divide(w, w.sum(axis=-1, keepdims=True), np.nan)
    used = w > 0
    p = np.where(used, _divide(x, n, np.nan), 0.0)
    value = (w * p).sum(axis=-1)
    whole = (value * (1 - value))[..., None]
    within = np.where(n > 1, _divide(p * (1 - p), n - 1, np.nan), whole)
    variance = np.where(used, w**2 * within, 0.0).sum(axis=-1)
    n_kish = _divide(1.0, np.where(used, _divide(w**2, n, np.inf), 0.0).sum(axis=-1), 0.0)
    n_ht = _n_ht(value, variance)
    alone = used.sum(axis=-1) == 1
    n_star = np.where(alone, n_kish, np.fmin(n_ht, n_kish))
    known = ~np.isnan(value)
    n_star = np.where(known, n_star, 0.0)
    x_star = np.where(known, value, 0.0) * n_star
    low, high = rates.rate(x_star, n_star, confidence=confidence)
    return Stratified(value, np.sqrt(variance), n_ht, n_kish, x_star, n_star, low, high)


def _n_ht(value: Floats, variance: Floats) -> Floats:
    return _divide(value * (1 - value), variance, np.inf)


def _small_sample(units: ArrayLike) -> Floats:
    units = np.asarray(units, dtype=np.float64)
    return np.where(units >= 2, _divide(units, units - 1, np.nan), np.nan)


def _divide(a: ArrayLike, b: ArrayLike, otherwise: float) -> Floats:
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.asarray(np.divide(a, b, out=np.full(a.shape, otherwise), where=b != 0))
