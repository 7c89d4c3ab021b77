"""The decision tree: facts in, a diagnosis out.

Four tests of the gate, cheap to dear, each asked only while none before it was conclusive: escalation by cohort; the
gate at a fixed threshold, mix taken out; the audit of unescalated cases; the weekly sequences. A fixed judge set goes
first, because comparisons may rest on it. Money and users are other questions, and are always asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade_eval.diagnosis import causes, others, roots, sentences
from cascade_eval.diagnosis import reading as reading_
from cascade_eval.diagnosis.nouns import Cause, Diagnosis, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cascade_eval.diagnosis.facts import Facts
    from cascade_eval.diagnosis.nouns import Outcome
    from cascade_eval.diagnosis.reading import Reading

    Answer = tuple[Outcome, str]

QUIET: Final = frozenset({"healthy", "mix shift"})
"""Causes that need no action."""

UNSEEN: Final = 0.1
"""A movement of escalation so large that could be missed is worth saying."""


def diagnose(facts: Facts, *, stop: bool = True) -> Diagnosis:
    """Name the causes of one cascade, main cause first.

    Parameters
    ----------
    facts
        From `measuring.measure`.
    stop
        Whether tests of the gate are left out once one was conclusive; causes do not depend on it.
    """
    reading = reading_.read(facts)
    steps = tuple(_steps(reading, stop=stop))
    found = causes.find(reading)
    conclusive = [cause for cause in found if cause.conclusive]
    suspects = [cause for cause in found if not cause.conclusive]
    doubted = any(cause.name == "verifier regression" for cause in suspects)
    last = [] if _decided(reading, conclusive) and not doubted else [undecided(reading, suspects)]
    if not found and not last:
        return Diagnosis(facts.cascade, (healthy(reading),), steps, _notes(reading))
    main = sorted([*conclusive, *last], key=causes.rank)
    return Diagnosis(facts.cascade, (*main, *suspects), steps, _notes(reading))


def _decided(reading: Reading, conclusive: Sequence[Cause]) -> bool:
    """Whether every budget is decided, and every cohort over budget has a name."""
    if len(reading.facts.tiers) == 1:
        return any(cause.name == "single-model overspend" for cause in conclusive)
    named = {cohort for cause in conclusive for cohort in cause.cohorts}
    over = [sign for sign in roots.find(reading) if sign.cohort not in named and not roots.by_mix(reading)]
    suspended = any(cause.name == "verifier regression" for cause in conclusive)
    return not reading.undecided and (not over or suspended or _everywhere(conclusive))


def _everywhere(conclusive: Sequence[Cause]) -> bool:
    return any(cause.name == "student drift" for cause in conclusive)


def healthy(reading: Reading) -> Cause:
    """Say what was shown to hold."""
    facts = reading.facts
    shown = [sign for sign in reading.signs if sign.within]
    rest = [sign for sign in reading.signs if sign.undecided]
    evidence = [sentences.disagreement(facts, sign) for sign in shown[:6] if sign.compared]
    if rest:
        evidence.append(f"not decided, and too small to matter for the whole: {sentences.names(rest)}")
    return Cause(
        "healthy",
        facts.cascade,
        ((),),
        True,
        "audit",
        f"Disagreement is shown to be within budget overall and in every cohort, and {_quiet(reading)}.",
        tuple(evidence),
        ("a cohort that is not told apart here", "a fixed judge set that moves", *_unseen(reading)),
    )


def _unseen(reading: Reading) -> Iterator[str]:
    """Say what so few decisions would not show: budgets that hold are one thing, that nothing moved another."""
    found = [sign for sign in reading.signs if sign.escalation.known and not sign.empty]
    missed = {sign.label: sign.escalation.unseen(reading.facts.alpha / len(found)) for sign in found}
    most = max(missed, key=missed.__getitem__, default=None)
    if most is not None and missed[most] > UNSEEN:
        yield (
            f"escalation of {most} that moved by less than about {round(100 * missed[most])} points, which so few "
            "decisions would not show"
        )


def _quiet(reading: Reading) -> str:
    if reading_.mended(reading):
        return "escalation rose where it had to"
    if any(sign.less for sign in reading.signs):
        return "escalation fell without harm to it"
    return "nothing else that was measured moved"


def undecided(reading: Reading, suspects: Sequence[Cause]) -> Cause:
    """Say what is missing."""
    facts = reading.facts
    left = list(reading.undecided)
    if len(facts.tiers) == 1:
        return _no_cascade(facts)
    if not reading.measured:
        reason = next((one.facts.reason for one in reading.signs if one.facts.reason), "nothing was compared")
        message = (
            f"Disagreement of unescalated cases is not measured ({reason}), so nothing can be said about the gate."
        )
    elif any(cause.name == "verifier regression" for cause in suspects):
        message = (
            "Disagreement is what a judge says, and it moved in every cohort at once: whether the judge or the answers "
            "changed is not known."
        )
    elif not left:
        over = roots.find(reading)
        message = (
            f"{sentences.names(over)} {sentences.verb(over, 'is', 'are')} over budget, and why cannot be told: "
            f"{'too few cases of other cohorts, or of earlier weeks, were compared' if facts.before else 'there is no earlier week'}."
        )
    else:
        message = f"Too few unescalated cases were compared to decide {sentences.names(left)}."
    evidence = [*sentences.missing(reading, left)]
    evidence += [f"suspected: {cause.message}" for cause in suspects]
    return Cause(
        "not enough evidence",
        facts.cascade,
        tuple(sign.cohort for sign in left) or ((),),
        False,
        "audit",
        message,
        tuple(evidence),
        ("an audit of these cohorts: cascade-eval audit plan SUITE",),
    )


def _no_cascade(facts: Facts) -> Cause:
    return Cause(
        "not enough evidence",
        facts.cascade,
        ((),),
        False,
        "cost",
        "Always-flagship has no gate to test, and no cheaper model with a certified gate is recorded in these cases.",
        (),
        ("answers and confidences of a cheaper model on the same cases",),
    )


def _notes(reading: Reading) -> tuple[str, ...]:
    facts = reading.facts
    notes = list(facts.notes)
    if len(facts.windows) > 1:
        notes.append(f"Reference {sentences.period(facts.before)}; now {sentences.period(facts.now)}.")
    pooled = [sign for sign in reading.signs if sign.facts.pooled]
    notes += [f"{sign.label} stands for {', '.join(sign.facts.pooled[:6])}." for sign in pooled]
    less = [sign for sign in reading.signs if sign.less and sign.within]
    if less:
        each = "it is within its budget" if len(less) == 1 else "each of them is within its budget"
        notes.append(f"{_capital(sentences.shifted(less, 'escalation'))}, and {each}.")
    cured = [sign for sign in reading_.mended(reading) if sign.cohort] or list(reading_.mended(reading))
    if cured:
        over = sentences.verb(cured, "it was over its budget", "they were over their budgets")
        now = sentences.verb(cured, "is within it now", "are within them now")
        told = _capital(sentences.shifted(cured, "escalation"))
        notes.append(f"{told}; {over} {sentences.period(facts.before)}, and {now}.")
    if facts.money is None and len(facts.tiers) > 1:
        notes.append("What calls cost is not recorded, so money was not looked at.")
    return tuple(notes)


def _capital(text: str) -> str:
    """Begin a sentence, unless with a cohort's name, which is written as budgets write it."""
    return text[0].upper() + text[1:] if text.startswith("escalation") else text


# --- tests ---------------------------------------------------------------------------------------------------------


def judge_set(reading: Reading) -> Answer:
    """Look at the judge's fixed set."""
    moved = list(others.judge_moved(reading))
    if moved:
        return "conclusive", moved[0].evidence[0]
    if "judge" in reading.facts.asked_again:
        return "clear", "the judge grades its frozen answers as it did"
    rests = {"agreement": "; disagreement rests on a judge", "gate": "; a judge gates", None: ""}[
        reading.facts.rests_on_judge
    ]
    return "cannot run", f"no frozen answers were graded in two weeks{rests}"


def escalation(reading: Reading) -> Answer:
    """Look for cohorts that escalate less or more."""
    if not reading.facts.before:
        return "cannot run", "there is one window only, and nothing to compare it with"
    if not reading.overall.escalation.known:
        return "cannot run", "no case with a known path came to a gate in one of the periods"
    moved = [sign for sign in reading.signs if sign.less or sign.more]
    if moved:
        return "suspects", "; ".join(sentences.moved(sign.label, "escalation", sign.escalation) for sign in moved[:3])
    overall = sentences.moved("overall", "escalation", reading.overall.escalation)
    return "clear", f"no cohort's own escalation moved more than weeks do ({overall})"


def gate(reading: Reading) -> Answer:
    """Look for cohorts whose disagreement moved at the same gate."""
    if not reading.facts.before:
        return "cannot run", "there is one window only, and nothing to compare it with"
    if not any(sign.disagreement.known for sign in reading.signs):
        return "cannot run", "unescalated answers were not compared in both periods"
    rose = [sign for sign in reading.members if sign.rose]
    mixed = f"; {sentences.share(reading.mixed[0])}" if reading.mixed else ""
    if rose:
        told = "; ".join(sentences.moved(sign.label, "disagreement", sign.disagreement) for sign in rose[:3])
        return "suspects", told + mixed
    return "clear", f"no cohort's own disagreement rose{mixed}"


def audit(reading: Reading) -> Answer:
    """Hold the audit against the budgets."""
    if not reading.measured:
        reason = next((one.facts.reason for one in reading.signs if one.facts.reason), "nothing was compared")
        return "cannot run", reason
    over = [sign for sign in reading.signs if sign.audited(reading.facts.alpha)]
    if over:
        return "conclusive", "; ".join(sentences.disagreement(reading.facts, sign) for sign in over[:3])
    left = reading.undecided
    if left:
        return "cannot run", f"too few comparisons to decide {sentences.names(left)}"
    return "clear", sentences.disagreement(reading.facts, reading.overall)


def weeks(reading: Reading) -> Answer:
    """Look at the weekly sequences."""
    if len(reading.facts.windows) < 2:
        return "cannot run", "there is one window only"
    alarms = [sign for sign in reading.signs if sign.facts.alarm is not None]
    if alarms:
        return "conclusive", "; ".join(f"{sign.label} since {sign.facts.alarm}" for sign in alarms[:4])
    if not reading.measured:
        return "cannot run", "unescalated answers were not compared"
    return "clear", f"no alarm in {len(reading.facts.windows)} weeks"


def cost(reading: Reading) -> Answer:
    """Look at what is paid and saved."""
    found = [*others.overspent(reading), *others.creeping(reading), *others.auditing(reading)]
    if found:
        return ("conclusive" if any(cause.conclusive for cause in found) else "suspects"), found[0].message
    money = reading.facts.money
    if money is None:
        return "cannot run", "what calls cost is not recorded"
    return "clear", f"it costs {sentences.pct(money.ratio)} of always-flagship"


def users(reading: Reading) -> Answer:
    """Look at what users and labels say."""
    if not reading.facts.feedback:
        return "cannot run", "no feedback, completion, repeated question or label in both periods"
    worse = [one for one in reading.facts.feedback if one.low > 0]
    found = list(others.past(reading))
    if found:
        return ("conclusive" if found[0].conclusive else "suspects"), found[0].evidence[0]
    if worse:
        return "suspects", f"{worse[0].name} got worse, with answers the flagship would change"
    return "clear", "nothing users or labels say got worse inside cohorts"


TESTS: Final[dict[str, tuple[str, Callable[[Reading], Answer]]]] = {
    "judge set": ("Did a judge move on answers that do not change?", judge_set),
    "escalation": ("Did a cohort's own escalation move?", escalation),
    "gate": ("At the same gate, did disagreement of a cohort move, or did only the mix change?", gate),
    "audit": ("Is disagreement of unescalated cases over budget in any cohort?", audit),
    "weeks": ("Does a weekly sequence of disagreement stand at alarm?", weeks),
    "cost": ("Does the cascade save what it was built to save?", cost),
    "users": ("Do users or labels say that answers got worse?", users),
}
"""Every test by name, with its question; the four of the gate stop at the first conclusive one."""

_OF_THE_GATE: Final = ("escalation", "gate", "audit", "weeks")


def _steps(reading: Reading, *, stop: bool) -> Iterator[Step]:
    single = len(reading.facts.tiers) == 1
    decided = None
    for name, (question, test) in TESTS.items():
        if name in _OF_THE_GATE and single:
            yield Step(name, question, False, "cannot run", "always-flagship has no gate")
        elif name in _OF_THE_GATE and decided is not None and stop:
            yield Step(name, question, False, "not needed", f"'{decided}' was conclusive")
        else:
            outcome, message = test(reading)
            yield Step(name, question, outcome != "cannot run", outcome, message)
            if name in _OF_THE_GATE and outcome == "conclusive":
                decided = name
