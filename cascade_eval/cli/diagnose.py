"""The command `diagnose`: what is the matter with a cascade, how one can tell, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.diagnosis import Cause, Diagnosis, Treatment

QUIET: Final = frozenset({"healthy", "mix shift"})
"""Causes that need no action."""


@click.command(short_help="Name what is the matter with a cascade.")
@click.argument("suite", metavar="SUITE")
@click.option("--traffic", metavar="PATH", help="Look at these cases instead of the suite's own.")
@click.option(
    "--history", metavar="FOLDER|URL", help="Earlier weeks, only read; the suite's own 'history:' unless given."
)
@click.option("--no-history", "no_history", is_flag=True, help="Look at this traffic alone.")
@click.option("--since", metavar="WEEK", help="Leave out earlier weeks of the history, such as 2026-W28.")
@click.option("--held-out", "held_out", metavar="PATH", help="A fixed set with this week's answers.")
@click.option("--judge-set", "judge_set", metavar="MODEL=PATH", help="Frozen answers with known grades, judged again.")
@click.option("--window", metavar="WEEK", help="Week of the fixed sets; the last week of the traffic unless given.")
@click.option("--cascade", metavar="NAME", help="Only this cascade.")
@click.option("-o", "--output", metavar="FILE", help="Where to write the diagnosis as JSON; '-' prints it instead.")
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside.")
def diagnose(suite: str, output: str | None, **options: Any) -> int:
    """Name what is the matter with a cascade: its tests in order, causes with their evidence, and what to do.

    Whatever data is there is used: gate signals alone, an audit of unescalated cases, weeks of both, labels. Nothing is
    changed: each treatment says which command or which lines would change it.

    Exit code 0: healthy, or other traffic and nothing else. 1: something needs action. 3: the evidence decides nothing.
    4: something cannot be used.

    Example: cascade-eval diagnose evals/support.cascade.yaml

    In Python: diagnosis.run(found, runs.open(found).traffic, rows=history.read("history"))
    """
    from cascade_eval import diagnosis as diagnosis_
    from cascade_eval import suite as suite_

    found = suite_.load(suite)
    cases, rows, said = _measured(found, **options)
    golden = None if options["no_history"] else _golden(found, options["traffic"])
    made = diagnosis_.run(found, cases, rows=rows, cascade=options["cascade"], golden=golden)
    if output is not None:
        _write(output, made)
    if output != "-":
        for line in (*lines(made), *said):
            click.echo(line)
    return code(made)


def code(made: Sequence[Diagnosis]) -> int:
    """Return the exit code: 1 where a cause that needs action is conclusive, 3 where nothing could be decided, else 0."""
    causes = [cause for one in made for cause in one.causes]
    if any(cause.conclusive and not _quiet(cause) for cause in causes):
        return 1
    return 3 if not made or any(cause.name == "not enough evidence" for cause in causes) else 0


def _quiet(cause: Cause) -> bool:
    """Whether nothing need be done; other traffic that the audit shows to break a budget is not quiet."""
    return cause.name in QUIET and (cause.name == "healthy" or cause.test != "audit")


def _measured(found: Any, **options: Any) -> tuple[Any, tuple[Any, ...], tuple[str, ...]]:
    """Return the cases, the rows of earlier weeks and fixed sets, and which history they are of."""
    from cascade_eval import history, monitor, runs, weeks
    from cascade_eval.cli.monitor import alone, fixed_sets, kept_in

    where, said = kept_in(found, options["history"], no_history=options["no_history"])
    _refuse_missing(options["history"])
    cases = runs.open(alone(found), traffic_path=options["traffic"], tolerate=options["tolerate"]).traffic
    rows: tuple[Any, ...] = ()
    if options["held_out"] is not None or options["judge_set"] is not None:
        week = options["window"] or max(row.window for row in monitor.weekly(found, cases))
        rows = fixed_sets(found, options["held_out"], options["judge_set"], week)
    if where is not None:
        own = {row.key for row in rows}
        earlier = history.read(where, suite=monitor.known_as(found), since=options["since"])
        weeks.refuse_namesake(found, earlier, weeks.shown_as(where))
        if not earlier:
            said += (f"note: no week of this suite is kept in {weeks.shown_as(where)}: nothing earlier was looked at",)
        rows += tuple(row for row in earlier if row.key not in own)
    return cases, rows, said


def _refuse_missing(history: str | None) -> None:
    """Refuse a folder that is not there: a misspelt one would leave earlier weeks out without a word."""
    from pathlib import Path

    from cascade_eval import errors

    if history is not None and "://" not in history and not Path(history).exists():
        message = f"there is no such history{errors.beside(Path(history))} 'cascade-eval monitor' begins one."
        raise errors.UsageError([errors.Problem(message, history)])


def _golden(found: Any, traffic: str | None) -> Any:
    """Return the golden of a suite that looks at other cases; None where it has none that can be read."""
    if traffic is None or found.source.kind != "goldens":
        return None
    from cascade_eval import runs
    from cascade_eval.cli.monitor import alone
    from cascade_eval.errors import UsageError

    try:
        return runs.open(alone(found)).traffic
    except UsageError:
        return None  # It is only compared with, and every other command says what is wrong with it.


def _write(file: str, made: Sequence[Diagnosis]) -> None:
    import json

    text = json.dumps([one.record() for one in made], indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if file == "-":
        click.echo(text, nl=False)
        return
    from cascade_eval import atomic

    click.echo(f"written: {atomic.write(file, text.encode())}")


# --- text ----------------------------------------------------------------------------------------------------------


def lines(made: Sequence[Diagnosis]) -> Iterator[str]:
    """Show the tests of each cascade, then its causes."""
    from cascade_eval.report import terminal

    for one in made:
        for line in _diagnosis(one):
            # Model names, cohorts and judges come out of data; YAML to paste keeps its lines.
            yield "\n".join(terminal.clean(part) for part in line.split("\n"))
        yield ""


def _diagnosis(one: Diagnosis) -> Iterator[str]:
    head = one.main
    yield f"{one.cascade}: {head.name if head.conclusive or head.name == 'not enough evidence' else f'{head.name} (suspected)'}"
    yield f"  {head.message}"
    yield ""
    yield "  tests"
    for step in one.steps:
        yield f"    {step.name:<12}{step.outcome:<12}{step.message}"
    for cause in one.causes:
        yield ""
        yield from _cause(cause)
    if one.notes:
        yield ""
        yield from (f"  note: {note}" for note in one.notes)


def _cause(cause: Cause) -> Iterator[str]:
    from cascade_eval.monitor import label

    where = ", ".join(label(cohort) for cohort in cause.cohorts)
    sure = "conclusive" if cause.conclusive else "suspected" if cause.name != "not enough evidence" else "open"
    yield f"  {cause.name} in {where}: {sure}, by the test '{cause.test}'"
    yield f"    {cause.message}"
    yield from (f"    - {sentence}" for sentence in cause.evidence)
    if cause.contradicts:
        yield f"    would contradict it: {'; '.join(cause.contradicts)}"
    for treatment in cause.treatments:
        yield from _treatment(treatment)


def _treatment(treatment: Treatment) -> Iterator[str]:
    yield f"    > {treatment.kind}: {treatment.message}"
    for step in treatment.steps:
        for part in step.split("\n"):
            yield f"        {part}"
