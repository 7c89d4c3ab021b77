"""A first look at the signals, before anything is counted.

Three things have to be known before the counting pass: the threshold that `escalate: 30%` stands for, the calibration
maps that recipes fit out of fold, and the thresholds a sweep tries. All three need the gated signals alone, so only
their columns are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import agreement, calibration, cohorts, signals, thresholds
from cascade_eval.cascade import AnyOf, Leaf, Tier, leaves
from cascade_eval.errors import DataError, Problem
from cascade_eval.replay import Columns
from cascade_eval.suite import scales, sketches
from cascade_eval.traffic import OK, Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Gate
    from cascade_eval.replay import Rules
    from cascade_eval.traffic import Traffic

FOLDS: Final = 5
"""Parts for fitting out of fold."""

MOSTLY: Final = 0.5
"""A map that was fitted on so many of the judged cases says about them what it was told."""

_DISTINCT: Final = 100_000
"""Most distinct values remembered per signal; above it neighbours are merged, keeping how many cases they stand for."""


@dataclass(frozen=True)
class OutOfFold:
    """Calibrates each case by a map that was fitted without its fold.

    Parameters
    ----------
    maps
        One per fold, or a single one for every case.
    per
        Cohort columns the maps may differ by.
    known
        Cohorts the data of a stored map had; None for a recipe, which sees all of them.
    """

    maps: tuple[calibration.Map, ...]
    per: tuple[str, ...] = ()
    known: frozenset[str] | None = None

    def uncovered(self, columns: Columns) -> NDArray[np.bool_]:
        """Where a case belongs to a cohort that a stored map's data did not have, shape (n_cases,)."""
        keys = _keys(columns, self.per)
        if self.known is None or keys is None:
            return np.zeros(columns.batch.cases, dtype=np.bool_)
        new = np.array([name not in self.known for name in keys[1]], dtype=np.bool_)
        found: NDArray[np.bool_] = new[keys[0]]
        return found

    def __call__(self, columns: Columns, raw: NDArray[np.floating]) -> NDArray[np.floating]:
        """Calibrate the raw values of a batch, shape (n_cases,)."""
        keys = _keys(columns, self.per)
        if len(self.maps) == 1:
            return _applied(self.maps[0], raw, keys)
        fold = folds(columns)
        found = np.full(len(raw), np.nan)
        for k, fitted in enumerate(self.maps):
            mine = fold == k
            found[mine] = _applied(fitted, raw[mine], None if keys is None else (keys[0][mine], keys[1]))
        return found


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What the first look found.

    Parameters
    ----------
    cascades
        The cascades with every threshold filled in.
    calibrated
        Calibration maps by ``(cascade, tier, leaf position)``.
    tried
        Thresholds to sweep by ``(cascade, place)``.
    found
        Thresholds that stand for ``escalate:``, by ``(cascade, tier, leaf position)``.
    stored
        Stored calibrations in use, by file.
    spreads
        Where the raw values of each gate lie, by ``(cascade, tier, leaf position)``.
    """

    cascades: tuple[Cascade, ...]
    calibrated: Mapping[tuple[str, str, int], OutOfFold] = field(default_factory=dict)
    tried: Mapping[tuple[str, str], thresholds.Edges] = field(default_factory=dict)
    found: Mapping[tuple[str, str, int], float] = field(default_factory=dict)
    stored: Mapping[str, calibration.Stored] = field(default_factory=dict)
    spreads: Mapping[scales.Key, scales.Spread] = field(default_factory=dict)


def folds(columns: Columns) -> NDArray[np.int64]:
    """Fold of each case by keyed hash of its cluster, or of its id, so that dependent cases stay together."""
    hashed = columns.hashes("cluster" if columns.batch.has(None, "cluster") else "case_id")
    keyed = (hashed ^ np.uint64(0x5DEECE66D)) * np.uint64(0xD6E8FEB86659FD93)
    return ((keyed >> np.uint64(40)) % np.uint64(FOLDS)).astype(np.int64)


def survey(cascades: Sequence[Cascade], traffic: Traffic, rules: Rules, *, base: Path, sweep: bool = True) -> Surveyed:
    """Look at the gated signals once.

    Parameters
    ----------
    cascades
        All that will be replayed, baselines included.
    traffic
        The data.
    rules
        Agreement, for fitting calibrations.
    base
        Folder of stored calibrations.
    sweep
        Whether thresholds for a sweep are wanted.

    Raises
    ------
    DataError
        A calibration cannot be fitted, or was fitted on this very data; a signal has values that cannot be.
    """
    gates = [(cascade, position, number, leaf) for cascade in cascades for position, number, leaf in _gates(cascade)]
    if not gates:
        return Surveyed(tuple(cascades))
    looks = _look(gates, traffic, rules)
    stored = _stored([(cascade.tiers[position].model, leaf) for cascade, position, _, leaf in gates], base, traffic)
    calibrated: dict[tuple[str, str, int], OutOfFold] = {}
    found: dict[tuple[str, str, int], float] = {}
    fitted: dict[tuple[str, ...], OutOfFold] = {}
    spreads: dict[scales.Key, scales.Spread] = {}
    for cascade, position, number, leaf in gates:
        key = (cascade.name, cascade.tiers[position].name, number)
        look_key = _look_key(cascade, position, leaf)
        look = looks[look_key]
        if leaf.calibrate is not None:
            if look_key not in fitted:
                fitted[look_key] = _map(leaf, look, stored)
            calibrated[key] = fitted[look_key]
        if leaf.escalate is not None:
            found[key] = look.quantile(leaf.escalate, leaf.surer)
        if (spread := scales.spread(look.values, look.cases)) is not None:
            spreads[key] = spread
    filled = tuple(_filled(cascade, found) for cascade in cascades)
    if wrong := list(dict.fromkeys(scales.problems(filled, spreads, traffic.name))):
        raise DataError(wrong)
    tried = _tried(filled, looks, calibrated) if sweep else {}
    return Surveyed(filled, calibrated, tried, found, stored, spreads)


@dataclass(eq=False)
class _Look:
    """Everything seen of one signal; `kept` holds whole columns only where a recipe has to be fitted."""

    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    cases: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    whole: list[NDArray[np.floating]] = field(default_factory=list)
    kept: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    names: dict[cohorts.Member, int] = field(default_factory=dict)

    def add(self, raw: NDArray[np.floating]) -> None:
        here, number = np.unique(raw[~np.isnan(raw)].astype(np.float64), return_counts=True)
        values, inverse = np.unique(np.concatenate([self.values, here]), return_inverse=True)
        mass = np.concatenate([self.cases, number])
        cases = np.rint(np.bincount(inverse, weights=mass, minlength=len(values))).astype(np.int64)
        while len(values) > _DISTINCT:
            cases = np.add.reduceat(cases, np.arange(0, len(cases), 2))
            values = values[::2]
        self.values, self.cases = values, cases

    def quantile(self, share: float, surer: str) -> float:
        """Attained value below which (above which, where lower is surer) lies the share to escalate."""
        values = np.concatenate(self.whole) if self.whole else np.zeros(0)
        values = values[~np.isnan(values)]
        if not len(values):
            return float("nan")
        if surer == "higher":
            return float(np.quantile(values, share, method="higher"))
        return float(np.quantile(values, 1 - share, method="lower"))


def _gates(cascade: Cascade) -> list[tuple[int, int, Leaf]]:
    return [
        (position, number, leaf)
        for position, tier in enumerate(cascade.tiers)
        for number, leaf in enumerate(leaves(tier.gate))
    ]


def _look_key(cascade: Cascade, position: int, leaf: Leaf) -> tuple[str, ...]:
    recipe = repr(leaf.calibrate) if leaf.calibrate is not None else ""
    flagship = cascade.flagship.model if recipe else ""
    return (cascade.tiers[position].model, leaf.signal.key, recipe, flagship)


def _look(
    gates: Sequence[tuple[Cascade, int, int, Leaf]], traffic: Traffic, rules: Rules
) -> dict[tuple[str, ...], _Look]:
    """Read the signals' columns in one pass."""
    wanted: set[Field] = {Field(None, "case_id"), Field(None, "cached"), Field(None, "cluster"), Field(None, "weight")}
    jobs: dict[tuple[str, ...], tuple[Cascade, int, Leaf, bool]] = {}
    for cascade, position, _, leaf in gates:
        tier = cascade.tiers[position]
        key = _look_key(cascade, position, leaf)
        whole = leaf.escalate is not None or (key in jobs and jobs[key][3])
        jobs[key] = (cascade, position, leaf, whole)
        wanted |= signals.needs(leaf.signal, tier.model) | {Field(tier.model, "status")}
        if leaf.calibrate is not None:
            wanted |= agreement.needs(rules.agreement, tier.model, cascade.flagship.model)
            wanted |= cohorts.needs(leaf.calibrate.per)
    looks = {key: _Look() for key in jobs}
    # Only folds need ids here; else they are left to the pass that counts.
    ids = any(leaf.calibrate is not None for *_, leaf in gates)
    for batch in traffic.batches(wanted & traffic.fields, ids=ids):
        columns = Columns(batch, rules)
        for key, (cascade, position, leaf, whole) in jobs.items():
            _see(looks[key], columns, cascade, cascade.tiers[position], leaf, whole=whole)
    return looks


def _see(look: _Look, columns: Columns, cascade: Cascade, tier: Tier, leaf: Leaf, *, whole: bool) -> None:
    raw = columns.signal(leaf, tier.model)
    raw = np.where(columns.status(tier.model) == OK, raw, np.asarray(np.nan, dtype=raw.dtype))
    raw = np.where(columns.batch.flags(None, "cached")[0], np.asarray(np.nan, dtype=raw.dtype), raw)
    look.add(raw)
    if whole:
        look.whole.append(raw)
    if leaf.calibrate is not None and leaf.calibrate.file is None:
        agrees = columns.agrees(tier.model, cascade.flagship.model)
        known = (agrees >= 0) & ~np.isnan(raw)
        codes = _global_codes(look, columns, leaf.calibrate.per)
        weight = columns.weights()
        own = np.ones(len(raw)) if weight is None else weight
        look.kept.append((raw[known], agrees[known], codes[known], folds(columns)[known], own[known]))


def _global_codes(look: _Look, columns: Columns, per: tuple[str, ...]) -> NDArray[np.int64]:
    codes = columns.codes(per)
    places = [look.names.setdefault(member, len(look.names)) for member in codes.members]
    return np.array(places, dtype=np.int64)[codes.codes]


def _map(leaf: Leaf, look: _Look, stored: Mapping[str, calibration.Stored]) -> OutOfFold:
    recipe = leaf.calibrate
    assert recipe is not None
    if recipe.file is not None:
        kept = stored[recipe.file]
        return OutOfFold((kept.map,), recipe.per or tuple(kept.columns), frozenset(kept.cohorts))
    if not look.kept or recipe.kind == "stored":
        raise DataError(f"'{leaf.signal}' cannot be calibrated: no case has both the signal and a comparison")
    raw, agrees, codes, fold, weight = (np.concatenate(parts) for parts in zip(*look.kept, strict=True))
    names = [_key(member) for member in look.names]
    maps = calibration.out_of_fold(
        recipe.kind,
        raw.astype(np.float64),
        agrees,
        folds=fold,
        cohorts=(codes, names) if recipe.per else None,
        sample_weight=weight,
        surer=signals.surer(leaf.signal),
    )
    return OutOfFold(tuple(maps), recipe.per)


def _key(member: cohorts.Member) -> str:
    return " · ".join(member)


def _keys(columns: Columns, per: tuple[str, ...]) -> tuple[NDArray[np.int64], list[str]] | None:
    if not per:
        return None
    codes = columns.codes(per)
    return codes.codes, [_key(member) for member in codes.members]


def _applied(
    fitted: calibration.Map, raw: NDArray[np.floating], keys: tuple[NDArray[np.int64], list[str]] | None
) -> NDArray[np.floating]:
    return fitted.apply(raw.astype(np.float64), cohorts=keys)


def _stored(found: Sequence[tuple[str, Leaf]], base: Path, traffic: Traffic) -> dict[str, calibration.Stored]:
    """Read stored calibrations; one fitted on the judged data proves nothing about other data."""
    loaded: dict[str, calibration.Stored] = {}
    problems: list[Problem] = []
    for model, leaf in found:
        file = None if leaf.calibrate is None else leaf.calibrate.file
        if file is None or file in loaded:
            continue
        loaded[file] = calibration.load(base / file)
        if _fitted_here(loaded[file], leaf, model, traffic):
            problems.append(
                Problem(
                    "this calibration was fitted on the very data it would be judged on; judge other data, or write a "
                    "recipe such as 'platt', which is fitted out of fold",
                    file,
                )
            )
    if problems:
        raise DataError(problems)
    return loaded


def _fitted_here(stored: calibration.Stored, leaf: Leaf, model: str, traffic: Traffic) -> bool:
    """Tell whether a map was fitted on this data, or on cases of which most are these."""
    if stored.data_sha256 == traffic.sha256():
        return True
    # A map of another signal saw other values of the same cases; notes say so.
    if stored.cases is None or stored.signal != str(leaf.signal):
        return False
    return sketches.share(stored.cases, sketches.of(traffic, leaf.signal, model)) >= MOSTLY


def _filled(cascade: Cascade, found: Mapping[tuple[str, str, int], float]) -> Cascade:
    """Write the thresholds `escalate:` stands for into the gates."""
    tiers = []
    for tier in cascade.tiers:
        numbers = iter(range(10_000))

        def fill(gate: Gate, tier: Tier = tier, numbers: Any = numbers) -> Gate:
            if isinstance(gate, Leaf):
                value = found.get((cascade.name, tier.name, next(numbers)))
                return gate if value is None else replace(gate, threshold=value)
            children = tuple(fill(child) for child in gate.gates)
            return AnyOf(children) if isinstance(gate, AnyOf) else type(gate)(children)

        tiers.append(tier if tier.gate is None else replace(tier, gate=fill(tier.gate)))
    return replace(cascade, tiers=tuple(tiers))


def _tried(
    cascades: Sequence[Cascade],
    looks: Mapping[tuple[str, ...], _Look],
    calibrated: Mapping[tuple[str, str, int], OutOfFold],
) -> dict[tuple[str, str], thresholds.Edges]:
    """Choose thresholds per signal, shared by every cascade that gates on it."""
    named: dict[tuple[str, ...], set[float]] = {}
    for cascade in cascades:
        for place in thresholds.places(cascade):
            key = (*_look_key(cascade, place.position, place.leaf), place.leaf.surer)
            threshold = place.leaf.threshold
            if threshold is not None and not np.isnan(threshold):
                named.setdefault(key, set()).add(threshold)
    shared: dict[tuple[str, ...], thresholds.Edges] = {}
    tried = {}
    for cascade in cascades:
        for place in thresholds.places(cascade):
            look_key = _look_key(cascade, place.position, place.leaf)
            key = (*look_key, place.leaf.surer)
            if key not in shared:
                values, cases = looks[look_key].values, looks[look_key].cases
                mapped = calibrated.get((cascade.name, place.tier.name, place.number))
                if mapped is not None:
                    values, cases = _calibrated_values(looks[look_key], mapped)
                shared[key] = thresholds.edges(values, cases, named=sorted(named.get(key, ())), surer=place.leaf.surer)
            tried[cascade.name, place.name] = shared[key]
    return tried


def _calibrated_values(look: _Look, mapped: OutOfFold) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Spread of the calibrated values: every map on the raw values that occur."""
    names: list[str | None] = [_key(member) for member in look.names] or [None]
    found = []
    for fitted in mapped.maps:
        for name in names:
            keys = None if name is None or not mapped.per else (np.zeros(len(look.values), dtype=np.int64), [name])
            found.append(_applied(fitted, look.values, keys))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    return np.unique(values), np.ones(len(np.unique(values)), dtype=np.int64)
