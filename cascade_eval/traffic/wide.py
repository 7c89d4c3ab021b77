"""Wide rows: each is a case already; what is left is types, checks and which models were asked at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cascade_eval.traffic import checks, keys, parts
from cascade_eval.traffic.batch import ABSENT, Field, array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.findings import Findings
    from cascade_eval.traffic.names import Layout
    from cascade_eval.traffic.parts import Rows

CASE_ID = Field(None, "case_id")


def witnesses(layout: Layout, source: Rows) -> dict[str, list[str]]:
    """Find stored columns that tell whether a model was asked, by model: none where one of them is never null."""
    found = {}
    for model in layout.models:
        own = [name for field, name in layout.fields.items() if field.model == model]
        found[model] = [] if any(source.never_null(name) for name in own) else own
    return found


def stored(layout: Layout, wanted: Sequence[Field], present: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the stored columns to read for these fields; the ids of the cases are not among them."""
    found = list(filter(None, map(layout.stored, wanted)))
    for field in wanted:
        if field.name == "status" and layout.shape == "wide":
            found += present[str(field.model)]
    return list(dict.fromkeys(found))


def columns(
    layout: Layout,
    wanted: Sequence[Field],
    raw: Mapping[str, pa.Array],
    rows: NDArray[np.int64],
    present: Mapping[str, Sequence[str]],
    trouble: Findings,
) -> dict[Field, pa.Array]:
    """Type and check the stored columns of some rows; ids where they were read."""
    found: dict[Field, pa.Array] = {}
    if layout.case_id in raw:
        found[CASE_ID] = keys.required("case_id", raw[layout.case_id], rows, trouble)
    for field in wanted:
        name = layout.stored(field)
        column = raw[name] if name else pa.nulls(len(rows))
        if layout.shape == "aligned" and name:
            found[field] = column
            continue
        found[field], wrong = checks.read(field.name, column)
        trouble.add(rows, str(field), wrong)
        if field.name == "status" and present[str(field.model)]:
            found[field] = _absent(found[field], [raw[witness] for witness in present[str(field.model)]])
    return found


def _absent(status: pa.Array, outcomes: Sequence[pa.Array]) -> pa.Array:
    asked = np.logical_or.reduce([checks.mask(column.is_valid()) for column in outcomes])
    return array(np.where(asked, parts.numpy(status), np.int8(ABSENT)))
