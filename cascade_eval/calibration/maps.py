"""Maps from a raw signal to the probability that the answer agrees with the flagship's.

Signals come on three scales, and a map remembers on which it was fitted:

``probability``
    Every value lies in [0, 1]. Logits are taken between 1e-6 and 1 - 1e-6, so that a model that says 1.0 stays finite.
``log-probability``
    No value is above 0 and some are below. Exponentiated first, so -inf becomes 0; then as above.
``standard``
    Anything else: centred and divided by the standard deviation of the finite values. Infinite values count as the
    most extreme finite ones.

NaN stays NaN, which escalates. A map never decreases with the signal's sureness: where the fitted slope would be
negative (surer values agree *less*) it is set to 0 and the map says `inverted`, because the signal, not its scale, is
what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from cascade_eval.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]
    # Codes per case, and the names they stand for; or one name per case.
    Cohorts: TypeAlias = tuple[ArrayLike, Sequence[str]] | Sequence[str] | NDArray[Any]

Kind = Literal["platt", "isotonic", "hierarchical"]
Scale = Literal["probability", "log-probability", "standard"]
Surer = Literal["higher", "lower"]

KINDS: tuple[Kind, ...] = ("platt", "isotonic", "hierarchical")
SCALES: tuple[Scale, ...] = ("probability", "log-probability", "standard")

TAU = 1.0
"""Standard deviation, in logits, by which cohorts are expected to differ."""

_EDGE = 1e-6
_STEPS = 100


@dataclass(frozen=True)
class Map:
    """A fitted map; plain values only, so that it can be stored as JSON.

    Parameters
    ----------
    kind
        ``platt``, ``isotonic`` or ``hierarchical``.
    scale, centre, spread
        Scale of the signal, and its mean and standard deviation on the ``standard`` scale.
    surer
        Which direction of the signal means surer.
    intercept, slope
        Of the logit, for ``platt`` and ``hierarchical``.
    cohorts, effects
        Names of the cohorts seen, and what each adds to the logit (``hierarchical``).
    knots_x, knots_y
        Ascending corners between which ``isotonic`` interpolates.
    nobs
        Cases it was fitted on.
    inverted
        The slope would have been negative and was set to 0.
    """

    kind: Kind
    scale: Scale
    centre: float = 0.0
    spread: float = 1.0
    surer: Surer = "higher"
    intercept: float = 0.0
    slope: float = 0.0
    cohorts: tuple[str, ...] = ()
    effects: tuple[float, ...] = ()
    knots_x: tuple[float, ...] = ()
    knots_y: tuple[float, ...] = ()
    nobs: int = 0
    inverted: bool = False

    def apply(self, values: ArrayLike, cohorts: Cohorts | None = None) -> Floats:
        """Turn raw values into probabilities of agreement.

        Parameters
        ----------
        values : array-like of shape (n_cases,)
            Raw signal; NaN stays NaN.
        cohorts : (codes, names) or array-like of str of shape (n_cases,), optional
            Cohort of each case. A cohort the map has never seen (and a negative code) gets the map of the whole.

        Returns
        -------
        ndarray of shape (n_cases,)
        """
        from scipy import special

        position = _position(np.asarray(values, dtype=np.float64), self.scale, self.centre, self.spread, self.surer)
        if self.kind == "isotonic":
            # interp gives the value of a single knot for NaN, too.
            return np.where(np.isnan(position), np.nan, np.interp(position, self.knots_x, self.knots_y))
        logit = self.intercept + self.slope * _logit(position, self.scale)
        if self.kind == "hierarchical" and cohorts is not None:
            effects = np.append(self.effects, 0.0)
            logit = logit + effects[self._places(cohorts)]
        return np.asarray(special.expit(logit))

    def uncovered(self, cohorts: Cohorts) -> NDArray[np.bool_]:
        """Where a case belongs to a cohort the map has never seen, shape (n_cases,)."""
        if self.kind != "hierarchical":
            return np.zeros(len(cohorts[0]) if isinstance(cohorts, tuple) else len(cohorts), dtype=np.bool_)
        return self._places(cohorts) < 0

    def to_json(self) -> dict[str, Any]:
        """Return the map as plain values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_json(cls, value: Any) -> Map:
        """Read what `to_json` returned; DataError lists everything that is wrong."""
        problems = list(_problems(value))
        if problems:
            raise DataError(problems)
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        return cls(**plain)

    def _places(self, cohorts: Cohorts) -> Ints:
        """Position of each case's cohort among those seen, -1 where it is not."""
        codes, names = _coded(cohorts)
        seen = {name: place for place, name in enumerate(self.cohorts)}
        places = np.array([*(seen.get(name, -1) for name in names), -1], dtype=np.int64)
        return places[np.where(codes < 0, len(names), codes)]


def fit(
    kind: Kind,
    values: ArrayLike,
    agrees: ArrayLike,
    *,
    cohorts: Cohorts | None = None,
    sample_weight: ArrayLike | None = None,
    surer: Surer = "higher",
) -> Map:
    """Fit a map on cases whose agreement with the flagship is known.

    Parameters
    ----------
    kind : {"platt", "isotonic", "hierarchical"}
        platt
            One logistic curve on the logit of the signal, not regularised.
        isotonic
            The best non-decreasing step curve; needs about 1,000 cases to be worth it.
        hierarchical
            One logistic curve, shifted for each cohort as far as its cases insist: ``logit q = a + b logit(signal) +
            u`` with the penalty ``u² / 2``. Small cohorts lean on the whole.
    values : array-like of shape (n_cases,)
        Raw signal.
    agrees : array-like of shape (n_cases,)
        1 where the answer agrees with the flagship's, 0 where not. Cases with an unknown value or label (NaN, negative
        label) are left out.
    cohorts : (codes, names) or array-like of str of shape (n_cases,), optional
        Needed by ``hierarchical``, ignored by the others, which fit one map for all.
    sample_weight : array-like of shape (n_cases,), optional
        Sampling weights, relative to each other.
    surer : {"higher", "lower"}, default="higher"
        Which direction of the signal means surer.

    Returns
    -------
    Map

    Raises
    ------
    DataError
        Where no case can be used.
    ValueError
        For an unknown kind, arrays of different lengths, or ``hierarchical`` without cohorts.

    Notes
    -----
    Where the signal separates agreement from disagreement perfectly, or all cases are of one kind, the steepest curve
    is infinitely steep. Labels are then replaced by (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2) (Platt 1999, section 2.2).

    Examples
    --------
    >>> curve = fit("platt", [0.6, 0.7, 0.8, 0.9], [0, 1, 0, 1])
    >>> curve.apply([0.7, np.nan]).round(3)
    array([0.364,   nan])
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a calibration.{did_you_mean(str(kind), KINDS)}")
    if kind == "hierarchical" and cohorts is None:
        raise ValueError("'hierarchical' needs the cohorts it may differ by. Write 'hierarchical per language'.")
    cases = _usable(values, agrees, cohorts if kind == "hierarchical" else None, sample_weight)
    scale, centre, spread = _scale(cases.values)
    position = _position(cases.values, scale, centre, spread, surer)
    common = Map(kind, scale, centre, spread, surer, nobs=len(cases.values))
    return _isotonic(common, position, cases) if kind == "isotonic" else _logistic(common, position, cases)


def out_of_fold(
    kind: Kind,
    values: ArrayLike,
    agrees: ArrayLike,
    *,
    folds: ArrayLike,
    cohorts: Cohorts | None = None,
    sample_weight: ArrayLike | None = None,
    surer: Surer = "higher",
) -> tuple[Map, ...]:
    """Fit one map per fold, each without the cases of its fold.

    Parameters
    ----------
    kind, values, agrees, cohorts, sample_weight, surer
        As for `fit`.
    folds : array-like of int of shape (n_cases,)
        Fold of each case, from 0, as `fold_of` gives them.

    Returns
    -------
    tuple of Map
        Map k judges the cases of fold k, which it has not seen.

    Raises
    ------
    DataError
        Where a fold leaves no case to fit on.
    """
    fold = np.asarray(folds)
    values, agrees = np.asarray(values, dtype=np.float64), np.asarray(agrees, dtype=np.float64)
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    coded = None if cohorts is None else _coded(cohorts)

    def without(k: int) -> Map:
        rest = fold != k
        part = None if coded is None else (coded[0][rest], coded[1])
        w = None if weight is None else weight[rest]
        return fit(kind, values[rest], agrees[rest], cohorts=part, sample_weight=w, surer=surer)

    return tuple(without(k) for k in range(int(fold.max(initial=-1)) + 1))


def fold_of(
    ids: Sequence[str] | pa.Array | NDArray[Any], k: int = 5, key: str = "cascade-eval folds"
) -> NDArray[np.int8]:
    """Fold of each case, by a keyed hash of its cluster or case id: the same in every process and any order.

    Parameters
    ----------
    ids : sequence of str, shape (n_cases,)
        Ids of what must stay together: clusters where there are any, else cases.
    k : int, default=5
        Number of folds.
    key : str
        Another key gives another partition.

    Examples
    --------
    >>> fold_of(["case-1", "case-2", "case-3", "case-1"])
    array([0, 4, 3, 0], dtype=int8)
    """
    if not 2 <= k <= 100:
        raise ValueError(f"between 2 and 100 folds, not {k}.")
    encoded = (ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())).dictionary_encode()
    if encoded.null_count:
        raise ValueError("an id is missing, so its case belongs to no fold.")
    secret = key.encode()
    digests = b"".join(
        blake2b(text.encode(), digest_size=8, key=secret).digest() for text in encoded.dictionary.to_pylist()
    )
    fold = (np.frombuffer(digests, dtype=">u8") % np.uint64(k)).astype(np.int8)
    return np.asarray(fold[np.asarray(encoded.indices)], dtype=np.int8)


class _Cases(NamedTuple):
    values: Floats
    agrees: Floats
    weight: Floats
    codes: Ints
    names: tuple[str, ...]


def _usable(values: ArrayLike, agrees: ArrayLike, cohorts: Cohorts | None, sample_weight: ArrayLike | None) -> _Cases:
    v, y = np.asarray(values, dtype=np.float64), np.asarray(agrees, dtype=np.float64)
    w = np.ones_like(v) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    codes, names = (np.full(v.shape, -1), ()) if cohorts is None else _coded(cohorts)
    if not v.shape == y.shape == w.shape == codes.shape or v.ndim != 1:
        raise ValueError(
            f"values, labels, weights and cohorts must be as many: {v.shape}, {y.shape}, {w.shape}, {codes.shape}."
        )
    if np.any(y > 1) or not np.all(w >= 0):
        raise ValueError("labels lie between 0 and 1, and weights are not negative.")
    known = ~np.isnan(v) & (y >= 0) & (w > 0)
    if not known.any():
        raise DataError(
            "a calibration cannot be fitted: no case has both the signal and a comparison with the flagship."
        )
    w = w[known] / w[known].mean()
    used, codes = np.unique(codes[known], return_inverse=True)
    # Cohorts without a case have not been seen.
    kept = used[used >= 0]
    return _Cases(v[known], y[known], w, codes - (used.size - kept.size), tuple(names[code] for code in kept))


def _coded(cohorts: Cohorts) -> tuple[Ints, tuple[str, ...]]:
    if isinstance(cohorts, tuple):
        codes, names = cohorts
        return np.asarray(codes, dtype=np.int64), tuple(names)
    distinct, codes = np.unique(np.asarray(cohorts, dtype=np.str_), return_inverse=True)
    return codes.astype(np.int64), tuple(distinct.tolist())


def _scale(values: Floats) -> tuple[Scale, float, float]:
    if np.all((values >= 0) & (values <= 1)):
        return "probability", 0.0, 1.0
    if np.all(values <= 0):
        return "log-probability", 0.0, 1.0
    finite = values[np.isfinite(values)]
    spread = float(finite.std()) if finite.size else 0.0
    return "standard", float(finite.mean()) if finite.size else 0.0, spread if spread > 0 else 1.0


def _position(values: Floats, scale: Scale, centre: float, spread: float, surer: Surer) -> Floats:
    """Place each value where greater means surer: in [0, 1], or in standard deviations."""
    if scale == "standard":
        placed = np.clip((values - centre) / spread, -1e3, 1e3)
        return placed if surer == "higher" else -placed
    with np.errstate(over="ignore"):
        placed = np.clip(np.exp(values) if scale == "log-probability" else values, 0.0, 1.0)
    return placed if surer == "higher" else 1 - placed


def _logit(position: Floats, scale: Scale) -> Floats:
    if scale == "standard":
        return position
    kept = np.clip(position, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _isotonic(common: Map, position: Floats, cases: _Cases) -> Map:
    from scipy.optimize import isotonic_regression

    x, at = np.unique(position, return_inverse=True)
    w = np.bincount(at, cases.weight).astype(np.float64)
    y = np.bincount(at, cases.weight * cases.agrees) / w
    fitted = np.clip(isotonic_regression(y, weights=w).x, 0.0, 1.0)
    # Inside a step nothing bends: its two ends are all that interpolation needs.
    level = np.concatenate([[True], np.diff(fitted) != 0, [True]])
    corner = level[1:] | level[:-1]
    flat = bool(np.ptp(fitted) == 0 and _slope_sign(x, y, w) < 0)
    return replace(common, knots_x=_floats(x[corner]), knots_y=_floats(fitted[corner]), inverted=flat)


def _slope_sign(x: Floats, y: Floats, w: Floats) -> float:
    return float((w * (x - np.average(x, weights=w)) * (y - np.average(y, weights=w))).sum())


def _logistic(common: Map, position: Floats, cases: _Cases) -> Map:
    x = _logit(position, common.scale)
    y = _smoothed(x, cases)
    intercept, slope, effects = _newton(x, y, cases)
    inverted = slope < 0
    if inverted:
        intercept, slope, effects = _newton(np.zeros_like(x), y, cases)
    return replace(
        common,
        intercept=float(intercept),
        slope=float(slope),
        cohorts=cases.names,
        effects=_floats(effects),
        inverted=bool(inverted),
    )


def _smoothed(x: Floats, cases: _Cases) -> Floats:
    """Labels, softened only where the likelihood has no maximum."""
    y, w = cases.agrees, cases.weight
    ahead, behind = x[y > 0], x[y < 1]
    both = ahead.size > 0 and behind.size > 0
    if both and (np.ptp(x) == 0 or (behind.max() > ahead.min() and ahead.max() > behind.min())):
        return y
    positive, negative = float((w * y).sum()), float((w * (1 - y)).sum())
    return y * ((positive + 1) / (positive + 2)) + (1 - y) / (negative + 2)


def _newton(x: Floats, y: Floats, cases: _Cases) -> tuple[float, float, Floats]:
    """Maximise the penalised likelihood of intercept, slope and cohort effects.

    The effects meet each other only through intercept and slope, so each step solves two equations, whatever the
    number of cohorts.
    """
    from scipy import special

    w, size = cases.weight, len(cases.names)
    # Cases without a cohort have a place of their own whose effect stays 0.
    place = np.where(cases.codes < 0, size, cases.codes)
    free = np.arange(size + 1) < size
    ab, u = np.array([special.logit(np.clip(np.average(y, weights=w), _EDGE, 1 - _EDGE)), 0.0]), np.zeros(size + 1)

    def value(ab: Floats, u: Floats) -> float:
        logit = ab[0] + ab[1] * x + u[place]
        return float((w * (y * logit - np.logaddexp(0, logit))).sum() - (u**2).sum() / (2 * TAU**2))

    best = value(ab, u)
    for _ in range(_STEPS):
        p = special.expit(ab[0] + ab[1] * x + u[place])
        pull, curve = w * (y - p), w * p * (1 - p)
        by_cohort = np.where(free, np.bincount(place, pull, size + 1) - u / TAU**2, 0.0)
        cross = np.array([np.bincount(place, curve, size + 1), np.bincount(place, curve * x, size + 1)]) * free
        own = np.bincount(place, curve, size + 1) + 1 / TAU**2
        hessian = np.array([[curve.sum(), (curve * x).sum()], [(curve * x).sum(), (curve * x * x).sum()]])
        shared = np.array([pull.sum(), (pull * x).sum()]) - (cross / own) @ by_cohort
        step = np.linalg.pinv(hessian - (cross / own) @ cross.T, hermitian=True) @ shared
        step_u = (by_cohort - step @ cross) / own * free
        scale = 1.0
        while (found := value(ab + scale * step, u + scale * step_u)) < best - 1e-12 * abs(best) and scale > 1e-6:
            scale /= 2
        ab, u = ab + scale * step, u + scale * step_u
        best = found
        if scale * max(np.abs(step).max(), np.abs(step_u).max()) < 1e-9:
            break
    return float(ab[0]), float(ab[1]), u[:size]


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


_WORDS: dict[str, tuple[str, ...]] = {"kind": KINDS, "scale": SCALES, "surer": ("higher", "lower")}


def _problems(value: Any) -> Iterator[str]:
    """List what keeps plain values from being a map."""
    if not isinstance(value, dict):
        yield f"a map is a mapping, not {type(value).__name__}."
        return
    names = [field.name for field in fields(Map)]
    for name in value:
        if name not in names:
            yield f"unknown key '{name}'.{did_you_mean(str(name), names)}"
    for name in ("kind", "scale"):
        if name not in value:
            yield f"'{name}' is missing."
    kept = {name: v for name, v in value.items() if name in names}
    wrong = [name for name, v in kept.items() if not _is_valid(name, v)]
    for name in wrong:
        allowed = f" Allowed: {', '.join(_WORDS[name])}." if name in _WORDS else ""
        yield f"'{name}' is {kept[name]!r:.60}.{allowed}"
    if not wrong:
        yield from _contradictions(kept)


def _is_valid(name: str, value: Any) -> bool:
    if name in _WORDS:
        return value in _WORDS[name]
    if name == "inverted":
        return isinstance(value, bool)
    if name == "nobs":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name == "cohorts":
        return isinstance(value, list) and all(isinstance(v, str) for v in value) and len(set(value)) == len(value)
    if name in {"effects", "knots_x", "knots_y"}:
        return isinstance(value, list) and all(map(_is_number, value))
    return _is_number(value) and (name != "spread" or value > 0) and (name != "slope" or value >= 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _contradictions(kept: dict[str, Any]) -> Iterator[str]:
    x, y = kept.get("knots_x", []), kept.get("knots_y", [])
    if len(kept.get("cohorts", [])) != len(kept.get("effects", [])):
        yield "'cohorts' and 'effects' must be as many."
    if len(x) != len(y) or (kept.get("kind") == "isotonic") != bool(x):
        yield "'knots_x' and 'knots_y' must be as many, and an isotonic map has some."
    elif x and (min(np.diff(x), default=1) <= 0 or min(np.diff(y), default=0) < 0 or not 0 <= y[0] <= y[-1] <= 1):
        yield "'knots_x' must rise, and 'knots_y' must not fall or leave 0 to 1."
