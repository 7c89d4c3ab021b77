"""Single cases people should look at: flips against a baseline, and the disagreements the gate was surest of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade_eval.report import numbers, sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade_eval.report.panels import CohortKey, Record

TEXT = 600
"""Characters of an answer that are shown."""


@dataclass(frozen=True)
class Disagreement:
    """Two answers to one question, side by side."""

    case_id: str
    question: str | None
    answer: str
    flagship_answer: str
    expected: str | None
    facts: tuple[str, ...]
    right: str


@dataclass(frozen=True)
class FlipTable:
    """Candidate against baseline in one cohort."""

    title: str
    sentence: str
    cases: tuple[tuple[str, str, str, str, str], ...]


def flips(record: Record, *, most: int = 20) -> FlipTable:
    """Put a comparison with the baseline into words, and its first cases into rows."""
    rate = numbers.show(record["difference"], "points")
    bounds = numbers.bounds(record["low"], record["high"], "points").removesuffix(" points")
    tests = [
        f"{label} p {numbers.plain(record[key], 2)}"
        for label, key in (("one-sided", "p_regression"), ("exact", "p_exact"), ("mid", "mid_p"))
        if record[key] is not None
    ]
    said = f"{numbers.count(record['worse'])} got worse and {numbers.count(record['better'])} better of {numbers.count(record['nobs'])} cases"
    said += f": {rate}{f' ({bounds})' if bounds else ''}" if record["difference"] is not None else ""
    cases = tuple(
        (
            case["direction"],
            sentences.clean(case["case_id"]),
            *(_answer(case[key]) for key in ("baseline_answer", "candidate_answer", "flagship_answer")),
        )
        for case in record["cases"][:most]
    )
    return FlipTable(sentences.where(record["cohort"]), f"{said}; {', '.join(tests)}." if tests else f"{said}.", cases)


def choose(cases: Sequence[Record], most: int, failing: set[CohortKey]) -> list[Record]:
    """Return the cases to show, once each, those of failing cohorts first and then as they come."""
    once = {case["case_id"]: case for case in reversed(cases)}
    ordered = [once[case_id] for case_id in dict.fromkeys(case["case_id"] for case in cases)]
    return sorted(ordered, key=lambda case: not any(set(key) <= set(case["cohort"].items()) for key in failing))[:most]


def disagreement(case: Record) -> Disagreement:
    """Set two answers side by side; where neither is there, their text was left out on purpose."""
    absent = "(left out)" if case["answer"] is None and case["flagship_answer"] is None else "(no answer)"
    cohort = [f"{sentences.clean(column)}={sentences.clean(member)}" for column, member in case["cohort"].items()]
    right = {
        "cheap": "cheap tier right",
        "flagship": "flagship right",
        "neither": "neither right",
        "both": "both right",
    }
    return Disagreement(
        case_id=sentences.clean(case["case_id"]),
        question=None if case["input"] is None else _answer(case["input"]),
        answer=_answer(case["answer"], absent),
        flagship_answer=_answer(case["flagship_answer"], absent),
        expected=None if case["expected"] is None else _answer(case["expected"]),
        facts=(f"{sentences.clean(case['tier'])} at {numbers.plain(case['value'])}", *cohort),
        right=right.get(case["right"] or "", ""),
    )


def _answer(text: str | None, absent: str = "–") -> str:
    """Return a text short enough to read, saying how much was left out."""
    if text is None:
        return absent
    shown = sentences.clean(text[:TEXT])
    return shown if len(text) <= TEXT else f"{shown}… ({numbers.count(len(text) - TEXT)} more characters)"
