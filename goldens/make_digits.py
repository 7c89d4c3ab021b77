"""Make the digits goldens: a real cascade of two scikit-learn models on the digits that scikit-learn ships.

Models, labels and confidences are real; the shift is made. The small model (`linear`) is a linear discriminant on 32
numbers, neighbouring pixels averaged; the flagship (`kernel`) is a support vector machine on all 64 pixels. Both are
cross-fitted in three folds: every picture is answered by models that never saw it in any form.

`linear` learned the writing of the launch: clean, slightly turned, slightly noisy. `kernel` learned far more: turned
by up to 60 degrees, very noisy, and inverted, white on black.

=============  ======  ========================================================================================
golden         weeks   writing
=============  ======  ========================================================================================
digits         1 to 6  clean; rotated by 4 to 12 degrees; noisy by up to 4 of 16 grey levels
digits_shifted 7 to 10 clean; rotated by 25 to 55 degrees; noisy by up to 8 grey levels; inverted, never seen before
=============  ======  ========================================================================================

On inverted and strongly rotated writing `linear` is wrong and says it is sure: nothing was faked for that, it is what
a linear model does far away from what it learned.

Dollars are made: a billionth for each multiply-add of a model's prediction, so that costs are in the ratio of the work
(`linear`: 64 sums and 32 x 10 products; `kernel`: for each support vector 64 products and 9 votes). Weeks and clock are
made too. No latency is recorded: it would not be the same twice.

Run it with ``python goldens/make_digits.py [folder]``.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import freeze
import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.float64]  # shape (n, 8, 8), grey levels 0 to 16

SEED = 20260706
FOLDS = 3
LEVELS = 16
DOLLARS_PER_MULTIPLY_ADD = 1e-9
FIRST_WEEK = datetime(2026, 7, 6, tzinfo=UTC)
MODELS = ("linear", "kernel")
INK = " .:*#"


class Period(NamedTuple):
    """What is written in some weeks."""

    description: str
    prefix: str
    weeks: tuple[int, int]
    shares: dict[str, float]
    degrees: tuple[float, float]
    noise: float


PERIODS = {
    "digits": Period(
        description="Handwritten digits as at launch: a linear model first, a kernel machine as the flagship.",
        prefix="digit",
        weeks=(1, 6),
        shares={"clean": 0.45, "rotated": 0.25, "noisy": 0.30},
        degrees=(4, 12),
        noise=4,
    ),
    "digits_shifted": Period(
        description="The same digits in the four weeks after: turned further, noisier, and white on black.",
        prefix="later",
        weeks=(7, 10),
        shares={"clean": 0.40, "rotated": 0.20, "noisy": 0.20, "inverted": 0.20},
        degrees=(25, 55),
        noise=8,
    ),
}


def rotated(pictures: Pictures, degrees: NDArray[np.float64]) -> Pictures:
    """Turn each picture about its centre by its own angle, interpolating between the four nearest pixels."""
    grid = np.arange(8) - 3.5
    angle = np.deg2rad(degrees)[:, None, None]
    # Two empty pixels all around stand for the paper outside of the picture.
    paper = np.pad(pictures, ((0, 0), (2, 2), (2, 2)))
    row = np.clip(np.cos(angle) * grid[:, None] + np.sin(angle) * grid + 5.5, 0, 10.999)
    column = np.clip(np.cos(angle) * grid - np.sin(angle) * grid[:, None] + 5.5, 0, 10.999)
    i, j, which = row.astype(int), column.astype(int), np.arange(len(pictures))[:, None, None]
    down, right = row - i, column - j
    upper = (1 - right) * paper[which, i, j] + right * paper[which, i, j + 1]
    lower = (1 - right) * paper[which, i + 1, j] + right * paper[which, i + 1, j + 1]
    turned: Pictures = (1 - down) * upper + down * lower
    return turned


def noisy(pictures: Pictures, noise: float, rng: np.random.Generator) -> Pictures:
    """Add even noise of up to so many grey levels to every pixel."""
    return np.clip(pictures + (2 * rng.random(pictures.shape) - 1) * noise, 0, LEVELS)


def angles(n: int, degrees: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw angles between two sizes, to the left as often as to the right."""
    size = degrees[0] + (degrees[1] - degrees[0]) * rng.random(n)
    return np.where(rng.random(n) < 0.5, -size, size)


def flat(pictures: Pictures) -> NDArray[np.float64]:
    """All 64 pixels of each picture."""
    return pictures.reshape(len(pictures), -1)


def coarse(pictures: Pictures) -> NDArray[np.float64]:
    """32 numbers for each picture: neighbours in a row averaged."""
    return flat(pictures.reshape(-1, 8, 4, 2).mean(axis=3))


def written(pictures: Pictures, period: Period, rng: np.random.Generator) -> tuple[NDArray[np.str_], Pictures]:
    """Write each picture once, in the writing that falls to it."""
    n = len(pictures)
    shares = np.cumsum(list(period.shares.values()))
    of = np.minimum(np.searchsorted(shares, rng.random(n), side="right"), len(shares) - 1)
    writing = np.array(list(period.shares))[of]
    versions = {
        "clean": pictures,
        "rotated": rotated(pictures, angles(n, period.degrees, rng)),
        "noisy": noisy(pictures, period.noise, rng),
        "inverted": LEVELS - pictures,
    }
    return writing, np.select([(writing == name)[:, None, None] for name in versions], list(versions.values()))


def fit_linear(pictures: Pictures, label: NDArray[np.int64], rng: np.random.Generator) -> LinearDiscriminantAnalysis:
    """Fit the small model on the writing of the launch."""
    seen = [pictures, rotated(pictures, angles(len(pictures), (0, 12), rng)), noisy(pictures, 4, rng)]
    return LinearDiscriminantAnalysis().fit(coarse(np.concatenate(seen)), np.tile(label, len(seen)))


def fit_kernel(pictures: Pictures, label: NDArray[np.int64], rng: np.random.Generator) -> SVC:
    """Fit the flagship on every writing there is."""
    turned = rotated(pictures, angles(len(pictures), (0, 60), rng))
    seen = [pictures, turned, noisy(pictures, 8, rng), LEVELS - pictures]
    return SVC(C=5, gamma=0.001).fit(flat(np.concatenate(seen)), np.tile(label, len(seen)))


def make() -> dict[str, pa.Table]:
    """Answer both periods with cross-fitted models: a table for each golden."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    digits = load_digits()
    pictures, label = digits.images, digits.target
    periods = {name: written(pictures, period, rng) for name, period in PERIODS.items()}
    outcomes = {name: blank(len(label)) for name in PERIODS}
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(flat(pictures), label):
        linear = fit_linear(pictures[train], label[train], rng)
        kernel = fit_kernel(pictures[train], label[train], rng)
        for name, (_, shown) in periods.items():
            answer(outcomes[name], test, shown[test], linear, kernel)
    return {
        name: as_table(PERIODS[name], writing, shown, label, outcomes[name])
        for name, (writing, shown) in periods.items()
    }


def blank(n: int) -> dict[str, NDArray[np.float64]]:
    """Columns of outcomes, to be filled fold by fold."""
    columns = ("linear.answer", "linear.confidence", "linear.cost_usd", "kernel.answer", "kernel.cost_usd")
    return {column: np.full(n, np.nan) for column in columns}


def answer(
    outcomes: dict[str, NDArray[np.float64]],
    rows: NDArray[np.int64],
    pictures: Pictures,
    linear: LinearDiscriminantAnalysis,
    kernel: SVC,
) -> None:
    """Fill in what both models say about the pictures at these rows, and what saying it took."""
    chances = linear.predict_proba(coarse(pictures))
    outcomes["linear.answer"][rows] = linear.classes_[chances.argmax(axis=1)]
    outcomes["linear.confidence"][rows] = chances.max(axis=1).round(6)
    outcomes["linear.cost_usd"][rows] = (64 + linear.coef_.size) * DOLLARS_PER_MULTIPLY_ADD
    outcomes["kernel.answer"][rows] = kernel.predict(flat(pictures))
    outcomes["kernel.cost_usd"][rows] = kernel.n_support_.sum() * (64 + 9) * DOLLARS_PER_MULTIPLY_ADD


def as_table(
    period: Period,
    writing: NDArray[np.str_],
    pictures: Pictures,
    label: NDArray[np.int64],
    outcomes: dict[str, NDArray[np.float64]],
) -> pa.Table:
    """Put one golden into columns, cases in the order of their clock."""
    n = len(label)
    first, last = period.weeks
    span = timedelta(weeks=last - first + 1)
    clock = [FIRST_WEEK + timedelta(weeks=first - 1) + span * ((i + 0.5) / n) for i in range(n)]
    columns: dict[str, object] = {
        "case_id": [f"{period.prefix}-{i:04d}" for i in range(n)],
        "week": first + np.arange(n) * (last - first + 1) // n,
        "decided_at": pa.array(clock).cast(pa.timestamp("ms", tz="UTC"), safe=False),
        "writing": writing.tolist(),
        "input": [drawing(picture) for picture in pictures],
        "expected": [str(digit) for digit in label],
    }
    for column, values in outcomes.items():
        is_answer = column.endswith(".answer")
        columns[column] = [str(int(value)) for value in values] if is_answer else values.round(9)
    return pa.table(columns)


def drawing(picture: NDArray[np.float64]) -> str:
    """Draw the picture in text: eight lines of eight marks, darker marks for more ink."""
    marks = (picture / LEVELS * (len(INK) - 1)).round().astype(int)
    return "\n".join("".join(INK[mark] for mark in line) for line in marks)


def main(out: Path) -> None:
    """Write both goldens into a folder."""
    for name, table in make().items():
        first, last = (table["decided_at"][i].as_py().date() for i in (0, -1))
        recorded = {
            "how": (
                "made by goldens/make_digits.py: cross-fitted scikit-learn models on the test pictures of the UCI "
                "optical digits (E. Alpaydin and C. Kaynak, 1998) that scikit-learn ships, writing altered"
            ),
            "when": f"the clock of the made traffic: {first} to {last}",
        }
        freeze.write(
            out / name,
            table,
            description=PERIODS[name].description,
            recorded=recorded,
            models=MODELS,
            cohorts=["writing"],
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else freeze.HERE)
