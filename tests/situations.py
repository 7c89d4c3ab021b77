"""Made situations of a cascade with a known cause, drawn at random: what `bench/naming.py` counts and tests hold.

A case has q, its chance that mini gives the flagship's answer: Beta(30, 1) for the easy part of a cohort, Beta(4, 4) for
the rest. An honest mini reports q as its confidence. Every situation changes one thing from some week on, or from the
first; a mixture changes two.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from cascade_eval import monitor, suite, traffic

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
NAMES = ("en", "de", "pt", "fr")

CAUSES = (
    "healthy",
    "saturation",
    "mix shift",
    "uncovered cohort",
    "student drift",
    "threshold by feel",
    "verifier regression",
    "cost creep",
    "single-model overspend",
    "rising escalation",
    "moved past the cascade",
    "audit costs more than it guards",
    "not enough evidence",
)
MIXTURES = (
    ("saturation", "mix shift"),
    ("saturation", "cost creep"),
    ("student drift", "mix shift"),
    ("rising escalation", "mix shift"),
    ("cost creep", "moved past the cascade"),
    ("uncovered cohort", "rising escalation"),
)


@dataclass
class World:
    """Everything a situation may change; rates by cohort are arrays of shape (cohorts,)."""

    rng: np.random.Generator
    weeks: int
    cases: int
    cohorts: tuple[str, ...]
    shares: np.ndarray
    easy: np.ndarray
    change: int
    budgets: tuple[float, float]
    threshold: float
    audited: float
    """1: the flagship answered everything; between: drawn with this chance; 0: decisions alone."""
    cheap: float = 0.05
    single: bool = False
    judged: bool = False
    judge_moves: bool = False
    asked_again: tuple[float, float] = (0.0, 0.0)
    shares_after: np.ndarray | None = None
    inflated: dict[int, float] = field(default_factory=dict)
    deflated: dict[int, float] = field(default_factory=dict)
    worse: float = 0.0
    cheap_after: float | None = None
    timed: bool = True
    truth: tuple[str, ...] = ()


def world(rng: np.random.Generator, *, little: bool = False) -> World:
    """Draw a healthy world; `little` has too few comparisons to decide anything."""
    k = int(rng.integers(2, 5))
    shares = rng.dirichlet(np.full(k, 12.0))
    weeks = int(rng.integers(8, 13))
    audited = 1.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 0.8))
    cases = int(rng.integers(800, 1_600))
    if little:
        cases, audited = (int(rng.integers(10, 40)), 1.0) if rng.random() < 0.5 else (cases, 0.0)
    return World(
        rng, weeks, cases, NAMES[:k], shares, rng.uniform(0.6, 0.75, k), int(rng.integers(4, weeks - 1)),
        [(0.06, 0.12), (0.08, 0.15), (0.07, 0.12)][int(rng.integers(3))], round(float(rng.uniform(0.78, 0.84)), 3), audited,
    )  # fmt: skip


def draw(cause: str, rng: np.random.Generator, *, little: bool = False) -> World:
    """Draw a world in which this is the matter."""
    made = world(rng, little=little or cause == "not enough evidence")
    change(made, cause)
    made.truth = (cause,)
    return made


def mixture(causes: tuple[str, ...], rng: np.random.Generator) -> World:
    """Draw a world in which several things are the matter at once."""
    made = world(rng)
    for cause in causes:
        change(made, cause)
    made.truth = causes
    return made


def change(made: World, cause: str) -> None:
    """Make one thing the matter."""
    rng, k = made.rng, len(made.cohorts)
    if cause == "saturation":
        hit = rng.choice(k, size=1 if k == 2 else int(rng.integers(1, k)), replace=False)
        made.inflated |= {int(i): float(rng.uniform(0.6, 1.0)) for i in hit}
    elif cause == "mix shift":
        made.shares_after = np.roll(made.shares, 1) if np.ptp(made.shares) > 0.2 else _tilted(made)
    elif cause == "uncovered cohort":
        new = float(rng.uniform(0.10, 0.20))
        made.cohorts = (*made.cohorts, "zz")
        made.shares_after = np.append(made.shares * (1 - new), new)
        made.shares = np.append(made.shares, 0.0)
        made.easy = np.append(made.easy, 0.35)
        made.inflated[k] = 1.0
    elif cause == "student drift":
        made.worse = float(rng.uniform(0.15, 0.30))
    elif cause == "threshold by feel":
        made.threshold = round(float(rng.uniform(0.2, 0.4)), 3)
        made.timed = bool(rng.random() < 0.7)
    elif cause == "verifier regression":
        made.judged, made.judge_moves = True, True
    elif cause == "cost creep":
        if rng.random() < 0.5:
            made.cheap, made.cheap_after = 0.10, float(rng.uniform(0.4, 1.2))
        else:
            made.cheap = float(rng.uniform(0.9, 1.3))
    elif cause == "single-model overspend":
        made.single = bool(rng.random() < 0.5)
        made.threshold = 0.9999
        made.audited = 1.0
    elif cause == "rising escalation":
        known = [i for i in range(k) if made.shares[i] > 0 and i not in made.inflated]
        hit = rng.choice(known, size=int(rng.integers(1, len(known) + 1)), replace=False)
        made.deflated |= {int(i): float(rng.uniform(0.15, 0.5)) for i in hit}
    elif cause == "moved past the cascade":
        made.asked_again = (0.05, float(rng.uniform(0.09, 0.20)))
    elif cause == "audit costs more than it guards":
        made.audited, made.cheap = 0.95, float(rng.uniform(0.25, 0.5))
    elif cause == "not enough evidence":
        made.truth = ()


def _tilted(made: World) -> np.ndarray:
    tilted = made.shares.copy()
    most = int(np.argmax(tilted))
    moved = tilted[most] * 0.5
    tilted[most] -= moved
    tilted[(most + 1) % len(tilted)] += moved
    return tilted


def table(made: World) -> pa.Table:
    """Draw the cases."""
    rng, size = made.rng, made.weeks * made.cases
    week = np.repeat(np.arange(made.weeks), made.cases)
    late = week >= made.change
    who = _who(made, late)
    easy = rng.random(size) < made.easy[who]
    q = np.where(easy, rng.beta(30, 1, size), rng.beta(4, 4, size))
    right = np.where(late, q * (1 - made.worse), q)
    agrees = rng.random(size) < right
    sure = q.copy()
    for place, much in made.inflated.items():
        hit = late & (who == place) & ~easy & (rng.random(size) < much)
        sure[hit] = 0.86 + 0.12 * q[hit]
    for place, much in made.deflated.items():
        hit = late & (who == place) & (rng.random(size) < much)
        sure[hit] = 0.7 * q[hit]
    sure = np.clip(sure, 0, 1)
    length = rng.lognormal(0, 0.4, size)
    cheap = made.cheap if made.cheap_after is None else np.where(late, made.cheap_after, made.cheap)
    kept = sure >= made.threshold
    asked, chance = _asked(made, kept)
    seconds = (week + np.tile((np.arange(made.cases) + 0.5) / made.cases, made.weeks)) * 7 * 86_400
    columns = {
        "case_id": [f"c{i}" for i in range(size)],
        "language": np.array(made.cohorts)[who],
        "mini.answer": np.where(agrees, "yes", "no"),
        "mini.confidence": sure.round(6),
        "mini.cost_usd": (0.01 * length * cheap).round(9),
        "big.answer": pa.array(np.where(asked, "yes", None)),
        "big.cost_usd": pa.array((0.01 * length).round(9), mask=~asked),
        "mini.input_tokens": (100 * length).astype(int),
        "big.input_tokens": (100 * length).astype(int),
        "big.output_tokens": pa.array((50 * length).astype(int), mask=~asked),
    }
    if made.timed:
        columns["decided_at"] = pa.array(
            [START + dt.timedelta(seconds=s) for s in seconds], pa.timestamp("ms", tz="UTC")
        )
    if chance is not None:
        columns["audit_probability"] = chance
    if made.judged:
        strict = late & (rng.random(size) < 0.15) if made.judge_moves else np.zeros(size, dtype=bool)
        columns["mini.agrees"] = pa.array((agrees & ~strict).astype(float), mask=~asked)
    if made.asked_again[1]:
        again = np.where(late, made.asked_again[1], made.asked_again[0])
        columns["regenerated"] = rng.random(size) < again
    return pa.table(columns)


def _who(made: World, late: np.ndarray) -> np.ndarray:
    rng = made.rng
    who = rng.choice(len(made.cohorts), size=len(late), p=made.shares / made.shares.sum())
    if made.shares_after is not None:
        after = made.shares_after
        if len(after) < len(made.shares):
            after = np.append(after, np.zeros(len(made.shares) - len(after)))
        who[late] = rng.choice(len(after), size=int(late.sum()), p=after / after.sum())
    return who


def _asked(made: World, kept: np.ndarray) -> tuple[np.ndarray, pa.Array | None]:
    if made.audited == 1:
        return np.ones(len(kept), dtype=bool), None
    drawn = kept & (made.rng.random(len(kept)) < made.audited)
    if made.audited == 0:
        return ~kept, None
    return ~kept | drawn, pa.array(np.full(len(kept), made.audited), mask=~drawn)


def text(made: World) -> str:
    """Write the suite."""
    overall, each = made.budgets
    gate = f"    - {{tier: mini, model: mini, gate: {{signal: confidence, threshold: {made.threshold}}}}}\n"
    agreement = "judged" if made.judged else "same label"
    return (
        "traffic: cases.parquet\ncascades:\n  current:\n"
        + ("" if made.single else gate)
        + f"    - {{tier: big, model: big}}\nagreement: {agreement}\ncohorts: [language]\n"
        + f"budgets:\n  disagreement: {{overall: at most {overall:.0%}, each language: at most {each:.0%}}}\n"
    )


def judge_rows(made: World) -> tuple[monitor.Row, ...]:
    """Rows of a judge's fixed set, graded again each week."""
    if not made.judged:
        return ()
    rows = []
    for week in range(made.weeks):
        year, number, _ = (START + dt.timedelta(weeks=week)).isocalendar()
        rate = 0.82 if made.judge_moves and week >= made.change else 0.97
        agreed = int(made.rng.binomial(300, rate))
        rows.append(
            monitor.Row("made", "current", "judge", f"{year}-W{number:02d}", (), cases=300, agreed=agreed, answered=300)
        )
    return tuple(rows)


def opened(made: World) -> tuple[suite.Suite, traffic.Traffic, tuple[monitor.Row, ...]]:
    """Return suite, traffic and rows of fixed sets."""
    found = suite.parse(text(made), file="made.cascade.yaml", base=Path())
    return found, traffic.from_frame(table(made)), judge_rows(made)
