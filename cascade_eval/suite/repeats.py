"""The noise floor: how often the flagship disagrees with itself when it is asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import agreement, cohorts
from cascade_eval.counts import Counts
from cascade_eval.traffic import OK, Batch, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cascade_eval.suite.counting import Plan
    from cascade_eval.traffic import Traffic

_FIRST, _AGAIN = "first answer", "second answer"


def count(plan: Plan, traffic: Traffic, model: str) -> Mapping[tuple[str, ...], Counts]:
    """Compare each repeated case's first repeat with the original answer.

    Parameters
    ----------
    plan
        Whose families and agreement are used.
    traffic
        The cases; repeats are its rows with `run` above 0.
    model
        The flagship.

    Returns
    -------
    mapping
        By family, counts with the table ``repeats`` of shape (members, 2): disagreeing and compared cases. Empty
        where nothing was repeated.
    """
    wanted = {field for field in agreement.needs(plan.rules.agreement, model, model) if field.model == model}
    again = traffic.repeats(model, wanted & traffic.fields)
    if again.cases == 0:
        return {}
    again = _first_of_each(again, model)
    found: dict[tuple[str, ...], Counts] = {}
    needed = wanted | {Field(None, "case_id")}
    for family in plan.families:
        needed |= cohorts.needs(family)
    for batch in traffic.batches(needed & traffic.fields):
        place = pc.index_in(
            batch.arrow(None, "case_id").cast(pa.string()), value_set=again.arrow(None, "case_id").cast(pa.string())
        )
        rows = np.asarray(place.is_valid().to_numpy(zero_copy_only=False))
        if not rows.any():
            continue
        first, second = batch.take(rows), again.take(place.drop_null().to_numpy().astype(np.int64))
        agrees = agreement.compare(plan.rules.agreement, _paired(first, second, model), _AGAIN, _FIRST)
        agrees = np.where(_answered(second, model), agrees, np.int8(-1))
        for family in plan.families:
            codes = cohorts.encode(first, family)
            part = Counts(codes.members, {"repeats": _table(codes, agrees)})
            found[family] = found[family] + part if family in found else part
    return found


def _first_of_each(again: Batch, model: str) -> Batch:
    """Keep the repeat with the lowest `run` of each case, so that cases stay independent."""
    ids, _ = again.codes(None, "case_id")
    run, _ = again.integers(model, "run")
    order = np.lexsort((run, ids))
    lead = np.ones(len(order), dtype=np.bool_)
    lead[1:] = ids[order][1:] != ids[order][:-1]
    return again.take(np.sort(order[lead]))


def _answered(again: Batch, model: str) -> NDArray[np.bool_]:
    """Where the repeat said something: no answer at all is a failed call, and not another answer."""
    answered: NDArray[np.bool_] = again.status(model) == OK
    if again.has(model, "answer"):
        answered &= np.asarray(again.arrow(model, "answer").is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    return answered


def _paired(first: Batch, second: Batch, model: str) -> Batch:
    columns = {Field(_FIRST, field.name): column for field, column in first.columns.items() if field.model == model}
    columns |= {Field(_AGAIN, field.name): column for field, column in second.columns.items() if field.model == model}
    return Batch(first.cases, columns)


def _table(codes: cohorts.Codes, agrees: NDArray[np.int8]) -> NDArray[np.int64]:
    size = len(codes.members)
    disagreeing = np.bincount(codes.codes[agrees == 0], minlength=size)
    return np.stack([disagreeing, np.bincount(codes.codes[agrees >= 0], minlength=size)], axis=1)
