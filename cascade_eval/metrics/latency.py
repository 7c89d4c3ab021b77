"""Latency quantiles from histograms, tested by exact counts at the budget."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.basis import Slower
from cascade_eval.counts import latency_edges
from cascade_eval.metrics.nouns import blank
from cascade_eval.metrics.parts import path_reasons, short
from cascade_eval.verdicts import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Context


def latency(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Estimate a quantile of the seconds a case took."""
    share = {"latency p50": 0.5, "latency p95": 0.05, "latency p99": 0.01}[name]
    from scipy.stats import binom

    reasons = path_reasons(counts, context)
    nobs = counts["latency.known"].sum(axis=1)
    # Ranks of the order statistics between which the quantile lies.
    first = binom.ppf(1 - context.confidence, nobs, 1 - share)
    last = binom.ppf(context.confidence, nobs, 1 - share) + 1
    out = []
    for i, reason in enumerate(reasons):
        known, unknown = counts["latency.known"][i].tolist()
        if reason is None and short(known, known + unknown, context.coverage):
            reason = f"latency is known for {known:,} of {known + unknown:,} cases, below {context.coverage:.0%}"  # noqa: PLW2901  the more special reason
        if reason or known == 0:
            out.append(blank(name, "seconds", reason or "no latency was recorded"))
            continue
        slower = dict(zip(context.limits, counts["slower"][i].tolist(), strict=True))
        out.append(_quantile(name, counts["latency"][i], (known, unknown), share, slower, (first[i], last[i])))
    return out


@functools.cache
def _buckets() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower edge and geometric middle of each bucket, in seconds."""
    low, high = latency_edges()
    return low, np.sqrt(np.maximum(low, 1e-9) * high)


def _quantile(
    name: str,
    bins: NDArray[np.int64],
    cases: tuple[int, int],
    share: float,
    slower: Mapping[float, int],
    ranks: tuple[float, float],
) -> Estimate:
    """Read a quantile and its order-statistic bounds off the histogram; test it by exact counts at the budget.

    Cases with an unknown latency may be the slowest and may be the fastest ones: they widen both sides.
    """
    known, unknown = cases
    low_edge, middle = _buckets()
    cumulated = np.cumsum(bins)

    def at(rank: float) -> float:
        return float(middle[min(int(np.searchsorted(cumulated, rank)), len(bins) - 1)])

    def count(limit: float) -> float:
        if limit in slower:
            return slower[limit]
        return float(bins[int(np.searchsorted(low_edge, limit, side="right")) :].sum())

    below, over = ranks[0] - unknown, ranks[1]
    return Estimate(
        name,
        at((1 - share) * known),
        at(below) if below >= 1 else 0.0,
        at(over) if over <= known else np.inf,
        None,
        known,
        "histogram of 0.8% buckets, counted exactly at the budget",
        "seconds",
        basis=Slower(count, known, share, unknown),
    )
