"""Cases by the members of a cohort family: numbered, counted, and summed over.

Everything here is a sum over cases, so batches can be counted apart and added in any order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cascade_eval.counts import GROUPS, Clusters, histogram, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cohorts import Codes, Member
    from cascade_eval.replay.columns import Columns

    Mask = NDArray[np.bool_]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Tallied:
    """Which cases of which columns are counted, and by what.

    Parameters
    ----------
    columns
        The cases.
    rows
        Those of them that are counted; None is all.
    codes
        Cohort member of each counted case.
    members
        Of the family.
    kept
        Sums over all counted cases, so that cascades counted by the same members share them.
    """

    columns: Columns
    rows: Mask | None
    codes: NDArray[np.int64]
    members: tuple[Member, ...]
    kept: dict[int, tuple[object, Any]] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pick the counted cases out of a column."""
        return values if self.rows is None else values[self.rows]

    @functools.cached_property
    def cells(self) -> NDArray[np.int64]:
        """Number each case's place among members and hash groups."""
        found: NDArray[np.int64] = self.codes * GROUPS + self.of(self.columns.groups())
        return found

    @functools.cached_property
    def every(self) -> NDArray[np.int64]:
        """Count all cases by member, shape (members,)."""
        return np.bincount(self.codes, minlength=self.size)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Make something of a column, or of anything else that is one and the same for several cascades, once."""
        if id(key) not in self.kept:
            # The key is kept, too: while it lives, nothing else has its id.
            self.kept[id(key)] = key, make()
        found: T = self.kept[id(key)][1]
        return found

    def cases(self, *masks: Mask) -> NDArray[np.int64]:
        """Count the cases of each mask by member, shape (members, masks)."""
        found = np.zeros((self.size, len(masks)), dtype=np.int64)
        split = []
        for i, mask in enumerate(masks):
            if mask.all():
                found[:, i] = self.every
            elif mask.any():
                split.append(i)
        if split:
            found[:, split] = self._patterns([masks[i] for i in split])
        return found

    def _patterns(self, masks: Sequence[Mask]) -> NDArray[np.int64]:
        """Count the cases of masks by member in one go, by the combinations of them that occur."""
        pattern = self.codes << len(masks)
        for i, mask in enumerate(masks):
            pattern |= mask.astype(np.int64) << i
        table = np.bincount(pattern, minlength=self.size << len(masks)).reshape(self.size, 1 << len(masks))
        inside = np.arange(1 << len(masks))[:, np.newaxis] >> np.arange(len(masks)) & 1
        found: NDArray[np.int64] = table @ inside
        return found


def tallied(columns: Columns, family: tuple[str, ...], rows: Mask | None = None, codes: Codes | None = None) -> Tallied:
    """Prepare to count cases by the members of a family, or by other members; parameters as for `tally`."""
    found = columns.codes(family) if codes is None else codes
    return Tallied(columns, rows, found.codes if rows is None else found.codes[rows], found.members)


def among(values: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """Pick the cases where a mask is true; all of them are not copied."""
    return values if mask.all() else values[mask]


def table(
    name: str,
    t: Tallied,
    state: NDArray[np.integer],
    width: int,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Count cases by member and state: plainly, by weight, and by cluster."""
    shape = (t.size, width)
    arrays[name] = histogram(t.codes, state, shape)
    weight = t.columns.weights()
    if weight is not None:
        own = t.of(weight).astype(np.float64)
        arrays[f"{name}.w"] = sums(t.codes, state, shape, own)
        arrays[f"{name}.w2"] = sums(t.codes, state, shape, own * own)
    if t.columns.batch.has(None, "cluster"):
        own = np.ones(len(state)) if weight is None else t.of(weight).astype(np.float64)
        cluster = t.of(t.columns.hashes("cluster")).astype(np.uint64)
        clusters[name] = Clusters(t.codes.astype(np.int64), cluster, state.astype(np.int64), own)


def grouped(t: Tallied, mask: Mask, values: NDArray[Any] | None) -> NDArray[Any]:
    """Sum values (or count cases) by member and hash group, weighted; integers where there are no weights."""
    if mask.all():
        return t.once(values, lambda: _summed(t, mask, values))
    return _summed(t, mask, values)


def _summed(t: Tallied, mask: Mask, values: NDArray[Any] | None) -> NDArray[Any]:
    weight = t.columns.weights()
    cells, size = among(t.cells, mask), t.size * GROUPS
    if weight is None and values is None:
        return np.bincount(cells, minlength=size).reshape(t.size, GROUPS)
    own = None if values is None else among(values, mask)
    if weight is not None:
        weighed = among(t.of(weight), mask)
        found = np.bincount(cells, weights=weighed if own is None else own * weighed, minlength=size)
    else:
        found = np.bincount(cells, weights=own, minlength=size)
    whole = weight is None and own is not None and own.dtype.kind in "iu"
    table = found.reshape(t.size, GROUPS).astype(np.float64, copy=False)
    # Sums of whole numbers are whole.
    return table.astype(np.int64) if whole else table
