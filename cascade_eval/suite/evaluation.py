"""From a suite and its data to verdicts.

`evaluate` surveys the signals, counts every case once, and judges every budget line in every cohort it names. Nothing
is judged that was not measured: what cannot be computed is an error where a budget needs it, and an inconclusive
verdict that no option excuses where the data falls short.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cascade_eval import cohorts, metrics, replay, thresholds, verdicts
from cascade_eval.cascade import Cascade, Leaf, leaves
from cascade_eval.errors import DataError, Problem, did_you_mean
from cascade_eval.prices import parse as parse_prices
from cascade_eval.suite import advice, checking, counting, records, repeats, resemblance, sketches, survey
from cascade_eval.suite import ages as ages_
from cascade_eval.suite.judged import Cell, Data, Judged, Watching, routed
from cascade_eval.verdicts import Estimate, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from cascade_eval.baseline import Baseline
    from cascade_eval.budgets import Budget
    from cascade_eval.cohorts import Member
    from cascade_eval.counts import Counts
    from cascade_eval.suite.nouns import Suite
    from cascade_eval.traffic import Traffic

_CHOSEN = frozenset({"disagreement", "flips to disagreement", "quality", "retention"})
"""Metrics that looking at agreement can flatter."""

COMPARED = frozenset({"flips to disagreement", "escalation drift"})
"""Metrics that need a baseline."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A suite, judged.

    Parameters
    ----------
    suite
        What was promised.
    cascades
        In the suite's order, then always-flagship, which is reported and never judged.
    record
        The suite's part of the evidence, complete and JSON-ready.
    """

    suite: Suite
    cascades: tuple[Judged, ...]
    record: Mapping[str, Any]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every verdict of every cascade."""
        return tuple(verdict for judged in self.cascades for verdict in judged.verdicts)


def evaluate(
    suite: Suite,
    traffic: Traffic,
    *,
    data: Data | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    inconclusive: Literal["fail", "warn"] | None = None,
    executor: Executor | None = None,
    now: dt.datetime | None = None,
    watching: Watching | None = None,
) -> Evaluation:
    """Judge every budget of a suite.

    Parameters
    ----------
    suite
        From `suite.load`.
    traffic
        The cases, from `traffic.open`.
    data
        Where they come from.
    baselines
        What each cascade is compared with, by name.
    inconclusive
        Goes before the suite's own setting.
    executor
        Where batches are counted: any `concurrent.futures.Executor`.
    now
        For ages; the present by default.
    watching
        What weeks say, for budgets that are watched; `runs.evaluate` finds it out. Without it they are not measured.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        Something the budgets need cannot be had from this data; every reason at once.
    """
    data = data or Data(suite.source.path)
    baselines = baselines or {}
    now = now or dt.datetime.now(dt.UTC)
    watching = watching or Watching(reason="its weeks were not looked at; runs.evaluate and pytest do")
    if inconclusive is not None:
        suite = replace(suite, inconclusive=inconclusive)
    made, seen = _plan(suite, traffic, baselines, sweep=True)
    counted = counting.count(made, traffic, executor=executor)
    counted = _with_repeats(made, counted, traffic)
    if counted.cases == 0:
        raise DataError([Problem("no cases: there is nothing to judge", data.path)])
    resemblance.check(suite, made, counted, data)
    ages = _Ages(_ages(made, seen, now), ages_.audit(made, traffic, now) if _asks_age(suite) else {})
    judged = tuple(
        _judged(suite, cascade, made, counted, data, baselines.get(cascade.name), traffic, ages, watching)
        for cascade in made.cascades
    )
    _refuse_empty(suite, judged)
    judged = tuple(advice.complete(each, made) for each in judged)
    record = records.record(suite, traffic, data, made, counted, seen, judged, watching, now=now)
    return Evaluation(suite, judged, record)


def plan(suite: Suite, traffic: Traffic, baselines: Mapping[str, Baseline], *, sweep: bool = True) -> counting.Plan:
    """Work out what has to be counted: thresholds found, maps fitted, cohorts named.

    Raises
    ------
    UsageError
        Something the budgets need cannot be had from this data.
    """
    return _plan(suite, traffic, baselines, sweep=sweep)[0]


needs = counting.needs


def _plan(
    suite: Suite, traffic: Traffic, baselines: Mapping[str, Baseline], *, sweep: bool
) -> tuple[counting.Plan, survey.Surveyed]:
    assert suite.agreement_rule is not None
    prices = parse_prices(suite.prices)
    checking.check(suite, traffic, prices, baselines)
    rules = replay.Rules(suite.agreement_rule, prices)
    flagship = replace(suite.cascades[0].flagship, gate=None, hedged=False)
    always = Cascade(
        counting.ALWAYS_FLAGSHIP, (flagship,), definition=[{"tier": flagship.name, "model": flagship.model}]
    )
    before = {name: replace(found.cascade, name=f"{name} (baseline)") for name, found in baselines.items()}
    every = (*suite.cascades, always, *before.values())
    seen = survey.survey(every, traffic, rules, base=suite.base, sweep=sweep)
    filled = {cascade.name: cascade for cascade in seen.cascades}
    replayed = tuple(filled[cascade.name] for cascade in (*suite.cascades, always))
    found = counting.Plan(
        replayed,
        {name: filled[cascade.name] for name, cascade in before.items()},
        families(suite),
        rules,
        seen.calibrated,
        seen.tried,
        _limits(suite),
        tuple(thresholds.variants(replayed)),
    )
    return found, seen


def _limits(suite: Suite) -> tuple[float, ...]:
    """Latencies that are promised, to be counted exactly."""
    found = {
        end
        for budget in suite.budgets
        if budget.metric.startswith("latency")
        for end in (budget.bound.low, budget.bound.high)
        if end is not None
    }
    return tuple(sorted(found))


def families(suite: Suite) -> tuple[tuple[str, ...], ...]:
    """Cohort families a suite needs: every column, every cross a budget names; () where there are none."""
    found: list[tuple[str, ...]] = [(column.name,) for column in suite.cohorts]
    found += [budget.scope.columns for budget in suite.budgets if budget.scope.columns]
    return tuple(dict.fromkeys(found)) or ((),)


def _with_repeats(made: counting.Plan, counted: counting.Counted, traffic: Traffic) -> counting.Counted:
    """Add how often each flagship disagrees with itself, where it was asked again."""
    tables = dict(counted.counts)
    for model in dict.fromkeys(cascade.flagship.model for cascade in made.cascades):
        found = repeats.count(made, traffic, model)
        for cascade in made.cascades:
            if cascade.flagship.model == model:
                for family, table in found.items():
                    tables[cascade.name, family] = tables[cascade.name, family] + table
    return replace(counted, counts=tables)


def _judged(
    suite: Suite,
    cascade: Cascade,
    plan: counting.Plan,
    counted: counting.Counted,
    data: Data,
    baseline: Baseline | None,
    traffic: Traffic,
    ages: _Ages,
    watching: Watching,
) -> Judged:
    tables = {family: counted.counts[cascade.name, family] for family in plan.families}
    context = _context(suite, cascade, plan, traffic, ages)
    overall = Cell((), (), tables[plan.families[0]].total())
    small = _small(suite, tables)
    cells = {family: tuple(_cells(family, tables[family], small)) for family in plan.families if family}
    judged = Judged(cascade, context, overall, cells, baseline=baseline)
    if cascade.name == counting.ALWAYS_FLAGSHIP:
        return judged
    chosen = flattered(cascade, traffic)
    return replace(judged, verdicts=tuple(_verdicts(suite, judged, data, chosen, watching)))


def _context(suite: Suite, cascade: Cascade, plan: counting.Plan, traffic: Traffic, ages: _Ages) -> metrics.Context:
    from cascade_eval.traffic import Field

    return metrics.Context(
        tuple(tier.name for tier in cascade.tiers),
        suite.confidence,
        suite.coverage,
        suite.audited,
        replay.leaf_names(cascade),
        plan.limits,
        audit=Field(None, "audit_probability") in traffic.fields,
        problems=ages.problems(cascade.name),
        facts=ages.facts(cascade.name),
    )


class _Ages(NamedTuple):
    """Ages in days by cascade, or why they are unknown: of the oldest calibration in use, and of the newest audited case."""

    calibration: Mapping[str, float | str]
    audit: Mapping[str, float | str]

    def facts(self, name: str) -> dict[str, float]:
        """Ages of one cascade by metric."""
        return {metric: age for metric, age in self._of(name).items() if isinstance(age, float)}

    def problems(self, name: str) -> dict[str, str]:
        """Why one is not known, by metric."""
        return {metric: why for metric, why in self._of(name).items() if isinstance(why, str)}

    def _of(self, name: str) -> dict[str, float | str | None]:
        return {"calibration age": self.calibration.get(name), ages_.AUDIT: self.audit.get(name)}


def _asks_age(suite: Suite) -> bool:
    """Whether a budget asks for the age of the audit, which takes a pass of its own."""
    return any(budget.metric == ages_.AUDIT for budget in suite.budgets)


def _ages(made: counting.Plan, seen: survey.Surveyed, now: dt.datetime) -> dict[str, float | str]:
    """Age in days of the oldest stored calibration each cascade uses, or why nobody knows it."""
    found: dict[str, float | str] = {}
    for cascade in made.cascades:
        files = {
            leaf.calibrate.file
            for tier in cascade.tiers
            for leaf in leaves(tier.gate)
            if leaf.calibrate is not None and leaf.calibrate.file is not None
        }
        if files:
            made_at = [seen.stored[file].created_at for file in files]
            youngest, oldest = ((now - moment).total_seconds() / 86_400 for moment in (max(made_at), min(made_at)))
            early = f"a calibration says that it was fitted {-youngest:.3g} days from now: a clock is wrong"
            found[cascade.name] = oldest if youngest >= 0 else early
    return found


def _small(suite: Suite, tables: Mapping[tuple[str, ...], Counts]) -> dict[str, dict[str, int]]:
    """Cohorts with fewer cases than their column asks for, with their cases; they are pooled."""
    found: dict[str, dict[str, int]] = {}
    for column in suite.cohorts:
        if column.at_least is None:
            continue
        table = tables[column.name,]
        cases = table["states"].sum(axis=1)
        if (cohorts.OTHER,) in table.members and (cases < column.at_least).any():
            message = (
                f"the column '{column.name}' has the value '{cohorts.OTHER}', which is the name small cohorts are pooled "
                "under. Rename it in the data, or leave out 'at least'."
            )
            raise DataError([Problem(message, suite.name, None if suite.lines is None else suite.lines.of("cohorts"))])
        found[column.name] = {
            member[0]: int(n) for member, n in zip(table.members, cases, strict=True) if n < column.at_least
        }
    return found


def _cells(family: tuple[str, ...], table: Counts, small: Mapping[str, Mapping[str, int]]) -> Iterator[Cell]:
    """One cell per member, small ones pooled; sorted, the pooled and the empty ones last."""
    pooled: dict[Member, list[int]] = {}
    for place, member in enumerate(table.members):
        name = tuple(
            cohorts.OTHER if value in small.get(column, {}) else value
            for column, value in zip(family, member, strict=True)
        )
        pooled.setdefault(name, []).append(place)
    last = {cohorts.NONE: 1, cohorts.OTHER: 2}
    ordered = sorted(pooled, key=lambda member: [(last.get(value, 0), value) for value in member])
    order = {name: place for place, name in enumerate(ordered)}
    place_of = {row: order[name] for name, rows in pooled.items() for row in rows}
    counts = table.pool(ordered, [place_of[row] for row in range(len(table.members))])
    for name in ordered:
        names = tuple(sorted(cohorts.label(family, table.members[i]).partition("=")[2] for i in pooled[name]))
        yield Cell(family, name, counts, order[name], names if cohorts.OTHER in name else ())


def _verdicts(
    suite: Suite, judged: Judged, data: Data, chosen: Mapping[str, str], watching: Watching
) -> Iterator[Verdict]:
    for budget in suite.budgets:
        if budget.metric in COMPARED and judged.baseline is None:
            continue
        metric = metrics.find(budget.metric, judged.context.tiers)
        if metric is None:  # "escalation from" a tier this cascade does not have
            continue
        if budget.bound.watched:
            yield from _watched(suite, judged, budget, data, watching)
            continue
        cells = _cells_of(judged, budget)
        estimates = [judged.estimate(metric, cell) for cell in cells]
        if (why := chosen.get(metric.name)) is not None:
            estimates = [replace(estimate, blocked=True, reason=why) for estimate in estimates]
        found = verdicts.judge(estimates, budget.bound, confidence=suite.confidence)
        for cell, verdict in zip(cells, found, strict=True):
            yield _placed(suite, budget, verdict, cell.cohort)
        yield from _missing(suite, judged, budget, data)


def _watched(suite: Suite, judged: Judged, budget: Budget, data: Data, watching: Watching) -> Iterator[Verdict]:
    """Place the verdicts weeks came to; a cohort of this data that they do not know was not measured."""
    family = budget.scope.columns
    found = watching.verdicts.get((judged.cascade.name, budget), ())
    away = {name for cell in judged.cells.get(family, ()) if routed(cell, judged.context) for name in _names(cell)}
    known = {cohorts.label(family, tuple(verdict.cohort.values())): verdict for verdict in found}
    for name, verdict in known.items():
        if budget.scope.kind != "each" or name not in away:
            yield _placed(suite, budget, verdict, verdict.cohort)
    if budget.scope.kind == "one" and known:
        return
    reason = watching.reason or "the weeks know nothing of these cases"
    for cell in _cells_of(judged, budget):
        if not known.keys() & _names(cell):
            yield _placed(suite, budget, _unmeasured(suite, judged, budget, reason), cell.cohort)
    for verdict in _missing(suite, judged, budget, data):
        if cohorts.label(family, tuple(verdict.cohort.values())) not in known:
            yield verdict


def _names(cell: Cell) -> set[str]:
    """Labels of a cell and of the cohorts added up in it."""
    # A cell names the cohorts in it without their first column, which all of them share.
    pooled = {f"{cell.family[0]}={name}" for name in cell.pooled}
    return {cohorts.label(cell.family, cell.member), *pooled}


def _unmeasured(suite: Suite, judged: Judged, budget: Budget, reason: str) -> Verdict:
    unit = metrics.find(budget.metric, judged.context.tiers)
    assert unit is not None
    estimate = Estimate(budget.metric, None, nobs=0, method="none", unit=unit.unit, reason=reason, blocked=True)
    return verdicts.judge([estimate], budget.bound, confidence=suite.confidence)[0]


def _placed(suite: Suite, budget: Budget, verdict: Verdict, cohort: Mapping[str, str]) -> Verdict:
    return replace(
        verdict,
        cohort=cohort,
        scope=str(budget.scope),
        file=budget.file,
        line=budget.line,
        inconclusive=suite.inconclusive,
    )


def flattered(cascade: Cascade, traffic: Traffic) -> dict[str, str]:
    """Say which metrics prove nothing, because a threshold was chosen by looking at this very data's agreement."""
    why = _chosen_here(cascade, traffic)
    return {} if why is None else dict.fromkeys(_CHOSEN, why)


def _chosen_here(cascade: Cascade, traffic: Traffic) -> str | None:
    """Why nothing about agreement is proven where a threshold was chosen by looking at this data's agreement."""
    for tier in cascade.tiers:
        for leaf in leaves(tier.gate):
            shared = _shared(leaf, tier.model, traffic)
            if shared > 0:
                these = "this data" if shared == 1 else f"these cases (about {shared:.0%} of both are the same)"
                return (
                    f"the threshold of {tier.name} was chosen on {these}, which therefore proves nothing about it: "
                    "judge other cases"
                )
    return None


def _shared(leaf: Leaf, model: str, traffic: Traffic) -> float:
    """Tell how many of the cases that chose a threshold are these; 0 where nobody says which chose it."""
    if leaf.chosen_on is None:
        return 0.0
    if sketches.is_sketch(leaf.chosen_on):
        return sketches.share(leaf.chosen_on, sketches.of(traffic, leaf.signal, model))
    return float(leaf.chosen_on == traffic.sha256())


def _cells_of(judged: Judged, budget: Budget) -> list[Cell]:
    """Cohorts a budget line speaks of, without those a route sends wholly to the flagship."""
    scope = budget.scope
    if scope.kind == "overall":
        return [judged.overall]
    cells = judged.cells[scope.columns]
    if scope.kind == "each":
        return [cell for cell in cells if not routed(cell, judged.context)]
    wanted = tuple(scope.values)
    found = [cell for cell in cells if cell.member == wanted]
    if found:
        return found
    names = [cohorts.label(cell.family, cell.member) for cell in cells]
    pooled = next((cell for cell in cells if ", ".join(wanted) in cell.pooled or ",".join(wanted) in cell.pooled), None)
    why = (
        f"'{scope}' has too few cases and is pooled into {cohorts.OTHER}"
        if pooled is not None
        else f"no case has '{scope}', so its budget would judge nothing.{did_you_mean(str(scope), names)}"
    )
    raise DataError([Problem(why, budget.file, budget.line)])


def _missing(suite: Suite, judged: Judged, budget: Budget, data: Data) -> Iterator[Verdict]:
    """Judge what is not there: a cohort the golden or the baseline has, and this data lacks."""
    if budget.scope.kind != "each":
        return
    family = budget.scope.columns
    expected: dict[Member, str] = {}
    if len(family) == 1:
        described = data.cohorts.get(family[0], {})
        least = next((column.at_least for column in suite.cohorts if column.name == family[0]), None) or 0
        # What is too small in the golden itself is pooled there, and promised nothing by its own name.
        expected |= {(value,): "the golden" for value, cases in described.items() if cases >= least}
    if judged.baseline is not None:
        for pairs in judged.baseline.cohorts:
            named = dict(pairs)
            if tuple(named) == family:
                expected.setdefault(tuple(named.values()), "the baseline")
    have = {cell.member for cell in judged.cells[family]}
    have |= {(name,) for cell in judged.cells[family] for name in cell.pooled}
    for member in sorted(set(expected) - have):
        label = cohorts.label(family, member)
        reason = f"{expected[member]} has {label}, and no case of this data is in it"
        yield _placed(suite, budget, _unmeasured(suite, judged, budget, reason), cohorts.mapping(family, member))


def _refuse_empty(suite: Suite, judged: Sequence[Judged]) -> None:
    """Refuse a budget that no cascade was judged by: it would look like a promise kept."""
    seen = {(verdict.metric, verdict.scope) for each in judged for verdict in each.verdicts}
    problems = [
        Problem(f"'{budget.metric}: {budget.scope}' judges nothing: {_why_nothing(budget)}", budget.file, budget.line)
        for budget in suite.budgets
        if (budget.metric, str(budget.scope)) not in seen
    ]
    if not problems:
        problems = [
            Problem(
                f"the cascade '{each.cascade.name}' is judged by no budget: none speaks of its tiers, or every cohort "
                "they name is routed to the flagship",
                suite.name,
            )
            for each in judged
            if not each.verdicts and each.cascade.name not in {counting.ALWAYS_FLAGSHIP, suite.baseline}
        ]
    if problems:
        raise DataError(problems)


def _why_nothing(budget: Budget) -> str:
    if budget.metric in COMPARED:
        return "no cascade is compared with a baseline"
    return "every cohort it names is routed to the flagship"
