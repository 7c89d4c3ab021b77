"""Signals from the log-probabilities of an answer's tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.signals import lists
from cascade_eval.signals.definition import Definition, Direction, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cascade_eval.signals.lists import Lists
    from cascade_eval.traffic.batch import Batch

_OF_ALTERNATIVES = ("margin", "entropy")


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return one statistic of each answer's token log-probabilities.

    A token of probability zero (-inf) makes the mean -inf and the probability 0. An empty list, a null list and a
    list with a null in it hold no signal. Nothing is clamped.

    Parameters
    ----------
    batch
        Cases with `token_logprobs`; for margin and entropy with `top_logprobs`, per token a list of the natural-log
        probabilities of the likeliest tokens, or of structures with the field ``logprob``.
    model
        The gated model.
    options
        ``statistic``, one of

        probability
            Geometric mean of the tokens' probabilities, ``exp(mean)``. From 0 to 1. The default.
        mean
            Mean log-probability. From -inf to 0.
        minimum
            Probability of the least likely token; unlike a mean it does not fade with length.
        quantile
            Quantile ``q`` of the tokens' log-probabilities, linearly interpolated, as a probability.
        first
            Probability of the first token.
        margin
            One minus the mean gap between the two likeliest tokens. From 0 (sure) to 1; lower is surer.
        entropy
            Mean entropy over the listed alternatives, in nats, everything unlisted taken as one more. Lower is surer.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> tokens = pa.array([[np.log(0.5), np.log(0.125)], [0.0, -np.inf], []])
    >>> batch = Batch(3, {Field("mini", "token_logprobs"): tokens})
    >>> compute(batch, "mini", {"statistic": "probability"})
    array([0.25, 0.  ,  nan])
    """
    statistic = options["statistic"]
    if statistic in _OF_ALTERNATIVES:
        return _of_alternatives(batch, model, statistic)
    tokens = lists.of(batch, model, "token_logprobs")
    values = tokens.numbers()
    result = (
        _quantile(tokens, values, options["q"]) if statistic == "quantile" else _STATISTICS[statistic](tokens, values)
    )
    broken = lists.reduce(np.logical_or, np.isnan(values), tokens.starts).astype(np.bool_)
    return tokens.spread(np.where(broken, np.nan, result))


def _mean(tokens: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return tokens.mean(values)


def _probability(tokens: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(tokens.mean(values)))


def _minimum(tokens: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(lists.reduce(np.minimum, values, tokens.starts))


def _first(tokens: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(values[tokens.starts]))


def _quantile(tokens: Lists, values: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    ordered = values[np.lexsort((values, tokens.owners))]
    place = (tokens.lengths - 1) * q
    below = np.floor(place).astype(np.int64)
    share = place - below
    low = ordered[tokens.starts + below]
    high = ordered[tokens.starts + np.minimum(below + 1, tokens.lengths - 1)]
    # Between equal ends, both of which may be -inf, there is nothing to interpolate.
    flat = (share == 0) | (low == high)
    return np.asarray(np.exp(np.where(flat, low, (1 - share) * low + share * np.where(flat, 0.0, high))))


_STATISTICS: Mapping[str, Callable[[Lists, NDArray[np.float64]], NDArray[np.float64]]] = {
    "probability": _probability,
    "mean": _mean,
    "minimum": _minimum,
    "first": _first,
}


def _of_alternatives(batch: Batch, model: str, statistic: str) -> NDArray[np.float64]:
    tokens = lists.of(batch, model, "top_logprobs")
    alternatives = lists.inner(tokens, "logprob")
    values = alternatives.numbers()
    per_token = (_margins if statistic == "margin" else _entropies)(alternatives, values)
    mean = tokens.mean(alternatives.spread(per_token))
    return tokens.spread(1 - mean if statistic == "margin" else mean)


def _margins(alternatives: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gap between the two likeliest tokens; NaN where fewer than two are listed."""
    ordered = np.exp(values[np.lexsort((values, alternatives.owners))])
    last = alternatives.starts + alternatives.lengths - 1
    gaps = ordered[last] - ordered[np.maximum(last - 1, 0)]
    return np.where(alternatives.lengths > 1, gaps, np.nan)


def _entropies(alternatives: Lists, values: NDArray[np.float64]) -> NDArray[np.float64]:
    likely = np.exp(values)
    known = lists.reduce(np.add, likely * np.where(np.isneginf(values), 0.0, -values), alternatives.starts)
    rest = np.maximum(1 - lists.reduce(np.add, likely, alternatives.starts), 0.0)
    return np.asarray(known - rest * np.log(np.where(rest > 0, rest, 1.0)))


def _columns(model: str, options: Options) -> frozenset[Field]:
    name = "top_logprobs" if options["statistic"] in _OF_ALTERNATIVES else "token_logprobs"
    return frozenset({Field(model, name)})


def _surer(options: Options) -> Direction:
    return "lower" if options["statistic"] in _OF_ALTERNATIVES else "higher"


def _problems(options: Options) -> list[str]:
    if options["statistic"] == "quantile" and options["q"] is None:
        return ["statistic quantile needs the option q, from 0 to 1"]
    if options["statistic"] != "quantile" and options["q"] is not None:
        return [f"the option q belongs to statistic quantile, not to {options['statistic']}"]
    return []


SIGNAL = Definition(
    name="logprob",
    compute=compute,
    columns=_columns,
    help="A statistic of the log-probabilities of the answer's tokens.",
    cost="Nothing where the provider returns log-probabilities with the answer.",
    source="Gupta et al. 2024, Language Model Cascades: Token-Level Uncertainty and Beyond (quantiles of token probabilities).",
    options={
        "statistic": Option(
            "Which statistic of the tokens.",
            default="probability",
            choices=("probability", "mean", "minimum", "quantile", "first", *_OF_ALTERNATIVES),
        ),
        "q": Option("Which quantile, for statistic quantile.", kind="number", low=0, high=1),
    },
    low=-math.inf,
    high=math.inf,
    surer=_surer,
    problems=_problems,
)
