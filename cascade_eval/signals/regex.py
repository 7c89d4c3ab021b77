"""Whether the answer matches a regular expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import answers
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Batch, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return 1 where the pattern is found in the text, else 0; with ``absent: true`` the other way round.

    Patterns are RE2's: linear time, no look-around, no back-references. ``(?i)`` at the start ignores case. No text
    is no signal.

    Parameters
    ----------
    batch
        Cases with the column.
    model
        The gated model.
    options
        ``pattern``; ``column`` (default ``answer``); ``absent``.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(3, {Field("mini", "answer"): pa.array(["42", "about 42", None])})
    >>> compute(batch, "mini", {"pattern": "^[0-9]+$", "column": "answer", "absent": False})
    array([ 1.,  0., nan])
    """
    column = answers.coded(batch, model, options["column"])
    found = matches(column.values, options["pattern"])
    return answers.spread(column, 1 - found if options["absent"] else found)


def matches(texts: object, pattern: str) -> NDArray[np.float64]:
    """Return 1 where RE2 finds the pattern in a text, else 0.

    Examples
    --------
    >>> matches(["yes", "no"], "e")
    array([1., 0.])
    """
    found = pc.match_substring_regex(pa.array(texts, type=pa.string()), pattern)
    field = Field(None, "found")
    return Batch(len(found), {field: found}).numbers(*field).astype(np.float64)


def _check_pattern(pattern: str) -> str | None:
    try:
        matches([""], pattern)
    except pa.ArrowInvalid as error:
        return f"{error} (RE2: no look-around, no back-references)"
    return None


def _columns(model: str, options: Options) -> frozenset[Field]:
    return frozenset({Field(model, options["column"])})


SIGNAL = Definition(
    name="regex",
    compute=compute,
    columns=_columns,
    help="1 where a regular expression is found in the answer, else 0.",
    cost="Nothing.",
    source="RE2 (Cox 2010, Regular Expression Matching in the Wild).",
    options={
        "pattern": Option("The regular expression, in RE2's syntax.", required=True, problem=_check_pattern),
        "column": Option("The column that is searched.", default="answer"),
        "absent": Option("Give 1 where the pattern is not found.", kind="flag", default=False),
    },
)
