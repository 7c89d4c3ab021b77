"""Twins: cases that took equally long, to the recorded moment, and are alike in everything else: one case, twice.

Rows exported again under new ids would double n and prove what half of them cannot. Answers repeat, and so do questions;
measured times do not. Only where the recorded times are fine enough to tell one call from another are twins counted.

Which cases are looked at is decided by a hash of their times, so twins are drawn together, few bytes are kept however
many cases there are, and batches may come in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval.traffic import Field, keys
from cascade_eval.traffic.batch import array, valid, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cascade_eval.replay import Columns
    from cascade_eval.traffic import Batch

    Words = NDArray[np.uint64]

MOST: Final = 8_192
"""Cases that are looked at; of more, those whose hash is smallest."""

COARSE: Final = 0.01
"""Times tell nothing where so many cases would share them by chance."""

LIKELY: Final = 0.05
"""A larger share of twins is no coincidence of logging."""

STEPS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 1e-3, 1e-6)
"""Steps in which times are recorded, seconds."""

FINEST: Final = 1e-9
"""What finer steps are taken for."""

_MIX: Final = 0x9E3779B97F4A7C15
_UNKNOWN: Final = np.array(np.nan).view(np.uint64)[()]
"""A time that is not known, as bits."""

_LATENCY: Final = "latency_s"
_WHEN: Final = Field(None, "decided_at")
_OWN: Final = frozenset({_LATENCY, "case_id", "cluster"})
_NUMBERS: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Some cases by the hash of their times; it adds up.

    Parameters
    ----------
    rows
        Of each case the hash of its times, of everything else, and of its cluster or else its id, then the times in
        seconds, as bits; shape (n, 3 + times).
    level
        One case in 2**level was drawn.
    """

    rows: NDArray[np.uint64]
    level: int = 0

    def __add__(self, other: Drawn) -> Drawn:
        if not len(self.rows) or not len(other.rows):
            return self if len(self.rows) else other
        level = max(self.level, other.level)
        return _few(np.concatenate([_under(self.rows, level), _under(other.rows, level)]), level)


NONE: Final = Drawn(np.zeros((0, 3), dtype=np.uint64))


def look(columns: Columns, models: Sequence[str]) -> Drawn:
    """Draw cases of a batch, those of a cache left out."""
    batch = columns.batch
    when = _when(batch)
    times = [_words(columns.latency(model)) for model in models if batch.has(model, _LATENCY)]
    times += [] if when is None else [when]
    if not times:
        return NONE
    hashed = _hashed(times)
    level = _level(batch.cases)
    kept = np.flatnonzero(_below(hashed, level))
    # Of the few that are drawn: those no cache answered, and of which a time is known.
    timed = np.logical_or.reduce([(column[kept] != _UNKNOWN) & (column[kept] != 0) for column in times])
    kept = kept[timed & ~columns.cached()[kept]]
    rest = _hashed([_rest(batch, field, kept) for field in _others(batch)], len(kept))
    owner = columns.hashes("cluster" if batch.has(None, "cluster") else "case_id")[kept]
    return _few(np.stack([hashed[kept], rest, owner, *(column[kept] for column in times)], axis=1), level)


def share(drawn: Drawn, cases: int) -> float:
    """Return the share of cases that are twins of another one.

    Parameters
    ----------
    drawn
        From `look`, added up.
    cases
        How many there are in all, by which it is told whether equal times can be chance.

    Returns
    -------
    float
        0 where times are too coarse to tell.
    """
    rows = drawn.rows
    if len(np.unique(rows[:, 0])) == len(rows):
        return 0.0
    # Cases of one cluster are counted as dependent already.
    apart = _distinct(rows[:, :3])
    single = rows[_first(rows[:, :2])]
    if _coarse(single, cases):
        return 0.0
    return (apart - len(single)) / len(rows)


def _coarse(single: NDArray[np.uint64], cases: int) -> bool:
    """Tell whether cases that are no twins share their times too often."""
    shared = len(single) - _distinct(single[:, :1])
    # Copies are gone from `single`, so what the steps alone would make equal counts as well.
    alike = np.prod([max(_collision(column), 1 / _places(column)) for column in single[:, 3:].T])
    return bool(shared > COARSE * len(single) or cases * alike > COARSE)


def _collision(column: NDArray[np.uint64]) -> float:
    """Return the chance that two different cases have the same value."""
    n = len(column)
    _, number = np.unique(column, return_counts=True)
    return float((number * (number - 1.0)).sum() / (n * (n - 1.0))) if n > 1 else 0.0


def _places(column: NDArray[np.uint64]) -> float:
    """Return how many different times there could be between the first and the last, in the steps they are recorded in."""
    times = column.view(np.float64)
    times = times[np.isfinite(times) & (times != 0)]
    if not len(times):
        return 1.0
    exact = 1e-9 + np.spacing(times.max())
    steps = (step for step in STEPS if (np.abs(times - np.rint(times / step) * step) <= exact).all())
    return 1.0 + float(np.ptp(times)) / next(steps, FINEST)


def _few(rows: NDArray[np.uint64], level: int) -> Drawn:
    while len(rows) > MOST:
        level += 1
        rows = _under(rows, level)
    return Drawn(rows, level)


def _level(cases: int) -> int:
    return max(0, math.ceil(math.log2(max(cases, 1) / MOST)))


def _under(rows: NDArray[np.uint64], level: int) -> NDArray[np.uint64]:
    return rows[_below(rows[:, 0], level)]


def _below(hashed: Words, level: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = hashed >> np.uint64(64 - level) == 0 if level else np.ones(len(hashed), dtype=np.bool_)
    return found


def _hashed(columns: Sequence[Words], cases: int = 0) -> Words:
    """Hash columns row by row, as good as random in the highest bits."""
    found = np.zeros(len(columns[0]) if columns else cases, dtype=np.uint64)
    for place, column in enumerate(columns):
        # Odd multipliers, each another one, so that equal values do not cancel out.
        found ^= column * np.uint64(_MIX * (2 * place + 1) % 2**64)
    return found


def _words(values: NDArray[np.floating]) -> Words:
    """View numbers as 64 bits."""
    return values.astype(np.float64, copy=False).view(np.uint64)


def _when(batch: Batch) -> Words | None:
    if not batch.has(*_WHEN):
        return None
    column = batch.arrow(*_WHEN).cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    moments = view(column, np.int64)
    return _words(np.where(valid(column), moments, 0) / 1e6)


def _others(batch: Batch) -> list[Field]:
    """Name the numbers and texts that were read beside the times."""
    found = [
        field
        for field, column in batch.columns.items()
        if field.name not in _OWN and any(test(_value_type(column)) for test in (*_NUMBERS, pa.types.is_string))
    ]
    return sorted(found, key=lambda field: (field.model or "", field.name))


def _value_type(column: pa.Array) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _rest(batch: Batch, field: Field, rows: NDArray[np.int64]) -> Words:
    """Return some cells of a column as 64 bits."""
    column = batch.arrow(*field)
    if not pa.types.is_string(_value_type(column)):
        return _words(batch.numbers(*field)[rows])
    taken = column.take(array(rows))
    plain = taken.dictionary_decode() if pa.types.is_dictionary(taken.type) else taken
    return keys.hashes(pc.fill_null(plain, ""))


def _distinct(rows: NDArray[np.uint64]) -> int:
    return len(_first(rows))


def _first(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where each different row occurs first."""
    order = np.lexsort(rows.T)
    changed = np.ones(len(order), dtype=np.bool_)
    changed[1:] = (rows[order][1:] != rows[order][:-1]).any(axis=1)
    return order[changed]
