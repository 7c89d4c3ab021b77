"""A proposal for people, and its threshold into the suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cascade_eval import atomic, budgets
from cascade_eval.cascade import Leaf
from cascade_eval.errors import Problem, UsageError
from cascade_eval.proposals import gates
from cascade_eval.proposals.nouns import SLICES, Escalation, Pair, Part, Rate, Threshold
from cascade_eval.suite import load, text, write_threshold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.proposals.nouns import Estimated, Point


def write(path: str | Path, made: Threshold | Escalation | Pair) -> Path:
    """Write proposed thresholds into their suite, or into the file their cascade stands in.

    Parameters
    ----------
    path
        Of the suite.
    made
        From `threshold`, `escalation` or `pair`. What agreement chose gets `chosen_on` beside it.

    Returns
    -------
    Path
        The file that was changed; comments and layout stay.

    Raises
    ------
    UsageError
        There is no certified threshold, the gate compares something else by now, or the file cannot be changed.

    Examples
    --------
    >>> import tempfile
    >>> from cascade_eval import proposals, runs, starter, suite
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path, *_] = starter.init(folder)
    ...     found = suite.load(path)
    ...     made = proposals.threshold(found, runs.open(found).traffic, at_most=0.05)
    ...     changed = write(path, made).name
    ...     changed, suite.load(path).cascades[0].tiers[0].gate.threshold == made.threshold
    ('support.yaml', True)
    """
    values = dict(_values(made))
    _refuse_other(path, made)
    target = Path(path)
    written = _text(target)
    entry = text.read(written, file=made.suite, as_text=lambda _: True).value["cascades"][made.cascade]
    cascade: str | None = made.cascade
    if isinstance(entry, str):
        target, cascade = target.parent / entry, None
        written = _text(target)
    for (tier, value), chosen_on in zip(values.items(), _chosen_on(made), strict=True):
        written = write_threshold(written, cascade, tier, value, chosen_on=chosen_on, file=target.as_posix())
    return atomic.write(target, written.encode())


def _values(made: Threshold | Escalation | Pair) -> Iterator[tuple[str, float]]:
    """Thresholds by tier."""
    tiers: tuple[str, ...]
    values: tuple[float, ...] | None
    if isinstance(made, Pair):
        tiers, values = made.tiers, made.thresholds
    else:
        tiers, values = (made.tier,), None if made.threshold is None else (made.threshold,)
    if values is None:
        assert not isinstance(made, Escalation)
        raise UsageError([Problem(f"nothing is written: {made.reason}", made.suite)])
    yield from zip(tiers, values, strict=True)


def _refuse_other(path: str | Path, made: Threshold | Escalation | Pair) -> None:
    """Refuse a suite whose gate is not the one that was looked at: a number of one signal means nothing on another."""
    found = load(path)
    tiers, compared = (made.tiers, made.signals) if isinstance(made, Pair) else ((made.tier,), (made.signal,))
    here = {tier.name: tier.gate for one in found.cascades if one.name == made.cascade for tier in one.tiers}
    problems = []
    for tier, signal in zip(tiers, compared, strict=True):
        leaf = here.get(tier)
        now = gates.signal(leaf) if isinstance(leaf, Leaf) else None
        if now != signal:
            there = "there is no such gate" if now is None else f"it compares '{now}'"
            message = f"the threshold of '{tier}' was chosen for '{signal}', and now {there}: choose again"
            problems.append(Problem(message, found.name))
    if problems:
        raise UsageError(problems)


def _chosen_on(made: Threshold | Escalation | Pair) -> tuple[str | None, ...]:
    """Return what tells the cases that chose each threshold."""
    if isinstance(made, Escalation):
        # A share to escalate looks at no agreement, so it does not spoil the data for a verdict.
        return (None,)
    if isinstance(made, Pair):
        return made.chosen_on or (made.data_sha256, made.data_sha256)
    return (made.chosen_on or made.data_sha256,)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError([Problem(f"cannot be read: {error}", str(path))]) from error


def lines(made: Threshold | Escalation | Pair) -> Iterator[str]:
    """Say a proposal in lines, as the command prints it."""
    if isinstance(made, Escalation):
        yield from _of_escalation(made)
    elif isinstance(made, Pair):
        yield from _of_pair(made)
    else:
        yield from _of_threshold(made)
    yield f"data: {made.data}, sha256 {made.data_sha256}"
    yield from (f"note: {note}" for note in made.notes)


def _of_threshold(made: Threshold) -> Iterator[str]:
    what = "disagreement of kept cases" if made.harm == "disagreement" else "joint harm"
    yield f"{made.cascade} · {made.tier} · {made.signal}: {what} at most {_percent(made.target)}, with a chance of {_percent(made.delta)} to be wrong"
    yield f"threshold: {'none' if made.threshold is None else made.threshold} (now {made.current}): {made.reason}"
    for part in made.parts if len(made.parts) > 1 else ():
        yield f"  {part.cohort}: {_said(part)}"
    if made.kept is not None and made.escalation is not None:
        yield f"kept: {_rate(made.kept)}; certified bound {_percent(made.bound)}"
        yield f"escalation: {_estimated(made.escalation)}, now {_percent(made.escalation_now)}"
    yield from _slices(made.slices)
    yield f"labelled: {made.labelled:,} of {made.gated:,} cases at the gate ({_percent(made.coverage)}), of {made.cases:,} in all"


def _of_escalation(made: Escalation) -> Iterator[str]:
    yield f"{made.cascade} · {made.tier} · {made.signal}: escalate {_percent(made.at)} of the cases at this gate"
    yield f"threshold: {made.threshold} (now {made.current}): a plain gate escalates {_percent(made.plain)} of them"
    yield (
        f"ties: {_percent(made.tied)} of them are exactly at the threshold; {_percent(made.share)} of these have to "
        f"escalate as well, which makes {_percent(made.split)}"
    )
    if made.missing:
        yield f"no value: {_percent(made.missing)} of them, which escalate"
    yield f"escalation: {_estimated(made.escalation)}, now {_percent(made.escalation_now)}"
    yield f"disagreement: {_estimated(made.disagreement)}, now {_percent(made.disagreement_now)}"
    yield f"cases: {made.gated:,} at the gate, of {made.cases:,} in all"


def _of_pair(made: Pair) -> Iterator[str]:
    tiers = " and ".join(f"{tier} · {signal}" for tier, signal in zip(made.tiers, made.signals, strict=True))
    yield (
        f"{made.cascade} · {tiers}: disagreement of kept cases at most {_percent(made.target)}, wrong with "
        f"{_percent(made.delta)}"
    )
    current = " and ".join(str(one) for one in made.current)
    chosen = "none" if made.thresholds is None else " and ".join(str(one) for one in made.thresholds)
    yield f"thresholds: {chosen} (now {current}): {made.reason}"
    for part in made.parts if len(made.parts) > 1 else ():
        if part.bound is None:
            yield f"  {part.cohort}: {part.reason}"
        else:
            yield f"  {part.cohort}: {part.disagreeing:,} of {part.kept:,} disagree, bound {_percent(part.bound)}"
    if made.kept is not None and made.escalation is not None and made.cost is not None:
        yield f"kept: {_rate(made.kept)}; certified bound {_percent(made.bound)}"
        yield f"escalation: {_estimated(made.escalation)}, now {_percent(made.escalation_now)}"
        yield f"cost: {_estimated(made.cost)} of always-flagship, now {_percent(made.cost_now)}"
    yield from _slices(made.slices)
    if made.front:
        yield f"front: {len(made.front):,} pairs no other pair beats on these cases; a pair chosen by eye is not certified"
    for point in _spread(made.front):
        first, second = (f"{one:.6g}" for one in point.thresholds)
        yield (
            f"  {first} and {second}: cost {_percent(point.cost)}, disagreement {_percent(point.disagreement)} (at most "
            f"{_percent(point.high)}), escalation {_percent(point.escalation)}"
        )
    yield f"labelled: {made.labelled:,} of {made.gated:,} cases at the gates ({_percent(made.coverage)}), of {made.cases:,} in all"


def _slices(slices: Sequence[Rate]) -> Iterator[str]:
    yield from (f"  {one.cohort}: {_rate(one)}" for one in slices[:SLICES])
    if len(slices) > SLICES:
        yield f"  … and {len(slices) - SLICES:,} more cohorts"


def _spread(points: Sequence[Point]) -> list[Point]:
    """Pick some points of a front, evenly spread, both ends among them."""
    if len(points) <= SLICES:
        return list(points)
    return [points[round(i * (len(points) - 1) / (SLICES - 1))] for i in range(SLICES)]


def _estimated(found: Estimated) -> str:
    value, low, high = found
    if value is None:
        return "unknown"
    return f"{_percent(value)} ({_percent(low)} to {_percent(high)})"


def _said(part: Part) -> str:
    if part.threshold is not None:
        return f"{part.threshold:.6g}, bound {_percent(part.bound)}: {part.reason}"
    return part.reason


def _rate(one: Rate) -> str:
    if one.rate is None:
        return "nothing kept"
    return f"{one.count:,} of {one.nobs:,} disagree, {_percent(one.rate)} ({_percent(one.low)} to {_percent(one.high)})"


def markdown(made: Threshold | Escalation | Pair) -> str:
    """Write a proposal as Markdown, for review.

    Examples
    --------
    >>> from cascade_eval import proposals, runs, suite
    >>> found = suite.load("suites/digits.cascade.yaml")
    >>> print(markdown(proposals.escalation(found, runs.open(found).traffic, at=0.3)))
    # Threshold proposed for current · linear · confidence: escalate 30% of the cases at this gate
    <BLANKLINE>
    - threshold: 0.977558 (now 0.9): a plain gate escalates 30.0% of them
    ...
    """
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
