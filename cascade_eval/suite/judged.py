"""What was judged: the data, its cohorts, and each cascade with everything measured about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cascade_eval import cohorts, metrics
from cascade_eval.counts import states

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade_eval.baseline import Baseline
    from cascade_eval.budgets import Budget
    from cascade_eval.cascade import Cascade
    from cascade_eval.cohorts import Member
    from cascade_eval.counts import Counts
    from cascade_eval.verdicts import Estimate, Verdict


@dataclass(frozen=True)
class Data:
    """Where the cases come from, for messages and evidence.

    Parameters
    ----------
    path
        As the user knows it.
    kind
        ``golden`` or ``traffic``.
    description
        Of the golden.
    cohorts
        Cases per cohort a golden promises; one that is missing in the data was not measured.
    """

    path: str
    kind: Literal["golden", "traffic"] = "traffic"
    description: str | None = None
    cohorts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Watching:
    """What weeks say about a suite: the verdicts of its watched budgets, and what evidence shows of the weeks.

    Parameters
    ----------
    verdicts
        Of each watched budget of each cascade, by the cascade's name: one for every cohort the weeks know.
    reason
        Why no week can be judged; None where they can.
    notes
        What to say about the weeks.
    blocks
        Their part of the evidence.
    """

    verdicts: Mapping[tuple[str, Budget], tuple[Verdict, ...]] = field(default_factory=dict)
    reason: str | None = None
    notes: tuple[str, ...] = ()
    blocks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cell:
    """One cohort of one cascade.

    Parameters
    ----------
    family, member
        Which cohort.
    counts
        Counts of the whole family, pooled cohorts added up.
    place
        Position of this cohort among their members.
    pooled
        Names of the cohorts added up in it.
    """

    family: tuple[str, ...]
    member: Member
    counts: Counts
    place: int = 0
    pooled: tuple[str, ...] = ()

    @property
    def cohort(self) -> dict[str, str]:
        """Value by column."""
        return cohorts.mapping(self.family, self.member)


@dataclass(frozen=True, eq=False)
class Judged:
    """One cascade with everything measured about it.

    Parameters
    ----------
    cascade
        With every threshold filled in.
    context
        Names and floors.
    overall
        All cases.
    cells
        By cohort family.
    verdicts
        In the order of the budgets.
    baseline
        What it was compared with.
    """

    cascade: Cascade
    context: metrics.Context
    overall: Cell
    cells: Mapping[tuple[str, ...], tuple[Cell, ...]]
    verdicts: tuple[Verdict, ...] = ()
    baseline: Baseline | None = None
    _estimates: dict[tuple[tuple[str, ...], str], list[Estimate]] = field(default_factory=dict, repr=False)

    def estimate(self, metric: metrics.Metric, cell: Cell) -> Estimate:
        """Estimate a metric in one cohort; the whole family is computed at once, and once only."""
        key = (cell.family, metric.name)
        if key not in self._estimates:
            self._estimates[key] = metrics.estimates(metric, cell.counts, self.context)
        return self._estimates[key][cell.place]


def routed(cell: Cell, context: metrics.Context) -> bool:
    """Whether a route sends every case of a cohort straight to the flagship."""
    last = len(context.tiers) - 1
    if last == 0:
        return False
    layout = states(len(context.tiers))
    table = cell.counts["states"][cell.place]
    start = layout.digits[0]
    below = int(table[: layout.regular][start < last].sum()) + int(table[layout.unresolved])
    return below == 0 and int(table[: layout.regular].sum()) > 0
