"""What the code under test did, as a replay: the same estimates and budgets judge it.

Where an ordinary replay asks gates, this one looks at calls. A case was settled by the flagship if the flagship was
asked, else by the last tier, in the order of the cascade, that answered. It started where the cascade's routes say, or
at the first tier asked where that is cheaper: calls to the flagship alone count as escalated unless a route says so.
Every call is paid, whoever was asked. What was recorded besides, such as the flagship's answer to a case that was kept,
is used for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import errors, replay
from cascade_eval.counts import AGREE, ANSWERED, DISAGREE, UNANSWERED, UNKNOWN, UNSAMPLED
from cascade_eval.replay import Columns, Decisions, Replay
from cascade_eval.replay.decisions import TIMED_OUT, UNRESOLVED, WAS_REFUSED, sampled, starts
from cascade_eval.traffic import OK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval import metrics
    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.playback.answering import Priced
    from cascade_eval.playback.nouns import Asked
    from cascade_eval.traffic import Batch


@dataclass
class _Path:
    """What is known of one case."""

    asked: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    failed: int = 0
    cost: int = 0
    cost_known: bool = True
    begun: float = 0.0
    ready: float = 0.0
    hedged: bool = False

    def add(self, position: int | None, tier: Tier | None, asked: Asked, took: Priced) -> None:
        """Follow one more call, in the order in which they were made."""
        self.cost += took.nano
        self.cost_known &= took.known
        if position is None or tier is None:
            self.ready += took.latency
        else:
            self.asked.append(position)
            if asked.status == "ok":
                self.answered.append(position)
            self.failed |= {"timeout": TIMED_OUT, "refused": WAS_REFUSED}.get(asked.status, 0)
            self.ready = float(np.maximum(self.ready, self.begun + took.latency))
            self.hedged = tier.hedged
        if not self.hedged:
            self.begun = self.ready

    def settled(self, last: int) -> int:
        """Return the tier that settled the case, as its calls show."""
        if not self.asked:
            return UNRESOLVED
        if last in self.asked:
            return last
        return max(self.answered or self.asked)


def build(
    cascade: Cascade,
    batch: Batch,
    ids: Sequence[str],
    rules: replay.Rules,
    calls: Sequence[tuple[Asked, Priced]],
    served: Mapping[str, int],
    *,
    left: Collection[str] = (),
    context: metrics.Context,
) -> Replay:
    """Turn calls into a replay.

    Parameters
    ----------
    cascade
        Tiers in order; gates are not read.
    batch, ids
        The cases that were run, and what they are called.
    rules
        When answers agree, and prices.
    calls
        In the order in which they were made, with what each took.
    served
        Position of the tier whose answer a case was given, where the code said so.
    left
        Cases whose code ended with an exception, so that nobody was answered unless `served` says otherwise.
    context
        Floors and confidence.

    Returns
    -------
    Replay
        Of the cases that were run. One without a call of any tier has no known path, which `coverage` counts.

    Raises
    ------
    UsageError
        A hedged tier was asked and nobody said whose answer was served.
    """
    # Its gates were not read: what the code did stands in their place.
    cascade = replace(cascade, tiers=tuple(replace(tier, gate=None) for tier in cascade.tiers))
    context = replace(
        context, tiers=tuple(tier.name for tier in cascade.tiers), audit=batch.has(None, "audit_probability")
    )
    columns = Columns(batch, rules)
    paths = _follow(cascade, ids, calls)
    _refuse_guesses(cascade, paths, served)
    last = len(cascade.tiers) - 1
    settled = np.array([served.get(case, paths[case].settled(last)) for case in ids], dtype=np.int8)
    cached = batch.flags(None, "cached")[0]
    settled[cached] = UNRESOLVED
    first = np.array([min(paths[case].asked, default=last) for case in ids], dtype=np.int8)
    known = settled != UNRESOLVED
    answered = [[] if case in left and case not in served else paths[case].answered for case in ids]
    spoke = np.array([last in positions for positions in answered], dtype=np.bool_)
    silent = np.array([not positions for positions in answered], dtype=np.bool_)
    decisions = Decisions(
        np.minimum(starts(cascade, columns), first),
        settled,
        _served(cascade, columns, settled, spoke, silent),
        cached,
        np.where(cached, 0, [paths[case].failed for case in ids]).astype(np.int8),
        np.where(cached, 0, [paths[case].cost for case in ids]).astype(np.int64),
        np.array([paths[case].cost_known for case in ids], dtype=np.bool_) & known,
        np.where(cached, 0.0, [paths[case].ready for case in ids]).astype(np.float64),
        {},
    )
    return Replay(cascade, columns, decisions, context)


def _follow(cascade: Cascade, ids: Sequence[str], calls: Sequence[tuple[Asked, Priced]]) -> dict[str, _Path]:
    positions = {tier.model: position for position, tier in enumerate(cascade.tiers)}
    paths = {case: _Path() for case in ids}
    for asked, took in calls:
        if asked.case in paths:
            position = positions.get(asked.model or "") if asked.charged else None
            paths[asked.case].add(position, None if position is None else cascade.tiers[position], asked, took)
    return paths


def _refuse_guesses(cascade: Cascade, paths: Mapping[str, _Path], served: Mapping[str, int]) -> None:
    """Refuse to guess who settled a case where a hedged tier starts the next one whatever its own answer is."""
    hedged = {position for position, tier in enumerate(cascade.tiers) if tier.hedged}
    unsaid = [case for case, path in paths.items() if hedged & set(path.asked) and case not in served]
    if unsaid:
        names = ", ".join(repr(cascade.tiers[position].name) for position in sorted(hedged))
        raise errors.UsageError(
            f"{names} is hedged: the next tier is asked in any case, so calls do not tell whose answer was served in "
            f"{len(unsaid):,} cases. First: {unsaid[0]}. Say it with played.served(case, model)."
        )


def _served(
    cascade: Cascade, columns: Columns, settled: NDArray[np.int8], spoke: NDArray[np.bool_], silent: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """How what was served compares with the flagship's answer; a case left without an answer agrees with none.

    `spoke` says where the flagship answered the code, `silent` where no tier did.
    """
    last, flagship = len(cascade.tiers) - 1, cascade.flagship.model
    found = np.where(settled == last, np.where(spoke, ANSWERED, UNANSWERED), UNKNOWN).astype(np.int8)
    drawn = sampled(columns)
    for position, tier in enumerate(cascade.tiers[:-1]):
        here = settled == position
        if not here.any():
            continue
        agrees = columns.agrees(tier.model, flagship)
        compared = np.where(agrees < 0, UNKNOWN, np.where(agrees == 1, AGREE, DISAGREE)).astype(np.int8)
        compared[silent & (columns.status(flagship) == OK)] = DISAGREE
        if drawn is not None:
            compared[~drawn] = UNSAMPLED
        found = np.where(here, compared, found)
    return found


def seconds(took: Priced) -> float | None:
    """Return the seconds of a call, None where they are unknown."""
    return None if math.isnan(took.latency) else took.latency
