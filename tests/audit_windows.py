"""Made windows of traffic for audits: every case is known, and so is what the flagship would have said."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cascade_eval import agreement, audit, budgets, costs, metrics, replay, suite, traffic
from cascade_eval.cascade import Cascade, Leaf, Signal, Tier
from cascade_eval.errors import UsageError

GATE = Leaf(Signal("confidence"), threshold=0.8)
CASCADE = Cascade("current", (Tier("mini", "mini", GATE), Tier("flagship", "big")))
LINES = (("overall", "at most 10%"), ("each language", "at most 10%"))


def promised(*lines):
    """Budgets on disagreement."""
    return tuple(
        budgets.Budget("disagreement", budgets.parse_scope(scope), budgets.parse(bound, "rate"))
        for scope, bound in lines or LINES
    )


def table(sizes, disagree=0.0, *, escalated=10, **extra):
    """Cases by language: so many unescalated ones, a share of which disagree, and some escalated ones of each."""
    rows = [(name, number) for name, size in sizes.items() for number in range(size + escalated)]
    kept = np.array([number < sizes[name] for name, number in rows])
    share = disagree if isinstance(disagree, dict) else dict.fromkeys(sizes, disagree)
    wrong = np.array([number < round(share[name] * sizes[name]) for name, number in rows])
    return pa.table(
        {
            "case_id": [f"{name}-{number}" for name, number in rows],
            "language": [name for name, _ in rows],
            "input": [f"question {number}" for _, number in rows],
            "mini.answer": ["yes"] * len(rows),
            "mini.confidence": np.where(kept, 0.9, 0.5),
            "mini.cost_usd": np.full(len(rows), 0.001),
            "big.answer": np.where(wrong, "no", "yes"),
            "big.cost_usd": np.full(len(rows), 0.01),
            **extra,
        }
    )


def seen_in_production(whole):
    """Return the same table as production records it: the flagship answers only what was escalated."""
    kept = whole["mini.confidence"].to_numpy() >= 0.8
    columns = {name: whole[name] for name in whole.column_names}
    for name in ("big.answer", "big.cost_usd"):
        values = columns[name].to_pylist()
        columns[name] = pa.array(
            [None if gone else value for value, gone in zip(values, kept, strict=True)], columns[name].type
        )
    return pa.table(columns)


def window(cases, *, cascade=CASCADE, rule="same label", prices=None, **context):
    """Replay a table or traffic."""
    opened = cases if isinstance(cases, traffic.Traffic) else traffic.from_frame(cases, name="window")
    rules = replay.Rules(agreement.parse(rule), costs.parse(prices or {}))
    return replay.run(cascade, opened.read(), rules, context=metrics.Context((), **context))


def pieces(cases, size, *, cascade=CASCADE, rule="same label"):
    """Replay a table in batches."""
    rules = replay.Rules(agreement.parse(rule), costs.Prices())
    opened = traffic.from_frame(cases, name="window")
    return [replay.run(cascade, batch, rules) for batch in opened.batches(opened.fields, size)]


NOW = dt.datetime(2026, 1, 12, tzinfo=dt.UTC)
SIZES = {"en": 1000, "fr": 300}
PRIOR = {"language=en": 0.03, "language=fr": 0.25}

SUITE = """\
traffic: window.parquet
cascades:
  current:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}
    - {tier: flagship, model: big}
agreement: same label
cohorts: [language]
budgets:
  disagreement: {overall: at most 10%, each language: at most 10%}
"""


def planned(whole, **options):
    return audit.plan(window(whole), promised(), **{"cases": 200, "prior": PRIOR, "now": NOW, **options})


def drawn(whole, plan=None, *, seed=1, **options):
    opened = traffic.from_frame(whole, name="window")
    return audit.sample(plan or planned(whole), window(opened), opened, seed=seed, now=NOW, **options)


def answers(sample, whole, *, missing=0, **changes):
    """Answer the cases of a sample as the flagship does, without the last `missing` ones of each stratum."""
    left = np.zeros(sample.cases, dtype=bool)
    for code in range(len(sample.strata)):
        left[np.flatnonzero(sample.codes == code)[: sample.strata[code].cases - missing]] = True
    chosen = {name for name, keep in zip(sample.ids, left, strict=True) if keep}
    rows = [row for row in whole.to_pylist() if row["case_id"] in chosen]
    keep = ("case_id", "big.answer", "big.cost_usd")
    return traffic.from_records([{name: row[name] for name in keep} | changes for row in rows], name="answers")


def evaluated(cases, text=SUITE):
    found = suite.parse(text, file="s.cascade.yaml", base=Path())
    return suite.evaluate(found, cases)


def refused(call, *parts):
    with pytest.raises(UsageError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
