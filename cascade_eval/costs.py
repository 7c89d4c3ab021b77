"""What calls cost: as recorded, else tokens at the price of that day; never zero for want of a price.

Money is integer nano-dollars per call, rounded once per call and half up, so that sums do not depend on how cases are
partitioned. Prices come from the suite's `prices:` or from the table that ships with `genai-prices`, which is read
offline and never updated over the network.

``input_tokens`` include ``cached_input_tokens``, as providers report them: the cached ones are charged at the cached
price and the rest at the full one. Where a model has no cached price, cached tokens cost what others do.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import errors
from cascade_eval.prices import Prices, Rate, Steps, by_clock, check, holding, known_models, parse, rates
from cascade_eval.traffic.batch import ABSENT, Field

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

__all__ = [
    "PRICED",
    "RECORDED",
    "Charge",
    "Prices",
    "Use",
    "break_even",
    "call",
    "check",
    "expected",
    "middle_pays",
    "needs",
    "parse",
    "provenance",
    "samples",
    "samples_needs",
    "saving",
    "used",
    "why_unknown",
]

RECORDED: Final = "recorded"
PRICED: Final = "tokens × price"

_MILLION: Final = 1_000_000


class Use(NamedTuple):
    """One way in which calls of a model were charged; prices in dollars per million tokens."""

    model: str
    source: str
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    as_of: str | None = None


@dataclass(frozen=True, eq=False)
class Charge:
    """What one kind of call cost, case by case.

    Parameters
    ----------
    nano
        Nano-dollars, int64 of shape (cases,); 0 where unknown.
    known
        Where the cost is known, bool of shape (cases,).
    source
        Position in `uses`, int16 of shape (cases,); -1 where unknown.
    uses
        The ways in which these calls were charged.
    """

    nano: NDArray[np.int64]
    known: NDArray[np.bool_]
    source: NDArray[np.int16]
    uses: tuple[Use, ...]


# Charging calls


def needs(model: str, prices: Prices, available: Collection[Field]) -> frozenset[Field]:
    """Return the columns `call` reads, of those that exist.

    Examples
    --------
    >>> fields = {Field("mini", "cost_usd"), Field("mini", "output_tokens"), Field("mini", "answer")}
    >>> sorted(map(str, needs("mini", Prices(), fields)))
    ['mini.cost_usd']
    """
    wanted = {Field(model, "status"), Field(model, "cost_usd")}
    listed = rates(model, prices)
    if listed:
        wanted |= {Field(model, name) for name in ("input_tokens", "cached_input_tokens", "output_tokens")}
    if len(listed) > 1:
        wanted.add(Field(None, "decided_at"))
    return frozenset(wanted & frozenset(available))


def samples_needs(model: str, prices: Prices, available: Collection[Field]) -> frozenset[Field]:
    """Return the columns `samples` reads, of those that exist."""
    wanted = {Field(model, name) for name in ("samples_cost_usd", "samples_output_tokens", "samples")}
    return needs(model, prices, available) - {Field(model, "cost_usd")} | (wanted & frozenset(available))


def call(batch: Batch, model: str, prices: Prices) -> Charge:
    """Charge each case's call of a model: the recorded `cost_usd`, else its tokens at the price of that day.

    Parameters
    ----------
    batch
        Aligned cases with the columns `needs` names. A missing column is unknown in every case.
    model
        A recorded model.
    prices
        From `parse`.

    Returns
    -------
    Charge
        Unknown where the model has no row, where neither cost nor both token counts are recorded, where no price is
        known, and where the price depends on the time of day and `decided_at` is null. A price that changed over
        time and a null `decided_at` give the latest listed price.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(3, {
    ...     Field("mini", "status"): pa.array([0, 0, 0], pa.int8()),
    ...     Field("mini", "cost_usd"): pa.array([0.002, None, None]),
    ...     Field("mini", "input_tokens"): pa.array([1000, 1000, None]),
    ...     Field("mini", "output_tokens"): pa.array([10, 10, 10]),
    ... })
    >>> charge = call(batch, "mini", parse({"mini": {"input": "$0.10", "output": "$0.40"}}))
    >>> charge.nano, charge.known
    (array([2000000,  104000,       0]), array([ True,  True, False]))
    >>> [use.source for use in charge.uses]
    ['recorded', 'tokens × price']
    """
    length, length_known = batch.integers(model, "input_tokens")
    cached, _ = batch.integers(model, "cached_input_tokens")
    once = np.ones(batch.cases, dtype=np.int64)
    tokens = Tokens(length, length_known, cached, *batch.integers(model, "output_tokens"), once, length)
    return _charge(batch, model, prices, "cost_usd", tokens)


def samples(batch: Batch, model: str, prices: Prices) -> Charge:
    """Charge the extra samples of each case: `samples_cost_usd`, else their tokens at the price of that day.

    `samples_output_tokens` is the sum over a case's samples. Each sample is charged the case's input once more, at
    the full price; where a provider charges it once, record `samples_cost_usd`. A case whose samples are null asked for
    none and costs nothing. Where the `samples` column does not exist, the number of samples is unknown, and so is
    their cost.

    Parameters
    ----------
    batch
        Aligned cases with the columns `samples_needs` names.
    model, prices
        As for `call`.
    """
    asked, counted = _sample_counts(batch, model)
    once, once_known = batch.integers(model, "input_tokens")
    nothing = np.zeros(batch.cases, dtype=np.int64)
    tokens = Tokens(
        once * asked, once_known & counted, nothing, *batch.integers(model, "samples_output_tokens"), asked, once
    )
    charge = _charge(batch, model, prices, "samples_cost_usd", tokens)
    none_asked = counted & (asked == 0) & ~charge.known & (batch.status(model) != ABSENT)
    return replace(charge, known=charge.known | none_asked, source=np.where(none_asked, np.int16(0), charge.source))


def _sample_counts(batch: Batch, model: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    field = Field(model, "samples")
    every = np.ones(batch.cases, dtype=np.bool_)
    if field not in batch.columns:
        return np.zeros(batch.cases, dtype=np.int64), ~every
    column = batch.columns[field]
    if pa.types.is_null(column.type):
        return np.zeros(batch.cases, dtype=np.int64), every
    lengths = replace(batch, columns={field: pc.list_value_length(column)})
    return lengths.integers(*field)[0], every


class Tokens(NamedTuple):
    """Tokens charged per case, each of shape (cases,).

    Input (of which cached) and output, and where they are known; how many calls they are of, and the input of one
    call, which decides about the price of a long one.
    """

    input: NDArray[np.int64]
    input_known: NDArray[np.bool_]
    cached: NDArray[np.int64]
    output: NDArray[np.int64]
    output_known: NDArray[np.bool_]
    calls: NDArray[np.int64]
    length: NDArray[np.int64]


def _charge(batch: Batch, model: str, prices: Prices, column: str, tokens: Tokens) -> Charge:
    present = batch.status(model) != ABSENT
    nano, known = batch.nano_dollars(model, column)
    known &= present
    nano = nano * known
    source = np.where(known, 0, -1).astype(np.int16)
    uses = [Use(model, RECORDED)]
    missing = present & ~known & tokens.input_known & tokens.output_known
    listed = rates(model, prices)
    which = holding(listed, *_instants(batch)) if len(listed) > 1 else np.zeros(batch.cases, dtype=np.int64)
    for i, (rate, _) in enumerate(listed):
        rows = np.flatnonzero(missing & (which == i))
        if len(rows):
            nano[rows] = _price(rate, tokens, rows)
            known[rows] = True
            source[rows] = len(uses)
            uses.append(_use(model, rate))
    return Charge(nano, known, source, tuple(uses))


def _use(model: str, rate: Rate) -> Use:
    as_of = rate.source if rate.since is None else f"{rate.source}, since {rate.since}"
    return Use(model, PRICED, _shown(rate.input), _shown(rate.cached_input), _shown(rate.output), as_of)


def _shown(steps: Steps | None) -> float | None:
    return None if steps is None else steps[0][1] / 1e9


def _price(rate: Rate, tokens: Tokens, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return nano-dollars per case, rounded half up once; exact for up to 9e12 tokens a case."""
    length = tokens.length[rows]
    cached = tokens.cached[rows]
    full = np.maximum(tokens.input[rows] - cached, 0)
    parts = (
        (full, _at(rate.input, length)),
        (cached, _at(rate.cached_input or rate.input, length)),
        (tokens.output[rows], _at(rate.output, length)),
    )
    # Whole nano-dollars per token and the rest are kept apart, so that no product overflows.
    whole = sum(count * (price // _MILLION) for count, price in parts)
    rest = sum(count * (price % _MILLION) for count, price in parts)
    return np.asarray(whole + (rest + _MILLION // 2) // _MILLION + rate.request * tokens.calls[rows], dtype=np.int64)


def _at(steps: Steps | None, length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the price that holds for calls with this much input."""
    assert steps is not None
    price = np.full(len(length), steps[0][1], dtype=np.int64)
    for start, nano in steps[1:]:
        price[length > start] = nano
    return price


def _instants(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Seconds since 1970 (UTC) at which each case was decided, and where that is known."""
    if not batch.has(None, "decided_at") or pa.types.is_null(batch.arrow(None, "decided_at").type):
        return np.zeros(batch.cases, dtype=np.int64), np.zeros(batch.cases, dtype=np.bool_)
    column = batch.arrow(None, "decided_at")
    if not pa.types.is_timestamp(column.type):
        raise errors.DataError(f"'decided_at' is {column.type}, not a time with a zone")
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    moment = Field(None, "decided_at")
    ticks, known = replace(batch, columns={moment: column.cast(pa.int64())}).integers(*moment)
    return ticks // per_second, known


# Saying what was used, and what is missing


def used(charge: Charge, rows: NDArray[np.bool_] | None = None) -> Counter[Use]:
    """Count how calls were charged; counters of batches, files and models add up.

    Parameters
    ----------
    charge
        From `call` or `samples`.
    rows
        The cases in which the call was made, bool of shape (cases,); None means all whose cost is known.
    """
    if rows is None and len(charge.uses) == 1:
        count = int(np.count_nonzero(charge.known))
        return Counter({charge.uses[0]: count} if count else {})
    source = charge.source[charge.known] if rows is None else charge.source[rows & charge.known]
    counts = np.bincount(source, minlength=len(charge.uses)).tolist()
    return Counter({use: count for use, count in zip(charge.uses, counts, strict=True) if count})


def provenance(counts: Counter[Use]) -> list[dict[str, Any]]:
    """Return what evidence says of prices: one entry per model and price, with its share of that model's calls.

    Examples
    --------
    >>> provenance(Counter({Use("mini", "recorded"): 3, Use("mini", "tokens × price", 0.1, None, 0.4, "the suite"): 1}))
    [{'model': 'mini', 'source': 'recorded', 'input': None, 'cached_input': None, 'output': None, 'as_of': None,
      'calls': 3, 'share': 0.75},
     {'model': 'mini', 'source': 'tokens × price', 'input': 0.1, 'cached_input': None, 'output': 0.4,
      'as_of': 'the suite', 'calls': 1, 'share': 0.25}]
    """
    totals: Counter[str] = Counter()
    for use, count in counts.items():
        totals[use.model] += count
    ordered = sorted(counts.items(), key=lambda item: tuple(str(part) for part in item[0]))
    return [{**use._asdict(), "calls": count, "share": count / totals[use.model]} for use, count in ordered]


def why_unknown(model: str, prices: Prices, available: Collection[Field]) -> str:
    """Say in one sentence why the cost of calls to a model is unknown, and what would help.

    Examples
    --------
    >>> fields = {Field("gpt-4.1-nan", "input_tokens"), Field("gpt-4.1-nan", "output_tokens")}
    >>> why_unknown("gpt-4.1-nan", Prices(), fields)
    "no price is known for 'gpt-4.1-nan'. Did you mean 'gpt-4.1-nano'? Write it under prices:, or record cost_usd."
    >>> why_unknown("gpt-4.1", Prices(), set())
    "'gpt-4.1' has a price, but its input_tokens and output_tokens are not recorded. Record them, or cost_usd."
    """
    if not rates(model, prices):
        near = errors.did_you_mean(model, known_models(prices))
        near = near if near.startswith(" Did you mean") else ""
        return f"no price is known for '{model}'.{near} Write it under prices:, or record cost_usd."
    missing = [name for name in ("input_tokens", "output_tokens") if Field(model, name) not in available]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        return f"'{model}' has a price, but its {' and '.join(missing)} {verb} not recorded. Record them, or cost_usd."
    if by_clock(model, prices):
        return f"the price of '{model}' depends on the time of day, and some cases have no decided_at."
    return f"'{model}' has a price, but some of its calls have neither cost_usd nor both token counts."


# Formulas


def expected(calls: Sequence[float], escalations: Sequence[float], gates: Sequence[float] = ()) -> float:
    """Return what a case costs on average: every tier that ran is paid, and its gate with it.

    Parameters
    ----------
    calls
        Cost of one call by tier, cheapest first, the flagship last.
    escalations
        Share of the cases reaching a tier that leave it, for every tier but the last.
    gates
        Cost of reading each gate, paid on every case that reaches it; none cost nothing.

    Examples
    --------
    >>> round(expected((0.05, 0.3, 1.0), (0.3, 0.4)), 10), round(expected((0.05, 1.0), (0.3,)), 10)
    (0.26, 0.35)
    """
    if len(escalations) != len(calls) - 1 or len(gates) not in {0, len(escalations)}:
        raise ValueError("one escalation, and one gate or none, for every tier but the last")
    reached, total = 1.0, 0.0
    for i, cost in enumerate(calls):
        total += reached * (cost + (gates[i] if i < len(gates) else 0.0))
        reached *= escalations[i] if i < len(escalations) else 0.0
    return total


def break_even(cheap: float, gate: float, flagship: float) -> float:
    """Return the escalation at which a cascade of two tiers costs as much as always asking the flagship.

    Below zero the cascade never pays.

    Examples
    --------
    >>> [round(break_even(0.00885, gate, 0.0295), 3) for gate in (0.0, 0.00885 / 2, 0.00885)]
    [0.7, 0.55, 0.4]
    """
    return 1 - (cheap + gate) / flagship if flagship > 0 else -math.inf


def saving(escalation: float, cheap: float, gate: float, flagship: float) -> float:
    """Return the share of always-flagship's cost that a cascade of two tiers saves: linear, one point per point.

    Examples
    --------
    >>> [round(1 - saving(0.3, 0.00885, gate, 0.0295), 3) for gate in (0.0, 0.00885 / 2, 0.00885)]
    [0.6, 0.75, 0.9]
    """
    return break_even(cheap, gate, flagship) - escalation


def middle_pays(call: float, gate: float, escalation: float, flagship: float) -> bool:
    """Whether a middle tier costs less than it spares: it does while its call and gate cost less than that.

    Examples
    --------
    >>> middle_pays(0.3, 0.0, 0.4, 1.0), middle_pays(0.6, 0.0, 0.4, 1.0)
    (True, False)
    """
    return call + gate < (1 - escalation) * flagship
