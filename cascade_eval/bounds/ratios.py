"""Bounds and p-values for ratios of sums, and for means, from their moments.

A ratio R = sum(x) / sum(y) is tested against a budget B by a one-sided t-test on x - B y, and bounded by the values
of B that the test does not reject (Fieller). All inputs are counts and sums, because counts add. Differences such as
n sum(x^2) - sum(x)^2 lose every digit in floating point when the spread is small, so integer moments (Python integers,
integer or object arrays) are subtracted exactly, at any size.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from cascade_eval.bounds import rates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Exact: TypeAlias = NDArray[np.object_]

# Below this share of its terms a difference of floating-point moments is noise: the spread is zero.
_NOISE = 1e-13


class _Spread(NamedTuple):
    """Sums and corrected moments as exact numbers; `noisy` where they came from floats.

    `around` is the spread of x - R y at the observed ratio R, times sum(y) squared: zero where x is R y in every case.
    """

    n: Exact
    x: Exact
    y: Exact
    xx: Exact
    xy: Exact
    yy: Exact
    scale_xx: Exact
    scale_yy: Exact
    around: Exact
    noisy: bool


def fieller(
    n: ArrayLike,
    sum_x: ArrayLike,
    sum_y: ArrayLike,
    sum_xx: ArrayLike,
    sum_xy: ArrayLike,
    sum_yy: ArrayLike,
    *,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """Bounds for a ratio of sums over the same cases.

    Parameters
    ----------
    n : array-like of shape (n_cohorts,)
        Number of independent units: cases, or clusters with their totals.
    sum_x, sum_y, sum_xx, sum_xy, sum_yy : array-like of shape (n_cohorts,)
        Sums of x, y, x squared, x y and y squared. Integers of any size are used exactly.
    confidence : float, default=0.95
        Of each bound on its own side.

    Returns
    -------
    low, high : ndarray of shape (n_cohorts,)
        -inf and inf where the denominator is not surely above zero, so that no finite set can be given; NaN for fewer
        than two units. Where x is the same multiple of y in every case both bounds are that multiple.

    References
    ----------
    Fieller, Journal of the Royal Statistical Society B 16 (1954).

    Examples
    --------
    >>> x, y = np.array([1, 1, 11, 1, 2, 12, 1, 1]), np.array([10, 9, 10, 12, 20, 10, 8, 11])
    >>> low, high = fieller(8, x.sum(), y.sum(), x @ x, x @ y, y @ y, confidence=0.975)
    >>> float(low.round(4)), float(high.round(4))
    (-0.0228, 0.7749)
    """
    miss = rates.alpha(confidence)
    s = _spread(n, sum_x, sum_y, sum_xx, sum_xy, sum_yy)
    units = _float(s.n)
    k = _t(units, miss) ** 2 / np.maximum(units - 1, 1)
    a = _float(s.y * s.y) - k * _float(s.yy)
    b = _float(s.x * s.y) - k * _float(s.xy)
    # The discriminant b^2 - a c, with the large terms cancelled on paper and what is left computed exactly.
    root = np.sqrt(np.maximum(k * _float(s.around) - k * k * _float(s.xx * s.yy - s.xy * s.xy), 0.0))
    bounded = (a > 0) & (_float(s.y) > 0)
    divisor = np.where(bounded, a, 1.0)
    known = _proportional(s)
    ratio = _float(s.x) / np.where(known, _float(s.y), 1.0)
    low = np.where(known, ratio, np.where(bounded, (b - root) / divisor, -np.inf))
    high = np.where(known, ratio, np.where(bounded, (b + root) / divisor, np.inf))
    return np.where(units < 2, np.nan, low), np.where(units < 2, np.nan, high)


def p_ratio_at_most(
    n: ArrayLike,
    sum_x: ArrayLike,
    sum_y: ArrayLike,
    sum_xx: ArrayLike,
    sum_xy: ArrayLike,
    sum_yy: ArrayLike,
    budget: float,
    *,
    strict: bool = False,
) -> Floats:
    """p-value of "the ratio is at most the budget", by a t-test on x - budget y.

    Parameters
    ----------
    n, sum_x, sum_y, sum_xx, sum_xy, sum_yy : array-like of shape (n_cohorts,)
        As for `fieller`.
    budget : float
        Taken as its shortest decimal, so that 0.45 is 45/100.
    strict : bool, default=False
        Test for "below" instead. It matters only without any spread and exactly on the budget, where the p-value is
        0, or 1 if strict. A budget passes by the plain test and fails by the strict one.

    Returns
    -------
    ndarray of shape (n_cohorts,)
        At most `alpha(confidence)` exactly where the upper bound of `fieller` is finite and at most the budget. NaN
        for fewer than two units.

    Examples
    --------
    >>> x, y = np.array([1, 1, 11, 1, 2, 12, 1, 1]), np.array([10, 9, 10, 12, 20, 10, 8, 11])
    >>> float(p_ratio_at_most(8, x.sum(), y.sum(), x @ x, x @ y, y @ y, 0.7749).round(4))
    0.025
    """
    s = _spread(n, sum_x, sum_y, sum_xx, sum_xy, sum_yy)
    return _p_ratio(s, budget, side=-1, strict=strict)


def p_ratio_at_least(
    n: ArrayLike,
    sum_x: ArrayLike,
    sum_y: ArrayLike,
    sum_xx: ArrayLike,
    sum_xy: ArrayLike,
    sum_yy: ArrayLike,
    budget: float,
    *,
    strict: bool = False,
) -> Floats:
    """p-value of "the ratio is at least the budget"; the mirror image of `p_ratio_at_most`.

    Examples
    --------
    >>> p_ratio_at_least(3, 6, 3, 12, 6, 3, 2.0), p_ratio_at_least(3, 6, 3, 12, 6, 3, 2.0, strict=True)
    (array(0.), array(1.))
    """
    s = _spread(n, sum_x, sum_y, sum_xx, sum_xy, sum_yy)
    return _p_ratio(s, budget, side=1, strict=strict)


def log_delta(
    n: ArrayLike,
    sum_x: ArrayLike,
    sum_y: ArrayLike,
    sum_xx: ArrayLike,
    sum_xy: ArrayLike,
    sum_yy: ArrayLike,
    *,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """Bounds for a positive ratio of sums on the log scale, for drawing; never below zero.

    Parameters and units as for `fieller`; NaN for fewer than two units or sums that are not positive.

    Examples
    --------
    >>> x, y = np.array([1, 1, 11, 1, 2, 12, 1, 1]), np.array([10, 9, 10, 12, 20, 10, 8, 11])
    >>> low, high = log_delta(8, x.sum(), y.sum(), x @ x, x @ y, y @ y, confidence=0.975)
    >>> float(low.round(4)), float(high.round(4))
    (0.1063, 1.0454)
    """
    miss = rates.alpha(confidence)
    s = _spread(n, sum_x, sum_y, sum_xx, sum_xy, sum_yy)
    units, x, y = _float(s.n), _float(s.x), _float(s.y)
    usable = (units >= 2) & (x > 0) & (y > 0)
    x, y = np.where(usable, x, 1.0), np.where(usable, y, 1.0)
    se = np.sqrt(np.maximum(_float(s.around), 0.0) / np.maximum(units - 1, 1)) / (x * y)
    factor = np.exp(_t(units, miss) * se)
    return np.where(usable, x / y / factor, np.nan), np.where(usable, x / y * factor, np.nan)


def mean(n: ArrayLike, sum_x: ArrayLike, sum_xx: ArrayLike, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Student's bounds for a mean, from the number of cases, their sum and their sum of squares.

    NaN for fewer than two cases.

    Examples
    --------
    >>> low, high = mean(4, 10, 30)
    >>> float(low.round(3)), float(high.round(3))
    (0.981, 4.019)
    """
    return fieller(n, sum_x, n, sum_xx, sum_x, n, confidence=confidence)


def p_mean_at_most(n: ArrayLike, sum_x: ArrayLike, sum_xx: ArrayLike, budget: float, *, strict: bool = False) -> Floats:
    """p-value of "the mean is at most the budget"; the inversion of the upper bound of `mean`.

    Examples
    --------
    >>> float(p_mean_at_most(4, 10, 30, 4.0189).round(3))
    0.05
    """
    return p_ratio_at_most(n, sum_x, n, sum_xx, sum_x, n, budget, strict=strict)


def p_mean_at_least(
    n: ArrayLike, sum_x: ArrayLike, sum_xx: ArrayLike, budget: float, *, strict: bool = False
) -> Floats:
    """p-value of "the mean is at least the budget"; the inversion of the lower bound of `mean`.

    Examples
    --------
    >>> float(p_mean_at_least(4, 10, 30, 0.9811).round(3))
    0.05
    """
    return p_ratio_at_least(n, sum_x, n, sum_xx, sum_x, n, budget, strict=strict)


def _p_ratio(s: _Spread, budget: float, *, side: int, strict: bool) -> Floats:
    from scipy import special

    top, bottom = _as_decimal(budget)
    units = _float(s.n)
    # x - B y, times the bottom of B written as a fraction: whole numbers stay whole.
    centre = bottom * s.x - top * s.y
    spread = _clean(
        bottom * bottom * s.xx - 2 * top * bottom * s.xy + top * top * s.yy,
        bottom * bottom * s.scale_xx + top * top * s.scale_yy,
        noisy=s.noisy,
    )
    above, flat = _float(centre), (_float(spread) <= 0) | _proportional(s)
    t = above / np.sqrt(np.where(flat, 1.0, _float(spread)) / np.maximum(units - 1, 1))
    p = special.stdtr(np.maximum(units - 1, 1), -side * t)
    settled = (side * above > 0) | ((above == 0) & (not strict))
    p = np.where(flat, np.where(settled, 0.0, 1.0), p)
    return np.where(units < 2, np.nan, np.maximum(p, _p_unbounded(s)))


def _p_unbounded(s: _Spread) -> Floats:
    """p-value of "sum(y) is above zero": the smallest alpha at which the Fieller set is finite."""
    from scipy import special

    units, y, yy = _float(s.n), _float(s.y), _float(s.yy)
    freedom = np.maximum(units - 1, 1)
    flat = yy <= 0
    t = y / np.sqrt(np.where(flat, 1.0, yy) / freedom)
    p = np.where(flat, np.where(y > 0, 0.0, 1.0), special.stdtr(freedom, -t))
    return np.where(_proportional(s), 0.0, p)


def _proportional(s: _Spread) -> NDArray[np.bool_]:
    """Where x is R y in every case, R is known, however much y varies."""
    return np.asarray((_float(s.around) <= 0) & (_float(s.y) > 0))


def _spread(*moments: ArrayLike) -> _Spread:
    arrays = [np.asarray(m) for m in moments]
    noisy = any(a.dtype.kind == "f" or _holds_floats(a) for a in arrays)
    n, x, y, xx, xy, yy = np.broadcast_arrays(*(_exact(a) for a in arrays))
    scale_xx, scale_yy = n * xx, n * yy
    around = y * y * scale_xx - 2 * n * x * y * xy + x * x * scale_yy
    return _Spread(
        n=n,
        x=x,
        y=y,
        xx=_clean(scale_xx - x * x, scale_xx, noisy=noisy),
        xy=n * xy - x * y,
        yy=_clean(scale_yy - y * y, scale_yy, noisy=noisy),
        scale_xx=scale_xx,
        scale_yy=scale_yy,
        around=_clean(around, y * y * scale_xx + x * x * scale_yy, noisy=noisy),
        noisy=noisy,
    )


def _holds_floats(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "O" and any(isinstance(v, float | np.floating) for v in array.flat)


def _exact(array: NDArray[Any]) -> Exact:
    """Whole numbers as Python integers, floats as the fractions they are."""
    if not array.size or array.dtype.kind in "biu":
        return _objects(array, int)
    return _objects(array, _fraction)


def _fraction(value: Any) -> Fraction | int:
    if isinstance(value, int):
        return value
    if isinstance(value, np.integer):
        return int(value)
    if not np.isfinite(value):
        raise ValueError(f"a sum is {value}; leave unknown values out before summing.")
    return Fraction(value) if isinstance(value, Fraction) else Fraction(float(value))


def _objects(array: NDArray[Any], convert: Any) -> Exact:
    out = np.empty(array.shape, dtype=object)
    out.reshape(-1)[:] = [convert(v) for v in array.flat]
    return out


def _clean(difference: Exact, scale: Exact, *, noisy: bool) -> Exact:
    if not noisy:
        return difference
    return np.asarray(np.where(_float(difference) <= _NOISE * _float(scale), 0, difference), dtype=object)


def _as_decimal(budget: float) -> tuple[int, int]:
    fraction = Fraction(repr(float(budget)))
    return fraction.numerator, fraction.denominator


def _t(units: Floats, miss: float) -> Floats:
    from scipy import special

    return np.asarray(-special.stdtrit(np.maximum(units - 1, 1), miss))


def _float(exact: Exact) -> Floats:
    return np.asarray(exact, dtype=object).astype(np.float64)
