"""Made windows of traffic for audits: every case is known, and so is what the flagship would have said."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cascade_eval import agreement, budgets, costs, metrics, replay, traffic
from cascade_eval.cascade import Cascade, Leaf, Signal, Tier

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
