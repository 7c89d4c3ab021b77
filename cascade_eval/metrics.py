"""What a budget can be set on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["rate", "ratio", "points", "seconds", "dollars", "days"]


@dataclass(frozen=True)
class Metric:
    """A number a budget can be set on.

    Parameters
    ----------
    name
        As written in a suite.
    unit
        ``rate`` (0 to 100%), ``ratio`` (% that may exceed 100), ``points``, ``seconds``, ``dollars`` or ``days``.
    help
        One sentence: what it is, of what.
    """

    name: str
    unit: Unit
    help: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("escalation", "rate", "Share of resolved cases started below the flagship that the flagship settled."),
        Metric("disagreement", "rate", "Share of unescalated cases whose served answer does not agree with the flagship's."),
        Metric("cost", "ratio", "Cost of every call on the cases' paths, over the cost of always asking the flagship."),
        Metric("cost per request", "dollars", "Mean cost of a case."),
        Metric("cost per completed task", "dollars", "Cost of all steps of all tasks over the number of completed tasks."),
        Metric("savings", "ratio", "One minus cost."),
        Metric("quality", "rate", "Mean score of the served answers, or share equal to what was expected."),
        Metric("retention", "ratio", "Quality of the cascade over quality of always-flagship."),
        Metric("latency p50", "seconds", "Median latency of a case."),
        Metric("latency p95", "seconds", "95th percentile of the latency of a case."),
        Metric("latency p99", "seconds", "99th percentile of the latency of a case."),
        Metric("coverage", "rate", "Share of cases whose path is known."),
        Metric("audited", "rate", "Share of unescalated cases whose comparison with the flagship is known."),
        Metric("unanswered", "rate", "Share of resolved cases the flagship took and failed to answer."),
        Metric("timeouts", "rate", "Share of resolved cases in which a call on the path timed out."),
        Metric("refusals", "rate", "Share of resolved cases in which a call on the path was refused."),
        Metric("regeneration", "rate", "Share of answers after which the user asked again."),
        Metric("break-even margin", "points", "Escalation at which the cascade costs as much as always-flagship, minus escalation."),
        Metric("flips to disagreement", "rate", "Share of cases in which this cascade serves a disagreeing answer and the baseline an agreeing one."),
        Metric("escalation drift", "points", "Escalation minus the baseline's, on the same cases."),
        Metric("flagship self-disagreement", "rate", "Share of repeated cases in which the flagship disagrees with itself."),
        Metric("calibration age", "days", "Days since the calibration in use was fitted."),
        Metric("uncovered traffic", "rate", "Share of cases in cohorts the calibration in use has never seen."),
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
        return Metric(name, "rate", f"Share of the cases reaching {name.removeprefix('escalation from ')} that leave it.")
    return None
