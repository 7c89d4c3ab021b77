"""A cascade replayed on cases, and its slices, which answer the same questions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from cascade_eval import cohorts, metrics
from cascade_eval.basis import Slower
from cascade_eval.cascade import Cascade, leaves
from cascade_eval.cohorts import Codes
from cascade_eval.errors import did_you_mean
from cascade_eval.replay.columns import Columns, Rules
from cascade_eval.replay.decisions import Decisions, decide
from cascade_eval.replay.tallies import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.counts import Counts
    from cascade_eval.traffic import Batch
    from cascade_eval.verdicts import Estimate


@dataclass(frozen=True, eq=False)
class Replay:
    """A cascade replayed on cases.

    Parameters
    ----------
    cascade
        What was replayed.
    columns
        The cases.
    decisions
        What became of each of them.
    context
        Names, floors and confidence for estimates.
    rows
        The cases of this slice; None is all of them.
    cohort
        Value by column where this is a slice by cohort.
    siblings
        The cohorts a verdict about this one is adjusted for.
    baseline
        The same cases replayed through the baseline.
    inconclusive
        Policy for verdicts made by comparison.
    pooled
        By column, the small cohorts that are judged together as ``(other)``.
    """

    cascade: Cascade
    columns: Columns
    decisions: Decisions
    context: metrics.Context
    rows: NDArray[np.bool_] | None = None
    cohort: Mapping[str, str] = field(default_factory=dict)
    siblings: Callable[[], Sequence[Replay]] | None = None
    baseline: Replay | None = None
    inconclusive: Literal["fail", "warn"] = "fail"
    pooled: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the cascade."""
        return self.cascade.name

    @cached_property
    def chosen(self) -> NDArray[np.bool_]:
        """Which cases belong to this slice, shape (n_cases,)."""
        return np.ones(self.columns.batch.cases, dtype=np.bool_) if self.rows is None else self.rows

    def __len__(self) -> int:
        return int(self.chosen.sum())

    def __repr__(self) -> str:
        # Notebooks and failing assertions show it, and columns are not for reading.
        where = "".join(f", {column}={value}" for column, value in self.cohort.items())
        tiers = ", ".join(tier.name for tier in self.cascade.tiers)
        return f"<Replay of {self.name}{where}: {len(self):,} of {self.columns.batch.cases:,} cases; tiers {tiers}>"

    def where(self, **cohort: object) -> Replay:
        """Return the slice of the cases whose columns have these values, compared as text.

        Raises
        ------
        KeyError
            No case has that value: a slice of nothing measures nothing.
        """
        chosen = self.chosen.copy()
        written = {column: cohorts.text(value) for column, value in cohort.items()}
        for column, value in written.items():
            codes = self._codes((column,)) if value == cohorts.OTHER else self.columns.codes((column,))
            if (value,) not in codes.members:
                self._check_read((column,))
                names = [member[0] for member in codes.members]
                raise KeyError(f"no case has {column}={value}.{did_you_mean(value, names)}")
            chosen &= codes.codes == codes.members.index((value,))
        return replace(self, rows=chosen, cohort={**self.cohort, **written}, siblings=None)

    def cohorts(self, *family: str) -> list[Replay]:
        """Return one slice for each member of a cohort family, sorted; each knows the others.

        Raises
        ------
        KeyError
            This slice has no case, so a loop over its cohorts would assert nothing, or nobody read such a column.
        """
        self._check_read(family)
        codes = self._codes(family)
        slices: list[Replay] = []
        for place in sorted(range(len(codes.members)), key=lambda i: codes.members[i]):
            rows = self.chosen & (codes.codes == place)
            if rows.any():
                cohort = {**self.cohort, **cohorts.mapping(family, codes.members[place])}
                slices.append(replace(self, rows=rows, cohort=cohort, siblings=lambda: slices))
        if not slices:
            raise KeyError("no case is in this slice, so it has no cohorts. Ask each cohort for its slice instead.")
        return slices

    def _check_read(self, family: tuple[str, ...]) -> None:
        """Refuse a column that was not read: all its cases would be one cohort without a name."""
        own = [stored.name for stored in self.columns.batch.columns if stored.model is None]
        for column in family:
            if any(need.name not in own for need in cohorts.needs((column,))):
                raise KeyError(f"no column '{column}' was read; 'cohorts:' names columns.{did_you_mean(column, own)}")

    def _codes(self, family: tuple[str, ...]) -> Codes:
        """Members of a family, small cohorts pooled."""
        codes = self.columns.codes(family)
        names = [
            tuple(
                cohorts.OTHER if value in self.pooled.get(column, ()) else value
                for column, value in zip(family, member, strict=True)
            )
            for member in codes.members
        ]
        members = tuple(dict.fromkeys(names))
        places = np.array([members.index(name) for name in names], dtype=np.int64)
        return Codes(family, places[codes.codes], members)

    @property
    def unescalated(self) -> Replay:
        """The cases a cheaper tier than the flagship settled."""
        return self._part(lambda r: (r.decisions.settled >= 0) & (r.decisions.settled < len(r.cascade.tiers) - 1))

    @property
    def escalated(self) -> Replay:
        """The cases that started below the flagship and were settled by it."""
        last = len(self.cascade.tiers) - 1
        return self._part(lambda r: (r.decisions.settled == last) & (r.decisions.start < last))

    def _part(self, choose: Callable[[Replay], NDArray[np.bool_]]) -> Replay:
        siblings = self.siblings
        return replace(
            self,
            rows=self.chosen & choose(self) & ~self.decisions.cached,
            siblings=None if siblings is None else lambda: [each._part(choose) for each in siblings()],  # noqa: SLF001  its own kind
        )

    def counts(self, *family: str, limits: Sequence[float] = ()) -> Counts:
        """Count this slice over the members of a cohort family; () counts it as one."""
        baseline = None if self.baseline is None else (self.baseline.cascade, self.baseline.decisions)
        return tally(
            self.cascade, self.decisions, self.columns, family, rows=self.rows, baseline=baseline, limits=limits
        )

    def estimate(self, name: str) -> Estimate:
        """Estimate any metric by the name it has in suites, such as ``"latency p95"``.

        Raises
        ------
        KeyError
            There is no such metric.
        """
        tiers = tuple(tier.name for tier in self.cascade.tiers)
        metric = metrics.find(name, tiers)
        if metric is None:
            raise KeyError(f"unknown metric {name!r}.{did_you_mean(name, metrics.names(tiers))}")
        context = replace(self.context, limits=())
        found = metrics.estimates(metric, self.counts(), context)[0]
        if isinstance(found.basis, Slower):
            found = replace(found, basis=replace(found.basis, count=self._slower))
        siblings = self.siblings
        return replace(
            found,
            setting={
                "confidence": context.confidence,
                "cohort": dict(self.cohort),
                "cascade": self.name,
                "inconclusive": self.inconclusive,
            },
            family=None
            if siblings is None
            else lambda: [replace(each, siblings=None).estimate(name) for each in siblings()],
        )

    def _slower(self, limit: float) -> float:
        """Cases slower than a limit, exactly."""
        known = self.chosen & ~self.decisions.cached & (self.decisions.settled >= 0)
        return float(np.sum(self.decisions.latency[known] > limit))

    def escalation_from(self, tier: str) -> Estimate:
        """Share of the cases reaching a tier that leave it."""
        return self.estimate(f"escalation from {tier}")

    def latency(self, quantile: Literal["p50", "p95", "p99"]) -> Estimate:
        """Latency quantile in seconds."""
        return self.estimate(f"latency {quantile}")

    @property
    def escalation(self) -> Estimate:
        """Share of resolved cases started below the flagship that it settled."""
        return self.estimate("escalation")

    @property
    def disagreement(self) -> Estimate:
        """Share of unescalated cases whose served answer does not agree with the flagship's."""
        return self.estimate("disagreement")

    @property
    def cost(self) -> Estimate:
        """Cost of every call on the cases' paths, over the cost of always asking the flagship."""
        return self.estimate("cost")

    @property
    def cost_per_request(self) -> Estimate:
        """Mean cost of a case in dollars."""
        return self.estimate("cost per request")

    @property
    def cost_per_completed_task(self) -> Estimate:
        """Cost of all steps of all tasks over the number of completed tasks, in dollars."""
        return self.estimate("cost per completed task")

    @property
    def savings(self) -> Estimate:
        """One minus cost."""
        return self.estimate("savings")

    @property
    def quality(self) -> Estimate:
        """Mean score of the served answers, or share equal to what was expected."""
        return self.estimate("quality")

    @property
    def retention(self) -> Estimate:
        """Quality of the cascade over quality of always-flagship."""
        return self.estimate("retention")

    @property
    def coverage(self) -> Estimate:
        """Share of cases whose path is known."""
        return self.estimate("coverage")

    @property
    def audited(self) -> Estimate:
        """Share of unescalated cases whose comparison with the flagship is known."""
        return self.estimate("audited")

    @property
    def unanswered(self) -> Estimate:
        """Share of resolved cases the flagship took and failed to answer."""
        return self.estimate("unanswered")

    @property
    def timeouts(self) -> Estimate:
        """Share of resolved cases in which a call on the path timed out."""
        return self.estimate("timeouts")

    @property
    def refusals(self) -> Estimate:
        """Share of resolved cases in which a call on the path was refused."""
        return self.estimate("refusals")

    @property
    def regeneration(self) -> Estimate:
        """Share of answers after which the user asked again."""
        return self.estimate("regeneration")

    @property
    def flips_to_disagreement(self) -> Estimate:
        """Share of cases served a disagreeing answer where the baseline served an agreeing one."""
        return self.estimate("flips to disagreement")

    @property
    def escalation_drift(self) -> Estimate:
        """Escalation minus the baseline's, on the same cases."""
        return self.estimate("escalation drift")


def leaf_names(cascade: Cascade) -> tuple[str, ...]:
    """Name every gated signal, in the order in which they are counted.

    Examples
    --------
    >>> from cascade_eval.cascade import Leaf, Signal, Tier
    >>> gate = Leaf(Signal("confidence"), threshold=0.8)
    >>> leaf_names(Cascade("small", (Tier("mini", "gpt-4.1-nano", gate), Tier("flagship", "gpt-4.1"))))
    ('confidence of mini',)
    """
    return tuple(f"{leaf.signal} of {tier.name}" for tier in cascade.tiers for leaf in leaves(tier.gate))


def run(
    cascade: Cascade,
    batch: Batch | Columns,
    rules: Rules,
    *,
    context: metrics.Context | None = None,
    baseline: Replay | None = None,
) -> Replay:
    """Replay a cascade on aligned cases.

    Parameters
    ----------
    cascade
        Every gate with a threshold.
    batch
        The cases, or columns of them that other replays share.
    rules
        Agreement, prices and calibration maps.
    context
        Floors and confidence; the defaults of a suite where None.
    baseline
        A replay of the same cases to compare with.

    Returns
    -------
    Replay
        With compact columns; slices of it share them.
    """
    columns = batch if isinstance(batch, Columns) else Columns(batch, rules)
    tiers = tuple(tier.name for tier in cascade.tiers)
    known = context or metrics.Context(tiers)
    audit = columns.batch.has(None, "audit_probability")
    known = replace(known, tiers=tiers, leaves=leaf_names(cascade), audit=audit)
    return Replay(cascade, columns, decide(cascade, columns), known, baseline=baseline)
