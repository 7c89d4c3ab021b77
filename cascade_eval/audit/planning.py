"""How many flagship calls each cohort gets, what they will decide, and what they will not."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import bounds, cohorts
from cascade_eval.audit import allocation, plans, window
from cascade_eval.audit.plans import Outlook, Plan, Stratum
from cascade_eval.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.audit.window import Seen, Window
    from cascade_eval.budgets import Budget
    from cascade_eval.cohorts import Member

METRIC: Final = "disagreement"

DEFAULT: Final = 0.3
"""What a cohort without an earlier rate is expected to use of its budget: 3% where 10% are allowed."""


def plan(
    of: Window,
    promised: Sequence[Budget],
    *,
    per: Sequence[str] | None = None,
    prior: Mapping[str, float | tuple[int, int]] | None = None,
    cases: int | None = None,
    usd: float | None = None,
    usd_per_call: float | None = None,
    at_least: Mapping[str, int] | None = None,
    power: float = 0.8,
    now: dt.datetime | None = None,
) -> Plan:
    """Plan an audit of the unescalated cases of a window.

    Every cohort's floor comes first: the number of cases from which it always passes with this power if the prior is
    true, or fails if the prior is over its budget. What is left is shared for the smallest variance of the overall rate.
    Where the caps do not pay every floor, those are paid that decide most (see `cascade_eval.audit.allocation`), and
    `Plan.shortfalls` says of each other cohort what it would take.

    Parameters
    ----------
    of
        A replay of the window, or replays of its pieces.
    promised
        Budgets; those on ``disagreement`` count. A cohort's is the strictest line that speaks of it.
    per
        Cohort columns to plan by; those of the first ``each`` line where None.
    prior
        Expected rate by cohort (``"language=fr"``), as a fraction, or as last week's ``(count, nobs)``. A cohort without
        one is expected to use three tenths of its budget, and a few answers move that little: half a disagreement at
        that rate is added, 1/2 to the count and 1/2 / (0.3 × budget) to the cases. 0 of 3 stand for 2.5% of 10%.
    cases, usd
        Caps; at least one of them.
    usd_per_call
        Price of a flagship call; the mean of the window's known ones where None.
    at_least
        Cohorts with fewer cases, by column, are pooled into ``(other)``.
    power : float, default=0.8
        Chance of a verdict.
    now
        The present by default.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError
        Nothing is promised or capped, no case was unescalated, or so few calls decide nothing; with what it would take.
    """
    family = _family(promised) if per is None else tuple(per)
    if cases is None and usd is None:
        raise UsageError("an audit needs a cap: most calls (cases=300, --cases 300) or most dollars (usd=5, --usd 5).")
    seen = window.look(of, family)
    members = _members(seen, at_least or {})
    if not members:
        raise UsageError(
            f"the cascade '{seen.cascade.name}' escalated every case of this window; there is nothing to audit."
        )
    price, price_from = _price(seen, usd_per_call)
    cap = _cap(cases, usd, price, price_from)
    found = _strata(seen, members, promised, prior or {}, cap, power)
    made = Plan(
        seen.cascade.name,
        seen.cascade.flagship.model,
        family,
        found,
        _outlook(found, _limit(promised, (), {}), seen.context.confidence, power),
        seen.context.confidence,
        power,
        cases,
        usd,
        price,
        price_from,
        (now or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds"),
        tuple(_notes(seen, found, prior or {})),
    )
    _refuse_useless(made, cap)
    return made


def _family(promised: Sequence[Budget]) -> tuple[str, ...]:
    each = [budget.scope.columns for budget in _mine(promised) if budget.scope.kind == "each"]
    return each[0] if each else ()


def _mine(promised: Sequence[Budget]) -> list[Budget]:
    return [budget for budget in promised if budget.metric == METRIC]


def _limit(promised: Sequence[Budget], family: tuple[str, ...], cohort: Mapping[str, str]) -> float | None:
    """Return the strictest "at most" that speaks of a cohort; None where none does."""
    found = [
        budget.bound.high
        for budget in _mine(promised)
        if budget.bound.high is not None and 0 < budget.bound.high < 1 and _speaks_of(budget, family, cohort)
    ]
    return min(found, default=None)


def _speaks_of(budget: Budget, family: tuple[str, ...], cohort: Mapping[str, str]) -> bool:
    scope = budget.scope
    if not family:
        return scope.kind == "overall"
    if scope.columns != family:
        return False
    return scope.kind == "each" or scope.values == tuple(cohort.values())


def _members(seen: Seen, at_least: Mapping[str, int]) -> dict[Member, int]:
    """Unescalated cases by stratum, small cohorts pooled, those without any left out; sorted, the pooled last."""
    small = [_small(seen, at, at_least.get(column)) for at, column in enumerate(seen.family)]
    found: dict[Member, int] = {}
    for member, kept in seen.unescalated.items():
        name = tuple(cohorts.OTHER if value in few else value for value, few in zip(member, small, strict=True))
        found[name] = found.get(name, 0) + kept
    last = {cohorts.NONE: 1, cohorts.OTHER: 2}
    ordered = sorted(found, key=lambda member: [(last.get(value, 0), value) for value in member])
    return {member: found[member] for member in ordered if found[member]}


def _small(seen: Seen, at: int, at_least: int | None) -> set[str]:
    """Values of one column with fewer cases than asked for."""
    totals: dict[str, int] = {}
    for member, cases in seen.cases.items():
        totals[member[at]] = totals.get(member[at], 0) + cases
    return {value for value, cases in totals.items() if at_least is not None and cases < at_least}


def _price(seen: Seen, given: float | None) -> tuple[float | None, str]:
    if given is not None:
        if not given > 0:
            raise UsageError(f"a flagship call costs more than nothing, not {given!r} dollars.")
        return given, "as given"
    if not seen.asked:
        return None, f"no call of '{seen.cascade.flagship.model}' of known cost in this window"
    return seen.asked_nano / seen.asked / 1e9, f"mean of {seen.asked:,} calls in this window"


def _cap(cases: int | None, usd: float | None, price: float | None, price_from: str) -> int:
    if cases is not None and cases < 1:
        raise UsageError(f"an audit asks at least one case, not {cases}.")
    if usd is None:
        assert cases is not None
        return cases
    if not price:
        raise UsageError(
            f"a cap in dollars needs the price of a call, and there is {price_from}. Give one (usd_per_call), record "
            "`cost_usd`, or put the model into the suite's `prices:`."
        )
    affordable = int(usd / price + 1e-9)
    return affordable if cases is None else min(cases, affordable)


def _expected(name: str, limit: float, prior: Mapping[str, Any]) -> tuple[float, str]:
    if name not in prior:
        return DEFAULT * limit, "three tenths of its budget, for want of an earlier rate"
    value, rate = prior[name], plans.rate(prior[name])
    if rate is None:
        raise UsageError(f"the prior of '{name}' is {value!r}; write a rate such as 0.04, or (count, cases).")
    if isinstance(value, (int, float)):
        return rate, "as given"
    # 1/2 of 1 case would stand for a broken budget wherever an audit asked next to nothing, and take its calls.
    count, nobs = value
    return (count + 0.5) / (nobs + 0.5 / (DEFAULT * limit)), f"{count:,} of {nobs:,} before"


def _strata(
    seen: Seen,
    members: Mapping[Member, int],
    promised: Sequence[Budget],
    prior: Mapping[str, Any],
    cap: int,
    power: float,
) -> tuple[Stratum, ...]:
    named = [cohorts.mapping(seen.family, member) for member in members]
    limits = [_limit(promised, seen.family, cohort) for cohort in named]
    missing = [window.label(cohort) for cohort, limit in zip(named, limits, strict=True) if limit is None]
    if missing:
        scope = f"each {' and '.join(seen.family)}" if seen.family else "overall"
        raise UsageError(
            f"no budget says how much '{missing[0]}' may disagree; write 'disagreement: {{{scope}: at most 10%}}', or plan "
            "by the columns of a budget there is."
        )
    limit = np.array(limits, dtype=np.float64)
    expected = [_expected(window.label(c), float(b), prior) for c, b in zip(named, limit, strict=True)]
    p, size = np.array([rate for rate, _ in expected]), np.array(list(members.values()), dtype=np.int64)
    alpha = bounds.alpha(seen.context.confidence)
    floor = allocation.floors(p, limit, alpha=alpha, power=power)
    calls = allocation.allocate(size, p, limit, floor, cap).calls
    chance = allocation.chance(calls, p, limit, alpha=alpha, family=len(size))
    return tuple(
        Stratum(
            cohort,
            int(size[i]),
            float(limit[i]),
            *expected[i],
            int(floor[i]) if np.isfinite(floor[i]) else None,
            int(calls[i]),
            float(chance[i]),
        )
        for i, cohort in enumerate(named)
    )


def _columns(strata: Sequence[Stratum]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Shares, calls and priors, each of shape (n_strata,)."""
    size = np.array([each.unescalated for each in strata], dtype=np.float64)
    calls = np.array([each.calls for each in strata], dtype=np.float64)
    return size / size.sum(), calls, np.array([each.prior for each in strata])


def _outlook(strata: Sequence[Stratum], limit: float | None, confidence: float, power: float) -> Outlook:
    share, calls, p = _columns(strata)
    rate = float(share @ p)
    needed = None if limit is None else bounds.cases_to_decide(rate, limit, alpha=bounds.alpha(confidence), power=power)
    # What a stratified estimate is worth if exactly the expected cases disagree.
    worth = float(bounds.stratified(share, calls, calls * p).nobs) if (calls > 0).all() else 0.0
    return Outlook(rate, worth, limit, needed)


def _notes(seen: Seen, strata: Sequence[Stratum], prior: Mapping[str, Any]) -> Iterator[str]:
    labels = [each.label for each in strata]
    for name in prior:
        if name not in labels:
            yield f"the prior of '{name}' is not used: no such cohort was left unescalated.{did_you_mean(name, labels)}"
    empty = [m for m, kept in seen.unescalated.items() if not kept and seen.cases[m]]
    for member in sorted(empty)[:10]:
        yield f"{cohorts.label(seen.family, member)}: every case was escalated or cached; there is nothing to audit."
    if seen.unresolved:
        yield f"{seen.unresolved:,} cases have no known path and cannot be drawn."
    silent = [each.label for each in strata if not each.calls]
    if silent:
        yield f"no call for {', '.join(silent[:10])}: the overall rate will be unknown."


def _refuse_useless(made: Plan, cap: int) -> None:
    """Refuse a plan that decides nothing, saying what would."""
    if any(each.decided for each in made.strata):
        return
    problems = [f"{cap:,} calls decide no cohort, so this audit would prove nothing.", *_enough(made)]
    if made.per and made.overall.limit is not None:
        whole = made.overall.needed
        if whole is not None and whole <= cap:
            problems.append(
                f"Without cohorts {whole:,} calls{_dollars(whole, made)} decide the overall budget (per=())."
            )
    raise UsageError([*problems, *made.shortfalls[:20]])


def _enough(made: Plan) -> Iterator[str]:
    """Say how many calls decide one cohort, and how many decide all that can be decided."""
    floors = [each.floor for each in made.strata if each.floor is not None and each.floor <= each.unescalated]
    if not floors or len(made.strata) == 1:
        return
    few = allocation.PRESENCE
    some = min(floors) + few * (len(made.strata) - 1)
    every = sum(floors) + few * (len(made.strata) - len(floors))
    words = "" if len(floors) == len(made.strata) else " that can be decided"
    yield (
        f"{some:,} calls{_dollars(some, made)} decide one cohort, with {few} for each other; {every:,}{_dollars(every, made)} "
        f"decide all{words}."
    )


def _dollars(calls: int, made: Plan) -> str:
    return "" if made.usd_per_call is None else f" (${calls * made.usd_per_call:,.2f})"
