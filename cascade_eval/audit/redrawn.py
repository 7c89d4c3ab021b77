"""A sample drawn again: whether its cases, and the answers it holds, are those of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.audit.answers import places
from cascade_eval.audit.sampling import SEED, numbers
from cascade_eval.errors import UsageError
from cascade_eval.traffic import Field
from cascade_eval.traffic.batch import array

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from cascade_eval.audit.sampling import Sample
    from cascade_eval.replay import Replay


class Redrawn:
    """What a window says of a sample, piece by piece.

    Parameters
    ----------
    sample
        With its seed; without one only its answers are looked at.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._ids = sample.batch.arrow(None, "case_id")
        self._served = np.array([str(name) for name in sample.batch.arrow(None, "audit_served_by").to_pylist()])
        self._seeded = sample.batch.has(None, SEED)
        self._last = np.zeros(len(sample.strata), dtype=np.uint64)
        if self._seeded:
            np.maximum.at(self._last, sample.codes, numbers(sample.ids, sample.seed or ""))
        self._before = np.zeros(len(sample.strata), dtype=np.int64)
        self.found = np.zeros(sample.cases, dtype=np.bool_)
        self._other = np.zeros(sample.cases, dtype=np.bool_)

    def look(self, piece: Replay, rows: NDArray[np.bool_], strata: NDArray[np.int64]) -> None:
        """Look at the unescalated rows of a piece, and at the stratum of each."""
        kept = piece.columns.batch.arrow(None, "case_id").filter(array(rows))
        place = places(self._ids, kept)
        mine = place >= 0
        self.found |= mine
        self._compare(piece, mine, np.flatnonzero(rows)[place[mine]])
        # Strata of which nothing was drawn come last.
        drawn = (strata >= 0) & (strata < len(self._last))
        if self._seeded and drawn.any():
            number = numbers(kept.to_pylist(), self._sample.seed or "")[drawn]
            before = strata[drawn][number <= self._last[strata[drawn]]]
            self._before += np.bincount(before, minlength=len(self._last))

    def _compare(self, piece: Replay, mine: NDArray[np.bool_], at: NDArray[np.int64]) -> None:
        """Note the cases that another tier served, or whose served answer is another one."""
        models = np.array([tier.model for tier in piece.cascade.tiers])
        self._other[mine] |= models[piece.decisions.settled[at]] != self._served[mine]
        for model in dict.fromkeys(self._served.tolist()):
            field = Field(model, "answer")
            here, there = self._sample.batch.columns.get(field), piece.columns.batch.columns.get(field)
            if here is not None and there is not None:
                rows = np.flatnonzero(mine & (self._served == model))
                those = at[self._served[mine] == model]
                self._other[rows] |= _texts(here, rows) != _texts(there, those)

    def refuse(self) -> None:
        """Refuse a sample whose cases its seed does not draw, or whose answers nobody served.

        Raises
        ------
        UsageError
            With how many cases.
        """
        again = "Sample again, and fill in nothing but the flagship's columns."
        if self._other.any():
            first = self._sample.ids[int(np.argmax(self._other))]
            raise UsageError(
                f"the served answer of {int(self._other.sum()):,} of {self._sample.cases:,} drawn cases is not the one this "
                f"window has. First: {first}. {again}"
            )
        sizes = np.array([stratum.cases for stratum in self._sample.strata])
        if self._seeded and (self._before != sizes).any():
            raise UsageError(
                f"the sample is not what its seed '{self._sample.seed}' draws from this window: cases were exchanged. {again}"
            )


def _texts(column: pa.Array, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    taken = column.take(array(rows.astype(np.int64)))
    return np.array([None if one is None else str(one) for one in taken.to_pylist()], dtype=object)
