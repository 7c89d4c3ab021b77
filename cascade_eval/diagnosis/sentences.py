"""Evidence in words, with its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_eval import bounds, budgets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cascade_eval.diagnosis.comparing import Moved
    from cascade_eval.diagnosis.facts import Facts
    from cascade_eval.diagnosis.reading import Reading, Sign


def pct(value: float) -> str:
    """Write a rate."""
    return budgets.show(value, "rate")


def points(value: float) -> str:
    """Write a change."""
    return budgets.show(value, "points")


def names(signs: Sequence[Sign]) -> str:
    """List cohorts, the first few by name."""
    shown = [sign.label for sign in signs[:4]]
    return ", ".join(shown) + (f" and {len(signs) - 4} more" if len(signs) > 4 else "")


def verb(signs: Sequence[Sign], one: str, many: str) -> str:
    """Return the word that goes with the names of these cohorts."""
    return one if len(signs) == 1 else many


def shifted(signs: Sequence[Sign], what: str) -> str:
    """How a rate moved in some cohorts, the first few with figures; all of them moved the same way."""
    if len(signs) == 1:
        return moved(signs[0].label, what, getattr(signs[0], what))
    found = [(sign.label, getattr(sign, what)) for sign in signs[:3]]
    way = "fell" if found[0][1].now < found[0][1].before else "rose"
    told = ", ".join(f"{label} (from {' to '.join(apart(one.before, one.now))})" for label, one in found)
    return f"{what} {way} in {told}" + (f" and {len(signs) - 3} more" if len(signs) > 3 else "")


def period(windows: Sequence[str]) -> str:
    """Name some weeks."""
    if not windows:
        return "before"
    if windows == ("all",):
        return "in these cases"
    return f"in {windows[0]}" if len(windows) == 1 else f"from {windows[0]} to {windows[-1]}"


def disagreement(facts: Facts, sign: Sign) -> str:
    """How often the flagship disagrees with what is kept now, or in the weeks that decide, against the budget."""
    period_, weeks = (
        (sign.facts.calm, facts.windows[-len(sign.facts.calm.compared) :]) if sign.calm else (sign.facts.now, facts.now)
    )
    count, nobs = period_.total("disagreed"), period_.total("compared")
    low, high = bounds.rate([count], [nobs], confidence=facts.confidence)
    return (
        f"{sign.label}: the flagship disagrees with {pct(count / nobs)} of the unescalated answers {period(weeks)} "
        f"({pct(float(low[0]))} to {pct(float(high[0]))}, n={nobs:,.0f}), budget at most {pct(sign.facts.budget)}"
    )


def moved(label: str, what: str, found: Moved) -> str:
    """How a rate moved."""
    if not found.known:
        return f"{label}: {what} cannot be compared with earlier weeks"
    if found.now == found.before:
        return f"{label}: {what} stayed at {pct(found.now)}"
    verb = "rose" if found.now > found.before else "fell"
    before, now = apart(found.before, found.now)
    return f"{label}: {what} {verb} from {before} to {now} (n={found.size_before:,.0f} and {found.size:,.0f})"


def apart(before: float, now: float) -> tuple[str, str]:
    """Write two rates with as many digits as tell them apart.

    Examples
    --------
    >>> apart(0.2413, 0.2409), apart(0.241, 0.1)
    (('24.13%', '24.09%'), ('24.1%', '10%'))
    """
    said = pct(before), pct(now)
    for digits in range(2, 9):
        if said[0] != said[1] or before == now:
            break
        said = f"{before:.{digits}%}", f"{now:.{digits}%}"
    return said


def share(sign: Sign) -> str:
    """How the share of a cohort moved."""
    before, now = apart(sign.share.before, sign.share.now)
    return f"{sign.label} went from {before} to {now} of the decisions"


def spared(facts: Facts, signs: Iterable[Sign]) -> Iterator[str]:
    """Cohorts that are shown to be fine."""
    fine = [sign for sign in signs if sign.within and sign.cohort]
    for sign in fine[:2]:
        yield f"spared: {disagreement(facts, sign)}"


def held_out(facts: Facts) -> Iterator[str]:
    """Say what a fixed set shows at the same time."""
    if facts.held_out is None:
        return
    first, last, nobs = facts.held_out
    fell = any(one.test == "fixed set: held-out" for one in facts.fixed)
    how = "moved" if fell else "is flat while production moves"
    yield f"agreement on the held-out set {how}: {pct(first)} at first, {pct(last)} last (n={nobs:,})"


def missing(reading: Reading, signs: Sequence[Sign]) -> Iterator[str]:
    """How many more comparisons would decide each cohort."""
    for sign in signs[:6]:
        needed = more(reading, sign)
        if needed is None:
            yield f"{sign.label}: its rate is so near its budget of {pct(sign.facts.budget)} that no practical number decides"
            continue
        there, assumed = sign.compared, assumed_rate(sign)
        yield (
            f"{sign.label}: {there:,.0f} unescalated cases compared; about {needed:,} more would decide "
            f"'at most {pct(sign.facts.budget)}' if its rate is {pct(assumed)}"
        )


def assumed_rate(sign: Sign) -> float:
    """Return the observed rate where there is one, half the budget where nothing was seen."""
    count, nobs = sign.facts.now.total("disagreed"), sign.compared
    return count / nobs if nobs >= 20 and count else sign.facts.budget / 2


def more(reading: Reading, sign: Sign) -> int | None:
    """How many more comparisons would decide a cohort; None where no practical number would."""
    family = len(reading.of(sign.facts.family))
    rate = min(max(assumed_rate(sign), 0.0), 1.0)
    needed = bounds.cases_to_decide(rate, sign.facts.budget, alpha=reading.facts.alpha, family=family)
    return None if needed is None else max(1, needed - int(sign.compared))


def certified(facts: Facts) -> Iterator[str]:
    """Say which threshold could be certified."""
    found = facts.frontier
    if found is None:
        return
    if found.threshold is None:
        yield f"on these cases no threshold is certified at {pct(found.target)}: {found.reason}"
        return
    cost = "" if found.ratio is None else f", at {pct(found.ratio)} of always-flagship's cost"
    now = "" if found.current_ratio is None else f" (today {pct(found.current_ratio)})"
    yield (
        f"on these cases {found.threshold:g} is certified at {pct(found.target)}, escalating {pct(found.escalation or 0.0)}"
        f"{cost}{now}"
    )
