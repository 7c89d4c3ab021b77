"""Deferral curves: what escalating more buys, in the measures the literature uses.

The cases are sorted by confidence and the k least sure ones escalated, for k from 0 to n: quality and cost against
escalation. Cost is sequential: an escalated case pays the cheap call, too. Within a block of equal confidence the order
is arbitrary, so points are averaged over it: straight lines between the block's ends.

References
----------
RouteLLM (arXiv 2406.18665): PGR, APGR, CPT. RouterBench (arXiv 2403.12031): AIQ on the non-decreasing convex hull.
AutoMix (arXiv 2310.12963): IBC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Quality and cost by escalation; arrays of shape (n_cases + 1,).

    Parameters
    ----------
    escalation
        From 0 to 1.
    quality, cost
        Means per case.
    cheap_cost, flagship_cost
        Mean cost of the cheap call alone, without its gate, and of always asking the flagship alone.
    oracle
        Share of cases an oracle would escalate: flagship right, cheap wrong.
    lost
        Share in which the cheap tier is right and the flagship wrong: quality that escalation loses.
    """

    escalation: Floats
    quality: Floats
    cost: Floats
    cheap_cost: float
    flagship_cost: float
    oracle: float
    lost: float

    @property
    def gain(self) -> float:
        """Quality of the flagship minus that of the cheap tier."""
        return float(self.quality[-1] - self.quality[0])


def curve(
    confidence: ArrayLike,
    cheap: ArrayLike,
    flagship: ArrayLike,
    *,
    cheap_cost: ArrayLike = 1.0,
    flagship_cost: ArrayLike = 1.0,
    gate_cost: ArrayLike = 0.0,
) -> Curve:
    """Escalate the least sure cases one after the other.

    Parameters
    ----------
    confidence : array-like of shape (n_cases,)
        Value the gate compares; NaN escalates first.
    cheap, flagship : array-like of shape (n_cases,)
        Quality of each answer from 0 to 1.
    cheap_cost, flagship_cost, gate_cost : array-like of shape (n_cases,) or float
        What each call costs; the gate is paid in every case.

    Examples
    --------
    >>> found = curve([0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1], flagship_cost=10.0)
    >>> found.quality.round(2).tolist(), found.cost.tolist()
    ([0.6, 0.8, 1.0, 0.8, 0.8, 0.8], [1.0, 3.0, 5.0, 7.0, 9.0, 11.0])
    """
    value = np.nan_to_num(np.asarray(confidence, dtype=np.float64), nan=-np.inf)
    n = len(value)
    q_cheap, q_flagship = np.asarray(cheap, dtype=np.float64), np.asarray(flagship, dtype=np.float64)
    c_cheap, c_flagship, c_gate = (
        np.broadcast_to(np.asarray(c, dtype=np.float64), (n,)) for c in (cheap_cost, flagship_cost, gate_cost)
    )
    order = np.argsort(value, kind="stable")
    gained = _even(np.cumsum((q_flagship - q_cheap)[order]), value[order])
    paid = _even(np.cumsum(c_flagship[order]), value[order])
    base = float((c_cheap + c_gate).mean())
    return Curve(
        np.arange(n + 1) / n,
        (q_cheap.sum() + gained) / n,
        base + paid / n,
        float(c_cheap.mean()),
        float(c_flagship.mean()),
        float(np.mean((q_flagship >= 0.5) & (q_cheap < 0.5))),
        float(np.mean((q_flagship < 0.5) & (q_cheap >= 0.5))),
    )


def _even(sums: Floats, ordered: Floats) -> Floats:
    """Put a zero in front of running sums, and make them straight within each block of equal values."""
    padded = np.concatenate([[0.0], sums])
    ends = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]])
    straight: Floats = np.interp(np.arange(len(padded)), ends, padded[ends])
    return straight


def pgr(found: Curve) -> Floats | None:
    """Share of the quality gap recovered at each escalation; None where the flagship is no better.

    Examples
    --------
    >>> made = curve([0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1])
    >>> pgr(made).round(2).tolist()
    [0.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    """
    if found.gain <= 1e-12:
        return None
    recovered: Floats = (found.quality - found.quality[0]) / found.gain
    return recovered


def apgr(found: Curve) -> float | None:
    """Area under `pgr` over escalation from 0 to 1; escalating at random has 0.5.

    Examples
    --------
    >>> round(apgr(curve([0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1])), 3)
    1.1
    """
    recovered = pgr(found)
    return None if recovered is None else float(np.trapezoid(recovered, found.escalation))


def cpt(found: Curve, share: float) -> float | None:
    """Smallest escalation that recovers a share of the quality gap, at the first crossing; None where none does.

    Examples
    --------
    >>> made = curve([0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1])
    >>> round(cpt(made, 0.5), 3), round(cpt(made, 0.8), 3)
    (0.1, 0.16)
    """
    recovered = pgr(found)
    if recovered is None:
        return None
    reached = np.flatnonzero(recovered >= share - 1e-12)
    if not len(reached):
        return None
    k = int(reached[0])
    if k == 0:
        return 0.0
    low, high = recovered[k - 1], recovered[k]
    step = found.escalation[k] - found.escalation[k - 1]
    return float(found.escalation[k - 1] + step * (share - low) / (high - low))


def ibc_lift(found: Curve, escalation: float) -> float | None:
    """Quality bought per dollar by escalating so much, over what always-flagship buys per dollar, minus one.

    Both are counted from the cheap tier alone, without its gate. None where the flagship is no better, or no dearer.

    Examples
    --------
    >>> answers = [0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1]
    >>> round(ibc_lift(curve(*answers, flagship_cost=10.0), 0.4), 2)
    3.5
    >>> round(ibc_lift(curve(*answers, flagship_cost=10.0, gate_cost=1.0), 0.4), 2)
    2.6
    """
    quality = float(np.interp(escalation, found.escalation, found.quality))
    cost = float(np.interp(escalation, found.escalation, found.cost))
    dearer, spent = found.flagship_cost - found.cheap_cost, cost - found.cheap_cost
    if found.gain <= 1e-12 or dearer <= 0 or spent <= 0:
        return None
    base = found.gain / dearer
    return float(((quality - found.quality[0]) / spent - base) / base)


def hull(cost: ArrayLike, quality: ArrayLike) -> tuple[Floats, Floats]:
    """Upper concave envelope of points, flat after its maximum; returns its corners by ascending cost.

    Examples
    --------
    >>> cost, quality = hull([1, 2, 3, 5, 7, 10], [0.6, 0.5, 0.75, 0.8, 0.78, 0.82])
    >>> cost.tolist(), quality.tolist()
    ([1.0, 3.0, 5.0, 10.0], [0.6, 0.75, 0.8, 0.82])
    """
    points = sorted(
        zip(np.asarray(cost, dtype=np.float64).tolist(), np.asarray(quality, dtype=np.float64).tolist(), strict=True)
    )
    corners: list[tuple[float, float]] = []
    for x, y in points:
        while corners and corners[-1][0] == x and corners[-1][1] <= y:
            corners.pop()
        while len(corners) >= 2 and _above(corners[-2], corners[-1], (x, y)):
            corners.pop()
        corners.append((x, y))
    best = max(range(len(corners)), key=lambda i: corners[i][1])
    rising = corners[: best + 1]
    if rising[-1][0] < points[-1][0]:
        rising.append((points[-1][0], rising[-1][1]))
    return np.array([x for x, _ in rising]), np.array([y for _, y in rising])


def _above(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the straight line from first to last passes above, or through, the middle point."""
    return (middle[1] - first[1]) * (last[0] - first[0]) <= (last[1] - first[1]) * (middle[0] - first[0])


def aiq(cost: ArrayLike, quality: ArrayLike) -> float:
    """Mean height of the hull between the smallest and the largest cost.

    Examples
    --------
    >>> round(aiq([1, 2, 3, 5, 7, 10], [0.6, 0.5, 0.75, 0.8, 0.78, 0.82]), 5)
    0.77222
    """
    x, y = hull(cost, quality)
    if x[-1] == x[0]:
        return float(y.max())
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def oracle_gap(found: Curve) -> float | None:
    """Escalation at which the curve first reaches the flagship's quality, minus what an oracle needs; None if never."""
    reached = np.flatnonzero(found.quality >= found.quality[-1] - 1e-12)
    return float(found.escalation[reached[0]] - found.oracle) if len(reached) else None
