"""The command `monitor`: rows of new traffic into a history, and what all weeks say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from cascade_eval.cli import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.monitor import Findings, Row, Watched
    from cascade_eval.runs import Opened
    from cascade_eval.suite import Suite

WEEKS: Final = 12
"""Weeks of the table."""

ROWS: Final = 12
"""Cohorts, and findings, that are listed; the rest is counted."""

EXIT: Final = {"alarm": 1, "undecided": 3, "quiet": 0}
"""Exit code of each outcome."""


@click.command(short_help="Watch a cascade week by week.")
@click.argument("suite", metavar="SUITE")
@click.option("--traffic", metavar="PATH", help="Look at these cases instead of the suite's own.")
@click.option("--history", metavar="FOLDER|URL", help="Where weeks are kept; the suite's own 'history:' unless given.")
@click.option("--no-history", "no_history", is_flag=True, help="Look at this traffic alone, and write no week.")
@click.option("--since", metavar="WEEK", help="Leave out earlier weeks of the history, such as 2026-W28.")
@click.option("--held-out", "held_out", metavar="PATH", help="A fixed set with this week's answers.")
@click.option("--judge-set", "judge_set", metavar="MODEL=PATH", help="Frozen answers with known grades, judged again.")
@click.option("--window", metavar="WEEK", help="Week of the fixed sets; the last week of the traffic unless given.")
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside.")
@reporting.options
def monitor(
    suite: str,
    traffic: str | None,
    history: str | None,
    no_history: bool,  # noqa: FBT001  click's
    tolerate: int | None,
    report: str | None,
    evidence: str | None,
    **options: Any,
) -> int:
    """Watch a cascade week by week: add the traffic's weeks to a history, and look at all of them.

    A history is a folder or an SQLAlchemy URL. Where neither --history nor the suite's 'history:' names one, this
    traffic's weeks are all there is.

    Exit code 0: no alarm stands in the last week, and promises were shown to hold. 1: an alarm stands. 3: none stands,
    and nothing could be decided, or nothing about a cohort whose escalation once jumped. 4: something cannot be used.

    Example: cascade-eval monitor evals/support.cascade.yaml --history history

    In Python: monitor.judge(monitor.weekly(found, runs.open(found).traffic), found.budgets)
    """
    from cascade_eval import history as history_
    from cascade_eval import monitor as monitor_
    from cascade_eval import runs, weeks
    from cascade_eval import suite as suite_

    since = options["since"] and monitor_.check_week(options["since"])
    found = suite_.load(suite)
    where, said = kept_in(found, history, no_history=no_history, there=False)
    # The suite's baseline is for changes, not for weeks, and may be out of a scheduled job's reach.
    opened = runs.open(alone(found), traffic_path=traffic, tolerate=tolerate)
    rows = _measure(found, opened, **options)
    late: list[str] = []
    if where is not None:
        kept = history_.read(where, suite=rows[0].suite)
        weeks.refuse_namesake(found, kept, weeks.shown_as(where))
        rows, apart = monitor_.without_late(rows, kept)
        _refuse_later(since, [*rows, *kept])
        said = (*said, *(f"note: {note}" for note in apart))
        history_.write(where, [*rows, *monitor_.gone(rows, kept)])
        measured = rows
        rows, early = monitor_.without_future(
            history_.read(where, suite=rows[0].suite), max(row.window for row in measured)
        )
        said = (*said, *(f"note: {note}" for note in early), *_begun(kept, weeks.shown_as(where)))
        late = list(_late(measured, rows))
    findings = monitor_.judge(rows, found.budgets, confidence=found.confidence, since=since)
    every, rows = rows, tuple(row for row in rows if since is None or row.window >= since)
    for line in (*said, *lines(rows, findings), *late):
        click.echo(line)
    if files := reporting.Files(report, evidence):
        _report(files, found, opened, rows, every, alone=where is None)
    return EXIT[findings.outcome]


def kept_in(
    found: Suite, history: str | None, *, no_history: bool, there: bool = True
) -> tuple[str | None, tuple[str, ...]]:
    """Find the history to use, and what to say about the choice.

    Parameters
    ----------
    found
        The suite, whose own history is used where no option says otherwise.
    history, no_history
        The options.
    there
        Whether it is only read: a database file that is not there yet is then said, and none is used.
    """
    from cascade_eval import errors, weeks

    if history is not None and no_history:
        raise click.UsageError("--history and --no-history contradict each other.")
    if no_history:
        return None, ("note: --no-history: this traffic's weeks are all there is",)
    if history is not None:
        return history, ()
    if found.history is None:
        return None, ("note: no history is named, so this traffic's weeks are all there is",)
    shown = weeks.shown_as(found.history)
    try:
        return weeks.place(found, there=there), (f"note: the history is the suite's own, {shown}",)
    except errors.UsageError as error:
        return None, (f"note: the suite's history {shown} is left out: {error.problems[0].message}",)


def _report(
    files: reporting.Files, found: Suite, opened: Opened, rows: Sequence[Row], every: Sequence[Row], *, alone: bool
) -> None:
    """Write all weeks, and what is the matter in those looked at, beside the verdicts on this traffic."""
    from cascade_eval import diagnosis, weeks

    watching = weeks.watch_rows(found, weeks.Weeks(tuple(every), alone=alone))
    causes = [one.record() for one in diagnosis.run(found, opened.traffic, rows=rows)]
    reporting.write(files, found, opened.traffic, {"findings": causes}, data=opened.data, watching=watching)


def _begun(kept: Sequence[Row], shown: str) -> Iterator[str]:
    """Say so where a history begins: one that was lost begins again, and its alarms are not known."""
    if not kept:
        yield f"note: the history {shown} begins with this traffic: it had no earlier week of this suite, and no alarm of one"


def _late(measured: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    """Say so where the history goes on after this traffic: what stands was not measured just now."""
    mine, last = max(row.window for row in measured), max(row.window for row in rows)
    if mine < last:
        yield f"note: this traffic ends in {mine}, and the history in {last}: what stands is of {last}, not of this traffic"


def _refuse_later(since: str | None, rows: Sequence[Row]) -> None:
    """Refuse to leave every week out, before any is written."""
    from cascade_eval import errors

    last = max(row.window for row in rows)
    if since is not None and since > last:
        raise errors.UsageError(f"--since: '{since}' leaves every week out; the last one is {last}.")


def _measure(
    found: Suite,
    opened: Opened,
    *,
    held_out: str | None,
    judge_set: str | None,
    window: str | None,
    since: str | None,
) -> tuple[Row, ...]:
    """Return the rows of this run: the traffic's weeks, and fixed sets."""
    del since
    from cascade_eval import monitor as monitor_

    rows = monitor_.weekly(found, opened.traffic)
    return rows + fixed_sets(found, held_out, judge_set, window or max(row.window for row in rows))


def fixed_sets(found: Suite, held_out: str | None, judge_set: str | None, week: str) -> tuple[Row, ...]:
    """Return the rows of fixed sets that were asked again in some week."""
    from cascade_eval import monitor as monitor_

    rows: tuple[Row, ...] = ()
    if held_out is not None:
        rows += monitor_.fixed(found, _cases(found, held_out), window=week)
    if judge_set is not None:
        model, _, where = judge_set.partition("=")
        rows += monitor_.fixed(found, _cases(found, where), window=week, kind="judge", model=model)
    return rows


def alone(found: Any) -> Any:
    """Return the suite without its baseline, which is for changes and not for weeks."""
    from dataclasses import replace

    return replace(found, baseline=None)


def _cases(found: Any, path: str) -> Any:
    from cascade_eval import traffic

    if not path:
        raise click.UsageError("--judge-set is written MODEL=PATH, the judge's name before its file.")
    return traffic.open(path, columns={} if found.source.importer else found.source.columns)


# --- text ----------------------------------------------------------------------------------------------------------


def lines(rows: Sequence[Row], findings: Findings) -> Iterator[str]:
    """Show the weeks of each cascade, its cohorts in the last one, and what was found."""
    from cascade_eval.report import terminal

    for cascade in findings.windows:
        mine = [row for row in rows if row.cascade == cascade]
        yield from map(terminal.clean, _weeks(cascade, mine))
        yield from map(terminal.clean, _cohorts(mine, [w for w in findings.sequences if w.cascade == cascade]))
        yield ""
    yield from (terminal.clean(line) for line in _found(findings))


_COLUMNS = (
    ("decisions", 11),
    ("share", 8),
    ("escalation", 12),
    ("disagreement", 14),
    ("bounds", 15),
    ("$/request", 12),
    ("p50", 9),
    ("p95", 9),
    ("asked again", 13),
)
"""Columns of the table, and how wide they are."""


def _weeks(cascade: str, rows: Sequence[Row]) -> Iterator[str]:
    from cascade_eval.report import numbers

    overall = [row for row in rows if not row.cohort and row.kind == "production"]
    yield f"{cascade:<22}{''.join(f'{head:>{width}}' for head, width in _COLUMNS)}"
    if len(overall) > WEEKS:
        yield f"  … {len(overall) - WEEKS:,} earlier weeks"
    for row in overall[-WEEKS:]:
        yield _line(row.window if row.complete else f"{row.window} (part)", row)
    for row in [row for row in rows if not row.cohort and row.kind != "production"][-2:]:
        rate = row.reason or f"{numbers.show(row.agreed / row.answered, 'rate')} of {row.answered:,} agree"
        yield f"  {row.window} {row.kind}: {rate}"


def _line(name: str, row: Row, tail: str = "") -> str:
    from cascade_eval.report import numbers

    again = row.regenerated / row.regeneration_known if row.regeneration_known else None
    cells = (
        f"{row.decisions:,}",
        "" if not row.cohort else numbers.show(row.share, "rate"),
        numbers.show(row.escalation, "rate"),
        numbers.show(row.disagreement, "rate"),
        numbers.bounds(row.disagreement_low, row.disagreement_high, "rate"),
        numbers.show(row.cost_per_request, "dollars"),
        numbers.show(row.latency_p50, "seconds"),
        numbers.show(row.latency_p95, "seconds"),
        "" if again is None else numbers.show(again, "rate"),
    )
    shown = "".join(f" {cell:>{width - 1}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return f"  {name:<20.20}{shown}{tail}".rstrip()


def _cohorts(rows: Sequence[Row], watched: Sequence[Watched]) -> Iterator[str]:
    from cascade_eval.monitor import label

    production = [row for row in rows if row.kind == "production"]
    last = max(row.window for row in production)
    state = {sequence.cohort: sequence for sequence in watched}
    here = [row for row in production if row.window == last and row.cohort]
    order = ("alarm", "not measured", "open", "within", "")
    here.sort(key=lambda row: (order.index(_state(state.get(row.cohort))), -row.decisions))
    overall = state.get(())
    if overall is not None:
        yield f"  overall in {last}: {_words(overall)}"
    for row in here[:ROWS]:
        yield _line(label(row.cohort), row, f"  {_words(state.get(row.cohort))}")
    if len(here) > ROWS:
        yield f"  … and {len(here) - ROWS:,} more cohorts"
    gone = [sequence for cohort, sequence in state.items() if cohort and cohort not in {row.cohort for row in here}]
    if gone:
        yield f"  no case in {last}: {', '.join(label(sequence.cohort) for sequence in gone[:ROWS])}"


def _state(sequence: Watched | None) -> str:
    return "" if sequence is None else sequence.state


def _words(sequence: Watched | None) -> str:
    if sequence is None:
        return ""
    from cascade_eval import budgets

    most = budgets.show(sequence.budget, "rate")
    return {
        "alarm": f"ALARM since {sequence.since}, over {most}",
        "within": f"within {most}",
        "open": f"{most} neither shown nor refuted",
        "not measured": f"not measured: {sequence.reason}",
    }[sequence.state]


def _found(findings: Findings) -> Iterator[str]:
    for finding in findings.found[:ROWS]:
        mark = "ALARM" if finding.alarm and finding.standing else "past" if finding.alarm else "note"
        yield f"{mark:<6}{finding.first}  {finding.test} · {finding.message}"
    if len(findings.found) > ROWS:
        yield f"… and {len(findings.found) - ROWS:,} more findings"
    yield from (f"note: {note}" for note in findings.notes)
    yield {
        "alarm": f"{len(findings.alarms)} alarm{'' if len(findings.alarms) == 1 else 's'} in the last week.",
        "quiet": f"No alarm stands, and {_shown(findings)}.",
        "undecided": _undecided(findings),
    }[findings.outcome]


def _undecided(findings: Findings) -> str:
    from cascade_eval import monitor

    suspected = ", ".join(dict.fromkeys(monitor.label(sequence.cohort) for sequence in findings.suspicions))
    if suspected:
        return (
            f"Undecided: escalation of {suspected} once jumped, and its promise was not shown to hold since. Audit it."
        )
    return "Nothing could be decided: no disagreement budget was shown to hold or to be broken."


def _shown(findings: Findings) -> str:
    """Say how many promises were shown to hold: one is enough for exit code 0."""
    within = sum(sequence.state == "within" for sequence in findings.sequences)
    return f"{within:,} of {len(findings.sequences):,} promises of disagreement were shown to hold"
