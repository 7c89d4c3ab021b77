"""The metrics by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_eval.metrics import comparisons, latency, rates, ratios
from cascade_eval.metrics.nouns import Metric, blank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Context
    from cascade_eval.verdicts import Estimate

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "escalation",
            "rate",
            "Share of resolved cases started below the flagship that the flagship settled.",
            rates.escalation,
        ),
        Metric(
            "disagreement",
            "rate",
            "Share of unescalated cases whose served answer does not agree with the flagship's.",
            rates.disagreement,
        ),
        Metric(
            "cost",
            "ratio",
            "Cost of every call on the cases' paths, over the cost of always asking the flagship.",
            ratios.cost,
        ),
        Metric("cost per request", "dollars", "Mean cost of a case.", ratios.cost),
        Metric(
            "cost per completed task",
            "dollars",
            "Cost of all steps of all tasks over the number of completed tasks.",
            ratios.tasks,
        ),
        Metric("savings", "ratio", "One minus cost.", ratios.cost),
        Metric(
            "quality", "rate", "Mean score of the served answers, or share equal to what was expected.", ratios.quality
        ),
        Metric("retention", "ratio", "Quality of the cascade over quality of always-flagship.", ratios.retention),
        Metric("latency p50", "seconds", "Median latency of a case.", latency.latency),
        Metric("latency p95", "seconds", "95th percentile of the latency of a case.", latency.latency),
        Metric("latency p99", "seconds", "99th percentile of the latency of a case.", latency.latency),
        Metric("coverage", "rate", "Share of cases whose path is known.", rates.coverage),
        Metric(
            "audited", "rate", "Share of unescalated cases whose comparison with the flagship is known.", rates.audited
        ),
        Metric(
            "unanswered", "rate", "Share of resolved cases the flagship took and failed to answer.", rates.unanswered
        ),
        Metric("timeouts", "rate", "Share of resolved cases in which a call on the path timed out.", rates.timeouts),
        Metric("refusals", "rate", "Share of resolved cases in which a call on the path was refused.", rates.refusals),
        Metric("regeneration", "rate", "Share of answers after which the user asked again.", rates.regeneration),
        Metric(
            "break-even margin",
            "points",
            "Escalation at which the cascade costs as much as always-flagship, minus escalation.",
            ratios.break_even,
        ),
        Metric(
            "flips to disagreement",
            "rate",
            "Share of cases in which this cascade serves a disagreeing answer and the baseline an agreeing one.",
            comparisons.flips,
        ),
        Metric("escalation drift", "points", "Escalation minus the baseline's, on the same cases.", comparisons.drift),
        Metric(
            "flagship self-disagreement",
            "rate",
            "Share of repeated cases in which the flagship disagrees with itself.",
            comparisons.self_disagreement,
        ),
        Metric("calibration age", "days", "Days since the calibration in use was fitted.", comparisons.fact),
        Metric("audit age", "days", "Days since the newest audited case was decided.", comparisons.fact),
        Metric(
            "uncovered traffic",
            "rate",
            "Share of cases in cohorts the calibration in use has never seen.",
            comparisons.uncovered,
        ),
    )
}


def find(name: str, tiers: tuple[str, ...] = ()) -> Metric | None:
    """Return the metric called `name`, None where there is none; `escalation from <tier>` exists for each tier.

    Examples
    --------
    >>> find("escalation from mini", ("mini",)).unit
    'rate'
    >>> find("eskalation") is None
    True
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith("escalation from ") and name.removeprefix("escalation from ") in tiers:
        return Metric(
            name,
            "rate",
            f"Share of the cases reaching {name.removeprefix('escalation from ')} that leave it.",
            rates.escalation,
        )
    return None


def estimates(metric: Metric, counts: Counts, context: Context) -> list[Estimate]:
    """Estimate one metric for every member of a family.

    Parameters
    ----------
    metric
        From `find`.
    counts
        Of one cascade.
    context
        Names, floors and confidence.

    Returns
    -------
    list of Estimate
        In the order of ``counts.members``. What could not be measured has no value, a reason, and `blocked` set.
    """
    if metric.name in context.problems:
        return [blank(metric.name, metric.unit, context.problems[metric.name]) for _ in counts.members]
    assert metric.compute is not None
    return metric.compute(metric.name, counts, context)


def names(tiers: Sequence[str]) -> list[str]:
    """Every metric of a cascade with these tiers, in the order in which reports show them."""
    return [*METRICS, *(f"escalation from {tier}" for tier in tiers[:-1])]
