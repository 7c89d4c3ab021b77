"""Whether another cheap model or prompt gives the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import answers
from cascade_eval.signals.definition import Call, Definition, Option, Options
from cascade_eval.traffic.batch import OK, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

_RULES = (*answers.KEYS, "same JSON")


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return 1 where the other model gives the same answer and 0 where it gives another one.

    Where either answer is missing, or the other model's call did not end `ok`, there is no signal.

    Parameters
    ----------
    batch
        Cases with both `answer` columns.
    model
        The gated model.
    options
        ``model``, the other one; ``rule``, one of ``same label`` (the default), ``same number``, ``same JSON`` and
        ``exact``.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(3, {
    ...     Field("mini", "answer"): pa.array(["Refund", "delivery", "refund"]),
    ...     Field("tiny", "answer"): pa.array(["refund.", "refund", None]),
    ...     Field("tiny", "status"): pa.array([0, 0, 0], pa.int8()),
    ... })
    >>> compute(batch, "mini", {"model": "tiny", "rule": "same label"})
    array([ 1.,  0., nan])
    """
    other = options["model"]
    mine, theirs = answers.coded(batch, model), answers.coded(batch, other)
    rule = options["rule"]
    same = (
        answers.same_json(mine, theirs) == 1 if rule == "same JSON" else answers.same(mine, theirs, answers.KEYS[rule])
    )
    known = mine.known & theirs.known & (batch.status(other) == OK)
    return np.where(known, same.astype(np.float64), np.nan)


def _columns(model: str, options: Options) -> frozenset[Field]:
    other = options["model"]
    return frozenset({Field(model, "answer"), Field(other, "answer"), Field(other, "status")})


def _calls(_model: str, options: Options) -> tuple[Call, ...]:
    return (Call(options["model"]),)


SIGNAL = Definition(
    name="agreement",
    compute=compute,
    columns=_columns,
    help="1 where another cheap model or prompt gives the same answer, else 0.",
    cost="One call of the other model.",
    source="Yue et al. 2023, Large Language Model Cascades with Mixture of Thought Representations.",
    options={
        "model": Option("The other recorded model.", required=True),
        "rule": Option("What makes two answers the same.", default="same label", choices=_RULES),
    },
    calls=_calls,
)
