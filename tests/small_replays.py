"""Cascades of two and three tiers, and cases written by hand, for tests whose figures can be worked out on paper."""

from __future__ import annotations

from cascade_eval import agreement, costs, replay, traffic
from cascade_eval.cascade import Cascade, Leaf, Signal, Tier

CONFIDENCE = Signal("confidence")
RULES = replay.Rules(agreement.parse("exact"), costs.Prices())


def gate(threshold, **options):
    return Leaf(CONFIDENCE, threshold=threshold, **options)


def two(threshold=0.5, **options):
    """Return mini in front of the flagship."""
    return Cascade("small", (Tier("mini", "mini", gate(threshold), **options), Tier("top", "flagship")))


def three(first, second):
    """Return mini and medium in front of the flagship."""
    return Cascade(
        "small",
        (Tier("mini", "mini", gate(first)), Tier("medium", "medium", gate(second)), Tier("top", "flagship")),
    )


def case(number, confidence, *, agrees=True, case=None, mini=None, flagship=None):
    """Return one case: what mini was worth, whether it agrees, and what else was recorded."""
    return {
        "case_id": f"case-{number:>04}",
        **(case or {}),
        "models": {
            "mini": {"answer": "a" if agrees else "b", "confidence": confidence, **(mini or {})},
            "flagship": {"answer": "a", **(flagship or {})},
        },
    }


def replayed(cases, cascade=None, *, rules=RULES, baseline=None, **options):
    """Replay a cascade, and the baseline where there is one, on cases written as dictionaries."""
    columns = replay.Columns(traffic.from_records(cases).read(), rules)
    before = None if baseline is None else replay.run(baseline, columns, rules)
    return replay.run(cascade or two(), columns, rules, baseline=before, **options)
