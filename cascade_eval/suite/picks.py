"""Cases worth looking at: the disagreements gates were surest of, and what changed against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import replay
from cascade_eval.cascade import leaves
from cascade_eval.counts import AGREE, DISAGREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval import thresholds
    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Columns, Decisions

WORST: Final = 20
"""Disagreements shown of all cases."""

WORST_EACH: Final = 5
"""Disagreements shown of each cohort."""

FLIPS: Final = 20
"""Flips shown of each cohort and direction."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Cases worth looking at, by position in the traffic; each array of shape (n_picked,).

    Parameters
    ----------
    cohort
        Which list they belong to: () for all cases, else ``(family, member)``.
    position
        Of the case in the traffic.
    tier
        Position of the tier that settled it.
    order
        Ascending: the first ones are kept.
    value
        What the gate compared.
    """

    position: NDArray[np.int64]
    tier: NDArray[np.int64]
    order: NDArray[np.float64]
    value: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Picked:
        """Keep some of them."""
        return Picked(self.position[chosen], self.tier[chosen], self.order[chosen], self.value[chosen])

    def merged(self, other: Picked, most: int) -> Picked:
        """Keep the first of both, ties by position, so that the result does not depend on the partition."""
        position = np.concatenate([self.position, other.position])
        order = np.concatenate([self.order, other.order])
        kept = np.lexsort((position, order))[:most]
        return Picked(
            position[kept],
            np.concatenate([self.tier, other.tier])[kept],
            order[kept],
            np.concatenate([self.value, other.value])[kept],
        )


Key = tuple[str, tuple[str, ...], tuple[str, ...], str]
"""Which list of picked cases: cascade, family, member, and ``worst``, ``worse`` or ``better``."""


Families = tuple[tuple[str, ...], ...]
"""Cohort families whose members have lists of their own."""


def most(family: tuple[str, ...], kind: str) -> int:
    """Return how many cases a list keeps."""
    if kind != "worst":
        return FLIPS
    return WORST_EACH if family else WORST


def reads_alone(variants: thresholds.Variants, escalated: Decisions) -> bool:
    """Whether nothing but the varying leaf can settle a case below the flagship."""
    place, tiers = variants.place, variants.cascades[0].tiers
    return (place.position, place.number, len(tiers)) == (0, 0, 2) and not (escalated.settled == 0).any()


def surest(
    families: Families,
    variants: thresholds.Variants,
    settled: Decisions,
    columns: Columns,
    bins: NDArray[np.int64],
) -> dict[Key, Picked]:
    """Find the surest disagreements of every variant: of those of a gate that settles everything, its own.

    What settles at a threshold is what the gate is surest of, so each list begins as the list of all does.
    """
    picked: dict[Key, Picked] = {}
    for (_, family, member, kind), found in worst(families, variants.cascades[0], settled, columns).items():
        settles = bins[found.position - columns.batch.first]
        for cascade in variants.cascades:
            own = found.where(settles >= variants.first(cascade))
            if len(own.position):
                picked[cascade.name, family, member, kind] = own
    return picked


def worst(families: Families, cascade: Cascade, decisions: Decisions, columns: Columns) -> dict[Key, Picked]:
    """Find the unescalated disagreements each gate was surest of."""
    picked: dict[Key, Picked] = {}
    for position, tier in enumerate(cascade.tiers[:-1]):
        wrong = ~decisions.cached & (decisions.settled == position) & (decisions.served == DISAGREE)
        rows = np.flatnonzero(wrong)
        if not len(rows):
            continue
        leaf = next(leaves(tier.gate))
        value = columns.value(tier, 0, leaf)[rows].astype(np.float64)
        order = np.nan_to_num(-value if leaf.surer == "higher" else value, nan=np.inf)
        found = Picked(rows + columns.batch.first, np.full(len(rows), position), order, value)
        _spread(picked, families, cascade.name, "worst", found, rows, columns)
    return picked


def flips(
    families: Families, cascade: Cascade, decisions: Decisions, columns: Columns, before: tuple[Cascade, Decisions]
) -> dict[Key, Picked]:
    """Find the cases that began, and those that ceased, to disagree."""
    state = replay.paired_state(before, (cascade, decisions))
    was, now = state // 27, (state // 3) % 3
    picked: dict[Key, Picked] = {}
    for kind, mask in (
        ("worse", (was == AGREE) & (now == DISAGREE)),
        ("better", (was == DISAGREE) & (now == AGREE)),
    ):
        rows = np.flatnonzero(mask & ~decisions.cached)
        nothing = np.zeros(len(rows))
        found = Picked(rows + columns.batch.first, decisions.settled[rows].astype(np.int64), nothing, nothing)
        _spread(picked, families, cascade.name, kind, found, rows, columns)
    return picked


def _spread(
    picked: dict[Key, Picked],
    families: Families,
    name: str,
    kind: str,
    found: Picked,
    rows: NDArray[np.int64],
    columns: Columns,
) -> None:
    """Add cases to the list of all, and to those of their cohorts, keeping only the first of each."""
    for family in dict.fromkeys([(), *families]):
        codes = columns.codes(family)
        size, limit = len(codes.members), most(family, kind)
        small = np.uint16 if size < 65_536 else np.int64
        members = codes.codes[rows]
        near = _contenders(found.order, members, size, limit)
        # Positions ascend already, so that a stable sort keeps ties in their order.
        best = near[np.argsort(found.order[near], kind="stable")]
        mine = members[best].astype(small)
        # A stable sort of small integers is a radix sort; it keeps the best of each cohort in front.
        order = np.argsort(mine, kind="stable")
        ends = np.cumsum(np.bincount(mine, minlength=size))
        rank = np.arange(len(order)) - np.repeat(np.concatenate([[0], ends[:-1]]), np.diff(ends, prepend=0))
        kept = best[order[rank < limit]]
        owners = members[kept]
        for own in np.split(kept, np.flatnonzero(np.diff(owners)) + 1) if len(kept) else ():
            key = (name, family, codes.members[int(members[own[0]])], kind)
            part = Picked(found.position[own], found.tier[own], found.order[own], found.value[own])
            picked[key] = picked[key].merged(part, limit) if key in picked else part


def _contenders(order: NDArray[np.float64], members: NDArray[np.int64], size: int, limit: int) -> NDArray[np.int64]:
    """Find few places that hold the first `limit` of each member: sorting them all would take several times as long."""
    few = 32 * size * limit
    if len(order) > few:
        near = np.flatnonzero(order <= np.partition(order, few)[few])
        wanted = np.minimum(np.bincount(members, minlength=size), limit)
        if (np.bincount(members[near], minlength=size) >= wanted).all():
            return near
    return np.arange(len(order))
