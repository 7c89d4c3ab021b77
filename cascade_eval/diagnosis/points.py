"""Where weekly rates of many cohorts changed: one point of change for all of them, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL: Final = 0.001
"""Chance of a point where nothing changed, all weeks looked at together."""


def strongest(tables: Sequence[tuple[Floats, Floats]]) -> int | None:
    """Find the week from which rates differ most from those before.

    Parameters
    ----------
    tables
        Counts and cases, each of shape (cohorts, weeks); several tables change at the same point.

    Returns
    -------
    int or None
        Position of the first week after the change; None where no point stands out from weeks that scatter.

    Notes
    -----
    Twice the log likelihood ratio of two rates against one, added up over cohorts and tables: chi-squared with one degree of
    freedom each, and over the scatter of weeks around the two, F. The larger p-value counts, times the number of points
    looked at. Half of the level is for that; the other half for a change of all cohorts in one direction, which may be small
    in each (Mantel and Haenszel), table by table. It only chooses which weeks are compared; the comparison has tests of its own.

    References
    ----------
    Hinkley, Biometrika 57 (1970); Mantel and Haenszel, Journal of the National Cancer Institute 22 (1959).

    Examples
    --------
    >>> escalated = np.array([[30, 28, 31, 29, 30, 12, 11, 13], [10, 11, 9, 10, 12, 9, 11, 10]])
    >>> strongest([(escalated, np.full((2, 8), 100))])
    5
    >>> strongest([(escalated[1:], np.full((1, 8), 100))]) is None
    True
    """
    x = np.concatenate([np.asarray(count, dtype=np.float64) for count, _ in tables])
    n = np.concatenate([np.asarray(nobs, dtype=np.float64) for _, nobs in tables])
    weeks = x.shape[1]
    scores = [_score(x, n, at) for at in range(1, weeks)]
    if not scores:
        return None
    every = [(2, scores), *((2 * len(tables), _together(table, scores)) for table in tables)]
    p, best = min(_best(tried, one) for tried, one in every)
    return best + 1 if p * (weeks - 1) <= LEVEL else None


def latest(tables: Sequence[tuple[Floats, Floats]], *, longer: int) -> int | None:
    """Find the week from which rates no longer change: the strongest point, and in what follows it again.

    Parameters
    ----------
    tables
        As for `strongest`.
    longer
        Weeks after a point are looked at again where there are more of them than this.

    Returns
    -------
    int or None
        Position of the first week after the last change; None where there is none.

    Examples
    --------
    A rate that climbs in steps, and one step:

    >>> climbs = np.repeat([[10, 40, 60]], 6, axis=1)
    >>> latest([(climbs, np.full(climbs.shape, 200))], longer=4)
    12
    >>> latest([(climbs[:, :12], np.full((1, 12), 200))], longer=4)
    6
    """
    start = 0
    found = strongest(tables)
    while found is not None:
        start += found
        rest = [(np.asarray(count)[:, start:], np.asarray(nobs)[:, start:]) for count, nobs in tables]
        found = strongest(rest) if rest[0][0].shape[1] > longer else None
    return start or None


def _best(tried: int, scores: Sequence[_Score]) -> tuple[float, int]:
    """Return the p-value of the greatest score, times the number of ways it was looked for, and where it is."""
    best = int(np.argmax([one.ratio / max(one.scatter, 1.0) for one in scores]))
    return _p(scores[best]) * tried, best


def _together(table: tuple[Floats, Floats], scores: Sequence[_Score]) -> list[_Score]:
    """Score at each point a change of all cohorts in one direction, over the scatter found there."""
    x, n = (np.asarray(values, dtype=np.float64).cumsum(axis=1) for values in table)
    rate = np.divide(x[:, -1:], n[:, -1:], out=np.zeros((len(x), 1)), where=n[:, -1:] > 0)
    left = n[:, -1:] - n
    spread = np.divide(n * left, n[:, -1:], out=np.zeros_like(n), where=n[:, -1:] > 0) * rate * (1 - rate)
    gap, variance = (x - n * rate).sum(axis=0)[:-1], spread.sum(axis=0)[:-1]
    ratio = np.divide(gap**2, variance, out=np.zeros_like(gap), where=variance > 0)
    return [one._replace(ratio=float(z), seen=1) for one, z in zip(scores, ratio, strict=True)]


class _Score(NamedTuple):
    """Likelihood ratio of a change, in how many series it can be seen, and how weeks scatter with what freedom."""

    ratio: float
    seen: int
    scatter: float
    free: int


def _p(one: _Score) -> float:
    from scipy.stats import chi2
    from scipy.stats import f as fisher

    if not one.seen:
        return 1.0
    # With few weeks the scatter itself is hardly known.
    by_weeks = fisher.sf(one.ratio / one.scatter / one.seen, one.seen, one.free) if one.free and one.scatter else 0.0
    return float(max(chi2.sf(one.ratio, one.seen), by_weeks))


def _score(x: Floats, n: Floats, at: int) -> _Score:
    parts = [(x[:, :at], n[:, :at]), (x[:, at:], n[:, at:])]
    both = (parts[0][1].sum(axis=1) > 0) & (parts[1][1].sum(axis=1) > 0)
    ratio = 2 * (
        sum(_log_likelihood(c.sum(axis=1), m.sum(axis=1)) for c, m in parts)
        - _log_likelihood(x.sum(axis=1), n.sum(axis=1))
    )
    squares, free = 0.0, 0
    for count, nobs in parts:
        rate = ((count.sum(axis=1) + 0.5) / (nobs.sum(axis=1) + 1))[:, None]
        some = nobs > 0
        squares += float(
            np.divide((count - nobs * rate) ** 2, nobs * rate * (1 - rate), out=np.zeros_like(count), where=some).sum()
        )
        free += int(some.sum() - some.any(axis=1).sum())
    return _Score(float(np.asarray(ratio)[both].sum()), int(both.sum()), squares / free if free else 1.0, free)


def _log_likelihood(count: Floats, nobs: Floats) -> Floats:
    from scipy.special import xlogy

    rate = np.divide(count, nobs, out=np.zeros(len(count)), where=nobs > 0)
    return np.asarray(xlogy(count, rate) + xlogy(nobs - count, 1 - rate), dtype=np.float64)
