"""Fitting a calibration for a gate of a suite, and saying what it is worth."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cascade_eval import calibration, signals
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.proposals import gates
from cascade_eval.suite import sketches
from cascade_eval.suite.survey import folds

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

    Floats = NDArray[np.float64]

KINDS = ("platt", "isotonic", "hierarchical")


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted map, where it comes from, and what it changes.

    Parameters
    ----------
    stored
        The map with data, date, signal, models and cohorts, as it is saved.
    cascade, tier
        Whose gate.
    nobs
        Cases it was fitted on.
    gated
        Cases at the gate that stand for it.
    brier_before, brier_after
        Mean squared distance between value and agreement; before is None where the signal is no probability, after is
        out of fold.
    auroc_before, auroc_after
        How well the value ranks; None where all cases are of one kind. After is out of fold where the map differs by
        cohort, and the map's own where it does not.
    notes
        What it can and cannot change.
    """

    stored: calibration.Stored
    cascade: str
    tier: str
    nobs: int
    gated: int
    brier_before: float | None
    brier_after: float
    auroc_before: float | None
    auroc_after: float | None
    notes: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the map to a file that `calibrate:` of a gate may name."""
        one = self.stored
        return calibration.save(
            path,
            one.map,
            data_sha256=one.data_sha256,
            created_at=one.created_at,
            signal=one.signal,
            models=one.models,
            columns=one.columns,
            cohorts=one.cohorts,
            cases=one.cases,
        )


def calibrate(
    suite: Suite,
    traffic: Traffic,
    *,
    kind: Literal["platt", "isotonic", "hierarchical"],
    cascade: str | None = None,
    tier: str | None = None,
    per: Sequence[str] = (),
    now: dt.datetime | None = None,
) -> Calibration:
    """Fit a map from a gate's raw signal to the probability of agreement, on the cases that reach the gate.

    Parameters
    ----------
    suite
        Cascades and agreement; its budgets, baseline and calibrations of this gate are not looked at.
    traffic
        Cases with the flagship's answers.
    kind
        As for `calibration.fit`.
    cascade, tier
        Whose gate; the first cascade and its only gated tier unless given.
    per
        Cohort columns. ``hierarchical`` differs by them and needs them; the others only remember which were seen.
    now
        When it is made; the present by default.

    Returns
    -------
    Calibration

    Raises
    ------
    UsageError
        Unknown names, or data nothing can be fitted on.

    Examples
    --------
    >>> from cascade_eval import runs
    >>> from cascade_eval.suite import load
    >>> found = load("suites/digits.cascade.yaml")
    >>> made = calibrate(found, runs.open(found).traffic, kind="platt")
    >>> made.brier_after < made.brier_before, made.auroc_before == made.auroc_after
    (True, True)
    """
    if kind not in KINDS:
        raise UsageError(f"'{kind}' is not a calibration.{did_you_mean(kind, KINDS)}")
    if kind == "hierarchical" and not per:
        raise UsageError("a hierarchical calibration differs by cohort: say by which column, such as '--per language'.")
    at = gates.at(suite, traffic, cascade, tier, per, raw=True)
    raw = at.compared.astype(np.float64)
    fits = at.frame & (at.agrees >= 0) & ~np.isnan(raw)
    if not fits.any():
        message = f"no case at the gate of '{at.tier.name}' has both the signal and a comparison with the flagship"
        raise DataError([Problem(message, traffic.name)])
    codes = at.columns.codes(tuple(per))
    names = [" · ".join(member) for member in codes.members]
    values, agrees, weight = raw[fits], at.agrees[fits], at.stands[fits]
    groups = (codes.codes[fits], names) if kind == "hierarchical" else None
    fold = folds(at.columns)[fits]
    surer = signals.surer(at.leaf.signal)
    found = calibration.fit(kind, values, agrees, cohorts=groups, sample_weight=weight, surer=surer)
    apart = _out_of_fold(kind, values, agrees, fold, groups, weight, surer)
    ranked = apart if kind == "hierarchical" else found.apply(values)
    plain = found.scale == "probability"
    raw_value = values if surer == "higher" else 1 - values
    seen = sorted(names[k] for k in np.unique(codes.codes[fits])) if per else []
    stored = calibration.Stored(
        found,
        traffic.sha256(),
        now or dt.datetime.now(dt.UTC),
        str(at.leaf.signal),
        (at.tier.model, at.cascade.flagship.model),
        tuple(per),
        tuple(seen),
        sketches.of(traffic, at.leaf.signal, at.tier.model),
    )
    return Calibration(
        stored,
        at.cascade.name,
        at.tier.name,
        int(fits.sum()),
        int(at.frame.sum()),
        calibration.brier(agrees, raw_value, sample_weight=weight) if plain else None,
        calibration.brier(agrees, apart, sample_weight=weight),
        _auroc(agrees, values if surer == "higher" else -values, weight),
        _auroc(agrees, ranked, weight),
        _notes(found, int(fits.sum()), int(at.frame.sum()), suite.audited),
    )


def _out_of_fold(
    kind: Literal["platt", "isotonic", "hierarchical"],
    values: Floats,
    agrees: NDArray[np.int8],
    fold: NDArray[np.int64],
    groups: tuple[NDArray[np.int64], list[str]] | None,
    weight: Floats,
    surer: Literal["higher", "lower"],
) -> Floats:
    """Calibrate each case by a map that has not seen it."""
    _, fold = np.unique(fold, return_inverse=True)
    if fold.max() == 0:
        raise DataError("a calibration is checked out of fold, and these cases all belong to one fold; more are needed")
    maps = calibration.out_of_fold(kind, values, agrees, folds=fold, cohorts=groups, sample_weight=weight, surer=surer)
    found = np.full(len(values), np.nan)
    for k, one in enumerate(maps):
        mine = fold == k
        found[mine] = one.apply(values[mine], None if groups is None else (groups[0][mine], groups[1]))
    return found


def _auroc(agrees: NDArray[np.int8], values: Floats, weight: Floats) -> float | None:
    if agrees.min() == agrees.max():
        return None
    return calibration.auroc(agrees, values, sample_weight=weight)


def _notes(found: calibration.Map, nobs: int, gated: int, audited: float) -> tuple[str, ...]:
    notes = []
    if found.kind == "hierarchical":
        notes.append("The map differs by cohort, so it can change who escalates at a given rate.")
    else:
        notes.append(
            "A single monotone map keeps the ranking: it cannot change who escalates at a given rate. It gives the "
            "threshold a meaning."
        )
    if found.inverted:
        notes.append("Surer values agree less here, so the map is flat: the signal is wrong, and no scale mends it.")
    if found.kind == "isotonic" and nobs < 1_000:
        notes.append(f"{nobs:,} cases are few for isotonic, which needs about 1,000; platt is steadier.")
    if nobs < audited * gated:
        notes.append(
            f"{nobs:,} of {gated:,} cases at the gate have signal and comparison: the map is wrong for the others if they "
            "differ."
        )
    notes.append("It was fitted on these cases and proves nothing about them: judge it on others.")
    return tuple(notes)
