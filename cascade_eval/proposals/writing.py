"""A proposal for people, and its threshold into the suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cascade_eval import atomic, budgets
from cascade_eval.errors import Problem, UsageError
from cascade_eval.proposals.nouns import SLICES, Part, Rate, Threshold
from cascade_eval.suite import text, write_threshold

if TYPE_CHECKING:
    from collections.abc import Iterator


def write(path: str | Path, made: Threshold) -> Path:
    """Write a proposed threshold into its suite, or into the file its cascade stands in, with `chosen_on`.

    Parameters
    ----------
    path
        Of the suite.
    made
        From `threshold`.

    Returns
    -------
    Path
        The file that was changed; comments and layout stay.

    Raises
    ------
    UsageError
        There is no certified threshold, or the file cannot be changed.
    """
    if made.threshold is None:
        raise UsageError([Problem(f"nothing is written: {made.reason}", made.suite)])
    target = Path(path)
    written = _text(target)
    entry = text.read(written, file=made.suite, as_text=lambda _: True).value["cascades"][made.cascade]
    cascade: str | None = made.cascade
    if isinstance(entry, str):
        target, cascade = target.parent / entry, None
        written = _text(target)
    changed = write_threshold(
        written, cascade, made.tier, made.threshold, chosen_on=made.data_sha256, file=target.as_posix()
    )
    return atomic.write(target, changed.encode())


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError([Problem(f"cannot be read: {error}", str(path))]) from error


def lines(made: Threshold) -> Iterator[str]:
    """Say a proposal in lines, as the command prints it."""
    what = "disagreement of kept cases" if made.harm == "disagreement" else "joint harm"
    yield f"{made.cascade} · {made.tier} · {made.signal}: {what} at most {_percent(made.target)}, wrong with {_percent(made.delta)}"
    yield f"threshold: {'none' if made.threshold is None else made.threshold} (now {made.current}): {made.reason}"
    for part in made.parts if len(made.parts) > 1 or made.threshold is None else ():
        yield f"  {part.cohort}: {_said(part)}"
    if made.kept is not None and made.escalation is not None:
        yield f"kept: {_rate(made.kept)}; certified bound {_percent(made.bound)}"
        value, low, high = made.escalation
        yield f"escalation: {_percent(value)} ({_percent(low)} to {_percent(high)}), now {_percent(made.escalation_now)}"
    yield from (f"  {one.cohort}: {_rate(one)}" for one in made.slices[:SLICES])
    if len(made.slices) > SLICES:
        yield f"  … and {len(made.slices) - SLICES:,} more cohorts"
    yield f"labelled: {made.labelled:,} of {made.gated:,} cases at the gate ({_percent(made.coverage)}), of {made.cases:,} in all"
    yield f"data: {made.data}, sha256 {made.data_sha256}"
    yield from (f"note: {note}" for note in made.notes)


def _said(part: Part) -> str:
    if part.threshold is not None:
        return f"{part.threshold:.6g}, bound {_percent(part.bound)}: {part.reason}"
    return part.reason


def _rate(one: Rate) -> str:
    if one.rate is None:
        return "nothing kept"
    return f"{one.count:,} of {one.nobs:,} disagree, {_percent(one.rate)} ({_percent(one.low)} to {_percent(one.high)})"


def markdown(made: Threshold) -> str:
    """Write a proposal as Markdown, for review."""
    first, *rest = (_escaped(line) for line in lines(made))
    items = "\n".join(f"{'  ' if line.startswith('  ') else ''}- {line.strip()}" for line in rest)
    return f"# Threshold proposed for {first}\n\n{items}\n- made: {made.created_at.isoformat(timespec='seconds')}\n"


def _escaped(line: str) -> str:
    spaced = "".join(character if character.isprintable() else " " for character in line)
    for character in "\\`*_[]<>|":
        spaced = spaced.replace(character, f"\\{character}")
    return spaced


def _percent(rate: float | None) -> str:
    return "unknown" if rate is None else budgets.show(rate, "rate")
