"""A small healthy suite and its cases, to be broken in one place at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cascade_eval import runs, suite

CASES = 600
LANGUAGES = ("en", "fr", "de")

BUDGETS = """\
  disagreement:
    overall: at most 5%
    each language: at most 10%
  escalation: {overall: 15% to 40%}
  cost: {overall: at most 60%}
"""

MINI = "{tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}"


OVERALL = "  disagreement: {overall: at most 5%}\n"


def all_of(value, cases=CASES):
    """Return a column of one value."""
    return [value] * cases


def columns(cases=CASES):
    """Return healthy cases as columns: a quarter is escalated, one answer in a hundred disagrees."""
    number = np.arange(cases)
    sure = number % 4 != 3
    wrong = number % 100 == 5
    answer = np.where(number % 2 == 0, "yes", "no").astype(object)
    other = np.where(number % 2 == 0, "no", "yes").astype(object)
    return {
        "case_id": [f"case-{i:04}" for i in range(cases)],
        "language": [LANGUAGES[i % 3] for i in range(cases)],
        "mini.answer": np.where(wrong, other, answer).tolist(),
        "mini.confidence": np.where(sure, 0.9, 0.5) + number % 10 / 100,
        "mini.cost_usd": 0.001 + number % 7 / 10_000,
        "mini.latency_s": 0.2 + number % 5 / 10,
        "mini.status": ["ok"] * cases,
        "flagship.answer": answer.tolist(),
        "flagship.cost_usd": 0.01 + number % 11 / 1_000,
        "flagship.latency_s": 1.0 + number % 5 / 10,
        "flagship.status": ["ok"] * cases,
    }


def every(values, which, value):
    """Return values with some of them replaced."""
    return [value if chosen else old for old, chosen in zip(list(values), which, strict=True)]


def text(budgets=BUDGETS, *, data="cases.parquet", kind="traffic", mini=MINI, cohorts="[language]", more=""):
    """Write the suite."""
    return (
        f"{kind}: {data}\n"
        "cascades:\n"
        "  current:\n"
        f"    - {mini}\n"
        "    - {tier: flagship, model: flagship}\n"
        f"cohorts: {cohorts}\n"
        f"budgets:\n{budgets}{more}"
    )


def write(folder, changes=None, written=None, *, cases=CASES, name="cases.parquet"):
    """Write suite and cases into a folder; return the path of the suite."""
    table = columns(cases)
    table |= {key: change(table) if callable(change) else change for key, change in (changes or {}).items()}
    table = {key: value for key, value in table.items() if value is not None}
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(table), folder / name)
    path = Path(folder) / "made.cascade.yaml"
    path.write_text(text() if written is None else written, encoding="utf-8")
    return path


def judge(folder, changes=None, written=None, *, cases=CASES, **options):
    """Evaluate the suite on the cases."""
    return runs.evaluate(suite.load(write(folder, changes, written, cases=cases)), **options)


def outcomes(evaluation):
    """Return outcome by metric and cohort; what was not measured is called so."""
    return {
        (verdict.metric, *verdict.cohort.values()): "not measured" if verdict.not_measured else verdict.outcome
        for verdict in evaluation.verdicts
    }


def reasons(evaluation):
    """Return the sentence of each verdict by metric and cohort."""
    return {(verdict.metric, *verdict.cohort.values()): verdict.reason for verdict in evaluation.verdicts}


def ends(evaluation, kind, reason):
    """Assert that every verdict ended this way, and the first one for this reason."""
    assert set(outcomes(evaluation).values()) == {kind}
    assert reason in evaluation.verdicts[0].reason
