"""What an audit found and what a diagnosis says, as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade_eval.report import numbers, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade_eval.report.panels import Record
    from cascade_eval.report.sentences import State

COHORTS = 40
"""Rows of an audit that are shown."""

_UNITS = {"escalation": "rate", "disagreement": "rate", "cost": "ratio"}
_NAMES = {"cost": "cost, of always-flagship"}


@dataclass(frozen=True)
class AuditRow:
    """One cohort of an audit."""

    name: str
    state: State
    word: str
    bound: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What asking the flagship about unescalated answers showed, and what it cost."""

    cascade: str
    sentence: str
    rows: tuple[AuditRow, ...]
    left: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Treatment:
    """What could be done about a cause."""

    kind: str
    where: str
    message: str
    predicted: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Cause:
    """One thing that is the matter, or is suspected to be."""

    state: State
    name: str
    word: str
    where: str
    test: str
    message: str
    evidence: tuple[str, ...]
    contradicts: tuple[str, ...]
    treatments: tuple[Treatment, ...]


@dataclass(frozen=True)
class Step:
    """One test of the decision tree."""

    name: str
    question: str
    outcome: str
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter with one cascade."""

    cascade: str
    causes: tuple[Cause, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def audit(found: Record | None) -> Audit | None:
    """Show an audit; None where there was none."""
    if found is None:
        return None
    spent = "of unknown cost" if found["usd"] is None else f"for {numbers.show(found['usd'], 'dollars')}"
    saved = "" if found["saved_usd"] is None else f"; the cascade saved {numbers.show(found['saved_usd'], 'dollars')}"
    sentence = (
        f"{numbers.count(found['calls'])} calls {spent}{saved}. The sample was drawn "
        f"{numbers.show(found['age_days'], 'days')} ago."
    )
    left = len(found["rows"]) - COHORTS
    return Audit(
        sentences.clean(found["cascade"]),
        sentence,
        tuple(_audit_row(row) for row in found["rows"][:COHORTS]),
        f"{numbers.count(left)} more cohorts are in the evidence." if left > 0 else "",
        tuple(sentences.clean(note) for note in found["notes"]),
    )


def _audit_row(row: Record) -> AuditRow:
    estimate = row["estimate"]
    state: State = "none" if row["outcome"] is None else sentences.state(row)
    counts = (numbers.count(row[name]) for name in ("unescalated", "sampled", "answered", "disagreed"))
    rate = numbers.show(estimate["value"], "rate") if estimate["value"] is not None else "–"
    bounds = numbers.bounds(estimate["low"], estimate["high"], "rate") or sentences.clean(estimate["reason"] or "")
    word = "nothing promised" if row["outcome"] is None else sentences.WORDS[state]
    return AuditRow(
        sentences.where(row["cohort"]), state, word, sentences.clean(row["bound"] or ""), (*counts, rate, bounds)
    )


def diagnosis(found: Mapping[str, Any]) -> Diagnosis:
    """Show what is the matter with one cascade."""
    return Diagnosis(
        sentences.clean(found["cascade"]),
        tuple(_cause(cause) for cause in found["causes"]),
        tuple(
            Step(*(sentences.clean(step[key]) for key in ("name", "question", "outcome", "message")))
            for step in found["steps"]
        ),
        _texts(found["notes"]),
    )


def _cause(cause: Record) -> Cause:
    state: State = "fail" if cause["conclusive"] else "inconclusive"
    if cause["name"] in {"healthy", "not enough evidence"}:
        healthy = cause["name"] == "healthy" and cause["conclusive"]
        state = "pass" if healthy else "missing"
    return Cause(
        state,
        sentences.clean(cause["name"]),
        "conclusive" if cause["conclusive"] else "suspected",
        _where(cause["cohorts"]),
        sentences.clean(cause["test"]),
        sentences.clean(cause["message"]),
        _texts(cause["evidence"]),
        _texts(cause["contradicts"]),
        tuple(_treatment(treatment) for treatment in cause["treatments"]),
    )


def _treatment(treatment: Record) -> Treatment:
    return Treatment(
        sentences.clean(treatment["kind"]),
        _where(treatment["cohorts"]),
        sentences.clean(treatment["message"]),
        tuple(_predicted(name, values) for name, values in treatment["predicted"].items()),
        _texts(treatment["steps"]),
    )


def _predicted(name: str, values: list[float | None]) -> tuple[str, str]:
    value, low, high = (*values, None, None, None)[:3]
    unit = _UNITS.get(name)
    if unit is None:
        return sentences.clean(name), numbers.plain(value)
    bounds = numbers.bounds(low, high, unit)
    return _NAMES.get(name, name), f"{numbers.show(value, unit)}{f' ({bounds})' if bounds else ''}"


def _where(cohorts: list[str]) -> str:
    return sentences.clean(", ".join(cohorts)) or "the whole cascade"


def _texts(texts: list[str]) -> tuple[str, ...]:
    return tuple(sentences.clean(text) for text in texts)
