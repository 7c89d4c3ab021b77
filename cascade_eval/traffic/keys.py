"""Case ids: as text, never empty, never twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval.traffic import checks, parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.findings import Findings
    from cascade_eval.traffic.parts import Rows

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_LAST, _HALF = np.uint64(0xD6E8FEB86659FD93), np.uint64(32)
_MASKS = np.array([(1 << (8 * i)) - 1 for i in range(9)], dtype=np.uint64)


def required(name: str, column: pa.Array, rows: NDArray[np.int64], trouble: Findings) -> pa.Array:
    """Return a key column as text without nulls, rows that say nothing noted and empty."""
    text, _ = checks.read(name, column)
    text = text if pa.types.is_string(text.type) else text.cast(pa.string())
    text = pc.fill_null(text, "") if text.null_count else text
    offsets = parts.offsets(text)
    empty = offsets[1:] == offsets[:-1]
    if empty.any():
        trouble.add_rows(rows[empty], name, "is null or empty")
    return text


def hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """Hash text to 64 bits, eight bytes of every id at a time.

    Parameters
    ----------
    ids
        A string array of shape (n,) without nulls.

    Returns
    -------
    ndarray of uint64, shape (n,)
        Equal for equal text. Unequal text may collide, so that equal hashes are compared as text before anything
        is said about them.

    Examples
    --------
    >>> a, b, c = hashes(pa.array(["case-1", "case-2", "case-1"]))
    >>> bool(a == c), bool(a == b)
    (True, False)
    """
    if not len(ids):
        return np.zeros(0, dtype=np.uint64)
    ends = parts.offsets(ids).astype(np.int64)
    first, last = int(ends[0]), int(ends[-1])
    data = np.zeros(last - first + 8, dtype=np.uint8)
    if last > first:
        data[:-8] = np.frombuffer(ids.buffers()[2], dtype=np.uint8)[first:last]
    # Eight bytes as one integer, beginning at any byte: unaligned on purpose.
    words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data.data, strides=(1,))
    at, left = ends[:-1] - first, np.diff(ends)
    found = left.astype(np.uint64) * _MIX
    for done in range(0, int(left.max()), 8):
        rows = np.flatnonzero(left > done) if done else np.arange(len(left))
        bits = words[at[rows] + done] & _MASKS[np.minimum(left[rows] - done, 8)]
        mixed = (found[rows] ^ bits) * _MIX
        found[rows] = mixed ^ (mixed >> _SHIFT)
    # Ids that differ in their last characters differ in the highest bits only, before these are mixed down.
    found = (found ^ (found >> _HALF)) * _LAST
    return found ^ (found >> _HALF)


def repeated(seen: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the hashes that occur more than once, ascending; one sixteenth of all is merged at a time.

    Parameters
    ----------
    seen
        Hashes of batches, each sorted.

    Examples
    --------
    >>> repeated([np.array([1, 5], dtype=np.uint64), np.array([2, 5, 7], dtype=np.uint64)])
    array([5], dtype=uint64)
    """
    bounds = [np.uint64(part << 60) for part in range(1, 16)]
    cuts = [[0, *np.searchsorted(batch, bounds).tolist(), len(batch)] for batch in seen]
    twice = [np.zeros(0, dtype=np.uint64)]
    for part in range(16):
        merged = np.sort(
            np.concatenate([batch[cut[part] : cut[part + 1]] for batch, cut in zip(seen, cuts, strict=True)] or twice)
        )
        twice.append(np.unique(merged[1:][merged[1:] == merged[:-1]]))
    return np.concatenate(twice)


def find_duplicates(
    seen: NDArray[np.uint64], rows: NDArray[np.int64] | None, case_id: str, source: Rows, trouble: Findings
) -> None:
    """Note rows whose case id an earlier row had, comparing text where hashes are equal.

    Parameters
    ----------
    seen
        Hash of each row's id, shape (n,).
    rows
        Which rows these are; None where they are all rows in order.
    case_id
        Stored name of the column.
    """
    ordered = np.sort(seen)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return
    suspects = np.flatnonzero(np.isin(seen, twice))
    suspects = suspects if rows is None else rows[suspects]
    ids, _ = checks.read("case_id", source.take(suspects, [case_id])[case_id])
    before: set[str] = set()
    again = np.zeros(len(suspects), dtype=np.bool_)
    for place, name in enumerate(ids.to_pylist()):
        again[place] = name in before
        # An empty id is a finding of its own, not a duplicate.
        before |= {name} if name else set()
    trouble.add_rows(suspects[again], "case_id", "was there before")
