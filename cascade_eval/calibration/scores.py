"""How well a probability predicts agreement.

Weights count as cases: a value seen in n cases of which k agree is two rows, weighing k and n - k (`from_histogram`
makes them), and every score is then exactly that of the single cases. Without cases a score is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from cascade_eval import bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.intp]

Binning = Literal["equal-width", "equal-mass"]
Closed = Literal["right", "left"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: one entry per bin that has cases, in ascending order.

    Parameters
    ----------
    low, high
        Smallest and largest value in the bin.
    nobs
        Cases in it.
    mean
        Mean value.
    agree
        Share that agrees.
    bound_low, bound_high
        One-sided Clopper-Pearson bounds of `agree`.
    """

    low: Floats
    high: Floats
    nobs: Floats
    mean: Floats
    agree: Floats
    bound_low: Floats
    bound_high: Floats


def from_histogram(value: ArrayLike, nobs: ArrayLike, agree: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Turn counts per value into labels, values and weights.

    Parameters
    ----------
    value, nobs, agree : array-like of shape (n_values,)
        Distinct values, cases that have them, and how many of those agree.

    Returns
    -------
    y_true, y_score, sample_weight : ndarray of shape (2 * n_values,)

    Examples
    --------
    >>> y_true, y_score, sample_weight = from_histogram([0.6, 0.9], [4, 10], [2, 9])
    >>> round(brier(y_true, y_score, sample_weight=sample_weight), 4)
    0.1386
    """
    value, nobs, agree = (np.asarray(a, dtype=np.float64) for a in (value, nobs, agree))
    y_true = np.concatenate([np.ones_like(value), np.zeros_like(value)])
    return y_true, np.concatenate([value, value]), np.concatenate([agree, nobs - agree])


def brier(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared distance between probability and label; 0 is best.

    Examples
    --------
    >>> round(brier([1, 0, 1], [0.9, 0.2, 0.6]), 4)
    0.07
    """
    y, p, w = _probabilities(y_true, y_score, sample_weight)
    return _mean((y - p) ** 2, w)


def log_loss(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean negative log-likelihood of the labels.

    Probabilities are kept one rounding error away from 0 and 1, as scikit-learn does, so that a single sure mistake
    costs about 36 and not infinity.

    Examples
    --------
    >>> round(log_loss([1, 0, 1], [0.9, 0.2, 0.6]), 4)
    0.2798
    """
    y, p, w = _probabilities(y_true, y_score, sample_weight)
    tiny = np.finfo(np.float64).eps
    p = np.clip(p, tiny, 1 - tiny)
    return _mean(-(y * np.log(p) + (1 - y) * np.log1p(-p)), w)


def auroc(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Chance that an agreeing case has the higher value than a disagreeing one; ties count half.

    Says whether the value ranks at all; .5 is no ranking. Values may be of any scale. NaN with one kind of label only.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    y, s, w = _cases(y_true, y_score, sample_weight)
    distinct, at = np.unique(s, return_inverse=True)
    positive = np.bincount(at, w * y, distinct.size)
    negative = np.bincount(at, w * (1 - y), distinct.size)
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs > 0 else float("nan")


def ece(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    bins: int = 10,
    binning: Binning = "equal-width",
    closed: Closed = "right",
    sample_weight: ArrayLike | None = None,
) -> float:
    """Average the distance between mean value and agreement over bins: the expected calibration error.

    For comparison with the literature only. It is biased upwards in small samples: a perfectly calibrated cohort of 50
    shows .11 in ten bins, so it is never a budget.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n_cases,)
        Labels and probabilities.
    bins : int, default=10
        Number of bins.
    binning : {"equal-width", "equal-mass"}, default="equal-width"
        equal-width
            Of the unit interval.
        equal-mass
            As many cases each as ties allow; equal values are never split.
    closed : {"right", "left"}, default="right"
        Which end belongs to an equal-width bin. The first right-closed bin holds 0 and the last left-closed one 1.
    sample_weight : array-like of shape (n_cases,), optional

    Examples
    --------
    >>> round(ece([1, 0, 1, 1], [0.9, 0.9, 0.6, 0.8]), 4)
    0.35
    """
    y, p, w = _probabilities(y_true, y_score, sample_weight)
    n, mean, agree = _binned(y, p, w, _bins(p, w, bins, binning, closed))
    return _mean(np.abs(mean - agree), n)


def debiased_error(
    y_true: ArrayLike, y_score: ArrayLike, *, bins: int = 10, sample_weight: ArrayLike | None = None
) -> float:
    """Root mean squared calibration error over equal-mass bins, with the sampling noise of each bin taken off.

    Floored at 0. Bins of fewer than two cases cannot tell noise from error and are left out.

    References
    ----------
    Kumar, Liang and Ma, Verified Uncertainty Calibration (2019).

    Examples
    --------
    >>> round(debiased_error([0, 0, 1, 1], [0.1, 0.1, 0.8, 0.8], bins=2), 4)
    0.1581
    """
    y, p, w = _probabilities(y_true, y_score, sample_weight)
    n, mean, agree = _binned(y, p, w, _bins(p, w, bins, "equal-mass", "right"))
    enough = n > 1
    n, mean, agree = n[enough], mean[enough], agree[enough]
    squared = _mean((mean - agree) ** 2 - agree * (1 - agree) / (n - 1), n)
    return float(np.sqrt(np.maximum(squared, 0.0)))


def spiegelhalter(
    y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[float, float]:
    """Test of "every probability is right"; holds its size in small samples.

    Returns
    -------
    z, p : float
        Score and two-sided p-value; NaN where every probability is 0, 1/2 or 1.

    References
    ----------
    Spiegelhalter, Statistics in Medicine 5 (1986).

    Examples
    --------
    >>> z, p = spiegelhalter([1, 0, 1, 1], [0.9, 0.3, 0.6, 0.8])
    >>> round(z, 3), round(p, 3)
    (-1.005, 0.315)
    """
    from scipy import special

    y, p, w = _probabilities(y_true, y_score, sample_weight)
    variance = (w * (1 - 2 * p) ** 2 * p * (1 - p)).sum()
    if not variance > 0:
        return float("nan"), float("nan")
    z = (w * (y - p) * (1 - 2 * p)).sum() / np.sqrt(variance)
    return float(z), float(2 * special.ndtr(-abs(z)))


def murphy(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    bins: int = 10,
    binning: Binning = "equal-mass",
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Split the Brier score: reliability - resolution + uncertainty, up to the spread inside bins.

    Returns
    -------
    reliability, resolution, uncertainty : float
        Distance from the truth (small is good), how far bins differ in agreement (large is good), and the variance of
        the label, which no confidence can change.

    References
    ----------
    Murphy, Journal of Applied Meteorology 12 (1973).

    Examples
    --------
    >>> [round(part, 4) for part in murphy([1, 0, 1, 1], [0.9, 0.3, 0.6, 0.8], bins=2)]
    [0.0125, 0.0625, 0.1875]
    """
    y, p, w = _probabilities(y_true, y_score, sample_weight)
    n, mean, agree = _binned(y, p, w, _bins(p, w, bins, binning, "right"))
    overall = _mean(y, w)
    return _mean((mean - agree) ** 2, n), _mean((agree - overall) ** 2, n), overall * (1 - overall)


def reliability(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    bins: int = 10,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> Reliability:
    """Agreement by bins of about equally many cases, with exact bounds; equal values are never split.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n_cases,)
        Labels, and values of any scale.
    bins : int, default=10
        At most so many; fewer where values repeat.
    confidence : float, default=0.95
        Of each bound on its own side.
    sample_weight : array-like of shape (n_cases,), optional
        Counts as cases.

    Examples
    --------
    >>> diagram = reliability([0, 0, 1, 1, 1, 1], [0.2, 0.2, 0.2, 0.8, 0.9, 0.9], bins=2)
    >>> diagram.nobs, diagram.agree.round(3)
    (array([3., 3.]), array([0.333, 1.   ]))
    """
    y, s, w = _cases(y_true, y_score, sample_weight)
    y, s, w = y[w > 0], s[w > 0], w[w > 0]
    bin_of = np.unique(_bins(s, w, bins, "equal-mass", "right"), return_inverse=True)[1]
    n, mean, agree = _binned(y, s, w, bin_of)
    low, high = np.full(n.size, np.inf), np.full(n.size, -np.inf)
    np.minimum.at(low, bin_of, s)
    np.maximum.at(high, bin_of, s)
    bound_low, bound_high = bounds.rate(agree * n, n, confidence=confidence)
    return Reliability(low, high, n, mean, agree, bound_low, bound_high)


def _bins(values: Floats, w: Floats, bins: int, binning: Binning, closed: Closed) -> Ints:
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins}.")
    if binning == "equal-mass":
        return _equal_mass(values, w, bins)
    if binning != "equal-width":
        raise ValueError(f"{binning!r} is not a binning. Allowed: 'equal-width', 'equal-mass'.")
    # Whole numbers over the number of bins are the literals people write; linspace is not.
    edges = np.arange(bins + 1) / bins
    side: Literal["left", "right"] = "left" if closed == "right" else "right"
    return np.clip(np.searchsorted(edges, values, side=side) - 1, 0, bins - 1)


def _equal_mass(values: Floats, w: Floats, bins: int) -> Ints:
    """Bin of each value by the middle of its rank, so that ties stay together."""
    distinct, at = np.unique(values, return_inverse=True)
    mass = np.bincount(at, w, distinct.size)
    middle = (np.cumsum(mass) - mass / 2) / (mass.sum() or 1.0)
    return np.minimum((middle * bins).astype(np.intp), bins - 1)[at]


def _binned(y: Floats, p: Floats, w: Floats, bin_of: Ints) -> tuple[Floats, Floats, Floats]:
    """Weight, mean value and mean label of the bins that have any weight."""
    n = np.bincount(bin_of, w).astype(np.float64)
    used = n > 0
    return n[used], np.bincount(bin_of, w * p)[used] / n[used], np.bincount(bin_of, w * y)[used] / n[used]


def _mean(values: Floats, w: Floats) -> float:
    total = w.sum()
    return float((values * w).sum() / total) if total > 0 else float("nan")


def _probabilities(
    y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    y, p, w = _cases(y_true, y_score, sample_weight)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("probabilities lie between 0 and 1; calibrate the signal first.")
    return y, p, w


def _cases(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, s = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    w = np.ones_like(y) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if not y.shape == s.shape == w.shape or y.ndim != 1:
        raise ValueError(f"labels, values and weights must be as many: {y.shape}, {s.shape}, {w.shape}.")
    if np.isnan(y).any() or np.isnan(s).any():
        raise ValueError("leave cases out whose label or value is unknown.")
    if np.any((y < 0) | (y > 1)) or np.any(w < 0):
        raise ValueError("labels lie between 0 and 1, and weights are not negative.")
    return y, s, w
