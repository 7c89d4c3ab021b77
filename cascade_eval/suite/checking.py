"""What has to be true of suite and data together before anything is judged; every reason shown at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade_eval import cohorts, costs, signals
from cascade_eval.cascade import leaves
from cascade_eval.errors import BaselineError, CostError, DataError, Problem, did_you_mean
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cascade_eval.baseline import Baseline
    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.prices import Prices
    from cascade_eval.suite.nouns import Suite
    from cascade_eval.suite.text import Lines
    from cascade_eval.traffic import Traffic

MONEY: Final = frozenset({"cost", "savings", "cost per request", "cost per completed task", "break-even margin"})
"""Metrics that need to know what calls cost."""

_LABELLED: Final = frozenset({"quality", "retention"})


def check(suite: Suite, traffic: Traffic, prices: Prices, baselines: Mapping[str, Baseline]) -> None:
    """Refuse a suite this data cannot answer.

    Raises
    ------
    UsageError
        With every problem found: `DataError` for columns and models, `CostError` for prices, `BaselineError`.
    """
    problems = list(dict.fromkeys(_data_problems(suite, traffic)))
    if problems:
        raise DataError([*problems, *map(Problem, traffic.notes)])
    money = list(dict.fromkeys(_cost_problems(suite, traffic, prices)))
    if money:
        raise CostError(money)
    lost = list(_baseline_problems(suite, traffic, baselines))
    if lost:
        raise BaselineError(lost)


def _data_problems(suite: Suite, traffic: Traffic) -> Iterator[Problem]:
    known = set(traffic.case_columns)
    for column in suite.cohorts:
        [needed] = cohorts.needs([column.name])
        if needed not in traffic.fields:
            yield _at(suite, "cohorts", f"no case has a column '{needed.name}'.{did_you_mean(needed.name, known)}")
    for cascade in suite.cascades:
        for route in cascade.routes:
            for name in route.when:
                [needed] = cohorts.needs([name])
                if needed not in traffic.fields:
                    yield _of(
                        suite,
                        cascade,
                        f"a route reads the column '{name}', which no case has.{did_you_mean(name, known)}",
                    )
        for tier in cascade.tiers:
            yield from _tier_problems(suite, traffic, cascade, tier)
    for budget in suite.budgets:
        if budget.metric in _LABELLED and not _labelled(traffic):
            yield Problem(
                f"'{budget.metric}' needs a `score` of the answers, or an `expected` answer of the cases; neither is "
                "recorded",
                budget.file,
                budget.line,
            )


def _tier_problems(suite: Suite, traffic: Traffic, cascade: Cascade, tier: Tier) -> Iterator[Problem]:
    if tier.model not in traffic.models:
        yield _of(
            suite,
            cascade,
            tier=tier,
            message=f"tier '{tier.name}': no case has an answer of '{tier.model}'.{did_you_mean(tier.model, traffic.models)}",
        )
        return
    for leaf in leaves(tier.gate):
        for message in signals.check(leaf.signal, traffic.fields, tier.model):
            yield _of(suite, cascade, tier=tier, message=f"gate of '{tier.name}': {message}")
        for call in signals.calls(leaf.signal, tier.model):
            if call.model not in traffic.models:
                message = f"no case has an answer of '{call.model}'.{did_you_mean(call.model, traffic.models)}"
                yield _of(suite, cascade, tier=tier, message=f"gate of '{tier.name}': {message}")
        if leaf.escalate is not None and leaf.calibrate is not None:
            yield _of(
                suite,
                cascade,
                tier=tier,
                message=f"gate of '{tier.name}': 'escalate' takes the quantile of the raw signal, so 'calibrate' has no effect; "
                "write a threshold, or leave out 'calibrate'",
            )
        for name in () if leaf.calibrate is None else leaf.calibrate.per:
            [needed] = cohorts.needs([name])
            if needed not in traffic.fields:
                near = did_you_mean(name, traffic.case_columns)
                yield _of(
                    suite,
                    cascade,
                    tier=tier,
                    message=f"gate of '{tier.name}': 'calibrate … per {name}': no such column.{near}",
                )


def _labelled(traffic: Traffic) -> bool:
    return Field(None, "expected") in traffic.fields or any(
        Field(model, "score") in traffic.fields for model in traffic.models
    )


def _cost_problems(suite: Suite, traffic: Traffic, prices: Prices) -> Iterator[Problem]:
    """Name models whose calls cannot be charged, where a budget needs to know what they cost."""
    asked = [budget for budget in suite.budgets if budget.metric in MONEY]
    if not asked:
        return
    for cascade in suite.cascades:
        for tier in cascade.tiers:
            calls = [(tier.model, costs.needs(tier.model, prices, traffic.fields))]
            calls += [
                (call.model, costs.needs(call.model, prices, traffic.fields))
                for leaf in leaves(tier.gate)
                for call in signals.calls(leaf.signal, tier.model)
                if call.kind == "call"
            ]
            for model, columns in calls:
                if not _chargeable(model, columns):
                    why = costs.why_unknown(model, prices, traffic.fields)
                    yield Problem(f"'{asked[0].metric}' cannot be computed: {why}", asked[0].file, asked[0].line)


def _chargeable(model: str, columns: frozenset[Field]) -> bool:
    """Whether calls of a model have a recorded cost, or a price and the tokens it takes."""
    tokens = {Field(model, "input_tokens"), Field(model, "output_tokens")}
    return Field(model, "cost_usd") in columns or tokens <= columns


def _baseline_problems(suite: Suite, traffic: Traffic, baselines: Mapping[str, Baseline]) -> Iterator[Problem]:
    """Refuse a baseline whose tiers this data has not recorded: it cannot be replayed here."""
    for name, baseline in baselines.items():
        for tier in baseline.cascade.tiers:
            if tier.model not in traffic.models:
                near = did_you_mean(tier.model, traffic.models)
                yield _at(
                    suite,
                    "baseline",
                    f"the baseline of '{name}' ({baseline.name}) asks '{tier.model}', which no case has.{near}",
                )
            for leaf in leaves(tier.gate):
                for message in signals.check(leaf.signal, traffic.fields, tier.model):
                    yield _at(suite, "baseline", f"the baseline of '{name}' ({baseline.name}): {message}")


def _at(suite: Suite, key: str, message: str) -> Problem:
    line = None if suite.lines is None else suite.lines.of(key)
    return Problem(message, suite.name, line)


def _of(suite: Suite, cascade: Cascade, message: str, tier: Tier | None = None) -> Problem:
    line = None if suite.lines is None else _line(suite.lines, cascade, tier)
    return Problem(f"cascade '{cascade.name}', {message}", suite.name, line)


def _line(lines: Lines, cascade: Cascade, tier: Tier | None) -> int | None:
    """Line of a tier's gate, or of the nearest thing around it, in either form a cascade is written in."""
    here = ("cascades", cascade.name)
    if tier is None:
        return lines.of(*here)
    at = (cascade.tiers.index(tier), "gate")
    found = [line for line in (lines.of(*here, "tiers", *at), lines.of(*here, *at)) if line is not None]
    return max(found, default=None)
