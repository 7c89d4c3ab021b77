"""What a request costs, and what it can cost at most, in integer nano-dollars."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cascade_eval import prices
from cascade_eval.errors import did_you_mean

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from cascade_eval.prices import Dated, Rate, Steps
    from cascade_eval.recording.nouns import Model, Usage

_MILLION: Final = 1_000_000

TEMPLATE_TOKENS: Final = 256
"""What a server may put around a message: role marks, and a template of its own."""

TOOLS_TOKENS: Final = 1024
"""The same where tools are offered: Anthropic puts up to some five hundred tokens of instructions before them."""


class Sheet(NamedTuple):
    """What a model charges: its rates, each with the days or hours in which it holds."""

    rates: tuple[Dated, ...]

    @property
    def free(self) -> bool:
        """Whether no request can ever cost anything."""
        return self.worst(_MILLION, _MILLION) == 0

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars a request of at most so many tokens can cost, at the dearest rate the sheet has.

        Examples
        --------
        >>> sheet = Sheet(prices.rates("mini", prices.parse({"mini": {"input": "$0.10", "output": 0.4}})))
        >>> sheet.worst(1000, 10)
        104000
        """
        return max(_worst(rate, input_tokens, output_tokens) for rate, _ in self.rates)

    def cost(self, usage: Usage, at: dt.datetime) -> int:
        """Nano-dollars of a request by its usage, at the rate that held then; rounded half up, once."""
        moment = np.array([int(at.timestamp())])
        which = int(prices.holding(self.rates, moment, np.array([True]))[0])
        rate = self.rates[which][0]
        full = max(usage.input - usage.cached - usage.written, 0)
        cached = _at(rate.cached_input or rate.input, usage.input)
        written = _at(rate.cache_write or rate.input, usage.input)
        charged = full * _at(rate.input, usage.input) + usage.cached * cached + usage.written * written
        charged += usage.output * _at(rate.output, usage.input)
        return (charged + _MILLION // 2) // _MILLION + rate.request


def _worst(rate: Rate, input_tokens: int, output_tokens: int) -> int:
    dearest = max(_dearest(steps or rate.input) for steps in (rate.input, rate.cached_input, rate.cache_write))
    return -(-(input_tokens * dearest + output_tokens * _dearest(rate.output)) // _MILLION) + rate.request


def _dearest(steps: Steps | None) -> int:
    assert steps is not None
    return max(price for _, price in steps)


def _at(steps: Steps | None, length: int) -> int:
    assert steps is not None
    return [price for start, price in steps if length > start or not start][-1]


def sheet(model: Model) -> Sheet:
    """Find what a model charges.

    Raises
    ------
    ValueError
        No price is known; the message says what to write.
    """
    if model.price is not None:
        return Sheet(prices.rates(model.name, prices.parse({model.name: model.price})))
    table = prices.parse(None)
    found = prices.rates(model.model, table)
    if not found:
        near = did_you_mean(model.model, prices.known_models(table)) if model.base_url is None else ""
        near = near if near.startswith(" Did") else ""
        raise ValueError(
            f"no price is known for '{model.model}'.{near} Write price: {{input: $0.10, output: $0.40}} (dollars per million "
            "tokens), or price: free for a server of your own."
        )
    return Sheet(found)


def input_bound(body: Mapping[str, Any]) -> int:
    """Tokens a request's input can have at most, without a tokenizer: its bytes, and room for the server's template.

    A token of any byte-level vocabulary stands for at least one byte of the text.

    Examples
    --------
    >>> input_bound({"messages": [{"role": "user", "content": "Grüezi"}]})
    310
    """
    around = TOOLS_TOKENS if "tools" in body else TEMPLATE_TOKENS
    return len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")) + around
