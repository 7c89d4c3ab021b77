"""What a suite leaves behind, as plain JSON-ready values; the report is drawn from nothing else."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import agreement, baseline, cohorts, costs, metrics, replay, sequential
from cascade_eval.cascade import leaves
from cascade_eval.counts import states
from cascade_eval.suite import advice, counting, curves, picks, resemblance
from cascade_eval.suite.judged import routed
from cascade_eval.traffic import Batch, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.cascade import Cascade
    from cascade_eval.suite.counting import Counted, Plan
    from cascade_eval.suite.judged import Cell, Data, Judged, Watching
    from cascade_eval.suite.nouns import Suite
    from cascade_eval.suite.picks import Picked
    from cascade_eval.suite.survey import Surveyed
    from cascade_eval.traffic import Traffic

_ALWAYS: Final = ("escalation", "disagreement", "cost", "savings", "coverage", "audited")
"""Metrics shown even where they have no value, with the reason."""

SHOWN: Final = 10
"""Cohorts that are named in a note."""


def record(
    suite: Suite,
    traffic: Traffic,
    data: Data,
    plan: Plan,
    counted: Counted,
    seen: Surveyed,
    judged: Sequence[Judged],
    watching: Watching,
    *,
    now: dt.datetime,
) -> dict[str, Any]:
    """Return the suite's part of the evidence.

    Parameters
    ----------
    suite, traffic, data
        What was judged.
    plan, counted, seen
        What was counted.
    judged
        The cascades with their verdicts.
    watching
        What weeks say.
    now
        For ages.
    """
    texts, drawn = _Texts(traffic, counted, plan), curves.Drawn(plan)
    cached = _cached(judged)
    return {
        "suite": suite.name,
        "data": {
            "path": data.path,
            "kind": data.kind,
            "sha256": traffic.sha256(),
            "cases": counted.cases,
            "bad_rows": traffic.bad_rows,
            "cached": cached / counted.cases if Field(None, "cached") in traffic.fields else None,
            "span": None if counted.span is None else [_instant(end) for end in counted.span],
            "description": data.description,
        },
        "confidence": suite.confidence,
        "inconclusive": suite.inconclusive,
        "promise": promise(judged, suite.confidence),
        "cohorts": [column.name for column in suite.cohorts],
        "agreement": _written(suite.agreement),
        "floors": {"coverage": suite.coverage, "audited": suite.audited},
        "notes": [*_notes(suite, traffic, counted, seen, judged), *watching.notes],
        "prices": [
            {key: value for key, value in use.items() if key != "calls"} for use in costs.provenance(counted.used)
        ],
        "cascades": [_cascade(suite, each, plan, texts, drawn, now=now) for each in judged],
        **watching.blocks,
    }


def _cached(judged: Sequence[Judged]) -> int:
    return sum(int(each.overall.counts["states"][0][-1]) for each in judged[:1])


def promise(judged: Sequence[Judged], confidence: float) -> str:
    """State the chance of any false verdict in a run."""
    every = [(each.cascade.name, v) for each in judged for v in each.verdicts]
    lines = {(name, v.metric, v.scope) for name, v in every if not v.bound.watched}
    alpha = round(1 - confidence, 10)
    total = min(1.0, len(lines) * alpha)
    sequences = sum(v.bound.watched for _, v in every)
    return (
        f"The chance of any false failure is at most {len(lines)} × {alpha:.3g} = {total:.3g}; the chance that "
        f"everything passes although some promise is broken is at most {alpha:.3g}.{_watched(sequences)}"
    )


def _watched(sequences: int) -> str:
    if not sequences:
        return ""
    each = f"Each of the {sequences:,} watched sequences" if sequences > 1 else "The watched sequence"
    return f" {each} fails by its own alarm: falsely once in {sequential.ALARM:g} weeks at most, on average."


def _written(agreement: Any) -> str:
    import json

    return agreement if isinstance(agreement, str) else json.dumps(agreement, default=str)


def _instant(microseconds: int) -> str:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)).isoformat()


def _notes(suite: Suite, traffic: Traffic, counted: Counted, seen: Surveyed, judged: Sequence[Judged]) -> Iterator[str]:
    """Say in sentences what was found out on the way, and what was not measured."""
    for note in suite.notes:
        yield str(note)
    if traffic.bad_rows:
        were = "1 bad row was" if traffic.bad_rows == 1 else f"{traffic.bad_rows:,} bad rows were"
        yield f"{were} set aside and not judged. First: {traffic.set_aside[0]}"
    yield from traffic.notes
    shares = {
        (cascade.name, tier.name, number): leaf.escalate
        for cascade in seen.cascades
        for tier in cascade.tiers
        for number, leaf in enumerate(leaves(tier.gate))
    }
    for (name, tier, number), value in seen.found.items():
        yield f"{name}: 'escalate: {shares[name, tier, number]:.3g}' of {tier} stands for the threshold {value!r} on this data: its share was chosen here, and not found out"
    yield from resemblance.notes(counted, seen)
    cached = _cached(judged)
    if cached:
        yield f"{cached:,} of {counted.cases:,} cases were answered by a cache: they are no decision of the cascade, and nothing is judged of them"
    for each in judged:
        yield from _cascade_notes(suite, each)
    if suite.inconclusive == "fail":
        yield "An inconclusive verdict counts as a failure; 'inconclusive: warn' would excuse too few cases."
    else:
        yield "Too few cases to decide is only a warning here; what was not measured fails all the same."


def _cascade_notes(suite: Suite, judged: Judged) -> Iterator[str]:
    layout = states(len(judged.cascade.tiers))
    table = judged.overall.counts["states"][0]
    if table[layout.unresolved]:
        yield f"{judged.cascade.name}: the path of {int(table[layout.unresolved]):,} cases is not known"
    away = [cell for family in judged.cells.values() for cell in family if routed(cell, judged.context)]
    if away:
        said = ", ".join(cohorts.label(cell.family, cell.member) for cell in away[:SHOWN])
        yield f"{judged.cascade.name}: nothing is judged of {said}{', …' if len(away) > SHOWN else ''}: a route sends every such case to the flagship"
    for family, cells in judged.cells.items():
        if judged.verdicts and [cell.member for cell in cells] == [(cohorts.OTHER,)]:
            yield f"{judged.cascade.name}: every {family[0]} has too few cases and all are judged as one, so 'each {family[0]}' says no more than 'overall'"
    signals_read = judged.overall.counts["signals"][0]
    for leaf, (asked, missing) in zip(judged.context.leaves, signals_read.tolist(), strict=True):
        if missing:
            yield f"{judged.cascade.name}: {leaf} is null in {missing:,} of {asked:,} cases its gate read; they escalate"
    for tier in judged.cascade.tiers:
        for gated in leaves(tier.gate):
            recipe = gated.calibrate
            if recipe is not None and recipe.file is None:
                yield (
                    f"{judged.cascade.name}: {tier.name} is calibrated out of fold on this data: this judges the recipe, "
                    "not a deployed map"
                )
            if recipe is not None and not recipe.per and recipe.kind in {"platt", "isotonic"}:
                yield (
                    f"{judged.cascade.name}: one monotone map for all cohorts cannot change who escalates at a given "
                    "rate; it only gives the threshold a meaning"
                )
    floor = judged.estimate(metrics.METRICS["flagship self-disagreement"], judged.overall)
    for budget in suite.budgets:
        if budget.metric == "disagreement":
            yield from advice.noise(floor, budget.bound.high, str(budget.bound))


def _cascade(
    suite: Suite, judged: Judged, plan: Plan, texts: _Texts, drawn: curves.Drawn, *, now: dt.datetime
) -> dict[str, Any]:
    cascade = judged.cascade
    budgeted = {budget.metric for budget in suite.budgets}
    cells = [cell for family in plan.families if family for cell in judged.cells[family]]
    return {
        "name": cascade.name,
        "definition": cascade.definition,
        "flagship": cascade.flagship.model,
        "baseline": None if judged.baseline is None else judged.baseline.record(now),
        "thresholds": [
            {
                "tier": tier.name,
                "signal": str(leaf.signal),
                "threshold": curves.finite(leaf.threshold),
                "escalate": leaf.escalate,
                "surer": leaf.surer,
            }
            for tier in cascade.tiers
            for leaf in leaves(tier.gate)
        ],
        "overall": _cell(judged.overall, judged, budgeted),
        "cohorts": [_cohort_cell(cell, judged, budgeted) for cell in cells],
        "verdicts": [verdict.record() for verdict in judged.verdicts],
        "sweep": [point for cell in (judged.overall, *cells) for point in drawn.sweep(cell, judged)],
        "calibration": [entry for cell in (judged.overall, *cells) for entry in drawn.calibration(cell, judged)],
        "flips": [entry for cell in (judged.overall, *cells) for entry in _flips(cell, judged, texts)],
        "worst": _worst(judged, plan, texts),
        "funnel": _funnel(judged),
        "paths": _paths(judged),
        "right": dict(zip(counting.RIGHT, judged.overall.counts["right"][0].tolist(), strict=True)),
    }


def _cell(cell: Cell, judged: Judged, budgeted: set[str]) -> dict[str, Any]:
    names = metrics.names(judged.context.tiers)
    found = {}
    for name in names:
        metric = metrics.find(name, judged.context.tiers)
        assert metric is not None
        estimate = judged.estimate(metric, cell)
        if estimate.value is not None or name in budgeted or name in _ALWAYS:
            found[name] = estimate.record()
    table = cell.counts["states"][cell.place]
    weight = float(cell.counts["states.w"][cell.place].sum()) if "states.w" in cell.counts else float(table.sum())
    return {"cohort": cell.cohort, "cases": int(table.sum()), "weight": weight, "metrics": found}


def _cohort_cell(cell: Cell, judged: Judged, budgeted: set[str]) -> dict[str, Any]:
    return {
        **_cell(cell, judged, budgeted),
        "routed": routed(cell, judged.context),
        "pooled": list(cell.pooled) or None,
    }


def _flips(cell: Cell, judged: Judged, texts: _Texts) -> Iterator[dict[str, Any]]:
    if "pairs" not in cell.counts:
        return
    found = baseline.flips(cell.counts, cell.family, cell.place, confidence=judged.context.confidence)
    if found is None:
        return
    cases = [*texts.flips(judged, cell, "worse"), *texts.flips(judged, cell, "better")]
    yield {**found, "cases": cases[: picks.FLIPS]}


def _worst(judged: Judged, plan: Plan, texts: _Texts) -> list[dict[str, Any]]:
    """List the disagreements the gates were surest of: of all cases first, then those of each cohort."""
    shown: dict[int, dict[str, Any]] = {}
    cells = [judged.overall, *(cell for family in plan.families if family for cell in judged.cells[family])]
    for cell in cells:
        for position, case in texts.worst(judged, cell):
            shown.setdefault(position, case)
    return list(shown.values())


def _funnel(judged: Judged) -> list[dict[str, Any]]:
    layout = states(len(judged.cascade.tiers))
    start, settled, *_ = layout.digits
    table = judged.overall.counts["states"][0][: layout.regular]
    failures = judged.overall.counts["funnel"][0]
    found = []
    for position, tier in enumerate(judged.cascade.tiers):
        reached = int(table[(start <= position) & (settled >= position)].sum())
        stayed = int(table[settled == position].sum())
        late, errors, refused = (int(n) for n in failures[position])
        found.append(
            {
                "tier": tier.name,
                "model": tier.model,
                "reached": reached,
                "settled": stayed,
                "escalated": reached - stayed,
                "timeouts": late,
                "errors": errors,
                "refused": refused,
            }
        )
    return found


def _paths(judged: Judged) -> list[dict[str, Any]]:
    tiers = judged.cascade.tiers
    layout = states(len(tiers))
    start, settled, *_ = layout.digits
    table = judged.overall.counts["states"][0][: layout.regular]
    known, _, cases, _ = judged.overall.counts["costs"][0].tolist()
    money = judged.overall.counts["paths"][0].reshape(len(tiers), len(tiers))
    found = []
    for first in range(len(tiers)):
        for last in range(first, len(tiers)):
            number = int(table[(start == first) & (settled == last)].sum())
            if number:
                found.append(
                    {
                        "path": [tier.name for tier in tiers[first : last + 1]],
                        "cases": number,
                        "cost_usd": int(money[first, last]) / 1e9 if known == cases else None,
                    }
                )
    return found


class _Texts:
    """Ids and answers of the few cases that are shown, fetched in one small read."""

    def __init__(self, traffic: Traffic, counted: Counted, plan: Plan) -> None:
        self.counted = counted
        self.plan = plan
        nothing = np.zeros(0, dtype=np.int64)
        wanted = np.unique(np.concatenate([nothing, *(found.position for found in counted.picked.values())]))
        self.row = {int(position): row for row, position in enumerate(wanted)}
        self.batch = traffic.rows(wanted.tolist(), _text_needs(plan, traffic)) if len(wanted) else Batch(0, {})
        self.columns = replay.Columns(self.batch, plan.rules)
        self._lists: dict[tuple[str, tuple[str, ...], str], dict[cohorts.Member, Picked]] = {}
        for (name, family, member, kind), found in counted.picked.items():
            self._lists.setdefault((name, family, kind), {})[member] = found

    def picked(self, name: str, cell: Cell, kind: str) -> Picked | None:
        """Cases of one list, the first to look at first; those of a pooled cohort are its members' together."""
        lists = self._lists.get((name, cell.family, kind), {})
        if cell.member in lists:
            return lists[cell.member]
        parts = [
            found
            for member, found in lists.items()
            if cohorts.label(cell.family, member).partition("=")[2] in cell.pooled
        ]
        if not parts:
            return None
        most = picks.most(cell.family, kind)
        found = parts[0]
        for part in parts[1:]:
            found = found.merged(part, most)
        return found

    def _text(self, model: str | None, column: str, row: int) -> Any:
        return self.batch.text(model, column, row)

    def _answer(self, cascade: Cascade, tier: int, row: int) -> str | None:
        return None if tier < 0 else _shown(self._text(cascade.tiers[tier].model, "answer", row))

    def flips(self, judged: Judged, cell: Cell, direction: str) -> Iterator[dict[str, Any]]:
        """Show the cases that began or ceased to disagree."""
        found = self.picked(judged.cascade.name, cell, direction)
        if found is None:
            return
        before = self.plan.baselines[judged.cascade.name]
        settled = self._settled(before)
        for position, tier in zip(found.position.tolist(), found.tier.tolist(), strict=True):
            row = self.row[position]
            yield {
                "case_id": str(self._text(None, "case_id", row)),
                "baseline_answer": self._answer(before, int(settled[row]), row),
                "candidate_answer": self._answer(judged.cascade, tier, row),
                "flagship_answer": _shown(self._text(judged.cascade.flagship.model, "answer", row)),
                "direction": direction,
            }

    def _settled(self, cascade: Cascade) -> np.ndarray[Any, Any]:
        """Tier at which a cascade settles each of the shown cases."""
        key = ("settled", cascade.name)
        if key not in self.columns.kept:
            columns = replace(self.columns, rules=self.plan.rules_of(cascade))
            self.columns.kept[key] = replay.decide(cascade, columns).settled
        found: np.ndarray[Any, Any] = self.columns.kept[key]
        return found

    def worst(self, judged: Judged, cell: Cell) -> Iterator[tuple[int, dict[str, Any]]]:
        """Show unescalated disagreements, with their position."""
        found = self.picked(judged.cascade.name, cell, "worst")
        if found is None:
            return
        for position, tier, value in zip(
            found.position.tolist(), found.tier.tolist(), found.value.tolist(), strict=True
        ):
            row = self.row[position]
            yield (
                position,
                {
                    "case_id": str(self._text(None, "case_id", row)),
                    "cohort": self._cohort(row),
                    "tier": judged.cascade.tiers[tier].name,
                    "value": curves.finite(value),
                    "answer": self._answer(judged.cascade, tier, row),
                    "flagship_answer": _shown(self._text(judged.cascade.flagship.model, "answer", row)),
                    "expected": _shown(self._text(None, "expected", row)),
                    "right": self._right(judged.cascade, tier, row),
                    "input": _shown(self._text(None, "input", row)),
                },
            )

    def _cohort(self, row: int) -> dict[str, str]:
        found = {}
        for family in self.plan.families:
            if len(family) == 1:
                codes = self.columns.codes(family)
                found[family[0]] = codes.members[int(codes.codes[row])][0]
        return found

    def _right(self, cascade: Cascade, tier: int, row: int) -> str | None:
        who = counting.right(self.columns, cascade.tiers[tier].model, cascade.flagship.model)[row]
        name = counting.RIGHT[counting.RIGHT_PLACE[who]]
        return None if name == "unknown" else name


def _text_needs(plan: Plan, traffic: Traffic) -> frozenset[Field]:
    """Columns that are shown; what a baseline made of a case is found out by replaying it, which takes the others."""
    wanted = set(counting.needs(plan, traffic)) if plan.baselines else set()
    wanted |= {Field(None, "case_id"), Field(None, "input"), Field(None, "expected")}
    for family in plan.families:
        wanted |= cohorts.needs(family)
    for tier in (tier for cascade in (*plan.cascades, *plan.baselines.values()) for tier in cascade.tiers):
        wanted |= {Field(tier.model, "answer")} | agreement.quality_needs(tier.model, traffic.fields)
    return frozenset(wanted & traffic.fields)


def _shown(value: Any) -> str | None:
    """Cut a long text: evidence shows cases, it is no copy of the data."""
    if value is None:
        return None
    text = value if isinstance(value, str) else cohorts.text(value)
    return text if len(text) <= 2000 else text[:1999] + "…"
