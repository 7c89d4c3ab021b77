"""What the weeks say: sequences of disagreement, movements of escalation, changes of traffic, fixed sets."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import bounds, budgets, sequential
from cascade_eval.monitor import movements, sequences
from cascade_eval.monitor.nouns import Change, Cohort, Finding, Findings, Row, Watched, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def judge(
    rows: Sequence[Row],
    promised: Sequence[budgets.Budget],
    *,
    confidence: float = 0.95,
    at: float = sequential.ALARM,
    since: str | None = None,
) -> Findings:
    """Read the rows of any number of weeks.

    Parameters
    ----------
    rows
        From `weekly`, `fixed` or a history; of one suite.
    promised
        The suite's budgets; those of disagreement "at most" are watched, in every cohort they name.
    confidence
        One minus the level of tests and bounds.
    at
        Where a restarted sequence raises its alarm: the mean number of weeks to a false one is at least this.
    since
        Leave out earlier weeks, such as those before ``2026-W28``. An alarm that stands in the last week stands all the
        same: leaving out the weeks that raised it is no way to end it.

    Returns
    -------
    Findings

    Raises
    ------
    ValueError
        For rows of several suites, or the same row twice.

    Examples
    --------
    >>> rows = [
    ...     Row("support", "current", "production", f"2026-W{week}", (), kept=60, least=x, least_size=60, most=x, most_size=60)
    ...     for week, x in ((20, 3), (21, 2), (22, 4), (23, 15), (24, 16))
    ... ]
    >>> promised = [budgets.Budget("disagreement", budgets.parse_scope("overall"), budgets.parse("at most 10%", "rate"))]
    >>> findings = judge(rows, promised)
    >>> findings.outcome, findings.first("disagreement")
    ('alarm', '2026-W23')
    """
    _check(rows)
    every, rows = rows, [row for row in rows if since is None or row.window >= since]
    production: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.kind == "production":
            production[row.cascade].append(row)
    alpha = bounds.alpha(confidence)
    found: list[Finding] = []
    watched: list[Watched] = []
    changes: list[Change] = []
    notes: list[str] = []
    for cascade, mine in production.items():
        moved, split = _escalation(cascade, _alike(mine), alpha, confidence)
        standing = _standing(cascade, every, promised, alpha, at) if since is not None else {}
        for one in sequences.run(cascade, mine, promised, alpha, at, sequences.jumps(moved)):
            sequence, alarms = one if one[0].state == "alarm" else standing.get(one[0].cohort, one)
            watched.append(sequence)
            found += alarms
            if sequence is not one[0]:
                notes.append(
                    f"{cascade}: the alarm of {label(sequence.cohort)} stands since {sequence.since}, before {since}"
                )
        found += moved
        changes += split
        notes += _notes(cascade, mine, watched)
    found += _fixed_sets(rows, alpha)
    if watched:
        notes.append(_promise(len(watched), at))
    windows = {cascade: tuple(sorted({row.window for row in mine})) for cascade, mine in production.items()}
    ordered = sorted(found, key=lambda f: (not (f.alarm and f.standing), not f.alarm, f.first, f.test, f.cohort))
    return Findings(tuple(ordered), tuple(watched), tuple(changes), windows, tuple(notes))


def _standing(
    cascade: str, rows: Sequence[Row], promised: Sequence[budgets.Budget], alpha: float, at: float
) -> dict[Cohort, tuple[Watched, list[Finding]]]:
    """Sequences over all weeks whose alarm stands in the last one, by cohort."""
    mine = [row for row in rows if row.cascade == cascade and row.kind == "production"]
    runs = sequences.run(cascade, mine, promised, alpha, at)
    return {one.cohort: (one, alarms) for one, alarms in runs if one.state == "alarm"}


def _check(rows: Sequence[Row]) -> None:
    if len({row.suite for row in rows}) > 1:
        names = ", ".join(sorted({row.suite for row in rows}))
        raise ValueError(f"rows of several suites ({names}) are judged by different budgets; judge them apart.")
    if len({row.key for row in rows}) < len(rows):
        raise ValueError("the same week, cohort and cascade appears twice, and would count as two weeks.")


def _alike(rows: Sequence[Row]) -> list[Row]:
    """Leave out weeks of another definition: a gate that was changed moves escalation, and nobody need be told."""
    now = max(rows, key=lambda row: row.window).definition
    return [row for row in rows if row.definition == now or now is None or row.definition is None]


def _escalation(
    cascade: str, rows: Sequence[Row], alpha: float, confidence: float
) -> tuple[list[Finding], list[Change]]:
    found: list[Finding] = []
    changes: list[Change] = []
    families = dict.fromkeys(row.family for row in rows)
    for family in families:
        own = movements.series(cascade, family, rows)
        # All cases together move whenever the mix does, so they are tested only where there are no cohorts.
        if family or len(families) == 1:
            found += movements.moved(own, alpha)
        if family:
            split = movements.changes(own, alpha, confidence)
            found += movements.mix_shift(split, own.windows)
            changes += split
        else:
            found += movements.aggregate_rule(own)
    return list(movements.explained(found, changes)), changes


def _notes(cascade: str, rows: Sequence[Row], watched: Sequence[Watched]) -> Iterator[str]:
    complete = len({row.window for row in _alike(rows) if row.complete})
    if complete < movements.REFERENCE:
        yield (
            f"{cascade}: {complete} complete week{'' if complete == 1 else 's'}; movements of escalation are looked at from {movements.REFERENCE}, and "
            f"compared with the first {movements.REFERENCE}"
        )
    yield from _gaps(cascade, sorted({row.window for row in rows}))
    last = max(rows, key=lambda row: row.window)
    others = {row.window for row in rows if row.definition != last.definition}
    if others:
        yield (
            f"{cascade}: {len(others):,} earlier weeks, the last {max(others)}, were measured under another definition of the "
            "cascade or of agreement; they can raise an alarm, and prove nothing about this one"
        )
    yield from _unwatched(cascade, rows, [sequence for sequence in watched if sequence.cascade == cascade])
    if not any(sequence.cascade == cascade for sequence in watched):
        yield f"{cascade}: no budget 'disagreement: … at most …', so nothing is watched. Write one for overall and each cohort."


def _unwatched(cascade: str, rows: Sequence[Row], watched: Sequence[Watched]) -> Iterator[str]:
    """Say which cohorts are over every budget there is, and have none of their own."""
    most = max((sequence.budget for sequence in watched), default=1.0)
    spoken = {sequence.cohort for sequence in watched}
    last = max(row.window for row in rows)
    for row in rows:
        if row.window == last and row.cohort not in spoken and (row.disagreement_low or 0.0) > most:
            yield (
                f"{cascade}: the flagship disagrees with {budgets.show(row.disagreement, 'rate')} of the unescalated answers of "
                f"{label(row.cohort)} in {last} (at least {budgets.show(row.disagreement_low, 'rate')}), and no budget speaks of it"
            )


def _gaps(cascade: str, windows: Sequence[str]) -> Iterator[str]:
    """Say which weeks are missing among the others: what is not handed in raises no alarm."""
    pairs = [(a, b, sequences.number(b) - sequences.number(a) - 1) for a, b in itertools.pairwise(windows)]
    gaps = [(a, b, missing) for a, b, missing in pairs if missing > 0]
    if gaps:
        before, after, _ = gaps[-1]
        total = sum(missing for *_, missing in gaps)
        yield (
            f"{cascade}: no case of {total:,} week{'' if total == 1 else 's'} between others, lately between {before} and "
            f"{after}: whether promises held then nobody knows"
        )


def _promise(sequences_: int, at: float) -> str:
    each = f"at {at:g}, one false alarm in {at:g} weeks or more if its rate is exactly at its budget"
    if sequences_ == 1:
        return f"1 sequence: {each}"
    return f"{sequences_:,} sequences: each {each}; together one in {at / sequences_:.1f} weeks at worst"


# --- fixed sets ----------------------------------------------------------------------------------------------------


def _fixed_sets(rows: Sequence[Row], alpha: float) -> Iterator[Finding]:
    """Compare each week of a fixed set with its first, over a year of looks.

    The same cases are asked again, so their weeks lie closer together than the exact test for independent samples
    expects: it errs on the quiet side.
    """
    groups: dict[tuple[str, str, Cohort], list[Row]] = defaultdict(list)
    for row in rows:
        if row.kind != "production":
            groups[row.cascade, row.kind, row.cohort].append(row)
    members: dict[tuple[str, str, tuple[str, ...]], int] = defaultdict(int)
    for cascade, kind, cohort in groups:
        members[cascade, kind, tuple(column for column, _ in cohort)] += 1
    for (cascade, kind, cohort), mine in groups.items():
        family = members[cascade, kind, tuple(column for column, _ in cohort)]
        ordered = sorted((row for row in mine if row.reason is None), key=lambda row: row.window)
        last = max(row.window for row in rows if row.cascade == cascade and row.kind == kind)
        moved = [row for row in ordered[1:] if _differs(ordered[0], row) <= alpha / movements.LOOKS / family]
        if moved:
            yield _moved_set(kind, ordered[0], moved, last)


def _differs(first: Row, row: Row) -> float:
    from scipy.stats import fisher_exact

    table = np.array([[one.agreed, one.answered - one.agreed] for one in (first, row)])
    return float(fisher_exact(table).pvalue)


def _moved_set(kind: str, first: Row, moved: Sequence[Row], last: str) -> Finding:
    before, after = first.agreed / first.answered, moved[-1].agreed / moved[-1].answered
    what = "agreement with the flagship" if kind == "held-out" else "the judge's agreement with the known grades"
    message = (
        f"{label(first.cohort)}: on the fixed set, {what} went from {budgets.show(before, 'rate')} in {first.window} to "
        f"{budgets.show(after, 'rate')} in {moved[-1].window} (n={moved[-1].answered:,})"
    )
    weeks = tuple(row.window for row in moved)
    evidence = {"before": before, "after": after}
    return Finding(
        f"fixed set: {kind}", first.cascade, first.cohort, weeks[0], weeks, weeks[-1] == last, True, message, evidence
    )
