"""A suite with its data and baseline opened: what plugin and command line both do first.

`evaluate` judges a suite; `replays` keeps the columns, for tests written in Python; `open_data` and `baselines` are the
steps by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cascade_eval import baseline as baseline_
from cascade_eval import evidence, goldens, importers, metrics, replay, suite, traffic, weeks
from cascade_eval.cascade import leaves
from cascade_eval.errors import BaselineError, DataError, Problem, SuiteError, UsageError
from cascade_eval.prices import parse as parse_prices
from cascade_eval.suite import checking, evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor

    from cascade_eval.baseline import Baseline
    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Data, Evaluation, Suite
    from cascade_eval.traffic import Traffic


@dataclass(frozen=True, eq=False)
class Opened:
    """A suite and everything it is judged by.

    Parameters
    ----------
    suite
        What is promised.
    traffic, data
        The cases, and where they come from.
    baselines
        What each cascade is compared with, by name.
    """

    suite: Suite
    traffic: Traffic
    data: Data
    baselines: Mapping[str, Baseline]


def open(  # noqa: A001  called as runs.open; nothing here opens by the built-in
    found: Suite, *, traffic_path: str | None = None, tolerate: int | None = None
) -> Opened:
    """Open a suite's data and baseline.

    Parameters
    ----------
    found
        From `suite.load`.
    traffic_path
        Judge this data instead of the suite's own; relative to the working directory.
    tolerate
        Bad rows to set aside.

    Raises
    ------
    UsageError
        Data or baseline cannot be used.

    Examples
    --------
    >>> opened = open(suite.load("suites/tickets.cascade.yaml"))
    >>> opened.traffic.cases, opened.traffic.models
    (330, ('mini', 'flagship'))
    """
    cases, data = _open_data(found, traffic_path, tolerate or 0)
    return Opened(found, cases, data, _baselines(found, cases))


def evaluate(
    found: Suite,
    *,
    traffic_path: str | None = None,
    tolerate: int | None = None,
    inconclusive: Literal["fail", "warn"] | None = None,
    executor: Executor | None = None,
) -> Evaluation:
    """Judge a suite on its own data, or on other traffic.

    Parameters
    ----------
    found
        From `suite.load`.
    traffic_path, tolerate
        As for `open`.
    inconclusive
        Goes before the suite's own setting.
    executor
        Where batches are counted.

    Raises
    ------
    UsageError
        Data or baseline cannot be used, or a budget needs what they do not have; nothing was judged.

    Examples
    --------
    >>> for verdict in evaluate(suite.load("suites/tickets.cascade.yaml")).verdicts[:2]:
    ...     print(verdict.outcome, verdict.metric, dict(verdict.cohort), verdict.headline)
    pass disagreement {} 12.9% is within at most 30% (n=132)
    pass disagreement {'language': 'de'} 10% is within at most 40% (n=30)
    """
    opened = open(found, traffic_path=traffic_path, tolerate=tolerate)
    return judge(opened, inconclusive=inconclusive, executor=executor)


def judge(
    opened: Opened,
    *,
    inconclusive: Literal["fail", "warn"] | None = None,
    executor: Executor | None = None,
) -> Evaluation:
    """Judge a suite whose data and baseline are open; budgets that are watched by the weeks of its history, too.

    Parameters
    ----------
    opened
        From `open` or `check`.
    inconclusive, executor
        As for `evaluate`.

    Examples
    --------
    >>> opened = open(suite.load("suites/tickets.cascade.yaml"))
    >>> {verdict.outcome for verdict in judge(opened, inconclusive="fail").verdicts} <= {"pass", "inconclusive"}
    True
    """
    asked = weeks.asked(opened.suite)
    return evaluation.evaluate(
        opened.suite,
        opened.traffic,
        data=opened.data,
        baselines=opened.baselines,
        inconclusive=inconclusive,
        executor=executor,
        watching=weeks.watch(opened.suite, opened.traffic, executor=executor) if asked else None,
    )


def replays(
    found: Suite,
    *,
    traffic_path: str | None = None,
    tolerate: int | None = None,
    inconclusive: Literal["fail", "warn"] | None = None,
) -> dict[str, Replay]:
    """Replay every cascade of a suite and keep the columns.

    Parameters
    ----------
    found, traffic_path, tolerate, inconclusive
        As for `evaluate`.

    Returns
    -------
    dict
        By name of the cascade.

    Examples
    --------
    >>> replay = replays(suite.load("suites/tickets.cascade.yaml"))["current"]
    >>> print(replay.escalation)
    60% (...), n=330
    >>> [member.cohort["language"] for member in replay.cohorts("language")]
    ['de', 'en', 'es', 'fr', 'pt']
    """
    opened = open(found, traffic_path=traffic_path, tolerate=tolerate)
    plan = evaluation.plan(opened.suite, opened.traffic, opened.baselines, sweep=False)
    batch = opened.traffic.read(evaluation.needs(plan, opened.traffic))
    shared = replay.Columns(batch, plan.rules)
    kept: dict[str, Replay] = {}
    pooled = _pooled(found, shared)
    for cascade in plan.cascades[:-1]:
        columns = replace(shared, rules=plan.rules_of(cascade))
        problems = evaluation.flattered(cascade, opened.traffic)
        context = metrics.Context((), found.confidence, found.coverage, found.audited, problems=problems)
        before = plan.baselines.get(cascade.name)
        earlier = None
        if before is not None:
            earlier = replay.run(before, replace(shared, rules=plan.rules_of(before)), plan.rules, context=context)
        replayed = replay.run(cascade, columns, plan.rules, context=context, baseline=earlier)
        kept[cascade.name] = replace(replayed, inconclusive=inconclusive or found.inconclusive, pooled=pooled)
    return kept


def _pooled(found: Suite, shared: replay.Columns) -> dict[str, frozenset[str]]:
    """Cohorts with fewer cases than their column asks for."""
    pooled = {}
    for column in found.cohorts:
        if column.at_least is not None:
            codes = shared.codes((column.name,))
            cases = np.bincount(codes.codes, minlength=len(codes.members))
            pooled[column.name] = frozenset(
                member[0] for member, n in zip(codes.members, cases, strict=True) if n < column.at_least
            )
    return pooled


def _open_data(found: Suite, traffic_path: str | None, tolerate: int) -> tuple[Traffic, Data]:
    # Columns of a log are paths in it, which other traffic does not have.
    columns = {} if found.source.importer else found.source.columns
    if traffic_path is None and found.source.importer is not None:
        return _imported(found, found.source.importer, tolerate), suite.Data(found.source.path)
    if traffic_path is None and found.source.query is not None:
        queried = _queried(found, found.source.query, tolerate)
        return queried, suite.Data(queried.name)
    if traffic_path is None and found.source.kind == "goldens":
        golden = goldens.open(found.source.path, columns=columns, tolerate=tolerate, base=found.base)
        data = suite.Data(found.source.path, "golden", golden.description, golden.cohorts)
        return golden.traffic, data
    path = found.source.path if traffic_path is None else traffic_path
    base = found.base if traffic_path is None else None
    described = goldens.promised(found.source.path, base=found.base) if found.source.kind == "goldens" else {}
    return traffic.open(path, columns=columns, tolerate=tolerate, base=base), suite.Data(path, cohorts=described)


def _imported(found: Suite, kind: str, tolerate: int) -> Traffic:
    source = found.source
    said: dict[str, Any] = {"case": source.case, "models": source.models, "columns": source.columns}
    try:
        return importers.open(kind, source.path, tolerate=tolerate, base=found.base, **said)
    except DataError:
        raise
    except UsageError as error:
        # Of what was said about the log, which stands in the suite.
        line = None if found.lines is None else found.lines.of("traffic")
        raise SuiteError([Problem(str(problem), found.name, line) for problem in error.problems]) from None


def _queried(found: Suite, sql: str, tolerate: int) -> Traffic:
    source = found.source
    try:
        return traffic.query(source.path, sql, columns=source.columns, tolerate=tolerate, base=found.base)
    except traffic.QueryError as error:
        line = None if found.lines is None else found.lines.of("traffic", error.part)
        raise DataError([Problem(str(problem), found.name, line) for problem in error.problems]) from None


def _baselines(found: Suite, cases: Traffic) -> dict[str, Baseline]:
    """Find the cascade each cascade of the suite is compared with."""
    written = found.baseline
    if written is None:
        return {}
    names = {cascade.name for cascade in found.cascades}
    if written in names:
        cascade = found.cascade(written)
        return {name: baseline_.Baseline(cascade, "cascade", written) for name in names - {written}}
    if written.startswith("git:"):
        return _git_baselines(found, written)
    return _evidence_baselines(found, written, cases)


def _git_baselines(found: Suite, written: str) -> dict[str, Baseline]:
    # The name is for people and relative to where the run began; git is asked where the suite lies.
    path = found.base / Path(found.name).name
    past = suite.at(path, written.removeprefix("git:"), shown=found.name)
    missing = [cascade.name for cascade in found.cascades if cascade.name not in past.cascades]
    compared = any(budget.metric in evaluation.COMPARED for budget in found.budgets)
    if missing and (compared or len(missing) == len(found.cascades)):
        near = ", ".join(f"'{name}'" for name in past.cascades)
        raise BaselineError(
            Problem(
                f"the cascade '{name}' did not exist at {written} (it had {near}), so nothing can be said about what "
                "changed; name a cascade of the suite as the baseline instead",
                found.name,
            )
            for name in missing
        )
    return {
        name: baseline_.Baseline(cascade, "git", written, past.created_at, past.commit)
        for name, cascade in past.cascades.items()
        if any(cascade.name == name for cascade in found.cascades)
    }


def _evidence_baselines(found: Suite, written: str, cases: Traffic) -> dict[str, Baseline]:
    path = Path(found.resolve(written))
    earlier = evidence.read(path)
    baselines = {}
    for cascade in found.cascades:
        record = evidence.find_cascade(earlier, found.name, cascade.name, sha256=cases.sha256(), file=str(path))
        before = suite.parse_cascade(cascade.name, record["definition"])
        _refuse_other_cuts(before, record["thresholds"], str(path))
        baselines[cascade.name] = baseline_.Baseline(
            before,
            "evidence",
            written,
            earlier["created_at"],
            (earlier.get("git") or {}).get("commit"),
            tuple(tuple(cell["cohort"].items()) for cell in record["cohorts"]),
        )
    return baselines


def _refuse_other_cuts(before: Cascade, judged: Sequence[Mapping[str, Any]], file: str) -> None:
    """Refuse evidence whose definition cuts elsewhere than the run it is of did."""
    cuts = [(tier.name, leaf.threshold, leaf.escalate) for tier in before.tiers for leaf in leaves(tier.gate)]
    said = [(one["tier"], None if one["escalate"] else one["threshold"], one["escalate"]) for one in judged]
    if cuts != said:
        message = f"the definition of '{before.name}' cuts elsewhere than the thresholds it was judged with: it was changed by hand"
        raise BaselineError([Problem(message, file)])


def check(found: Suite, *, traffic_path: str | None = None, tolerate: int | None = None) -> Opened:
    """Read suite, data, prices and baseline, and say everything that would keep them from being judged.

    Parameters
    ----------
    found, traffic_path, tolerate
        As for `open`.

    Returns
    -------
    Opened
        For `judge`.

    Raises
    ------
    UsageError
        With every problem.

    Examples
    --------
    >>> check(suite.load("suites/tickets.cascade.yaml")).data.kind
    'golden'
    """
    opened = open(found, traffic_path=traffic_path, tolerate=tolerate)
    prices: Any = parse_prices(found.prices)
    checking.check(found, opened.traffic, prices, opened.baselines)
    return opened
