"""The command line: check a suite, draw a report, and begin.

A command answers in exit codes: 0 for done; what its help says where it judges something; 4 for what cannot be used (a
suite, data, evidence, an option), with one line ``file:line: message`` for each reason. No answer is 70, a mistake of ours,
or 141, a reader that went away. The budgets of a suite are judged by pytest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade_eval.cli.audit import audit
from cascade_eval.cli.calibrate import calibrate
from cascade_eval.cli.diagnose import diagnose
from cascade_eval.cli.importing import import_
from cascade_eval.cli.monitor import monitor
from cascade_eval.cli.record import record
from cascade_eval.cli.threshold import threshold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

UNUSABLE = 4
"""Exit code where something handed in cannot be used, as pytest's for usage errors."""

BROKEN = 70
"""Exit code of a mistake of ours, as EX_SOFTWARE of sysexits: Python's own would read as an alarm."""

UNREAD = 141
"""Exit code where nobody reads on, as after `| head`; what a shell says of a program that SIGPIPE ended."""


class _Unread(Exception):  # noqa: N818  no error: whoever was reading has read enough
    """Nobody reads on."""


class Commands(click.Group):
    """Commands in the order in which they are declared, with the nearest name for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which was meant."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            from cascade_eval import errors

            ctx.fail(f"no command '{name}'.{errors.did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click itself would end with 1 where nobody reads what is printed."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _Unread from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cascade-eval", message="%(prog)s %(version)s")
def commands() -> None:
    """Test LLM cascades: escalation, disagreement and cost budgets per cohort.

    Budgets are judged by pytest: `pytest suites`. These commands do what surrounds it. Their examples run on the suite
    that `cascade-eval init evals` writes.
    """


@commands.command(short_help="Read suites with their data and prices.")
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...")
@click.option("--traffic", metavar="PATH", help="Look at these cases instead of the suite's own.")
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside.")
def check(suites: tuple[str, ...], traffic: str | None, tolerate: int | None) -> None:
    """Read suites with their data and prices, and say what they can decide.

    Nothing is judged and no verdict is shown: it says how many cases each promise rests on, and which promises so many
    cases cannot decide. Every problem is shown, and the exit code is then 4.

    Example: cascade-eval check evals/support.cascade.yaml

    In Python: runs.check(suite.load("evals/support.cascade.yaml"))
    """
    from cascade_eval import errors
    from cascade_eval.cli import checking

    problems: list[errors.Problem] = []
    for path in suites:
        try:
            found = checking.look(path, traffic=traffic, tolerate=tolerate)
        except errors.UsageError as error:
            problems += error.problems
        else:
            for line in checking.lines(found):
                click.echo(line)
    if problems:
        raise errors.UsageError(problems)


@commands.command(short_help="Draw the report of an earlier run.")
@click.argument("evidence", metavar="EVIDENCE")
@click.option("-o", "--output", metavar="FILE", help="Where to write; beside the evidence unless given, '-' prints.")
@click.option("--css", type=click.Choice(["inline", "sidecar"]), default="inline", help="Where the style goes.")
@click.option("--redact", is_flag=True, help="Leave the text of cases (questions, answers) out.")
@click.option("--markdown", is_flag=True, help="Print a short Markdown summary instead of writing HTML.")
def report(evidence: str, output: str | None, css: str, redact: bool, markdown: bool) -> None:  # noqa: FBT001  click's
    """Draw the report of an earlier run from its evidence.

    Example: cascade-eval report reports/evidence.json -o reports/cascade.html

    In Python: report.html.write("reports/cascade.html", evidence.read("reports/evidence.json"))
    """
    from cascade_eval import evidence as evidence_

    found: Mapping[str, Any] = evidence_.read(evidence)
    if redact:
        found = evidence_.redact(found)
    if markdown:
        from cascade_eval.report import markdown as markdown_

        _hand_out(markdown_.render(found), output)
        return
    from cascade_eval.report import html

    if output == "-":
        click.echo(html.render(found))
        return
    target = Path(output) if output else Path(evidence).with_suffix(".html")
    click.echo(f"written: {html.write(target, found, css='sidecar' if css == 'sidecar' else 'inline')}")


@commands.command(short_help="Print a JSON Schema.")
@click.argument("kind", type=click.Choice(["suite", "evidence"]), default="suite")
@click.option("-o", "--output", metavar="FILE", help="Where to write; printed unless given.")
def schema(kind: str, output: str | None) -> None:
    """Print the JSON Schema of suites or of evidence.

    Editors complete a suite whose first line is `# yaml-language-server: $schema=<file>`.

    Example: cascade-eval schema suite -o evals/suite.schema.json

    In Python: suite.schema(), evidence.schema()
    """
    import json

    from cascade_eval import evidence, suite

    found = suite.schema() if kind == "suite" else evidence.schema()
    _hand_out(json.dumps(found, indent=2, ensure_ascii=False) + "\n", output)


@commands.command(short_help="Write a small suite to begin from.")
@click.argument("folder", default=".")
def init(folder: str) -> None:
    """Write a small suite with its cascade and golden, to begin from.

    Nothing that exists is overwritten. The suite passes as it stands: `pytest FOLDER`.

    Example: cascade-eval init evals && pytest evals

    In Python: starter.init("evals")
    """
    from cascade_eval import starter

    for path in starter.init(folder):
        click.echo(f"written: {path}")
    click.echo(f"Now run: pytest {folder}")


@commands.command(short_help="Show a cascade that saturates.")
@click.option("--keep", is_flag=True, help="Write into ./cascade-demo instead of a temporary folder.")
def demo(keep: bool) -> None:  # noqa: FBT001  click's signature
    """Show a cascade that saturates: a healthy month, a saturated one, and the promise that breaks.

    Offline and in seconds, with made-up cases. The report stays where the last lines say.

    Example: cascade-eval demo --keep && pytest cascade-demo

    In Python: starter.demo("cascade-demo")
    """
    from cascade_eval.cli import showing

    for line in showing.demo(showing.folder(keep=keep), width=_width()):
        click.echo(line)


commands.add_command(audit)
commands.add_command(monitor)
commands.add_command(diagnose)
commands.add_command(threshold)
commands.add_command(calibrate)
commands.add_command(record)
commands.add_command(import_)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit code."""
    import os
    import traceback

    try:
        code = run(arguments)
    except Exception:  # noqa: BLE001  whatever it is, it must not look like an answer
        traceback.print_exc()
        code = BROKEN
    if code == UNREAD:
        # The interpreter flushes what is left as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Examples
    --------
    >>> run(["schemas"])
    4
    """
    try:
        # Not standalone: click would end with code 2 where the code here is 4 for everything that cannot be used.
        code = commands.main(arguments, prog_name="cascade-eval", standalone_mode=False)
    except _Unread:
        return UNREAD
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UNUSABLE
    except click.ClickException as error:
        click.echo(f"cascade-eval: {error.format_message()}", err=True)
        context = getattr(error, "ctx", None)
        click.echo(f"Help: {context.command_path if context else 'cascade-eval'} --help", err=True)
        return UNUSABLE
    except Exception as error:
        from cascade_eval import errors

        if not isinstance(error, errors.UsageError):
            raise
        for problem in error.problems:
            click.echo(_clean(str(problem)), err=True)
        return UNUSABLE
    return code if isinstance(code, int) else 0


def _hand_out(text: str, output: str | None) -> None:
    if output in {None, "-"}:
        click.echo(text, nl=False)
        return
    from cascade_eval import atomic

    click.echo(f"written: {atomic.write(str(output), text.encode())}")


def _clean(text: str) -> str:
    """Return a message without anything a terminal acts on: file names and data are not trusted."""
    from cascade_eval.report import terminal

    return terminal.clean(text)


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
