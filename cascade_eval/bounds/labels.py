"""What a rate would be if the labels it rests on had no errors.

A flagship that answers differently when it is asked again, and a judge that errs, both move a measured disagreement.
Corrected rates stand beside the raw ones for reading; verdicts use the raw rate, which errs on the safe side as long as
it is not below the corrected one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def without_flips(rate: ArrayLike, flipped: ArrayLike) -> Floats:
    """Correct a rate for a yes-or-no reference that flips independently with a known probability.

    What is observed is ``rate + flipped - 2 * rate * flipped``; this solves it for the rate.

    Parameters
    ----------
    rate : array-like
        Observed rate, 0 to 1.
    flipped : array-like
        Chance that one reference label is the other one, below one half.

    Returns
    -------
    ndarray
        From 0 to 1: a rate below `flipped` is corrected to 0, one that no true rate explains. NaN where `flipped` is
        one half or more, because such labels say nothing, and where the input is NaN.

    Examples
    --------
    >>> without_flips([0.08, 0.02], 0.03).round(4)
    array([0.0532, 0.    ])
    """
    seen, flip = np.asarray(rate, dtype=np.float64), np.asarray(flipped, dtype=np.float64)
    return _solved(seen - flip, 1.0 - 2.0 * flip)


def without_misjudgement(rate: ArrayLike, sensitivity: ArrayLike, specificity: ArrayLike) -> Floats:
    """Correct a rate for a judge that misses some disagreements and sees some that are none.

    Parameters
    ----------
    rate : array-like
        Share the judge calls disagreeing, 0 to 1.
    sensitivity, specificity : array-like
        Shares of true disagreements and of true agreements that it calls by their name.

    Returns
    -------
    ndarray
        From 0 to 1; NaN where ``sensitivity + specificity`` is 1 or less, because such a judge says nothing.

    References
    ----------
    Rogan and Gladen, "Estimating prevalence from the results of a screening test", American Journal of Epidemiology
    107, 1978.

    Examples
    --------
    >>> without_misjudgement(0.10, 0.90, 0.97).round(4)
    np.float64(0.0805)
    """
    seen = np.asarray(rate, dtype=np.float64)
    true, false = np.asarray(sensitivity, dtype=np.float64), 1.0 - np.asarray(specificity, dtype=np.float64)
    return _solved(seen - false, true - false)


def _solved(above: Floats, scale: Floats) -> Floats:
    """Divide, between 0 and 1; NaN where nothing is left to divide by."""
    # Two shares that add up to exactly one may leave a rounding error behind.
    some = scale > 1e-12
    ratio = np.divide(
        above, scale, out=np.full(np.broadcast_shapes(np.shape(above), np.shape(scale)), np.nan), where=some
    )
    found: Floats = np.clip(ratio, 0.0, 1.0)
    return found
