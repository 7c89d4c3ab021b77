"""Cohorts: groups of cases by one or several columns, encoded as small integers.

A *family* is a tuple of column names; its *members* are the combinations of values that occur. The empty family has
one member, all cases. Null is a value of its own, shown as ``(none)``; values are compared as text.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from cascade_eval.errors import DataError
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cascade_eval.traffic import Batch

Member: TypeAlias = tuple[str, ...]
"""Values of one member, in the order of its family's columns; () is all cases."""

NONE = "(none)"
OTHER = "(other)"

DERIVED: Mapping[str, Literal["hour", "weekday", "week"]] = {
    "hour of decided_at": "hour",
    "weekday of decided_at": "weekday",
    "week of decided_at": "week",
}
"""Cohorts that are read off `decided_at`, in UTC."""

_HOURS = np.array([f"{hour:02}" for hour in range(24)])
_WEEKDAYS = np.array(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])


@dataclass(frozen=True, eq=False)
class Codes:
    """Which member each case belongs to.

    Parameters
    ----------
    family
        Column names.
    codes
        Position in `members`, shape (n_cases,).
    members
        Distinct members among these cases.
    """

    family: tuple[str, ...]
    codes: NDArray[np.int64]
    members: tuple[Member, ...]


def needs(columns: Iterable[str]) -> frozenset[Field]:
    """Columns that have to be read to tell these cohorts apart.

    Examples
    --------
    >>> sorted(str(field) for field in needs(["language", "hour of decided_at"]))
    ['decided_at', 'language']
    """
    return frozenset(Field(None, "decided_at" if column in DERIVED else column) for column in columns)


def text(value: object) -> str:
    """How a recorded value is written as a cohort.

    Examples
    --------
    >>> text(None), text(float("nan")), text(True), text(3.0), text("no")
    ('(none)', '(none)', 'true', '3', 'no')
    """
    if value is None or value != value:  # noqa: PLR0124  NaN is what a missing value becomes among numbers
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def encode(batch: Batch, family: tuple[str, ...]) -> Codes:
    """Tell each case's member of a family.

    Parameters
    ----------
    batch
        Cases with the family's columns.
    family
        Column names; () puts every case into one member.

    Returns
    -------
    Codes
        Only members that occur are listed.

    Raises
    ------
    DataError
        A column of lists or mappings, which are no names of cohorts.
    """
    if not family:
        return Codes((), np.zeros(batch.cases, dtype=np.int64), ((),))
    codes = np.zeros(batch.cases, dtype=np.int64)
    members: list[Member] = [()]
    for column in family:
        own, names = _column(batch, column)
        codes = codes * len(names) + own
        members = [(*member, name) for member in members for name in names]
    return _present(family, codes, members)


def _present(family: tuple[str, ...], codes: NDArray[np.int64], members: list[Member]) -> Codes:
    counts = np.bincount(codes, minlength=len(members))
    present = np.flatnonzero(counts)
    if len(present) == len(members):
        return Codes(family, codes, tuple(members))
    place = np.full(len(members), -1, dtype=np.int64)
    place[present] = np.arange(len(present))
    return Codes(family, place[codes], tuple(members[i] for i in present))


def _column(batch: Batch, column: str) -> tuple[NDArray[np.int64], list[str]]:
    if column in DERIVED:
        return _derived(batch, DERIVED[column])
    _refuse_nested(batch, column)
    codes, values = batch.codes(None, column)
    names = [text(value) for value in values]
    wide = codes.astype(np.int64)
    if len(wide) and wide.min() < 0:
        names = [*names, NONE]
        wide = np.where(wide < 0, len(names) - 1, wide)
    # Two recorded values may be written alike (1 and 1.0): they are one member.
    unique = list(dict.fromkeys(names))
    if len(unique) < len(names):
        wide = np.array([unique.index(name) for name in names], dtype=np.int64)[wide]
    return wide, unique or [NONE]


def _refuse_nested(batch: Batch, column: str) -> None:
    import pyarrow as pa

    if batch.has(None, column) and pa.types.is_nested(batch.arrow(None, column).type):
        raise DataError(f"the column '{column}' holds lists or mappings; a cohort is one word of each case")


def _derived(batch: Batch, part: str) -> tuple[NDArray[np.int64], list[str]]:
    import pyarrow as pa

    if not batch.has(None, "decided_at"):
        return np.zeros(batch.cases, dtype=np.int64), [NONE]
    column = batch.arrow(None, "decided_at").cast(pa.timestamp("s", tz="UTC"), safe=False).cast(pa.int64())
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    seconds = column.fill_null(0).to_numpy(zero_copy_only=False)
    days = seconds // 86_400
    if part == "hour":
        labels = _HOURS[(seconds % 86_400) // 3_600]
    elif part == "weekday":
        labels = _WEEKDAYS[(days + 3) % 7]
    else:
        labels = _iso_weeks(days)
    labels = np.where(known, labels, NONE)
    names, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), names.tolist()


def _iso_weeks(days: NDArray[np.int64]) -> NDArray[np.str_]:
    unique, inverse = np.unique(days, return_inverse=True)
    dates = unique.astype("datetime64[D]").tolist()
    return np.array(["{}-W{:02d}".format(*date.isocalendar()[:2]) for date in dates])[inverse]


def folded(name: str) -> str:
    """Write a cohort so that names which only look different are the same: case, white space, width, invisible letters.

    Examples
    --------
    >>> folded("PT ") == folded("pt") == folded("\uff50\uff54\u200b")
    True
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(c for c in plain if unicodedata.category(c) != "Cf").split())


def label(family: tuple[str, ...], member: Member) -> str:
    """Write a member the way item ids and budgets write it.

    Examples
    --------
    >>> label(("language", "intent"), ("fr", "refund"))
    'language=fr,intent=refund'
    >>> label((), ())
    'overall'
    """
    return ",".join(f"{column}={value}" for column, value in zip(family, member, strict=True)) or "overall"


def mapping(family: tuple[str, ...], member: Member) -> dict[str, str]:
    """Write a member as evidence does: value by column."""
    return dict(zip(family, member, strict=True))
