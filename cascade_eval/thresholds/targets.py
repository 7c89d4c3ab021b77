"""A threshold that escalates a given share: a quantile of the raw signal, its tied level split by keyed hash.

A quantile cuts a signal with ties in the wrong place: a threshold takes a whole level or none of it, and what is
realised is up to a level away from what was asked for. Calibrated by isotonic regression any signal has few levels, so
that a quantile of calibrated values is the worst way to meet a target. Here the level the quantile falls on is split:
its cases escalate with the probability that is still missing. A hash of the case id decides which ones do, so that a
case is treated the same wherever and however often it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

KEY: Final = "cascade-eval ties"
"""Key of the hash; another key escalates other cases of the tied level."""


@dataclass(frozen=True)
class Target:
    """A threshold for a share to escalate, and what its tied level takes.

    Parameters
    ----------
    at
        Share of the cases to escalate.
    threshold
        Cases less sure than this escalate; None where no case has a value, so that all escalate.
    share
        Share of the cases exactly at the threshold that escalate as well.
    missing
        Share of the cases without a value; they escalate whatever the threshold.
    below, tied
        Share of the cases that are less sure than the threshold, those without a value included, and exactly at it.
    surer
        Which direction means surer.
    key
        Of the hash that splits the tied level.
    """

    at: float
    threshold: float | None
    share: float
    missing: float
    below: float
    tied: float
    surer: Literal["higher", "lower"] = "higher"
    key: str = KEY

    @property
    def whole(self) -> float:
        """Share a plain gate at this threshold escalates: the tied level settles as a whole."""
        return self.below

    @property
    def split(self) -> float:
        """Share that escalates when the tied level is split; over the target only where more values are missing."""
        return self.below + self.share * self.tied

    def escalates(self, values: ArrayLike, ids: Iterable[str]) -> Mask:
        """Tell which cases escalate.

        Parameters
        ----------
        values : array-like of shape (n_cases,)
            Value the gate compares; NaN escalates.
        ids : iterable of str, of length n_cases
            Case ids; those of tied cases are hashed.

        Returns
        -------
        ndarray of shape (n_cases,)
            The same for a case whatever other cases there are.
        """
        value = np.asarray(values)
        value = value if value.dtype.kind == "f" else value.astype(np.float64)
        if self.threshold is None:
            return np.ones(value.shape, dtype=np.bool_)
        # As a gate does, compare in the precision of the recorded column.
        threshold = value.dtype.type(self.threshold)
        found: Mask = np.isnan(value) | (value < threshold if self.surer == "higher" else value > threshold)
        level = value == threshold
        tied = [name for name, here in zip(ids, level.tolist(), strict=True) if here]
        found[level] = lots(tied, key=self.key) < self.share
        return found


def target(
    values: ArrayLike,
    *,
    at: float,
    weights: ArrayLike | None = None,
    surer: Literal["higher", "lower"] = "higher",
    key: str = KEY,
) -> Target:
    """Choose the threshold that escalates a given share of the cases.

    Parameters
    ----------
    values : array-like of shape (n_cases,)
        Raw value of the signal, not calibrated; NaN escalates, and counts towards the share.
    at : float
        Share to escalate, between 0 and 1.
    weights : array-like of shape (n_cases,), optional
        How many cases each stands for.
    surer : {"higher", "lower"}
        Which direction of the value means surer.
    key : str
        Of the hash that splits the tied level.

    Returns
    -------
    Target
        With ``P(less sure) <= at`` and the share ``(at - P(less sure)) / P(tied)`` of the tied level.

    Raises
    ------
    ValueError
        A share that is none, or no cases.

    Examples
    --------
    Half of the cases say 0.9, and 40% are to escalate: the lower 20%, and two fifths of the tied ones.

    >>> found = target([0.3, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9, 0.95, 0.97, 0.99], at=0.4)
    >>> found.threshold, round(found.share, 3), found.whole, found.split
    (0.9, 0.4, 0.2, 0.4)
    >>> found.escalates([0.3, 0.9, 0.9, 0.9], ["a", "b", "c", "d"])
    array([ True, True, False, False])
    """
    value = np.asarray(values, dtype=np.float64)
    if not 0 < at < 1:
        raise ValueError(f"a share to escalate lies between 0 and 1, not {at!r}.")
    weight = np.ones(len(value)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = float(weight.sum())
    if total <= 0:
        raise ValueError("without cases there is no share of them.")
    known = ~np.isnan(value)
    lost = float(weight[~known].sum()) / total
    if not known.any():
        return Target(at, None, 0.0, lost, lost, 0.0, surer, key)
    sign = 1.0 if surer == "higher" else -1.0
    levels, where = np.unique(value[known] * sign, return_inverse=True)
    mass = np.bincount(where, weights=weight[known]) / total
    below = lost + np.concatenate([[0.0], np.cumsum(mass)[:-1]])
    # The last level with no more than the share before it; rounding must not push a whole share past its level.
    k = max(int(np.searchsorted(below, at + 1e-12, side="right")) - 1, 0)
    short = at - below[k]
    share = float(min(short / mass[k], 1.0)) if short > 1e-12 and mass[k] > 0 else 0.0
    return Target(at, float(levels[k] * sign), share, lost, float(below[k]), float(mass[k]), surer, key)


def lots(ids: Iterable[str], *, key: str = KEY) -> Floats:
    """Give each id a number from 0 to below 1: the first 53 bits of its BLAKE2b hash of 8 bytes, keyed, over 2**53.

    Parameters
    ----------
    ids
        Case ids.
    key
        At most 64 bytes.

    Examples
    --------
    >>> lots(["case-1", "case-2", "case-1"]).round(4)
    array([0.7252, 0.0774, 0.7252])
    """
    secret = key.encode()
    digests = b"".join(blake2b(name.encode(), digest_size=8, key=secret).digest() for name in ids)
    # More bits than a float holds would be rounded, now and then up to 1.
    return (np.frombuffer(digests, dtype=">u8").astype(np.uint64) >> np.uint64(11)).astype(np.float64) / 2.0**53
