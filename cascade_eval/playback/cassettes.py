"""Cassettes: recorded requests and responses, a line of JSON each, in the order in which they were asked.

::

    {"cassette": "cascade-eval/cassette/1"}
    {"case": "q7", "request": {"method": "POST", "url": "https://…", "body": {…}}, "response": {"status": 200,
     "json": {…}}, "latency_s": 0.52}

A response is `json`, `events` (a stream: each event with its data), `text` or `base64`; `fault` says that there was none.
No header is kept but the type of the content: the others are secrets, or differ with each recording.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
import urllib.parse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import atomic, errors, scrubbing
from cascade_eval.errors import DataError, Problem
from cascade_eval.playback import foreign, matching, pieces
from cascade_eval.playback.nouns import Request, Response

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMA: Final = "cascade-eval/cassette/1"

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a cassette; it is read at once."""

_KEYS: Final = {"case", "request", "response", "latency_s"}
_PIECES: Final = frozenset(
    {"arguments", "content", "delta", "input", "partial_json", "reasoning", "reasoning_content", "refusal", "text"}
    | {"thinking", "token"}
)
"""Names under which streams bring pieces of a text."""

# Edited by hand, or with a merge that was not resolved, it is still a cassette, and is told what is wrong with it.
_HEAD: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:<<<<<<<[^\n]*\n\s*)?\{\s*"cassette"')
_CONFLICT: Final = re.compile(r"<{7} |={7}\r?$|>{7} |\|{7} ")

_FORMS: Final = ("json", "events", "text", "base64")
_ANSWERED: Final = ("status", "type", "fault", *_FORMS)


@dataclass(frozen=True)
class Exchange:
    """A request and what came back.

    Parameters
    ----------
    request, response
        Both without secrets.
    case
        The case it was recorded for, None where nobody said.
    latency_s
        Seconds it took, None where unknown.
    """

    request: Request
    response: Response
    case: str | None = None
    latency_s: float | None = None


def is_cassette(path: Path) -> bool:
    """Whether a file is a cassette of any kind: ours, of VCR.py or HAR."""
    if path.suffix.lower() in {".har", ".yaml", ".yml"}:
        return True
    if path.suffix.lower() not in {".jsonl", ".json"} or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    if path.suffix.lower() == ".json":
        return foreign.looks_recorded(head.lstrip())
    return _HEAD.match(head) is not None


def read(path: Path, name: str) -> list[Exchange]:
    """Read a cassette of any kind.

    Parameters
    ----------
    path, name
        The file, and how messages call it.

    Raises
    ------
    DataError
        Every problem found.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError([Problem(f"{size:,} bytes; a cassette may have {LARGEST:,}. Split it by test.", name)])
        raw = path.read_bytes()
    except OSError as error:
        hint = "Record it with --cascade-record." if isinstance(error, FileNotFoundError) else str(error)
        raise DataError([Problem(f"there is no cassette that can be read. {hint}", name)]) from error
    if path.suffix.lower() == ".jsonl":
        return _lines(raw, name)
    found = foreign.read(raw, path.suffix.lower(), name)
    return [Exchange(*one) for one in found]


def _lines(raw: bytes, name: str) -> list[Exchange]:
    problems: list[Problem] = []
    found: list[Exchange] = []
    headed = False
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            written = _parsed(line)
            # Cassettes that were put together, by hand or by a merge, have several heads.
            if not headed or (isinstance(written, dict) and "cassette" in written):
                headed = True
                _check_head(written)
            else:
                found.append(_exchange(written))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(_spoken(error), name, number))
    if not problems and not found:
        problems.append(Problem("no exchange was recorded. Record it again with --cascade-record.", name))
    if problems:
        raise DataError(problems)
    return found


def _parsed(line: bytes) -> Any:
    text = line.decode()
    if _CONFLICT.match(text):
        raise ValueError(
            "a merge was not resolved here. Keep the lines of one side, or of both, and take this one out."
        )
    return json.loads(text)


def _spoken(error: ValueError | RecursionError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte {error.object[error.start]:#04x} at {error.start}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _check_head(written: Any) -> None:
    said = written.get("cassette") if isinstance(written, dict) else None
    if said != SCHEMA:
        raise ValueError(f'a cassette begins with {{"cassette": "{SCHEMA}"}}, not {said!r}')


def _check_keys(written: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    for key in written:
        if key not in known:
            raise ValueError(f"unknown key '{where}{key}'.{errors.did_you_mean(key, known)}")


def _exchange(written: Any) -> Exchange:
    if not isinstance(written, dict):
        raise ValueError("a line is an object with 'request' and 'response'")  # noqa: TRY004  one kind of error per line
    _check_keys(written, _KEYS)
    request, response = written.get("request"), written.get("response")
    if not isinstance(request, dict) or not isinstance(request.get("method"), str) or not request.get("url"):
        raise ValueError("'request' needs 'method' and 'url'")
    if not isinstance(response, dict):
        raise ValueError("'response' is missing")  # noqa: TRY004  one kind of error per line
    _check_keys(request, ("method", "url", "body", "base64"), "request.")
    _check_keys(response, _ANSWERED, "response.")
    latency = written.get("latency_s")
    if latency is not None and not (_is_number(latency) and 0 <= latency < math.inf):
        raise ValueError(f"'latency_s' is seconds, not {latency!r}")
    case = written.get("case")
    return Exchange(
        Request(request["method"].upper(), _address(request["url"]), {}, _sent(request)),
        _response(response),
        None if case is None else str(case),
        latency,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _address(written: Any) -> str:
    text = str(written)
    if not urllib.parse.urlsplit(text).path.startswith("/") and "://" not in text:
        raise ValueError(f"'url' is an address such as https://host/path, not {text!r}")
    return text


def _sent(request: Mapping[str, Any]) -> bytes:
    if "base64" in request:
        return _unpacked(request["base64"])
    body = request.get("body")
    return b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _response(written: Mapping[str, Any]) -> Response:
    fault = written.get("fault")
    if fault is not None:
        if fault not in {"timeout", "dropped"}:
            raise ValueError(f"'fault' is 'timeout' or 'dropped', not {fault!r}")
        return Response(fault=fault)
    status = written.get("status")
    if not _is_number(status) or not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"'status' is a number from 100 to 599, not {status!r}")
    form = next((form for form in _FORMS if form in written), None)
    headers = {"content-type": str(written.get("type") or _TYPES.get(form or "", "text/plain"))}
    return Response(status, headers, _body(form, written.get(form or "")))


_TYPES: Final = {"json": "application/json", "events": "text/event-stream"}


def _body(form: str | None, written: Any) -> bytes:
    if form == "json":
        return json.dumps(written).encode()
    if form == "events":
        if not isinstance(written, list) or not all(isinstance(one, dict) and "data" in one for one in written):
            raise ValueError("'events' is a list of objects with 'data'")
        return pieces.encode((one.get("event"), one["data"]) for one in written)
    if form == "base64":
        return _unpacked(written)
    return str(written or "").encode()


def _unpacked(written: Any) -> bytes:
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"'base64' cannot be decoded: {error}") from error


def write(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Write a cassette, whole or not at all."""
    lines = [json.dumps({"cassette": SCHEMA}), *map(line, exchanges)]
    atomic.write(path, ("\n".join(lines) + "\n").encode())


def line(exchange: Exchange) -> str:
    """Write one exchange as its line.

    Examples
    --------
    >>> line(Exchange(Request("POST", "https://scorer.example/score", body=b'{"answer": "yes"}'),
    ...               Response(200, {"content-type": "application/json"}, b'{"score": 0.9}'), "q7", 0.02))
    '{"case": "q7", "request": {"method": "POST", "url": "https://scorer.example/score", "body": {"answer": "yes"}},
      "response": {"status": 200, "json": {"score": 0.9}}, "latency_s": 0.02}'
    """
    request = exchange.request
    written: dict[str, Any] = {} if exchange.case is None else {"case": exchange.case}
    written["request"] = {"method": request.method, "url": request.url, **_asked(request)}
    written["response"] = _written(exchange.response)
    if exchange.latency_s is not None:
        written["latency_s"] = round(exchange.latency_s, 3)
    return json.dumps(written, ensure_ascii=False)


def _asked(request: Request) -> dict[str, Any]:
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(request.body).decode()}
    return {"body": request.json if isinstance(request.json, dict | list) else text or None}


def _written(response: Response) -> dict[str, Any]:
    if response.fault is not None:
        return {"fault": response.fault}
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    form, value = _form(kind, response.body)
    typed = {} if kind == _TYPES.get(form, "text/plain") else {"type": kind}
    return {"status": response.status, **typed, form: value}


def _form(kind: str, body: bytes) -> tuple[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()
    if kind == "text/event-stream":
        return "events", list(_events(text))
    if "json" in kind:
        try:
            return "json", json.loads(text)
        except ValueError:
            pass
    return "text", text


def _events(text: str) -> Iterator[dict[str, Any]]:
    for block in re.split(r"\r?\n\r?\n", text):
        name = next((row[6:].strip() for row in block.splitlines() if row.startswith("event:")), None)
        data = "\n".join(row[5:].removeprefix(" ") for row in block.splitlines() if row.startswith("data:"))
        if not data:
            continue
        try:
            value = json.loads(data)
        except ValueError:
            value = data
        yield ({} if name is None else {"event": name}) | {"data": value}


def scrubbed(exchange: Exchange) -> Exchange:
    """Return an exchange without keys, passwords and headers, ready to be written."""
    request, response = exchange.request, exchange.response
    kind = {key: value for key, value in response.headers.items() if key == "content-type"}
    streamed = "event-stream" in kind.get("content-type", "")
    body = _clean_stream(response.body) if streamed else _clean(response.body)
    return replace(
        exchange,
        request=Request(request.method, _without_secrets(request.url), {}, _clean(matching.plain(request))),
        response=replace(response, headers=kind, body=body),
    )


def _clean_stream(body: bytes) -> bytes:
    """Scrub a stream, which cuts a key into pieces that no longer look like one.

    The texts that stand at one place of its events are put together first; where something has to be taken out of
    them, the first event gets the whole and the others nothing.
    """
    events = list(_events(body.decode("utf-8", "replace")))
    texts: dict[tuple[Any, ...], list[tuple[dict[str, Any], str]]] = {}
    for event in events:
        for place, holder, key in _strings(event["data"], ()):
            texts.setdefault(place, []).append((holder, key))
    for found in texts.values():
        whole = "".join(holder[key] for holder, key in found)
        clean = scrubbing.scrub(whole)
        if clean != whole:
            for holder, key in found:
                holder[key] = ""
            found[0][0][found[0][1]] = clean
    return pieces.encode((event.get("event"), scrubbing.scrub_json(event["data"])) for event in events)


def _strings(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    """Yield each place of an event at which a piece of a text stands: its path, and where to change it."""
    for key, part in _parts(value):
        if isinstance(part, str) and key in _PIECES:
            yield (*place, key), value, key
        else:
            yield from _strings(part, (*place, key))


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def _without_secrets(address: str) -> str:
    return scrubbing.scrub(scrubbing.url(address))


def _clean(body: bytes) -> bytes:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        # Latin-1 has a letter for each byte, so that keys between bytes that are no text are found.
        return scrubbing.scrub(body.decode("latin-1")).encode("latin-1")
    try:
        return json.dumps(scrubbing.scrub_json(json.loads(text)), ensure_ascii=False).encode()
    except ValueError:
        return scrubbing.scrub(text).encode()
