"""The command `threshold`: choose a threshold with a guarantee, propose it, write it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNCERTIFIED: Final = 3
"""Exit code where no threshold is certified wherever it was asked for."""

_IDLE: Final = {"--disagreement": (), "--both": ("tier", "joint"), "--escalation": ("both", "per", "joint")}
"""Options that have nothing to do with what is proposed."""


@click.command(short_help="Choose a threshold with a guarantee.")
@click.argument("suite", metavar="SUITE")
@click.option("--disagreement", metavar="BOUND", help="What to certify, such as 'at most 5%'.")
@click.option("--escalation", metavar="SHARE", help="Escalate this share instead, such as '30%'; certifies nothing.")
@click.option("--cascade", metavar="NAME", help="Which cascade; the suite's first unless given.")
@click.option("--tier", metavar="NAME", help="Whose gate; the only one unless given.")
@click.option("--both", is_flag=True, help="Choose both thresholds of three tiers, and show the front of all pairs.")
@click.option("--per", metavar="COLUMN", multiple=True, help="Hold in each cohort of this column. May be repeated.")
@click.option("--delta", metavar="SHARE", default="10%", show_default=True, help="Chance to be wrong.")
@click.option("--joint", is_flag=True, help="Bound kept and disagreeing cases among all traffic; promises less.")
@click.option("--traffic", metavar="PATH", help="Choose on these cases instead of the suite's own.")
@click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside.")
@click.option("--write", is_flag=True, help="Put the threshold into the suite, with `chosen_on` beside it.")
@click.option("-o", "--output", metavar="FILE", help="Where to write the proposal: .md or .json.")
def threshold(suite: str, output: str | None, *, write: bool, **options: Any) -> int:
    """Choose the certified threshold that keeps most cases, among cases whose flagship answers are known.

    With --both, the cheapest pair of thresholds of a cascade of three tiers. With --escalation, the threshold that
    escalates a given share, and what cases exactly at it have to do.

    Exit code 0: certified, or with --escalation proposed. 3: nothing is certified, and nothing is written into the suite.
    4: something cannot be used.

    Example: cascade-eval threshold evals/support.cascade.yaml --disagreement "at most 5%" --per language

    In Python: proposals.threshold(found, runs.open(found).traffic, at_most=0.05, per=["language"])
    """
    from dataclasses import replace

    from cascade_eval import proposals, runs
    from cascade_eval import suite as suite_
    from cascade_eval.report import terminal

    _refuse_format(output)
    propose = _asked(options)
    found = replace(suite_.load(suite), baseline=None)
    cases = runs.open(found, traffic_path=options["traffic"], tolerate=options["tolerate"]).traffic
    made = propose(found, cases)
    for line in proposals.lines(made):
        mark = "  " if line.startswith("  ") else ""
        click.echo(mark + terminal.clean(line.strip()))
    if output is not None:
        click.echo(f"written: {_hand_out(output, made)}")
    if (made.thresholds if isinstance(made, proposals.Pair) else made.threshold) is None:
        return UNCERTIFIED
    if write:
        click.echo(f"written: {proposals.write(suite, made)}")
    return 0


def _asked(options: Mapping[str, Any]) -> Callable[..., Any]:
    """Find out what is to be proposed; options that have nothing to do with it are refused."""
    from functools import partial

    from cascade_eval import errors, proposals

    if (options["disagreement"] is None) == (options["escalation"] is None):
        raise errors.UsageError("say either --disagreement 'at most 5%' or --escalation '30%'.")
    kind = "--escalation" if options["escalation"] is not None else "--both" if options["both"] else "--disagreement"
    idle = [f"--{name}" for name in _IDLE[kind] if options[name]]
    if kind == "--escalation" and options["delta"] != "10%":
        idle.append("--delta")
    if idle:
        raise errors.UsageError(f"{', '.join(idle)}: has no meaning with {kind}.")
    if kind == "--escalation":
        share = _share("--escalation", options["escalation"], "30%")
        return partial(proposals.escalation, at=share, cascade=options["cascade"], tier=options["tier"])
    at_most, delta = _rate("--disagreement", options["disagreement"]), _share("--delta", options["delta"], "10%")
    common = {"at_most": at_most, "cascade": options["cascade"], "per": options["per"], "delta": delta}
    if kind == "--both":
        return partial(proposals.pair, **common)
    return partial(proposals.threshold, **common, tier=options["tier"], joint=options["joint"])


def _share(option: str, text: str, example: str) -> float:
    """Read "30%"."""
    from cascade_eval import budgets, errors

    try:
        found = budgets.parse(f"at most {text}", "rate").high
    except ValueError:
        found = None
    if found is None or not 0 < found < 1:
        raise errors.UsageError(f"{option}: '{text}' is no share between 0% and 100%. Write it like '{example}'.")
    return found


def _rate(option: str, text: str) -> float:
    """Read "at most 5%"."""
    from cascade_eval import budgets, errors

    try:
        bound = budgets.parse(text, "rate")
    except ValueError as error:
        raise errors.UsageError(f"{option}: {error}") from error
    if bound.low is not None or bound.high is None or not 0 < bound.high < 1:
        raise errors.UsageError(f"{option}: '{text}' cannot be certified. Write 'at most 5%'.")
    return bound.high


def _refuse_format(output: str | None) -> None:
    from cascade_eval import errors

    if output is not None and Path(output).suffix not in {".md", ".json"}:
        raise errors.UsageError(f"-o: a proposal is written as .md or .json, not as '{output}'.")


def _hand_out(output: str, made: Any) -> Path:
    import json

    from cascade_eval import atomic, proposals

    if Path(output).suffix == ".md":
        return atomic.write(output, proposals.markdown(made).encode())
    text = json.dumps(made.record(), indent=2, ensure_ascii=False, allow_nan=False)
    return atomic.write(output, f"{text}\n".encode())
