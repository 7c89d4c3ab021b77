"""The data of each picture, chosen and ordered; drawn by `cascade_eval.report.svg`."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade_eval.report import numbers, sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cascade_eval.report.sentences import State

Points = tuple[tuple[float, float], ...]
Record = dict[str, Any]
CohortKey = tuple[tuple[str, str], ...]

REFERENCE = "always-flagship"
"""The cascade every other one is compared with; reported, never judged."""

MULTIPLES = 90
"""Small pictures of one kind in a report; the cohorts of a cascade beyond its share are named, not drawn."""


@dataclass(frozen=True)
class Spot:
    """A cascade in the picture of cost against disagreement, each with its bounds."""

    number: int
    name: str
    state: State
    x: tuple[float, float, float]
    y: tuple[float, float, float]


@dataclass(frozen=True)
class Pareto:
    """Cost against disagreement: the cascades of a suite, and where their thresholds could take them."""

    spots: tuple[Spot, ...]
    curves: tuple[Points, ...]
    budgets: tuple[tuple[float, str], ...]
    flagship: bool
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What every threshold of one gate would do, in one cohort."""

    title: str
    tier: str
    x: tuple[float, float]
    escalation: Points
    cost: Points
    disagreement: Points
    cost_top: float
    disagreement_top: float
    operating: float | None
    budget: float | None
    budget_text: str
    caption: str


@dataclass(frozen=True)
class Reliability:
    """Agreement against the gate's value, per bin: value, agreement, its bounds and its cases."""

    title: str
    tier: str
    x: tuple[float, float]
    diagonal: bool
    bins: tuple[tuple[float, float, float, float, int], ...]
    facts: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Bar:
    """One row of a funnel or of cost by path: shares of a whole, darkest first."""

    name: str
    detail: str
    shares: tuple[float, ...]
    facts: tuple[str, ...]


def by_cohort(rows: Iterable[Record]) -> dict[CohortKey, list[Record]]:
    """Group records by their cohort, in order of appearance."""
    groups: dict[CohortKey, list[Record]] = {}
    # Rows of a cohort lie together; comparing neighbours is cheaper than a key for each.
    for cohort, members in itertools.groupby(rows, key=operator.itemgetter("cohort")):
        groups.setdefault(tuple(cohort.items()), []).extend(members)
    return groups


def pareto(cascades: Sequence[Record], states: Mapping[str, State]) -> Pareto | None:
    """Place every cascade that has a cost and a disagreement; None where none has."""
    spots: list[Spot] = []
    absent: list[str] = []
    flagship = False
    for cascade in cascades:
        measured = cascade["overall"]["metrics"]
        if cascade["name"] == REFERENCE:
            flagship = True
            continue
        x, y = _bounded(measured.get("cost")), _bounded(measured.get("disagreement"))
        name = sentences.clean(cascade["name"])
        if x is None or y is None:
            absent.append(name)
        else:
            spots.append(Spot(len(spots) + 1, name, states[cascade["name"]], x, y))
    if not spots:
        return None
    curves = dict.fromkeys(
        tuple(_points(rows, "cost", "disagreement"))
        for cascade in cascades
        for rows in _moved(by_cohort(cascade["sweep"]).get((), ()), _operating(cascade)).values()
    )
    budgets = dict.fromkeys(
        (verdict["high"], sentences.clean(verdict["bound"]))
        for cascade in cascades
        for verdict in cascade["verdicts"]
        if verdict["metric"] == "disagreement" and not verdict["cohort"] and verdict["high"] is not None
    )
    drawn = tuple(curve for curve in curves if len(curve) > 1)
    return Pareto(tuple(spots), drawn, tuple(budgets), flagship, tuple(absent))


def sweeps(cascade: Record, order: Sequence[CohortKey]) -> tuple[Sweep, ...]:
    """Every sweep of a cascade: overall first, then cohorts in the given order; axes are shared per gate."""
    cells = {tuple(cell["cohort"].items()): cell for cell in (cascade["overall"], *cascade["cohorts"])}
    grouped = by_cohort(cascade["sweep"])
    # What a route sends to the flagship meets no threshold.
    keys = [key for key in ((), *order) if key in grouped and not cells.get(key, {}).get("routed")]
    operating = _operating(cascade)
    moved = {key: _moved(grouped[key], operating) for key in keys}
    return tuple(sweep for tier in moved.get((), {}) for sweep in _of_tier(cascade, cells, moved, tier))


def _of_tier(
    cascade: Record, cells: Mapping[CohortKey, Record], moved: Mapping[CohortKey, Mapping[str, list[Record]]], tier: str
) -> list[Sweep]:
    operating = _operating(cascade).get(tier)
    members = {key: groups[tier] for key, groups in moved.items() if tier in groups}
    budgets = {
        tuple(verdict["cohort"].items()): (verdict["high"], sentences.clean(verdict["bound"]))
        for verdict in cascade["verdicts"]
        if verdict["metric"] == "disagreement" and verdict["high"] is not None
    }
    top = max([_top(members.values()), *(min(1.0, budgets[key][0] * 1.15) for key in members if key in budgets)])
    tops = (max([1.0, *(row["cost"] or 0 for rows in members.values() for row in rows)]) * 1.02, top)
    x = _axis([row["thresholds"][tier] for row in members[()]], operating)
    return [
        _sweep(cells.get(key), key, tier, rows, x=x, tops=tops, operating=operating, budget=budgets.get(key))
        for key, rows in members.items()
    ]


def reliability(cascade: Record, order: Sequence[CohortKey]) -> tuple[Reliability, ...]:
    """Every reliability picture of a cascade: overall first, then cohorts in the given order."""
    grouped = by_cohort(cascade["calibration"])
    whole = [b["mean"] for row in grouped.get((), []) for b in row["bins"] if b["mean"] is not None]
    values = whole or [b["mean"] for row in cascade["calibration"] for b in row["bins"] if b["mean"] is not None]
    if not values:
        return ()
    probability = min(values) >= 0 and max(values) <= 1
    x = (0.0, 1.0) if probability else (min(values), max(values) if max(values) > min(values) else min(values) + 1)
    rows = [row for key in ((), *order) for row in grouped.get(key, [])]
    return tuple(_reliability(row, x, diagonal=probability) for row in rows if row["bins"])


def funnel(cascade: Record) -> tuple[Bar, ...]:
    """Where cases were settled, tier by tier; bars are shares of all cases."""
    whole = cascade["overall"]["cases"] or 1
    return tuple(_funnel_row(row, whole) for row in cascade["funnel"])


def paths(cascade: Record) -> tuple[Bar, ...]:
    """Which tiers cases took, how many, and what their calls cost; bars are shares of cases and of cost."""
    rows = cascade["paths"]
    cases = sum(row["cases"] for row in rows) or 1
    costs = [row["cost_usd"] for row in rows]
    # A share of a sum is unknown as soon as one part is.
    dollars = None if None in costs else sum(costs)
    return tuple(_path_row(row, cases, dollars) for row in rows)


def _bounded(estimate: Record | None) -> tuple[float, float, float] | None:
    if estimate is None or estimate["value"] is None:
        return None
    value = estimate["value"]
    low = value if estimate["low"] is None else estimate["low"]
    high = value if estimate["high"] is None else estimate["high"]
    return value, low, high


def _operating(cascade: Record) -> dict[str, float | None]:
    return {row["tier"]: row["threshold"] for row in cascade["thresholds"]}


def _moved(rows: Sequence[Record], operating: Mapping[str, float | None]) -> dict[str, list[Record]]:
    """Group a cohort's sweep by the gate that moves, the others standing where they operate."""
    groups: dict[str, list[Record]] = {}
    for row in rows:
        set_to = row["thresholds"]
        moved = list(set_to) if len(set_to) == 1 else [tier for tier in set_to if set_to[tier] != operating.get(tier)]
        # Where nothing moved the row is a point of every line; two gates moved at once are a point of none.
        moved = moved if len(moved) == 1 else [] if moved else list(set_to)
        for tier in moved:
            groups.setdefault(tier, []).append(row)
    return groups


def _points(rows: Sequence[Record], across: str, up: str) -> list[tuple[float, float]]:
    return [(row[across], row[up]) for row in rows if row[across] is not None and row[up] is not None]


def _axis(values: Sequence[float | None], operating: float | None) -> tuple[float, float]:
    """Return the span of thresholds without the lowest and highest hundredth, always holding the operating one."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return (0.0, 1.0)
    cut = len(known) // 100
    low, high = known[cut], known[-1 - cut]
    if operating is not None:
        low, high = min(low, operating), max(high, operating)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _top(groups: Iterable[Sequence[Record]]) -> float:
    """Return the disagreement at the top of a shared axis; where nearly nothing is kept it is left to be cut off."""
    highest = 0.0
    for rows in groups:
        most = max((row["cases_kept"] or 0 for row in rows), default=0)
        kept = [row for row in rows if (row["cases_kept"] or 0) >= max(most * 0.02, 20)] or rows
        highest = max([highest, *(row["disagreement"] or 0 for row in kept)])
    return min(1.0, highest * 1.1 or 0.05)


def _sweep(
    cell: Record | None,
    key: CohortKey,
    tier: str,
    rows: Sequence[Record],
    *,
    x: tuple[float, float],
    tops: tuple[float, float],
    operating: float | None,
    budget: tuple[float, str] | None,
) -> Sweep:
    known = [(row["thresholds"][tier], row) for row in rows if row["thresholds"][tier] is not None]
    known = sorted((pair for pair in known if x[0] <= pair[0] <= x[1]), key=lambda pair: pair[0])
    lines = {
        name: tuple((at, row[name]) for at, row in known if row[name] is not None)
        for name in ("escalation", "cost", "disagreement")
    }
    return Sweep(
        title=sentences.where(dict(key)),
        tier=sentences.clean(tier),
        x=x,
        **lines,
        cost_top=tops[0],
        disagreement_top=tops[1],
        operating=operating,
        budget=budget[0] if budget else None,
        budget_text=budget[1] if budget else "",
        caption=_sweep_caption(cell, ("escalation", "disagreement") if key else tuple(_SAYS)),
    )


_SAYS = {"escalation": "escalates {}", "disagreement": "disagrees {}", "cost": "costs {} of always-flagship"}


def _sweep_caption(cell: Record | None, metrics: Sequence[str]) -> str:
    """Say what the cascade does where it operates."""
    measured = cell["metrics"] if cell else {}
    known = [name for name in metrics if name in measured and measured[name]["value"] is not None]
    return "; ".join(_SAYS[name].format(with_evidence(measured[name])) for name in known)


def with_evidence(estimate: Record, *, beside: tuple[float | None, ...] = ()) -> str:
    """Write an estimate with its bounds and its cases in parentheses."""
    value = numbers.show(estimate["value"], estimate["unit"], beside=beside)
    bounds = numbers.bounds(estimate["low"], estimate["high"], estimate["unit"], beside=beside)
    nobs = "" if estimate["nobs"] is None else f"n {numbers.count(estimate['nobs'])}"
    inside = ", ".join(part for part in (bounds, nobs) if part)
    return f"{value} ({inside})" if inside else value


def _reliability(row: Record, x: tuple[float, float], *, diagonal: bool) -> Reliability:
    bins = tuple(
        (b["mean"], b["agree"], _or(b["bound_low"], b["agree"]), _or(b["bound_high"], b["agree"]), b["nobs"])
        for b in row["bins"]
        if b["nobs"] and b["mean"] is not None and b["agree"] is not None
    )
    named = (("Brier", "brier"), ("AUROC", "auroc"), ("debiased error", "debiased_error"), ("log loss", "log_loss"))
    facts = [f"{label} {numbers.plain(row[key])}" for label, key in named if row[key] is not None]
    if row["spiegelhalter_p"] is not None:
        facts.append(f"Spiegelhalter p {numbers.plain(row['spiegelhalter_p'], 2)}")
    caption = sentences.clean(row["signal"]) + (f", {sentences.clean(row['recipe'])}" if row["recipe"] else "")
    if row["note"]:
        caption += f" — {sentences.clean(row['note'])}"
    return Reliability(
        title=sentences.where(row["cohort"]),
        tier=sentences.clean(row["tier"]),
        x=x,
        diagonal=diagonal,
        bins=bins,
        facts=(f"n {numbers.count(row['nobs'])}", *facts),
        caption=caption,
    )


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _funnel_row(row: Record, whole: int) -> Bar:
    facts = [f"{numbers.count(row['reached'])} reached", f"{numbers.count(row['settled'])} settled"]
    facts += [f"{numbers.count(row['escalated'])} escalated"] if row["escalated"] else []
    facts += [
        f"{numbers.count(row[key])} {label}"
        for key, label in (("timeouts", "timed out"), ("errors", "failed"), ("refused", "refused"))
        if row[key]
    ]
    shares = (row["settled"] / whole, max(0.0, row["reached"] - row["settled"]) / whole)
    return Bar(sentences.clean(row["tier"]), sentences.clean(row["model"]), shares, tuple(facts))


def _path_row(row: Record, cases: int, dollars: float | None) -> Bar:
    share = row["cases"] / cases
    facts = [numbers.count(row["cases"]), numbers.show(share, "rate"), numbers.show(row["cost_usd"], "dollars")]
    spent = None if not dollars else row["cost_usd"] / dollars
    facts += [numbers.show(spent, "rate")]
    name = " → ".join(sentences.clean(tier) for tier in row["path"])
    return Bar(name, "", (share,) if spent is None else (share, spent), tuple(facts))
