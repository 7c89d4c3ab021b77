"""How long the answer is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cascade_eval import answers
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.floating]:
    """Return the length of the answer; no answer is no signal.

    Long answers are taken as less sure; where short ones are, say ``surer: higher`` in the gate.

    Parameters
    ----------
    batch
        Cases with `answer`, or with `output_tokens`.
    model
        The gated model.
    options
        ``unit``: ``characters`` (the default), ``words`` or ``output_tokens`` as recorded.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(3, {Field("mini", "answer"): pa.array(["in Paris", "", None])})
    >>> compute(batch, "mini", {"unit": "words"})
    array([ 2.,  0., nan])
    """
    if options["unit"] == "output_tokens":
        return batch.numbers(model, "output_tokens")
    column = answers.coded(batch, model)
    count = len if options["unit"] == "characters" else _words
    return answers.spread(column, [count(text) for text in column.values])


def _words(text: str) -> int:
    return len(text.split())


def _columns(model: str, options: Options) -> frozenset[Field]:
    return frozenset({Field(model, "output_tokens" if options["unit"] == "output_tokens" else "answer")})


SIGNAL = Definition(
    name="length",
    compute=compute,
    columns=_columns,
    help="Length of the answer.",
    cost="Nothing.",
    source="The answer.",
    options={
        "unit": Option("What is counted.", default="characters", choices=("characters", "words", "output_tokens")),
    },
    high=math.inf,
    surer="lower",
)
