"""The demo: two months under the same promises, one of which breaks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval import evidence, runs, starter, suite
from cascade_eval.errors import Problem, UsageError
from cascade_eval.report import html, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOLDER = "cascade-demo"

_SHOWN = ("cost", "escalation", "disagreement")


def folder(*, keep: bool) -> Path:
    """Return an empty folder for the demo; UsageError where the one to keep exists already."""
    if not keep:
        return Path(tempfile.mkdtemp(prefix=f"{FOLDER}-"))
    if Path(FOLDER).exists():
        raise UsageError([Problem("exists and is not overwritten; remove it, or leave out --keep", FOLDER)])
    return Path(FOLDER)


def demo(where: Path, *, width: int = 80) -> Iterator[str]:
    """Write the demo's suites into a folder, judge them, and tell what happened.

    Parameters
    ----------
    where
        An empty folder.
    width
        Columns of the terminal.
    """
    names = [path.name for path in starter.demo(where)]
    records = [{**_judged(where / name), "suite": name} for name in names]
    found = evidence.build(records, selected=_all(records))
    evidence.write(where / "evidence.json", found)
    report = html.write(where / "report.html", found)
    healthy, saturated = found["suites"]
    yield "A small model answers first; a gate on its confidence escalates the unsure cases to a flagship."
    yield "Between two months the small model stopped knowing when it is unsure in Portuguese."
    yield ""
    yield from _table(healthy, saturated)
    yield ""
    yield "Cheaper, and fewer escalations: on a cost graph the later month looks better. The budgets say:"
    yield from _blocks(saturated, width)
    yield ""
    yield f"The healthy month: {terminal.tally(_verdicts(healthy))}. The saturated month: {terminal.tally(_verdicts(saturated))}."
    yield f"Report:  {report}"
    yield f"Suites:  {', '.join(str(where / name) for name in names)}"
    yield f"Judge them yourself: pytest {where}"


def _judged(path: Path) -> Mapping[str, Any]:
    return runs.evaluate(suite.load(path)).record


def _all(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    items = sum(len(_verdicts(record)) for record in records)
    return {"items": items, "of": items}


def _verdicts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [verdict for cascade in record["cascades"] for verdict in cascade["verdicts"]]


def _table(healthy: Mapping[str, Any], saturated: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'':32}{'healthy':>10}{'saturated':>12}"
    for name in _SHOWN:
        early, late = (_percent(record["cascades"][0]["overall"], name) for record in (healthy, saturated))
        yield f"{_words(name):32}{early:>10}{late:>12}"
    for cell in saturated["cascades"][0]["cohorts"]:
        early_cell = next(one for one in healthy["cascades"][0]["cohorts"] if one["cohort"] == cell["cohort"])
        early, late = _percent(early_cell, "disagreement"), _percent(cell, "disagreement")
        yield f"{'  ' + terminal.member(cell['cohort']):32}{early:>10}{late:>12}"


def _words(metric: str) -> str:
    return {"cost": "cost of always-flagship", "disagreement": "disagreement on unescalated"}.get(metric, metric)


def _percent(cell: Mapping[str, Any], metric: str) -> str:
    value = cell["metrics"][metric]["value"]
    return "unknown" if value is None else f"{100 * value:.1f}%"


def _blocks(record: Mapping[str, Any], width: int) -> Iterator[str]:
    """Explain the narrowest broken promise: it says most about where to look."""
    cascade = record["cascades"][0]
    failed = [verdict for verdict in cascade["verdicts"] if verdict["outcome"] == "fail"]
    for verdict in sorted(failed, key=lambda verdict: not verdict["cohort"])[:1]:
        yield ""
        yield f" {terminal.title(record, cascade, verdict)} ".center(min(width, 80), "_")
        yield from terminal.block(record, cascade, verdict, width=width)
