"""Cheaper estimates from an audit and a prediction for every case. Estimates, never verdicts.

A model that predicts disagreement from confidence, cohort or text can make an audit's estimate of a rate narrower: the
predictions of all cases give the level, and the audited cases say how far the predictions are off.

`ppi`
    prediction-powered, for an audit drawn with equal chances.
`aipw`
    augmented inverse-probability weighting, for an audit that prefers cases whose prediction is undecided; `design` gives
    the chances.

Their normal bounds fall short of the promised confidence at rates of a few percent (95% bounds cover about 90 to 94%), so
a verdict keeps the exact bounds of the audit alone (`cascade_eval.audit.estimate`). Predictions without any audit see nothing
new: a predictor fitted before a cohort saturates goes on predicting what it learned.

References
----------
Angelopoulos, Duchi and Zrnic, "PPI++: efficient prediction-powered inference", arXiv 2311.01453. Robins, Rotnitzky and Zhao,
"Estimation of regression coefficients when some regressors are not always observed", Journal of the American Statistical
Association 89, 1994.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


class Assisted(NamedTuple):
    """A rate estimated with the help of predictions.

    Parameters
    ----------
    value
        The rate.
    standard_error
        Its standard error.
    power
        How far the predictions are trusted, from 0 (the audit alone) to 1; always 1 for `aipw`.
    nobs
        Audited cases.
    """

    value: float
    standard_error: float
    power: float
    nobs: int


def ppi(labels: ArrayLike, predicted_audited: ArrayLike, predicted_all: ArrayLike) -> Assisted:
    """Estimate a rate from an audit drawn with equal chances and from predictions of all cases (PPI++).

    Parameters
    ----------
    labels : array-like of shape (n_audited,)
        Whether each audited case disagrees, 0 or 1.
    predicted_audited : array-like of shape (n_audited,)
        Predicted disagreement of the same cases; any real number will do, a probability helps most.
    predicted_all : array-like of shape (n_cases,)
        Predicted disagreement of all cases, the audited ones included.

    Returns
    -------
    Assisted
        ``power * mean(predicted_all) + mean(labels - power * predicted_audited)``, where
        ``power = cov(labels, predicted) / ((1 + n / N) * var(predicted))``, cut to 0 to 1. For an estimate, never a
        verdict.

    Examples
    --------
    Predictions that are always right leave nothing to chance but the level of all cases, which is known:

    >>> truth = np.arange(1000) % 20 == 0
    >>> found = ppi(truth[::7], truth[::7], truth)
    >>> round(found.value, 3), round(found.power, 2)
    (0.051, 0.87)
    """
    y, f, every = (
        _floats(labels, "labels"),
        _floats(predicted_audited, "predictions"),
        _floats(predicted_all, "predictions"),
    )
    if len(y) != len(f):
        raise ValueError(f"{len(y):,} labels and {len(f):,} predictions of audited cases")
    if len(y) < 2 or len(every) < len(y):
        raise ValueError("at least two audited cases are needed, and predictions of all cases they were drawn from")
    ratio = len(y) / len(every)
    spread = float(f.var(ddof=1))
    # A mean of equal numbers may miss them by a rounding error, and the squares of tiny numbers vanish: no spread.
    alike = np.ptp(f) == 0 or spread < np.finfo(np.float64).tiny
    power = 0.0 if alike else float(np.clip(np.cov(y, f)[0, 1] / ((1 + ratio) * spread), 0.0, 1.0))
    value = power * every.mean() + (y - power * f).mean()
    variance = power**2 * every.var(ddof=1) / len(every) + (y - power * f).var(ddof=1) / len(y)
    return Assisted(float(value), float(np.sqrt(variance)), power, len(y))


def design(predicted: ArrayLike, size: float, *, uniform: float = 0.3) -> Floats:
    """Chances to be audited: more where the prediction is undecided, some everywhere.

    Parameters
    ----------
    predicted : array-like of shape (n_cases,)
        Predicted disagreement, 0 to 1.
    size : float
        Cases to audit on average; each is drawn independently (Poisson sampling).
    uniform : float, default=0.3
        Share given to all cases alike, so that a prediction that is sure and wrong is found out. Above 0.

    Returns
    -------
    ndarray of shape (n_cases,)
        Adding up to `size`, none above 1: ``(1 - uniform) * sqrt(f * (1 - f)) + uniform`` of the mean, in proportion.

    Examples
    --------
    >>> design([0.0, 0.5, 0.5, 1.0], 2).round(3)
    array([0.15, 0.85, 0.85, 0.15])
    """
    f = _floats(predicted, "predictions")
    if ((f < 0) | (f > 1)).any() or not 0 < uniform <= 1 or not 0 < size <= len(f):
        raise ValueError("predictions and `uniform` are shares, and `size` is at most the number of cases")
    undecided = np.sqrt(f * (1 - f))
    mean = undecided.mean()
    shape = uniform + (1 - uniform) * (undecided / mean if mean > 0 else np.ones_like(f))
    chance = np.zeros_like(f)
    # What is cut off at 1 is shared by the others; each round settles at least one case.
    full = np.zeros(len(f), dtype=np.bool_)
    while True:
        left = size - full.sum()
        chance = np.where(full, 1.0, shape * left / max(shape[~full].sum(), 1e-300))
        over = ~full & (chance > 1)
        if not over.any():
            return np.minimum(chance, 1.0)
        full |= over


def aipw(labels: ArrayLike, audited: ArrayLike, chance: ArrayLike, predicted_all: ArrayLike) -> Assisted:
    """Estimate a rate from an audit with unequal chances and from predictions of all cases.

    Parameters
    ----------
    labels : array-like of shape (n_cases,)
        Whether each case disagrees; anything where it was not audited, NaN included.
    audited : array-like of shape (n_cases,)
        Which cases were.
    chance : array-like of shape (n_cases,)
        Chance each case had to be audited, independently of the others, above 0; from `design`.
    predicted_all : array-like of shape (n_cases,)
        Predicted disagreement of every case.

    Returns
    -------
    Assisted
        ``mean(predicted) + sum over audited of (label - predicted) / chance / N``: unbiased whatever the predictions are.
        For an estimate, never a verdict.

    Examples
    --------
    >>> found = aipw([1, np.nan, 0, np.nan], [True, False, True, False], [0.5] * 4, [0.5, 0.1, 0.1, 0.1])
    >>> round(found.value, 3), found.nobs
    (0.4, 2)
    """
    drawn = np.asarray(audited, dtype=np.bool_)
    f, pi = _floats(predicted_all, "predictions"), _floats(chance, "chances")
    if not len(drawn) == len(f) == len(pi) == len(np.asarray(labels)):
        raise ValueError("labels, audited, chances and predictions are of the same cases")
    if ((pi <= 0) | (pi > 1)).any() or drawn.sum() < 2:
        raise ValueError("every case has a chance above 0 and at most 1 to be audited, and at least two were")
    y = _floats(np.asarray(labels, dtype=np.float64)[drawn], "labels")
    gap = y - f[drawn]
    value = f.mean() + (gap / pi[drawn]).sum() / len(f)
    # Of the sample: a case stands for 1 / chance cases. Of the population: rates are of cases to come, not of these alone.
    designed = ((1 - pi[drawn]) * (gap / pi[drawn]) ** 2).sum() / len(f) ** 2
    served = max(float(value * (1 - value)), 0.0) / len(f)
    return Assisted(float(value), float(np.sqrt(designed + served)), 1.0, int(drawn.sum()))


def _floats(values: ArrayLike, name: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{name} are one number for each case, none missing")
    return found
