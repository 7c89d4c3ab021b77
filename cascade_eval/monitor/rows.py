"""Rows from traffic: one streaming pass, counted by week and cohort."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import agreement, cohorts, metrics, replay
from cascade_eval.cascade import leaves
from cascade_eval.counts import UNKNOWN, UNSAMPLED, Counts, states
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.metrics.parts import short
from cascade_eval.monitor import namesakes, users
from cascade_eval.monitor.nouns import Cohort, Kind, Row, check_week
from cascade_eval.prices import parse as parse_prices
from cascade_eval.suite import counting, evaluation, resemblance
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.cohorts import Member
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Estimate

    Said = Mapping[tuple[tuple[str, ...], Member], Mapping[str, Any]]

WEEK: Final = "week of decided_at"

WHOLE: Final = "all"
"""Window of traffic that is looked at as one."""

NEARLY: Final = 0.9
"""Share of known comparisons from which a week below the suite's floor still counts in a sequence."""

_DAY: Final = 86_400 * 10**6

_RAW: Final = (
    "decisions",
    "escalated",
    "kept",
    "compared",
    "disagreed",
    "regenerated",
    "regeneration_known",
    "routed",
)
"""Fields that are numbers of cases."""

_PLAIN: Final = {
    "cost_per_request": "cost per request",
    "cost_ratio": "cost",
    "latency_p50": "latency p50",
    "latency_p95": "latency p95",
}
"""Fields that are the value of a metric, and nothing else of it."""

_SHOWN: Final = ("escalation", "disagreement", *_PLAIN.values())


def weekly(suite: Suite, traffic: Traffic, *, executor: Executor | None = None) -> tuple[Row, ...]:
    """Replay traffic through every cascade of a suite and return a row for each week, cohort and cascade.

    Parameters
    ----------
    suite
        Cascades, cohorts, agreement and prices. Small cohorts are not pooled: which ones are small changes weekly.
    traffic
        Cases with `decided_at`. With `audit_probability`, only the cases an audit drew are compared.
    executor
        Where batches are counted.

    Returns
    -------
    tuple of Row
        By cascade and week; in each week all cases first, then cohorts by name.

    Raises
    ------
    UsageError
        No time, cases without one, or anything that would keep the suite from being judged.

    Examples
    --------
    >>> from cascade_eval import suite, traffic
    >>> weeks = traffic.open("goldens/incident/cases.parquet")
    >>> rows = weekly(suite.load("suites/weekly_replay.cascade.yaml"), weeks)
    >>> [(row.window, dict(row.cohort), row.decisions) for row in rows[:2]]
    [('2026-W28', {}, 1500), ('2026-W28', {'language': 'en'}, 1430)]
    """
    if Field(None, "decided_at") not in traffic.fields:
        message = (
            "no column 'decided_at': a week cannot be told. Map a time column: 'columns: {decided_at: created_at}'."
        )
        raise DataError([Problem(message, traffic.name)])
    plan = _plan(suite, traffic, (WEEK,))
    counted = counting.count(plan, traffic, executor=executor)
    if counted.cases == 0 or counted.span is None:
        raise DataError([Problem("no cases: there is no week to show", traffic.name)])
    _refuse_timeless(counted.counts[plan.cascades[0].name, (WEEK,)], traffic.name)
    resemblance.refuse_doubled(counted, traffic.name)
    rows = _production(suite, traffic, plan, counted)
    complete = _complete(sorted({row.window for row in rows}), counted.span)
    return tuple(replace(row, complete=row.window in complete) for row in rows)


def whole(suite: Suite, traffic: Traffic, *, executor: Executor | None = None) -> tuple[Row, ...]:
    """Return rows as `weekly` does, with all of the traffic in one window called ``all``; it needs no time.

    Parameters
    ----------
    suite, traffic, executor
        As for `weekly`.

    Raises
    ------
    UsageError
        No cases, or anything that would keep the suite from being judged.

    Examples
    --------
    >>> from cascade_eval import suite, traffic
    >>> rows = whole(suite.load("suites/tickets.cascade.yaml"), traffic.open("goldens/tickets/cases.parquet"))
    >>> rows[0].window, rows[0].decisions, rows[0].escalated
    ('all', 330, 198)
    """
    plan = _plan(suite, traffic, ())
    counted = counting.count(plan, traffic, executor=executor)
    if counted.cases == 0:
        raise DataError([Problem("no cases: there is nothing to show", traffic.name)])
    rows = _production(suite, traffic, plan, counted)
    return tuple(replace(row, complete=False) for row in rows)


def fixed(
    suite: Suite, traffic: Traffic, *, window: str, kind: Kind = "held-out", model: str | None = None
) -> tuple[Row, ...]:
    """Return the rows of a fixed set that was asked again in some week.

    A held-out set shows whether the first tier still agrees with the flagship on cases that do not change: where it is
    flat while production moves, an evaluation on it sees nothing. A judge's set holds frozen answers with their known
    grades in `expected`: where it moves, the judge did.

    Parameters
    ----------
    suite
        As for `weekly`.
    traffic
        The set with this week's answers.
    window
        ISO week, such as ``2026-W28``.
    kind
        ``held-out`` or ``judge``.
    model
        Whose answers are compared with `expected`, for a judge's set.

    Returns
    -------
    tuple of Row
        For each cascade, all cases and every cohort.

    Raises
    ------
    UsageError
        An unknown kind or model, or a set that cannot be compared.

    Examples
    --------
    >>> from cascade_eval import suite, traffic
    >>> held_out = traffic.open("goldens/tickets/cases.parquet")
    >>> rows = fixed(suite.load("suites/tickets.cascade.yaml"), held_out, window="2026-W28")
    >>> rows[0].kind, rows[0].agreed, rows[0].answered
    ('held-out', 211, 330)
    """
    if kind not in {"held-out", "judge"}:
        raise UsageError(f"'{kind}' is not a fixed set.{did_you_mean(kind, ['held-out', 'judge'])}")
    check_week(window)
    if kind == "judge" and model not in traffic.models:
        hint = did_you_mean(model or "", traffic.models)
        raise UsageError(
            f"a judge's set needs the model that judged, and {traffic.name} has none called '{model}'.{hint}"
        )
    assert suite.agreement_rule is not None
    rules = replay.Rules(suite.agreement_rule, parse_prices(suite.prices))
    families = [family for family in evaluation.families(suite) if cohorts.needs(family) <= traffic.fields]
    found: dict[tuple[str, Cohort], NDArray[np.int64]] = {}
    for batch in traffic.batches(_fixed_needs(suite, rules, families, traffic, kind, model)):
        columns = replay.Columns(batch, rules)
        for cascade in suite.cascades:
            right = _agreement(columns, cascade, kind, model)
            for family in dict.fromkeys(((), *families)):
                for member, sums in _by_member(columns.codes(family), right):
                    key = (cascade.name, _cohort(family, member))
                    found[key] = found.get(key, 0) + sums
    return tuple(_fixed_row(suite, name, kind, window, cohort, sums) for (name, cohort), sums in found.items())


def gone(rows: Sequence[Row], kept: Iterable[Row]) -> tuple[Row, ...]:
    """Return an empty row for each cohort that a history has in the weeks of these rows, and they have not.

    Weeks are replaced whole. Without this a cohort that is missing from a week measured again would be vouched for by
    what was measured of it before.

    Parameters
    ----------
    rows
        Of the traffic at hand.
    kept
        Of the history.

    Examples
    --------
    >>> old = [Row("s", "c", "production", "2026-W30", (("language", name),), kept=60) for name in ("en", "pt")]
    >>> [(row.cohort, row.kept, row.reason) for row in gone(old[:1], old)]
    [((('language', 'pt'),), 0, 'no case in this week, measured again')]
    """
    weeks = {row.key[:4]: row.definition for row in rows}
    have = {row.key for row in rows}
    lost = [row for row in kept if row.key[:4] in weeks and row.key not in have]
    reason = "no case in this week, measured again"
    return tuple(
        Row(
            row.suite,
            row.cascade,
            row.kind,
            row.window,
            row.cohort,
            complete=row.complete,
            reason=reason,
            definition=weeks[row.key[:4]],
            origin=row.origin,
        )
        for row in lost
    )


def _plan(suite: Suite, traffic: Traffic, front: tuple[str, ...]) -> counting.Plan:
    """Plan what a suite counts, with every family split by week, and nothing but what the monitor watches."""
    alone = replace(
        suite,
        baseline=None,
        budgets=tuple(budget for budget in suite.budgets if budget.metric in {"disagreement", "escalation"}),
    )
    made = evaluation.plan(alone, traffic, {}, sweep=False)
    families = [(*front, *(column for column in family if column not in front)) for family in made.families]
    return replace(made, baselines={}, families=tuple(dict.fromkeys((front, *families))), tried={})


def _refuse_timeless(counts: Counts, name: str) -> None:
    if (cohorts.NONE,) not in counts.members:
        return
    lost = int(counts["states"][counts.members.index((cohorts.NONE,))].sum())
    message = (
        f"{lost:,} cases have no 'decided_at' and belong to no week. Leave them out of the data, or give them a time."
    )
    raise DataError([Problem(message, name)])


def _production(suite: Suite, traffic: Traffic, plan: counting.Plan, counted: counting.Counted) -> list[Row]:
    said = users.count(traffic, plan.families)
    return [row for cascade in plan.cascades[:-1] for row in _rows(suite, cascade, traffic, plan, counted, said)]


def _rows(
    suite: Suite, cascade: Cascade, traffic: Traffic, plan: counting.Plan, counted: counting.Counted, said: Said
) -> Iterator[Row]:
    context = metrics.Context(
        tuple(tier.name for tier in cascade.tiers),
        suite.confidence,
        suite.coverage,
        suite.audited,
        replay.leaf_names(cascade),
        plan.limits,
        audit=Field(None, "audit_probability") in traffic.fields,
        problems=evaluation.flattered(cascade, traffic),
    )
    empty = Row(
        namesakes.known_as(suite),
        cascade.name,
        "production",
        WHOLE,
        (),
        definition=_definition(suite, cascade.name),
        origin=namesakes.origin(suite),
    )
    made: list[Row] = []
    for family in plan.families:
        for member, numbers in _by_number(counted.counts[cascade.name, family], context):
            timed = plan.families[0] == (WEEK,)
            window = member[0] if timed else WHOLE
            cohort = _cohort(family[timed:], member[timed:])
            made.append(replace(empty, window=window, cohort=cohort, **numbers, **said.get((family, member), {})))
    totals = {row.window: row.traffic for row in made if not row.cohort}
    shared = [replace(row, share=row.traffic / totals[row.window] if totals[row.window] else None) for row in made]
    yield from sorted(shared, key=lambda row: (row.window, row.cohort))


def _by_number(counts: Counts, context: metrics.Context) -> Iterator[tuple[Member, dict[str, Any]]]:
    """Yield each member of a family with what is measured of it, in fields of `Row`."""
    shown = {
        name: metrics.estimates(metrics.METRICS[name], counts, context) for name in _SHOWN if _counted(name, counts)
    }
    masks = _masks(len(context.tiers))
    raw = {name: counts["states"] @ mask for name, mask in masks.items()}
    weighted = counts["states.w" if "states.w" in counts else "states"] @ masks["decisions"]
    # What the floor of audited cases alone holds back is still evidence; what proves nothing at all is none.
    plain = "states.w" not in counts and not counts.clusters and not context.audit
    plain &= "disagreement" not in context.problems
    for i, member in enumerate(counts.members):
        own = {name: estimates[i] for name, estimates in shown.items()}
        told = own["disagreement"].value is not None or own["escalation"].value is None
        yield (
            member,
            {
                "cases": int(counts["states"][i].sum()),
                "traffic": float(weighted[i]),
                **{name: int(raw[name][i]) for name in _RAW},
                **{field: _value(own, metric) for field, metric in _PLAIN.items()},
                **_labelled(counts, i),
                **_escalation(own["escalation"]),
                **_disagreement(own["disagreement"]),
                **({} if told or not plain else _worst(raw, i)),
            },
        )


def _definition(suite: Suite, name: str) -> str:
    """Hash what decides who is kept and who agrees: weeks of another gate, model, map or rule are weeks of another cascade."""
    cascade = suite.cascade(name)
    files = {
        leaf.calibrate.file
        for tier in cascade.tiers
        for leaf in leaves(tier.gate)
        if leaf.calibrate is not None and leaf.calibrate.file is not None
    }
    maps = {file: hashlib.sha256(Path(suite.resolve(file)).read_bytes()).hexdigest() for file in sorted(files)}
    said = json.dumps([cascade.definition, suite.agreement, maps], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _counted(name: str, counts: Counts) -> bool:
    return not name.startswith("latency") or "latency" in counts


def _masks(tiers: int) -> dict[str, Any]:
    """Which states each raw count of a row adds up."""
    layout = states(tiers)
    start, settled, served, _, again = layout.digits
    last = tiers - 1
    kept = settled < last
    compared = kept & (served != UNSAMPLED) & (served != UNKNOWN)
    chosen = {
        "decisions": start < last,
        "routed": start == last,
        "escalated": (start < last) & (settled == last),
        "kept": kept,
        "compared": compared,
        "looked": kept & (served != UNSAMPLED),
        "disagreed": compared & (served == 0),
        "regenerated": again == 2,
        "regeneration_known": again > 0,
    }
    return {name: layout.mask(mask) for name, mask in chosen.items()}


def _labelled(counts: Counts, i: int) -> dict[str, Any]:
    """Count the served answers that are right or wrong; grades in between are no labels."""
    if "quality" not in counts:
        return {}
    known, graded, right = counts["quality"][i].tolist()
    return {"label_bad": known - graded - right, "label_known": known - graded}


def _escalation(estimate: Estimate) -> dict[str, Any]:
    if estimate.value is None:
        return {}
    return {
        "escalation": estimate.value,
        "escalation_low": estimate.low,
        "escalation_high": estimate.high,
        "escalation_size": float(estimate.effective or 0.0),
    }


def _disagreement(estimate: Estimate) -> dict[str, Any]:
    if estimate.value is None or estimate.blocked:
        return {"reason": estimate.reason}
    basis: Any = estimate.basis
    return {
        "disagreement": estimate.value,
        "disagreement_low": estimate.low,
        "disagreement_high": estimate.high,
        "least": float(basis.low[0]),
        "least_size": float(basis.low[1]),
        "most": float(basis.high[0]),
        "most_size": float(basis.high[1]),
    }


def _worst(raw: dict[str, Any], i: int) -> dict[str, Any]:
    """Count what a week that was not measured shows all the same, where only a few comparisons are missing.

    Two unknown answers of 150 are too many for a verdict. Counted as agreeing they cannot raise a false alarm, and so
    few cannot end a true one.
    """
    compared, looked, disagreed = (float(raw[name][i]) for name in ("compared", "looked", "disagreed"))
    if not looked or compared < NEARLY * looked:
        return {}
    return {"least": disagreed, "least_size": looked, "most": disagreed + looked - compared, "most_size": looked}


def _value(own: dict[str, Estimate], name: str) -> float | None:
    estimate = own.get(name)
    return None if estimate is None or estimate.value is None else float(estimate.value)


def _cohort(family: tuple[str, ...], member: tuple[str, ...]) -> Cohort:
    return tuple(zip(family, member, strict=True))


def _complete(windows: Sequence[str], span: tuple[int, int]) -> set[str]:
    """Weeks the traffic covers: all but those it begins or ends more than a day inside of."""
    import datetime as dt

    found = set()
    for window in windows:
        year, week = window.split("-W")
        monday = dt.datetime.fromisocalendar(int(year), int(week), 1).replace(tzinfo=dt.UTC)
        start = int(monday.timestamp()) * 10**6
        if span[0] <= start + _DAY and span[1] >= start + 6 * _DAY:
            found.add(window)
    return found


def _fixed_needs(
    suite: Suite,
    rules: replay.Rules,
    families: Sequence[tuple[str, ...]],
    traffic: Traffic,
    kind: Kind,
    model: str | None,
) -> frozenset[Field]:
    wanted: set[Field] = {Field(None, "case_id")}
    for family in families:
        wanted |= cohorts.needs(family)
    for cascade in suite.cascades:
        first, flagship = cascade.tiers[0].model, cascade.flagship.model
        if kind == "judge":
            wanted |= agreement.quality_needs(str(model), traffic.fields)
        else:
            wanted |= agreement.needs(rules.agreement, first, flagship)
    return frozenset(wanted & traffic.fields)


def _agreement(columns: replay.Columns, cascade: Cascade, kind: Kind, model: str | None) -> NDArray[np.int8]:
    """1 where an answer agrees with its reference, 0 where it does not, -1 where that is not known."""
    if kind == "held-out":
        return columns.agrees(cascade.tiers[0].model, cascade.flagship.model)
    quality = columns.quality(str(model))
    return np.where(np.isnan(quality), -1, np.nan_to_num(quality) >= 1).astype(np.int8)


def _by_member(codes: cohorts.Codes, right: NDArray[np.int8]) -> Iterator[tuple[Member, NDArray[np.int64]]]:
    """Count answers that agree, answers that could be compared, and cases."""
    size = len(codes.members)
    sums = np.stack([np.bincount(codes.codes[right >= least], minlength=size) for least in (1, 0, -1)], axis=1)
    yield from zip(codes.members, sums, strict=True)


def _fixed_row(suite: Suite, cascade: str, kind: Kind, window: str, cohort: Cohort, sums: NDArray[np.int64]) -> Row:
    agreed, answered, cases = sums.tolist()
    reason = None
    if short(answered, cases, suite.audited):
        reason = f"{answered:,} of {cases:,} answers could be compared, below {suite.audited:.0%}"
    return Row(
        namesakes.known_as(suite),
        cascade,
        kind,
        window,
        cohort,
        cases=cases,
        agreed=agreed,
        answered=answered,
        reason=reason,
    )
