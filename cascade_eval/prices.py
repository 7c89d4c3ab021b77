"""What a million tokens cost: the suite's `prices:`, else the table that ships with `genai-prices`.

The table is read offline and never updated over the network. A model may have several rates there, each with the
day from which, or the hours in which, it holds; `holding` says which one held when.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from cascade_eval import errors

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_MILLION: Final = 1_000_000
_KEYS: Final = ("input", "cached_input", "output", "per")
_PER: Final = {"1M tokens": 1, "1K tokens": 1000}

Steps: TypeAlias = tuple[tuple[int, int], ...]
"""A price that may depend on length: (input tokens above which it holds, nano-dollars per million tokens)."""


class Rate(NamedTuple):
    """What a million tokens cost, in nano-dollars, from when; steps apply to the whole call once its input is longer.

    Parameters
    ----------
    input, cached_input, output
        Steps; None where the table has no such price.
    request
        Nano-dollars per call on top.
    source
        Where the price stands.
    since
        First day (UTC) on which it holds, as ISO text; None where the table knows of no earlier price.
    cache_write
        As `input`, for what is written into a cache; only recording knows how much that was.
    """

    input: Steps | None
    cached_input: Steps | None
    output: Steps | None
    request: int = 0
    source: str = "the suite"
    since: str | None = None
    cache_write: Steps | None = None


Dated: TypeAlias = tuple[Rate, Any]
"""A rate and the condition under which it holds, None for always."""


@dataclass(frozen=True)
class Prices:
    """Prices by model: the suite's go before the table's.

    Parameters
    ----------
    overrides
        Rates by model, from the suite.
    table
        Whether to look at the bundled table for other models.
    """

    overrides: Mapping[str, Rate] = field(default_factory=dict)
    table: bool = True


def check(spec: object) -> list[str]:
    """Return everything that is wrong with a suite's `prices:`, in words.

    Examples
    --------
    >>> check({"mini": {"input": "$0.10", "ouput": 0.4}})
    ["prices of 'mini': unknown key 'ouput'. Did you mean 'output'?", "prices of 'mini': 'output' is missing"]
    """
    if not isinstance(spec, dict):
        return [f"prices are a mapping from models to prices, not {spec!r}"]
    return [f"prices of '{model}': {problem}" for model, sheet in spec.items() for problem in _check_sheet(sheet)]


def _check_sheet(sheet: object) -> list[str]:
    if not isinstance(sheet, dict):
        return [f"write {{input: $0.10, cached_input: $0.025, output: $0.40, per: 1M tokens}}, not {sheet!r}"]
    problems = [f"unknown key '{key}'.{errors.did_you_mean(str(key), _KEYS)}" for key in sheet if key not in _KEYS]
    problems += [f"'{key}' is missing" for key in ("input", "output") if key not in sheet]
    problems += [
        f"{key}: {sheet[key]!r} is not a price; write 0.10 or $0.10"
        for key in _KEYS[:3]
        if key in sheet and _dollars(sheet[key]) is None
    ]
    if sheet.get("per", "1M tokens") not in _PER:
        problems.append(f"per: {sheet['per']!r} is not a unit; write 1M tokens or 1K tokens")
    return problems


def _dollars(value: object) -> Decimal | None:
    """Read 0.1, "0.10" or "$0.10"; None where it is none of these, negative or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        dollars = Decimal(str(value).strip().removeprefix("$").replace(",", ""))
    except InvalidOperation:
        return None
    return dollars if dollars.is_finite() and 0 <= dollars < _MILLION else None


def parse(spec: Mapping[str, Any] | None) -> Prices:
    """Read a suite's `prices:`; the bundled table stands behind it.

    Parameters
    ----------
    spec
        ``{model: {input, output, cached_input, per}}``: dollars, as numbers or ``"$0.10"``, per ``1M tokens`` (the
        default) or ``1K tokens``. `input` and `output` are required.

    Raises
    ------
    ValueError
        Every problem, one a line.

    Examples
    --------
    >>> prices = parse({"mini": {"input": "$0.10", "output": 0.40}})
    >>> prices.overrides["mini"].output
    ((0, 400000000),)
    """
    problems = check(spec or {})
    if problems:
        raise ValueError("\n".join(problems))
    return Prices({str(model): _sheet(sheet) for model, sheet in (spec or {}).items()})


def _sheet(sheet: Mapping[str, Any]) -> Rate:
    per = _PER[sheet.get("per", "1M tokens")]
    steps = {key: _flat(_dollars(sheet[key]), per) for key in _KEYS[:3] if key in sheet}
    return Rate(steps["input"], steps.get("cached_input"), steps["output"])


def _flat(dollars: Decimal | None, per: int = 1) -> Steps:
    assert dollars is not None
    return ((0, _nano(dollars * per)),)


def _nano(dollars: Decimal) -> int:
    return int((dollars * 1_000_000_000).to_integral_value())


@cache
def _table_entry(model: str) -> Any:
    """Return what the bundled table knows of a model, None where it knows nothing.

    A provider may stand before the name: ``openai/gpt-4.1`` and ``openai:gpt-4.1``.
    """
    snapshot = _snapshot()
    provider, _, name = re.sub(r"[:/]", "/", model, count=1).partition("/")
    for reference, provider_id in ((model, None), (name, provider)):
        try:
            return snapshot.find_provider_model(reference, None, provider_id, None)[1] if reference else None
        except LookupError:
            continue
    return None


@cache
def _snapshot() -> Any:
    from genai_prices import data
    from genai_prices.data_snapshot import DataSnapshot

    # A snapshot of our own: the package's global one can be replaced by an updater that asks the network.
    return DataSnapshot(providers=data.providers, from_auto_update=False)


def _table_version() -> str:
    import genai_prices

    return f"genai-prices {genai_prices.__version__}"


@cache
def _table_rates(model: str) -> tuple[Dated, ...]:
    """Return every rate the table has for a model with its condition; a later one whose condition holds goes first."""
    entry = _table_entry(model)
    if entry is None:
        return ()
    conditional = entry.prices if isinstance(entry.prices, list) else None
    if conditional is None:
        return ((_table_rate(entry.prices, None), None),)
    return tuple((_table_rate(price.prices, price.constraint), price.constraint) for price in conditional)


def _table_rate(price: Any, constraint: Any) -> Rate:
    since = getattr(constraint, "start_date", None)
    return Rate(
        _steps(price.input_mtok),
        _steps(price.cache_read_mtok),
        _steps(price.output_mtok),
        0 if price.requests_kcount is None else _nano(_base(price.requests_kcount) / 1000),
        _table_version(),
        since and since.isoformat(),
        _steps(price.cache_write_mtok),
    )


def _base(price: Any) -> Decimal:
    value = getattr(price, "base", price)
    assert isinstance(value, Decimal)
    return value


def _steps(price: Any) -> Steps | None:
    if price is None:
        return None
    return ((0, _nano(_base(price))), *((tier.start, _nano(tier.price)) for tier in getattr(price, "tiers", ())))


def rates(model: str, prices: Prices) -> tuple[Dated, ...]:
    """Return a model's rates with their conditions, empty where no price is known."""
    if model in prices.overrides:
        return ((prices.overrides[model], None),)
    listed = _table_rates(model) if prices.table else ()
    # A model that is not sold by the token (speech, images) has no price that could be multiplied with tokens.
    return listed if all(rate.input and rate.output for rate, _ in listed) else ()


def holding(dated_rates: Sequence[Dated], seconds: NDArray[np.int64], dated: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which rate held at each moment, -1 where that cannot be known; shape (cases,).

    Parameters
    ----------
    dated_rates
        From `rates`.
    seconds
        Seconds since 1970 (UTC), shape (cases,).
    dated
        Where the moment is known. Where it is not, the latest listed rate holds, unless the price depends on the time
        of day.
    """
    which = np.zeros(len(seconds), dtype=np.int64)
    by_clock = np.zeros(len(seconds), dtype=np.bool_)
    for i, (_, constraint) in enumerate(dated_rates):
        if constraint is None:
            which[:] = i
        elif hasattr(constraint, "start_date"):
            which[~dated | (seconds // 86_400 >= _day(constraint.start_date))] = i
        else:
            which[dated & _within_day(seconds % 86_400, constraint)] = i
            by_clock[:] = True
    which[by_clock & ~dated] = -1
    return which


def _day(date: dt.date) -> int:
    return date.toordinal() - 719_163  # the ordinal of 1970-01-01


def _within_day(second: NDArray[np.int64], constraint: Any) -> NDArray[np.bool_]:
    """Whether a second of the day (UTC) lies in a daily interval, which may pass midnight."""
    start, end = (_second_of_day(moment) for moment in (constraint.start_time, constraint.end_time))
    if end < start:
        return np.asarray((second >= start) | (second < end))
    return np.asarray((second >= start) & (second < end))


def _second_of_day(moment: dt.time) -> int:
    offset = moment.utcoffset()
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return (seconds - (0 if offset is None else int(offset.total_seconds()))) % 86_400


def by_clock(model: str, prices: Prices) -> bool:
    """Whether a model's price depends on the time of day."""
    return any(hasattr(constraint, "start_time") for _, constraint in rates(model, prices))


def known_models(prices: Prices) -> Iterable[str]:
    """Yield every model that has a price, to name the nearest one."""
    yield from prices.overrides
    if prices.table:
        for provider in _snapshot().providers:
            for entry in provider.models:
                yield entry.id
