"""How often repeated answers to the same question are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import answers
from cascade_eval.signals import lists
from cascade_eval.signals.definition import Call, Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.signals.lists import Lists
    from cascade_eval.traffic.batch import Batch


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return the share of samples in the modal answer, after normalising each.

    A null sample counts among the samples and agrees with nothing. A case with fewer than two samples has nothing to
    compare and holds no signal.

    Parameters
    ----------
    batch
        Cases with `samples`.
    model
        The gated model.
    options
        ``same``: what makes two samples the same, ``label`` (the default), ``number`` or ``exact``.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> samples = pa.array([["A", "a.", "A", "B", "B"], ["A", "A", "A", "A", "B"], ["x", "y", "z"], ["A"]])
    >>> compute(Batch(4, {Field("mini", "samples"): samples}), "mini", {"same": "label"}).round(3)
    array([0.6  , 0.8  , 0.333,   nan])
    """
    found = lists.of(batch, model, "samples")
    shares = _modal_counts(found, _identified(batch, found, options["same"])) / found.lengths
    return found.spread(np.where(found.lengths > 1, shares, np.nan))


def _identified(batch: Batch, samples: Lists, same: str) -> NDArray[np.int64]:
    """Give numbers to the distinct normalised samples, -1 where null."""
    field = Field(None, "samples")
    column = answers.coded(replace(batch, cases=len(samples.items), columns={field: samples.items}), *field)
    key = answers.KEYS["exact" if same == "exact" else f"same {same}"]
    ids: dict[object, int] = {}
    numbered = np.array([ids.setdefault(key(text), len(ids)) for text in column.values] + [-1], dtype=np.int64)
    return numbered[column.codes]


def _modal_counts(samples: Lists, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how often the most frequent answer of each list occurs."""
    known = ids >= 0
    width = int(ids.max(initial=0)) + 1
    distinct, counts = np.unique(samples.owners[known] * width + ids[known], return_counts=True)
    modal = np.zeros(len(samples.rows))
    np.maximum.at(modal, distinct // width, counts)
    return modal


def _columns(model: str, _options: Options) -> frozenset[Field]:
    return frozenset({Field(model, "samples")})


def _calls(model: str, _options: Options) -> tuple[Call, ...]:
    return (Call(model, "samples"),)


SIGNAL = Definition(
    name="self_consistency",
    compute=compute,
    columns=_columns,
    help="Share of repeated answers that are the modal answer.",
    cost="One call of the same model per sample.",
    source="Wang et al. 2022, Self-Consistency Improves Chain of Thought Reasoning.",
    options={
        "same": Option("What makes two samples the same.", default="label", choices=("label", "number", "exact")),
    },
    calls=_calls,
)
