"""Sketches: which cases a gate saw, in 64 letters that tell how many of them another set of cases shares.

The hash of a file says that its bytes are the same. Saved again, in another order or format, or with a case more, the
same cases have other bytes, and a threshold chosen on them proves as little about them as before. A sketch is made of
case ids and raw signals: of each of 32 classes of cases it keeps one byte of the case whose hash is smallest
(MinHash with one permutation: Li, Owen and Zhang, NIPS 2012). Two sets agree in a class with the chance that a case of
either is one of both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cascade_eval import signals
from cascade_eval.traffic import Field, keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.cascade import Signal
    from cascade_eval.traffic import Batch, Traffic

CLASSES: Final = 32

PATTERN: Final = rf"cases-[0-9a-f]{{{2 * CLASSES}}}"
"""What a sketch looks like."""

ALIKE: Final = 4
"""So many equal classes are no chance: two sets without a common case have them once in 100,000 times."""

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_LAST: Final = np.uint64(0xD6E8FEB86659FD93)
_HALF, _TOP, _BYTE = np.uint64(32), np.uint64(59), np.uint64(255)
_LARGEST: Final = np.uint64(2**64 - 1)
_ID: Final = Field(None, "case_id")


def of(traffic: Traffic, signal: Signal, model: str) -> str:
    """Sketch the cases of which a model's signal is known, in one pass over ids and signal.

    Parameters
    ----------
    traffic
        The cases; neither their order nor the format of their files matters.
    signal, model
        What the gate reads, and of whom.

    Examples
    --------
    >>> from cascade_eval import traffic
    >>> from cascade_eval.cascade import Signal
    >>> rows = [{"case_id": f"case-{i}", "mini.confidence": i / 1000} for i in range(1000)]
    >>> first, again, half, others = (
    ...     of(traffic.from_records(some), Signal("confidence"), "mini")
    ...     for some in (rows, rows[::-1], rows[:500], [{**row, "case_id": f"new-{row['case_id']}"} for row in rows])
    ... )
    >>> first[:12], first == again
    ('cases-c7294f', True)
    >>> share(first, half), share(first, others)
    (0.625, 0.0)
    """
    least = np.full(CLASSES, _LARGEST)
    for batch in traffic.batches({_ID, *signals.needs(signal, model)} & traffic.fields):
        hashed = _hashed(batch, signal, model)
        np.minimum.at(least, (hashed >> _TOP).astype(np.int64), hashed)
    # An empty class is 0, which no case leaves behind.
    kept = np.where(least == _LARGEST, 0, 1 + least % _BYTE).astype(np.uint8)
    return f"cases-{kept.tobytes().hex()}"


def share(one: str, other: str) -> float:
    """Estimate how many of the cases of two sets are cases of both, 0 to 1; 0 where that may be chance.

    Parameters
    ----------
    one, other
        From `of`.
    """
    first, second = _classes(one), _classes(other)
    # Sets of a few cases fill few classes.
    filled = int(((first > 0) | (second > 0)).sum())
    equal = int(((first > 0) & (first == second)).sum())
    return equal / filled if equal >= min(ALIKE, max(filled, 1)) else 0.0


def is_sketch(text: str) -> bool:
    """Tell a sketch from the hash of a file."""
    return re.fullmatch(PATTERN, text) is not None


def _classes(sketch: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(sketch.removeprefix("cases-")), dtype=np.uint8)


def _hashed(batch: Batch, signal: Signal, model: str) -> NDArray[np.uint64]:
    """Hash the cases of which the signal is known."""
    # Single precision, so that a column saved with fewer digits is the same column.
    values = signals.compute(signal, batch, model).astype(np.float32) + np.float32(0)
    known = ~np.isnan(values)
    ids = batch.hashed if batch.hashed is not None else keys.hashes(batch.arrow(*_ID).cast(pa.string()))
    found = (ids[known] ^ (values[known].view(np.uint32).astype(np.uint64) * _LAST)) * _MIX
    found = (found ^ (found >> _HALF)) * _LAST
    mixed: NDArray[np.uint64] = found ^ (found >> _HALF)
    return mixed
