"""Recordings of other tools: cassettes of VCR.py (YAML or JSON) and HTTP archives (HAR)."""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import json
import urllib.parse
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cascade_eval.errors import DataError, Problem
from cascade_eval.playback.nouns import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ENCODED: Final = {"content-encoding", "content-length", "transfer-encoding"}


class Found(NamedTuple):
    """One exchange: its request and response, its case, which neither tool knows, and its seconds."""

    request: Request
    response: Response
    case: None = None
    latency_s: float | None = None


def looks_recorded(head: bytes) -> bool:
    """Whether a JSON file begins as one of these tools writes it."""
    return b'"interactions"' in head or (b'"log"' in head and b'"entries"' in head) or head.startswith(b'{"log"')


def read(raw: bytes, suffix: str, name: str) -> list[Found]:
    """Read a recording.

    Parameters
    ----------
    raw
        The file.
    suffix
        Of its name, with the dot.
    name
        For messages.

    Raises
    ------
    DataError
        It is neither, or some of its entries cannot be read.
    """
    document = _document(raw, suffix, name)
    if isinstance(document, dict) and isinstance(document.get("interactions"), list):
        return _each(document["interactions"], _interaction, "interaction", name)
    log = document.get("log") if isinstance(document, dict) else None
    if isinstance(log, dict) and isinstance(log.get("entries"), list):
        entries = sorted(
            log["entries"], key=lambda one: str(one.get("startedDateTime")) if isinstance(one, dict) else ""
        )
        return _each(entries, _entry, "entry", name)
    message = "no recording: a cassette of VCR.py has 'interactions', a HAR file has 'log' with 'entries'"
    raise DataError([Problem(message, name)])


def _document(raw: bytes, suffix: str, name: str) -> Any:
    if suffix in {".yaml", ".yml"}:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            return YAML(typ="safe", pure=True).load(raw)
        except MarkedYAMLError as error:
            line = None if error.problem_mark is None else error.problem_mark.line + 1
            raise DataError([Problem(f"not plain YAML: {error.problem}", name, line)]) from error
        except (YAMLError, ValueError) as error:
            raise DataError([Problem(f"not YAML: {error}", name)]) from error
    try:
        return json.loads(raw.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError) as error:
        raise DataError([Problem(f"not JSON: {error}", name)]) from error


def _each(entries: Iterable[Any], one: Callable[[Any], Found], noun: str, name: str) -> list[Found]:
    found, problems = [], []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(one(entry))
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            problems.append(Problem(f"{noun} {number} cannot be read: {type(error).__name__}: {error}", name))
    if not found and not problems:
        problems.append(Problem("nothing was recorded", name))
    if problems:
        raise DataError(problems)
    return found


def _interaction(written: Mapping[str, Any]) -> Found:
    request, response = written["request"], written["response"]
    status = response["status"]["code"] if "status" in response else response["status_code"]
    headers = _first(response.get("headers") or {})
    return Found(
        Request(str(request["method"]).upper(), str(request["uri"]), {}, _vcr_body(request)),
        _decoded(int(status), headers, _vcr_body(response)),
    )


def _vcr_body(part: Mapping[str, Any]) -> bytes:
    """Read a body as any version writes it: text, bytes, or one of them under a name that says which."""
    if "parsed_body" in part:
        return json.dumps(part["parsed_body"]).encode()
    body = part.get("body", part.get("content"))
    if isinstance(body, dict):
        if "base64_string" in body:
            return base64.b64decode(body["base64_string"])
        body = body.get("string")
    return b"" if body is None else body if isinstance(body, bytes) else str(body).encode()


def _first(headers: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(key).lower(): str(value[0] if isinstance(value, list) and value else value)
        for key, value in headers.items()
    }


def _entry(written: Mapping[str, Any]) -> Found:
    request, response = written["request"], written["response"]
    content = response.get("content") or {}
    text = content.get("text") or ""
    body = base64.b64decode(text) if content.get("encoding") == "base64" else text.encode()
    headers = {str(one["name"]).lower(): str(one["value"]) for one in response.get("headers") or []}
    headers |= {"content-type": content["mimeType"]} if content.get("mimeType") else {}
    sent = _form(request.get("postData") or {})
    milliseconds = written.get("time")
    # What browsers write of a body has been decoded already, whatever the headers say.
    plain = {key: value for key, value in headers.items() if key not in _ENCODED}
    status = int(response["status"])
    return Found(
        Request(str(request["method"]).upper(), str(request["url"]), {}, sent),
        Response(status, plain, body) if status > 0 else Response(fault="dropped"),
        None,
        None if milliseconds is None or milliseconds < 0 else milliseconds / 1000,
    )


def _form(posted: Mapping[str, Any]) -> bytes:
    """Return what was sent: its text, else the fields of its form."""
    if posted.get("text") or not posted.get("params"):
        return str(posted.get("text") or "").encode()
    return urllib.parse.urlencode([(one["name"], one.get("value") or "") for one in posted["params"]]).encode()


def _decoded(status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Undo a content encoding; a body that is not encoded although its headers say so is taken as it is."""
    plain = {key: value for key, value in headers.items() if key not in _ENCODED}
    if headers.get("content-encoding"):
        import httpx

        encoding = {"content-encoding": headers["content-encoding"]}
        with contextlib.suppress(httpx.DecodingError):
            body = httpx.Response(status, headers=encoding, content=body).content
    return Response(status, plain, body)
