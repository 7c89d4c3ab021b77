"""Where values stand among thresholds, by table instead of by search, and exactly so.

The line is cut into cells by one subtraction and one multiplication. Both are monotone in floating point, so a value
in a later cell than a threshold is never below it, and one in an earlier cell never reaches it; only the thresholds in
a value's own cell are compared. Nothing is rounded into a decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS: Final = 32_768
_MOST: Final = 3
"""Thresholds of one cell that are compared one after the other; where there are more, searching is faster."""


class Lookup:
    """Ascending thresholds, prepared for many values.

    Parameters
    ----------
    edges
        Ascending, shape (n_edges,).

    Examples
    --------
    >>> Lookup(np.array([0.29, 0.57, 0.58])).place(np.array([0.29, 0.28999, 0.58, 2.0, np.nan]))
    array([1, 0, 3, 3, 0])
    """

    def __init__(self, edges: NDArray[np.floating]) -> None:
        self._edges = edges
        self._scale = _scale(edges)
        cells = self._cells(edges)
        self._below = np.searchsorted(cells, np.arange(_CELLS))
        inside = np.searchsorted(cells, np.arange(_CELLS), side="right") - self._below
        self._deep = int(inside.max())

    def place(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Count the thresholds each value reaches, shape (n,); none where it is NaN.

        Parameters
        ----------
        values
            Of the precision of the thresholds, shape (n,).
        """
        if not self._scale or self._deep > _MOST:
            return np.where(np.isnan(values), 0, np.searchsorted(self._edges, values, side="right"))
        found = self._below[self._cells(values)]
        ends = np.append(self._edges, np.asarray(np.nan, dtype=self._edges.dtype))
        for _ in range(self._deep):
            found += values >= ends[found]
        return found

    def _cells(self, values: NDArray[np.floating]) -> NDArray[np.int32]:
        if not self._scale:
            return np.zeros(len(values), dtype=np.int32)
        first = self._edges[0]
        with np.errstate(over="ignore"):
            # What is no number lies in the first cell and reaches nothing there.
            cells = (np.where(np.isnan(values), first, values) - first) * self._edges.dtype.type(self._scale)
        numbered: NDArray[np.int32] = np.clip(cells, 0, _CELLS - 1).astype(np.int32)
        return numbered


def _scale(edges: NDArray[np.floating]) -> float:
    """Cells per unit; 0 where the line cannot be cut."""
    if len(edges) < 2 or not np.isfinite(edges[[0, -1]]).all():
        return 0.0
    width = float(edges[-1]) - float(edges[0])
    scale = _CELLS / width if width > 0 else np.inf
    return scale if 0 < scale < np.finfo(edges.dtype).max else 0.0
