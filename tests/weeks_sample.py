"""Traffic of a few weeks, a suite that watches it, and a history of earlier weeks."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_eval import history, monitor, runs, suite, traffic
from cascade_eval.monitor import Row

WATCHED = "  disagreement: {overall: 'at most 10%, watched weekly', each language: 'at most 20%, watched weekly'}\n"

CALM = {"en": (60, 2), "fr": (60, 3)}
BAD = {"en": (60, 2), "fr": (60, 40)}
"""A week: unescalated cases by language, and how many of them disagree."""


def text(budgets=WATCHED, *, more="", cascade="current", cohorts="[language]"):
    """Write a suite."""
    return (
        "traffic: cases.parquet\n"
        "cascades:\n"
        f"  {cascade}:\n"
        "    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}\n"
        "    - {tier: flagship, model: flagship}\n"
        f"cohorts: {cohorts}\nbudgets:\n{budgets}{more}"
    )


def monday(week):
    """Return when an ISO week of 2026 begins."""
    return dt.datetime.fromisocalendar(2026, week, 1).replace(tzinfo=dt.UTC)


def columns(weeks):
    """Make cases of weeks: each unescalated case given, and one escalated case for three of them."""
    rows = []
    for week, languages in weeks.items():
        for language, (kept, wrong) in languages.items():
            for i in range(kept + kept // 3):
                sure = i < kept
                when = monday(week) + dt.timedelta(minutes=i * 7 * 24 * 60 / (kept + kept // 3))
                rows.append((language, when, "no" if i < wrong else "yes", 0.9 if sure else 0.5))
    language, when, answer, confidence = zip(*rows, strict=True)
    return {
        "case_id": [f"case-{i:05}" for i in range(len(rows))],
        "language": list(language),
        "decided_at": list(when),
        "mini.answer": list(answer),
        "mini.confidence": list(confidence),
        "mini.cost_usd": [0.001] * len(rows),
        "flagship.answer": ["yes"] * len(rows),
        "flagship.cost_usd": [0.01] * len(rows),
    }


def cases(folder, weeks, changes=None):
    """Write cases.parquet; a change of None leaves a column out."""
    table = columns(weeks) | (changes or {})
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), Path(folder) / "cases.parquet")


def write(folder, weeks, written=None, *, name="made", changes=None):
    """Write a suite with its cases; return its path."""
    cases(folder, weeks, changes)
    path = Path(folder) / f"{name}.cascade.yaml"
    path.write_text(text() if written is None else written, encoding="utf-8")
    return path


def remember(folder, weeks, *, name="made", cascade="current", into="history"):
    """Put weeks into a history, as the command `monitor` does."""
    there = Path(folder) / "before"
    there.mkdir(exist_ok=True)
    found = suite.load(write(there, weeks, text(cascade=cascade), name=name))
    return history.write(Path(folder) / into, monitor.weekly(found, traffic.open(str(there / "cases.parquet"))))


def judge(folder, weeks, written=None, **options):
    """Evaluate a suite on these weeks."""
    return runs.evaluate(suite.load(write(folder, weeks, written, **options)))


def outcomes(evaluation):
    """Return the outcome of each disagreement verdict by cohort."""
    return {
        monitor.label(tuple(v.cohort.items())): "not measured" if v.not_measured else v.outcome
        for v in evaluation.verdicts
        if v.metric == "disagreement"
    }


HISTORY = text(more="history: history\n")
CALM_WEEKS = dict.fromkeys(range(20, 30), CALM)


def silent(folder, how):
    """Prepare one way in which weeks are lost; return the suite's text and changes of its cases."""
    remember(folder, CALM_WEEKS, name="other" if how == "another suite" else "made")
    if how == "empty":
        return text(more="history: nothing\n"), {}
    if how == "unreadable":
        next((folder / "history").glob("*.parquet")).write_bytes(b"PAR1 this is no Parquet")
    if how == "a file":
        (folder / "file").write_text("")
        return text(more="history: file\n"), {}
    if how == "no time":
        return HISTORY, {"decided_at": None}
    if how == "some without time":
        times = columns({30: CALM})["decided_at"]
        return HISTORY, {"decided_at": pa.array([None, *times[1:]], pa.timestamp("us", "UTC"))}
    if how == "another cascade":
        return text(more="history: history\n", cascade="renamed"), {}
    return HISTORY, {}


def many(cohorts=60, windows=70):
    """Make rows of many cohorts over many weeks; the last cohort, a small one, is over its budget at the end."""
    names = [(), *((("language", f"l{i:02}"),) for i in range(cohorts))]
    for week in range(windows):
        window = f"{2025 + week // 52}-W{week % 52 + 1:02}"
        for number, cohort in enumerate(names):
            bad = number == cohorts and week >= windows - 2
            n = 600 if not cohort else 60 - number // 2
            x = n // 2 if bad else n // 20
            yield Row(
                "made", "current", "production", window, cohort, cases=n, decisions=n, kept=n, compared=n, disagreed=x,
                disagreement=x / n, least=x, least_size=n, most=x, most_size=n,
            )  # fmt: skip
