"""Which recording answers a request: the same method, path and JSON, but for the fields a test ignores."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import unicodedata
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

WIDE: Final = 200
"""Characters of a line of a difference."""

ENDS: Final = 2000
"""Characters at each end of a request by which the nearest is sought."""


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
    '{"a":null,"b":[{"x":1}]}'
    """
    for field in ignore:
        body = _without(body, field.split("."))
    text = _dumped(body)
    return _dumped(_numbers(body)) if _WRITTEN_TWICE.search(text) else text


# JSON has one kind of number: 0, 0.0 and 0e0 ask for the same temperature.
_WRITTEN_TWICE: Final = re.compile(r"\d(?:\.0|e)")


_dumped: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without(value: Any, path: Sequence[str]) -> Any:
    head, *rest = path
    if isinstance(value, list) and head == "*":
        return [_without(one, rest) if rest else one for one in value]
    if not isinstance(value, dict) or head not in value:
        return value
    if not rest:
        return {key: one for key, one in value.items() if key != head}
    return {**value, head: _without(value[head], rest)}


def plain(request: Request) -> bytes:
    """Return a body uncompressed, and without the mark between the parts of a form, which is another each time."""
    body = request.body
    if request.headers.get("content-encoding"):
        import httpx

        with contextlib.suppress(httpx.DecodingError):
            body = httpx.Response(
                200, headers={"content-encoding": request.headers["content-encoding"]}, content=body
            ).content
    first = body.partition(b"\r\n")[0]
    if first.startswith(b"--") and len(first) > 2 and body.rstrip().endswith(first + b"--"):
        return body.replace(first, b"--part")
    return body


def raw_body(request: Request) -> Any:
    """Return a body as it was meant: JSON, else text."""
    if request.json is not NOT_JSON:
        return request.json
    body = plain(request)
    if body is not request.body:
        with contextlib.suppress(ValueError):
            return json.loads(body)
    return body.decode("utf-8", "backslashreplace") if body else None


def key(method: str, path: str, body: Any, ignore: Iterable[str]) -> tuple[str, str, str]:
    """Return what two requests that match have in common."""
    return method, path, canonical(body, ignore)


def scrubbed(one: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return the same without secrets, as a cassette has it."""
    method, path, body = one
    return method, scrubbing.scrub(path), canonical(scrubbing.scrub_json(json.loads(body)))


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
    return max(same[:COMPARED], key=lambda one: fuzz.ratio(_ends(one), _ends(wanted)), default=None)


def _ends(one: tuple[str, str, str]) -> str:
    """Return where prompts differ most: their beginning, and the question at their end."""
    text = " ".join(one)
    return text if len(text) <= 2 * ENDS else text[:ENDS] + text[-ENDS:]


def difference(recorded: tuple[str, str, str], wanted: tuple[str, str, str]) -> str:
    """Show what differs between a recording and a request, in at most `LINES` lines, without secrets."""
    recorded, wanted = scrubbed(recorded), scrubbed(wanted)
    escaped = _alike(recorded, wanted)
    before, after = (_shown(one, escaped=escaped) for one in (recorded, wanted))
    found = list(difflib.unified_diff(before, after, "recorded", "asked", lineterm="", n=2))
    more = len(found) - LINES
    cut = _cropped(found[:LINES])
    return "\n".join([*cut, f"… {more} more lines"] if more > 0 else cut)


def _cropped(lines: Sequence[str]) -> list[str]:
    """Cut long lines down to where they begin to differ from the other side's."""
    sides = {sign: [line[1:] for line in lines if line[0] == sign] for sign in "-+"}
    found = []
    for line in lines:
        text = line[1:]
        others = sides.get({"-": "+", "+": "-"}.get(line[0], ""), ())
        at = max((_common(text, other) for other in others), default=0)
        start = max(0, min(at - WIDE // 4, len(text) - WIDE))
        cut = ("…" if start else "") + text[start : start + WIDE] + ("…" if len(text) > start + WIDE else "")
        found.append(line if len(text) <= WIDE else line[0] + cut)
    return found


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (first, second) in pairs if first != second), min(len(one), len(other)))


def _shown(one: tuple[str, str, str], *, escaped: bool) -> list[str]:
    method, path, body = one
    text = json.dumps(json.loads(body), indent=1, sort_keys=True, ensure_ascii=escaped)
    return [f"{method} {path}", *text.splitlines()]


def _alike(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    """Whether two requests that differ look the same: written with composed letters, say, and with accents of their own."""
    first, second = (unicodedata.normalize("NFKC", " ".join(each)) for each in (one, other))
    return first == second
