"""How old things are that a promise rests on: the newest audited case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import agreement, cohorts, replay
from cascade_eval.counts import AGREE, DISAGREE
from cascade_eval.traffic import Field
from cascade_eval.traffic.batch import valid, view

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.suite.counting import Plan
    from cascade_eval.traffic import Batch, Traffic

AUDIT = "audit age"
"""The metric that says how long ago the newest audited case was decided."""

_DECIDED = Field(None, "decided_at")
_DAY = 86_400 * 1_000_000


def audit(plan: Plan, traffic: Traffic, now: dt.datetime) -> dict[str, float | str]:
    """Say for each cascade how many days ago its newest audited case was decided, or why nobody knows.

    A case is audited where a cheaper tier settled it and its comparison with the flagship is known; where the traffic
    declares an audit (`audit_probability`), only cases it drew are.

    Parameters
    ----------
    plan, traffic
        What is judged.
    now
        The present.

    Returns
    -------
    dict
        Days, or a reason, by cascade.
    """
    if _DECIDED not in traffic.fields:
        return {one.name: "no case says when it was decided (`decided_at`)" for one in plan.cascades}
    newest: dict[str, int] = {}
    audited: dict[str, int] = {one.name: 0 for one in plan.cascades}
    for batch in traffic.batches(_needs(plan) & traffic.fields):
        moments, known = _moments(batch)
        columns = replay.Columns(batch, plan.rules)
        for cascade in plan.cascades:
            mine = _audited(cascade, replace(columns, rules=plan.rules_of(cascade)))
            audited[cascade.name] += int(mine.sum())
            if (mine & known).any():
                latest = int(moments[mine & known].max())
                newest[cascade.name] = max(newest.get(cascade.name, latest), latest)
    present = round(now.timestamp() * 1e6)
    return {name: _age(newest.get(name), cases, present) for name, cases in audited.items()}


def _age(newest: int | None, audited: int, present: int) -> float | str:
    if not audited:
        return "no unescalated case was compared with the flagship"
    if newest is None:
        return f"none of the {audited:,} audited cases says when it was decided (`decided_at`)"
    age = (present - newest) / _DAY
    if age < 0:
        return f"the newest audited case is decided {-age:.3g} days from now: a clock is wrong"
    return age


def _needs(plan: Plan) -> frozenset[Field]:
    wanted = {_DECIDED, Field(None, "case_id"), Field(None, "cluster"), Field(None, "audit_probability")}
    for cascade in plan.cascades:
        wanted |= replay.needs(cascade)
        for tier in cascade.tiers:
            wanted |= agreement.needs(plan.rules.agreement, tier.model, cascade.flagship.model)
    for mapped in plan.calibrated.values():
        wanted |= cohorts.needs(mapped.per)
    return frozenset(wanted)


def _audited(cascade: Cascade, columns: replay.Columns) -> NDArray[np.bool_]:
    """Which cases a cheaper tier settled whose comparison is known, shape (n_cases,)."""
    decided = replay.decide(cascade, columns)
    below = ~decided.cached & (decided.settled >= 0) & (decided.settled < len(cascade.tiers) - 1)
    found: NDArray[np.bool_] = below & np.isin(decided.served, (AGREE, DISAGREE))
    return found


def _moments(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Microseconds since 1970, and where they are known; both of shape (n_cases,)."""
    import pyarrow as pa

    column = batch.arrow(None, "decided_at").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    known = valid(column)
    return np.where(known, view(column, np.int64), 0), known
