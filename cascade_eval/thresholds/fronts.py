"""The Pareto front: the points no other point beats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def front(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """Find the points that no other point beats: at most as large in both, and smaller in one.

    Parameters
    ----------
    first, second : array-like of shape (n_points,)
        Of which less is better, such as cost and disagreement; negate what should be large. A point with NaN in either
        is on no front, and of equal points the first one stands for all.

    Returns
    -------
    ndarray of shape (n_front,)
        Positions, by ascending `first` and so by descending `second`.

    Examples
    --------
    >>> cost, disagreement = [1.0, 0.2, 0.6, 0.5, 0.4], [0.0, 0.2, 0.1, 0.1, np.nan]
    >>> front(cost, disagreement)
    array([1, 3, 0])
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    order = known[np.lexsort((y[known], x[known]))]
    best = np.minimum.accumulate(y[order])
    better = np.concatenate([[True], best[1:] < best[:-1]])[: len(order)]
    return np.asarray(order[better], dtype=np.int64)
