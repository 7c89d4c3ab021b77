"""What an importer is, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cascade_eval.errors import Problem
    from cascade_eval.importers.calls import Call


@dataclass(frozen=True)
class Importer:
    """How the logs of one tool are read.

    Parameters
    ----------
    name
        Kind of the log, as written in suites and on the command line.
    help
        One sentence.
    records
        From one decoded line or document to the records in it, of any type. Raises `Aside`.
    read
        From one record to its calls, and to everything else that can be looked up in it by a dotted path. A record
        that is no call to a model has none. Raises `Aside`.
    cases
        Dotted paths, tried in order, by the word `case` takes; the first word is the usual one, and its value is in
        `Call.case` already.
    decode
        From the bytes of a line to what `records` takes.
    roles
        Where records name roles and not models: the roles in order. The map then names as many tiers, in that order,
        and `Call.names` are a role and, where it is recorded, the model that served.
    """

    name: str
    help: str
    records: Callable[[Any], Iterable[Any]]
    read: Callable[[Any], tuple[Sequence[Call], Mapping[str, Any]]]
    cases: Mapping[str, tuple[str, ...]]
    decode: Callable[[bytes], Any] = field(default=msgspec.json.decode)
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Records set aside for one reason.

    Parameters
    ----------
    reason
        In words.
    records
        How many.
    first
        The first few, with file, line and what was found.
    """

    reason: str
    records: int
    first: tuple[Problem, ...]


@dataclass(frozen=True)
class Report:
    """What became of every record of a log.

    ``records + second`` is the sum of `calls`, `joined`, `repeated`, `other`, all of `undeclared` and all of `set_aside`.

    Parameters
    ----------
    kind, path
        What was imported.
    records
        Records in the files: spans, payloads, lines, results.
    second
        Second calls of one record: a decision that escalated tells of two.
    calls
        Calls that became part of a case.
    joined
        Records that completed a call: requests of batches, events of spans.
    repeated
        Records delivered twice, or a call recorded again by a second instrumentation around it.
    other
        Records that are no calls to a model that answers: tools, embeddings, spans of a web server.
    undeclared
        Calls by the model they named, where the map does not name it.
    cases, rows
        Cases, and rows in long form.
    merged
        Calls added to an earlier one of the same case and model: retries and further steps.
    set_aside
        Bad records by reason.
    models
        Rows by model.
    unfound
        Path by column that was asked for and that no record has.
    alike
        Name in the map by name in `undeclared` that may be the same model: of another date, or with its provider.
    """

    kind: str
    path: str
    records: int = 0
    second: int = 0
    calls: int = 0
    joined: int = 0
    repeated: int = 0
    other: int = 0
    undeclared: Mapping[str, int] = field(default_factory=dict)
    cases: int = 0
    rows: int = 0
    merged: int = 0
    set_aside: tuple[Reason, ...] = ()
    models: Mapping[str, int] = field(default_factory=dict)
    unfound: Mapping[str, str] = field(default_factory=dict)
    alike: Mapping[str, str] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """How many records were set aside."""
        return sum(reason.records for reason in self.set_aside)
