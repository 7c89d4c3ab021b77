"""Whether weeks vouch for a budget: those of now, or more where nothing began inside cohorts; never against the latest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade_eval import bounds
from cascade_eval.diagnosis import comparing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.diagnosis.comparing import Moved
    from cascade_eval.diagnosis.facts import CohortFacts, Period


WEEKS: Final = 4
"""Latest weeks, at most, that may speak against the others."""


def within(one: CohortFacts, moves: Sequence[Moved], alpha: float) -> bool:
    """Whether now shows the budget to hold, or more weeks do and nothing of now speaks against it."""
    if shown(one.now, one.budget, alpha):
        return not broke(one.now, one.budget, alpha)
    if moves[0].up <= alpha or one.now.disagreement > one.budget:
        return False
    return one.shown or (moves[1].down > alpha / 5 and vouch(one, alpha))


def shown(period: Period, budget: float, alpha: float) -> bool:
    """Whether a period shows the budget to hold, unknown comparisons counted as disagreeing."""
    return float(bounds.p_at_most(period.total("most"), period.total("most_size"), budget)) <= alpha


def decide(one: CohortFacts, alpha: float) -> bool:
    """Whether it is these weeks that show the budget to hold, and not those of now."""
    return not shown(one.now, one.budget, alpha) and shown(one.calm, one.budget, alpha)


def vouch(one: CohortFacts, alpha: float) -> bool:
    """Whether weeks in which nothing began show the budget to hold, the latest of them not more than the others.

    As long as nothing changes every week is evidence of one rate, and four weeks are an arbitrary part of them.
    """
    if not shown(one.calm, one.budget, alpha):
        return False
    return not broke(one.calm, one.budget, alpha) and not any(p <= alpha / 5 for p, _ in _late(one.calm))


def broke(period: Period, budget: float, alpha: float) -> bool:
    """Whether the latest week, or the latest few, are over the budget by themselves and disagree more than those before."""
    return any(p <= alpha and rate > budget for p, rate in _late(period))


def _late(period: Period) -> Iterator[tuple[float, float]]:
    """Yield, for the latest one to four weeks, the p-value of "more than those before" and their rate."""
    bad, all_ = period.most, period.most_size
    for n in range(1, min(WEEKS, len(all_) - 1) + 1):
        late, early = (bad[-n:].sum(), all_[-n:].sum()), (bad[:-n].sum(), all_[:-n].sum())
        if late[1] > 0:
            yield comparing.rose(*early, *late), float(late[0] / late[1])
