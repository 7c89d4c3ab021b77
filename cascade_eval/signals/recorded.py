"""A recorded numeric column, addressed by its own name: also one that bears a built-in's name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyarrow as pa

from cascade_eval import errors
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.floating]:
    """Return the column as recorded; float32 stays float32."""
    try:
        return batch.numbers(model, options["column"])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        field = Field(model, options["column"])
        raise errors.DataError(
            f"the signal '{field}' holds {batch.columns[field].type}, not numbers. Name a numeric column, or a built-in that reads text."
        ) from None


def _columns(model: str, options: Options) -> frozenset[Field]:
    return frozenset({Field(model, options["column"])})


SIGNAL = Definition(
    name="recorded",
    compute=compute,
    columns=_columns,
    help="A recorded numeric column of the gated model.",
    cost="Nothing.",
    source="The traffic.",
    options={"column": Option("The column's name.", required=True)},
    low=-math.inf,
    high=math.inf,
)
