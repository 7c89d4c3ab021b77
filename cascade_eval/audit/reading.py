"""What the flagship's answers prove about the unescalated cases they were drawn from."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cascade_eval import agreement, bounds, cohorts, costs, verdicts
from cascade_eval.audit import answers as answers_
from cascade_eval.audit import estimating, redrawn, sampling, window
from cascade_eval.audit.planning import METRIC
from cascade_eval.basis import Binomial
from cascade_eval.errors import UsageError
from cascade_eval.metrics.parts import short
from cascade_eval.traffic import ABSENT
from cascade_eval.verdicts import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cascade_eval.audit.sampling import Sample
    from cascade_eval.audit.window import Seen, Window
    from cascade_eval.budgets import Budget
    from cascade_eval.metrics import Context
    from cascade_eval.replay import Replay
    from cascade_eval.traffic import Batch, Traffic
    from cascade_eval.verdicts import Verdict

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

SCHEMA: Final = "cascade-eval/audit-reading/1"


MANY: Final = 100
"""Of so many answers some differ, even those of good models."""


class Cohort(NamedTuple):
    """What became of one cohort's cases.

    Parameters
    ----------
    cohort
        Value by column.
    population, drawn, answered, disagree
        Its unescalated cases in the window; those drawn; those of them with a known comparison; and of those the ones
        that disagree.
    estimate
        Its disagreement.
    """

    cohort: Mapping[str, str]
    population: int
    drawn: int
    answered: int
    disagree: int
    estimate: Estimate


@dataclass(frozen=True)
class Spend:
    """What the audit cost, and what the cascade saved meanwhile, in dollars.

    Parameters
    ----------
    calls
        Calls of the flagship, and of the judge where there is one, that were made.
    usd
        What they cost; None where that is unknown for one of them.
    saved
        What always asking the flagship would have cost more in the window, by the prices of the audited calls; None
        where it is unknown.
    reason
        Why something is unknown.
    """

    calls: int
    usd: float | None
    saved: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Reading:
    """An audit, read.

    Parameters
    ----------
    cascade
        Whose unescalated cases.
    per
        Cohort columns.
    overall
        Disagreement of all unescalated cases, weighted.
    cohorts
        One for each stratum.
    verdicts
        Of the budgets it speaks of, in their order.
    spend
        The audit's own cost.
    age_days
        Days since the sample was drawn.
    drawn, answered, unasked
        Cases drawn; those with a known comparison; rows of answers for cases nobody drew.
    findings
        What a reader should know, one sentence each.
    seed, planned_seed
        What the sample was drawn by, and what its plan would have it drawn by; None where it does not say.
    """

    cascade: str
    per: tuple[str, ...]
    overall: Estimate
    cohorts: tuple[Cohort, ...]
    verdicts: tuple[Verdict, ...]
    spend: Spend
    age_days: float
    drawn: int
    answered: int
    unasked: int
    findings: tuple[str, ...] = ()
    seed: str | None = None
    planned_seed: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the reading as JSON; the next plan takes it as its prior."""
        return {
            "schema": SCHEMA,
            "cascade": self.cascade,
            "per": list(self.per),
            "overall": self.overall.record(),
            "cohorts": [
                {**each._asdict(), "cohort": dict(each.cohort), "estimate": each.estimate.record()}
                for each in self.cohorts
            ],
            "verdicts": [verdict.record() for verdict in self.verdicts],
            "spend": {name: getattr(self.spend, name) for name in ("calls", "usd", "saved", "reason")},
            "age_days": self.age_days,
            "drawn": self.drawn,
            "seed": self.seed,
            "planned_seed": self.planned_seed,
            "answered": self.answered,
            "unasked": self.unasked,
            "findings": list(self.findings),
        }


def read(
    sample: Sample,
    answers: Traffic | str | Path,
    of: Window,
    promised: Sequence[Budget] = (),
    *,
    now: dt.datetime | None = None,
) -> Reading:
    """Read what the flagship's answers prove.

    A cohort's rate is judged exactly (Clopper-Pearson); the overall rate is weighted by each stratum's share of the
    unescalated cases, with bounds by Korn and Graubard's effective size and Kish's as its upper limit
    (see `cascade_eval.audit.estimating`). Where cases are
    weighted or clustered, both take the effective size of such cases. A drawn case without an answer counts as
    disagreeing for a pass and as agreeing for a failure; below the floor of answered cases nothing is measured.

    Parameters
    ----------
    sample
        From `sample` or `load`.
    answers
        Recorded traffic with the flagship's answers, or its path: the sample's own file, filled in, or another.
    of
        The window it was drawn from, replayed again.
    promised
        Budgets; those on ``disagreement`` are judged where the sample is stratified by their columns.
    now
        The present by default.

    Returns
    -------
    Reading

    Raises
    ------
    UsageError
        The answers are of another model, the window is another one, or a tier is the judge.
    """
    seen = _same_window(sample, of)
    sampling.refuse_judge(sample.judge, seen.cascade)
    joined = answers_.join(sample, answers_.opened(answers))
    outcome = _outcomes(joined.batch, sample, seen)
    found = _Sampled(sample, outcome, seen.context)
    overall, each = found.overall(), _together(list(found.cohorts()))
    judged = tuple(_judged(promised, sample.per, overall, each, seen.context))
    spend = _spend(joined.batch, sample, seen)
    age = ((now or dt.datetime.now(dt.UTC)) - sample.drawn_at).total_seconds() / 86_400
    reading = Reading(
        sample.cascade,
        sample.per,
        overall,
        each,
        judged,
        spend,
        age,
        sample.cases,
        int((outcome >= 0).sum()),
        joined.unasked,
        seed=sample.seed,
        planned_seed=sample.planned_seed,
    )
    return replace(reading, findings=tuple(_findings(reading, promised)))


def _together(each: Sequence[Cohort]) -> tuple[Cohort, ...]:
    """Let comparing one cohort's estimate in Python look at all of them."""
    siblings = [one.estimate for one in each]
    return tuple(one._replace(estimate=replace(one.estimate, family=lambda: siblings)) for one in each)


def _same_window(sample: Sample, of: Window) -> Seen:
    """Look at the window, and refuse one the sample was not drawn from."""
    names = [window.text(tuple(s.cohort), tuple(s.cohort.values())) for s in sample.strata]
    strata = window.Strata(sample.per, [*names, *sample.left_out])
    here = np.zeros(len(strata.names) + 1, dtype=np.int64)
    again = redrawn.Redrawn(sample)

    def watched() -> Iterator[Replay]:
        for piece in window.pieces(of):
            rows = window.unescalated(piece)
            codes = strata.codes(piece)[rows]
            # Strata that are not the sample's are counted in the last place.
            here[:] += np.bincount(codes % len(here), minlength=len(here))
            again.look(piece, rows, codes)
            yield piece

    seen = window.look(watched(), sample.per)
    _refuse_changed(sample, seen, here, int((~again.found).sum()))
    again.refuse()
    return seen


def _refuse_changed(sample: Sample, seen: Seen, here: NDArray[np.int64], lost: int) -> None:
    if (seen.cascade.name, seen.cascade.flagship.model) != (sample.cascade, sample.model):
        raise UsageError(
            f"the sample is of '{sample.cascade}' and asks '{sample.model}'; this is '{seen.cascade.name}' with "
            f"'{seen.cascade.flagship.model}'."
        )
    again = "traffic or cascade changed. Sample again, or name the window it was drawn from."
    if lost:
        raise UsageError(f"{lost:,} of the {sample.cases:,} drawn cases are not unescalated in this window: {again}")
    for stratum, cases in zip(sample.strata, here.tolist(), strict=False):
        if cases != stratum.population:
            raise UsageError(
                f"the sample was drawn from {stratum.population:,} unescalated cases of {window.label(stratum.cohort)}, and "
                f"this window has {cases:,}: {again}"
            )
    if here[-1]:
        raise UsageError(f"{here[-1]:,} unescalated cases of this window belong to no cohort of the sample: {again}")


def _outcomes(batch: Batch, sample: Sample, seen: Seen) -> NDArray[np.int8]:
    """1 where the served answer agrees with the flagship's, 0 where not, -1 where nobody knows; shape (n_drawn,)."""
    outcome = np.full(batch.cases, -1, dtype=np.int8)
    codes, models = batch.codes(None, "audit_served_by")
    for code, model in enumerate(models):
        mine = codes == code
        outcome[mine] = agreement.compare(seen.rules.agreement, batch, str(model), sample.model)[mine]
    return outcome


class _Worth(NamedTuple):
    """A rate as plain cases: its value, and so many of so many."""

    value: float
    hits: float
    nobs: float


class _Sampled:
    """Estimates from a sample and what came of its cases."""

    def __init__(self, sample: Sample, outcome: NDArray[np.int8], context: Context) -> None:
        self.sample = sample
        self.outcome = outcome
        self.context = context
        self.weight = _weights(sample.batch)
        self.cluster = _clusters(sample.batch)

    @property
    def plain(self) -> bool:
        """Whether cases weigh the same and stand alone."""
        return self.cluster is None and bool((self.weight == self.weight[:1]).all())

    def cohorts(self) -> Iterator[Cohort]:
        for code, stratum in enumerate(self.sample.strata):
            mine = self.sample.codes == code
            known = mine & (self.outcome >= 0)
            worst = [self._one(hits, mine) for hits in (self.outcome == 0, self.outcome != 1)]
            value = self._one(self.outcome == 0, known).value
            made = self._estimate(mine, value, worst, self._method("clopper-pearson"))
            made = replace(made, setting={"cohort": dict(stratum.cohort), "confidence": self.context.confidence})
            disagree = int((self.outcome[known] == 0).sum())
            yield Cohort(stratum.cohort, stratum.population, stratum.cases, int(known.sum()), disagree, made)

    def overall(self) -> Estimate:
        every = np.ones(self.sample.cases, dtype=np.bool_)
        known = self.outcome >= 0
        worst = [self._all(self.outcome == 0, every, below=False), self._all(self.outcome != 1, every, below=True)]
        value = self._all(self.outcome == 0, known, below=True).value
        one = len(self.sample.strata) == 1
        made = self._estimate(every, value, worst, self._method("clopper-pearson" if one else "korn-graubard, strata"))
        if not self.sample.left_out:
            return made
        reason = f"no case was drawn of {', '.join(self.sample.left_out[:5])}, so the overall rate is unknown"
        return Estimate(METRIC, None, nobs=made.nobs, unit="rate", blocked=True, method="none", reason=reason)

    def _method(self, plain: str) -> str:
        if self.plain:
            return plain
        return "korn-graubard, weights" if self.cluster is None else "korn-graubard, clusters"

    def _one(self, hits: Mask, rows: Mask) -> _Worth:
        return _worth(hits[rows], self.weight[rows], None if self.cluster is None else self.cluster[rows])

    def _all(self, hits: Mask, rows: Mask, *, below: bool) -> _Worth:
        if not self.plain:
            weight = self.weight / self.sample.probability
            return _worth(hits[rows], weight[rows], None if self.cluster is None else self.cluster[rows])
        size = len(self.sample.strata)
        nobs = np.bincount(self.sample.codes[rows], minlength=size)
        count = np.bincount(self.sample.codes[rows & hits], minlength=size)
        share = [stratum.population for stratum in self.sample.strata]
        found = estimating.estimate(share, nobs, count, confidence=self.context.confidence)
        worth = float(found.below if below else found.above)
        return _Worth(float(found.value), float(np.nan_to_num(found.value)) * worth, worth)

    def _estimate(self, rows: Mask, value: float, worst: Sequence[_Worth], method: str) -> Estimate:
        """Make an estimate, or say why there is none."""
        drawn, known = int(rows.sum()), int((rows & (self.outcome >= 0)).sum())
        blocked = Estimate(METRIC, None, nobs=known, unit="rate", blocked=True, method="none")
        if short(known, drawn, self.context.audited):
            reason = (
                f"audited is {known:,} of {drawn:,} drawn cases with a known comparison, below {self.context.audited:.0%}: "
                "the flagship's answer is missing or failed, or neither answer says anything"
            )
            return replace(blocked, reason=reason)
        if np.isnan(value):
            return replace(blocked, reason="a stratum of the sample has no known comparison")
        smallest, largest = worst
        low, _ = bounds.rate(smallest.hits, smallest.nobs, confidence=self.context.confidence)
        _, high = bounds.rate(largest.hits, largest.nobs, confidence=self.context.confidence)
        return Estimate(
            METRIC,
            value,
            float(low),
            float(high),
            int((rows & (self.outcome == 0)).sum()),
            known,
            method,
            basis=Binomial((smallest.hits, smallest.nobs), (largest.hits, largest.nobs)),
            effective=min(smallest.nobs, largest.nobs),
        )


def _worth(hits: Mask, weight: Floats, cluster: NDArray[np.int64] | None) -> _Worth:
    """Size a sample of cases of one stratum, or of weighted ones of several."""
    if not len(hits):
        return _Worth(float("nan"), 0.0, 0.0)
    if cluster is None:
        w, squares = weight.sum(), weight**2
        value = float(weight[hits].sum() / w)
        variance = bounds.linearised_variance(w, squares.sum(), squares[hits].sum(), value, len(hits))
        count, nobs = bounds.effective(value, variance, w, squares.sum(), nobs=len(hits))
        return _Worth(value, float(count), float(nobs))
    _, unit = np.unique(cluster, return_inverse=True)
    a, b = np.bincount(unit, weights=weight * hits), np.bincount(unit, weights=weight)
    variance = bounds.ratio_variance((a * a).sum(), (a * b).sum(), (b * b).sum(), a.sum(), b.sum(), len(b))
    value = float(a.sum() / b.sum())
    count, nobs = bounds.effective(value, variance, b.sum(), (b * b).sum())
    return _Worth(value, float(count), float(nobs))


def _weights(batch: Batch) -> Floats:
    weight = batch.numbers(None, "weight").astype(np.float64)
    return np.where(np.isnan(weight), 1.0, weight)


def _clusters(batch: Batch) -> NDArray[np.int64] | None:
    """Cluster of each case, a null being one of its own; None where there are none."""
    if not batch.has(None, "cluster"):
        return None
    codes, values = batch.codes(None, "cluster")
    return np.where(codes < 0, len(values) + np.arange(batch.cases), codes).astype(np.int64)


def _judged(
    promised: Sequence[Budget], per: tuple[str, ...], overall: Estimate, each: Sequence[Cohort], context: Context
) -> Iterator[Verdict]:
    estimates = [one.estimate for one in each]
    named = [dict(one.cohort) for one in each]
    for budget in promised:
        scope = budget.scope
        # One audit is judged on its own; a promise that is watched holds or fails over the weeks.
        bound = replace(budget.bound, text=budget.bound.plain, watched=False)
        if budget.metric != METRIC or (scope.kind != "overall" and scope.columns != per):
            continue
        own: list[dict[str, str]]
        if scope.kind == "overall":
            family, own = [overall], [{}]
        elif scope.kind == "each":
            family, own = estimates, named
        else:
            wanted = cohorts.mapping(scope.columns, scope.values)
            family = [e for e, cohort in zip(estimates, named, strict=True) if cohort == wanted] or [_nobody(wanted)]
            own = [wanted]
        for verdict, cohort in zip(verdicts.judge(family, bound, confidence=context.confidence), own, strict=True):
            yield replace(verdict, cohort=cohort, scope=str(scope), file=budget.file, line=budget.line)


def _nobody(cohort: Mapping[str, str]) -> Estimate:
    reason = f"the sample has no case of {window.label(cohort)}"
    return Estimate(METRIC, None, nobs=0, unit="rate", reason=reason, blocked=True, method="none")


def _spend(batch: Batch, sample: Sample, seen: Seen) -> Spend:
    """Add up what the audit paid, and what the cascade saved in the window it looked at."""
    prices = seen.rules.prices
    models = [sample.model, *([sample.judge] if sample.judge in batch.models else [])]
    calls, paid, unknown = 0, 0, 0
    for model in models:
        charge, made = costs.call(batch, model, prices), batch.status(model) != ABSENT
        calls += int(made.sum())
        paid += int(charge.nano[made & charge.known].sum())
        unknown += int((made & ~charge.known).sum())
    saved, why = _saved(batch, sample, seen)
    if unknown:
        why = f"the cost of {unknown:,} of {calls:,} calls is unknown: record `cost_usd`, or tokens and a price"
    return Spend(calls, None if unknown else paid / 1e9, saved, why)


def _saved(batch: Batch, sample: Sample, seen: Seen) -> tuple[float | None, str | None]:
    """Work out what the unescalated cases' flagship calls would have cost, less what was paid in their place."""
    if seen.unknown:
        return None, f"what {seen.unknown:,} cases of the window cost is unknown"
    charge = costs.call(batch, sample.model, seen.rules.prices)
    weight, total = _weights(batch) / sample.probability, 0.0
    for code, stratum in enumerate(sample.strata):
        mine = sample.codes == code
        known = mine & charge.known
        if not known.any():
            return None, f"no flagship call of known cost in {window.label(stratum.cohort)}"
        total += float((charge.nano[known] * weight[known]).sum() / weight[known].sum() * weight[mine].sum())
    return (total - seen.paid_nano) / 1e9, None


def _findings(reading: Reading, promised: Sequence[Budget]) -> Iterator[str]:
    spend = reading.spend
    if spend.usd is not None and spend.saved is not None and spend.usd > spend.saved:
        yield (
            f"the audit costs more than it guards: ${spend.usd:,.4g} for the audit, and the cascade saved "
            f"${max(spend.saved, 0.0):,.4g} in this window. Ask fewer cases, or audit a longer window."
        )
    if reading.answered < reading.drawn and reading.overall.value is not None:
        yield (
            f"{reading.drawn - reading.answered:,} of {reading.drawn:,} drawn cases have no known comparison; they count as "
            "disagreeing for a pass and as agreeing for a failure."
        )
    if reading.answered >= MANY and not any(each.disagree for each in reading.cohorts):
        yield (
            f"the flagship agrees in all {reading.answered:,} cases: make sure that the answers are its own, and not those that "
            "were served."
        )
    if reading.unasked:
        yield f"{reading.unasked:,} answers are for cases nobody drew; they count for nothing."
    for budget in promised:
        if budget.metric == METRIC and budget.scope.kind != "overall" and budget.scope.columns != reading.per:
            yield (
                f"'{METRIC}: {budget.scope}' is not judged here: the sample is stratified otherwise. Merge it into the traffic, "
                "and the suite judges it by weights."
            )
    if any(budget.metric == METRIC and budget.bound.watched for budget in promised):
        yield (
            "these verdicts are of this audit alone. Promises that are watched weekly hold or fail over the weeks: merge the "
            "audit into the traffic, for monitor and pytest."
        )
