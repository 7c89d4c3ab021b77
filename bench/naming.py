"""Which cause a diagnosis names in situations whose cause is known: a confusion matrix over random draws.

Run it with ``python bench/naming.py [--draws N] [--seed N]``. A share of the draws of every cause has too little data; there
"not enough evidence" is the right answer, and any other name than the true one is a wrong one. In its own draws nothing is the
matter, so "healthy" is true there: calm weeks together may be enough to show it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import situations

from cascade_eval import diagnosis

NONE = "not enough evidence"


def named(made):
    """Return the main cause, every conclusive cause, and every suspected one."""
    found, cases, rows = situations.opened(made)
    [one] = diagnosis.run(found, cases, rows=rows, treat=False)
    return (
        one.main.name,
        {cause.name for cause in one.causes if cause.conclusive},
        {cause.name for cause in one.causes if not cause.conclusive},
    )


def matrix(draws, seed, *, little):
    """Count the main cause by the true one."""
    counts = {cause: Counter() for cause in situations.CAUSES}
    for i in range(draws):
        cause = situations.CAUSES[i % len(situations.CAUSES)]
        counts[cause][named(situations.draw(cause, np.random.default_rng([seed, i]), little=little))[0]] += 1
    return counts


def mixtures(draws, seed):
    """Count how many of two causes are named."""
    found = {pair: Counter() for pair in situations.MIXTURES}
    for i in range(draws):
        pair = situations.MIXTURES[i % len(situations.MIXTURES)]
        main, sure, suspects = named(situations.mixture(pair, np.random.default_rng([seed, 7, i])))
        hit = sum(cause in sure for cause in pair)
        listed = sum(cause in sure | suspects for cause in pair)
        wrong = sure - set(pair) - {NONE, "healthy", "mix shift"}
        found[pair][
            f"{hit} of 2 conclusive, {listed} listed" + (f", wrong: {', '.join(sorted(wrong))}" if wrong else "")
        ] += 1
        found[pair][f"main {main}"] += 1
    return found


def show(title, counts):
    """Print a matrix, and what is systematically confused."""
    print(f"\n{title}")
    columns = [name for name in situations.CAUSES if any(row[name] for row in counts.values())]
    for number, name in enumerate(columns):
        print(f"  [{number}] {name}")
    print(f"{'true cause':34}" + "".join(f"{f'[{n}]':>6}" for n in range(len(columns))) + f"{'right':>8}{'wrong':>8}")
    total, right, wrong = 0, 0, 0
    for cause, row in counts.items():
        size = sum(row.values())
        if size:
            hit = row[cause] + (row["healthy"] if cause == NONE else 0)
            missed = size - hit - (row[NONE] if cause != NONE else 0)
            total, right, wrong = total + size, right + hit, wrong + missed
            print(
                f"{cause:34}"
                + "".join(f"{row[c] or '.':>6}" for c in columns)
                + f"{hit / size:>8.0%}{missed / size:>8.0%}"
            )
    print(
        f"{total} draws: {right / total:.1%} right, {(total - right - wrong) / total:.1%} '{NONE}', {wrong / total:.1%} wrong"
    )
    for cause, row in counts.items():
        size = sum(row.values())
        for other, n in row.items():
            true = other in {cause, NONE} or (cause, other) == (NONE, "healthy")
            if not true and n >= max(2, 0.1 * size):
                print(f"  systematic: {cause} named {other} in {n} of {size}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=520)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    show("Enough data", matrix(asked.draws, asked.seed, little=False))
    show(
        "Too little data (10 to 40 cases a week, or decisions alone)",
        matrix(asked.draws // 2, asked.seed + 1, little=True),
    )
    print("\nMixtures")
    for pair, row in mixtures(asked.draws // 4, asked.seed).items():
        print(f"  {' + '.join(pair)}")
        for what, n in row.most_common():
            print(f"    {n:>4}  {what}")


if __name__ == "__main__":
    main()
