"""Quantiles of many windows of one column at once.

Moving a threshold past a case exchanges what it took when settled for what it took when escalated. With the cases in
the order of their values, first all as if settled and then all as if escalated, the cases at one threshold are one
window of fixed width, and the next threshold's window lies a little further on.

All windows are answered together by halving the ranks bit by bit, as a wavelet matrix does: Claude, Navarro and Ordóñez,
"The wavelet matrix", Information Systems 47 (2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def quantiles(
    values: Floats,
    present: NDArray[np.bool_],
    first: Ints,
    width: int,
    shares: Sequence[float],
    *,
    unknown: float = 0.0,
) -> Floats:
    """Smallest value of each window that at least these shares of its known values do not exceed.

    Parameters
    ----------
    values : ndarray of shape (n,)
        NaN where unknown.
    present : ndarray of shape (n,)
        Which of them count at all.
    first : ndarray of shape (n_windows,)
        Where each window begins; it ends `width` values later.
    width
        Of every window.
    shares
        Between 0 and 1.
    unknown
        Largest share of the present values that may be unknown.

    Returns
    -------
    ndarray of shape (n_shares, n_windows)
        NaN where nothing is known, or too much is not.

    Examples
    --------
    >>> seconds = np.array([1.0, 2.0, 9.0, 4.0, 5.0, 3.0])
    >>> quantiles(seconds, seconds > 0, np.array([0, 1, 3]), 3, (0.5, 0.95))
    array([[2., 4., 4.],
           [9., 9., 5.]])
    """
    known = present & ~np.isnan(values)
    order = np.argsort(np.where(known, values, np.inf), kind="stable")
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values))
    nobs, expected = (_within(column, first, width) for column in (known, present))
    found = np.full((len(shares), len(first)), np.nan)
    enough = (nobs > 0) & (expected - nobs <= unknown * expected)
    for one, share in zip(found, shares, strict=True):
        # The smallest whole number of values that is at least the share, whatever rounding did to the product.
        place = np.maximum(np.ceil(share * nobs[enough] - 1e-9), 1).astype(np.int64) - 1
        one[enough] = values[order[_select(rank, first[enough], first[enough] + width, place)]]
    return found


def _within(column: NDArray[np.bool_], first: Ints, width: int) -> Ints:
    """Count true values in each window."""
    before = np.concatenate([[0], np.cumsum(column)])
    counted: Ints = before[first + width] - before[first]
    return counted


def _select(ranks: Ints, low: Ints, high: Ints, place: Ints) -> Ints:
    """Find the rank in each place of each window, counted from the smallest."""
    found = np.zeros_like(place)
    for bit in reversed(range(len(ranks).bit_length())):
        upper = (ranks >> bit & 1).astype(np.bool_)
        zeros = np.concatenate([[0], np.cumsum(~upper)])
        smaller = zeros[high] - zeros[low]
        right = place >= smaller
        found |= right.astype(np.int64) << bit
        place = np.where(right, place - smaller, place)
        low = np.where(right, zeros[-1] + low - zeros[low], zeros[low])
        high = np.where(right, zeros[-1] + high - zeros[high], zeros[high])
        ranks = np.concatenate([ranks[~upper], ranks[upper]])
    return found
