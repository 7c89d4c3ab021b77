"""Two cascades on the same cases, compared case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cascade_eval import bounds, cohorts
from cascade_eval.counts import AGREE, DISAGREE

if TYPE_CHECKING:
    from cascade_eval.cascade import Cascade
    from cascade_eval.counts import Counts


@dataclass(frozen=True)
class Baseline:
    """A cascade to compare with, and where it comes from.

    Parameters
    ----------
    cascade
        Replayed on the same traffic as the candidate.
    kind
        ``cascade`` of this suite, ``git`` revision, or ``evidence`` of an earlier run.
    name
        As written in the suite.
    created_at
        ISO time of the commit or the evidence; None for a cascade of this suite.
    commit
        Full hash for ``git``, the recorded one for ``evidence``.
    cohorts
        Cohorts the earlier run judged: one that this data lacks was not measured.
    """

    cascade: Cascade
    kind: Literal["cascade", "git", "evidence"]
    name: str
    created_at: str | None = None
    commit: str | None = None
    cohorts: tuple[tuple[tuple[str, str], ...], ...] = ()

    def record(self, now: Any) -> dict[str, Any]:
        """Return the baseline as evidence stores it, with its age at `now`, an aware datetime."""
        import datetime as dt

        age = None
        if self.created_at is not None:
            age = round((now - dt.datetime.fromisoformat(self.created_at)).total_seconds() / 86_400, 2)
        return {
            "kind": self.kind,
            "name": self.name,
            "created_at": self.created_at,
            "age_days": age,
            "commit": self.commit,
        }


def flips(counts: Counts, family: tuple[str, ...], member: int, *, confidence: float = 0.95) -> dict[str, Any] | None:
    """Compare candidate and baseline on the same cases, as evidence stores it.

    Parameters
    ----------
    counts
        With the table ``pairs``.
    family, member
        Which cohort.
    confidence
        Of each bound on its own side.

    Returns
    -------
    dict or None
        None where no case is known for both.

    References
    ----------
    McNemar, Psychometrika 12 (1947); Tango, Statistics in Medicine 17 (1998).
    """
    before, _, now, _ = np.indices((3, 3, 3, 3)).reshape(4, -1)
    table = counts["pairs"][member]
    nobs = int(table[(before <= AGREE) & (now <= AGREE)].sum())
    if nobs == 0:
        return None
    worse = int(table[(before == AGREE) & (now == DISAGREE)].sum())
    better = int(table[(before == DISAGREE) & (now == AGREE)].sum())
    test = bounds.mcnemar(worse, better)
    low, high = bounds.tango(worse, better, nobs, confidence=confidence)
    return {
        "cohort": cohorts.mapping(family, counts.members[member]),
        "nobs": nobs,
        "worse": worse,
        "better": better,
        "difference": (worse - better) / nobs,
        "low": float(low),
        "high": float(high),
        "p_exact": float(test.exact),
        "mid_p": float(test.mid_p),
        "p_regression": float(test.regression),
        "cases": [],
    }
