"""Everything the report shows, as plain values: words chosen, numbers written, rows ordered, nothing escaped yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade_eval.report import cases, findings, numbers, panels, sentences, weekly

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cascade_eval.report.cases import Disagreement, FlipTable
    from cascade_eval.report.panels import Bar, CohortKey, Pareto, Record, Reliability, Sweep
    from cascade_eval.report.sentences import Headline, Judged, State

COMPARED = ("escalation", "disagreement", "cost", "savings", "retention", "latency p95")
"""Columns of the table against always-flagship."""

WORST = 20
"""Disagreements shown per cascade."""

ALL_WORST = 50
"""Disagreements shown in a whole report."""


class Room(NamedTuple):
    """How much of each kind a cascade may show, so that a report of many cascades stays one that loads."""

    worst: int
    pictures: int
    findings: int
    weeks: int


@dataclass(frozen=True)
class Number:
    """An estimate as shown: value, bounds, n, and why it is unknown or marked."""

    value: str
    detail: str
    note: str


@dataclass(frozen=True)
class Compared:
    """One row of the table against always-flagship."""

    name: str
    state: State
    word: str
    reference: bool
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Cell:
    """A cohort's metric: every verdict on it, or only the number where nothing was promised."""

    verdicts: tuple[Judged, ...]
    measured: Number | None
    routed: bool


@dataclass(frozen=True)
class Row:
    """A cohort in the matrix."""

    group: str
    name: str
    cases: str
    note: str
    state: State
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Cohorts by budgeted metrics, the most urgent first within each cohort column."""

    metrics: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]


@dataclass(frozen=True)
class CascadeView:
    """Everything about one cascade."""

    anchor: str
    headline: Headline
    gates: tuple[str, ...]
    baseline: str
    matrix: Matrix
    findings: tuple[Judged, ...]
    findings_left: str
    funnel: tuple[Bar, ...]
    paths: tuple[Bar, ...]
    sweeps: tuple[Sweep, ...]
    reliability: tuple[Reliability, ...]
    undrawn: str
    flips: tuple[FlipTable, ...]
    right: tuple[tuple[str, str], ...]
    worst: tuple[Disagreement, ...]
    worst_left: str
    unmeasured: tuple[str, ...]
    definition: str


@dataclass(frozen=True)
class SuiteView:
    """One suite: its cascades, compared and each on its own, and what it stands on."""

    anchor: str
    name: str
    file: str
    judged: tuple[CascadeView, ...]
    compared: tuple[Compared, ...]
    pareto: Pareto | None
    confidence: str
    rule: str
    promise: str
    facts: tuple[tuple[str, str], ...]
    prices: tuple[tuple[str, ...], ...]
    unmeasured: tuple[str, ...]
    alarms: tuple[weekly.Movement, ...] = ()
    weekly: weekly.Weekly | None = None
    audit: findings.Audit | None = None
    diagnoses: tuple[findings.Diagnosis, ...] = ()


@dataclass(frozen=True)
class View:
    """A whole report; `alarm` where one stands that no failing verdict tells of."""

    title: str
    state: State
    alarm: bool
    created: str
    facts: tuple[tuple[str, str], ...]
    partial: str
    suites: tuple[SuiteView, ...]


def build(evidence: Mapping[str, Any]) -> View:
    """Turn evidence into everything the report shows.

    Parameters
    ----------
    evidence
        As `cascade_eval.evidence.build` or `read` return it.

    Returns
    -------
    View
        Plain values. Texts from outside keep their markup: whoever renders them escapes them.
    """
    judged = sum(1 for suite in evidence["suites"] for cascade in suite["cascades"] if cascade["verdicts"])
    room = Room(
        *(
            max(least, most // max(judged, 1))
            for least, most in ((3, ALL_WORST), (6, panels.MULTIPLES), (4, 60), (3, weekly.PANELS))
        )
    )
    suites = tuple(_suite(suite, f"s{i}", room) for i, suite in enumerate(evidence["suites"], start=1))
    states = [cascade.headline.state for suite in suites for cascade in suite.judged]
    return View(
        title=", ".join(suite.name for suite in suites) or "nothing",
        state=min(states, key=sentences.ORDER.index, default="none"),
        alarm=any(suite.alarms for suite in suites),
        created=_moment(evidence["created_at"]),
        facts=_run_facts(evidence),
        partial=_partial(evidence["selected"]),
        suites=suites,
    )


def _partial(selected: Mapping[str, int]) -> str:
    if selected["items"] >= selected["of"]:
        return ""
    ran, of = numbers.count(selected["items"]), numbers.count(selected["of"])
    return f"Only {ran} of {of} items ran. What is shown is not the whole promise, and cannot serve as a baseline."


def _moment(text: str) -> str:
    """Write a time as people read it, or as it came where it is none."""
    try:
        return f"{datetime.fromisoformat(text):%-d %B %Y, %H:%M %Z}".strip().rstrip(",")
    except ValueError:
        return sentences.clean(text)


def _run_facts(evidence: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    git = evidence["git"] or {}
    commit = (git.get("commit") or "")[:12]
    state = f"{commit}{' with uncommitted changes' if git.get('dirty') else ''}"
    branch = f" on {git['branch']}" if git.get("branch") else ""
    versions = ", ".join(f"{name} {version}" for name, version in evidence["versions"].items())
    return (
        ("Commit", sentences.clean(f"{state}{branch}") if commit else "not known"),
        ("cascade-eval", sentences.clean(evidence["version"])),
        ("Versions", sentences.clean(versions)),
        ("Items", f"{numbers.count(evidence['selected']['items'])} of {numbers.count(evidence['selected']['of'])} ran"),
    )


def _suite(suite: Record, anchor: str, room: Room) -> SuiteView:
    name = suite["suite"].rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".cascade")
    judged = [cascade for cascade in suite["cascades"] if cascade["name"] != panels.REFERENCE]
    views = tuple(_cascade(cascade, f"{anchor}c{i}", name, room) for i, cascade in enumerate(judged, start=1))
    states = {cascade["name"]: view.headline.state for cascade, view in zip(judged, views, strict=True)}
    return SuiteView(
        anchor=anchor,
        name=sentences.clean(name),
        file=sentences.clean(suite["suite"]),
        judged=views,
        compared=tuple(
            _compared(c, states.get(c["name"], "none"), c["name"] == panels.REFERENCE) for c in suite["cascades"]
        ),
        pareto=panels.pareto(suite["cascades"], states),
        confidence=f"{numbers.plain(suite['confidence'] * 100, 6)}%",
        rule=_rule(suite["inconclusive"]),
        promise=sentences.clean(suite["promise"]),
        facts=_data_facts(suite),
        prices=tuple(_price(price) for price in suite["prices"]),
        unmeasured=tuple(sentences.clean(note) for note in suite["notes"]),
        alarms=weekly.alarms(suite),
        weekly=weekly.build(suite, room.weeks),
        audit=findings.audit(suite.get("audit")),
        diagnoses=tuple(findings.diagnosis(one) for one in suite.get("findings", ())),
    )


def _rule(inconclusive: str) -> str:
    if inconclusive == "fail":
        return "Inconclusive counts as failure."
    return "Inconclusive for want of cases is reported and excused; what was not measured still fails."


def _data_facts(suite: Record) -> tuple[tuple[str, str], ...]:
    data = suite["data"]
    floors = ", ".join(f"{name} {numbers.show(share, 'rate')}" for name, share in suite["floors"].items())
    facts = [
        (data["kind"].capitalize(), data["path"]),
        ("Description", data["description"]),
        ("Cases", numbers.count(data["cases"])),
        ("Rows set aside", numbers.count(data["bad_rows"])),
        ("Answered by a cache", None if data["cached"] is None else numbers.show(data["cached"], "rate")),
        ("Decided between", " and ".join(map(_moment, data["span"])) if data["span"] else None),
        ("sha256", data["sha256"]),
        ("Agreement", suite["agreement"]),
        ("Cohorts", ", ".join(suite["cohorts"]) or "none"),
        ("Confidence", f"{numbers.plain(suite['confidence'] * 100, 6)}% on each side, uncorrected bounds"),
        ("At least", floors),
    ]
    return tuple((label, sentences.clean(text)) for label, text in facts if text)


def _price(price: Record) -> tuple[str, ...]:
    per_million = [
        numbers.show(price[key], "dollars") if price[key] is not None else "–"
        for key in ("input", "cached_input", "output")
    ]
    share = "–" if price["share"] is None else numbers.show(price["share"], "rate")
    texts = (price["model"], price["source"], *per_million, share, price["as_of"] or "–")
    return tuple(sentences.clean(text) for text in texts)


def _compared(cascade: Record, state: State, reference: bool) -> Compared:  # noqa: FBT001  a fact of the row, not a switch
    measured = cascade["overall"]["metrics"]
    budgets: dict[str, list[float | None]] = {}
    for verdict in cascade["verdicts"]:
        budgets.setdefault(verdict["metric"], []).extend((verdict["low"], verdict["high"]))
    return Compared(
        name=sentences.clean(cascade["name"]),
        state=state,
        word="the reference" if reference else sentences.WORDS[state],
        reference=reference,
        numbers=tuple(_number(measured.get(name), tuple(budgets.get(name, ()))) for name in COMPARED),
    )


def _number(estimate: Record | None, beside: tuple[float | None, ...] = ()) -> Number:
    if estimate is None:
        return Number("–", "not recorded", "")
    if estimate["value"] is None:
        return Number("–", "", sentences.clean(estimate["reason"] or "not measured"))
    exact = estimate["low"] == estimate["high"] == estimate["value"]
    bounds = "" if exact else numbers.bounds(estimate["low"], estimate["high"], estimate["unit"], beside=beside)
    nobs = "" if estimate["nobs"] is None else f"n {numbers.count(estimate['nobs'])}"
    note = f"{numbers.show(estimate['estimated'], 'rate')} estimated" if estimate["estimated"] is not False else ""
    return Number(
        numbers.show(estimate["value"], estimate["unit"], beside=beside),
        " · ".join(part for part in (bounds, nobs) if part),
        note,
    )


def _cascade(cascade: Record, anchor: str, suite: str, room: Room) -> CascadeView:
    verdicts = [sentences.judged(verdict) for verdict in cascade["verdicts"]]
    order = _order(cascade)
    drawn = order[: room.pictures]
    undrawn = ", ".join(sentences.where(dict(key)) for key in order[room.pictures :])
    open_findings = sorted((v for v in verdicts if v.state != "pass"), key=lambda v: sentences.ORDER.index(v.state))
    left = len(open_findings) - room.findings
    failing = {key for key, state in _states(cascade).items() if state == "fail" and key}
    chosen = cases.choose(cascade["worst"], min(room.worst, WORST), failing)
    return CascadeView(
        anchor=anchor,
        headline=sentences.headline(suite, cascade["name"], cascade["verdicts"]),
        gates=_gates(cascade),
        baseline=_baseline(cascade["baseline"]),
        matrix=_matrix(cascade, verdicts),
        findings=tuple(open_findings[: room.findings]),
        findings_left=f"{numbers.count(left)} more stand in the matrix." if left > 0 else "",
        funnel=panels.funnel(cascade),
        paths=panels.paths(cascade),
        sweeps=panels.sweeps(cascade, drawn),
        reliability=panels.reliability(cascade, drawn),
        undrawn=undrawn,
        flips=tuple(cases.flips(record, most=room.findings) for record in cascade["flips"]),
        right=tuple((label, numbers.count(n)) for label, n in _right(cascade["right"]) if n),
        worst=tuple(cases.disagreement(case) for case in chosen),
        worst_left=_left(len(cascade["worst"]) - len(chosen)),
        unmeasured=_unmeasured(cascade),
        definition=json.dumps(cascade["definition"], indent=2, ensure_ascii=False),
    )


def _left(left: int) -> str:
    return f"{numbers.count(left)} more are in the evidence." if left > 0 else ""


def _states(cascade: Record) -> dict[CohortKey, State]:
    """Return the most urgent verdict of each cohort."""
    found: dict[CohortKey, State] = {}
    for verdict in cascade["verdicts"]:
        key, state = tuple(verdict["cohort"].items()), sentences.state(verdict)
        found[key] = min(found.get(key, "none"), state, key=sentences.ORDER.index)
    return found


def _order(cascade: Record) -> list[CohortKey]:
    """Return the cohorts, by column, the most urgent first and then the largest."""
    states, columns = _states(cascade), list(dict.fromkeys(" and ".join(c["cohort"]) for c in cascade["cohorts"]))
    cells = sorted(
        cascade["cohorts"],
        key=lambda cell: (
            columns.index(" and ".join(cell["cohort"])),
            sentences.ORDER.index(states.get(tuple(cell["cohort"].items()), "none")),
            -cell["cases"],
        ),
    )
    return [tuple(cell["cohort"].items()) for cell in cells]


def _gates(cascade: Record) -> tuple[str, ...]:
    """Say what each gate does, in words."""
    said = []
    for gate in cascade["thresholds"]:
        side = "at least" if gate["surer"] == "higher" else "at most"
        signal, tier = sentences.clean(gate["signal"]), sentences.clean(gate["tier"])
        asked = (
            "" if gate["escalate"] is None else f", which escalates {numbers.show(gate['escalate'], 'rate')} as asked"
        )
        at = (
            "every case escalates"
            if gate["threshold"] is None
            else f"settles where {signal} is {side} {numbers.plain(gate['threshold'], 6)}"
        )
        said.append(f"{tier} {at}{asked}")
    return (*said, f"the flagship is {sentences.clean(cascade['flagship'])}")


def _baseline(baseline: Record | None) -> str:
    if baseline is None:
        return ""
    kind = {"cascade": "the cascade", "git": "git", "evidence": "the evidence"}[baseline["kind"]]
    commit = f" at {baseline['commit'][:12]}" if baseline["commit"] else ""
    age = f", {numbers.show(baseline['age_days'], 'days')} old" if baseline["age_days"] is not None else ""
    return sentences.clean(f"{kind} {baseline['name']}{commit}{age}")


def _matrix(cascade: Record, verdicts: Sequence[Judged]) -> Matrix:
    metrics = tuple(dict.fromkeys(verdict.metric for verdict in verdicts))
    judged: dict[tuple[CohortKey, str], list[Judged]] = {}
    for verdict in verdicts:
        judged.setdefault((verdict.cohort, verdict.metric), []).append(verdict)
    cells: dict[CohortKey, Record | None] = {(): cascade["overall"]}
    cells |= {tuple(cell["cohort"].items()): cell for cell in cascade["cohorts"]}
    absent = {key: None for key, _ in judged if key not in cells}
    order = [(), *_order(cascade), *absent]
    states = _states(cascade)
    rows = [_row(key, (cells | absent)[key], metrics, judged, states.get(key, "none")) for key in order]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return Matrix(metrics, tuple((group, tuple(members)) for group, members in groups.items()))


def _row(
    key: CohortKey,
    cell: Record | None,
    metrics: Sequence[str],
    judged: Mapping[tuple[CohortKey, str], Sequence[Judged]],
    state: State,
) -> Row:
    measured = cell["metrics"] if cell else {}
    routed = bool(cell and cell.get("routed"))
    pooled = (cell or {}).get("pooled")
    columns, members = [column for column, _ in key], [sentences.clean(member) for _, member in key]
    return Row(
        group=sentences.clean(" and ".join(columns)),
        name=", ".join(members) or "overall",
        cases="no cases" if cell is None else f"{numbers.count(cell['cases'])} cases",
        note=sentences.clean(f"pools {', '.join(pooled)}") if pooled else "",
        state=state,
        cells=tuple(_cell(judged.get((key, metric), ()), measured.get(metric), routed=routed) for metric in metrics),
    )


def _cell(verdicts: Iterable[Judged], estimate: Record | None, *, routed: bool) -> Cell:
    found = tuple(verdicts)
    return Cell(found, None if found or estimate is None else _number(estimate), routed and not found)


def _right(right: Record) -> tuple[tuple[str, int], ...]:
    labels = ("flagship right", "cheap tier right", "neither right", "both right", "not known")
    return tuple(zip(labels, (right[key] for key in ("flagship", "cheap", "neither", "both", "unknown")), strict=True))


def _unmeasured(cascade: Record) -> tuple[str, ...]:
    """Say what could not be measured and why, metrics and cohorts of one reason together."""
    missing: dict[tuple[str, str], list[str]] = {}
    for cell in (cascade["overall"], *cascade["cohorts"]):
        for metric, estimate in cell["metrics"].items():
            if estimate["value"] is None and not cell.get("routed"):
                reason = estimate["reason"] or ("no case" if not cell["cases"] else "no reason was recorded")
                missing.setdefault((metric, reason), []).append(sentences.where(cell["cohort"]))
    together: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (metric, reason), cohorts in missing.items():
        together.setdefault((reason, tuple(cohorts)), []).append(metric)
    return tuple(
        sentences.clean(f"{', '.join(metrics)} on {_some(cohorts)}: {reason}.")
        for (reason, cohorts), metrics in together.items()
    )


def _some(names: Sequence[str]) -> str:
    left = len(names) - 4
    return ", ".join(names[:4]) + (f" and {numbers.count(left)} more" if left > 0 else "")
