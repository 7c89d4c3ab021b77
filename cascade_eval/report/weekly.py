"""Weeks of a suite as the report shows them: lines by cohort, standing alarms, movements."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade_eval import budgets
from cascade_eval.report import numbers, sentences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cascade_eval.report.panels import CohortKey, Points, Record
    from cascade_eval.report.sentences import State

ROWS = 12
"""Weeks of a table, and movements of a suite, that are shown."""

PANELS = 12
"""Cohorts that are drawn in a report, shared out among its cascades; each cascade draws three at least."""

LARGE = 3
"""Panels that are drawn large: all cases, and what needs attention."""

_STATES: dict[str, State] = {"alarm": "fail", "not measured": "missing", "open": "inconclusive", "within": "pass"}
_BESIDE = (("escalation", "rate"), ("cost_per_request", "dollars"), ("share", "rate"))
_NAMES = {"cost_per_request": "cost per request", "share": "share of decisions"}


@dataclass(frozen=True)
class Line:
    """One number over the weeks, beside disagreement: place in weeks and value, and the last one in words."""

    name: str
    unit: str
    points: Points
    top: float
    last: str


@dataclass(frozen=True)
class Panel:
    """One cohort over the weeks.

    Parameters
    ----------
    title, state, word
        Which cohort, and what its sequence came to.
    ticks
        Place and name of each week.
    rates
        Place, rate and its bounds of each week in which disagreement was measured.
    unmeasured
        Places of weeks in which it was not.
    alarms
        First and last place of each time an alarm stood.
    budget, top
        What was promised, None where nothing was; where the picture ends.
    beside
        Escalation, cost and share.
    table
        The last weeks, in words.
    large
        Whether it is drawn large.
    """

    title: str
    state: State
    word: str
    ticks: tuple[tuple[int, str], ...]
    rates: tuple[tuple[int, float, float, float], ...]
    unmeasured: tuple[int, ...]
    alarms: tuple[tuple[int, int], ...]
    budget: float | None
    top: float
    beside: tuple[Line, ...]
    table: tuple[tuple[str, ...], ...]
    large: bool

    @property
    def label(self) -> str:
        """The picture in a sentence."""
        if not self.rates:
            return f"Disagreement by week, {self.title}: {self.word}; not measured in any week"
        rates = [rate for _, rate, _, _ in self.rates]
        ends = f"from {numbers.show(rates[0], 'rate')} to {numbers.show(rates[-1], 'rate')}"
        return f"Disagreement by week, {self.title}: {self.word}; {ends} over {len(self.ticks)} weeks"


@dataclass(frozen=True)
class CascadeWeeks:
    """The weeks of one cascade."""

    name: str
    panels: tuple[Panel, ...]
    undrawn: str


@dataclass(frozen=True)
class Movement:
    """One thing the weeks say."""

    state: State
    word: str
    cascade: str
    test: str
    first: str
    message: str


@dataclass(frozen=True)
class Weekly:
    """Everything the weeks of a suite show."""

    cascades: tuple[CascadeWeeks, ...]
    movements: tuple[Movement, ...]
    left: str
    notes: tuple[str, ...]


def build(suite: Record, room: int) -> Weekly | None:
    """Choose what is shown of a suite's weeks; None where it has none.

    Parameters
    ----------
    suite
        Its part of the evidence.
    room
        Cohorts each cascade may draw.
    """
    weeks = suite.get("weeks")
    if not weeks or not weeks["rows"]:
        return None
    by_cascade: dict[str, list[Record]] = {}
    for row in weeks["rows"]:
        by_cascade.setdefault(row["cascade"], []).append(row)
    watched = {(one["cascade"], _key(one)): one for one in suite.get("sequences", ())}
    found = suite.get("movements", ())
    left = len(found) - ROWS
    return Weekly(
        tuple(_cascade(name, rows, watched, room) for name, rows in by_cascade.items()),
        tuple(movement(one) for one in found[:ROWS]),
        f"{numbers.count(left)} more are in the evidence." if left > 0 else "",
        tuple(sentences.clean(note) for note in (*weeks["notes"], *weeks["cut"])),
    )


def alarms(suite: Record) -> tuple[Movement, ...]:
    """Return alarms that stand in the last week and that no failing verdict of the suite tells of."""
    told = {
        (cascade["name"], tuple(verdict["cohort"].items()))
        for cascade in suite["cascades"]
        for verdict in cascade["verdicts"]
        if verdict["metric"] == "disagreement" and verdict["outcome"] == "fail"
    }
    return tuple(
        movement(one)
        for one in suite.get("movements") or ()
        if one["alarm"]
        and one["standing"]
        and (one["test"] != "disagreement" or (one["cascade"], _key(one)) not in told)
    )


def movement(one: Mapping[str, Any]) -> Movement:
    """Put one thing the weeks say into words."""
    word = ("alarm" if one["standing"] else "past alarm") if one["alarm"] else "note"
    state: State = "fail" if word == "alarm" else "none"
    texts = (one["cascade"], one["test"], one["first"], one["message"])
    return Movement(state, word, *(sentences.clean(text) for text in texts))


def _key(one: Record) -> CohortKey:
    return tuple(one["cohort"].items())


def _cascade(
    name: str, rows: Sequence[Record], watched: Mapping[tuple[str, CohortKey], Record], room: int
) -> CascadeWeeks:
    by_cohort: dict[CohortKey, list[Record]] = {}
    for row in rows:
        by_cohort.setdefault(_key(row), []).append(row)
    state = {key: watched[name, key] for key in by_cohort if (name, key) in watched}
    order = sorted(
        by_cohort,
        key=lambda key: (bool(key), _urgency(state.get(key)), -int(by_cohort[key][-1]["decisions"]), key),
    )
    windows = sorted({row["window"] for row in rows})
    drawn = tuple(
        _panel(
            key,
            by_cohort[key],
            state.get(key),
            windows,
            large=place < LARGE and (not key or _urgency(state.get(key)) == 0),
        )
        for place, key in enumerate(order[:room])
    )
    undrawn = ", ".join(sentences.where(dict(key)) for key in order[room:])
    return CascadeWeeks(sentences.clean(name), drawn, undrawn)


def _urgency(sequence: Record | None) -> int:
    return 9 if sequence is None else list(_STATES).index(sequence["state"])


def _panel(key: CohortKey, rows: list[Record], sequence: Record | None, windows: list[str], *, large: bool) -> Panel:
    first = _number(windows[0])
    place = {window: _number(window) - first for window in windows}
    known = [row for row in rows if row["disagreement"] is not None]
    rates = tuple(
        (
            place[row["window"]],
            row["disagreement"],
            _or(row["disagreement_low"], 0.0),
            _or(row["disagreement_high"], 1.0),
        )
        for row in known
    )
    budget = None if sequence is None else sequence["budget"]
    highest = max(
        [rate for _, rate, _, _ in rates] + [min(high, 2 * rate + 0.05) for _, rate, _, high in rates], default=0
    )
    alarmed = [place[window] for window in (sequence or {}).get("alarms", ()) if window in place]
    return Panel(
        title=sentences.where(dict(key)),
        state="none" if sequence is None else _STATES[sequence["state"]],
        word="nothing promised" if sequence is None else _word(sequence),
        ticks=tuple((place[window], window) for window in windows),
        rates=rates,
        unmeasured=tuple(place[row["window"]] for row in rows if row["disagreement"] is None),
        alarms=tuple(_runs(alarmed, sorted(place.values()))),
        budget=budget,
        top=min(1.0, max(0.02, 1.1 * highest, 1.35 * (budget or 0))),
        beside=tuple(_line(name, unit, rows, place) for name, unit in _BESIDE if name != "share" or key),
        table=tuple(_row(row, alarmed, place) for row in rows[-ROWS:]),
        large=large,
    )


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _number(window: str) -> int:
    """Count weeks through the turn of years."""
    year, week = window.split("-W")
    return dt.date.fromisocalendar(int(year), int(week), 1).toordinal() // 7


def _word(sequence: Record) -> str:
    most = budgets.show(sequence["budget"], "rate")
    return sentences.clean(
        {
            "alarm": f"alarm since {sequence['since']}, over {most}",
            "within": f"within {most}",
            "open": f"{most} neither shown nor refuted",
            "not measured": f"not measured: {sequence['reason']}",
        }[sequence["state"]]
    )


def _runs(alarmed: list[int], places: list[int]) -> Iterator[tuple[int, int]]:
    """First and last place of weeks of alarm that follow each other; a week without rows does not part them."""
    order = {place: i for i, place in enumerate(places)}
    start = before = None
    for place in sorted(alarmed):
        if before is None or order[place] != order[before] + 1:
            if start is not None and before is not None:
                yield start, before
            start = place
        before = place
    if start is not None and before is not None:
        yield start, before


def _line(name: str, unit: str, rows: Sequence[Record], place: Mapping[str, int]) -> Line:
    points = tuple((float(place[row["window"]]), float(row[name])) for row in rows if row[name] is not None)
    top = max((value for _, value in points), default=0.0) * 1.15 or 1.0
    last = numbers.show(points[-1][1], unit) if points else numbers.UNKNOWN
    return Line(_NAMES.get(name, name), unit, points, top, last)


def _row(row: Record, alarmed: Sequence[int], place: Mapping[str, int]) -> tuple[str, ...]:
    bounds = numbers.bounds(row["disagreement_low"], row["disagreement_high"], "rate")
    rate = numbers.show(row["disagreement"], "rate") if row["disagreement"] is not None else "–"
    note = "alarm" if place[row["window"]] in alarmed else "" if row["complete"] else "part of a week"
    texts = (
        row["window"],
        rate,
        bounds or sentences.clean(row["reason"] or "not measured"),
        numbers.count(row["compared"]),
        numbers.show(row["escalation"], "rate"),
        numbers.show(row["cost_per_request"], "dollars"),
        numbers.show(row["share"], "rate"),
        note,
    )
    return tuple(sentences.clean(text) for text in texts)
