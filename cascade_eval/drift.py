"""Why a rate moved: other traffic, or other behaviour inside the same traffic; and whether it moves at all.

A cascade's escalation changes when cohorts change their shares (*mix*) and when cohorts change their own rates
(*within*). Only the second is about the cascade. `kitagawa` splits a change into the two without a residual,
`standardised` shows the series as if the mix had never changed, and `trend` asks of each cohort by itself whether its
weekly rate has a slope, allowing for weeks that differ more than chance would have them.

Everything takes whole arrays: the last axis is weeks, or the cohorts of one period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

WEEKS: Final = 4
"""Fewest weeks a trend is estimated from: two for the line, two for the spread around it."""


@dataclass(frozen=True, eq=False)
class Split:
    """A change of an aggregate rate, split.

    Parameters
    ----------
    total
        The change; `within` plus `mix`, exactly.
    within, mix
        What changed rates and what changed shares explain.
    low, high
        Bounds of `within`, each with its confidence on its own side; the shares are taken as known.
    within_each, mix_each
        The parts by cohort, shape (n_cohorts,).
    """

    total: float
    within: float
    mix: float
    low: float
    high: float
    within_each: Floats
    mix_each: Floats


def kitagawa(
    count0: ArrayLike,
    nobs0: ArrayLike,
    count1: ArrayLike,
    nobs1: ArrayLike,
    *,
    weight0: ArrayLike | None = None,
    weight1: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Split:
    """Split the change of a rate between two periods into mix and within-cohort change.

    Parameters
    ----------
    count0, nobs0, count1, nobs1 : array-like of shape (n_cohorts,)
        Cases with the property and cases looked at, before and after. A cohort absent in one period counts as mix
        alone: its rate is taken from the other.
    weight0, weight1 : array-like of shape (n_cohorts,), optional
        Traffic of each cohort, where it is not `nobs`.
    confidence : float, default=0.95
        Of each bound of the within-cohort change, on its own side.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        Where a period has no cases at all.

    References
    ----------
    Kitagawa, Journal of the American Statistical Association 50 (1955).

    Examples
    --------
    >>> split = kitagawa([1750, 875, 200], [7000, 2500, 500], [1375, 875, 400], [5500, 2500, 2000], confidence=0.975)
    >>> [round(x, 4) for x in (split.total, split.within, split.mix, split.low, split.high)]
    [-0.0175, -0.025, 0.0075, -0.038, -0.012]
    """
    from scipy.special import ndtri

    x0, n0, x1, n1 = (np.asarray(x, dtype=np.float64) for x in (count0, nobs0, count1, nobs1))
    w0 = _shares(n0 if weight0 is None else weight0)
    w1 = _shares(n1 if weight1 is None else weight1)
    own0, own1 = _rates(x0, n0), _rates(x1, n1)
    r0, r1 = np.where(n0 > 0, own0, own1), np.where(n1 > 0, own1, own0)
    middle = (w0 + w1) / 2
    within, mix = middle * (r1 - r0), (r0 + r1) / 2 * (w1 - w0)
    both = (n0 > 0) & (n1 > 0)
    spread = np.where(both, _variance(r0, n0) + _variance(r1, n1), 0.0)
    reach = float(ndtri(confidence)) * float(np.sqrt((middle**2 * spread).sum()))
    inside, outside = float(within.sum()), float(mix.sum())
    return Split(inside + outside, inside, outside, inside - reach, inside + reach, within, mix)


def standardised(rates: ArrayLike, shares: ArrayLike) -> Floats:
    """Weekly rate as it would be with the mix of a reference period.

    Parameters
    ----------
    rates : array-like of shape (n_cohorts, weeks)
        NaN where a cohort has no case in a week; the others then stand for it.
    shares : array-like of shape (n_cohorts,)
        Traffic of each cohort in the reference period.

    Returns
    -------
    ndarray of shape (weeks,)

    Examples
    --------
    >>> standardised([[0.2, 0.2], [0.6, 0.1]], [3, 1]).round(3)
    array([0.3  , 0.175])
    """
    rates = np.asarray(rates, dtype=np.float64)
    shares = np.where(np.isnan(rates), 0.0, np.asarray(shares, dtype=np.float64)[:, None])
    total = shares.sum(axis=0)
    found: Floats = np.divide(
        (shares * np.nan_to_num(rates)).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0
    )
    return found


@dataclass(frozen=True, eq=False)
class Trend:
    """Slopes of weekly rates; each of shape (n_cohorts,).

    Parameters
    ----------
    slope
        Change of the log odds per week, NaN where it cannot be estimated.
    error
        Its standard error.
    dispersion
        How many times more the weeks scatter around the line than chance alone would.
    t, df
        The test statistic and its degrees of freedom.
    p
        Two-sided p-value; 1 where there is no slope to test.
    """

    slope: Floats
    error: Floats
    dispersion: Floats
    t: Floats
    df: NDArray[np.int64]
    p: Floats


def trend(count: ArrayLike, nobs: ArrayLike, weeks: ArrayLike | None = None) -> Trend:
    """Fit the log odds of each cohort's weekly rate to the week, with quasi-binomial spread.

    Parameters
    ----------
    count, nobs : array-like of shape (n_cohorts, weeks)
        Cases with the property and cases looked at; weeks without cases are left out, cohort by cohort. Leave
        partial weeks out.
    weeks : array-like of shape (weeks,), optional
        When; consecutive weeks by default.

    Returns
    -------
    Trend
        Adjust `p` over cohorts (`bounds.holm`).

    References
    ----------
    McCullagh and Nelder, Generalized Linear Models (1989), sections 4.5 and 9.2.

    Examples
    --------
    >>> found = trend([[100, 91, 83, 70, 66, 54]], [[400] * 6])
    >>> found.slope.round(3), found.dispersion.round(2), found.p.round(4)
    (array([-0.147]), array([0.09]), array([0.0001]))
    """
    from scipy.stats import t as student

    x, n = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (count, nobs))
    when = np.arange(x.shape[1], dtype=np.float64) if weeks is None else np.asarray(weeks, dtype=np.float64)
    seen = n > 0
    # Centred per cohort: intercept and slope are then nearly uncorrelated, and the step of the fit is well scaled.
    centre = np.divide((n * when).sum(axis=1), n.sum(axis=1), out=np.zeros(len(n)), where=n.sum(axis=1) > 0)
    z = when[None, :] - centre[:, None]
    slope, information, fitted = _fit(x, n, z)
    df = seen.sum(axis=1) - 2
    spread = n * fitted * (1 - fitted)
    squares = np.divide((x - n * fitted) ** 2, spread, out=np.zeros_like(x), where=spread > 0)
    possible = (df >= WEEKS - 2) & np.isfinite(slope)
    dispersion = np.divide(squares.sum(axis=1), df, out=np.full(len(x), np.nan), where=possible)
    error = np.sqrt(dispersion / np.where(information > 0, information, np.nan))
    t = np.divide(slope, error, out=np.zeros(len(x)), where=error > 0)
    p = np.where(possible & np.isfinite(t), 2 * student.sf(np.abs(t), np.maximum(df, 1)), 1.0)
    return Trend(np.where(possible, slope, np.nan), error, dispersion, t, df, p)


@dataclass(frozen=True, eq=False)
class Shift:
    """How far the last week lies from the weeks before it; each of shape (n_cohorts,).

    Parameters
    ----------
    before, last
        Rate of the earlier weeks together, and of the last one; NaN without cases.
    dispersion
        How many times more the earlier weeks scatter than chance alone would, at least 1.
    p
        Two-sided p-value; 1 where nothing could be compared.
    """

    before: Floats
    last: Floats
    dispersion: Floats
    p: Floats


def shift(count: ArrayLike, nobs: ArrayLike) -> Shift:
    """Compare the last week's rate with the weeks before it, allowing for weeks that differ more than by chance.

    A trend notices slow change; a sudden one spoils its line and hides from it for weeks. This test sees it at once.

    Parameters
    ----------
    count, nobs : array-like of shape (n_cohorts, weeks)
        As for `trend`; at least four weeks, the last included.

    Returns
    -------
    Shift

    Examples
    --------
    >>> found = shift([[100, 96, 104, 99, 101, 5], [100, 96, 104, 99, 101, 97]], [[400] * 6] * 2)
    >>> found.p.round(3)
    array([0.001, 0.801])
    """
    from scipy.stats import t as student

    x, n = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (count, nobs))
    past, size = n[:, :-1].sum(axis=1), n[:, -1]
    rate = np.divide(x[:, :-1].sum(axis=1), past, out=np.full(len(x), np.nan), where=past > 0)
    last = np.divide(x[:, -1], size, out=np.full(len(x), np.nan), where=size > 0)
    df = (n[:, :-1] > 0).sum(axis=1) - 1
    # Half a case of everything: cohorts that never escalated have no spread to measure a change by.
    smooth = (np.nan_to_num(rate) * past + 0.5) / (past + 1)
    spread = n[:, :-1] * (smooth * (1 - smooth))[:, None]
    squares = np.divide(
        (x[:, :-1] - n[:, :-1] * smooth[:, None]) ** 2, spread, out=np.zeros_like(spread), where=spread > 0
    )
    possible = (df >= WEEKS - 2) & (size > 0)
    dispersion = np.where(possible, np.maximum(squares.sum(axis=1) / np.maximum(df, 1), 1.0), np.nan)
    variance = dispersion * smooth * (1 - smooth) * size * (1 + size / np.maximum(past, 1))
    # Continuity: counts are whole, and small cohorts have few of them.
    away = np.maximum(np.abs(x[:, -1] - size * smooth) - 0.5, 0.0)
    p = np.where(possible, 2 * student.sf(away / np.sqrt(variance), np.maximum(df, 1)), 1.0)
    return Shift(rate, last, dispersion, p)


def _fit(x: Floats, n: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a line to the log odds of every cohort at once: slope, its information, and fitted rates."""
    from scipy.special import expit, logit

    total = n.sum(axis=1)
    mean = np.divide(x.sum(axis=1), total, out=np.full(len(x), np.nan), where=total > 0)
    moves = (mean > 0) & (mean < 1)
    level, slope = logit(np.where(moves, mean, 0.5)), np.zeros(len(x))
    width = np.abs(z).max(axis=1, initial=1.0)
    for _ in range(50):
        fitted = expit(level[:, None] + slope[:, None] * z)
        w, r = n * fitted * (1 - fitted), x - n * fitted
        a, b, c = w.sum(axis=1), (w * z).sum(axis=1), (w * z * z).sum(axis=1)
        u, v = r.sum(axis=1), (r * z).sum(axis=1)
        det = np.maximum(a * c - b * b, 1e-12)
        # Steps are kept short: a cohort that stops altogether has no finite slope, and must not overflow.
        up, on = np.clip((c * u - b * v) / det, -2, 2), np.clip((a * v - b * u) / det, -2 / width, 2 / width)
        level, slope = level + up, slope + on
        if max(np.abs(up).max(initial=0), np.abs(on).max(initial=0)) < 1e-10:
            break
    fitted = expit(level[:, None] + slope[:, None] * z)
    w = n * fitted * (1 - fitted)
    a, b, c = w.sum(axis=1), (w * z).sum(axis=1), (w * z * z).sum(axis=1)
    information = np.divide(a * c - b * b, a, out=np.zeros(len(x)), where=a > 0)
    return np.where(moves & (information > 1e-9), slope, np.nan), information, fitted


def _shares(weight: ArrayLike) -> Floats:
    weight = np.asarray(weight, dtype=np.float64)
    if not weight.sum() > 0:
        raise ValueError("a period without cases has no rate to compare.")
    shares: Floats = weight / weight.sum()
    return shares


def _rates(x: Floats, n: Floats) -> Floats:
    return np.divide(x, n, out=np.zeros(len(n)), where=n > 0)


def _variance(rate: Floats, n: Floats) -> Floats:
    return np.divide(rate * (1 - rate), n, out=np.zeros(len(n)), where=n > 0)
