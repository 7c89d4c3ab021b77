"""Verdicts in words: one sentence each, and one for a whole cascade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cascade_eval.report import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

State = Literal["fail", "missing", "inconclusive", "pass", "none"]
"""What a verdict, or all verdicts of a cascade, came to; `missing` is inconclusive because not measured."""

ORDER: tuple[State, ...] = ("fail", "missing", "inconclusive", "pass", "none")
"""Most urgent first."""

WORDS: dict[State, str] = {
    "fail": "fail",
    "missing": "not measured",
    "inconclusive": "inconclusive",
    "pass": "pass",
    "none": "not judged",
}
_VERBS: dict[State, str] = {
    "fail": "fails",
    "missing": "was not measured",
    "inconclusive": "is inconclusive",
    "pass": "passes",
    "none": "was not judged",
}
# Hidden characters are drawn, so that nobody's answer can rearrange its own words or vanish from the page.
_VISIBLE: dict[int, int | str | None] = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= {code: f"[U+{code:04X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_VISIBLE |= {0x7F: 0x2421, 0x0D: None}


@dataclass(frozen=True)
class Judged:
    """A verdict as it is shown; every text is plain and not yet escaped."""

    state: State
    word: str
    metric: str
    where: str
    cohort: tuple[tuple[str, str], ...]
    value: str
    bounds: str
    nobs: str
    bound: str
    sentence: str
    why: str
    reason: str
    outlook: str
    advice: str
    source: str


@dataclass(frozen=True)
class Headline:
    """The verdict on a cascade: `<suite> / <cascade> <verb>: <text>.`, then what else there is to know."""

    state: State
    suite: str
    cascade: str
    verb: str
    text: str
    tally: str
    strip: tuple[State, ...]


def clean(text: object) -> str:
    """Return text with its control characters made visible, those that turn the direction of writing too.

    Examples
    --------
    >>> clean("a" + chr(0) + "b")
    'a␀b'
    """
    return str(text).translate(_VISIBLE)


def where(cohort: Mapping[str, str]) -> str:
    """Name a cohort.

    Examples
    --------
    >>> where({}), where({"language": "fr", "intent": "refund"})
    ('overall', 'language=fr, intent=refund')
    """
    return ", ".join(f"{clean(column)}={clean(member)}" for column, member in cohort.items()) or "overall"


def state(verdict: Mapping[str, Any]) -> State:
    """Return what a verdict came to; anything but a measured pass or fail is not one."""
    if verdict["not_measured"]:
        return "missing"
    return {"pass": "pass", "fail": "fail"}.get(verdict["outcome"], "inconclusive")  # type: ignore[return-value]


def judged(verdict: Mapping[str, Any]) -> Judged:
    """Put a verdict into words."""
    estimate, came_to = verdict["estimate"], state(verdict)
    budget = (verdict["low"], verdict["high"])
    value = numbers.show(estimate["value"], estimate["unit"], beside=budget)
    bounds = numbers.bounds(estimate["low"], estimate["high"], estimate["unit"], beside=budget)
    nobs = "" if estimate["nobs"] is None else f"n {numbers.count(estimate['nobs'])}"
    named = where(verdict["cohort"])
    metric = clean(verdict["metric"])
    subject = f"{metric} overall" if named == "overall" else f"{metric} on {named}"
    evidence = ", ".join(part for part in (bounds, nobs) if part)
    measured = f"{subject} is {value}{f' ({evidence})' if evidence else ''}, promised {clean(verdict['bound'])}"
    why = clean(estimate["reason"] or verdict["reason"])
    return Judged(
        state=came_to,
        word=WORDS[came_to] + (" (excused)" if verdict["warned"] else ""),
        metric=metric,
        where=named,
        cohort=tuple(verdict["cohort"].items()),
        value=value,
        bounds=bounds,
        nobs=nobs,
        bound=clean(verdict["bound"]),
        sentence=f"{subject}, promised {clean(verdict['bound'])}: {why}" if came_to == "missing" else measured,
        why=why,
        reason=clean(verdict["reason"]),
        outlook=_outlook(verdict, came_to),
        advice=clean(verdict["advice"] or ""),
        source=_source(verdict),
    )


def headline(suite: str, cascade: str, verdicts: Sequence[Mapping[str, Any]]) -> Headline:
    """Say in one sentence what the verdicts on a cascade come to, naming the one that decides."""
    states = [state(verdict) for verdict in verdicts]
    worst: State = min(states, key=ORDER.index, default="none")
    return Headline(
        state=worst,
        suite=clean(suite),
        cascade=clean(cascade),
        verb=_VERBS[worst],
        text=_headline_text(worst, verdicts, states),
        tally=tally(states),
        strip=tuple(sorted(states, key=ORDER.index)),
    )


def tally(states: Sequence[State]) -> str:
    """Count verdicts by what they came to, most urgent first.

    Examples
    --------
    >>> tally(["pass", "fail", "pass"])
    '1 of 3 budgets fails, 2 pass'
    >>> tally(["inconclusive"]), tally([])
    ('1 budget is inconclusive', 'no budget was judged')
    """
    if not states:
        return "no budget was judged"
    verbs = {"fail": ("fails", "fail"), "missing": ("was not measured", "were not measured")}
    verbs |= {"inconclusive": ("is inconclusive", "are inconclusive"), "pass": ("passes", "pass")}
    counted = [(states.count(kind), verbs[kind]) for kind in ORDER if states.count(kind)]
    noun = (
        f"of {numbers.count(len(states))} budgets "
        if len(counted) > 1
        else "budgets "
        if len(states) > 1
        else "budget "
    )
    words = [f"{numbers.count(n)} {noun if i == 0 else ''}{verb[n > 1]}" for i, (n, verb) in enumerate(counted)]
    return ", ".join(words)


def _headline_text(worst: State, verdicts: Sequence[Mapping[str, Any]], states: Sequence[State]) -> str:
    if worst == "none":
        return "it has no budgets"
    candidates = [verdict for verdict, came_to in zip(verdicts, states, strict=True) if came_to == worst]
    if worst == "pass":
        nearest = judged(min(candidates, key=_room))
        every = "its budget holds" if len(verdicts) == 1 else f"all {numbers.count(len(verdicts))} budgets hold"
        return f"{every}; nearest to its budget, {nearest.sentence}"
    chosen = max(candidates, key=_excess) if worst == "fail" else candidates[0]
    words = judged(chosen)
    return f"{words.sentence}; {words.outlook}" if worst == "inconclusive" and words.outlook else words.sentence


def _excess(verdict: Mapping[str, Any]) -> float:
    """Return how far a value lies outside its budget, relative to the budget."""
    value, low, high = verdict["estimate"]["value"], verdict["low"], verdict["high"]
    if value is None:
        return 0.0
    above = 0.0 if high is None else (value - high) / (abs(high) or 1.0)
    below = 0.0 if low is None else (low - value) / (abs(low) or 1.0)
    return float(max(above, below))


def _room(verdict: Mapping[str, Any]) -> float:
    """Return how much room is left between the bounds and the budget, relative to the budget."""
    estimate, low, high = verdict["estimate"], verdict["low"], verdict["high"]
    rooms = []
    if high is not None and estimate["high"] is not None:
        rooms.append((high - estimate["high"]) / (abs(high) or 1.0))
    if low is not None and estimate["low"] is not None:
        rooms.append((estimate["low"] - low) / (abs(low) or 1.0))
    return float(min(rooms, default=float("inf")))


def _outlook(verdict: Mapping[str, Any], came_to: State) -> str:
    """Say what more evidence would change, or what this much would have caught."""
    more, excess = verdict["cases_to_decide"], verdict["smallest_excess"]
    if came_to == "inconclusive" and more is not None:
        return f"about {numbers.count(more)} more cases would decide"
    if came_to == "pass" and excess is not None:
        return f"would have caught {numbers.show(excess, verdict['estimate']['unit'], beside=(verdict['high'],))}"
    return ""


def _source(verdict: Mapping[str, Any]) -> str:
    if verdict["test"]:
        return clean(verdict["test"])
    if verdict["file"] is None:
        return ""
    return clean(verdict["file"] if verdict["line"] is None else f"{verdict['file']}:{verdict['line']}")
