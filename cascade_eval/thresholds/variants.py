"""Cascades that differ in one threshold only, counted by two replays instead of one of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.cascade import Cascade, leaves
from cascade_eval.cohorts import Codes
from cascade_eval.thresholds.places import Edges, Place, places, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Leaf
    from cascade_eval.counts import Counts
    from cascade_eval.replay import Columns, Decisions


@dataclass(frozen=True, eq=False)
class Variants:
    """Cascades that differ in one threshold only: what each does is read off two replays instead of one of each.

    Parameters
    ----------
    cascades
        The cascades.
    place
        The leaf whose threshold differs.
    thresholds
        Their thresholds.
    """

    cascades: tuple[Cascade, ...]
    place: Place
    thresholds: Edges

    def codes(self, columns: Columns, family: tuple[str, ...], bins: NDArray[np.int64]) -> Codes:
        """Split the members of a family by how many of the thresholds a case settles at."""
        plain = columns.codes(family)
        width = len(self.thresholds.values) + 1
        members = tuple((*member, str(found)) for member in plain.members for found in range(width))
        return Codes(family, plain.codes * width + bins, members)

    def first(self, cascade: Cascade) -> int:
        """Count of thresholds from which on a case settles in this cascade."""
        threshold = _leaf(cascade, self.place).threshold
        at = np.flatnonzero(self.thresholds.values == threshold)
        return int(at[0]) + 1 if len(at) else len(self.thresholds.values) + 1

    def bins(self, columns: Columns) -> NDArray[np.int64]:
        """How many of the thresholds each case settles at."""
        return self.thresholds.bins(columns.value(self.place.tier, self.place.number, self.place.leaf))

    def decisions(self, cascade: Cascade, both: tuple[Decisions, Decisions], bins: NDArray[np.int64]) -> Decisions:
        """Return one cascade's start, settled and served from the two replays; its costs and times are not."""
        settled, escalated = both
        settles = bins >= self.first(cascade)
        return replace(
            escalated,
            settled=np.where(settles, settled.settled, escalated.settled),
            served=np.where(settles, settled.served, escalated.served),
        )

    def counts(self, cascade: Cascade, settled: Counts, escalated: Counts) -> Counts:
        """Return one cascade's counts from those of the two replays, split by `codes`."""
        first = self.first(cascade)
        members = tuple(dict.fromkeys(member[:-1] for member in (*settled.members, *escalated.members)))
        place = {member: i for i, member in enumerate(members)}

        def part(counts: Counts, *, settles: bool) -> Counts:
            wanted = [(int(member[-1]) >= first) == settles for member in counts.members]
            places = [place[member[:-1]] if take else -1 for member, take in zip(counts.members, wanted, strict=True)]
            return counts.pool(members, places)

        return part(settled, settles=True) + part(escalated, settles=False)


def variants(cascades: Sequence[Cascade]) -> list[Variants]:
    """Find groups of two or more cascades that differ in one threshold only."""
    groups: dict[tuple[object, ...], list[tuple[Cascade, Place]]] = {}
    for cascade in cascades:
        place = next(places(cascade), None)
        if place is not None:
            groups.setdefault((place.name, without(cascade, place)), []).append((cascade, place))
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        _, place = group[0]
        named = {each.leaf.threshold for _, each in group if each.leaf.threshold is not None}
        values = np.array(sorted(value for value in named if not np.isnan(value)))
        tried = Edges(values if place.leaf.surer == "higher" else values[::-1], place.leaf.surer)
        found.append(Variants(tuple(cascade for cascade, _ in group), place, tried))
    return found


def _leaf(cascade: Cascade, place: Place) -> Leaf:
    return list(leaves(cascade.tiers[place.position].gate))[place.number]
