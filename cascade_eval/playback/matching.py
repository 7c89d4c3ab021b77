"""Which recording answers a request: the same method, path and JSON, but for the fields a test ignores."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import errors, scrubbing
from cascade_eval.playback.nouns import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade_eval.playback.nouns import Request

LINES: Final = 24
"""Lines of a difference that are shown."""

COMPARED: Final = 500
"""Recordings among which the nearest is sought."""


class Unmatched(errors.UsageError):
    """Requests that no recording answers; nothing was sent anywhere."""


class Stop(BaseException):
    """Carries an unmatched request past code that takes any exception for a failed call and escalates.

    Whoever leaves the playback gets `Unmatched` instead of it, with every request that was not answered.
    """


def check_ignored(fields: Sequence[str]) -> tuple[str, ...]:
    """Return dotted paths of fields to ignore.

    Raises
    ------
    UsageError
        A field is no path.
    """
    if isinstance(fields, str):
        fields = (fields,)
    wrong = [field for field in fields if not field or not all(field.split("."))]
    if wrong:
        raise errors.UsageError(f"ignore: {one!r} is no field; write 'seed' or 'metadata.trace_id'" for one in wrong)
    return tuple(fields)


def canonical(body: Any, ignore: Iterable[str] = ()) -> str:
    """Write a body so that equal requests are equal texts.

    Parameters
    ----------
    body
        JSON value.
    ignore
        Dotted paths to leave out; ``*`` stands for every member of a list.

    Examples
    --------
    >>> canonical({"b": [{"id": 7, "x": 1.0}], "a": None, "seed": 3}, ["seed", "b.*.id"])
    '{"a":null,"b":[{"x":1.0}]}'
    """
    for field in ignore:
        body = _without(body, field.split("."))
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _without(value: Any, path: Sequence[str]) -> Any:
    head, *rest = path
    if isinstance(value, list) and head == "*":
        return [_without(one, rest) if rest else one for one in value]
    if not isinstance(value, dict) or head not in value:
        return value
    if not rest:
        return {key: one for key, one in value.items() if key != head}
    return {**value, head: _without(value[head], rest)}


def raw_body(request: Request) -> Any:
    """Return a body as it was sent: JSON, else text."""
    if request.json is not NOT_JSON:
        return request.json
    return request.body.decode("utf-8", "backslashreplace") if request.body else None


def body_of(request: Request) -> Any:
    """Return a body as a cassette keeps it: JSON, else text, without secrets."""
    return scrubbing.scrub_json(raw_body(request))


def key(method: str, path: str, body: Any, ignore: Iterable[str]) -> tuple[str, str, str]:
    """Return what two requests that match have in common."""
    return method, path, canonical(body, ignore)


def nearest(wanted: tuple[str, str, str], recorded: Iterable[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """Return the recording most like a request, of the same path where there is one.

    Examples
    --------
    >>> here = ("POST", "/v1", '{"city":"Oslo"}')
    >>> nearest(here, [("GET", "/v1", ""), ("POST", "/v1", '{"city":"Rome"}'), ("POST", "/v1", '{"river":1}')])
    ('POST', '/v1', '{"city":"Rome"}')
    """
    from rapidfuzz import fuzz

    known = list(dict.fromkeys(recorded))
    same = [one for one in known if one[:2] == wanted[:2]] or [one for one in known if one[1] == wanted[1]] or known
    return max(same[:COMPARED], key=lambda one: fuzz.ratio(" ".join(one), " ".join(wanted)), default=None)


def difference(recorded: tuple[str, str, str], wanted: tuple[str, str, str]) -> str:
    """Show what differs between a recording and a request, in at most `LINES` lines, without secrets."""
    found = list(difflib.unified_diff(_shown(recorded), _shown(wanted), "recorded", "asked", lineterm="", n=2))
    more = len(found) - LINES
    return scrubbing.scrub("\n".join([*found[:LINES], f"… {more} more lines"] if more > 0 else found))


def _shown(one: tuple[str, str, str]) -> list[str]:
    method, path, body = one
    text = json.dumps(json.loads(body), indent=1, sort_keys=True, ensure_ascii=False)
    return [f"{method} {path}", *text.splitlines()]
