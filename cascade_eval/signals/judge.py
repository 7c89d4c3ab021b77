"""What a judge says of the answer: a score, or PASS and FAIL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import answers
from cascade_eval.signals.definition import Call, Definition, Option, Options
from cascade_eval.traffic.batch import OK, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

# The word must stand alone before its explanation: "PASS or FAIL" says nothing.
_VERDICT = (
    r"""(?is)^[\s"'*`]*(?:verdict\s*[:=][\s"'*`]*)?(?P<word>pass|fail)(?:ed)?["'*`]*\s*(?:[.!,;:\n\x{2014}-].*)?$"""
)


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.floating]:
    """Return the judge's score of the answer, else 1 for PASS and 0 for FAIL.

    A case has no signal where the judge has no row or its call did not end `ok`, where it graded another model's
    answer (`judged`), and where it recorded no score and its answer is neither PASS nor FAIL.

    Parameters
    ----------
    batch
        Cases with the judge's `score` or `answer`.
    model
        The gated model.
    options
        ``model``, the judge.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(4, {
    ...     Field("critic", "status"): pa.array([0, 0, 0, 0], pa.int8()),
    ...     Field("critic", "answer"): pa.array(["PASS.", "fail: wrong year", "PASS or FAIL", None]),
    ... })
    >>> compute(batch, "mini", {"model": "critic"})
    array([ 1.,  0., nan, nan])
    """
    judge = options["model"]
    scores = batch.numbers(judge, "score")
    words = answers.coded(batch, judge)
    graded = np.where(np.isnan(scores), answers.spread(words, read(list(words.values))), scores)
    mine = (batch.status(judge) == OK) & _graded(batch, judge, model)
    return np.where(mine, graded, np.nan)


def read(texts: list[str]) -> NDArray[np.float64]:
    """Read verdicts: 1 for PASS, 0 for FAIL, NaN for everything else.

    Examples
    --------
    >>> read(["PASS", "**Pass**", "Failed, no source.", "passing", "85%"])
    array([ 1.,  1.,  0., nan, nan])
    """
    words = pc.struct_field(pc.extract_regex(pa.array(texts, type=pa.string()), _VERDICT), "word").to_pylist()
    return np.array([np.nan if not word else float(word.casefold() == "pass") for word in words], dtype=np.float64)


def _graded(batch: Batch, judge: str, model: str) -> NDArray[np.bool_]:
    """Whether the judge's row is about this model; a row that does not say is."""
    about = answers.coded(batch, judge, "judged")
    mine = np.array([name == model for name in about.values] + [True], dtype=np.bool_)
    return mine[about.codes]


def _columns(_model: str, options: Options) -> frozenset[Field]:
    return frozenset(Field(options["model"], name) for name in ("status", "score", "answer", "judged"))


def _calls(_model: str, options: Options) -> tuple[Call, ...]:
    return (Call(options["model"]),)


SIGNAL = Definition(
    name="judge",
    compute=compute,
    columns=_columns,
    help="A judge's score of the answer, else 1 for PASS and 0 for FAIL.",
    cost="One call of the judge.",
    source="Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena.",
    options={"model": Option("The recorded model that judges; it may not be a tier.", required=True)},
    calls=_calls,
)
