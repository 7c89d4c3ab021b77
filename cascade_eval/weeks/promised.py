"""Watched budgets, judged by sequences that stay valid however often one looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds, budgets, monitor, sequential
from cascade_eval.monitor import sequences
from cascade_eval.suite.judged import Watching
from cascade_eval.verdicts import Estimate, Verdict
from cascade_eval.weeks.blocks import blocks
from cascade_eval.weeks.gathering import Weeks, gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from cascade_eval.budgets import Budget
    from cascade_eval.monitor import Cohort, Row, Watched
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

METHOD: Final = "confidence sequence"

MOST: Final = 100_000
"""More cases than this are not asked for."""


def watch(found: Suite, traffic: Traffic, *, executor: Executor | None = None) -> Watching:
    """Judge the watched budgets of a suite on its history's weeks and its traffic's own.

    Parameters
    ----------
    found, traffic, executor
        As for `gather`.
    """
    return watch_rows(found, gather(found, traffic, executor=executor))


def watch_rows(found: Suite, weeks: Weeks) -> Watching:
    """Judge the watched budgets of a suite on weeks that were put together before."""
    if weeks.reason is not None:
        return Watching(reason=weeks.reason, notes=(f"weeks are not shown: {weeks.reason}",))
    findings = monitor.judge(weeks.rows, found.budgets, confidence=found.confidence)
    lines = [budget for budget in found.budgets if budget.bound.watched]
    judged: dict[tuple[str, Budget], tuple[Verdict, ...]] = {}
    notes = [*weeks.notes, *weeks.silent.values()]
    for cascade in findings.windows:
        rows = [row for row in weeks.rows if row.cascade == cascade and row.kind == "production"]
        jumped = sequences.jumps(one for one in findings.found if one.cascade == cascade)
        for budget in lines:
            runs = sequences.run(cascade, rows, [budget], _alpha(found), sequential.ALARM, jumped)
            sequences_ = [one for one, _ in runs]
            here = [one for one in sequences_ if _lately(one, rows)]
            gone = [monitor.label(one.cohort) for one in sequences_ if _known(one, rows) and one not in here]
            notes += [f"{cascade}: no case in {sequences.RECENT} weeks, not judged: {', '.join(gone)}"] if gone else []
            alarmed = {one.cohort for one in here if one.state == "alarm"}
            raised = _raised_later(cascade, budget, rows, weeks.later, _alpha(found))
            lost = {cohort: why for cohort, why in raised if cohort not in alarmed}
            if (silent := weeks.silent.get(cascade)) is not None:
                lost = dict.fromkeys((one.cohort for one in here), silent)
            judged[cascade, budget] = tuple(_judged(here, budget, rows, found, lost, alone=weeks.alone))
    return Watching(judged, None, tuple(dict.fromkeys(notes)), blocks(weeks.rows, findings))


def _alpha(found: Suite) -> float:
    return bounds.alpha(found.confidence)


def _known(sequence: Watched, rows: Sequence[Row]) -> bool:
    return any(row.cohort == sequence.cohort for row in rows)


def _lately(sequence: Watched, rows: Sequence[Row]) -> bool:
    """Tell whether a cohort had cases in the last weeks, or an alarm of it stands."""
    recent = sequence.windows[-sequences.RECENT :]
    return sequence.state == "alarm" or any(row.cohort == sequence.cohort and row.window in recent for row in rows)


def _raised_later(
    cascade: str, budget: Budget, rows: Sequence[Row], later: Sequence[Row], alpha: float
) -> Iterator[tuple[Cohort, str]]:
    """Yield cohorts for which an alarm stands after these rows, under the same definition, and what that means."""
    known = {row.definition for row in rows if row.window == max(row.window for row in rows)}
    after = [row for row in later if row.cascade == cascade and row.definition in known]
    for one, _ in sequences.run(cascade, [*rows, *after], [budget], alpha, sequential.ALARM) if after else ():
        if one.state == "alarm":
            since = f"the history goes on to {one.windows[-1]}, where an alarm stands since {one.since}"
            yield one.cohort, f"{since}: judge cases of that week"


def _judged(
    found: Sequence[Watched],
    budget: Budget,
    rows: Sequence[Row],
    suite: Suite,
    lost: Mapping[Cohort, str],
    *,
    alone: bool,
) -> Iterator[Verdict]:
    for sequence in found:
        own = {row.window: row for row in rows if row.cohort == sequence.cohort}
        why = lost.get(sequence.cohort)
        if why is not None or sequence.state == "not measured":
            yield _unmeasured(budget, sequence.cohort, len(found), why or sequence.reason or "nothing was compared")
            continue
        span = _span(sequence)
        estimate = _estimate([own[window] for window in span if window in own], suite.confidence)
        over = f"over {_weeks(span)}{' of this traffic alone' if alone else ''}"
        more = _more(sequence, estimate, [own[w] for w in span if w in own], _alpha(suite))
        yield Verdict(
            budget.metric,
            budget.bound,
            {"alarm": "fail", "within": "pass"}.get(sequence.state, "inconclusive"),  # type: ignore[arg-type]
            estimate,
            _reason(sequence, estimate, over, more),
            family=len(found),
            cases_to_decide=more if sequence.state == "open" else None,
            cohort=dict(sequence.cohort),
        )


def _unmeasured(budget: Budget, cohort: Cohort, family: int, reason: str) -> Verdict:
    estimate = Estimate(budget.metric, None, nobs=0, method="none", reason=reason, blocked=True)
    return Verdict(
        budget.metric,
        budget.bound,
        "inconclusive",
        estimate,
        reason,
        not_measured=True,
        family=family,
        cohort=dict(cohort),
    )


def _span(sequence: Watched) -> tuple[str, ...]:
    """Weeks a verdict speaks of: those of the alarm that stands, else those that may prove the promise."""
    if sequence.state == "alarm":
        assert sequence.since is not None
        return sequence.windows[sequence.windows.index(sequence.since) :]
    return sequence.proof


def _estimate(rows: Sequence[Row], confidence: float) -> Estimate:
    """Estimate disagreement over weeks; the bounds hold at all times at once."""
    least, least_size = sum(row.least for row in rows), sum(row.least_size for row in rows)
    most, most_size = sum(row.most for row in rows), sum(row.most_size for row in rows)
    low, _ = sequential.confidence_sequence(least, least_size, confidence=confidence)
    _, high = sequential.confidence_sequence(most, most_size, confidence=confidence)
    known = [row for row in rows if row.disagreement is not None]
    size = sum(row.most_size for row in known)
    # A week that was too little known for a rate of its own still counts with what its comparisons allow.
    value = sum(float(row.disagreement or 0) * row.most_size for row in known) / size if size else least / least_size
    return Estimate(
        "disagreement",
        min(max(value, float(low)), float(high)),
        float(low),
        float(high),
        sum(row.disagreed for row in rows),
        sum(row.compared for row in rows),
        METHOD,
        effective=most_size,
    )


def _more(sequence: Watched, estimate: Estimate, rows: Sequence[Row], alpha: float) -> int | None:
    """Count the comparisons like these that would decide; None where more than `MOST` would be needed."""
    most = sequence.budget
    size = sum(row.most_size for row in rows)
    n = np.unique(np.rint(np.geomspace(1, MOST, 400)))
    if estimate.value is None or not size:
        return None
    if estimate.value <= most:
        s = sum(row.most for row in rows) + n * estimate.value
        decided = sequential.log_e_process(s, size + n - s, most, claim="below") >= -math.log(alpha)
    else:
        week = sequential.log_e_process(n * estimate.value, n * (1 - estimate.value), most, *sequential.prior(most))
        decided = np.logaddexp(sequence.log_m[-1], 0.0) + week >= math.log(sequential.ALARM)
    first = np.flatnonzero(decided)
    # A weighted case is worth less than one case; more of the same kind will be, too.
    return max(1, math.ceil(float(n[first[0]]) * (estimate.nobs or 0) / size)) if len(first) else None


def _reason(sequence: Watched, estimate: Estimate, over: str, more: int | None) -> str:
    most = budgets.show(sequence.budget, "rate")
    found = f"{_rate(estimate)} of {estimate.nobs or 0:,} compared answers {over}"
    if sequence.state == "alarm":
        at = f"{sequential.ALARM:g} to 1"
        return (
            f"An alarm stands since {sequence.since}: {found}; the weeks' evidence against at most {most} reached {at}."
        )
    between = f"(bounds {budgets.show(estimate.low, 'rate')} to {budgets.show(estimate.high, 'rate')})"
    if sequence.state == "within":
        return f"{found} {between}: at most {most} is proven."
    text = f"{found} {between}: at most {most} is neither proven nor refuted"
    if more is None:
        return f"{text}; over {MOST:,} more cases would be needed to decide."
    return f"{text}; about {more:,} more cases like these would decide."


def _rate(estimate: Estimate) -> str:
    return budgets.show(estimate.value, "rate")


def _weeks(span: Sequence[str]) -> str:
    if len(span) == 1:
        return f"the week {span[0]}"
    return f"the {len(span):,} weeks {span[0]} to {span[-1]}"
