"""Evidence that may be looked at as often as one likes: e-processes, confidence sequences, and when to raise an alarm.

An *e-value* is a bet against a claim: under the claim its mean is at most 1, so that it reaches 20 with probability at
most 5%. An *e-process* is a running bet with the same promise for its whole path: whoever looks weekly, hourly or only
when it looks interesting is fooled no more often than whoever looks once (Ville, Étude critique de la notion de
collectif, 1939; Ramdas et al., Statistical Science 38, 2023).

==========================  ==============================================================================
`log_e_process`             evidence in the counts so far that a rate lies above (or below) a budget
`log_likelihood_ratio`      the same for one suspected rate
`confidence_sequence`       bounds for a rate that hold at all times at once
`shiryaev_roberts`,         the evidence restarted every week, because one that has run through healthy months
`cusum`                     is slow to notice a change
`watch`                     where a restarted sequence raises an alarm, and where it lets go of it
==========================  ==============================================================================

Everything is in natural logarithms, over whole arrays; the last axis is time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

ALARM: Final = 100.0
"""A restarted sequence raises its alarm here: if nothing is wrong, not before 100 weeks on average."""


def log_e_process(
    s: ArrayLike,
    f: ArrayLike,
    p0: ArrayLike,
    a: float = 0.5,
    b: float = 0.5,
    *,
    claim: Literal["above", "below"] = "above",
) -> Floats:
    """Evidence that a rate lies above a budget, by betting with a Beta prior cut to the rates beyond it.

    Parameters
    ----------
    s, f : array-like
        Cases with the property and without it, so far; fractional where they are effective counts.
    p0 : float or array-like
        The budget, between 0 and 1.
    a, b : float
        The Beta prior. `prior` chooses one for a budget.
    claim : {"above", "below"}, default="above"
        ``above`` collects evidence that the rate is over the budget, ``below`` that it is under it.

    Returns
    -------
    ndarray
        ``log E``. The claim is shown at level alpha where ``E >= 1 / alpha``, whenever one looks.

    Raises
    ------
    ValueError
        For negative counts, or a budget outside 0 to 1.

    References
    ----------
    Robbins, Annals of Mathematical Statistics 41 (1970), mixtures; Waudby-Smith and Ramdas, Journal of the Royal
    Statistical Society B 86 (2024).

    Examples
    --------
    >>> np.exp(log_e_process([15, 6], [45, 54], 0.10)).round(4)
    array([32.8079,  0.0672])
    >>> float(np.exp(log_e_process(5, 195, 0.10, claim="below")).round(2))
    1601.19
    """
    from scipy.special import betaln

    s, f, p0 = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (s, f, p0)))
    _check(s, f, p0)
    after, before = (a + s, b + f), (np.full_like(s, a), np.full_like(s, b))
    grown = betaln(*after) - betaln(*before)
    tail = _log_tail(*after, p0, claim) - _log_tail(*before, p0, claim)
    found: Floats = grown + tail - s * np.log(p0) - f * np.log1p(-p0)
    return found


def prior(budget: float) -> tuple[float, float]:
    """Return a Beta prior for excesses worth an alarm: its mean is twice the budget.

    Examples
    --------
    >>> prior(0.10)
    (2.0, 8.0)
    """
    return 2.0, max(1.0 / budget - 2.0, 0.5)


def log_likelihood_ratio(s: ArrayLike, f: ArrayLike, p0: float, p1: float) -> Floats:
    """Evidence for one suspected rate against the budget.

    Parameters
    ----------
    s, f : array-like
        Cases with the property and without it.
    p0, p1 : float
        The budget, and a rate that would be worth an alarm.

    Examples
    --------
    >>> np.exp(log_likelihood_ratio(4, 56, 0.10, 0.20)).round(4)
    np.float64(0.0219)
    """
    s, f = np.asarray(s, dtype=np.float64), np.asarray(f, dtype=np.float64)
    found: Floats = s * math.log(p1 / p0) + f * (math.log1p(-p1) - math.log1p(-p0))
    return found


def confidence_sequence(
    count: ArrayLike, nobs: ArrayLike, *, confidence: float = 0.95, a: float = 0.5, b: float = 0.5
) -> tuple[Floats, Floats]:
    """Bounds for a rate that hold at all times at once, each with `confidence` on its own side.

    Parameters
    ----------
    count, nobs : array-like
        Cases with the property, and cases looked at, so far.
    confidence : float
        Of each bound, over the whole sequence.
    a, b : float
        The Beta prior of the bets.

    Returns
    -------
    low, high : ndarray
        The budgets that the e-process above, and the one below, do not refute.

    Examples
    --------
    >>> [bound.round(4) for bound in confidence_sequence(15, 300)]
    [np.float64(0.0178), np.float64(0.0967)]
    """
    count, nobs = np.broadcast_arrays(np.asarray(count, dtype=np.float64), np.asarray(nobs, dtype=np.float64))
    limit = -math.log(round(1.0 - confidence, 15))
    ends: list[Floats] = []
    for claim in ("above", "below"):
        refuted, held = (0.0, 1.0) if claim == "above" else (1.0, 0.0)
        out, inside = np.full(count.shape, refuted), np.full(count.shape, held)
        for _ in range(40):
            middle = (out + inside) / 2
            beyond = log_e_process(count, nobs - count, middle, a, b, claim=claim) >= limit
            out, inside = np.where(beyond, middle, out), np.where(beyond, inside, middle)
        ends.append(out)
    low, high = ends
    return np.where(count == 0, 0.0, low)[()], np.where(count == nobs, 1.0, high)[()]


def shiryaev_roberts(log_e: ArrayLike) -> Floats:
    """Add up the evidence of every possible week of change: ``M = (M + 1) * L``.

    Parameters
    ----------
    log_e : array-like of shape (..., weeks)
        Evidence of each week by itself; NaN where a week measured nothing, which leaves the sequence where it was.

    Returns
    -------
    ndarray of shape (..., weeks)
        ``log M``.

    References
    ----------
    Shin, Ramdas and Rinaldo, E-detectors, New England Journal of Statistics in Data Science 2 (2024).

    Examples
    --------
    >>> np.exp(shiryaev_roberts(np.log([2.0, 2.0, 2.0]))).round(6)
    array([ 2.,  6., 14.])
    """
    return _run(log_e, lambda before: np.logaddexp(before, 0.0))


def cusum(log_e: ArrayLike) -> Floats:
    """Keep the evidence of the most likely week of change: ``M = max(M, 1) * L``.

    Parameters
    ----------
    log_e : array-like of shape (..., weeks)
        As for `shiryaev_roberts`.

    Returns
    -------
    ndarray of shape (..., weeks)
        ``log M``.

    Examples
    --------
    >>> weeks = log_likelihood_ratio([4, 6, 9, 14, 15], [56, 54, 51, 46, 45], 0.10, 0.20)
    >>> np.exp(cusum(weeks)).round(4)
    array([2.19000000e-02, 1.10600000e-01, 1.26040000e+00, 9.15999000e+01,
           1.49789595e+04])
    """
    return _run(log_e, lambda before: np.maximum(before, 0.0))


class Watched(NamedTuple):
    """A restarted sequence with its alarms; both of shape (..., weeks)."""

    log_m: Floats
    alarm: NDArray[np.bool_]


def watch(log_e: ArrayLike, *, at: float = ALARM, released: ArrayLike | None = None) -> Watched:
    """Run a Shiryaev-Roberts sequence that raises an alarm and lets go of it again.

    The alarm is raised where the sequence reaches `at`. From there it is held at `at`, and the alarm stands until it
    has fallen under 1: letting go takes as much evidence as raising did. Holding changes nothing before the first
    alarm, so the mean time to a false one stays at least `at` weeks.

    Parameters
    ----------
    log_e : array-like of shape (..., weeks)
        Evidence of each week by itself; NaN where a week measured nothing.
    at : float
        Where the alarm is raised.
    released : array-like of bool of shape (..., weeks)
        Weeks in which there was nothing to be wrong about; they end an alarm and start again.

    Returns
    -------
    Watched

    Examples
    --------
    >>> watch(np.log([9.0, 90.0, 9.0, 0.1, 0.05])).alarm.tolist()
    [False, True, True, True, False]
    """
    log_e = np.asarray(log_e, dtype=np.float64)
    free = np.zeros(log_e.shape, dtype=np.bool_) if released is None else np.asarray(released, dtype=np.bool_)
    log_m, alarm = np.full(log_e.shape, -np.inf), np.zeros(log_e.shape, dtype=np.bool_)
    top = math.log(at)
    m, on = np.full(log_e.shape[:-1], -np.inf), np.zeros(log_e.shape[:-1], dtype=np.bool_)
    for week in range(log_e.shape[-1]):
        own = log_e[..., week]
        m = np.where(np.isnan(own), m, np.minimum(np.logaddexp(m, 0.0) + np.nan_to_num(own), top))
        m = np.where(free[..., week], -np.inf, m)
        on = (on & (m >= 0.0)) | (m >= top)
        log_m[..., week], alarm[..., week] = m, on
    return Watched(log_m, alarm)


def _run(log_e: ArrayLike, restart: Any) -> Floats:
    log_e = np.asarray(log_e, dtype=np.float64)
    out = np.empty_like(log_e)
    m = np.full(log_e.shape[:-1], -np.inf)
    for week in range(log_e.shape[-1]):
        own = log_e[..., week]
        m = np.where(np.isnan(own), m, restart(m) + own)
        out[..., week] = m
    return out


def _check(s: Floats, f: Floats, p0: Floats) -> None:
    if (s < 0).any() or (f < 0).any():
        raise ValueError("counts cannot be negative.")
    if not ((p0 > 0) & (p0 < 1)).all():
        raise ValueError("a budget lies between 0 and 1, for example 0.10.")


def _log_tail(a: Floats, b: Floats, x: Floats, claim: Literal["above", "below"]) -> Floats:
    """Log of the mass of Beta(a, b) above (below) x, also where it underflows."""
    from scipy.special import betainc, betaincc

    if claim == "above":
        mass, sides = betaincc(a, b, x), (b, a, 1 - x)
    else:
        mass, sides = betainc(a, b, x), (a, b, x)
    found: Floats = np.log(np.maximum(mass, 1e-300))
    lost = mass < 1e-290
    if lost.any():
        found = np.where(lost, _log_lower(*sides), found)
    return found


def _log_lower(a: Floats, b: Floats, x: Floats) -> Floats:
    """Log of the mass of Beta(a, b) below x, far below its mean, by the series of the incomplete beta function."""
    from scipy.special import betaln

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # Terms fall at least as fast as the first ratio there, so they are few.
        total, term = np.ones_like(a), np.ones_like(a)
        for k in range(10_000):
            term = term * x * (a + b + k) / (a + 1 + k)
            total = total + term
            if not (term > 1e-16 * total).any():
                break
        found: Floats = a * np.log(x) + b * np.log1p(-x) - np.log(a) - betaln(a, b) + np.log(total)
    return found
