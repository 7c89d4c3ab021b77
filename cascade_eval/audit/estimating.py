"""The overall rate of a stratified audit, with bounds that hold for small strata, too.

The weighted rate is worth n* = min(n_HT, n_Kish) plain cases (`bounds.stratified`). A stratum of fewer than 30 cases shows
its own variance poorly: where it is large in traffic and happens to show no disagreement, the upper bound is too low. So
with such a stratum

* the upper bound is at least the one that adds up each stratum's own exact bound (Zou and Donner, Statistics in Medicine
  27, 2008: the squared distances of the bounds from the rates add up as variances do);
* the lower bound takes the degrees of freedom of the variance into account (Satterthwaite, Biometrics Bulletin 2, 1946),
  as Korn and Graubard do.

With 30 cases or more everywhere, neither is used; with a single stratum all of it is Clopper-Pearson.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

SMALL: Final = 30
"""Cases below which a stratum's own variance is not relied on."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """A rate estimated from strata; arrays of the leading shape of what was handed in.

    Parameters
    ----------
    value, low, high
        The rate and its one-sided bounds.
    below, above
        Plain cases it is worth when it is to be shown that the truth is below (the upper bound), or above.
    """

    value: Floats
    low: Floats
    high: Floats
    below: Floats
    above: Floats


def estimate(shares: ArrayLike, nobs: ArrayLike, count: ArrayLike, *, confidence: float = 0.95) -> Weighted:
    """Estimate one rate from a sample of each stratum.

    Parameters
    ----------
    shares : array-like of shape (..., n_strata)
        Population shares, or anything proportional to them.
    nobs, count : array-like of shape (..., n_strata)
        Cases looked at, and those with the property.
    confidence : float, default=0.95
        Of each bound on its own side.

    Returns
    -------
    Weighted

    Examples
    --------
    >>> found = estimate([0.5, 0.2, 0.15, 0.1, 0.05], [60] * 5, [2, 3, 2, 1, 20])
    >>> [float(part.round(4)) for part in (found.value, found.low, found.high)]
    [0.05, 0.0266, 0.0851]
    >>> small = estimate([0.5, 0.5], [200, 16], [4, 0])
    >>> [float(part.round(4)) for part in (small.value, small.high, small.below)]
    [0.01, 0.0963, 36.4213]
    """
    plain = bounds.stratified(shares, nobs, count, confidence=confidence)
    w, n, x = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (shares, nobs, count)))
    w = w / w.sum(axis=-1, keepdims=True)
    shy = ((n < SMALL) & (w > 0)).any(axis=-1) & ((w > 0).sum(axis=-1) > 1) & (plain.nobs > 0)
    if not shy.any():
        return Weighted(plain.value, plain.low, plain.high, plain.nobs, plain.nobs)
    above = np.where(shy, plain.nobs * _shrunk(w, n, x, confidence), plain.nobs)
    low, _ = bounds.rate(np.nan_to_num(plain.value) * above, above, confidence=confidence)
    high = np.where(shy, np.maximum(plain.high, _added_up(w, n, x, plain.value, confidence)), plain.high)
    below, wider = plain.nobs.copy(), high > plain.high
    below[wider] = _size(plain.value[wider], high[wider], plain.nobs[wider], confidence)
    return Weighted(plain.value, np.where(shy, low, plain.low), high, below, above)


def _added_up(w: Floats, n: Floats, x: Floats, value: Floats, confidence: float) -> Floats:
    """Upper bound from the strata's own exact ones."""
    p = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    _, high = bounds.rate(x, n, confidence=confidence)
    return np.asarray(np.minimum(1.0, value + np.sqrt((w**2 * (high - p) ** 2).sum(axis=-1))))


def _shrunk(w: Floats, n: Floats, x: Floats, confidence: float) -> Floats:
    """Share of the effective size that is left when the variance is known with few degrees of freedom only."""
    from scipy import special

    p = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    each = np.divide(w**2 * p * (1 - p), n - 1, out=np.zeros_like(x), where=n > 1)
    squares = np.divide(each**2, n - 1, out=np.zeros_like(x), where=n > 1).sum(axis=-1)
    total = each.sum(axis=-1)
    whole = np.maximum(n.sum(axis=-1) - 1, 1.0)
    df = np.where(squares > 0, np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0), whole)
    ratio = special.stdtrit(whole, confidence) / special.stdtrit(np.clip(df, 1.0, whole), confidence)
    return np.asarray(ratio**2)


def _size(value: Floats, high: Floats, most: Floats, confidence: float) -> Floats:
    """Plain cases whose own upper bound is `high`, by bisection."""
    low, up, p = np.zeros_like(most), most.copy(), np.nan_to_num(value)
    while (up - low > 1e-6 * np.maximum(up, 1.0)).any():
        middle = (low + up) / 2
        enough = bounds.rate(p * middle, middle, confidence=confidence)[1] >= high
        low, up = np.where(enough, middle, low), np.where(enough, up, middle)
    return low
