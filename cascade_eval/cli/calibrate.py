"""The command `calibrate`: fit a calibration, store it, and say what it changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.proposals import Calibration


@click.command(short_help="Fit and store a calibration.")
@click.argument("suite", metavar="SUITE")
@click.option(
    "--kind", type=click.Choice(["platt", "isotonic", "hierarchical"]), required=True, help="Which map to fit."
)
@click.option("-o", "--output", metavar="FILE", required=True, help="Where to write: a .json that a gate may name.")
@click.option("--cascade", metavar="NAME", help="Which cascade; the suite's first unless given.")
@click.option("--tier", metavar="NAME", help="Whose gate; the only one unless given.")
@click.option("--per", metavar="COLUMN", multiple=True, help="Cohort column to remember or differ by. May be repeated.")
@click.option("--traffic", metavar="PATH", help="Fit on these cases instead of the suite's own.")
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside.")
def calibrate(suite: str, kind: Any, output: str, **options: Any) -> None:
    """Fit a calibration on the suite's data and store it with the data's hash, the date and the cohorts seen.

    Example: cascade-eval calibrate evals/support.cascade.yaml --kind platt -o evals/calibrations/mini.json

    In Python: proposals.calibrate(found, runs.open(found).traffic, kind="platt").save("evals/calibrations/mini.json")
    """
    from dataclasses import replace

    from cascade_eval import errors, proposals, runs
    from cascade_eval import suite as suite_
    from cascade_eval.report import terminal

    if not output.endswith(".json"):
        raise errors.UsageError(f"-o: a calibration is written as .json, not as '{output}'.")
    found = replace(suite_.load(suite), baseline=None)
    cases = runs.open(found, traffic_path=options["traffic"], tolerate=options["tolerate"]).traffic
    made = proposals.calibrate(
        found, cases, kind=kind, cascade=options["cascade"], tier=options["tier"], per=options["per"]
    )
    for line in _lines(made):
        click.echo(terminal.clean(line))
    click.echo(f"written: {made.save(output)}")
    click.echo(terminal.clean(f"In the gate of {made.tier}: calibrate: {_from_suite(found.base, output)}"))


def _from_suite(base: Path, output: str) -> str:
    """Return a path as a suite names it: relative to its own folder."""
    try:
        return Path(os.path.relpath(output, base)).as_posix()
    except ValueError:  # Another drive.
        return Path(output).resolve().as_posix()


def _lines(made: Calibration) -> Iterator[str]:
    stored = made.stored
    yield f"{made.cascade} · {made.tier} · {stored.signal}: {stored.map.kind}, {made.nobs:,} of {made.gated:,} cases at the gate"
    before = "unknown, the signal is no probability" if made.brier_before is None else f"{made.brier_before:.4f}"
    yield f"Brier: {before} before, {made.brier_after:.4f} after (out of fold)"
    yield f"AUROC: {_number(made.auroc_before)} before, {_number(made.auroc_after)} after"
    if stored.columns:
        yield f"cohorts seen: {', '.join(stored.cohorts[:12])}{', …' if len(stored.cohorts) > 12 else ''}"
    yield f"data: sha256 {stored.data_sha256}"
    yield from (f"note: {note}" for note in made.notes)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
