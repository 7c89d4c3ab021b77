"""What would fix a verdict that is not a pass, computed from the same counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval import budgets, cohorts, metrics, thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cascade_eval.suite.counting import Plan
    from cascade_eval.suite.judged import Cell, Judged
    from cascade_eval.thresholds import Place, Sweep
    from cascade_eval.verdicts import Estimate, Verdict

    Cells = Mapping[tuple[tuple[str, str], ...], Cell]
    Promise = tuple[Verdict, Sweep, NDArray[np.bool_]]


def complete(judged: Judged, plan: Plan) -> Judged:
    """Add advice to every verdict of a cascade that is not a pass.

    Parameters
    ----------
    judged
        A cascade with its verdicts.
    plan
        What was counted.
    """
    cells: dict[tuple[tuple[str, str], ...], Cell] = {(): judged.overall}
    cells |= {tuple(cell.cohort.items()): cell for family in judged.cells.values() for cell in family}
    wanted = [v for v in judged.verdicts if v.outcome != "pass" and not v.not_measured]
    if not wanted:
        return judged
    found = {id(v): _cost(v, judged, cells) for v in wanted if v.metric == "cost"}
    if any(v.metric == "disagreement" for v in wanted):
        found |= _disagreements(judged, cells, plan)
        found |= {id(v): _with_noise(v, judged, cells, found.get(id(v))) for v in wanted if v.metric == "disagreement"}
    return replace(
        judged,
        verdicts=tuple(
            v if v.outcome == "pass" or v.not_measured else replace(v, advice=found.get(id(v))) for v in judged.verdicts
        ),
    )


def noise(floor: Estimate, limit: float | None, bound: str) -> Iterator[str]:
    """Say so where a disagreement budget is below the flagship's disagreement with itself.

    Parameters
    ----------
    floor
        The flagship's self-disagreement.
    limit, bound
        The budget, as a number and as written.
    """
    if floor.value is None or floor.low is None or limit is None or limit >= floor.value:
        return
    shown = limit < floor.low
    proof = "cannot be proven" if shown else "may not be provable: so few repeats do not tell"
    yield (
        f"the flagship disagrees with itself in {floor.value:.1%} of {floor.nobs:,} repeated cases: '{bound}' is below that "
        f"and {proof}"
    )


def _with_noise(verdict: Verdict, judged: Judged, cells: Cells, advice: str | None) -> str | None:
    """Put the noise floor before a suggestion that it may make pointless."""
    own = cells.get(tuple(verdict.cohort.items()), judged.overall)
    floor = judged.estimate(metrics.METRICS["flagship self-disagreement"], own)
    said = [
        f"{sentence[0].upper()}{sentence[1:]}." for sentence in noise(floor, verdict.bound.high, verdict.bound.plain)
    ]
    return " ".join([*said, *([advice] if advice else [])]) or None


def _cost(verdict: Verdict, judged: Judged, cells: Cells) -> str | None:
    """Say at which escalation the cost would be on its budget."""
    cell = cells.get(tuple(verdict.cohort.items()))
    if cell is None or verdict.bound.high is None or verdict.outcome != "fail":
        return None
    escalation = judged.estimate(metrics.METRICS["escalation"], cell).value
    over = verdict.estimate.value
    if escalation is None or over is None or escalation <= over - verdict.bound.high:
        return None
    wanted = escalation - (over - verdict.bound.high)
    return f"Cost moves with escalation one to one: at about {wanted:.1%} escalation it would be on the budget."


def _disagreements(judged: Judged, cells: Cells, plan: Plan) -> dict[int, str | None]:
    """Suggest, for each disagreement verdict, a threshold that proves it, and with it the others where there is one."""
    for place in thresholds.places(judged.cascade):
        promises = list(_promises(judged, cells, plan, place))
        if promises:
            every = np.logical_and.reduce([holds for _, _, holds in promises])
            return {id(v): _suggestion(v, curve, holds, every, promises, place) for v, curve, holds in promises}
    return {}


def _promises(judged: Judged, cells: Cells, plan: Plan, place: Place) -> Iterator[Promise]:
    """Find every upper bound on disagreement, with the thresholds that prove it."""
    tried = plan.tried.get((judged.cascade.name, place.name))
    if tried is None or not len(tried.values):
        return
    for verdict in judged.verdicts:
        cell = cells.get(tuple(verdict.cohort.items()))
        limit = verdict.bound.high
        if verdict.metric != "disagreement" or limit is None or verdict.not_measured or cell is None:
            continue
        if verdict.bound.watched and (judged.estimate(metrics.METRICS["disagreement"], cell).value or 0.0) <= limit:
            continue  # weeks before these cases broke the promise: nothing can be tried on these
        if f"sweep.{place.name}" not in cell.counts:
            continue
        curve = thresholds.read(cell.counts, cell.place, place, tried, confidence=judged.context.confidence)
        yield verdict, curve, (curve.high <= limit) & (curve.kept > 0)


def _suggestion(
    verdict: Verdict,
    curve: Sweep,
    holds: NDArray[np.bool_],
    every: NDArray[np.bool_],
    promises: list[Promise],
    place: Place,
) -> str | None:
    where = _name(verdict)
    if not holds.any():
        if verdict.outcome != "fail":
            return None
        return (
            f"No threshold of {place.tier.name} holds disagreement in {where} to {verdict.bound.plain} on these cases: "
            f"{_instead(verdict, promises)}."
        )
    proven = np.flatnonzero(every if every.any() else holds)
    i = int(proven[np.argmin(curve.escalation[proven])])
    left = [_name(other) for other, _, theirs in promises if not theirs[i]]
    scope = "hold every disagreement budget"
    if left:
        scope = f"hold here, though not in {left[0]}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
    return (
        f"A threshold of {curve.thresholds[i]:.6g} on {place.tier.name} would escalate more and {scope}: in {where} "
        f"{budgets.show(float(curve.disagreement[i]), 'rate')} of {round(curve.kept[i]):,} kept "
        f"(bound {budgets.show(float(curve.high[i]), 'rate')}) at {curve.escalation[i]:.1%} escalation. "
        "Confirm it on other cases: it was found on these."
    )


def _instead(verdict: Verdict, promises: list[Promise]) -> str:
    """Say what to do where no threshold helps: a cohort can be routed, all cases cannot."""
    if verdict.cohort:
        return "route it to the flagship, or give the gate a better signal"
    failed = [_name(other) for other, _, _ in promises if other.cohort and other.outcome == "fail"]
    if not failed:
        return "give the gate a better signal"
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"mend {failed[0]}{more} first, which failed by itself, or give the gate a better signal"


def _name(verdict: Verdict) -> str:
    cohort: dict[str, Any] = dict(verdict.cohort)
    return cohorts.label(tuple(cohort), tuple(cohort.values()))
