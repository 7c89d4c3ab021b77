"""Rules: which causes the signs of one cascade point to. Each rule is a pure function from a reading to causes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cascade_eval.diagnosis import others, roots, sentences
from cascade_eval.diagnosis import reading as reading_
from cascade_eval.diagnosis.nouns import Cause
from cascade_eval.diagnosis.sentences import pct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cascade_eval.diagnosis.facts import Facts
    from cascade_eval.diagnosis.nouns import CauseName
    from cascade_eval.diagnosis.reading import Reading, Sign

ENOUGH: Final = 100
"""Compared cases of the reference period from which a rate over budget there counts as having been so from the start."""


def find(reading: Reading) -> tuple[Cause, ...]:
    """Return every cause the signs point to, those to act on first; not yet whether that is all there is to say."""
    found = [cause for rule in RULES for cause in rule(reading)]
    judge = [cause for cause in found if cause.name == "verifier regression" and cause.conclusive]
    if judge and reading.facts.rests_on_judge is not None:
        found = [_suspended(cause) for cause in found]
    return tuple(sorted(found, key=lambda cause: (not cause.conclusive, rank(cause))))


def rank(cause: Cause) -> float:
    """Where a cause stands among those to act on: a threshold that only costs too much breaks no promise, and can wait."""
    if cause.name == "threshold by feel" and cause.test == "gate" and cause.cohorts == ((),):
        return ORDER.index("not enough evidence") - 0.5
    return ORDER.index(cause.name)


ORDER: Final[tuple[CauseName, ...]] = (
    "verifier regression",
    "student drift",
    "saturation",
    "uncovered cohort",
    "threshold by feel",
    "single-model overspend",
    "cost creep",
    "rising escalation",
    "audit costs more than it guards",
    "moved past the cascade",
    "not enough evidence",
    "mix shift",
    "healthy",
)
"""Which cause is acted on first."""

_RESTS: Final = frozenset({"saturation", "uncovered cohort", "student drift", "threshold by feel"})
"""Causes that rest on disagreement."""


def _suspended(cause: Cause) -> Cause:
    """Take back what rests on a judge that moved, until the judge is trusted again."""
    if cause.name not in _RESTS:
        return cause
    note = "the judge it rests on moved on its own fixed set, so the comparison is suspended"
    return replace(cause, conclusive=False, evidence=(*cause.evidence, note))


# --- disagreement over budget --------------------------------------------------------------------------------------


def over_budget(reading: Reading) -> Iterator[Cause]:
    """Name why cohorts are over budget: the student, the gate, a cohort nobody calibrated for, or the launch."""
    drift = reading_.spread(reading)
    over = roots.find(reading)
    gate = bool(drift) and reading_.gate_alone(reading.members)
    if not gate:
        # Where answers over all cases are unknown, escalation that fell by chance takes no cohort out.
        apart = [s for s in drift if reading_.gate_alone((s,)) and (s.less or s.cheap.known)]
        drift = reading_.together([sign for sign in drift if sign not in apart])
    if drift:
        sure = any(sign.over for sign in reading.signs) or reading_.largest(drift) > 2
        if gate:
            yield replace(saturated(reading, roots.apart(reading, drift)), conclusive=sure)
        else:
            yield replace(drifted(reading, drift), conclusive=sure and not others.judge_unknown(reading))
        left = [s for s in over if s.cohort and s not in drift and (s.less or s.disagreement.up > reading.facts.alpha)]
        yield from _one_by_one(reading, left)
        return
    if over == (reading.overall,) and _set_fell(reading.facts):
        yield drifted(reading, over)
        return
    mixed = roots.by_mix(reading)
    if mixed:
        yield arrived(reading, mixed)
        return
    yield from _one_by_one(reading, over)


def _one_by_one(reading: Reading, over: Sequence[Sign]) -> Iterator[Cause]:
    groups: dict[str, list[Sign]] = {}
    for sign in over:
        groups.setdefault(why(reading, sign), []).append(sign)
    makers: dict[str, Callable[[Reading, Sequence[Sign]], Cause]] = {
        "saturation": saturated,
        "uncovered cohort": uncovered,
        "threshold by feel": by_feel,
    }
    for name, make in makers.items():
        if name in groups:
            yield make(reading, groups[name])
    if "anywhere" in groups:
        mine = groups["anywhere"]
        message = (
            f"{reading.facts.tiers[0]} may agree less with the flagship in every cohort; none is shown to be spared."
        )
        yield replace(saturated(reading, mine), conclusive=False)
        yield replace(drifted(reading, mine), conclusive=False, message=message)
    if "unknown" in groups:
        for make in (saturated, by_feel if reading.facts.chosen is None else saturated):
            yield replace(make(reading, groups["unknown"]), conclusive=False)
            if reading.facts.chosen is not None:
                break


def why(reading: Reading, sign: Sign) -> str:
    """Tell why one cohort is over budget: a cause, ``anywhere`` or ``unknown``.

    A cohort the calibration or the reference period has not seen is uncovered. One that was over budget before and has not
    moved was wrong at launch, or its stored calibration promises too much. One that escalates less than it did and disagrees
    more has a gate that fails; so has one whose disagreement rose while the first tier's answers, escalated ones included,
    did not get worse, or while another cohort was spared. A rise that is none of these may be the student's. All cases
    together disagree more where other traffic arrived as well, and that says nothing of the gate.
    """
    facts, moved = reading.facts, sign.disagreement
    if sign.facts.covered is False or sign.new:
        return "uncovered cohort"
    rose = reading_.risen(reading, sign)
    if sign.over_before and not (rose or sign.less):
        return "threshold by feel" if facts.chosen is None else _promised(sign, facts.alpha)
    if not sign.cohort and roots.by_shares(reading):
        return "unknown"
    if sign.less and not moved.known:
        return "saturation"
    keeps_more = sign.less or (sign.fell and moved.up <= facts.alpha)
    if keeps_more and moved.now > moved.before and not reading_.answers_worse(reading, sign):
        return "saturation"
    if rose:
        return "saturation" if reading_.gate_alone((sign,)) or reading_.localised(reading, sign) else "anywhere"
    if facts.chosen is not None:
        return _promised(sign, facts.alpha)
    always = moved.size_before >= ENOUGH and moved.before > sign.facts.budget and reading_.from_start(sign.facts)
    always = always and moved.up > facts.alpha
    return "threshold by feel" if not facts.before or always else "unknown"


def _promised(sign: Sign, alpha: float) -> str:
    found = sign.facts.overstated
    return "saturation" if found is not None and found.p <= alpha else "unknown"


def saturated(reading: Reading, signs: Sequence[Sign]) -> Cause:
    """Say that the gate keeps what it used to escalate, or what it was calibrated to escalate."""
    facts = reading.facts
    evidence = [sentences.disagreement(facts, sign) for sign in signs[:4] if sign.compared]
    for sign in signs[:4]:
        if sign.disagreement.known:
            evidence.append(sentences.moved(sign.label, "disagreement", sign.disagreement))
        if sign.escalation.known:
            evidence.append(sentences.moved(sign.label, "escalation", sign.escalation))
        if sign.cheap.known:
            evidence.append(
                sentences.moved(
                    sign.label, f"agreement of {facts.tiers[0]} over all cases, escalated or not,", sign.cheap
                )
            )
        if sign.cheap.known and reading_.answers_worse(reading, sign):
            evidence.append(f"{sign.label}: the answers themselves got worse, and what the gate reads does not show it")
        promise = sign.facts.overstated
        if promise is not None and promise.p <= facts.alpha:
            evidence.append(
                f"{sign.label}: the calibration promises {pct(promise.expected)} agreement of kept answers, and "
                f"{pct(promise.observed)} agree (n={promise.nobs:,.0f})"
            )
        if sign.facts.alarm is not None:
            evidence.append(f"{sign.label}: the weekly sequence stands at alarm since {sign.facts.alarm}")
    evidence += [*sentences.spared(facts, reading.signs), *sentences.held_out(facts)]
    return Cause(
        "saturation",
        facts.cascade,
        tuple(sign.cohort for sign in signs),
        all(sign.over for sign in signs),
        _test(facts, signs),
        f"The gate has saturated in {sentences.names(signs)}: it keeps answers there that the flagship would change.",
        tuple(evidence),
        (
            "an audit of these cohorts within budget",
            "every cohort getting worse together, with worse answers of the first tier over all cases",
            "a judge, a label, a threshold or a flagship that changed in the same week",
        ),
    )


def uncovered(reading: Reading, signs: Sequence[Sign]) -> Cause:
    """Say that a cohort nobody calibrated for is over budget."""
    facts = reading.facts
    evidence = [sentences.disagreement(facts, sign) for sign in signs if sign.compared]
    for sign in signs:
        if sign.facts.covered is False:
            evidence.append(f"{sign.label} is no cohort of the stored calibration in use")
        if sign.new:
            evidence.append(sentences.share(sign))
    return Cause(
        "uncovered cohort",
        facts.cascade,
        tuple(sign.cohort for sign in signs),
        all(sign.over for sign in signs),
        _test(facts, signs),
        f"{sentences.names(signs)} arrived after the gate was set, and "
        f"{sentences.verb(signs, 'is over its budget', 'are over their budgets')}.",
        tuple(evidence + list(sentences.spared(facts, reading.signs))),
        ("cases of the cohort in the data the gate was chosen by", "an audit of the cohort within budget"),
    )


def arrived(reading: Reading, mixed: Sequence[Sign]) -> Cause:
    """Say that other traffic, and nothing inside cohorts, takes all cases together over their budget."""
    facts, new = reading.facts, [sign for sign in mixed if sign.new]
    evidence = [sentences.disagreement(facts, reading.overall), *(sentences.share(sign) for sign in mixed[:4])]
    evidence += [sentences.disagreement(facts, sign) for sign in mixed[:4] if sign.compared]
    return Cause(
        "uncovered cohort" if new else "mix shift",
        facts.cascade,
        tuple(sign.cohort for sign in new or mixed),
        True,
        "audit",
        f"{sentences.names(new)} arrived after the gate was set, and with {sentences.verb(new, 'it', 'them')} all cases together are over their budget."
        if new
        else f"Other traffic arrived ({sentences.share(mixed[0])}), and that alone takes all cases together over their budget.",
        tuple(evidence),
        ("a cohort whose own disagreement rose", "a finer cohort inside the one that grew"),
    )


def drifted(reading: Reading, signs: Sequence[Sign]) -> Cause:
    """Say that the small model got worse everywhere."""
    facts = reading.facts
    shown = [sign for sign in signs if sign.compared]
    evidence = [sentences.moved(sign.label, "disagreement", sign.disagreement) for sign in shown[:6]]
    evidence += [
        sentences.moved(sign.label, f"agreement of {facts.tiers[0]} over all cases, escalated or not,", sign.cheap)
        for sign in shown[:6]
        if sign.cheap.known
    ]
    evidence += [sentences.disagreement(facts, sign) for sign in reading.signs if sign.over][:4]
    evidence += list(sentences.held_out(facts))
    return Cause(
        "student drift",
        facts.cascade,
        tuple(sign.cohort for sign in signs) or ((),),
        True,
        _test(facts, signs),
        f"{facts.tiers[0]} agrees less with the flagship in every cohort at once ({sentences.names(signs)}).",
        tuple(evidence),
        (
            "a cohort with enough cases that is spared",
            "agreement of the first tier over all cases that did not change",
            "a flagship that was replaced in the same week: then the reference moved",
        ),
    )


def _set_fell(facts: Facts) -> bool:
    return any(
        one.test == "fixed set: held-out" and one.evidence["after"] < one.evidence["before"] for one in facts.fixed
    )


def by_feel(reading: Reading, signs: Sequence[Sign]) -> Cause:
    """Say that a threshold was never chosen by data and was wrong from the first week."""
    facts = reading.facts
    evidence = [sentences.disagreement(facts, sign) for sign in signs[:4] if sign.compared]
    evidence += [
        f"{sign.label}: {pct(sign.disagreement.before)} {sentences.period(facts.before)}, over its budget from the start"
        for sign in signs[:4]
        if sign.disagreement.known
    ]
    evidence.append("no calibration, and no data named by 'chosen_on', stands behind the threshold")
    evidence += list(sentences.certified(facts))
    since = "since the first week there is" if len(facts.windows) > 1 else "in the only period there is"
    return Cause(
        "threshold by feel",
        facts.cascade,
        tuple(sign.cohort for sign in signs),
        all(sign.over for sign in signs),
        _test(facts, signs),
        f"Nothing says that data chose the threshold, and {sentences.names(signs)} "
        f"{sentences.verb(signs, 'is', 'are')} over budget {since}.",
        tuple(evidence),
        ("earlier weeks within budget: then it drifted", "a certificate of the threshold on other data"),
    )


def _test(facts: Facts, signs: Sequence[Sign]) -> str:
    if any(sign.audited(facts.alpha) for sign in signs):
        return "audit"
    return "weeks" if any(sign.facts.alarm for sign in signs) else "gate"


# --- what is no fault, and what is not known -----------------------------------------------------------------------


def suspected(reading: Reading) -> Iterator[Cause]:
    """List what is suspected where disagreement is not decided: signs that saturation, too, would show."""
    left = [s for s in reading.members if s.undecided and s.cohort] or [s for s in reading.signs if s.undecided]
    left = [s for s in left if not roots.mirrored(reading, s)]
    new = [sign for sign in left if sign.new or sign.facts.covered is False]
    if new:
        yield replace(uncovered(reading, new), conclusive=False, test="escalation")
    less = reading_.sharpest([sign for sign in left if sign.less and sign not in new])
    together = reading_.spread(reading)
    rose = [sign for sign in left if sign.rose and sign not in (*new, *less, *together)]
    if less or rose:
        made, its = saturated(reading, (*less, *rose)), sentences.verb((*less, *rose), "its", "their")
        message = f"The gate may be saturating in {sentences.names((*less, *rose))}; {its} disagreement is not decided."
        yield replace(made, conclusive=False, test="escalation" if less else "gate", message=message)


def saturating(reading: Reading) -> Iterator[Cause]:
    """Say that a cohort escalates less and disagrees more, while it still keeps its budget."""
    signs = [s for s in reading.members if s.within and s.less and s.disagreement.up <= reading.facts.alpha / 10]
    if signs and not reading_.spread(reading):
        told = sentences.verb(
            signs,
            "escalates less than it did and disagrees more, still within its budget",
            "escalate less than they did and disagree more, still within their budgets",
        )
        message = f"{sentences.names(signs)} {told}."
        yield replace(saturated(reading, signs), conclusive=False, test="gate", message=message)


def shifted(reading: Reading) -> Iterator[Cause]:
    """Say that other traffic arrived."""
    facts = reading.facts
    if roots.by_mix(reading):
        return
    mixed = reading_.sharpest(()) or tuple(s for s in reading.mixed if s.facts.family == reading.mixed[0].facts.family)
    if not mixed:
        return
    moved = [s for s in reading.signs if s.over or s.less or s.more or (s.rose and not s.within)]
    conclusive = reading.measured and not moved and not reading.undecided
    evidence = [sentences.share(sign) for sign in mixed[:4]]
    overall = reading.overall.escalation
    evidence.append(sentences.moved("overall", "escalation", overall))
    evidence += [sentences.moved(sign.label, "escalation", sign.escalation) for sign in reading.members[:6]]
    evidence += [sentences.disagreement(facts, s) for s in reading.signs[:6] if s.compared]
    yield Cause(
        "mix shift",
        facts.cascade,
        tuple(sign.cohort for sign in mixed),
        conclusive,
        "gate",
        f"Other traffic arrived ({sentences.share(mixed[0])})"
        + (", and no cohort changed inside." if not moved else "; that explains part of what moved."),
        tuple(evidence),
        ("a cohort whose own escalation or disagreement moved", "a finer cohort inside the one that grew"),
    )


RULES: Final[tuple[Callable[[Reading], Iterator[Cause]], ...]] = (
    others.judge_moved,
    others.judge_suspected,
    over_budget,
    suspected,
    saturating,
    others.overspent,
    others.creeping,
    others.rising,
    others.auditing,
    others.past,
    shifted,
)
