"""Scales: values of a signal that cannot be, and thresholds on another scale than the values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cascade_eval.cascade import leaves
from cascade_eval.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade, Leaf

SLACK: Final = 1e-3
"""A log-probability may be so much above 0 by rounding."""

Key = tuple[str, str, int]
"""A gate's signal, by cascade, tier and position."""


class Spread(NamedTuple):
    """Where the values of a signal lie: the least, the greatest, how many are known, and how many are above 1."""

    low: float
    high: float
    cases: int
    above: int


def spread(values: NDArray[np.float64], cases: NDArray[np.int64]) -> Spread | None:
    """Summarise values, ascending, and the cases of each; None where there are none."""
    if not len(values):
        return None
    return Spread(float(values[0]), float(values[-1]), int(cases.sum()), int(cases[values > 1].sum()))


def problems(cascades: tuple[Cascade, ...], spreads: Mapping[Key, Spread], file: str) -> Iterator[Problem]:
    """Say which signals are no log-probabilities, and are read as such."""
    for _, name, leaf, found in _gates(cascades, spreads):
        most = {"mean": 0.0, "entropy": np.inf}.get(leaf.signal.options.get("statistic", ""), 1.0)
        if leaf.signal.name == "logprob" and found.high > most + SLACK:
            yield Problem(
                f"'{leaf.signal}' of '{name}' is up to {found.high:.4g}, and at most {most:g} is possible: a log-probability is 0 "
                "or less. Record natural logarithms, not probabilities or their negatives",
                file,
            )


def notes(cascades: tuple[Cascade, ...], spreads: Mapping[Key, Spread]) -> Iterator[str]:
    """Say where a gate decides nothing, and where values seem to be of two scales."""
    for cascade, name, leaf, found in _gates(cascades, spreads):
        if leaf.calibrate is not None or leaf.threshold is None or cascade.endswith(" (baseline)"):
            continue
        unsure = found.low if leaf.surer == "higher" else found.high
        # The threshold is compared in the precision of the column, which is not known here.
        if (unsure > leaf.threshold) if leaf.surer == "higher" else (unsure < leaf.threshold):
            yield (
                f"{cascade}: the gate of {name} escalates no case whose signal is known: '{leaf.signal}' lies between {found.low:.4g} and "
                f"{found.high:.4g}, and its threshold is {leaf.threshold:g}"
            )
        elif 0 < leaf.threshold <= 1 and found.low >= 0 and 0 < found.above < found.cases and found.high > 2:
            yield (
                f"{cascade}: '{leaf.signal}' of {name} is above 1 in {found.above:,} of {found.cases:,} cases, up to "
                f"{found.high:.4g}, and its threshold is {leaf.threshold:g}: make sure that all are on one scale"
            )


def _gates(cascades: tuple[Cascade, ...], spreads: Mapping[Key, Spread]) -> Iterator[tuple[str, str, Leaf, Spread]]:
    for cascade in cascades:
        for tier in cascade.tiers:
            for number, leaf in enumerate(leaves(tier.gate)):
                found = spreads.get((cascade.name, tier.name, number))
                if found is not None:
                    yield cascade.name, tier.name, leaf, found
