"""One call to a model as a log shows it, and how its fields are read from untrusted values."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Scalar: TypeAlias = str | float | int | bool

_sorted = msgspec.json.Encoder(order="sorted", enc_hook=str)

MOST_TOKENS = 10**13
"""What no call uses; traffic refuses more."""

MOST_DOLLARS = 1e6
MOST_SECONDS = 1e9
LAST_NANOSECOND = 2**63 - 1
LARGEST_WHOLE = 2**63

TIMED_OUT = ("timeout", "timed out", "timedout", "deadline")
REFUSED = frozenset({"content_filter", "refusal", "safety", "content_policy_violation"})


class Aside(Exception):  # noqa: N818  not an error of the program: a record that is left out, with its reason
    """A record cannot be used.

    Parameters
    ----------
    reason
        What is wrong, in words that are the same for every record it is wrong with; records are counted by it.
    detail
        What was found in this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Call(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One call, or a part of one that another record completes.

    Parameters
    ----------
    case
        Which case it belongs to; empty where the record does not say.
    names
        Names its model may be known by, the usual one first.
    label
        The name the user's map gives it by another value than its model; None where it does not.
    id
        Identifies the record, so that one delivered twice counts once.
    join
        Parts of one call have the same.
    parent
        `id` of the record that surrounds it.
    part
        Never a call by itself.
    variant
        Which of several prompts of one case; two variants of one model cannot be one row.
    run
        Which repeat it is, where the log says so.
    started
        Nanoseconds since 1970, UTC.
    prompt
        Equal for equal prompts; None where the prompt was not recorded.
    outcomes, columns
        Other columns of the call, and of its case.
    file, line
        Where it stood.
    """

    case: str
    names: tuple[str, ...] = ()
    label: str | None = None
    id: str | None = None
    join: str | None = None
    parent: str | None = None
    part: bool = False
    variant: str | None = None
    run: int | None = None
    started: int | None = None
    status: str = "ok"
    answer: str | None = None
    samples: list[str] | None = None
    token_logprobs: list[float] | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    prompt: str | None = None
    input: str | None = None
    outcomes: dict[str, Scalar] = {}
    columns: dict[str, Scalar] = {}
    file: int = 0
    line: int = 0

    @property
    def between(self) -> bool:
        """Whether it is no call and completes none: it tells columns of the case, or what stands around what."""
        return self.part and self.join is None


def link(case: str, own: str | None, parent: str | None) -> tuple[Call, ...]:
    """Keep the ids of a record that is no call and stands within another: there may be a call around it and one inside.

    Examples
    --------
    >>> [found.parent for found in link("trace", "inner", "outer")], link("trace", "root", None)
    (['outer'], ())
    """
    return (Call(case=case, id=own, parent=parent, part=True),) if case and own and parent else ()


def tokens(value: Any, name: str) -> int | None:
    """Read a number of tokens; OTLP writes whole numbers as text.

    Examples
    --------
    >>> tokens("812", "input_tokens"), tokens(None, "input_tokens")
    (812, None)
    """
    if value is None or (type(value) is int and 0 <= value <= MOST_TOKENS):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise Aside(f"{name} is not a whole number from 0", shown(value))
    return value


def amount(value: Any, name: str, most: float) -> float | None:
    """Read an amount that is finite and not negative."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Aside(f"{name} is not a number", shown(value)) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Aside(f"{name} is not a number", shown(value))
    if not 0 <= value <= most:
        raise Aside(f"{name} is not between 0 and {most:,.0f}", shown(value))
    return float(value)


def dollars(value: Any, name: str = "cost") -> float | None:
    """Read a cost in dollars."""
    return amount(value, name, MOST_DOLLARS)


def seconds(value: Any, name: str = "latency") -> float | None:
    """Read a duration in seconds."""
    return amount(value, name, MOST_SECONDS)


def logprobs(value: Any) -> list[float] | None:
    """Read log-probabilities: numbers, minus infinity allowed."""
    if not value:
        return None
    if not isinstance(value, list) or not all(_is_logprob(item) for item in value):
        raise Aside("log-probabilities are not a list of numbers up to 0", shown(value))
    return [float(item) for item in value]


def _is_logprob(item: Any) -> bool:
    # Rounding lets a sure token be a hair above 0.
    return isinstance(item, int | float) and not isinstance(item, bool) and item <= 1e-3


def text(value: Any, name: str, *, longest: int = 4096) -> str | None:
    """Read a name or an id: text, or a whole number as text; None where it is absent or empty."""
    if isinstance(value, str) and len(value) <= longest and value.isprintable():
        return value or None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_WHOLE:
        return str(value)
    raise Aside(f"{name} is not a short line of text", shown(value))


def nanoseconds(value: Any, name: str) -> int | None:
    """Read nanoseconds since 1970, as a number or as text."""
    if value is None or value in ("", "0", 0):
        return None
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LAST_NANOSECOND:
        raise Aside(f"{name} is not a time in nanoseconds", shown(value))
    return value


def moment(value: Any, name: str, *, naive_is_utc: bool = False) -> int | None:
    """Read a time as nanoseconds since 1970: ISO 8601, seconds since 1970, or a datetime.

    Examples
    --------
    >>> moment("2026-07-06T09:00:00Z", "startTime"), moment(1783328400.5, "startTime")
    (1783328400000000000, 1783328400500000000)
    """
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = value * 1e6
    else:
        found = _microseconds(value, name, naive_is_utc=naive_is_utc)
    if not math.isfinite(found) or not 0 < found < LAST_NANOSECOND / 1000:
        raise Aside(f"{name} is not a time since 1970", shown(value))
    return round(found) * 1000


def _microseconds(value: Any, name: str, *, naive_is_utc: bool) -> float:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise Aside(
                f"{name} is neither an ISO 8601 time nor seconds since 1970 as a number", shown(value)
            ) from None
    if not isinstance(value, dt.datetime):
        raise Aside(f"{name} is not a time", shown(value))
    if value.tzinfo is None:
        if not naive_is_utc:
            raise Aside(f"{name} has no time zone", shown(value))
        value = value.replace(tzinfo=dt.UTC)
    since: dt.timedelta = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since / dt.timedelta(microseconds=1)


def lasted(start: int | None, end: int | None) -> float | None:
    """Return seconds between two times in nanoseconds."""
    if start is None or end is None:
        return None
    if end < start:
        raise Aside("it ends before it starts", f"{start} to {end}")
    found = (end - start) / 1e9
    return found if found <= MOST_SECONDS else seconds(found)


def failure(*described: Any) -> str:
    """Return the status of a failed call: ``timeout`` where a description says so, ``refused`` or ``error``."""
    words = " ".join(str(item).lower() for item in described if item is not None)
    if any(word in words for word in TIMED_OUT):
        return "timeout"
    return "refused" if any(word in words for word in REFUSED) else "error"


def refused(reason: Any) -> bool:
    """Whether the reason an answer ended for, of whatever type a log has there, is that the model refused."""
    return isinstance(reason, str) and reason in REFUSED


def scalar(value: Any) -> Scalar | None:
    """Return a value a column can hold; lists and objects as canonical JSON."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if -LARGEST_WHOLE <= value < LARGEST_WHOLE else str(value)
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return canonical(value)


def canonical(value: Any) -> str:
    """Write a value as JSON with sorted keys."""
    return _sorted.encode(value).decode()


def digest(value: Any) -> str:
    """Return a short text that is equal for equal values."""
    return hashlib.blake2b(_sorted.encode(value), digest_size=12).hexdigest()


def lookup(view: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where there is none; keys may hold dots themselves.

    Examples
    --------
    >>> lookup({"metadata": {"app.language": "pt"}}, "metadata.app.language")
    'pt'
    """
    found = view.get(path)
    if found is not None or "." not in path:
        return found
    cut = path.find(".")
    while cut > 0:
        inner = view.get(path[:cut])
        if isinstance(inner, dict) and (found := lookup(inner, path[cut + 1 :])) is not None:
            return found
        cut = path.find(".", cut + 1)
    return None


def shown(value: Any) -> str:
    """Show a value of a log in a message: short, and nothing a terminal acts on."""
    try:
        written = repr(value)
    except ValueError:
        # Python refuses to write out whole numbers of more than some thousand digits.
        written = "a number of thousands of digits"
    return written if len(written) <= 60 else f"{written[:57]}…"
