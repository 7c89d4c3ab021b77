"""Evidence and report of what a command found, beside the verdicts on the cases it looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade_eval.audit.reading import Reading
    from cascade_eval.suite import Data, Suite
    from cascade_eval.suite.judged import Watching
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Verdict


@dataclass(frozen=True)
class Files:
    """What to write; None writes nothing.

    Parameters
    ----------
    report, evidence
        Paths of an HTML file and of a JSON file.
    """

    report: str | None = None
    evidence: str | None = None

    def __bool__(self) -> bool:
        return self.report is not None or self.evidence is not None


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the files."""
    for name, what in (("evidence", "all of it as JSON"), ("report", "the report, one HTML file")):
        function = click.option(f"--{name}", metavar="FILE", help=f"Where to write {what}.")(function)
    return function


def write(
    files: Files,
    found: Suite,
    cases: Traffic,
    blocks: Mapping[str, Any],
    *,
    data: Data | None = None,
    watching: Watching | None = None,
) -> None:
    """Judge a suite on these cases and write it with what a command found.

    Parameters
    ----------
    files
        What to write.
    found, cases
        The suite and its cases; promises about change are left out, since nothing is compared here.
    blocks
        Parts of the suite's evidence that the command made.
    data
        Where the cases come from; whatever they call themselves unless given.
    watching
        What weeks say; looked at where a promise needs them, unless given.
    """
    from cascade_eval import evidence, suite, weeks
    from cascade_eval.report import html
    from cascade_eval.suite import evaluation

    budgets = tuple(budget for budget in found.budgets if budget.metric not in evaluation.COMPARED)
    alone = replace(found, baseline=None, budgets=budgets)
    if watching is None and weeks.asked(found):
        watching = weeks.watch(found, cases)
    judged = evaluation.evaluate(alone, cases, data=data or suite.Data(cases.name), watching=watching)
    items = len(judged.verdicts)
    built = evidence.build(
        [{**judged.record, **blocks}],
        selected={"items": items, "of": items},
        git=evidence.git_state(Path.cwd()),
    )
    if files.evidence is not None:
        click.echo(f"written: {evidence.write(files.evidence, built)}")
    if files.report is not None:
        click.echo(f"written: {html.write(files.report, built)}")


def audited(found: Reading) -> dict[str, Any]:
    """Return an audit as evidence holds it.

    Parameters
    ----------
    found
        From `audit.read`.

    Returns
    -------
    dict
        One row for all cases and one for each cohort.
    """
    verdicts = {tuple(verdict.cohort.items()): verdict for verdict in found.verdicts}
    overall = {
        "cohort": {},
        "unescalated": sum(each.population for each in found.cohorts),
        "sampled": found.drawn,
        "answered": found.answered,
        "disagreed": sum(each.disagree for each in found.cohorts),
        "estimate": found.overall.record(),
        **_verdict(verdicts.get(())),
    }
    each = [
        {
            "cohort": dict(one.cohort),
            "unescalated": one.population,
            "sampled": one.drawn,
            "answered": one.answered,
            "disagreed": one.disagree,
            "estimate": one.estimate.record(),
            **_verdict(verdicts.get(tuple(one.cohort.items()))),
        }
        for one in found.cohorts
        if one.cohort
    ]
    return {
        "cascade": found.cascade,
        "rows": [overall, *each],
        "calls": found.spend.calls,
        "usd": found.spend.usd,
        "saved_usd": found.spend.saved,
        "age_days": found.age_days,
        "notes": [*([] if found.spend.reason is None else [found.spend.reason]), *found.findings],
    }


def _verdict(verdict: Verdict | None) -> Mapping[str, Any]:
    if verdict is None:
        return {"outcome": None, "not_measured": False, "bound": None}
    return {"outcome": verdict.outcome, "not_measured": verdict.not_measured, "bound": str(verdict.bound)}
