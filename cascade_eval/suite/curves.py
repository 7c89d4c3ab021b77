"""Curves of evidence: what every threshold would do, and how well each gate's value predicts agreement."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval import calibration, thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.suite.counting import Plan
    from cascade_eval.suite.judged import Cell, Judged
    from cascade_eval.thresholds import Edges, Place, Sweep

POINTS, POINTS_EACH = 201, 51
"""Most points of a sweep in evidence, of all cases and of each cohort."""


@dataclass(eq=False)
class Drawn:
    """Curves of a suite's cascades; what cascades share that differ in one threshold only is drawn once.

    Parameters
    ----------
    plan
        What was counted.
    """

    plan: Plan
    _kept: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def sweep(self, cell: Cell, judged: Judged) -> Iterator[dict[str, Any]]:
        """Yield the points of one cohort's sweeps."""
        most = POINTS_EACH if cell.family else POINTS
        for place, tried in self._places(judged):
            if f"sweep.{place.name}" not in cell.counts or not len(tried.values):
                continue
            key = self._key("sweep", cell, judged, place)
            if key not in self._kept:
                curve = thresholds.read(cell.counts, cell.place, place, tried, confidence=None)
                self._kept[key] = curve, dict[int, dict[str, Any]]()
            curve, points = self._kept[key]
            for i in thinned(curve.thresholds, place.leaf.threshold, most):
                if i not in points:
                    points[i] = _point(cell, place, curve, i)
                yield points[i]

    def calibration(self, cell: Cell, judged: Judged) -> Iterator[dict[str, Any]]:
        """Describe how well each gate's value predicts agreement in one cohort, from counts by bin."""
        for place, tried in self._places(judged):
            if f"reliability.{place.name}" not in cell.counts:
                continue
            key = self._key("calibration", cell, judged, place)
            if key not in self._kept:
                self._kept[key] = _described(cell, place, tried, judged.context.confidence)
            if self._kept[key] is not None:
                yield self._kept[key]

    def _places(self, judged: Judged) -> Iterator[tuple[Place, Edges]]:
        for place in thresholds.places(judged.cascade):
            tried = self.plan.tried.get((judged.cascade.name, place.name))
            if tried is not None:
                yield place, tried

    def _key(self, kind: str, cell: Cell, judged: Judged, place: Place) -> tuple[Any, ...]:
        name = judged.cascade.name
        # Variants have the tables of one sweep in common, whatever they call their tiers.
        owner = self._groups.get(name, name)
        return (kind, owner, cell.family, cell.member, place.name, place.tier.name, str(place.leaf.signal))

    @functools.cached_property
    def _groups(self) -> dict[str, int]:
        return {cascade.name: i for i, group in enumerate(self.plan.variants) for cascade in group.cascades}


def _point(cell: Cell, place: Place, curve: Sweep, i: int) -> dict[str, Any]:
    return {
        "cohort": cell.cohort,
        "thresholds": {place.tier.name: float(curve.thresholds[i])},
        "escalation": finite(curve.escalation[i]),
        "disagreement": finite(curve.disagreement[i]),
        "cost": finite(curve.cost[i]),
        "quality": finite(curve.quality[i]),
        "cases_kept": round(curve.kept[i]),
    }


def thinned(values: np.ndarray[Any, Any], operating: float | None, most: int) -> list[int]:
    """Positions of at most so many thresholds, evenly spread, the ends and the operating one among them."""
    if len(values) <= most:
        return list(range(len(values)))
    spread = np.unique(np.rint(np.linspace(0, len(values) - 1, most - 1)).astype(int)).tolist()
    at = np.flatnonzero(values == operating).tolist() if operating is not None else []
    return sorted({*spread, *at})


def _described(cell: Cell, place: Place, tried: Edges, confidence: float) -> dict[str, Any] | None:
    nobs, agree, total = cell.counts[f"reliability.{place.name}"][cell.place].T
    some = nobs > 0
    if not some.any():
        return None
    value = total[some] / nobs[some]
    recipe = place.leaf.calibrate
    return {
        "tier": place.tier.name,
        "signal": str(place.leaf.signal),
        "recipe": None if recipe is None else recipe.kind,
        "cohort": cell.cohort,
        **_scores(
            -value if place.leaf.surer == "lower" else value,
            nobs[some],
            agree[some],
            confidence,
            complete=tried.complete,
        ),
    }


def _scores(
    value: np.ndarray[Any, Any],
    nobs: np.ndarray[Any, Any],
    agree: np.ndarray[Any, Any],
    confidence: float,
    *,
    complete: bool,
) -> dict[str, Any]:
    """Score binned values: each bin is two weighted points, its agreeing and its disagreeing cases."""
    y_true = np.concatenate([np.ones(len(value)), np.zeros(len(value))])
    y_score = np.concatenate([value, value])
    weight = np.concatenate([agree, nobs - agree])
    used = weight > 0
    y_true, y_score, weight = y_true[used], y_score[used], weight[used]
    probability = bool(np.all((y_score >= 0) & (y_score <= 1)))
    both = 0 < y_true @ weight < weight.sum()
    diagram = calibration.reliability(y_true, y_score, bins=10, confidence=confidence, sample_weight=weight)
    found: dict[str, Any] = {
        "nobs": round(float(weight.sum())),
        "auroc": finite(calibration.auroc(y_true, y_score, sample_weight=weight)) if both else None,
        "note": None if complete else "computed from a thousand bins of the value",
        "bins": [
            {
                "low": float(diagram.low[i]),
                "high": float(diagram.high[i]),
                "nobs": round(float(diagram.nobs[i])),
                "mean": finite(diagram.mean[i]),
                "agree": finite(diagram.agree[i]),
                "bound_low": finite(diagram.bound_low[i]),
                "bound_high": finite(diagram.bound_high[i]),
            }
            for i in range(len(diagram.nobs))
        ],
    }
    if not probability:
        found["note"] = "not a probability: calibrate it before reading its value as one"
        return found
    z, p = calibration.spiegelhalter(y_true, y_score, sample_weight=weight)
    return {
        **found,
        "brier": finite(calibration.brier(y_true, y_score, sample_weight=weight)),
        "log_loss": finite(calibration.log_loss(y_true, y_score, sample_weight=weight)),
        "debiased_error": finite(calibration.debiased_error(y_true, y_score, sample_weight=weight)),
        "ece": finite(calibration.ece(y_true, y_score, binning="equal-mass", sample_weight=weight)),
        "spiegelhalter_z": finite(z),
        "spiegelhalter_p": finite(p),
    }


def finite(value: Any) -> float | None:
    """Return a number JSON can say; None for what is none."""
    if value is None:
        return None
    plain = float(value)
    return plain if math.isfinite(plain) else None
