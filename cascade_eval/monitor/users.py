"""What users say of answers, counted by week and cohort: bad feedback, and tasks that were not completed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import cohorts
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cohorts import Member
    from cascade_eval.traffic import Batch, Traffic

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

NAMES: Final = ("feedback", "completed")
"""Columns of a case that users fill."""

_GOOD: Final = ("up", "good", "positive", "like", "liked", "yes", "helpful", "thumbs_up", "+1", "👍")
_BAD: Final = ("down", "bad", "negative", "dislike", "disliked", "no", "unhelpful", "thumbs_down", "-1", "👎")


def count(
    traffic: Traffic, families: Sequence[tuple[str, ...]]
) -> Mapping[tuple[tuple[str, ...], Member], dict[str, Any]]:
    """Count bad outcomes, and those that are known, by family and member, in fields of `Row`.

    Parameters
    ----------
    traffic
        Cases; without a column that users fill there is nothing to count.
    families
        Cohort columns of each family.
    """
    found: dict[tuple[tuple[str, ...], Member], dict[str, int]] = defaultdict(dict)
    if not (asked := {Field(None, name) for name in NAMES} & traffic.fields):
        return found
    between = _middle_of(traffic)
    wanted = asked.union(*(cohorts.needs(family) for family in families)) & traffic.fields
    for batch in traffic.batches(wanted):
        for family in families:
            codes = cohorts.encode(batch, family)
            for name, bad, known in said(batch, between):
                size = len(codes.members)
                counts = (np.bincount(codes.codes[mask], minlength=size).tolist() for mask in (bad, known))
                for member, *pair in zip(codes.members, *counts, strict=True):
                    row = found[family, member]
                    for field, number in zip((f"{name}_bad", f"{name}_known"), pair, strict=True):
                        row[field] = row.get(field, 0) + number
    return found


def said(batch: Batch, between: float) -> Iterator[tuple[str, Mask, Mask]]:
    """Yield what users say, with the cases where it is bad, and those where it is known; `between` as of `middle`."""
    if batch.has(None, "completed"):
        yes, known = batch.flags(None, "completed")
        yield "completed", known & ~yes, known
    if batch.has(None, "feedback"):
        values = feedback(batch)
        known = ~np.isnan(values)
        yield "feedback", known & (np.nan_to_num(values) < between), known


def feedback(batch: Batch) -> Floats:
    """Return feedback as numbers, words such as ``up`` and ``bad`` as 1 and 0; NaN where unknown."""
    import pyarrow as pa

    column = batch.arrow(None, "feedback")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return batch.numbers(None, "feedback").astype(np.float64)
    words = {**dict.fromkeys(_GOOD, 1.0), **dict.fromkeys(_BAD, 0.0)}
    encoded = column.cast(pa.string()).dictionary_encode()
    table = np.array(
        [*(words.get((word or "").strip().lower(), np.nan) for word in encoded.dictionary.to_pylist()), np.nan]
    )
    return np.asarray(table[encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)], dtype=np.float64)


def middle(low: float, high: float) -> float:
    """Where feedback turns from bad to good: zero of a signed scale, half of 0 to 1, three of five stars.

    Examples
    --------
    >>> middle(-1, 1), middle(0, 1), middle(1, 5)
    (0.0, 0.5, 3.0)
    """
    if low < 0:
        return 0.0
    return 0.5 if high <= 1 else (1 + high) / 2


def _middle_of(traffic: Traffic) -> float:
    """Look at the whole scale before anything is called bad."""
    low, high = np.inf, -np.inf
    field = Field(None, "feedback")
    for batch in traffic.batches({field}) if field in traffic.fields else ():
        values = feedback(batch)
        low, high = np.fmin(low, np.nanmin(values, initial=np.inf)), np.fmax(high, np.nanmax(values, initial=-np.inf))
    return middle(float(low), float(high))
