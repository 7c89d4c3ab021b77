"""OTLP JSON: spans and log records, one export request on each line or one document.

Attribute values are decoded to plain values; a span whose types are wrong is set aside by itself and takes none of its
neighbours with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cascade_eval.importers import calls, messages
from cascade_eval.importers.calls import Aside

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Value(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815  OTLP's names
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: _Values | None = None  # noqa: N815
    kvlistValue: _Pairs | None = None  # noqa: N815


class _Values(msgspec.Struct):
    values: list[_Value] = []


class _Pair(msgspec.Struct, gc=False):
    key: str
    value: _Value | None = None


class _Pairs(msgspec.Struct):
    values: list[_Pair] = []


class _Event(msgspec.Struct):
    name: str = ""
    attributes: list[_Pair] = []


class _Status(msgspec.Struct, gc=False):
    code: int | str = 0
    message: str = ""


class Span(msgspec.Struct):
    """A span as OTLP writes it."""

    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str = ""  # noqa: N815
    name: str = ""
    startTimeUnixNano: str | int | None = None  # noqa: N815
    endTimeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Pair] = []
    events: list[_Event] = []
    status: _Status | None = None
    resource: dict[str, Any] | None = None
    """Attributes of what sent it; not OTLP's, filled in after decoding."""


class Record(msgspec.Struct):
    """A log record as OTLP writes it."""

    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    eventName: str = ""  # noqa: N815
    timeUnixNano: str | int | None = None  # noqa: N815
    observedTimeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Pair] = []
    body: _Value | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] = []


class _ScopeSpans(msgspec.Struct):
    spans: list[Span] = []


class _ResourceSpans(msgspec.Struct):
    resource: _Resource | None = None
    scopeSpans: list[_ScopeSpans] = []  # noqa: N815


class _ScopeLogs(msgspec.Struct):
    logRecords: list[Record] = []  # noqa: N815


class _ResourceLogs(msgspec.Struct):
    scopeLogs: list[_ScopeLogs] = []  # noqa: N815


class Export(msgspec.Struct):
    """What one request to a collector carries."""

    resourceSpans: list[_ResourceSpans] | None = None  # noqa: N815
    resourceLogs: list[_ResourceLogs] | None = None  # noqa: N815


_decoder = msgspec.json.Decoder(Export)


def decode(line: bytes) -> Any:
    """Decode a line: an `Export`, or plain objects where its types are not OTLP's."""
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError:
        return msgspec.json.decode(line)


def records(decoded: Any) -> Iterator[Span | Record | Aside]:
    """Yield the spans and log records of a line, each bad one as the reason it is bad."""
    found = decoded
    if not isinstance(found, Export):
        if not isinstance(decoded, dict):
            raise Aside("the line is not an object", calls.shown(decoded))
        try:
            found = msgspec.convert(decoded, Export)
        except (msgspec.ValidationError, RecursionError):
            yield from _one_by_one(decoded)
            return
    if found.resourceSpans is None and found.resourceLogs is None:
        raise Aside("neither resourceSpans nor resourceLogs: not OTLP JSON")
    for group in found.resourceSpans or ():
        resource = attributes(group.resource.attributes) if group.resource else None
        for scope in group.scopeSpans:
            for span in scope.spans:
                span.resource = resource
                yield span
    for logs in found.resourceLogs or ():
        for scope_ in logs.scopeLogs:
            yield from scope_.logRecords


def _one_by_one(decoded: dict[str, Any]) -> Iterator[Span | Record | Aside]:
    """Read what can be read of a request in which something has a wrong type."""
    for group in _inside(decoded, "resourceSpans"):
        for scope in _inside(group, "scopeSpans"):
            yield from (_converted(span, Span) for span in _inside(scope, "spans"))
    for group in _inside(decoded, "resourceLogs"):
        for scope in _inside(group, "scopeLogs"):
            yield from (_converted(record, Record) for record in _inside(scope, "logRecords"))


def _inside(value: Any, key: str) -> list[Any]:
    return messages.items(messages.mapping(value, "a group of spans").get(key), key)  # type: ignore[return-value]


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        return Aside(f"a {'span' if kind is Span else 'log record'} of wrong types", str(error))


def attributes(pairs: list[_Pair]) -> dict[str, Any]:
    """Return attributes as plain values by key."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        if value is not None:
            found[pair.key] = value.stringValue if value.stringValue is not None else plain(value)
    return found


def plain(value: _Value) -> Any:
    """Return an attribute's value as Python has it; whole numbers come as text."""
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        return _whole(value.intValue)
    for single in (value.doubleValue, value.boolValue):
        if single is not None:
            return single
    if value.arrayValue is not None:
        return [plain(item) for item in value.arrayValue.values]
    return None if value.kvlistValue is None else attributes(value.kvlistValue.values)


def _whole(value: int | str) -> int | str:
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else value


def trace(span: Span | Record) -> str:
    """Return the id of the trace, empty where there is none."""
    found = calls.text(span.traceId, "traceId") or ""
    # Hexadecimal is written in either case; other encodings of ids mean what they say.
    return "" if not found.strip("0") else found.lower() if len(found) == 32 else found


def times(span: Span) -> tuple[int | None, float | None]:
    """Return when a span began and how many seconds it took."""
    start = calls.nanoseconds(span.startTimeUnixNano, "startTimeUnixNano")
    return start, calls.lasted(start, calls.nanoseconds(span.endTimeUnixNano, "endTimeUnixNano"))


def failed(span: Span) -> bool:
    """Whether a span says that it failed."""
    return span.status is not None and span.status.code in {2, "2", "STATUS_CODE_ERROR"}


def status(span: Span, found: dict[str, Any]) -> str:
    """Return the status of the call a span tells of."""
    message = span.status.message if span.status is not None else None
    if failed(span) or found.get("error.type") is not None:
        return calls.failure(found.get("error.type"), message, *_exceptions(span))
    return "ok"


def _exceptions(span: Span) -> Iterator[Any]:
    for event in span.events:
        if event.name == "exception":
            yield attributes(event.attributes).get("exception.type")


def view(span: Span, found: dict[str, Any]) -> dict[str, Any]:
    """Return what dotted paths are looked up in: attributes, and beside them the span itself."""
    beside = {"name": span.name, "resource": span.resource, "trace_id": span.traceId, "span_id": span.spanId}
    return {**beside, "attributes": found, **found}
