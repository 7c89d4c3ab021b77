"""Resemblance: rows, answers and names that are alike where they should differ, and would prove nothing.

Two models of which one is a copy of the other always agree; so do answers of which nothing is compared. A promise for a
cohort keeps silent about cases whose cohort is written almost so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import agreement, budgets, cohorts
from cascade_eval.cascade import leaves
from cascade_eval.counts import AGREE
from cascade_eval.errors import DataError, Problem
from cascade_eval.metrics.parts import short
from cascade_eval.prices import parse as parse_prices
from cascade_eval.replay import among
from cascade_eval.suite import scales, twins
from cascade_eval.suite.checking import MONEY
from cascade_eval.traffic import OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cascade_eval.budgets import Budget
    from cascade_eval.replay import Columns
    from cascade_eval.suite.counting import Counted, Plan
    from cascade_eval.suite.judged import Data
    from cascade_eval.suite.nouns import Suite
    from cascade_eval.suite.survey import Surveyed

TIES: Final = 20
"""So many measured times do not come out equal by chance."""

MANY: Final = 100
"""Of so many answers some differ, even those of good models."""

WIDE: Final = 0.5
"""A tolerance of so much and more, which covers every score there is, was meant for another scale."""

Pair = tuple[str, str]
"""A model and its flagship."""


@dataclass(frozen=True)
class Likeness:
    """How much the rows of two models are alike; it adds up.

    Parameters
    ----------
    silent
        Cases in which neither said anything.
    compared, agree
        Cases whose answers were compared, and those that agree.
    timed, tied, varied
        Cases both were timed in; those in which they took equally long; those that differ from the first of a batch.
    """

    silent: int = 0
    compared: int = 0
    agree: int = 0
    timed: int = 0
    tied: int = 0
    varied: int = 0

    def __add__(self, other: Likeness) -> Likeness:
        return Likeness(
            self.silent + other.silent,
            self.compared + other.compared,
            self.agree + other.agree,
            self.timed + other.timed,
            self.tied + other.tied,
            self.varied + other.varied,
        )

    @property
    def copied(self) -> bool:
        """Whether one is a copy of the other: the same answers in the same times, which are not one and the same."""
        return self.timed >= TIES and self.timed == self.tied and self.varied > 0 and self.compared == self.agree


@dataclass(frozen=True, eq=False)
class Resemblance:
    """What is alike in some cases; it adds up.

    Parameters
    ----------
    pairs
        By model and flagship.
    fields
        Of the fields the agreement lists, those that some answer has.
    idle
        By model and column: calls that ended well of which it is recorded, and those of them where it is exactly 0.
    scores
        The least and the greatest score that `within` compares; (inf, -inf) where there is none.
    drawn
        Cases among which twins are looked for.
    """

    pairs: dict[Pair, Likeness] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    idle: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    scores: tuple[float, float] = (np.inf, -np.inf)
    drawn: twins.Drawn = twins.NONE

    def __add__(self, other: Resemblance) -> Resemblance:
        names = dict.fromkeys([*self.pairs, *other.pairs])
        none = Likeness()
        pairs = {pair: self.pairs.get(pair, none) + other.pairs.get(pair, none) for pair in names}
        scores = min(self.scores[0], other.scores[0]), max(self.scores[1], other.scores[1])
        return Resemblance(pairs, self.fields | other.fields, self.idle + other.idle, scores, self.drawn + other.drawn)


def count(plan: Plan, columns: Columns) -> Resemblance:
    """Look at one batch."""
    rule = plan.rules.agreement
    pairs = dict.fromkeys((tier.model, one.flagship.model) for one in plan.cascades for tier in one.tiers[:-1])
    models = {tier.model for cascade in plan.cascades for tier in cascade.tiers}
    found = agreement.fields_found(rule, columns.batch, models) if rule.fields else set()
    likeness = {pair: _likeness(columns, *pair) for pair in pairs}
    drawn = twins.look(columns, sorted(models))
    return Resemblance(likeness, frozenset(found), _idle(columns, models), _scores(columns, models), drawn)


def _idle(columns: Columns, models: Iterable[str]) -> Counter[tuple[str, str, str]]:
    """Count calls that ended well and took no time, read no token, or cost nothing."""
    found: Counter[tuple[str, str, str]] = Counter()
    for model in models:
        ended = columns.status(model) == OK
        taken = columns.latency(model)
        read, known = columns.batch.integers(model, "input_tokens")
        cost = columns.batch.numbers(model, "cost_usd")
        unpriced = known & np.isnan(cost)
        for name, values, recorded in (
            ("latency_s", taken, ~np.isnan(taken)),
            ("input_tokens", read, unpriced),
            ("cost_usd", cost, ~np.isnan(cost)),
        ):
            found[model, name, "known"] += int(np.count_nonzero(ended & recorded))
            found[model, name, "zero"] += int(np.count_nonzero(ended & recorded & (values == 0)))
    return found


def _scores(columns: Columns, models: Iterable[str]) -> tuple[float, float]:
    if columns.rules.agreement.kind != "within":
        return np.inf, -np.inf
    found = np.concatenate([columns.batch.numbers(model, "score") for model in models])
    found = found[~np.isnan(found)]
    return (float(found.min()), float(found.max())) if len(found) else (np.inf, -np.inf)


def _likeness(columns: Columns, model: str, flagship: str) -> Likeness:
    agrees = columns.agrees(model, flagship)
    mine, theirs = columns.latency(model), columns.latency(flagship)
    timed = ~(np.isnan(mine) | np.isnan(theirs))
    own, other = among(mine, timed), among(theirs, timed)
    return Likeness(
        agreement.both_silent(columns.rules.agreement, columns.batch, model, flagship, agrees),
        int(np.count_nonzero(agrees >= 0)),
        int(np.count_nonzero(agrees == AGREE)),
        len(own),
        int(np.count_nonzero(own == other)),
        int(np.count_nonzero(own != own[:1])),
    )


def check(suite: Suite, plan: Plan, counted: Counted, data: Data) -> None:
    """Refuse data of which the answers would prove nothing.

    Raises
    ------
    DataError
        A model is a copy of its flagship; the agreement compares a field that no answer has, or tolerates any difference
        there is; a budget for one cohort leaves out cases whose cohort only looks different; zeros stand for what was
        not measured, and a budget needs it.
    """
    problems = [*_copies(counted, data), *_fields(suite, counted), *_tolerant(suite, counted)]
    problems += [*_names(suite, plan, counted), *_zeros(suite, counted), *_doubled(counted, data.path)]
    if problems:
        raise DataError(problems)


def refuse_doubled(counted: Counted, name: str) -> None:
    """Refuse cases of which too many are twins of another one.

    Raises
    ------
    DataError
        With their share, and what to do.
    """
    if problems := list(_doubled(counted, name)):
        raise DataError(problems)


def _doubled(counted: Counted, name: str) -> Iterator[Problem]:
    share = twins.share(counted.resemblance.drawn, counted.cases)
    if share > twins.LIKELY:
        yield Problem(
            f"{budgets.show(share, 'rate')} of {counted.cases:,} cases are twins of another: their calls took equally long, at "
            "the same moment where that is recorded, and everything else is the same but their ids. A case that counts twice "
            "proves nothing twice. Remove the copies, or name as `cluster` what they share.",
            name,
        )


def _copies(counted: Counted, data: Data) -> Iterator[Problem]:
    for (mine, theirs), likeness in counted.resemblance.pairs.items():
        if likeness.copied:
            yield Problem(
                f"'{mine}' and '{theirs}' never disagree and took equally long in each of {likeness.timed:,} cases: one is a "
                "copy of the other, which proves nothing. Record both.",
                data.path,
            )


def _fields(suite: Suite, counted: Counted) -> Iterator[Problem]:
    assert suite.agreement_rule is not None
    for name in suite.agreement_rule.fields:
        if name not in counted.resemblance.fields:
            line = None if suite.lines is None else suite.lines.of("agreement")
            yield Problem(f"no answer is JSON with the field '{name}': nothing would be compared", suite.name, line)


def _tolerant(suite: Suite, counted: Counted) -> Iterator[Problem]:
    assert suite.agreement_rule is not None
    bound, compared = (
        suite.agreement_rule.bound,
        max((one.compared for one in counted.resemblance.pairs.values()), default=0),
    )
    low, high = counted.resemblance.scores
    if compared >= TIES and bound >= WIDE and high - low <= bound:
        line = None if suite.lines is None else suite.lines.of("agreement")
        said = f"'within {bound:g}' holds of any two scores here, which lie between {low:g} and {high:g}: nothing would be compared"
        yield Problem(f"{said}. Write the tolerance on the scale of the scores.", suite.name, line)


_ZEROS: Final = {
    "latency_s": ("a call takes time", "latency"),
    "input_tokens": ("a call reads tokens", ""),
    "cost_usd": ("a price nobody knew is logged as 0", ""),
}
"""Why a zero is none, and which metrics need the column: those whose name begins so, or those about money."""


def _zeros(suite: Suite, counted: Counted) -> Iterator[Problem]:
    for (model, column, which), zero in counted.resemblance.idle.items():
        known = counted.resemblance.idle[model, column, "known"]
        if which != "zero" or not short(known - zero, known, suite.coverage):
            continue
        if column == "cost_usd" and _free(suite, model):
            continue
        why, metric = _ZEROS[column]
        asked = [one for one in suite.budgets if (one.metric.startswith(metric) if metric else one.metric in MONEY)]
        for budget in asked[:1]:
            yield Problem(
                f"'{budget.metric}' cannot be judged: '{column}' of '{model}' is 0 in {zero:,} of {known:,} calls that ended "
                f"well, and {why}. Leave it empty where it was not recorded{_unless_free(column, model)}.",
                budget.file,
                budget.line,
            )


def _unless_free(column: str, model: str) -> str:
    if column != "cost_usd":
        return ""
    return f"; where the model is free, say so: 'prices: {{{model}: {{input: $0, output: $0, per: 1M tokens}}}}'"


def _free(suite: Suite, model: str) -> bool:
    """Tell whether a suite says that a model costs nothing."""
    rate = parse_prices(suite.prices).overrides.get(model)
    return rate is not None and all(price == 0 for steps in (rate.input, rate.output) for _, price in steps or ())


def _names(suite: Suite, plan: Plan, counted: Counted) -> Iterator[Problem]:
    for budget in suite.budgets:
        columns, values = budget.scope.columns, budget.scope.values
        if budget.scope.kind != "one":
            continue
        members = counted.counts[plan.cascades[0].name, columns].members
        spoken = _spoken(suite, budget)
        alike = tuple(map(cohorts.folded, values))
        near = [one for one in members if spoken is not None and one not in spoken and _folded(one) == alike]
        if near and values in members:
            written = ", ".join(f"'{cohorts.label(columns, member)}'" for member in near)
            yield Problem(
                f"'{budget.scope}' leaves out the cases of {written}, which only looks different. Write them alike in the "
                "data, or promise both.",
                budget.file,
                budget.line,
            )


def _folded(member: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(cohorts.folded, member))


def _spoken(suite: Suite, budget: Budget) -> set[tuple[str, ...]] | None:
    """Return the cohorts of the same columns the metric's budgets name; None where one speaks of each."""
    scopes = [other.scope for other in suite.budgets if other.metric == budget.metric]
    if any(one.kind == "each" and set(one.columns) == set(budget.scope.columns) for one in scopes):
        return None
    return {one.values for one in scopes if one.kind == "one" and one.columns == budget.scope.columns}


def notes(counted: Counted, seen: Surveyed) -> Iterator[str]:
    """Say what is alike and may not be meant so, and what is not and should be."""
    yield from _strange_maps(seen)
    yield from scales.notes(seen.cascades, seen.spreads)
    if share := twins.share(counted.resemblance.drawn, counted.cases):
        yield (
            f"{budgets.show(share, 'rate')} of {counted.cases:,} cases are twins of another, to the recorded times: make sure "
            "that no case is there twice"
        )
    for (mine, theirs), likeness in counted.resemblance.pairs.items():
        if likeness.silent:
            yield (
                f"neither {mine} nor {theirs} said anything in {likeness.silent:,} of {counted.cases:,} cases: nothing is "
                "compared there, unless the suite says 'agreement: {rule: …, empty answers: agree}'"
            )
        if likeness.compared >= MANY and likeness.compared == likeness.agree:
            yield f"{mine} and {theirs} agree in all {likeness.compared:,} compared cases: make sure that neither is a copy"


def _strange_maps(seen: Surveyed) -> Iterator[str]:
    """Say so where a stored calibration was fitted on another signal or model than it is used for."""
    for cascade, tier, leaf in (
        (one, each, leaf) for one in seen.cascades for each in one.tiers for leaf in leaves(each.gate)
    ):
        stored = None if leaf.calibrate is None else seen.stored.get(leaf.calibrate.file or "")
        if stored is None:
            continue
        fitted, used = (
            (stored.signal, *stored.models[:1]),
            (str(leaf.signal), *((tier.model,) if stored.models else ())),
        )
        if fitted != used:
            yield (
                f"{cascade.name}: the calibration of {tier.name} was fitted on {' of '.join(fitted)}, and is used for "
                f"{' of '.join(used)}: fit it again"
            )
