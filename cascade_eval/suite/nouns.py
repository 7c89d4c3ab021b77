"""What a suite says, once read: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cascade_eval import agreement, budgets
    from cascade_eval.cascade import Cascade
    from cascade_eval.errors import Problem
    from cascade_eval.suite.text import Lines


@dataclass(frozen=True)
class Source:
    """The data a suite judges.

    Parameters
    ----------
    kind
        ``goldens``, frozen and described, or ``traffic``, whatever was recorded.
    path
        As written: a path relative to the suite, a URL, or the SQLAlchemy URL of a query.
    columns
        Foreign column name by our name: ``{"case_id": "request_id"}``.
    importer
        Name of the importer that reads a foreign log; None for our own shapes.
    query
        SQL to run at `path`; None for files.
    case
        Of a log: what a case is; None for the importer's own.
    models
        Of a log: recorded model, or values at dotted paths, by the name it is to have.
    """

    kind: Literal["goldens", "traffic"]
    path: str
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    importer: str | None = None
    query: str | None = None
    case: str | None = None
    models: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class CohortColumn:
    """A column whose values are cohorts.

    Parameters
    ----------
    column
        The column of the traffic.
    at_least
        Cohorts with fewer cases are pooled into ``(other)``; None pools nothing.
    derived
        Cohorts are the hour (00 to 23), the weekday or the ISO week of a time, in UTC.
    """

    column: str
    at_least: int | None = None
    derived: Literal["hour", "weekday", "week"] | None = None

    @property
    def name(self) -> str:
        """What budgets call it: ``language``, or ``hour of decided_at``."""
        return self.column if self.derived is None else f"{self.derived} of {self.column}"


@dataclass(frozen=True)
class Suite:
    """A suite: data, cascades, and what is promised of them.

    Parameters
    ----------
    name
        The file, as shown in ids and messages, with forward slashes.
    base
        Folder that paths in the suite are relative to.
    source
        The data.
    cascades
        In written order.
    budgets
        In written order.
    cohorts
        Columns whose values are cohorts, in written order.
    baseline
        Name of a cascade of this suite, ``git:<ref>``, or the path of an evidence file; None without a baseline.
    history
        Where weeks are kept, for budgets that are watched: a folder relative to the suite, or an SQLAlchemy URL.
    agreement
        As written.
    agreement_rule
        The same, parsed.
    prices
        As written, by model; they go before the price list.
    confidence
        Of each bound, on its own side.
    inconclusive
        Whether an inconclusive verdict fails the run, or only warns.
    coverage
        Smallest share of cases with a known path that can be judged.
    audited
        Smallest share of unescalated cases with a known comparison that can be judged.
    description
        For the report.
    lines
        Where everything stands in the file.
    notes
        What is legal but probably not meant.
    """

    name: str
    base: Path
    source: Source
    cascades: tuple[Cascade, ...]
    budgets: tuple[budgets.Budget, ...]
    cohorts: tuple[CohortColumn, ...] = ()
    baseline: str | None = None
    history: str | None = field(default=None, repr=False)
    agreement: Any = field(default="exact", hash=False)
    agreement_rule: agreement.Rule | None = field(default=None, compare=False)
    prices: Mapping[str, Any] = field(default_factory=dict, hash=False)
    confidence: float = 0.95
    inconclusive: Literal["fail", "warn"] = "fail"
    coverage: float = 0.99
    audited: float = 0.99
    description: str | None = None
    lines: Lines | None = field(default=None, compare=False, repr=False)
    notes: tuple[Problem, ...] = ()

    def cascade(self, name: str) -> Cascade:
        """Return the cascade called `name`; KeyError where there is none."""
        found = {cascade.name: cascade for cascade in self.cascades}
        return found[name]

    def resolve(self, path: str) -> str:
        """Return a path of the suite seen from the working directory; URLs stay as they are."""
        return path if "://" in path else str(self.base / path)
