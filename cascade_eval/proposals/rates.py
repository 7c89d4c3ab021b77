"""Disagreement of kept cases, overall and by cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import bounds, cohorts
from cascade_eval.proposals.nouns import Rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cascade_eval.replay import Columns


def by_cohort(
    columns: Columns,
    families: Sequence[tuple[str, ...]],
    rows: NDArray[np.int64],
    wrong: NDArray[np.bool_],
    confidence: float,
) -> tuple[Rate, ...]:
    """Count disagreeing cases: all of them first, then each cohort, the worst first.

    Parameters
    ----------
    columns
        Of all cases.
    families
        Cohort families.
    rows, wrong
        Positions of the kept cases, and whether each disagrees; each of shape (n_kept,).
    confidence
        Of each bound on its own side.
    """
    found = list(_rates(cohorts.Codes((), np.zeros(len(rows), dtype=np.int64), ((),)), wrong, confidence))
    slices: list[Rate] = []
    for family in families:
        codes = columns.codes(family)
        slices += _rates(cohorts.Codes(family, codes.codes[rows], codes.members), wrong, confidence)
    return (*found, *sorted(slices, key=lambda one: (-(one.low or 0.0), -(one.rate or 0.0), one.cohort)))


def _rates(codes: cohorts.Codes, wrong: NDArray[np.bool_], confidence: float) -> Iterator[Rate]:
    size = len(codes.members)
    nobs = np.bincount(codes.codes, minlength=size)
    count = np.bincount(codes.codes[wrong], minlength=size)
    low, high = bounds.rate(count, nobs, confidence=confidence)
    for member, x, n, a, b in zip(codes.members, count.tolist(), nobs.tolist(), low, high, strict=True):
        label = cohorts.label(codes.family, member)
        yield Rate(label, x, n, x / n, float(a), float(b)) if n else Rate(label, 0, 0, None, None, None)
