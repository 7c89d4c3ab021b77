"""Parts that the three formats share: deltas of a text, log-probabilities, server-sent events."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cascade_eval.playback.nouns import Outcome

LEAST = -9999.0
"""How providers write a log-probability of minus infinity, which JSON has no word for."""


def deltas(text: str) -> list[str]:
    """Cut a text into the pieces a stream sends: words, each with the space before it.

    Examples
    --------
    >>> deltas("ask for  help")
    ['ask', ' for', '  help']
    """
    return re.findall(r"\s*\S+|\s+$", text)


def logprobs(outcome: Outcome) -> list[dict[str, Any]] | None:
    """Return recorded log-probabilities as providers list them; the tokens themselves were not recorded."""
    if outcome.token_logprobs is None:
        return None
    above = outcome.top_logprobs or [[]] * len(outcome.token_logprobs)
    return [
        {**_token(value), "top_logprobs": [_token(one) for one in among or []]}
        for value, among in zip(outcome.token_logprobs, above, strict=False)
    ]


def _token(value: Any) -> dict[str, Any]:
    said = value if isinstance(value, dict) else {"logprob": value}
    number = said.get("logprob")
    usable = isinstance(number, int | float) and math.isfinite(number)
    return {"token": str(said.get("token") or ""), "logprob": number if usable else LEAST, "bytes": None}


def read_logprobs(listed: Any) -> tuple[list[float] | None, list[Any] | None]:
    """Read the log-probabilities of the tokens, and of the likeliest at each place where any are listed."""
    if not isinstance(listed, list) or not listed:
        return None, None
    own = [_number(one) for one in listed]
    top = [[_number(other) for other in one.get("top_logprobs") or []] for one in listed]
    return own, top if any(top) else None


def _number(one: Any) -> float:
    value = float(one["logprob"])
    return -math.inf if value <= LEAST else value


def spread(listed: Sequence[Any] | None, places: int) -> list[list[Any] | None]:
    """Hand a list out over the pieces of a stream, one each, the last getting what is left."""
    if listed is None:
        return [None] * places
    parts: list[list[Any] | None] = [[one] for one in listed[: places - 1]]
    parts += [[] for _ in range(places - 1 - len(parts))]
    return [*parts, list(listed[places - 1 :])]


def encode(events: Iterable[tuple[str | None, Any]]) -> bytes:
    r"""Write server-sent events: names and data.

    Examples
    --------
    >>> encode([("ping", {"n": 1}), (None, "[DONE]")])
    b'event: ping\ndata: {"n": 1}\n\ndata: [DONE]\n\n'
    """
    parts = []
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        parts.append(f"data: {text}\n\n" if name is None else f"event: {name}\ndata: {text}\n\n")
    return "".join(parts).encode()


def decode(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of server-sent events; what is no JSON object, such as ``[DONE]``, is passed over."""
    for block in re.split(r"\r?\n\r?\n", body.decode("utf-8", "replace")):
        lines = [line[5:].removeprefix(" ") for line in block.splitlines() if line.startswith("data:")]
        try:
            found = json.loads("\n".join(lines))
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found
