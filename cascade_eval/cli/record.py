"""The command `record`: models asked about cases, once, under a cap."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cascade_eval.recording import Progress, Recording

EXIT: Final = {"complete": 0, "failures": 1, "unasked": 3, "interrupted": 130}
"""Exit code of each outcome."""

REASONS: Final = 8
"""Reasons that are listed; the rest is counted."""

EVERY: Final = 10.0
"""Seconds between lines where there is no terminal to draw a bar on."""


@click.command(short_help="Ask models, once, under a cap.")
@click.argument("path", metavar="RECIPE")
@click.option("--cases", metavar="PATH", help="Ask about these cases instead of the recipe's own.")
@click.option("--only", metavar="MODEL", multiple=True, help="Ask only this model of the recipe. May be repeated.")
@click.option("--max-usd", metavar="X", help="Most dollars for this output, earlier runs included.")
@click.option("--max-calls", metavar="N", type=click.IntRange(min=0), help="Most requests, retries included.")
@click.option("-o", "--output", metavar="FOLDER", help="Where to record, instead of the recipe's own output.")
@click.option("--collect", metavar="FILE", help="Then write one row per case as Parquet, beside what the cases had.")
@click.option("--retry", type=click.Choice(["failed"]), help="Ask calls again that timed out or failed.")
def record(path: str, cases: str | None, only: tuple[str, ...], retry: str | None, **options: Any) -> int:
    """Ask models about cases, once, and write down what they answered as traffic.

    A run that ends early is resumed by running it again: what was answered is not asked again. A request whose worst
    case could break a cap is not sent.

    Exit code 0: every call was made and answered. 1: every call was made, and some timed out or failed. 3: some were not
    made. 130: interrupted. 4: something cannot be used.

    Example: cascade-eval record tiers.record.yaml --cases cases.jsonl --max-usd 5

    In Python: recording.run(recording.load("tiers.record.yaml"), cases="cases.jsonl", max_usd=5)
    """
    from decimal import Decimal, InvalidOperation

    from cascade_eval import recording
    from cascade_eval.recording import collecting

    try:
        dollars = None if options["max_usd"] is None else Decimal(options["max_usd"].removeprefix("$"))
    except InvalidOperation:
        raise click.UsageError(f"--max-usd: {options['max_usd']!r} is not an amount of dollars.") from None
    if options["collect"] is not None:
        collecting.check(options["collect"])
    recipe = recording.load(path)
    with _shown() as show:
        found = recording.run(
            recipe,
            cases=cases,
            only=only,
            max_usd=dollars,
            max_calls=options["max_calls"],
            output=options["output"],
            retry_failed=retry == "failed",
            on_progress=show,
        )
    for line in lines(found):
        click.echo(line)
    if options["collect"] is not None:
        where = cases or str(recipe.base / str(recipe.cases))
        target = recording.write(options["collect"], found.output, cases=where if recording.answered(where) else None)
        click.echo(f"written: {target}")
    return EXIT[found.outcome]


class _shown:  # noqa: N801  used as a context manager, like contextlib's own
    """Progress on stderr: a bar on a terminal, else a plain line now and then."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._last = time.monotonic()

    def __enter__(self) -> Callable[[Progress], None]:
        if not sys.stderr.isatty():
            return self._line
        from rich import progress
        from rich.console import Console

        columns = (progress.BarColumn(bar_width=12), progress.TextColumn("{task.description}"))
        self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task("", total=None)
        return self._draw

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, now: Progress) -> None:
        self._bar.update(self._task, total=now.total, completed=now.done, description=progress_line(now))

    def _line(self, now: Progress) -> None:
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            click.echo(progress_line(now), err=True)


def progress_line(now: Progress) -> str:
    """Say how far a recording is.

    Examples
    --------
    >>> from cascade_eval.recording import Progress
    >>> progress_line(Progress(120, 600, 2, 125, 310_000_000, 40_000_000, 5_000_000_000, 60.0, 100))
    '120 of 600 calls, 100/min, 2 failed, $0.3100 of $5.00, $0.0400 held, 5 min left'
    """
    rate = now.asked / now.seconds if now.seconds > 0 else 0.0
    spent = f"${now.spent / 1e9:.4f}{'' if now.cap is None else f' of ${now.cap / 1e9:,.2f}'}"
    parts = [f"{now.done:,} of {now.total:,} calls", f"{60 * rate:,.0f}/min", f"{now.failed:,} failed", spent]
    if now.reserved:
        parts.append(f"${now.reserved / 1e9:.4f} held")
    if rate:
        parts.append(f"{_minutes((now.total - now.done) / rate)} left")
    return ", ".join(parts)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def lines(found: Recording) -> Iterator[str]:
    """Say what a recording amounts to."""
    from cascade_eval.report import terminal

    yield from (terminal.clean(line) for line in _lines(found))


def _lines(found: Recording) -> Iterator[str]:
    by_model: dict[str, list[str]] = {}
    for (model, status), count in found.statuses.items():
        by_model.setdefault(model, []).append(f"{count:,} {status}")
    for model, unasked in found.unasked.items():
        said = by_model.get(model, []) + ([f"{unasked:,} NOT ASKED"] if unasked else [])
        yield f"{model}: {', '.join(said) or 'nothing to ask'}"
    if found.ungraded:
        yield f"{found.ungraded:,} answers could not be graded: there is none."
    yield f"requests: {found.requests:,}, ${found.spent_usd:.6f} spent{_uncertain(found)}"
    if found.unheard:
        many = "request was" if found.unheard == 1 else "requests were"
        yield f"{found.unheard:,} {many} under way when a run ended: they may have been paid without an answer."
    for reason, count in sorted(found.reasons.items(), key=lambda item: -item[1])[:REASONS]:
        yield f"  {count:,} × {reason}"
    if len(found.reasons) > REASONS:
        yield f"  … and {len(found.reasons) - REASONS:,} more reasons"
    yield from (f"note: {note}" for note in found.notes)
    yield f"written: {found.journal}"
    yield _ending(found)


def _uncertain(found: Recording) -> str:
    if not found.uncertain:
        return ""
    return (
        f", and up to ${found.uncertain_usd:.6f} more for {found.unpriced + found.unheard:,} requests of unknown price"
    )


def _ending(found: Recording) -> str:
    return {
        "complete": "Every call was made and answered.",
        "failures": f"{found.failed:,} calls timed out or failed. Ask them again: the same command with --retry failed.",
        "unasked": f"{sum(found.unasked.values()):,} calls were not made; the reasons stand above. Go on: the same command, with a larger cap where the cap was one.",
        "interrupted": "Interrupted. Go on with the same command; what was answered is not asked again.",
    }[found.outcome]
