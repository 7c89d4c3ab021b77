"""From what became of each case to tables that add up.

`tally` counts one cascade over the members of one cohort family. Everything in it is a sum over cases, so batches can
be counted apart and added in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval.cascade import leaves
from cascade_eval.counts import LATENCY_BINS, Clusters, Counts, histogram, latency_bins, states, sums
from cascade_eval.replay import charges, paired
from cascade_eval.replay.decisions import UNRESOLVED
from cascade_eval.replay.members import among, grouped, table, tallied
from cascade_eval.traffic import OK, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.replay.columns import Columns
    from cascade_eval.replay.decisions import Decisions
    from cascade_eval.replay.members import Tallied

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

NEEDS: Final = frozenset(
    Field(None, name)
    for name in ("case_id", "weight", "cluster", "audit_probability", "task_id", "completed", "regenerated", "cached")
)
"""Case columns counting reads where they exist."""


def tally(
    cascade: Cascade,
    decisions: Decisions,
    columns: Columns,
    family: tuple[str, ...],
    *,
    rows: Mask | None = None,
    baseline: tuple[Cascade, Decisions] | None = None,
    limits: Sequence[float] = (),
    by: Tallied | None = None,
) -> Counts:
    """Count a cascade's decisions by cohort.

    Parameters
    ----------
    cascade
        What was replayed.
    decisions
        What became of each case.
    columns
        The cases.
    family
        Cohort columns; () counts all cases as one member.
    rows
        Count only these cases.
    baseline
        The baseline and what it made of the same cases, for flips and drift.
    limits
        Latency budgets in seconds, to be counted exactly.
    by
        From `tallied`: goes before family and rows, and shares what several cascades have in common.

    Returns
    -------
    Counts
        Tables ``states``, ``signals``, ``costs``, ``latency``, ``slower`` and, where the traffic has what they need,
        ``quality``, ``retained`` and ``pairs``; sums by hash group under ``ratio.*``, ``request.*``, ``quality.*`` and
        ``retained.*``.
    """
    t = tallied(columns, family, rows) if by is None else by
    arrays: dict[str, NDArray[Any]] = {}
    clusters: dict[str, Clusters] = {}
    decided = t.of(~decisions.cached & (decisions.settled != UNRESOLVED)).astype(np.bool_)
    _count_states(t, cascade, decisions, decided, arrays, clusters)
    arrays["signals"] = _signals(t, cascade, decisions)
    charges.count(t, cascade, decisions, decided, arrays, clusters)
    _count_latency(t, decisions, decided, limits, arrays)
    _count_quality(t, cascade, decisions, decided, arrays)
    if baseline is not None:
        paired.count(t, cascade, decisions, baseline, arrays, clusters)
    return Counts(t.members, arrays, clusters)


def _count_states(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    decided: Mask,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    layout = states(len(cascade.tiers))
    settled = t.of(decisions.settled)
    state = layout.encode(
        t.of(decisions.start), np.maximum(settled, 0), t.of(decisions.served), t.of(decisions.failed), _again(t)
    )
    state[~decided] = layout.unresolved
    state[t.of(decisions.cached).astype(np.bool_)] = layout.cached
    table("states", t, state, layout.size, arrays, clusters)
    audit = _audit_weights(t, cascade, decisions)
    if audit is not None:
        arrays["states.v"] = sums(t.codes, state, (t.size, layout.size), audit)
        arrays["states.v2"] = sums(t.codes, state, (t.size, layout.size), audit * audit)
        if "states" in clusters:
            clusters["states.v"] = _audit_clusters(t, state, audit)


def _audit_clusters(t: Tallied, state: NDArray[np.integer], audit: Floats) -> Clusters:
    """Keep clusters under the weights of the audit."""
    cluster = t.of(t.columns.hashes("cluster")).astype(np.uint64)
    return Clusters(t.codes.astype(np.int64), cluster, state.astype(np.int64), audit)


def _again(t: Tallied) -> NDArray[np.int64] | int:
    """Whether the user asked again: 0 unknown, 1 no, 2 yes."""
    if not t.columns.batch.has(None, "regenerated"):
        return 0
    yes, known = t.columns.batch.flags(None, "regenerated")
    return t.of(known.astype(np.int64) + yes).astype(np.int64)


def _audit_weights(t: Tallied, cascade: Cascade, decisions: Decisions) -> Floats | None:
    """Weight of each case where an audit drew some: its own over its chance to be drawn; 0 where it was not."""
    batch = t.columns.batch
    if not batch.has(None, "audit_probability"):
        return None
    chance = batch.numbers(None, "audit_probability").astype(np.float64)
    weight = t.columns.weights()
    base = np.ones(batch.cases) if weight is None else weight
    below = decisions.settled < len(cascade.tiers) - 1
    found = np.where(below, np.nan_to_num(base / chance, nan=0.0), base)
    return t.of(found).astype(np.float64)


def _signals(t: Tallied, cascade: Cascade, decisions: Decisions) -> NDArray[np.int64]:
    """Cases each gated leaf read, and those in which its value was missing; shape (members, leaves, 2)."""
    found = []
    for position, tier in enumerate(cascade.tiers):
        for number, leaf in enumerate(leaves(tier.gate)):
            read = decisions.reads.get((position, number))
            if read is None or not read.any():
                found.append(np.zeros((t.size, 2), dtype=np.int64))
                continue
            missing = read & np.isnan(t.columns.value(tier, number, leaf))
            found.append(t.cases(t.of(read), t.of(missing)))
    return np.stack(found, axis=1) if found else np.zeros((t.size, 0, 2), dtype=np.int64)


def _count_latency(
    t: Tallied, decisions: Decisions, decided: Mask, limits: Sequence[float], arrays: dict[str, NDArray[Any]]
) -> None:
    latency = t.of(decisions.latency)
    known = decided & ~np.isnan(latency)
    codes, seconds = among(t.codes, known), among(latency, known)
    arrays["latency.known"] = t.cases(known, decided & ~known)
    arrays["latency"] = histogram(codes, latency_bins(seconds), (t.size, LATENCY_BINS))
    slower = [np.bincount(codes[seconds > limit], minlength=t.size) for limit in limits]
    arrays["slower"] = np.stack(slower, axis=1) if slower else np.zeros((t.size, 0), dtype=np.int64)


def _count_quality(
    t: Tallied, cascade: Cascade, decisions: Decisions, decided: Mask, arrays: dict[str, NDArray[Any]]
) -> None:
    """Sum the quality of served answers and the flagship's; an unanswered case is worth nothing."""
    batch = t.columns.batch
    if not batch.has(None, "expected") and not any(batch.has(tier.model, "score") for tier in cascade.tiers):
        return
    by_tier = [t.columns.quality(tier.model) for tier in cascade.tiers]
    flagship = _flagship_quality(t.columns, cascade.flagship)
    served = served_quality(t.columns, cascade, decisions)
    own, reference = t.of(served).astype(np.float64), t.of(flagship).astype(np.float64)
    known = decided & ~np.isnan(own)
    both = known & ~np.isnan(reference)
    graded = known & (own != 0) & (own != 1)
    arrays["quality"] = t.cases(known, graded, known & (own == 1))
    arrays["quality.beyond"] = t.cases(graded & ((own < 0) | (own > 1)))
    recorded = decided & t.of(np.any(~np.isnan(by_tier), axis=0)).astype(np.bool_)
    arrays["quality.recorded"] = np.bincount(t.codes[recorded], minlength=t.size)
    arrays["quality.sum"] = grouped(t, known, own)
    arrays["quality.cases"] = grouped(t, known, None)
    arrays["retained"] = np.bincount(t.codes[both], minlength=t.size)
    arrays["retained.cascade"] = grouped(t, both, own)
    arrays["retained.flagship"] = grouped(t, both, reference)
    if t.columns.weights() is not None or t.columns.batch.has(None, "cluster"):
        # Its presence says it; counts add, so it must not.
        arrays["quality.weighted"] = np.zeros((t.size, 1), dtype=np.int64)


def served_quality(columns: Columns, cascade: Cascade, decisions: Decisions) -> Floats:
    """Quality of the answer each case was served, shape (n_cases,); NaN where it is not known."""
    served = np.full(len(decisions.settled), np.nan)
    for position, tier in enumerate(cascade.tiers[:-1]):
        served = np.where(decisions.settled == position, columns.quality(tier.model), served)
    return np.where(decisions.settled == len(cascade.tiers) - 1, _flagship_quality(columns, cascade.flagship), served)


def _flagship_quality(columns: Columns, flagship: Tier) -> Floats:
    """Quality of always asking the flagship: a call that failed, or took longer than its timeout, is worth nothing."""
    found = np.where(columns.status(flagship.model) > OK, 0.0, columns.quality(flagship.model))
    if flagship.timeout is not None:
        slow = columns.latency(flagship.model) > flagship.timeout
        found = np.where(slow & ~np.isnan(found), 0.0, found)
    return found
