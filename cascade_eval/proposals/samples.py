"""The labelled cases a test may count: equal, independent, and known to stand for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import budgets
from cascade_eval.replay import UNRESOLVED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.proposals.gates import AtGate
    from cascade_eval.replay import Columns, Decisions
    from cascade_eval.suite import Suite

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """Equal, independent cases a test may count; `rows` are their positions."""

    rows: NDArray[np.int64]
    values: Floats
    disagrees: Mask
    of_cases: int

    @classmethod
    def of(cls, at: AtGate, *, joint: bool) -> Sample:
        """Take the cases at a gate, or those of all traffic for joint harm."""
        decided = at.replay.decisions
        pool = at.known & ~decided.cached & (decided.settled != UNRESOLVED) if joint else at.frame
        rows = np.flatnonzero(pool)
        rows = rows[fair(at.columns, at.stands[rows], rows)]
        values = np.where(at.read, at.compared.astype(np.float64), np.nan)[rows]
        return cls(rows, values, at.agrees[rows] != 1, int(pool.sum()))


def fair(columns: Columns, stands: Floats, rows: NDArray[np.int64]) -> Mask:
    """Draw cases so that each of the traffic had the same chance, at most one of a cluster; all where they are equal.

    One case of each cluster is chosen in proportion to what it stands for, and the cluster is kept in proportion to
    what all its cases stand for.
    """
    clustered = columns.batch.has(None, "cluster")
    if len(rows) == 0 or (not clustered and np.ptp(stands) == 0):
        return np.ones(len(rows), dtype=np.bool_)
    ids = columns.hashes("case_id")[rows]
    owner = columns.hashes("cluster")[rows] if clustered else ids
    names, cluster = np.unique(owner, return_inverse=True)
    total = np.bincount(cluster, stands)
    order = np.lexsort((-np.log(_uniform(ids, 1)) / stands, cluster))
    first = np.concatenate([[True], np.diff(cluster[order]) > 0])
    chosen = np.zeros(len(rows), dtype=np.bool_)
    chosen[order[first]] = True
    kept: Mask = chosen & (_uniform(names, 2) < total / total.max())[cluster]
    return kept


def _uniform(hashed: NDArray[np.uint64], salt: int) -> Floats:
    """Turn hashes into numbers above 0 and at most 1, independent for each salt."""
    mixed = hashed ^ np.uint64(0x9E3779B97F4A7C15 * salt % 2**64)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53), (33, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed >> np.uint64(11)) + np.uint64(1)).astype(np.float64) / 2.0**53


def lost(decided: Decisions, among: Mask | None = None) -> float:
    """Share of the cases, or of some of them, whose path is unknown; cached ones have none."""
    looked = ~decided.cached if among is None else among & ~decided.cached
    return float((decided.settled[looked] == UNRESOLVED).mean()) if looked.any() else 0.0


def unfit(decided: Decisions, known: Mask, suite: Suite, *, among: Mask | None = None) -> str | None:
    """Why nothing can be certified whatever the labels say.

    Parameters
    ----------
    decided
        Where every case goes.
    known
        Whether each case at the gate was compared with the flagship.
    suite
        Its floors.
    among
        Cases that stand for the others; all unless given.
    """
    missing = lost(decided, among)
    if 1 - missing < suite.coverage:
        return (
            f"the path of {_percent(missing)} of the cases is unknown, more than {_percent(1 - suite.coverage)}: a tier on it "
            "was not asked about them, or its signal was not recorded. Ask every tier about a sample"
        )
    compared = float(known.mean()) if len(known) else 0.0
    if compared < suite.audited:
        return (
            f"{_percent(compared)} of the cases at the gate were compared with the flagship, below {_percent(suite.audited)}: "
            "those that were need not be like the others. Ask the flagship about the rest; where it was asked about some "
            "drawn by chance, the column audit_probability says so"
        )
    return None


def _percent(rate: float) -> str:
    return budgets.show(rate, "rate")
