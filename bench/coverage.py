"""How often the bounds of a stratified audit contain the truth, over random designs.

Each design draws its number of cohorts (2 to 8), their shares, their true rates and their calls (15 to 300) at random;
each is then audited many times over. The promise is 95% on each side. Beside `audit.estimate` stand its parts: what one
gets without the care for strata of fewer than 30 cases, without Kish's size as an upper limit as well, from a normal
interval on the variance, and by pooling the audited cases without weights.

Run ``python bench/coverage.py`` (200 designs, 5,000 audits each), or ``python bench/coverage.py 50 20000``.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtri

from cascade_eval import audit, bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEED = 20260104
METHODS = (
    "audit.estimate",
    "Korn–Graubard, n* = min(HT, Kish)",
    "Korn–Graubard, HT only",
    "normal, HT variance",
    "pooled, no weights",
)


class Design(NamedTuple):
    """One audit: shares, true rates and calls, each of shape (n_strata,)."""

    shares: Floats
    rates: Floats
    calls: NDArray[np.int64]


def designs(number: int, seed: int = SEED) -> list[Design]:
    """Draw designs: shares from a Dirichlet, rates small but for a cohort or two, calls from 15 to 300."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        size = int(rng.integers(2, 9))
        rates = rng.beta(1.5, 30, size)
        bad = rng.random(size) < 0.2
        rates[bad] = rng.uniform(0.1, 0.5, int(bad.sum()))
        calls = np.exp(rng.uniform(np.log(15), np.log(300), size)).astype(np.int64)
        found.append(Design(rng.dirichlet(np.full(size, 1.0)), rates, calls))
    return found


def coverage(design: Design, draws: int, rng: np.random.Generator) -> Floats:
    """Share of audits whose upper and lower bound hold, by method; shape (n_methods, 2)."""
    truth = float(design.shares @ design.rates)
    count = rng.binomial(design.calls, design.rates, (draws, len(design.calls)))
    found = bounds.stratified(design.shares, design.calls, count)
    own = audit.estimate(design.shares, design.calls, count)
    pairs = [
        (own.low, own.high),
        (found.low, found.high),
        _korn_graubard(found),
        _normal(found),
        _pooled(design, count),
    ]
    return np.array([[(high >= truth).mean(), (low <= truth).mean()] for low, high in pairs])


def _korn_graubard(found: bounds.Stratified) -> tuple[Floats, Floats]:
    # A variance of zero says that the sample is infinitely large; so say the formulas without the guard.
    nobs = np.minimum(found.n_ht, 1e9)
    return bounds.rate(found.value * nobs, nobs)


def _normal(found: bounds.Stratified) -> tuple[Floats, Floats]:
    half = float(ndtri(0.95)) * found.se
    return found.value - half, found.value + half


def _pooled(design: Design, count: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return bounds.rate(count.sum(axis=1), np.full(len(count), design.calls.sum()))


def main() -> None:
    number, draws = (
        (int(word) for word in (*sys.argv[1:3], "200", "5000")[:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 5000)
    )
    begun = time.perf_counter()
    rng = np.random.default_rng(SEED + 1)
    table = np.array([coverage(design, draws, rng) for design in designs(number)])
    print(
        f"{number} designs, {draws:,} audits each, seed {SEED}; one-sided 95% bounds: min / 5th percentile / median\n"
    )
    print("| method | upper | lower |\n|---|---|---|")
    for method, name in enumerate(METHODS):
        cells = [" / ".join(f"{np.quantile(table[:, method, side], q):.3f}" for q in (0, 0.05, 0.5)) for side in (0, 1)]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    short = int((table[:, 0] < 0.94).any(axis=1).sum())
    print(f"\ndesigns of the first method below .940 on either side: {short}; {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
