"""Rules about what is not the gate: judges, money, users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade_eval import bounds
from cascade_eval.diagnosis import reading as reading_
from cascade_eval.diagnosis import sentences
from cascade_eval.diagnosis.nouns import Cause
from cascade_eval.diagnosis.sentences import certified, pct, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.diagnosis.facts import Feedback
    from cascade_eval.diagnosis.reading import Reading

MATERIAL: Final = 0.5
"""Share of today's cost that a certified threshold has to save before the one in use is called chosen by feel."""

PAYS: Final = 0.1
"""Share of always-flagship's cost that a certified gate has to save before a cascade is said to pay."""

NEARLY_ALL: Final = 0.9
"""Escalation from which a cascade is called always-flagship in effect."""

STRUCTURAL: Final = 0.05
"""Rise of what is paid beside the flagship, of always-flagship's cost, from which it is called creep."""


def judge_moved(reading: Reading) -> Iterator[Cause]:
    """Say that a judge grades its frozen answers differently."""
    facts = reading.facts
    moved = [one for one in facts.fixed if one.test == "fixed set: judge"]
    if not moved:
        return
    what = {
        "agreement": "Disagreement is what this judge says, so findings that rest on it are suspended",
        "gate": "It gates the cascade, so what is kept changed with it",
        None: "Nothing else here rests on it",
    }[facts.rests_on_judge]
    evidence = [one.message for one in moved[:4]]
    evidence += [sentences.disagreement(facts, sign) for sign in reading.signs if sign.over][:2]
    yield Cause(
        "verifier regression",
        facts.cascade,
        tuple(one.cohort for one in moved),
        True,
        "judge set",
        f"The judge moved on answers that did not change. {what}.",
        tuple(evidence),
        ("grades of the fixed set that were corrected", "frozen answers that were replaced in the same week"),
    )


def judge_unknown(reading: Reading) -> bool:
    """Whether agreement is what a judge says, and nothing says that the judge grades as it did."""
    return reading.facts.rests_on_judge == "agreement" and "judge" not in reading.facts.asked_again


def judge_suspected(reading: Reading) -> Iterator[Cause]:
    """Suspect a judge that nothing watches, where agreement moved in every cohort at once."""
    verb = "fell" if reading_.spread(reading) else "rose" if reading_.relieved(reading) else None
    if verb is not None and judge_unknown(reading):
        yield Cause(
            "verifier regression",
            reading.facts.cascade,
            ((),),
            False,
            "judge set",
            f"The judge may have moved: agreement {verb} in every cohort at once, and it is what the judge says.",
            ("no frozen answers were graded in two weeks, so a judge that moved cannot be told from worse answers",),
            ("frozen answers graded as before: cascade-eval diagnose --judge-set MODEL=PATH",),
        )


def creeping(reading: Reading) -> Iterator[Cause]:
    """Say that a cascade costs what it was to save."""
    facts, money = reading.facts, reading.facts.money
    if money is None:
        return
    evidence = [
        f"cost is {pct(money.ratio)} of always-flagship's {sentences.period(facts.now)} ({pct(money.low)} to {pct(money.high)})",
        f"escalation is {pct(reading.overall.facts.now.escalation)}; break-even is {pct(_break_even(reading))}",
    ]
    if money.before is not None:
        evidence.append(f"it was {pct(money.before[0])} {sentences.period(facts.before)}")
    if money.overhead_before is not None:
        evidence.append(
            f"what is paid beside the flagship went from {pct(money.overhead_before)} to {pct(money.overhead)} of "
            "always-flagship's cost"
        )
    reason = _creep(reading)
    if reason is not None:
        yield Cause(
            "cost creep",
            facts.cascade,
            ((),),
            reason[0],
            "cost",
            reason[1],
            tuple(evidence),
            ("prices or recorded costs that are wrong", "a budget of cost that counts something else than calls"),
        )


def _break_even(reading: Reading) -> float:
    money = reading.facts.money
    assert money is not None
    return max(0.0, 1 - money.overhead)


def _creep(reading: Reading) -> tuple[bool, str] | None:
    money = reading.facts.money
    assert money is not None
    if money.low >= 1:
        return True, "The cascade costs more than its flagship alone: escalation is above break-even."
    if money.budget is not None and money.low > money.budget:
        return True, f"The cascade costs more than the {pct(money.budget)} of always-flagship that was promised."
    # A price changes from one day to the next, and the weeks before it do not make it smaller.
    if money.last is not None and money.last[1] > money.ratio:
        most = min(1.0, money.budget or 1.0)
        if money.last[1] > most:
            than = "its flagship alone" if most == 1.0 else f"the {pct(most)} of always-flagship that was promised"
            return (
                True,
                f"In {reading.facts.now[-1]} the cascade costs {pct(money.last[0])} of always-flagship, more than {than}.",
            )
    if money.before is not None and money.overhead_before is not None:
        apart, extra = money.low > money.before[2], money.overhead - money.overhead_before
        if apart and extra >= max(STRUCTURAL, (money.ratio - money.before[0]) / 2):
            return True, "The cascade gets dearer by what it pays beside the flagship, whatever it escalates."
    if money.ratio >= 1:
        return False, "The cascade may cost more than its flagship alone."
    return None


def overspent(reading: Reading) -> Iterator[Cause]:
    """Say that a cascade would pay, or that a certified gate would keep far more."""
    facts, found = reading.facts, reading.facts.frontier
    alone = len(facts.tiers) == 1
    escalates = reading.overall.facts.now.escalation
    if not alone and not escalates >= NEARLY_ALL:
        yield from _cautious(reading)
        return
    evidence = [f"every case is answered by {facts.tiers[-1]}" if alone else f"escalation is {pct(escalates)}"]
    if facts.paying is not None:
        evidence.append(
            f"the cascade '{facts.paying[0]}' of this suite keeps its promise overall at {pct(facts.paying[1])} of the cost"
        )
    evidence += list(certified(facts))
    pays = facts.paying is not None or (
        found is not None and found.threshold is not None and found.high is not None and found.high < 1 - PAYS
    )
    if not pays and not alone:
        return
    yield Cause(
        "single-model overspend",
        facts.cascade,
        ((),),
        pays,
        "cost",
        "A cascade would pay: a cheaper model can settle part of this traffic within budget."
        if pays
        else "Whether a cascade would pay is not known: no cheaper model with a gate is certified on these cases.",
        tuple(evidence),
        (
            "a cohort in which the cheaper model is over budget",
            "a price of the cheaper model or its gate that is missing here",
        ),
    )


def _cautious(reading: Reading) -> Iterator[Cause]:
    """Say that a threshold nobody chose by data escalates far more than a certified one would."""
    facts, found = reading.facts, reading.facts.frontier
    if facts.chosen is not None or found is None or found.threshold is None or any(sign.over for sign in reading.signs):
        return
    if found.high is None or found.current_ratio is None or found.high > (1 - MATERIAL) * found.current_ratio:
        return
    if not found.kept or _unsteady(reading):
        return
    yield Cause(
        "threshold by feel",
        facts.cascade,
        ((),),
        True,
        "gate",
        "The threshold was never chosen by data, and a certified one keeps far more within the same budget.",
        ("no calibration, and no data named by 'chosen_on', stands behind the threshold", *certified(facts)),
        (
            "a cohort over its budget at the certified threshold",
            "a budget for disagreement smaller than the one written",
        ),
    )


def _unsteady(reading: Reading) -> bool:
    """Whether something moved inside cohorts or new ones arrived: a threshold certified on such weeks may not hold in the next."""
    if any(one.alarm for one in reading.facts.escalations):
        return True
    # A cohort that is seen over its budget and not decided may turn out to be.
    if any(sign.undecided and sign.facts.now.disagreement > sign.facts.budget for sign in reading.signs):
        return True
    return any(
        sign.rose or sign.less or sign.more or sign.new or sign.disagreement.down <= reading.facts.alpha / 5
        for sign in reading.signs
    )


def rising(reading: Reading) -> Iterator[Cause]:
    """Say that cohorts escalate more although what is kept is within budget."""
    facts = reading.facts
    cured = reading_.mended(reading)
    more = reading_.sharpest([sign for sign in reading.signs if sign.more and not sign.over and sign not in cured])
    if not more:
        return
    # Where everything escalates nothing is kept that could be over budget.
    measured = all(sign.within or sign.empty or (sign.compared > 0 and not sign.rose) for sign in more)
    evidence = [sentences.moved(sign.label, "escalation", sign.escalation) for sign in more[:4]]
    evidence += [sentences.disagreement(facts, sign) for sign in more[:4] if sign.compared]
    if facts.money is not None and facts.money.before is not None:
        evidence.append(f"cost went from {pct(facts.money.before[0])} to {pct(facts.money.ratio)} of always-flagship's")
    yield Cause(
        "rising escalation",
        facts.cascade,
        tuple(sign.cohort for sign in more),
        measured,
        "escalation",
        f"{sentences.names(more)} {sentences.verb(more, 'escalates more than it did', 'escalate more than they did')}, "
        "and not because of the mix.",
        tuple(evidence),
        (
            "harder requests in these cohorts: then the gate does its work",
            "a threshold that was changed in the same week",
            "calls of the cheaper model that time out or fail: they escalate whatever the gate says",
        ),
    )


def auditing(reading: Reading) -> Iterator[Cause]:
    """Say that an audit costs more than the cascade saves."""
    facts, audit = reading.facts, reading.facts.audit
    # A cascade that saves nothing at all has another fault than its audit.
    if audit is None or audit.cost <= audit.saved_high or (facts.money is not None and facts.money.low >= 1):
        return
    yield Cause(
        "audit costs more than it guards",
        facts.cascade,
        ((),),
        True,
        "cost",
        f"The audit cost ${audit.cost:,.2f} {sentences.period(facts.now)}, and the cascade saved ${max(audit.saved, 0):,.2f}.",
        (
            f"{audit.drawn:,} unescalated cases were shown to the flagship for the audit's sake",
            f"the cascade saved at most ${max(audit.saved_high, 0):,.2f} before the audit was paid",
        ),
        (
            "traffic that is a sample: give its cases the weights they stand for",
            "an audit that is paid once, not every week",
        ),
    )


def _served(reading: Reading, said: Feedback) -> float:
    """Return the largest share of cases in which the cascade may be why what users or labels say got worse.

    A gate serves at most as many bad answers as the flagship would change, and none of the flagship's own.
    """
    if said.name == "flagship quality":
        return 0.0
    now = reading.overall.facts.now
    _, high = bounds.rate([now.total("most")], [now.total("most_size")], confidence=reading.facts.confidence)
    return float(high[0]) * (1 - now.escalation)


def past(reading: Reading) -> Iterator[Cause]:
    """Say that users or labels got worse although the cascade serves what its flagship would."""
    facts = reading.facts
    worse = [one for one in facts.feedback if one.low > 0]
    rose = [sign for sign in reading.signs if sign.rose]
    if not worse or not reading.measured or any(sign.over for sign in reading.signs) or not all(s.within for s in rose):
        return
    # A rise within budget serves worse answers as well: how many is known.
    calm = reading.overall.within and not reading.undecided and not rose
    shown = calm or any(one.low > _served(reading, one) for one in worse)
    words = {
        "regenerated": "answers after which the user asked again",
        "feedback": "answers with bad feedback",
        "completed": "tasks that were not completed",
        "flagship quality": "answers of the flagship itself that are wrong",
        "served quality": "answers that were served and are wrong by their labels",
    }
    evidence = [
        f"{words[one.name]} went from {pct(one.before)} to {pct(one.now)} (n={one.nobs_before:,} and {one.nobs:,}); inside cohorts "
        f"by {points(one.within)} (at least {points(one.low)})"
        for one in worse
    ]
    evidence.append(sentences.disagreement(facts, reading.overall))
    yield Cause(
        "moved past the cascade",
        facts.cascade,
        ((),),
        shown,
        "users",
        "What users get is worse, and the cascade serves what its flagship would: the failure lies elsewhere.",
        tuple(evidence),
        ("disagreement over budget in a cohort that is not told apart here", "a change of how feedback is asked for"),
    )
