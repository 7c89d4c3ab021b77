"""Budgets from a suite: metric, scope and bound, checked against tiers, cohort columns and the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade_eval import budgets, metrics
from cascade_eval.errors import Problem, did_you_mean
from cascade_eval.suite import phrases

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cascade_eval.cascade import Cascade
    from cascade_eval.suite.nouns import CohortColumn
    from cascade_eval.suite.text import Lines

NEEDS_BASELINE = frozenset({"flips to disagreement", "escalation drift"})
WHOLE = frozenset({"audit age"})
"""Metrics that have one value for all cases."""

WATCHED = "disagreement"
"""The metric whose promises can be watched over weeks."""

_FROM = "escalation from "
EXAMPLES: dict[metrics.Unit, tuple[str, ...]] = {
    "rate": ("at most 5%", "at least 95%", "15% to 40%"),
    "ratio": ("at most 45% of always-flagship", "at least 98%"),
    "points": ("at most 3 points", "-2 to 3 points"),
    "seconds": ("at most 2 s", "at most 800 ms"),
    "dollars": ("at most $0.002",),
    "days": ("at most 30 days",),
}
"""Bounds as they are written, by the unit of the metric."""


@dataclass(frozen=True)
class Words:
    """What budgets of a suite may name.

    Parameters
    ----------
    cascades
        Of the suite; None for one that could not be read.
    cohorts
        Columns of the suite; None when they could not be read.
    compares
        Whether there is a baseline.
    """

    cascades: Collection[Cascade | None]
    cohorts: tuple[CohortColumn, ...] | None
    compares: bool

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers with a gate, of any cascade."""
        return tuple(dict.fromkeys(tier.name for one in self.cascades if one is not None for tier in one.tiers[:-1]))

    @property
    def complete(self) -> bool:
        """Whether every cascade could be read."""
        return None not in self.cascades and bool(self.cascades)


def read(written: Any, words: Words, lines: Lines, problems: list[Problem]) -> tuple[budgets.Budget, ...]:
    """Read all budgets; what is wrong is added to `problems`."""
    if not written and (written is None or isinstance(written, dict)):
        problems.append(
            lines.problem(
                "a suite without budgets judges nothing. Write 'budgets: {disagreement: {overall: at most 5%}}'.",
                "budgets",
            )
        )
        return ()
    if not isinstance(written, dict):
        problems.append(
            lines.problem(
                f"'budgets' is a mapping from metric to scope to bound, not {phrases.show(written)}.", "budgets"
            )
        )
        return ()
    found: list[budgets.Budget] = []
    for name, scopes in written.items():
        metric = _metric(name, words, lines, problems)
        found += _of_metric(name, metric, scopes, words, lines, problems)
    return tuple(found)


def _metric(name: str, words: Words, lines: Lines, problems: list[Problem]) -> metrics.Metric | None:
    metric = metrics.find(name, words.tiers)
    if name in NEEDS_BASELINE and not words.compares:
        message = f"'{name}' compares with a baseline, and this suite has none. Write 'baseline: git:origin/main'."
        problems.append(lines.problem(message, "budgets", name))
    if metric is None and (words.complete or not name.startswith(_FROM)):
        problems.append(lines.problem(_unknown(name, words), "budgets", name))
    return metric


def _unknown(name: str, words: Words) -> str:
    tier = name.removeprefix(_FROM)
    if tier == name or not words.tiers:
        return (
            f"unknown metric '{name}'.{did_you_mean(name, [*metrics.METRICS, *(_FROM + tier for tier in words.tiers)])}"
        )
    if any(one is not None and one.flagship.name == tier for one in words.cascades):
        return f"nothing escalates from '{tier}', the flagship.{did_you_mean('', words.tiers)}"
    return f"unknown tier '{tier}' in '{name}'.{did_you_mean(tier, words.tiers)}"


def _of_metric(
    name: str, metric: metrics.Metric | None, scopes: Any, words: Words, lines: Lines, problems: list[Problem]
) -> Iterator[budgets.Budget]:
    if not isinstance(scopes, dict) or not scopes:
        example = scopes if isinstance(scopes, str) else EXAMPLES["rate" if metric is None else metric.unit][0]
        problems.append(
            lines.problem(
                f"'{name}' needs a scope and a bound. Write '{name}: {{overall: {example}}}'.", "budgets", name
            )
        )
        return
    seen: dict[object, str] = {}
    for where, phrase in scopes.items():
        here = ("budgets", name, where)
        scope = _scope(where, here, words, lines, problems)
        bound = _bound(phrase, metric, here, lines, problems)
        if bound is not None and bound.watched and name != WATCHED:
            message = f"'{name}' cannot be watched weekly; only '{WATCHED}' can. Write '{bound.plain}'."
            problems.append(lines.problem(message, *here))
        if scope is not None and name in WHOLE and scope.kind != "overall":
            problems.append(
                lines.problem(f"'{name}' is one number for all cases. Write 'overall' instead of '{where}'.", *here)
            )
        if scope is None:
            continue
        same = seen.setdefault(_meaning(scope), where)
        if same != where:
            problems.append(lines.problem(f"'{where}' is the same promise as '{same}'. Keep one.", *here))
        if bound is not None:
            yield budgets.Budget(name, scope, bound, lines.of(*here), lines.file)


def _meaning(scope: budgets.Scope) -> object:
    values = scope.values or ("",) * len(scope.columns)
    return scope.kind, tuple(sorted(zip(scope.columns, values, strict=True)))


def _scope(
    where: str, here: tuple[str, ...], words: Words, lines: Lines, problems: list[Problem]
) -> budgets.Scope | None:
    try:
        scope = budgets.parse_scope(where)
    except ValueError as error:
        problems.append(lines.problem(str(error), *here))
        return None
    known = None if words.cohorts is None else [column.name for column in words.cohorts]
    if known is None:
        return scope
    for column in scope.columns:
        if column not in known:
            hint = did_you_mean(column, known) if known else f" Write 'cohorts: [{column}]'."
            problems.append(lines.problem(f"'{column}' is not one of the suite's cohorts.{hint}", *here))
    return scope


def _bound(
    phrase: Any, metric: metrics.Metric | None, here: tuple[str, ...], lines: Lines, problems: list[Problem]
) -> budgets.Bound | None:
    if metric is None:
        return None
    try:
        return budgets.parse(phrase if isinstance(phrase, str) else phrases.show(phrase), metric.unit)
    except ValueError as error:
        problems.append(lines.problem(str(error), *here))
        return None


def notes(promised: tuple[budgets.Budget, ...]) -> list[Problem]:
    """Say which budgets promise nothing."""
    return [
        Problem(f"{budget.metric}, {budget.scope}: '{budget.bound}' cannot fail.", budget.file, budget.line)
        for budget in promised
        if budget.bound.cannot_fail
    ]
