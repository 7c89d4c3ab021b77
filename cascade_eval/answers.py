"""Answers: how two recorded answers are compared, once per distinct answer and never once per case.

Text is folded or parsed per distinct value of a column; cases are compared through small integer codes. What two
answers have to have in common is a *key*: two answers are the same when their keys are equal.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

_QUOTES = "\"'`´‘’‚“”„«»‹›"
_BRACKETS = "()[]{}（）【】「」『』"
_STOPS = ".,;:!?…。，、；：！？"
_OPENING = "¿¡"
_NUMBER = re.compile(
    r"""(?P<sign>[+\-\u2212]?)
        (?P<whole>\d{1,3}(?:,\d{3})+|\d{1,3}(?:[\u00a0\u202f ]\d{3})+|\d*)
        (?P<fraction>\.\d*)?
        (?P<exponent>[eE][+-]?\d{1,4})?
        \s?(?P<percent>%?)""",
    re.VERBOSE,
)
_LONGEST_NUMBER = 400


class Coded(NamedTuple):
    """A column of answers: `values[codes]`, with code -1 where there is no answer; codes have shape (cases,)."""

    codes: NDArray[np.int32]
    values: Sequence[str]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is an answer; shape (cases,)."""
        return self.codes >= 0


def coded(batch: Batch, model: str | None, name: str = "answer") -> Coded:
    """Return a column as codes and the texts they stand for; a missing column has no answers.

    Numbers and booleans are written as text (`written`), nested values as canonical JSON, NaN is no answer.
    """
    if not batch.has(model, name):
        return Coded(np.full(batch.cases, -1, dtype=np.int32), [])
    column = batch.arrow(model, name)
    if pa.types.is_nested(column.type):
        texts = [None if cell is None else written(cell) for cell in column.to_pylist()]
        batch = replace(batch, columns={Field(model, name): pa.array(texts, type=pa.string())})
    codes, values = batch.codes(model, name)
    missing = np.array([value is None or value != value for value in values], dtype=np.bool_)  # noqa: PLR0124  NaN
    if missing.any():
        codes = np.where(missing[codes] & (codes >= 0), np.int32(-1), codes)
    if values and not all(isinstance(value, str) for value in values):
        values = [written(value) for value in values]
    return Coded(codes, values)  # type: ignore[arg-type]  # every value is text now


def spread(column: Coded, numbers: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Give each case the number of its answer, NaN where there is no answer; shape (cases,).

    Examples
    --------
    >>> spread(Coded(np.array([1, 0, -1], dtype=np.int32), ["short", "longer"]), [5, 6])
    array([ 6.,  5., nan])
    """
    padded = np.append(np.asarray(numbers, dtype=np.float64), np.nan)
    return padded[column.codes]


def written(value: object) -> str:
    """Return the text an answer is compared by: 1, 1.0 and "1" are all written 1, true is written true.

    Examples
    --------
    >>> [written(value) for value in (1, 1.0, "1", 0.25, True, {"b": 1, "a": [2]})]
    ['1', '1', '1', '0.25', 'true', '{"a": [2], "b": 1}']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (list, dict, tuple, bool)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)


def fold(text: str) -> str:
    """Fold case, white space and surrounding punctuation of a label; signs and symbols stay.

    Surrounding quotes, brackets, full stops and the like are taken away from both ends. Brackets around a list stay,
    because ``(0, 1)`` and ``[0, 1]`` differ, and so does a point before a digit. A text that folds to nothing is
    returned as written.

    Examples
    --------
    >>> [fold(text) for text in (" Yes. ", "'YES'", "(A)", "not   sure!")]
    ['yes', 'yes', 'a', 'not sure']
    >>> [fold(text) for text in ("-5", "C++", "C#", ".5", "<5", "$5", "5%", "[0, 1)", "...")]
    ['-5', 'c++', 'c#', '.5', '<5', '$5', '5%', '[0, 1)', '...']
    """
    plain = unicodedata.normalize("NFC", " ".join(text.casefold().split()))
    if plain[:1].isalnum() and plain[-1:].isalnum():
        return plain
    inner = ""
    while inner != plain:
        inner, plain = plain, _peel(plain)
    return plain or text


def _peel(text: str) -> str:
    """Take one layer of punctuation off both ends."""
    text = text.strip().rstrip(_STOPS)
    if text[:1] in {*_STOPS, *_OPENING} and not (text[:1] in ".," and text[1:2].isdigit()):
        text = text[1:]
    if "," not in text and ";" not in text:
        text = text.strip(_BRACKETS)
    # 5' and 5" are units unless the quotation mark was opened.
    body = text.rstrip(_QUOTES)
    if text[:1] not in _QUOTES and len(body) < len(text) and body[-1:].isdigit():
        return text[: len(body) + 1]
    return text.strip(_QUOTES).strip()


_SILENT = frozenset({"", '""', "nan", "NaN", "NaT", "<NA>", "None", "null", "undefined"})
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"
_LONGEST_SILENT = 24


def silent(text: str) -> bool:
    r"""Whether an answer says nothing: it is empty or blank, or the word a program writes for a missing value.

    Examples
    --------
    >>> [text for text in ("", " \n", "nan", "None", "null", "none", "no", "0", "[]") if silent(text)]
    ['', ' \n', 'nan', 'None', 'null']
    """
    if len(text) > _LONGEST_SILENT:
        return text.isspace()
    return text.strip().strip(_UNSEEN).strip() in _SILENT


def both_silent(left: Coded, right: Coded) -> NDArray[np.bool_]:
    """Where both columns hold an answer that says nothing; shape (cases,)."""
    mine = np.array([*map(silent, left.values), False], dtype=np.bool_)
    if not mine.any():
        return np.zeros(len(left.codes), dtype=np.bool_)
    theirs = np.array([*map(silent, right.values), False], dtype=np.bool_)
    return np.asarray(mine[left.codes] & theirs[right.codes])


def number(text: str) -> Decimal | None:
    """Read a text that is one number, exactly; a percentage is divided by 100. None where it is not a number.

    Thousands may be separated by commas or spaces in groups of three. Currency signs and units are not read: five
    dollars and five euros must not become the same number.

    Examples
    --------
    >>> [number(text) for text in ("1,234.50", "85%", "-3", "1e3", "$5", "1,5", "five")]
    [Decimal('1234.50'), Decimal('0.85'), Decimal('-3'), Decimal('1E+3'), None, None, None]
    """
    text = text.strip()
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if match is None:
        return None
    whole = re.sub(r"[^0-9]", "", unicodedata.normalize("NFKC", match["whole"]))
    fraction = unicodedata.normalize("NFKC", (match["fraction"] or "").lstrip("."))
    if not whole and not fraction:
        return None
    sign = "-" if match["sign"] in {"-", "\u2212"} else ""
    exponent = int((match["exponent"] or "e0")[1:]) - (2 if match["percent"] else 0)
    return Decimal(f"{sign}{whole or '0'}.{fraction or '0'}e{exponent}" if fraction else f"{sign}{whole}e{exponent}")


def number_or_text(text: str) -> Decimal | str:
    """Return the number a text is, or the text as written where it is none."""
    value = number(text)
    return text if value is None else value


def as_written(text: str) -> str:
    """Return the text: the key of an exact comparison."""
    return text


KEYS: Mapping[str, Callable[[str], Hashable]] = {
    "exact": as_written,
    "same label": fold,
    "same number": number_or_text,
}
"""What two answers must have in common, by the words a suite uses."""


def same(left: Coded, right: Coded, key: Callable[[str], Hashable]) -> NDArray[np.bool_]:
    """Whether two columns hold the same answer by `key`, case by case; false where either is missing.

    Keys are computed once per distinct answer, and only for answers that occur in a case whose texts differ.

    Examples
    --------
    >>> mini = Coded(np.array([0, 1, -1], dtype=np.int32), ["Yes.", "no"])
    >>> flagship = Coded(np.array([0, 0, 0], dtype=np.int32), ["yes"])
    >>> same(mini, flagship, fold)
    array([ True, False, False])
    """
    known = left.known & right.known
    position = {text: i for i, text in enumerate(left.values)}
    in_left = np.array([position.get(text, -1) for text in right.values] or [-1], dtype=np.int64)
    result: NDArray[np.bool_] = known & (left.codes == in_left[right.codes])
    open_rows = np.flatnonzero(known & ~result)
    # One text may stand twice in a column (the numbers 1 and 1.0); otherwise a difference as written is final.
    if key is as_written and len(position) == len(left.values):
        return result
    ids: dict[Hashable, int] = {}
    left_ids = _identify(left.codes[open_rows], left.values, key, ids)
    right_ids = _identify(right.codes[open_rows], right.values, key, ids)
    result[open_rows] = left_ids == right_ids
    return result


def _identify(
    codes: NDArray[np.int32], values: Sequence[str], key: Callable[[str], Hashable], ids: dict[Hashable, int]
) -> NDArray[np.int64]:
    """Give numbers to the keys of the values that occur, sharing `ids` between columns."""
    numbered = np.full(len(values), -1, dtype=np.int64)
    for i in np.unique(codes).tolist():
        numbered[i] = ids.setdefault(key(values[i]), len(ids))
    return numbered[codes]


def pairwise(
    left: Coded, right: Coded, compare: Callable[[list[str], list[str]], NDArray[np.int8]]
) -> NDArray[np.int8]:
    """Compare each distinct pair of answers once: what `compare` says of it, -1 where either is missing.

    Parameters
    ----------
    left, right
        Two columns of the same cases.
    compare
        From two lists of texts, the pairs, to int8 of the same length.

    Returns
    -------
    ndarray of shape (cases,)
    """
    result = np.full(len(left.codes), -1, dtype=np.int8)
    rows = np.flatnonzero(left.known & right.known)
    if not len(rows):
        return result
    width = len(right.values)
    pair = left.codes[rows].astype(np.int64) * width + right.codes[rows]
    distinct, place = _distinct(pair, len(left.values) * width)
    firsts = [left.values[i] for i in (distinct // width).tolist()]
    seconds = [right.values[i] for i in (distinct % width).tolist()]
    result[rows] = compare(firsts, seconds)[place]
    return result


def _distinct(pair: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pairs and where each case's pair stands among them, without sorting where a table is small."""
    if size > 4 * len(pair) + 1024:
        distinct, place = np.unique(pair, return_inverse=True)
        return distinct, place
    table = np.zeros(size, dtype=np.int64)
    table[pair] = 1
    distinct = np.flatnonzero(table)
    table[distinct] = np.arange(len(distinct))
    return distinct, table[pair]


def parse_json(text: str) -> tuple[bool, Any]:
    """Whether a text is JSON (NaN and Infinity are not), and what it says.

    Examples
    --------
    >>> parse_json('{"a": 1}'), parse_json("NaN"), parse_json("null")
    ((True, {'a': 1}), (False, None), (True, None))
    """
    try:
        return True, json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None


def _refuse(name: str) -> None:
    raise ValueError(name)


def pick(document: object, path: str) -> tuple[bool, Any]:
    """Return whether a document has a field, and its value; a dot descends unless a field bears the whole name.

    Examples
    --------
    >>> pick({"a": {"b": 2}}, "a.b"), pick({"a.b": 3}, "a.b"), pick([], "a")
    ((True, 2), (True, 3), (False, None))
    """
    if isinstance(document, dict) and path in document:
        return True, document[path]
    head, dot, rest = path.partition(".")
    if dot and isinstance(document, dict) and head in document:
        return pick(document[head], rest)
    return False, None


def alike(left: object, right: object, tolerance: float = 0.0) -> bool:
    """Whether two JSON values are the same: keys in any order, 1 is 1.0 but not true, numbers within `tolerance`.

    The tolerance holds at exactly its bound as written in decimals.

    Examples
    --------
    >>> alike({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}), alike(True, 1), alike(0.3, 0.1, 0.2)
    (True, False, True)
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right or (math.isfinite(tolerance) and abs(left - right) <= tolerance * (1 + 1e-9))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(alike(left[key], right[key], tolerance) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(alike(a, b, tolerance) for a, b in zip(left, right, strict=True))
    return left == right


def same_json(left: Coded, right: Coded, *, fields: Sequence[str] = (), tolerance: float = 0.0) -> NDArray[np.int8]:
    """Whether two columns of JSON texts say the same, in all or the listed fields; texts that are not JSON as written.

    A listed field that only one of the two has is a difference; one that neither has is not, and where neither has any
    of them nothing was compared.

    Returns
    -------
    ndarray of int8, shape (cases,)
        1 the same, 0 not, also where either is missing; -1 where nothing was compared.

    Examples
    --------
    >>> column = Coded(np.array([0, 1, -1], dtype=np.int32), ['{"total": 5}', '{"sum": 5}'])
    >>> same_json(column, column, fields=["total"])
    array([ 1, -1,  0], dtype=int8)
    """

    def compare(firsts: list[str], seconds: list[str]) -> NDArray[np.int8]:
        parsed = {text: parse_json(text) for text in {*firsts, *seconds}}
        return np.array(
            [_same_texts(a, b, parsed, fields, tolerance) for a, b in zip(firsts, seconds, strict=True)], dtype=np.int8
        )

    return np.where(left.known & right.known, pairwise(left, right, compare), np.int8(0))


def _same_texts(
    left: str, right: str, parsed: Mapping[str, tuple[bool, Any]], fields: Sequence[str], tolerance: float
) -> int:
    one, two = parsed[left], parsed[right]
    if not (one[0] and two[0]):
        return int(left == right)
    if fields and not any(pick(document, field)[0] for document in (one[1], two[1]) for field in fields):
        return -1
    return int(left == right or _same_documents(one[1], two[1], fields, tolerance))


def _same_documents(left: object, right: object, fields: Sequence[str], tolerance: float) -> bool:
    try:
        if not fields:
            return alike(left, right, tolerance)
        return all(_same_field(pick(left, field), pick(right, field), tolerance) for field in fields)
    except (RecursionError, OverflowError):
        # Too deep or too large to compare is not the same.
        return False


def fields_found(column: Coded, fields: Sequence[str]) -> set[str]:
    """Return which of the listed fields any answer of a column has; no more answers are read than that takes.

    Examples
    --------
    >>> fields_found(Coded(np.array([0], dtype=np.int32), ['{"total": 5}']), ["total", "totla"])
    {'total'}
    """
    found: set[str] = set()
    for text in column.values:
        if len(found) == len(set(fields)):
            break
        document = parse_json(text)[1]
        found |= {field for field in fields if field not in found and pick(document, field)[0]}
    return found


def _same_field(left: tuple[bool, Any], right: tuple[bool, Any], tolerance: float) -> bool:
    return left[0] == right[0] and alike(left[1], right[1], tolerance)
