"""The confidence a model states of itself: 0.9, 90%, 8/10, or a number on a scale."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import answers
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

# Both patterns run in RE2: answers are untrusted, and its time is linear in their length.
_NUMBER = r"(?P<value>[+-]?(?:[0-9]{1,9}(?:\.[0-9]{1,17})?|\.[0-9]{1,17}))"
_UNIT = r"(?P<unit>\s*%|\s*percent\b|\s*/\s*[0-9]{1,9}|\s+(?:out\s+)?of\s+[0-9]{1,9})?"
_WHOLE = rf"""(?i)^[\s"'(*]*{_NUMBER}{_UNIT}[\s"').*]*$"""
_LABELLED = (
    r"(?is)^.*\b(?:confidence|certainty|probability)(?:\s+(?:score|level|rating|is|of))*"
    rf"""["'*\s]*[:=]?["'*\s]*{_NUMBER}{_UNIT}(?:[^\w.,%/].*|[.,](?:[^0-9].*)?)?$"""
)
_SCALE = re.compile(r"\s*([+-]?\d{1,9}(?:\.\d{1,9})?)\s*to\s*([+-]?\d{1,9}(?:\.\d{1,9})?)\s*")


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Read the stated confidence as a share from 0 to 1.

    The text is the number itself, or says ``confidence: 85%`` (also certainty, probability; the last mention counts).
    Percentages and fractions such as 8/10 are read as such. A bare number is placed on ``scale``; without one it is a
    share up to 1 and a percentage from there up to 100, so state ``scale: 0 to 100`` where a model may answer 1.
    What cannot be read, and what lies outside its scale, is no signal.

    Parameters
    ----------
    batch
        Cases with the column that states it.
    model
        The gated model.
    options
        ``column`` (default ``answer``), ``field`` of a JSON text in it, ``scale`` as in ``1 to 5``.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> said = pa.array(["0.9", "Paris. Confidence: 85%", "8/10", "150", "quite sure"])
    >>> compute(Batch(5, {Field("mini", "answer"): said}), "mini", {"column": "answer", "field": None, "scale": None})
    array([0.9 , 0.85, 0.8 ,  nan,  nan])
    """
    column = answers.coded(batch, model, options["column"])
    texts = column.values if options["field"] is None else [_field(text, options["field"]) for text in column.values]
    return answers.spread(column, read(texts, options["scale"]))


def _field(text: str, name: str) -> str | None:
    found, value = answers.pick(answers.parse_json(text)[1], name)
    return answers.written(value) if found and value is not None else None


def read(texts: Sequence[str | None], scale: str | None = None) -> NDArray[np.float64]:
    """Read texts as shares from 0 to 1, NaN where that is not possible.

    Examples
    --------
    >>> read(["4", "4/5", "80%", "6"], "1 to 5")
    array([0.75, 0.75, 0.8 ,  nan])
    """
    ends = None if scale is None else _ends(scale)
    column = pa.array(texts, type=pa.string())
    whole, labelled = (pc.extract_regex(column, pattern) for pattern in (_WHOLE, _LABELLED))
    found = pc.if_else(pc.is_valid(whole), whole, labelled)
    values, units = pc.struct_field(found, "value").to_pylist(), pc.struct_field(found, "unit").to_pylist()
    return np.array([_share(value, unit, ends) for value, unit in zip(values, units, strict=True)], dtype=np.float64)


def _share(value: str | None, unit: str | None, ends: tuple[Decimal, Decimal] | None) -> float:
    if not value:
        return np.nan
    share = _place(Decimal(value), (unit or "").strip().casefold(), ends)
    # In decimals, so that 85.7% is the number 0.857 that a threshold says.
    return float(share) if share is not None and 0 <= share <= 1 else np.nan


def _place(value: Decimal, unit: str, ends: tuple[Decimal, Decimal] | None) -> Decimal | None:
    if unit in {"%", "percent"}:
        return value / 100
    low, high = ends or (Decimal(0), Decimal(1))
    if unit:
        top = Decimal(unit.rpartition("/")[2].rpartition(" ")[2])
        if ends is None:
            return value / top if top else None
        return (value - low) / (high - low) if top == high else None
    if ends is None and 1 < value <= 100:
        return value / 100
    return (value - low) / (high - low)


def _ends(scale: str) -> tuple[Decimal, Decimal]:
    match = _SCALE.fullmatch(scale)
    assert match is not None, "checked when the suite was read"
    return Decimal(match[1]), Decimal(match[2])


def _check_scale(value: str) -> str | None:
    match = _SCALE.fullmatch(value)
    if match is None or not Decimal(match[1]) < Decimal(match[2]):
        return f"'{value}' is not a scale; write 1 to 5 or 0 to 100"
    return None


def _columns(model: str, options: Options) -> frozenset[Field]:
    return frozenset({Field(model, options["column"])})


SIGNAL = Definition(
    name="self_reported",
    compute=compute,
    columns=_columns,
    help="The confidence the model stated in its answer or in a column of its own.",
    cost="A few output tokens of the same call.",
    source="Tian et al. 2023, Just Ask for Calibration.",
    options={
        "column": Option("The column that states it.", default="answer"),
        "field": Option("The field of a JSON text that states it; a dot descends."),
        "scale": Option("The scale of a bare number, as in 1 to 5.", problem=_check_scale),
    },
)
