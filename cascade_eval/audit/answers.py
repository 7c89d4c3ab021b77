"""The flagship's answers, joined to the cases they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import traffic as traffic_
from cascade_eval.errors import UsageError, did_you_mean
from cascade_eval.traffic import ABSENT, Batch, Field
from cascade_eval.traffic.batch import array, valid, view

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from cascade_eval.audit.sampling import Sample
    from cascade_eval.traffic import Traffic


class Joined(NamedTuple):
    """Answers beside a sample's cases.

    Parameters
    ----------
    batch
        The sample with the columns of the answers; the model is absent where it has no row.
    unasked
        Rows for cases nobody drew; they count for nothing.
    """

    batch: Batch
    unasked: int


def opened(answers: Traffic | str | Path) -> Traffic:
    """Open a file of answers; traffic is taken as it is."""
    return answers if isinstance(answers, traffic_.Traffic) else traffic_.open(answers)


def join(sample: Sample, answers: Traffic) -> Joined:
    """Put answers beside the cases of a sample, by case id.

    Raises
    ------
    UsageError
        Nobody of the name of the flagship answered, or a tier judged its own cascade.
    """
    if sample.model not in answers.models:
        near = did_you_mean(sample.model, answers.models)
        raise UsageError(f"{answers.name} has no answer of '{sample.model}', which this sample asks.{near}")
    served = _served_by(sample)
    _refuse_judging_tiers(answers, {sample.model, *served})
    fields = _fields(sample, answers.fields, served)
    found = answers.read(fields)
    # What someone filled into the sample itself is an answer only where that file is handed in as the answers.
    own = {
        field: column for field, column in sample.batch.columns.items() if not _of_audit(field, sample.model, served)
    }
    place = places(sample.batch.arrow(None, "case_id"), found.arrow(None, "case_id"))
    columns = {**own, **{field: _taken(found, field, place) for field in fields}}
    matched = int((place >= 0).sum())
    return Joined(Batch(sample.cases, columns), found.cases - matched)


def merge(traffic: Traffic, sample: Sample, answers: Traffic | str | Path) -> Traffic:
    """Put an audit into the traffic it was drawn from, so that a suite judges it.

    The cases drawn get their `audit_probability` and what the flagship said to the audit, and nothing it may have said
    elsewhere; all other cases stay as they are.

    Parameters
    ----------
    traffic
        The window; read whole.
    sample
        Drawn from it.
    answers
        Recorded traffic with the flagship's answers, or its path.

    Returns
    -------
    Traffic
        In memory, aligned.

    Raises
    ------
    UsageError
        Cases of the sample are not in this traffic, it declares an audit already, or a cohort got no call.
    """
    if Field(None, "audit_probability") in traffic.fields:
        raise UsageError(f"{traffic.name} declares an audit already (audit_probability).")
    if sample.left_out:
        raise UsageError(
            f"no case was drawn of {', '.join(sample.left_out[:5])}, so weights would speak of the other cohorts only. Read the "
            "sample by itself, or plan with more calls."
        )
    whole, joined = traffic.read(), join(sample, opened(answers))
    place = places(sample.batch.arrow(None, "case_id"), whole.arrow(None, "case_id"))
    if (place < 0).any():
        lost = sample.ids[int(np.argmax(place < 0))]
        raise UsageError(
            f"{int((place < 0).sum()):,} cases of the sample are not in {traffic.name}; it was drawn from other traffic. "
            f"First: {lost}."
        )
    served = _served_by(sample)
    new = {field for field in joined.batch.columns if _of_audit(field, sample.model, served)}
    new |= {field for field in whole.columns if field.model == sample.model}
    columns = dict(whole.columns)
    for field in sorted(new, key=str):
        columns[field] = _replaced(whole, field, place, joined.batch.columns.get(field))
    columns[Field(None, "audit_probability")] = _replaced(
        whole, Field(None, "audit_probability"), place, array(sample.probability)
    )
    return traffic_.from_batch(Batch(whole.cases, columns), f"{traffic.name} with an audit of {sample.cases:,} cases")


def _served_by(sample: Sample) -> tuple[str, ...]:
    return tuple(map(str, sample.batch.codes(None, "audit_served_by")[1]))


def _of_audit(field: Field, model: str, served: Iterable[str]) -> bool:
    return field.model == model or (field.model in set(served) and field.name == "agrees")


def _fields(sample: Sample, available: frozenset[Field], served: tuple[str, ...]) -> list[Field]:
    """Columns of the answers that an audit takes: the flagship's, the judge's, and judgements of what was served."""
    found = {field for field in available if _of_audit(field, sample.model, served)}
    found |= {field for field in available if sample.judge is not None and field.model == sample.judge}
    found.add(Field(sample.model, "status"))
    return sorted(found, key=str)


def _refuse_judging_tiers(answers: Traffic, tiers: set[str]) -> None:
    for model in sorted(tiers):
        about = Field(model, "judged")
        if about not in answers.fields:
            continue
        column = answers.read([about]).columns[about]
        if column.null_count < len(column):
            raise UsageError(
                f"in {answers.name} '{model}' judges answers ('judged' is filled in) and is a tier as well: it would grade "
                "itself. Name another judge."
            )


def places(ids: pa.Array, among: pa.Array) -> NDArray[np.int64]:
    """Position of each id among others, -1 where it is not there."""
    found = pc.index_in(ids.cast(pa.string()), value_set=among.cast(pa.string())).cast(pa.int64())
    return np.where(valid(found), view(found, np.int64), -1)


def _taken(found: Batch, field: Field, place: NDArray[np.int64]) -> pa.Array:
    column = found.columns[field].take(array(np.maximum(place, 0), place < 0))
    return _absent(column) if field.name == "status" else column


def _absent(status: pa.Array) -> pa.Array:
    """Statuses without nulls: where there is no row, the model was not asked."""
    return array(np.where(valid(status), view(status, np.int8), np.int8(ABSENT)))


def _replaced(whole: Batch, field: Field, place: NDArray[np.int64], new: pa.Array | None) -> pa.Array:
    """Put new values in some places of a column that may not exist yet; None empties the places."""
    old = whole.columns.get(field)
    if new is None:
        assert old is not None
        new = pa.nulls(len(place), old.type)
    if old is None:
        old = pa.nulls(whole.cases, new.type)
    kind = new.type if pa.types.is_null(old.type) else old.type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    index = np.arange(whole.cases)
    index[place] = whole.cases + np.arange(len(place))
    both = pa.concat_arrays([old.cast(plain), new.cast(plain)])
    column = both.take(array(index))
    return _absent(column) if field.name == "status" else column
