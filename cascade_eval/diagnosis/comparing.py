"""Two groups of weeks of one cohort, and whether a rate moved between them, as weeks scatter by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

FREE: Final = 3
"""Fewest degrees of freedom from which the scatter of weeks is estimated."""

MANY: Final = 1_000_000
"""Degrees of freedom of a scatter that is taken as known."""

BOUND: Final = 1.645
"""Standard errors to a one-sided 95% bound."""


class Scatter(NamedTuple):
    """How many times more weeks differ than by chance, and the degrees of freedom it rests on."""

    value: float
    df: int


@dataclass(frozen=True)
class Moved:
    """A rate before and now, and the evidence that it moved.

    Parameters
    ----------
    before, now
        Rates; NaN without cases.
    size_before, size
        Cases they rest on.
    up, down
        One-sided p-values of "it rose" and "it fell"; 1 where nothing could be compared.
    """

    before: float
    now: float
    size_before: float
    size: float
    up: float
    down: float

    @property
    def known(self) -> bool:
        """Whether there were cases on both sides."""
        return self.size_before > 0 and self.size > 0

    def unseen(self, alpha: float) -> float:
        """Return how far the rate may have moved and still be missed one time in five; NaN where nothing can be compared.

        Two proportions on the arcsine scale (Cohen 1988), half a case added; weeks that scatter hide more.

        Examples
        --------
        >>> few = Moved(0.25, 0.25, 60, 60, 1.0, 1.0)
        >>> round(few.unseen(0.05), 2), round(Moved(0.25, 0.25, 6000, 6000, 1.0, 1.0).unseen(0.05), 2)
        (0.22, 0.02)
        """
        from scipy.special import ndtri

        if not self.known:
            return float("nan")
        cases = self.size_before + self.size
        rate = (self.before * self.size_before + self.now * self.size + 0.5) / (cases + 1)
        effect = (ndtri(1 - alpha) + ndtri(0.8)) * np.sqrt(1 / self.size_before + 1 / self.size)
        angles = np.arcsin(np.sqrt(rate)) + np.array([-effect, effect]) / 2
        ends = np.sin(np.clip(angles, 0, np.pi / 2)) ** 2
        return float(np.abs(ends - rate).max())


def moved(
    count0: ArrayLike, nobs0: ArrayLike, count1: ArrayLike, nobs1: ArrayLike, *, spread: Scatter | None = None
) -> Moved:
    """Compare a rate between two groups of weeks.

    Parameters
    ----------
    count0, nobs0 : array-like of shape (weeks before,)
        Cases with the property, and cases looked at; fractional where they are effective counts.
    count1, nobs1 : array-like of shape (weeks now,)
        The same, now.
    spread
        How weeks scatter, estimated together with other cohorts; from these weeks alone by default.

    Returns
    -------
    Moved
        Each p-value is the larger of Fisher's exact one and that of a quasi-binomial t test, whose spread is what weeks of
        one group differ by; the latter only where there are weeks enough to tell.

    References
    ----------
    Fisher, Journal of the Royal Statistical Society 98 (1935); McCullagh and Nelder, Generalized Linear Models (1989),
    section 4.5.

    Examples
    --------
    >>> found = moved([10, 12], [200, 200], [31, 29], [200, 200])
    >>> round(found.before, 3), round(found.now, 3), found.up < 0.001
    (0.055, 0.15, True)
    """
    x0, n0, x1, n1 = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (count0, nobs0, count1, nobs1))
    a, m, b, n = x0.sum(), n0.sum(), x1.sum(), n1.sum()
    if not (m > 0 and n > 0):
        nan = float("nan")
        return Moved(float(a / m) if m else nan, float(b / n) if n else nan, float(m), float(n), 1.0, 1.0)
    up, down = _fisher(a, m, b, n)
    slack = _quasi(x0, n0, x1, n1, spread or scatter([(x0, n0), (x1, n1)]))
    return Moved(float(a / m), float(b / n), float(m), float(n), max(up, slack[0]), max(down, slack[1]))


def together(
    count0: ArrayLike, nobs0: ArrayLike, count1: ArrayLike, nobs1: ArrayLike, *, spread: Scatter
) -> tuple[float, float]:
    """Compare rates of several cohorts at once, each with itself: one-sided p-values of "they fell" and "they rose".

    Parameters
    ----------
    count0, nobs0, count1, nobs1 : array-like of shape (cohorts,)
        Cases with the property, and cases looked at, before and now.
    spread
        How weeks scatter.

    Notes
    -----
    A cohort that is missing in one of the periods says nothing. Cases that only changed their shares do not count.

    References
    ----------
    Mantel and Haenszel, Journal of the National Cancer Institute 22 (1959), 719-748.

    Examples
    --------
    >>> fell, rose = together([10, 40], [100, 100], [18, 52], [100, 100], spread=Scatter(1.0, 12))
    >>> fell > 0.9, rose < 0.02
    (True, True)
    >>> together([10, 40], [100, 100], [40, 10], [400, 25], spread=Scatter(1.0, 12))  # other shares
    (0.5, 0.5)
    """
    from scipy.stats import t as student

    x0, m, x1, n = (np.asarray(values, dtype=np.float64) for values in (count0, nobs0, count1, nobs1))
    both = (m > 0) & (n > 0)
    x0, m, x1, n = x0[both], m[both], x1[both], n[both]
    rate = (x0 + x1) / (m + n)
    variance = float((m * n / (m + n) * rate * (1 - rate)).sum()) * spread.value
    if variance <= 0:
        return 1.0, 1.0
    t = float((x1 - n * rate).sum()) / variance**0.5
    return float(student.cdf(t, max(spread.df, 1))), float(student.sf(t, max(spread.df, 1)))


def odds_ratio(found: Moved, *, errors: float = 0.0) -> float:
    """How many times greater the odds are now, with half a case of everything added.

    Parameters
    ----------
    found
        The movement.
    errors
        Standard errors of its logarithm to add: -1.645 gives the lower 95% bound, 1.645 the upper one.

    Examples
    --------
    >>> found = moved([5], [100], [15], [100])
    >>> [round(odds_ratio(found, errors=errors), 2) for errors in (-1.645, 0, 1.645)]
    [1.34, 3.15, 7.38]
    """
    log, error = _log_odds(found)
    return float(np.exp(log + errors * error))


def shared_odds_ratio(found: Iterable[Moved], *, errors: float = 0.0) -> float:
    """Return the odds ratio that several cohorts share, each compared with itself, weighted by what is known of each.

    Parameters
    ----------
    found
        The movements, at least one.
    errors
        As for `odds_ratio`.

    References
    ----------
    Woolf, Annals of Human Genetics 19 (1955), 251-253.

    Examples
    --------
    >>> two = [moved([5], [100], [15], [100]), moved([10], [100], [9], [100])]
    >>> [round(shared_odds_ratio(two, errors=errors), 2) for errors in (-1.645, 0, 1.645)]
    [0.89, 1.58, 2.81]
    >>> shared_odds_ratio(two[:1]) == odds_ratio(two[0])
    True
    """
    logs, error = np.array([_log_odds(one) for one in found]).T
    weight = error**-2.0
    return float(np.exp(np.average(logs, weights=weight) + errors * weight.sum() ** -0.5))


def _log_odds(found: Moved) -> tuple[float, float]:
    x0, x1 = found.before * found.size_before + 0.5, found.now * found.size + 0.5
    y0, y1 = found.size_before - x0 + 1, found.size - x1 + 1
    return float(np.log(x1 / y1 / (x0 / y0))), float(np.sqrt(1 / x0 + 1 / y0 + 1 / x1 + 1 / y1))


def _fisher(a: float, m: float, b: float, n: float) -> tuple[float, float]:
    from scipy.stats import hypergeom

    # Effective counts are rounded towards what was observed less often, so that no evidence is made up.
    a, m, b, n = (round(value) for value in (a, m, b, n))
    if not (m and n):
        return 1.0, 1.0
    a, b = min(a, m), min(b, n)
    return float(hypergeom.sf(b - 1, m + n, a + b, n)), float(hypergeom.cdf(b, m + n, a + b, n))


def rose(count0: float, nobs0: float, count1: float, nobs1: float) -> float:
    """Fisher's exact p-value of "the rate rose"; weeks that scatter more than chance make it too small.

    Examples
    --------
    >>> round(rose(10, 200, 20, 200), 3), rose(0, 0, 3, 10)
    (0.043, 1.0)
    """
    return _fisher(count0, nobs0, count1, nobs1)[0]


def scatter(groups: Iterable[tuple[ArrayLike, ArrayLike]]) -> Scatter:
    """Estimate how many times more weeks of a group differ than chance alone would have them, at least 1.

    Parameters
    ----------
    groups
        Counts and cases of weeks with one rate; the groups share their scatter.

    Examples
    --------
    >>> found = scatter([([10, 30, 20], [100, 100, 100]), ([5, 6], [100, 100])])
    >>> round(found.value, 1), found.df
    (4.2, 3)
    """
    squares, df = 0.0, 0
    for count, nobs in groups:
        x, n = np.asarray(count, dtype=np.float64), np.asarray(nobs, dtype=np.float64)
        seen = n > 0
        if seen.sum() < 2:
            continue
        rate = (x.sum() + 0.5) / (n.sum() + 1)
        squares += float(((x - n * rate)[seen] ** 2 / (n * rate * (1 - rate))[seen]).sum())
        df += int(seen.sum()) - 1
    return Scatter(max(squares / df, 1.0) if df else 1.0, df)


def _quasi(x0: Floats, n0: Floats, x1: Floats, n1: Floats, spread: Scatter) -> tuple[float, float]:
    from scipy.stats import t as student

    if spread.df < FREE:
        return 0.0, 0.0
    m, n = float(n0.sum()), float(n1.sum())
    pooled = (x0.sum() + x1.sum() + 0.5) / (m + n + 1)
    error = np.sqrt(spread.value * pooled * (1 - pooled) * (1 / m + 1 / n))
    t = float((x1.sum() / n - x0.sum() / m) / error)
    return float(student.sf(t, spread.df)), float(student.cdf(t, spread.df))
