"""Asking for an audit: how many flagship calls would decide what is open, and the commands that make them."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from cascade_eval import audit, budgets, metrics, monitor
from cascade_eval import cohorts as cohorts_
from cascade_eval.audit import allocation
from cascade_eval.diagnosis import changes, escalating
from cascade_eval.diagnosis.nouns import Treatment
from cascade_eval.errors import UsageError
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade_eval.monitor import Cohort
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic


def ask_for_an_audit(suite: Suite, cases: Traffic, cascade: str, cohorts: Sequence[Cohort] = ()) -> Treatment:
    """Say how many flagship calls would decide, and what they cost.

    Parameters
    ----------
    suite, cases, cascade
        As for `escalating.escalate_more`.
    cohorts
        Which have to be decided; all where none is named.

    Returns
    -------
    Treatment
        With the commands of the smallest audit that decides every cohort that can be.
    """
    # Of all cases alone, an audit by cohorts would spend its calls on one of them and leave the others unknown.
    family = next(
        (tuple(column for column, _ in cohort) for cohort in cohorts if cohort), () if cohorts else promised_each(suite)
    )
    [now] = changes.replays(suite, cases, [suite.cascade(cascade)], columns=family)
    before, declared = _audited(now, family), Field(None, "audit_probability") in cases.fields
    every = int(((now.decisions.settled >= 0) & ~now.decisions.cached).sum())
    least = {column.name: column.at_least for column in suite.cohorts if column.at_least is not None}

    def plan(calls: int) -> audit.Plan:
        return audit.plan(now, _promises(suite, family), per=family, prior=before, cases=max(calls, 1), at_least=least)

    try:
        whole = plan(every)
    except UsageError as error:
        why = " ".join(problem.message for problem in error.problems)
        return Treatment(
            "ask for an audit", tuple(cohorts) or ((),), f"These cases cannot be audited to a decision: {why}"
        )
    wanted = {monitor.label(cohort) for cohort in cohorts if cohort}
    named = [each for each in whole.strata if (not wanted and () not in cohorts) or each.label in wanted]
    floors = {each.label: each.floor for each in named if each.floor is not None and each.floor <= each.unescalated}
    lost = [each for each in named if each.label not in floors]
    overall = _overall(plan, whole, every) if () in cohorts else 0
    calls = max(_calls(plan, whole, floors), overall)
    decided = [*(["overall"] if overall else []), *floors]
    cost = "" if whole.usd_per_call is None else f", about ${calls * whole.usd_per_call:,.2f}"
    said = [f"{calls:,} flagship calls{cost} decide {', '.join(decided[:8])}"] if decided else []
    said += [
        f"{each.label} has {each.unescalated:,} unescalated cases and cannot be decided by them: "
        + (
            f"it takes {each.floor:,} where {budgets.show(each.prior, 'rate')} disagree"
            if each.floor is not None
            else "the expected rate is too close to its budget"
        )
        for each in lost[:4]
    ]
    if () in cohorts and "overall" not in decided:
        said.append("No audit of this many cases decides overall")
    if decided or not before:
        said.append(_expecting(before, declared=declared))
    return Treatment(
        "ask for an audit",
        tuple(cohorts) or ((),),
        f"{'. '.join(said)}.",
        {},
        _audit_steps(suite, cases, cascade, family, calls, before, declared=declared) if decided else (),
        {"calls": float(calls)} | ({} if whole.usd_per_call is None else {"usd": calls * whole.usd_per_call}),
    )


def _audited(now: Replay, family: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Count what the flagship says of these cases already: an expectation for the next audit."""
    counts = now.counts(*family)
    found = zip(counts.members, metrics.estimates(metrics.METRICS["disagreement"], counts, now.context), strict=True)
    return {cohorts_.label(tuple(family), member): (one.count or 0, one.nobs) for member, one in found if one.nobs}


def _calls(plan: Callable[[int], audit.Plan], whole: audit.Plan, floors: Mapping[str, int]) -> int:
    """Return how many calls decide some cohorts: their floors alone may be spent on others, by the plan's own order."""
    if not floors:
        return 0
    other = len(whole.strata) - len(floors)
    least = sum(floors.values()) + allocation.PRESENCE * other
    try:
        paid = {each.label for each in plan(least).strata if each.decided}
    except UsageError:
        paid = set()
    if paid >= set(floors):
        return least
    can = [each.floor for each in whole.strata if each.floor is not None and each.floor <= each.unescalated]
    return sum(can) + allocation.PRESENCE * (len(whole.strata) - len(can))


def _overall(plan: Callable[[int], audit.Plan], whole: audit.Plan, every: int) -> int:
    """Return the fewest calls with which a plan decides the overall rate; 0 where asking about every case does not."""
    if not whole.overall.decided:
        return 0
    low, high = (whole.overall.needed or 1) - 1, every
    while high - low > 1:
        middle = (low + high) // 2
        try:
            enough = plan(middle).overall.decided
        except UsageError:
            enough = False
        low, high = (low, middle) if enough else (middle, high)
    return high


def _expecting(before: Mapping[str, tuple[int, int]], *, declared: bool) -> str:
    """Say what the numbers rest on; a window that was compared is not drawn from again."""
    if not before:
        return "Expected rates are three tenths of each budget, for want of an earlier audit"
    if not declared:
        return "Expected rates are those of these cases, which the flagship answered already, so ask about the next ones: FRESH_CASES"
    return (
        "Expected rates are those of the audit these cases have, so ask about the next ones: FRESH_CASES, and READING is "
        "what `audit read -o` wrote"
    )


def _audit_steps(
    suite: Suite,
    cases: Traffic,
    cascade: str,
    family: Sequence[str],
    calls: int,
    before: Mapping[str, tuple[int, int]],
    *,
    declared: bool,
) -> tuple[str, ...]:
    where, earlier = (
        ("FRESH_CASES", ["--prior", "READING" if declared else "prior.json"]) if before else (cases.name, [])
    )
    made = ["--cascade", cascade, *_pers(family), *earlier, "--cases", str(calls), "-o", "plan.json"]
    rates = json.dumps({label: list(found) for label, found in before.items()}, ensure_ascii=False)
    return (
        *((f"echo {shlex.quote(rates)} > prior.json",) if before and not declared else ()),
        shell("audit plan", suite, where, *made),
        shell("audit sample", suite, where, "--plan", "plan.json", "-o", "sample.parquet"),
        shell("audit read", suite, where, after=("sample.parquet", "ANSWERS")),
    )


def promised_each(suite: Suite) -> tuple[str, ...]:
    """Columns of the first promise about disagreement in each cohort."""
    scopes = [
        budget.scope for budget in suite.budgets if budget.metric == "disagreement" and budget.bound.high is not None
    ]
    return next((scope.columns for scope in scopes if scope.kind == "each"), ())


def _promises(suite: Suite, family: tuple[str, ...]) -> list[budgets.Budget]:
    """Promises about disagreement, with the stated defaults where there is none for a scope an audit needs."""
    found = [budget for budget in suite.budgets if budget.metric == "disagreement" and budget.bound.high is not None]
    if family and not any(budget.scope.columns == family for budget in found):
        found.append(
            budgets.Budget("disagreement", budgets.Scope("each", family), budgets.make(None, escalating.EACH, "rate"))
        )
    if not any(budget.scope.kind == "overall" for budget in found):
        found.append(
            budgets.Budget("disagreement", budgets.Scope("overall"), budgets.make(None, escalating.OVERALL, "rate"))
        )
    return found


def shell(command: str, suite: Suite, where: str, *options: str, after: Sequence[str] = ()) -> str:
    """Write a command of `cascade-eval` as one types it; `where` is its traffic."""
    words = [suite.name, *after, "--traffic", where, *options]
    return f"cascade-eval {command} {' '.join(shlex.quote(word) for word in words)}"


def _pers(family: Sequence[str]) -> list[str]:
    return [word for column in family or ("overall",) for word in ("--per", column)]
