"""What is added up: integer tables by cohort, and nothing else.

Replaying gives every case a *state*: where it started, which tier settled it, how the served answer compares with
the flagship's, whether a call on its path failed, whether the user asked again. Rates are sums over states. Money
and quality are summed in 1,024 groups of cases by hash, so that the spread of a ratio can be computed from sums that
do not depend on how the data was cut into pieces; latency goes into a fixed logarithmic histogram.

Batches, files and machines go through the same addition, `Counts.__add__`; rates are derived only afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cohorts import Member

GROUPS: Final = 1024
"""Hash groups for the spread of sums: its own relative error is sqrt(1 / (2 * GROUPS)), 2.2%."""

DISAGREE, AGREE, UNKNOWN, UNSAMPLED = 0, 1, 2, 3
"""How the answer a cheaper tier served compares with the flagship's."""

UNANSWERED, ANSWERED, MISSING = 0, 1, 2
"""What came of a case the flagship settled: no usable answer, an answer, no recorded row."""

# 128 buckets an octave from 2**-12 s (a quarter of a millisecond) to 2**15 s (nine hours): each at most 0.8% wide.
_LATENCY_SHIFT: Final = 16
_LATENCY_FIRST: Final = (127 - 12) << (23 - _LATENCY_SHIFT)
LATENCY_BINS: Final = (27 << (23 - _LATENCY_SHIFT)) + 1


@dataclass(frozen=True)
class States:
    """Numbering of the states of a cascade with some tiers.

    Parameters
    ----------
    tiers
        Number of tiers, the flagship included.
    """

    tiers: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Radix of (start, settled, served, failed, again)."""
        return (self.tiers, self.tiers, 4, 4, 3)

    @cached_property
    def regular(self) -> int:
        """Number of states of resolved cases."""
        return int(np.prod(self.shape))

    @property
    def unresolved(self) -> int:
        """State of a case whose path is not known."""
        return self.regular

    @property
    def cached(self) -> int:
        """State of a request a cache answered in front of the cascade."""
        return self.regular + 1

    @property
    def size(self) -> int:
        """Number of states."""
        return self.regular + 2

    @cached_property
    def digits(self) -> tuple[NDArray[np.int64], ...]:
        """Start, settled, served, failed and again of each regular state; each of shape (regular,)."""
        return tuple(np.indices(self.shape).reshape(5, -1))

    def encode(
        self,
        start: NDArray[np.integer],
        settled: NDArray[np.integer],
        served: NDArray[np.integer],
        failed: NDArray[np.integer] | int = 0,
        again: NDArray[np.integer] | int = 0,
    ) -> NDArray[np.integer]:
        """Return the state of each resolved case."""
        tiers = np.int32(self.tiers)
        found: NDArray[np.integer] = (((start * tiers + settled) * 4 + served) * 4 + failed) * 3 + again
        return found

    def mask(self, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Extend a choice of regular states to all states."""
        return np.concatenate([selected, [False, False]])


@lru_cache(maxsize=64)
def states(tiers: int) -> States:
    """Return the numbering for so many tiers."""
    return States(tiers)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster contributed how often to which state; cases of one cluster are not independent.

    Parameters
    ----------
    member, cluster, state
        Cohort member, hash of the cluster, and state; each of shape (n_rows,).
    weight
        Summed case weights, shape (n_rows,).
    """

    member: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    state: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __add__(self, other: Clusters) -> Clusters:
        return Clusters(
            np.concatenate([self.member, other.member]),
            np.concatenate([self.cluster, other.cluster]),
            np.concatenate([self.state, other.state]),
            np.concatenate([self.weight, other.weight]),
        )

    def place(self, places: NDArray[np.int64]) -> Clusters:
        """Renumber the members; -1 drops."""
        member = places[self.member]
        keep = member >= 0
        return Clusters(member[keep], self.cluster[keep], self.state[keep], self.weight[keep])


@dataclass(frozen=True, eq=False)
class Counts:
    """Additive tables of one cascade over the members of one cohort family.

    Parameters
    ----------
    members
        Members of the family that occurred; the first axis of every array.
    arrays
        Tables by name, each of shape (n_members, ...).
    clusters
        Cluster contributions by table name; only where the traffic has clusters.
    """

    members: tuple[Member, ...]
    arrays: Mapping[str, NDArray[Any]]
    clusters: Mapping[str, Clusters] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        if self.members == other.members:
            members = self.members
            left, right = self, other
        else:
            members = tuple(dict.fromkeys((*self.members, *other.members)))
            # What came first is in order already; only new members make it longer.
            left, right = self if members == self.members else self.align(members), other.align(members)
        arrays = {name: _sum(left.arrays.get(name), right.arrays.get(name)) for name in {**left.arrays, **right.arrays}}
        clusters = {
            name: left.clusters[name] + right.clusters[name]
            if name in left.clusters and name in right.clusters
            else (left.clusters.get(name) or right.clusters[name])
            for name in {**left.clusters, **right.clusters}
        }
        return Counts(members, arrays, clusters)

    def absorb(self, other: Counts) -> Counts:
        """Add like `+`, into these tables where they fit; nobody else may hold them, and the other's are copied."""
        if self.members != other.members or self.clusters or other.clusters:
            return self + other
        arrays = dict(self.arrays)
        for name, table in other.arrays.items():
            mine = arrays.get(name)
            if mine is None:
                arrays[name] = table.copy()
            elif mine.dtype != table.dtype:
                arrays[name] = mine + table
            else:
                np.add(mine, table, out=mine)
        return Counts(self.members, arrays)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def align(self, members: Sequence[Member]) -> Counts:
        """Return the same counts with these members, in this order; those that do not occur get zeros."""
        place = {member: i for i, member in enumerate(members)}
        return self._place(tuple(members), np.array([place.get(member, -1) for member in self.members], dtype=np.int64))

    def pool(self, members: Sequence[Member], places: Sequence[int]) -> Counts:
        """Add members together: member i of these counts becomes part of `members[places[i]]`."""
        if tuple(members) == self.members and list(places) == list(range(len(members))):
            return self
        return self._place(tuple(members), np.asarray(places, dtype=np.int64))

    def total(self) -> Counts:
        """Add all members together."""
        return self.pool(((),), [0] * len(self.members))

    def only(self, position: int) -> Counts:
        """Keep one member."""
        member = self.members[position]
        return self.align([member])

    def _place(self, members: tuple[Member, ...], places: NDArray[np.int64]) -> Counts:
        arrays = {name: _moved(array, places, len(members)) for name, array in self.arrays.items()}
        return Counts(members, arrays, {name: rows.place(places) for name, rows in self.clusters.items()})


def _moved(array: NDArray[Any], places: NDArray[np.int64], size: int) -> NDArray[Any]:
    """Add rows of a table to the places they belong to; -1 drops a row."""
    if size == 1 and len(places) and not places.any():
        total: NDArray[Any] = array.sum(axis=0, keepdims=True)
        return total
    if len(places) == size and np.array_equal(np.sort(places), np.arange(size)):
        return array[np.argsort(places)]
    moved = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    # One addition per row: NumPy's ufunc.at is several times slower on wide rows.
    for row, place in enumerate(places.tolist()):
        if place >= 0:
            moved[place] += array[row]
    return moved


def _sum(left: NDArray[Any] | None, right: NDArray[Any] | None) -> NDArray[Any]:
    """Add two tables, one of which may be missing."""
    if left is None or right is None:
        found = right if left is None else left
        assert found is not None
        return found
    total: NDArray[Any] = left + right
    return total


def histogram(codes: NDArray[np.integer], cells: NDArray[np.integer], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Count cases by member and cell.

    Parameters
    ----------
    codes, cells
        Member and cell of each case, shape (n_cases,).
    shape
        Number of members and of cells.
    """
    flat = np.bincount(codes * shape[1] + cells, minlength=shape[0] * shape[1])
    return flat.reshape(shape)


def sums(
    codes: NDArray[np.integer], cells: NDArray[np.integer], shape: tuple[int, int], values: NDArray[Any]
) -> NDArray[np.float64]:
    """Add values by member and cell; exact for integers as long as a batch sums below 2**53."""
    flat = np.bincount(codes * shape[1] + cells, weights=values, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float64, copy=False)


def latency_bins(seconds: NDArray[np.floating]) -> NDArray[np.int32]:
    """Bucket of each latency, by the leading bits of its float32 form; each bucket is at most 0.8% wide.

    Examples
    --------
    >>> low, high = latency_edges()
    >>> bins = latency_bins(np.array([0.25, 1.0, 1.5]))
    >>> bool(np.all(low[bins] <= [0.25, 1.0, 1.5]) and np.all([0.25, 1.0, 1.5] < high[bins]))
    True
    """
    bits = seconds.astype(np.float32).view(np.int32) >> _LATENCY_SHIFT
    found: NDArray[np.int32] = np.clip(bits - _LATENCY_FIRST, 0, LATENCY_BINS - 1)
    return found


def latency_edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower and upper edge of each latency bucket in seconds, shape (LATENCY_BINS,)."""
    bits = (np.arange(LATENCY_BINS + 1, dtype=np.int64) + _LATENCY_FIRST) << _LATENCY_SHIFT
    edges = bits.astype(np.int32).view(np.float32).astype(np.float64)
    edges[0] = 0.0
    return edges[:-1], edges[1:]
