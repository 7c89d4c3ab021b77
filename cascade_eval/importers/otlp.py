"""OTLP JSON: spans and log records, one export request on each line or one document.

Attribute values are decoded to plain values; a span whose types are wrong is set aside by itself and takes none of its
neighbours with it. As in every JSON of Protocol Buffers, null stands for what is not there, and ids, which OTLP wants in
hexadecimal, may be base64 where something other than an exporter wrote the file.

Source: OpenTelemetry Protocol 1.7, "JSON Protobuf Encoding"; Protocol Buffers, "ProtoJSON Format".
"""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from cascade_eval.importers import calls, messages
from cascade_eval.importers.calls import Aside, Call

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
    values: list[_Value] | None = None


class _Pair(msgspec.Struct, gc=False):
    key: str
    value: _Value | None = None


class _Pairs(msgspec.Struct):
    values: list[_Pair] | None = None


class _Event(msgspec.Struct):
    name: str | None = None
    attributes: list[_Pair] | None = None


class _Status(msgspec.Struct, gc=False):
    code: int | str | None = None
    message: str | None = None


class Span(msgspec.Struct):
    """A span as OTLP writes it."""

    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = None
    startTimeUnixNano: str | int | None = None  # noqa: N815
    endTimeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Pair] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None
    resource: dict[str, Any] | None = None
    """Attributes of what sent it; not OTLP's, filled in after decoding."""


class Record(msgspec.Struct):
    """A log record as OTLP writes it."""

    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    timeUnixNano: str | int | None = None  # noqa: N815
    observedTimeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Pair] | None = None
    body: _Value | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] | None = None


class _ScopeSpans(msgspec.Struct):
    spans: list[Span] | None = None


class _ResourceSpans(msgspec.Struct):
    resource: _Resource | None = None
    scopeSpans: list[_ScopeSpans] | None = None  # noqa: N815


class _ScopeLogs(msgspec.Struct):
    logRecords: list[Record] | None = None  # noqa: N815


class _ResourceLogs(msgspec.Struct):
    scopeLogs: list[_ScopeLogs] | None = None  # noqa: N815


class Export(msgspec.Struct):
    """What one request to a collector carries."""

    resourceSpans: list[_ResourceSpans] | None = None  # noqa: N815
    resourceLogs: list[_ResourceLogs] | None = None  # noqa: N815
    resourceMetrics: msgspec.Raw = msgspec.Raw()  # noqa: N815
    resourceProfiles: msgspec.Raw = msgspec.Raw()  # noqa: N815


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
        yield _other(found)
    for group in found.resourceSpans or ():
        resource = attributes(group.resource.attributes) if group.resource else None
        if group.scopeSpans is None:
            yield Aside("resourceSpans without scopeSpans")
        for scope in group.scopeSpans or ():
            for span in scope.spans or ():
                span.resource = resource
                yield span
    for logs in found.resourceLogs or ():
        if logs.scopeLogs is None:
            yield Aside("resourceLogs without scopeLogs")
        for scope_ in logs.scopeLogs or ():
            yield from scope_.logRecords or ()


def _other(found: Export) -> Record:
    """Take an export of metrics or profiles, which a collector may write into the same file, for one record without a call."""
    if found.resourceMetrics or found.resourceProfiles:
        return Record()
    raise Aside("neither resourceSpans nor resourceLogs: not OTLP JSON")


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


def attributes(pairs: list[_Pair] | None) -> dict[str, Any]:
    """Return attributes as plain values by key."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
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
        return [plain(item) for item in value.arrayValue.values or ()]
    return None if value.kvlistValue is None else attributes(value.kvlistValue.values)


def _whole(value: int | str) -> int | str:
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-")
    return int(value) if len(digits) < 20 and digits.isascii() and digits.isdigit() else value


def trace(span: Span | Record) -> str:
    """Return the id of the trace, empty where there is none."""
    found = _id(span.traceId, "traceId", 16)
    return found if found.strip("0") else ""


def span_id(written: str | None, name: str) -> str | None:
    """Return the id of a span, None where there is none."""
    return _id(written, name, 8) or None


def between(span: Span, trace_id: str) -> tuple[Call, ...]:
    """Keep of a span that is no call what it stands between: two instrumentations may have seen one call around it."""
    with contextlib.suppress(Aside):
        return calls.link(trace_id, span_id(span.spanId, "spanId"), span_id(span.parentSpanId, "parentSpanId"))
    return ()


def _id(written: str | None, name: str, size: int) -> str:
    """Return an id of so many bytes as small hexadecimal, whichever way it is written; other ids mean what they say."""
    found = calls.text(written, name) or "" if written else ""
    if len(found) == 2 * size:
        return found.lower()
    if len(found) == (size + 2) // 3 * 4:
        with contextlib.suppress(ValueError):
            decoded = base64.b64decode(found, validate=True)
            return decoded.hex() if len(decoded) == size else found
    return found


def times(span: Span) -> tuple[int | None, float | None]:
    """Return when a span began and how many seconds it took."""
    start = calls.nanoseconds(span.startTimeUnixNano, "startTimeUnixNano")
    return start, calls.lasted(start, calls.nanoseconds(span.endTimeUnixNano, "endTimeUnixNano"))


_FAILED = frozenset({2, "2", "STATUS_CODE_ERROR"})


def failed(span: Span) -> bool:
    """Whether a span says that it failed."""
    return span.status is not None and span.status.code in _FAILED


def status(span: Span, found: dict[str, Any]) -> str:
    """Return the status of the call a span tells of."""
    if failed(span) or found.get("error.type") is not None:
        message = span.status.message if span.status is not None else None
        return calls.failure(found.get("error.type"), message, *_exceptions(span))
    return "ok"


def _exceptions(span: Span) -> Iterator[Any]:
    for event in span.events or ():
        if event.name == "exception":
            yield attributes(event.attributes).get("exception.type")


def view(span: Span, found: dict[str, Any], trace_id: str) -> dict[str, Any]:
    """Return what dotted paths are looked up in: attributes, and beside them the span itself."""
    beside = {"name": span.name, "resource": span.resource, "span_id": span.spanId, "attributes": found}
    return {**beside, **found, "trace_id": trace_id}
