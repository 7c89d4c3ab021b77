"""Types and ranges of columns as they are read; each function handles one column of one batch at once.

A finding is a sentence and a mask of the rows it holds for. Values a finding names are null in the column that
comes back, so that nothing computes on them before the findings are raised.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import errors
from cascade_eval.traffic import parts
from cascade_eval.traffic.batch import ABSENT, OK, STATUSES, array, valid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Findings: TypeAlias = list[tuple[str, NDArray[np.bool_]]]

WHOLE = frozenset({"run", "input_tokens", "cached_input_tokens", "output_tokens", "samples_output_tokens"})
"""Columns of whole numbers."""

AMOUNTS = WHOLE - {"run"} | {"cost_usd", "samples_cost_usd", "latency_s"}
"""Columns that are never NaN, infinite or negative."""

MOST = {"cost_usd": 1e6, "samples_cost_usd": 1e6, "latency_s": 1e9, **dict.fromkeys(WHOLE - {"run"}, 1e13)}
"""What no call costs, takes or uses; sums of more than that would not fit into 64 bits."""

WEIGHTS = (1e-30, 1e30)
"""Weights beyond these cannot be squared and added."""

NUMBERS = AMOUNTS | WHOLE | {"score", "confidence", "weight", "audit_probability", "gate_confidence"}
"""Columns of numbers; text in them is parsed or a problem."""

FLAGS = frozenset({"completed", "is_regeneration", "regenerated", "escalated", "cached", "agrees"})
"""Columns of yes and no."""

JSON_TEXT = frozenset({"answer", "expected"})
"""Columns in which a nested value is kept as canonical JSON text."""

LISTS = frozenset({"token_logprobs", "samples"})
"""Columns of lists, JSON text in files that have no lists."""


def read(name: str, column: pa.Array) -> tuple[pa.Array, Findings]:
    """Give a stored column the type its name promises and check its values.

    Parameters
    ----------
    name
        Our name of the column.
    column
        As stored.

    Returns
    -------
    column, findings
        `status` becomes int8 codes (`OK` where null), `decided_at` a UTC timestamp, listed numbers become numbers.

    Examples
    --------
    >>> column, findings = read("cost_usd", pa.array([0.25, -1.0]))
    >>> column.to_pylist(), [(sentence, mask.tolist()) for sentence, mask in findings]
    ([0.25, None], [('is negative', [False, True])])
    """
    if pa.types.is_null(column.type):
        return (array(np.full(len(column), OK, np.int8)), []) if name == "status" else (column, [])
    if pa.types.is_dictionary(column.type) and (name == "case_id" or has_rules(name, column.type)):
        column = column.dictionary_decode()
    if name == "status":
        return _statuses(column)
    if name == "decided_at":
        return _times(column)
    if name in {"case_id", "model"}:
        return _text(column), []
    findings: Findings = []
    if name in NUMBERS:
        column, findings = _numbers(column, whole=name in WHOLE)
    elif name in FLAGS:
        column, findings = _flags(column)
    elif name in LISTS:
        column, findings = _lists(name, column)
    elif name in JSON_TEXT and pa.types.is_nested(column.type):
        column = parts.cast(column, pa.string())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    outside = _ranges(name, column)
    for _, bad in outside:
        column = blank(column, bad)
    return column, [*findings, *outside]


def has_rules(name: str, kind: pa.DataType) -> bool:
    """Whether `read` may find something wrong with a column of this name and type."""
    return name in NUMBERS | FLAGS | LISTS | {"status", "decided_at"} or pa.types.is_floating(kind)


def mask(condition: pa.Array) -> NDArray[np.bool_]:
    """Return a boolean Arrow array as numpy, false where null."""
    bits = np.frombuffer(condition.buffers()[1] or b"", dtype=np.uint8)
    found = np.unpackbits(bits, bitorder="little")[condition.offset : condition.offset + len(condition)].astype(
        np.bool_
    )
    return found & valid(condition) if condition.null_count else found


def blank(column: pa.Array, rows: NDArray[np.bool_]) -> pa.Array:
    """Return the column with null in these rows."""
    return pc.if_else(array(~rows), column, pa.scalar(None, column.type)) if rows.any() else column


def _text(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else parts.cast(column, pa.string())


def _statuses(column: pa.Array) -> tuple[pa.Array, Findings]:
    if not pa.types.is_string(column.type):
        rows = mask(column.is_valid())
        return array(np.full(len(column), OK, np.int8)), [
            (f"is {column.type}, not text. Allowed: {', '.join(STATUSES)}", rows)
        ]
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    table = np.array([STATUSES.index(value) if value in STATUSES else ABSENT for value in values] + [OK], dtype=np.int8)
    codes = np.where(valid(encoded.indices), parts.numpy(encoded.indices), len(values))
    findings = [
        (f"is {value!r}.{errors.did_you_mean(value, STATUSES)}", codes == code)
        for code, value in enumerate(values)
        if value not in STATUSES
    ]
    return array(np.where(table[codes] == ABSENT, OK, table[codes]).astype(np.int8)), findings


def _times(column: pa.Array) -> tuple[pa.Array, Findings]:
    utc = pa.timestamp("us", "UTC")
    if pa.types.is_timestamp(column.type):
        if column.type.tz is not None:
            return column.cast(utc, safe=False), []
        return pa.nulls(len(column), utc), [("has no time zone", mask(column.is_valid()))]
    if not pa.types.is_string(column.type):
        return pa.nulls(len(column), utc), [(f"is {column.type}, not a time", mask(column.is_valid()))]
    try:
        return column.cast(utc), []
    except pa.ArrowInvalid:
        return _times_one_by_one(column)


def _times_one_by_one(column: pa.Array) -> tuple[pa.Array, Findings]:
    values: list[dt.datetime | None] = []
    without, unreadable = np.zeros((2, len(column)), dtype=np.bool_)
    for row, text in enumerate(column.to_pylist()):
        try:
            moment = dt.datetime.fromisoformat(text) if text is not None else None
        except ValueError:
            moment, unreadable[row] = None, True
        if moment is not None and moment.tzinfo is None:
            moment, without[row] = None, True
        values.append(moment)
    findings = [
        ("has no time zone; write 2026-01-31T09:00:00Z or +01:00", without),
        ("is not an ISO 8601 time", unreadable),
    ]
    return pa.array(values, pa.timestamp("us", "UTC")), [found for found in findings if found[1].any()]


def _numbers(column: pa.Array, *, whole: bool) -> tuple[pa.Array, Findings]:
    wanted = pa.int64() if whole else pa.float64()
    kind = column.type
    if pa.types.is_string(kind):
        return _parsed(column, wanted)
    if pa.types.is_decimal(kind):
        kind, column = pa.float64(), column.cast(pa.float64())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return pa.nulls(len(column), wanted), [(f"is {kind}, not a number", mask(column.is_valid()))]
    if whole and pa.types.is_floating(kind):
        return _whole(column)
    return column, []


def _whole(column: pa.Array) -> tuple[pa.Array, Findings]:
    """Whole numbers that came as floats, as they do where a null once stood beside them."""
    column = column.cast(pa.float64())
    values, known = parts.numpy(column), mask(column.is_valid())
    odd = known & ~np.isfinite(values)
    broken = known & ~odd & ((np.trunc(values) != values) | (np.abs(values) > 2**53))
    found = [("is not a whole number", broken), ("is NaN or infinite", odd)]
    whole = blank(column, broken | odd).cast(pa.int64(), safe=False)
    return whole, [finding for finding in found if finding[1].any()]


def _parsed(column: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, Findings]:
    try:
        return column.cast(wanted), []
    except pa.ArrowInvalid:
        values = pa.array([_number(text, wanted) for text in column.to_pylist()], wanted)
        what = "a whole number" if pa.types.is_integer(wanted) else "a number"
        return values, [(f"is not {what}", mask(column.is_valid()) & mask(values.is_null()))]


def _number(text: str | None, wanted: pa.DataType) -> Any:
    try:
        return pa.scalar(text).cast(wanted).as_py()
    except pa.ArrowInvalid:
        return None


def _flags(column: pa.Array) -> tuple[pa.Array, Findings]:
    if not pa.types.is_string(column.type):
        if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return column, []
        return pa.nulls(len(column), pa.bool_()), [(f"is {column.type}, not true or false", mask(column.is_valid()))]
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = pa.array(
        [None if text is None else words.get(text.strip().lower()) for text in column.to_pylist()], pa.bool_()
    )
    wrong = mask(column.is_valid()) & mask(found.is_null())
    return found, [("is not true or false", wrong)] if wrong.any() else []


def _lists(name: str, column: pa.Array) -> tuple[pa.Array, Findings]:
    wanted = pa.list_(pa.float64() if name == "token_logprobs" else pa.string())
    if pa.types.is_string(column.type):
        from cascade_eval.traffic import jsonl

        values, wrong = jsonl.lists(column.to_pylist(), numbers=name == "token_logprobs")
        return pa.array(values, wanted), [("is not a JSON list", wrong)] if wrong.any() else []
    try:
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return column.cast(wanted), []
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    what = "numbers" if name == "token_logprobs" else "texts"
    return pa.nulls(len(column), wanted), [(f"is {column.type}, not a list of {what}", mask(column.is_valid()))]


def _ranges(name: str, column: pa.Array) -> Findings:
    if pa.types.is_floating(column.type):
        return _float_ranges(name, column)
    if pa.types.is_integer(column.type) and name in AMOUNTS | {"run", "weight", "audit_probability"}:
        return _integer_ranges(name, column)
    if name == "token_logprobs" and pa.types.is_list(column.type):
        inside = [rows for _, rows in _float_ranges(name, column.flatten())]
        if inside:
            bad = np.zeros(len(column), dtype=np.bool_)
            bad[parts.numpy(pc.list_parent_indices(column))[inside[0]]] = True
            return [("holds an infinite value", bad)]
    return []


def _float_ranges(name: str, column: pa.Array) -> Findings:
    values = parts.numpy(column)
    if not len(values):
        return []
    low, high = values.min(), values.max()
    strict = name in AMOUNTS
    if low > 0 and high < np.inf and high <= MOST.get(name, np.inf) and name not in {"weight", "audit_probability"}:
        return []
    if not strict and np.isfinite(low) and np.isfinite(high) and name not in {"weight", "audit_probability"}:
        return []
    known = mask(column.is_valid()) if column.null_count else np.ones(len(values), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        tests = _tests(name, values)
        found = [(sentence, test & known) for sentence, test in tests]
    return [item for item in found if item[1].any()]


def _tests(name: str, values: NDArray[np.floating]) -> Findings:
    if name in AMOUNTS:
        return [
            ("is NaN", np.isnan(values)),
            ("is infinite", np.isinf(values)),
            ("is negative", (values < 0) & np.isfinite(values)),
            _above(name, values),
        ]
    if name == "weight":
        usable = (values > 0) & np.isfinite(values)
        return [
            ("is not a finite number above 0", ~usable),
            (
                f"is not between {WEIGHTS[0]:g} and {WEIGHTS[1]:g}",
                usable & ((values < WEIGHTS[0]) | (values > WEIGHTS[1])),
            ),
        ]
    if name == "audit_probability":
        return [("is not above 0 and at most 1", ~((values > 0) & (values <= 1)))]
    if "logprob" in name:
        return [("is infinite", np.isposinf(values))]
    return [("is infinite", np.isinf(values))]


def _integer_ranges(name: str, column: pa.Array) -> Findings:
    low = 1 if name in {"weight", "audit_probability"} else 0
    values = parts.numpy(column)
    wrong = values < low
    if name == "audit_probability":
        wrong |= values > 1
    rows = wrong & valid(column)
    sentence = {
        "weight": "is not a finite number above 0",
        "audit_probability": "is not above 0 and at most 1",
    }
    found = [(sentence.get(name, "is negative"), rows)]
    if name in MOST:
        said, above = _above(name, values)
        found.append((said, above & valid(column)))
    return [item for item in found if item[1].any()]


def _above(name: str, values: NDArray[Any]) -> tuple[str, NDArray[np.bool_]]:
    """Find what no call costs, takes or uses; infinity is a finding of its own."""
    return f"is above {MOST[name]:,.0f}", (values > MOST[name]) & (values < np.inf)
