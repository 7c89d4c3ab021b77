"""Traffic: recorded cases that can be read again and again, in batches of aligned cases."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cascade_eval.errors import DataError, Problem
from cascade_eval.traffic import inspection, keys, long, names, parts, wide
from cascade_eval.traffic.batch import Batch, Field, array
from cascade_eval.traffic.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.parts import Rows

SIZE = 131_072
"""Cases in a batch: small enough for the processor's caches, large enough that a call costs nothing."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Recorded cases and their models' outcomes.

    Made by `traffic.open`, `traffic.from_frame`, `traffic.from_records` and `traffic.from_batch`.

    Parameters
    ----------
    name
        As the user wrote it.
    source
        Raw rows.
    layout
        Where our columns stand in them.
    tolerate
        How many bad rows may be set aside.
    digest
        Computes the sha256 of the data, once.
    notes
        What to say about the cases wherever they are judged.
    shown
        How messages name it, where that is not `name`.
    """

    name: str
    source: Rows
    layout: names.Layout
    tolerate: int
    digest: Callable[[], str]
    notes: tuple[str, ...] = ()
    shown: str | None = None
    # What a complete pass has established and later passes need not look for again.
    _established: set[str] = field(default_factory=set, repr=False)

    @functools.cached_property
    def models(self) -> tuple[str, ...]:
        """Recorded models, in order of appearance."""
        return self._survey.models if self.layout.shape == "long" else self.layout.models

    @property
    def case_columns(self) -> tuple[str, ...]:
        """Names of per-case columns; in long form every column that is not known to be an outcome's."""
        return self.layout.case_columns

    @functools.cached_property
    def fields(self) -> frozenset[Field]:
        """Every field that can be asked for."""
        if self.layout.shape != "long":
            return frozenset({*self.layout.fields, *(Field(model, "status") for model in self.models)})
        per_case = {Field(None, name) for name in ("case_id", *self.case_columns)}
        columns = {*self.layout.outcome_columns, "status"}
        return frozenset(per_case | {Field(model, name) for model in self.models for name in columns})

    @functools.cached_property
    def cases(self) -> int:
        """How many aligned cases."""
        if self.layout.shape == "long":
            return self._survey.cases
        return self.source.total - len(self._set_aside.rows)

    @property
    def bad_rows(self) -> int:
        """Rows set aside because they were bad and that was tolerated."""
        return self._set_aside.bad

    @property
    def set_aside(self) -> tuple[Problem, ...]:
        """What was wrong with the rows set aside."""
        return self._set_aside.problems

    def inspect(self) -> None:
        """Raise now what can be known before a pass: lines that are no records, more bad rows than tolerated."""
        _ = self._set_aside

    def sha256(self) -> str:
        """Return the sha256 of the data, whatever path it lies at; DataError where it was replaced since it was opened."""
        return self.digest()

    def batches(self, needs: Iterable[Field], size: int = SIZE, *, ids: bool = True) -> Iterator[Batch]:
        """Yield every aligned case once, reading only what is needed; each call is a new pass.

        Parameters
        ----------
        needs
            Fields to read. `case_id` and the status of each model named (of all models where none is) are always
            there; fields that do not exist are left out.
        size
            Cases in a batch, at most.
        ids
            Whether `case_id` is wanted. A pass without it may leave ids unread and unchecked, for another pass to do.

        Raises
        ------
        DataError
            Every problem of the columns read, after all of the data was looked at. What was yielded before is
            then worth nothing.
        """
        if not self.cases:
            raise DataError([Problem("no cases", self.shown or self.name)])
        wanted = self._wanted(needs)
        trouble = Findings(self.source, self.layout.case_id)
        first = 0
        ids = ids or self.layout.shape == "long"
        for batch in self._aligned(wanted, size, trouble, ids=ids):
            for start in range(0, batch.cases, size):
                if not trouble.any:
                    piece = _slice(batch, start, min(start + size, batch.cases), first)
                    first += piece.cases
                    yield piece
        if trouble.any and not ids:
            # What is wrong with ids is said together with the rest.
            for _ in self._wide([], size, trouble):
                pass
        trouble.raise_any(self.shown or self.name)
        if ids:
            self._established.add("keys")

    def read(self, needs: Iterable[Field] | None = None) -> Batch:
        """Return all cases at once; every field where `needs` is None.

        A column of long data that differs between rows of a case is then read as the outcomes' only.
        """
        return _joined(list(self.batches(self._everything() if needs is None else needs)))

    def rows(self, positions: Sequence[int], needs: Iterable[Field]) -> Batch:
        """Return a few cases by position, in the order asked for, reading only the row groups they stand in."""
        wanted = self._wanted(needs)
        picked = np.asarray(positions, dtype=np.int64)
        trouble = Findings(self.source, self.layout.case_id)
        if self.layout.shape == "long":
            rows = np.flatnonzero(np.isin(self._case_of_row, picked))
            raw = self.source.take(rows, long.stored(self.layout, wanted))
            piece = long.checked(self.layout, raw, rows, trouble)
            found, cases = np.unique(self._case_of_row[rows], return_inverse=True)
            batch = long.aligned(wanted, self.models, piece, cases.astype(np.int32), len(found), trouble)
            trouble.raise_any(self.shown or self.name)
            return batch.take(np.searchsorted(found, picked))
        rows = self._kept[picked] if len(self._set_aside.rows) else picked
        raw = self.source.take(rows, self._stored(wanted))
        columns = wide.columns(self.layout, wanted, raw, rows, self._witnesses, trouble)
        trouble.raise_any(self.shown or self.name)
        return Batch(len(picked), columns)

    def repeats(self, model: str, needs: Iterable[Field]) -> Batch:
        """Return what a model answered when it was asked again: one row per repeat, `run` above 0.

        Its columns are `Field(None, "case_id")`, `Field(model, "run")` and the fields of `needs` of that model.
        It has no row where nothing was repeated.
        """
        empty = Batch(
            0, {Field(None, "case_id"): pa.nulls(0, pa.string()), Field(model, "run"): pa.nulls(0, pa.int64())}
        )
        if self.layout.shape != "long" or "run" not in self.layout.names:
            return empty
        wanted = [need for need in self._wanted(needs) if need.model == model]
        trouble = Findings(self.source, self.layout.case_id)
        found = []
        for piece in self._pieces(wanted, trouble):
            again = long.runs(piece) != 0
            again &= long.model_codes(piece.columns["model"], [model]) == 0
            found.append(_repeats(model, wanted, piece.where(again)))
        trouble.raise_any(self.shown or self.name)
        return _joined(found) if found else empty

    def _wanted(self, needs: Iterable[Field]) -> list[Field]:
        """Fields that exist, in a fixed order, and the statuses."""
        asked = sorted({Field(*need) for need in needs}, key=lambda need: (need.model or "", need.name))
        named = {need.model for need in asked if need.model is not None}
        models = [model for model in self.models if model in named or not named]
        found = [need for need in asked if need in self.fields and need.name not in {"status", "case_id"}]
        return [*found, *(Field(model, "status") for model in models)]

    def _everything(self) -> list[Field]:
        loose = set(self.case_columns) - names.CASE_COLUMNS if self.layout.shape == "long" else set()
        different = {name for name in loose if self._differs(name)}
        return [need for need in self.fields if need.model is not None or need.name not in different]

    def _differs(self, name: str) -> bool:
        trouble = Findings(self.source, self.layout.case_id)
        for _ in self._long([Field(None, name)], SIZE, trouble):
            pass
        return bool(len(trouble.rows_of({name})))

    def _stored(self, wanted: Sequence[Field], *, ids: bool = True) -> list[str]:
        """Name the stored columns of wide data to read: the ids, and what these fields need; never none."""
        found = wide.stored(self.layout, wanted, self._witnesses)
        return list(dict.fromkeys([self.layout.case_id, *found])) if ids or not found else found

    def _aligned(self, wanted: Sequence[Field], size: int, trouble: Findings, *, ids: bool) -> Iterator[Batch]:
        if self.layout.shape == "long":
            return self._long(wanted, size, trouble)
        return self._wide(wanted, size, trouble, ids=ids)

    def _wide(self, wanted: Sequence[Field], size: int, trouble: Findings, *, ids: bool = True) -> Iterator[Batch]:
        seen: list[NDArray[np.uint64]] = []
        look = ids and self.layout.shape == "wide" and "keys" not in self._established and not self.tolerate
        for raw, rows in self._scan(self._stored(wanted, ids=ids), size, encoded=True):
            columns = wide.columns(self.layout, wanted, raw, rows, self._witnesses, trouble)
            hashed = keys.hashes(columns[wide.CASE_ID]) if look else None
            if hashed is not None:
                seen.append(np.sort(hashed))
            yield Batch(len(rows), columns, hashed=hashed)
        twice = keys.repeated(seen)
        if len(twice):
            self._name_duplicates(twice, size, trouble)

    def _name_duplicates(self, twice: NDArray[np.uint64], size: int, trouble: Findings) -> None:
        """Read the ids once more and note the rows whose id an earlier row had."""
        unsaid = Findings(self.source, self.layout.case_id)
        suspects, hashed = [], []
        for raw, rows in self._scan([self.layout.case_id], size):
            found = keys.hashes(keys.required("case_id", raw[self.layout.case_id], rows, unsaid))
            again = np.isin(found, twice)
            suspects.append(rows[again])
            hashed.append(found[again])
        keys.find_duplicates(
            np.concatenate(hashed), np.concatenate(suspects), self.layout.case_id, self.source, trouble
        )

    def _long(self, wanted: Sequence[Field], size: int, trouble: Findings) -> Iterator[Batch]:
        pieces = long.first_runs(self._pieces(wanted, trouble, size))
        cases = None if self._survey.together else self._case_of_row
        for piece, local, total in long.numbered(pieces, cases):
            yield long.aligned(wanted, self.models, piece, local, total, trouble)

    def _pieces(self, wanted: Sequence[Field], trouble: Findings, size: int = SIZE) -> Iterator[long.Piece]:
        for raw, rows in self._scan(long.stored(self.layout, wanted), size):
            yield long.checked(self.layout, raw, rows, trouble)

    def _scan(
        self, stored: Sequence[str], size: int, *, encoded: bool = False
    ) -> Iterator[tuple[dict[str, pa.Array], NDArray[np.int64]]]:
        """Yield stored columns and which rows they are, without the rows set aside."""
        dropped = self._set_aside.rows
        for first, raw in self.source.scan(stored, size, encoded=encoded):
            rows = first + np.arange(len(raw[stored[0]]))
            kept = ~np.isin(rows, dropped) if len(dropped) else None
            if kept is None or kept.all():
                yield raw, rows
            else:
                yield {name: column.filter(array(kept)) for name, column in raw.items()}, rows[kept]

    @functools.cached_property
    def _set_aside(self) -> inspection.SetAside:
        return inspection.inspect(self.source, self.layout, self.tolerate, self.shown or self.name)

    @functools.cached_property
    def _survey(self) -> long.Survey:
        # What is wrong with keys is found again, and said, by the pass that reads them for use.
        unsaid = Findings(self.source, self.layout.case_id)
        return long.survey(long.first_runs(self._pieces([], unsaid)))

    @functools.cached_property
    def _witnesses(self) -> dict[str, list[str]]:
        return wide.witnesses(self.layout, self.source)

    @functools.cached_property
    def _case_of_row(self) -> NDArray[np.int32]:
        """Case of each raw row of long data, -1 for repeats and rows set aside."""
        unsaid = Findings(self.source, self.layout.case_id)
        return long.case_of_row(long.first_runs(self._pieces([], unsaid)), self.source.total)

    @functools.cached_property
    def _kept(self) -> NDArray[np.int64]:
        """Raw row of each case of wide data."""
        kept = np.ones(self.source.total, dtype=np.bool_)
        kept[self._set_aside.rows] = False
        return np.flatnonzero(kept)


def _slice(batch: Batch, start: int, end: int, first: int) -> Batch:
    if end - start == batch.cases:
        return replace(batch, first=first)
    hashed = None if batch.hashed is None else batch.hashed[start:end]
    return Batch(end - start, {need: column[start:end] for need, column in batch.columns.items()}, first, hashed)


def _joined(batches: Sequence[Batch]) -> Batch:
    columns = {need: parts.joined([batch.columns[need] for batch in batches]) for need in batches[0].columns}
    return Batch(sum(batch.cases for batch in batches), columns)


def _repeats(model: str, wanted: Sequence[Field], piece: long.Piece) -> Batch:
    found = {
        Field(None, "case_id"): piece.columns["case_id"],
        Field(model, "run"): array(long.runs(piece)),
    }
    for need in wanted:
        if need.name in piece.columns:
            found[need] = piece.columns[need.name]
        else:
            found[need] = array(np.zeros(len(piece.rows), dtype=np.int8))
    return Batch(len(piece.rows), found)
