"""How two cascades served the same cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval.counts import AGREE, ANSWERED, UNKNOWN, UNSAMPLED, Clusters, Counts
from cascade_eval.replay.decisions import UNRESOLVED
from cascade_eval.replay.members import Tallied, table, tallied

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay.columns import Columns
    from cascade_eval.replay.decisions import Decisions

STATES: Final = 81
"""Of one case: served (3) and escalated (3) of the baseline, then of the candidate."""


def pairs(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    baseline: tuple[Cascade, Decisions],
) -> Counts:
    """Count only how baseline and candidate served the same cases; parameters as for `tally`."""
    t = tallied(columns, family)
    arrays: dict[str, NDArray[Any]] = {}
    clusters: dict[str, Clusters] = {}
    count(t, cascade, decisions, baseline, arrays, clusters)
    return Counts(t.members, arrays, clusters)


def count(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    baseline: tuple[Cascade, Decisions],
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Count how baseline and candidate served the same cases: agreeing, disagreeing, unknown; escalated or not."""
    state = paired_state(baseline, (cascade, decisions))
    asked = ~decisions.cached
    picked = Tallied(
        t.columns, asked if t.rows is None else asked & t.rows, t.codes[t.of(asked).astype(np.bool_)], t.members
    )
    table("pairs", picked, picked.of(state).astype(np.int64), STATES, arrays, clusters)


def paired_state(baseline: tuple[Cascade, Decisions], candidate: tuple[Cascade, Decisions]) -> NDArray[np.int64]:
    """Tell how two cascades served each case, as one number: (served, escalated) of the baseline, then of the candidate.

    Served is DISAGREE, AGREE or UNKNOWN, escalated 0, 1, or 2 for unknown or not applicable.
    """
    (before, before_up), (now, now_up) = _served_and_escalated(*baseline), _served_and_escalated(*candidate)
    return ((before * 3 + before_up) * 3 + now) * 3 + now_up


def _served_and_escalated(cascade: Cascade, decisions: Decisions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    last = len(cascade.tiers) - 1
    settled, served = decisions.settled, decisions.served.astype(np.int64)
    # The flagship agrees with itself, as far as it answered.
    own = np.where(served == ANSWERED, AGREE, UNKNOWN)
    agreement = np.where(settled == last, own, np.where(served == UNSAMPLED, UNKNOWN, served))
    agreement = np.where(settled == UNRESOLVED, UNKNOWN, agreement)
    escalated = np.where((settled == UNRESOLVED) | (decisions.start == last), 2, settled == last)
    return agreement.astype(np.int64), escalated.astype(np.int64)
