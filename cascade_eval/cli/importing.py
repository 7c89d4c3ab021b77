"""The command `import`: a log of another tool into traffic, with what became of every record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.importers import Imported, Report

SET_ASIDE: Final = 3
"""Exit code where more records were set aside than tolerated."""

NAMED: Final = 3
"""Bad records named for each reason; the report in the folder names more."""

MODELS: Final = 12
"""Models listed that the map does not name."""


@click.command("import", short_help="Turn a log of another tool into traffic.")
@click.argument("kind", metavar="KIND")
@click.argument("path", metavar="PATH")
@click.option("-o", "--output", metavar="FOLDER", required=True, help="Where rows and the report are written.")
@click.option(
    "--model",
    "models",
    metavar="NAME=MODEL",
    multiple=True,
    help="Name of a tier, and the recorded model; once for each.",
)
@click.option("--case", metavar="WORD|PATH", help="What a case is: trace, conversation, …, or a dotted path.")
@click.option(
    "--column", "columns", metavar="NAME=PATH", multiple=True, help="A column, and its dotted path in a record."
)
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), default=0, help="Bad records that are no failure.")
def import_(
    kind: str,
    path: str,
    output: str,
    models: tuple[str, ...],
    case: str | None,
    columns: tuple[str, ...],
    tolerate: int,
) -> int:
    """Turn a log of another tool into traffic: calls grouped into cases, bad records set aside and counted.

    KIND is otel, openinference, litellm, langfuse, openai_batch, anthropic_batch, promptfoo or decisions. A tier that is
    not told by its model is told by a value: --model flagship=metadata.tier=large.

    Exit code 0: nothing was set aside, or no more than tolerated. 3: more was; the rows are written all the same. 4:
    nothing could be used, or what was said about the log is wrong.

    Example: cascade-eval import otel spans.jsonl --model mini=gpt-4.1-nano --model flagship=gpt-4.1 -o week-31

    In Python: importers.read("otel", "spans.jsonl", output="week-31", models={"mini": "gpt-4.1-nano", …})
    """
    from cascade_eval import importers
    from cascade_eval.report import terminal

    found = importers.read(kind, path, output=output, case=case, models=_models(models), columns=dict(_pairs(columns)))
    for line in lines(found, tolerate):
        click.echo(terminal.clean(line))
    return 0 if found.report.bad <= tolerate else SET_ASIDE


def _models(written: tuple[str, ...]) -> dict[str, Any]:
    """Read ``mini=gpt-4.1-nano``, or ``mini=metadata.tier=small`` for a value at a path."""
    found: dict[str, Any] = {}
    for label, model in _pairs(written):
        path, equals, value = model.partition("=")
        if not equals:
            found[label] = model
        elif isinstance(found.setdefault(label, {}), dict):
            found[label][path] = value
    return found


def _pairs(written: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for each in written:
        name, equals, value = each.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"'{each}' is not written NAME=VALUE.")
        yield name, value


def lines(found: Imported, tolerate: int = 0) -> Iterator[str]:
    """Show what became of every record."""
    report = found.report
    yield f"{report.path} ({report.kind})"
    for number, what in _counts(report):
        yield f"  {number:>11,}  {what}"
    for reason in report.set_aside:
        yield f"  {reason.records:>11,}  set aside: {reason.reason}"
        yield from (f"{'':15}{problem}" for problem in reason.first[:NAMED])
    for name, path in report.unfound.items():
        yield f"  {0:>11,}  records with a value at '{path}': there is no column '{name}'"
    rows = ", ".join(f"{name} {count:,}" for name, count in report.models.items())
    yield f"written: {found.folder} ({report.cases:,} cases; rows: {rows})"
    if report.bad > tolerate:
        were = "1 record was" if report.bad == 1 else f"{report.bad:,} records were"
        yield f"{were} set aside. Mend the log, or accept so many: --tolerate {report.bad}"


def _counts(report: Report) -> Iterator[tuple[int, str]]:
    yield report.records, "records"
    yield report.calls, f"calls, in {report.cases:,} cases"
    if report.second:
        yield report.second, "of them second calls of one record"
    if report.merged:
        yield report.merged, "of them added to an earlier call: retries and further steps"
    if report.joined:
        yield report.joined, "requests or events that complete a call"
    if report.repeated:
        yield report.repeated, "recorded twice"
    if report.other:
        yield report.other, "no calls to a model that answers"
    for model, count in list(report.undeclared.items())[:MODELS]:
        alike = f"; may be '{report.alike[model]}'" if model in report.alike else ""
        yield count, f"calls of '{model}', which the map does not name{alike}"
    rest = list(report.undeclared.values())[MODELS:]
    if rest:
        yield sum(rest), f"calls of {len(rest):,} more models that the map does not name"
