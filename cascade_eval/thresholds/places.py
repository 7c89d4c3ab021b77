"""Which thresholds can be moved, and which values of them are tried."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval.cascade import Cascade, leaves
from cascade_eval.thresholds.lookup import Lookup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Leaf, Tier

    Floats = NDArray[np.float64]

EDGES: Final = 1001
"""Most thresholds tried in a streaming evaluation; in memory every distinct value is."""


@dataclass(frozen=True)
class Place:
    """One leaf of one gate.

    Parameters
    ----------
    position, number
        Position of the tier, and of the leaf within its gate.
    tier, leaf
        The same, as values.
    """

    position: int
    number: int
    tier: Tier
    leaf: Leaf

    @property
    def name(self) -> str:
        """Name of the tables that belong to it."""
        return f"{self.position}.{self.number}"


def places(cascade: Cascade) -> Iterator[Place]:
    """Find the leaves whose threshold can be moved: single gates, and named leaves of composite ones."""
    for position, tier in enumerate(cascade.tiers):
        found = list(leaves(tier.gate))
        for number, leaf in enumerate(found):
            if len(found) == 1 or leaf.name is not None:
                yield Place(position, number, tier, leaf)


@dataclass(frozen=True, eq=False)
class Edges:
    """Thresholds to count exactly, in ascending order of the value that settles more surely.

    Parameters
    ----------
    values
        Thresholds, ascending; descending where lower is surer.
    surer
        Which direction means surer.
    complete
        Whether these are all distinct values, so that every possible threshold is among them.
    """

    values: Floats
    surer: str = "higher"
    complete: bool = True

    def bins(self, compared: NDArray[np.floating]) -> NDArray[np.int64]:
        """Count, for each case, the thresholds at which it settles; 0 where the value is missing."""
        if compared.dtype == np.float32:
            return self._single.place(compared if self.surer == "higher" else -compared)
        return self._double.place(compared if self.surer == "higher" else -compared)

    @functools.cached_property
    def _double(self) -> Lookup:
        return Lookup(self.values if self.surer == "higher" else -self.values)

    @functools.cached_property
    def _single(self) -> Lookup:
        # The threshold is compared in the precision of the recorded column.
        return Lookup((self.values if self.surer == "higher" else -self.values).astype(np.float32))


def edges(
    values: Floats,
    cases: NDArray[np.integer],
    *,
    named: Sequence[float] = (),
    surer: str = "higher",
    limit: int = EDGES,
) -> Edges:
    """Choose thresholds to count: all distinct values, or evenly filled quantiles, and every named one.

    Parameters
    ----------
    values
        Distinct values that occur, shape (n_distinct,).
    cases
        How many cases have each, shape (n_distinct,).
    named
        Thresholds in use.
    surer
        Which direction means surer.
    limit
        Most values beside the named ones.

    Examples
    --------
    >>> edges(np.array([0.1, 0.5, 0.9]), np.array([5, 1, 1]), named=[0.7]).values
    array([0.1, 0.5, 0.7, 0.9])
    """
    complete = len(values) <= limit
    chosen = values
    if not complete:
        mass = np.cumsum(cases)
        wanted = np.linspace(0, mass[-1], limit)
        chosen = values[np.unique(np.minimum(np.searchsorted(mass, wanted), len(values) - 1))]
    ascending = np.unique(np.concatenate([chosen, np.asarray(named, dtype=np.float64)]))
    return Edges(ascending if surer == "higher" else ascending[::-1], surer, complete)


def without(cascade: Cascade, place: Place) -> tuple[object, ...]:
    """Everything about a cascade but the moved threshold, so that cascades that differ only in it share a pass."""
    tiers = []
    for position, tier in enumerate(cascade.tiers):
        gates = tuple(
            (
                leaf.signal.key,
                leaf.calibrate,
                leaf.surer,
                None if (position, n) == (place.position, place.number) else leaf.threshold,
            )
            for n, leaf in enumerate(leaves(tier.gate))
        )
        single = len(gates) == 1
        tiers.append((tier.model, tier.timeout, tier.hedged, gates, None if single else repr(tier.gate)))
    return (tuple(tiers), repr(cascade.routes))
