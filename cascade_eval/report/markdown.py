"""The report as a short comment for a pull request: verdicts first, what does not pass next, never long."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cascade_eval.report import sentences, view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cascade_eval.report.sentences import Judged, State

ROWS = 20
"""Rows of verdicts that are shown."""

NOTES = 5
"""Notes on what was not measured that are shown."""

ALARMS = 10
"""Alarms and causes that are shown."""

CASCADES = 20
"""Cascades that are shown."""

_MARKS: dict[State, str] = {"fail": "❌", "missing": "⬜", "inconclusive": "❔", "pass": "✅", "none": "⬜"}
_SPECIAL = re.compile(r"([\\`*_\[\]~|#])")
_LONGEST = 200


def render(evidence: Mapping[str, Any]) -> str:
    """Return Markdown that fits a comment whatever the number of suites, cascades and cohorts.

    Parameters
    ----------
    evidence
        As `cascade_eval.evidence.build` or `read` return it.
    """
    page = view.build(evidence)
    cascades = [cascade for suite in page.suites for cascade in suite.judged]
    lines = [
        f"### cascade_eval: {_summary([cascade.headline.state for cascade in cascades], page)}",
        "",
    ]
    lines += [f"**Partial run.** {page.partial}", ""] if page.partial else []
    cascades.sort(key=lambda cascade: sentences.ORDER.index(cascade.headline.state))
    for cascade in cascades[:CASCADES]:
        said = cascade.headline
        named = f"{_escape(said.suite)} / {_escape(said.cascade)} {said.verb}"
        lines.append(
            f"- {_MARKS[said.state]} **{named}**: {_escape(said.text, 400)}. {said.tally[:1].upper()}{said.tally[1:]}."
        )
    lines += _more(len(cascades) - CASCADES, "cascades")
    verdicts = [
        (suite.name, verdict["name"], sentences.judged(record))
        for suite, raw in zip(page.suites, evidence["suites"], strict=True)
        for verdict in raw["cascades"]
        for record in verdict["verdicts"]
    ]
    lines += _weeks(page) + _table(verdicts) + _compared(page) + _unmeasured(page)
    rules = dict.fromkeys(f"{suite.rule} {_escape(suite.promise)}" for suite in page.suites[:3])
    return "\n".join([*lines, *(f"\n<sub>{rule}</sub>" for rule in rules)]) + "\n"


def _summary(states: Sequence[State], page: view.View) -> str:
    if not states:
        return "nothing was judged"
    passing = sum(state == "pass" for state in states)
    if passing == len(states):
        holds = "a partial run, in which every budget holds" if page.partial else "every budget holds"
        return f"an alarm stands, though {holds}" if page.alarm else holds
    return f"{len(states) - passing} of {len(states)} {'cascade' if len(states) == 1 else 'cascades'} not proven"


def _weeks(page: view.View) -> list[str]:
    """Return one line for each alarm that stands and each cause that was found."""
    lines = [
        f"- ❌ **{_escape(suite.name)} / {_escape(m.cascade)}, alarm since {_escape(m.first)}**: {_escape(m.message, 400)}."
        for suite in page.suites
        for m in (suite.weekly.movements if suite.weekly else suite.alarms)
        if m.state == "fail"
    ]
    lines += [
        f"- {_MARKS[cause.state]} **{_escape(d.cascade)}: {_escape(cause.name)}** ({cause.word}) in {_escape(cause.where)}: "
        f"{_escape(cause.message, 400)}{''.join(f' Treatment: {_escape(t.kind)}.' for t in cause.treatments[:1])}"
        for suite in page.suites
        for d in suite.diagnoses
        for cause in d.causes
    ]
    return ["", *lines[:ALARMS], *_more(len(lines) - ALARMS, "alarms and causes")] if lines else []


def _table(verdicts: Sequence[tuple[str, str, Judged]]) -> list[str]:
    """Return the verdicts, the most urgent first."""
    if not verdicts:
        return []
    rows = sorted(verdicts, key=lambda row: sentences.ORDER.index(row[2].state))
    lines = ["", "| | cascade | metric | cohort | value | bounds | n | promised |", "|-|-|-|-|-:|-:|-:|-|"]
    for suite, cascade, v in rows[:ROWS]:
        value = "–" if v.state == "missing" else v.value
        cells = (f"{suite} / {cascade}", v.metric, v.where, value, v.bounds, v.nobs.removeprefix("n "), v.bound)
        lines.append(f"| {_MARKS[v.state]} {v.word} | {' | '.join(_escape(cell) for cell in cells)} |")
    left = [v.state for _, _, v in rows[ROWS:]]
    return lines + (
        ["", f"… and {sentences.tally(left).replace(' of ', ' more of ', 1) if len(set(left)) > 1 else _rest(left)}."]
        if left
        else []
    )


def _rest(states: Sequence[State]) -> str:
    return f"{len(states):,} more: {sentences.WORDS[states[0]]}"


def _compared(page: view.View) -> list[str]:
    rows = [row for suite in page.suites for row in suite.compared]
    if not rows:
        return []
    names = ("escalation", "disagreement", "cost", "latency p95")
    at = [view.COMPARED.index(name) for name in names]
    lines = ["", f"| against always-flagship | {' | '.join(names)} |", f"|-|{'-:|' * len(names)}"]
    for row in rows[:CASCADES]:
        shown = (f"{n.value} ({n.detail})" if n.detail else n.value for n in (row.numbers[i] for i in at))
        lines.append(f"| {_escape(row.name)} | {' | '.join(_escape(cell) for cell in shown)} |")
    return lines + _more(len(rows) - CASCADES, "rows")


def _unmeasured(page: view.View) -> list[str]:
    notes = [note for suite in page.suites for note in suite.unmeasured]
    notes += [f"{c.headline.cascade}: {note}" for suite in page.suites for c in suite.judged for note in c.unmeasured]
    if not notes:
        return []
    return [
        "",
        "Not measured:",
        "",
        *(f"- {_escape(note)}" for note in notes[:NOTES]),
        *_more(len(notes) - NOTES, "notes"),
    ]


def _more(left: int, what: str) -> list[str]:
    return ["", f"… and {left:,} more {what}."] if left > 0 else []


def _escape(text: str, longest: int = _LONGEST) -> str:
    """Keep a text on its line and in its cell: no markup, no link, no mention of anybody."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    plain = " ".join(short.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A zero-width space after what begins a mention or a link keeps both from coming alive.
    for start in ("@", ":/", "www."):
        plain = plain.replace(start, f"{start}\u200b")
    return _SPECIAL.sub(r"\\\1", plain)
