"""What the facts say cohort by cohort, each sign with its own test; nothing is concluded here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade_eval import bounds, monitor
from cascade_eval.diagnosis import calm as calm_
from cascade_eval.diagnosis import comparing
from cascade_eval.diagnosis.facts import Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.diagnosis.comparing import Moved, Scatter
    from cascade_eval.diagnosis.facts import CohortFacts, Facts
    from cascade_eval.monitor import Cohort

    Floats = NDArray[np.float64]

SHARE: Final = 0.02
"""Smallest change of a cohort's share that is called another mix."""

NEW: Final = 0.005
"""Share of the reference period below which a cohort counts as new."""

REST: Final = 0.02
"""Share of the decisions that may be left undecided, in all cohorts together, and still be called healthy."""


@dataclass(frozen=True, eq=False)
class Sign:
    """What is seen of one cohort.

    Parameters
    ----------
    facts
        What was measured.
    disagreement, escalation, share, cheap
        How they moved: disagreement of what is kept, escalation, share of the traffic, and the first tier's agreement with
        the flagship on all cases.
    p_over
        Of "disagreement is over budget now", adjusted over the cohorts of its family.
    over, over_before
        Whether that is shown now, by the audit or by the weekly sequence, and in the reference period from its first weeks on.
    within
        Whether it is shown to be within budget.
    calm
        Whether more weeks than those of now decide that, in which nothing began.
    new
        Whether it was absent in the reference period.
    rose
        Whether its own disagreement rose.
    less, more
        Whether it escalates less or more, as a test by itself: adjusted over cohorts and over looks.
    fell
        Whether it escalates less, in a cohort one has other reasons to look at.
    """

    facts: CohortFacts
    disagreement: Moved
    escalation: Moved
    share: Moved
    cheap: Moved
    p_over: float
    over: bool
    over_before: bool
    within: bool
    calm: bool
    new: bool
    rose: bool
    less: bool
    more: bool
    fell: bool

    @property
    def cohort(self) -> Cohort:
        """Which."""
        return self.facts.cohort

    @property
    def label(self) -> str:
        """Its name as budgets write it."""
        return monitor.label(self.facts.cohort)

    @property
    def compared(self) -> float:
        """Unescalated cases compared now."""
        return self.facts.now.total("compared")

    @property
    def empty(self) -> bool:
        """Whether nothing of it is kept now, or it has no case."""
        now = self.facts.now
        return now.total("decisions") == 0 or now.total("escalated") >= now.total("decisions")

    def audited(self, alpha: float) -> bool:
        """Whether comparisons alone show it to be over budget, those of now or of more weeks."""
        return self.p_over <= alpha or (self.over and self.calm)

    @property
    def undecided(self) -> bool:
        """Whether its budget is neither shown to hold nor shown to be broken."""
        return not (self.over or self.within or self.empty)

    def mended(self, alpha: float) -> bool:
        """Whether it was over its budget, escalates more and disagrees less since, and is within it: a cure and no fault."""
        was_over = self.disagreement.before > self.facts.budget
        return self.more and self.within and was_over and self.disagreement.down <= alpha

    def suspicious(self, alpha: float) -> bool:
        """Whether its rate is over its budget, and its own disagreement rose or its own escalation fell."""
        return self.facts.now.disagreement > self.facts.budget and (self.disagreement.up <= alpha or self.fell)

    @property
    def weight(self) -> float:
        """Share of the traffic now."""
        return self.share.now if self.share.size else 1.0


@dataclass(frozen=True, eq=False)
class Reading:
    """Every sign of one cascade.

    Parameters
    ----------
    facts
        What was measured.
    signs
        All cases first.
    mixed
        Cohorts whose share moved.
    """

    facts: Facts
    signs: tuple[Sign, ...]
    mixed: tuple[Sign, ...] = field(default=())

    @property
    def overall(self) -> Sign:
        """All cases."""
        return self.signs[0]

    @property
    def members(self) -> tuple[Sign, ...]:
        """Cohorts; all cases where there are none."""
        return self.signs[1:] or self.signs

    @property
    def measured(self) -> bool:
        """Whether any unescalated case was compared now."""
        return self.overall.compared > 0

    def of(self, family: tuple[str, ...]) -> tuple[Sign, ...]:
        """Members of a family."""
        return tuple(sign for sign in self.signs if sign.facts.family == family)

    @property
    def undecided(self) -> tuple[Sign, ...]:
        """Cohorts left undecided, unless they are a small rest of the traffic that nothing is seen to be wrong with."""
        open_ = tuple(sign for sign in self.signs if sign.undecided)
        rest = [sign for sign in open_ if sign.cohort]
        families = {sign.facts.family for sign in rest}
        small = all(sum(s.weight for s in rest if s.facts.family == family) < REST for family in families)
        small = small and not any(sign.suspicious(self.facts.alpha) for sign in rest)
        return tuple(sign for sign in open_ if not sign.cohort) if small else open_


def read(facts: Facts) -> Reading:
    """Read the signs of every cohort."""
    level = facts.alpha / monitor.LOOKS if len(facts.windows) > 4 else facts.alpha
    overall = facts.overall
    first = facts.now.index(facts.mixed) if facts.mixed in facts.now else 0
    spreads = {family: _scatters(facts.of(family), overall, first) for family in {one.family for one in facts.cohorts}}
    moves = {one.cohort: _moves(one, overall, spreads[one.family], first) for one in facts.cohorts}
    if any(_other_share(facts, one, moves[one.cohort][2]) for one in facts.cohorts):
        # Of all cases together the rate changes with the mix, whatever stays the same inside cohorts.
        facts = replace(facts, cohorts=(replace(overall, calm=Period()), *facts.cohorts[1:]))
    over, always = (_holm(facts, lambda one, side=side: _over(one, side)) for side in ("now", "calm"))
    less = _holm(facts, lambda one: moves[one.cohort][1].down)
    more = _holm(facts, lambda one: moves[one.cohort][1].up)
    found = {
        (one.cohort, one.evidence.get("after", 0.0) > one.evidence.get("before", 0.0))
        for one in facts.escalations
        if one.alarm
    }
    down, up = _together(facts, spreads)
    less[()], more[()] = (min(down, less[()]), min(up, more[()])) if len(facts.cohorts) == 1 else (down, up)
    signs = []
    for one in facts.cohorts:
        disagreement, escalation, share, cheap = moves[one.cohort]
        # All cases together are a second look at the same weeks.
        own = level if one.cohort else min(level, facts.alpha / 5)
        now = over[one.cohort] <= facts.alpha or one.alarm is not None
        # A second look at a part of the same cases.
        calm = not now and always[one.cohort] <= facts.alpha / 5 and one.now.disagreement > one.budget
        within = one.alarm is None and calm_.within(one, moves[one.cohort], facts.alpha)
        signs.append(
            Sign(
                one, disagreement, escalation, share, cheap, over[one.cohort], now or calm,
                _over(one, "before") <= facts.alpha and from_start(one),
                within, calm or (within and calm_.decide(one, facts.alpha)),
                bool(facts.before) and _is_new(share),
                disagreement.up <= _rise(facts),
                less[one.cohort] <= own or (one.cohort, False) in found,
                more[one.cohort] <= own or (one.cohort, True) in found,
                escalation.down <= facts.alpha,
            )
        )  # fmt: skip
    mixed = _mixed(facts, signs, max(level, facts.alpha / 5))
    return Reading(facts, tuple(_without_mix(sign, signs, mixed) for sign in signs), mixed)


def _without_mix(sign: Sign, signs: Sequence[Sign], mixed: Sequence[Sign]) -> Sign:
    """Take back that a cohort's escalation moved where other traffic by another column explains it.

    It does where cohorts of that column changed their shares and not their escalation, and their shares alone moved all
    cases the same way and at least half as far.
    """
    if not (sign.less or sign.more):
        return sign
    step = sign.escalation.now - sign.escalation.before
    for family in {one.facts.family for one in mixed if one.facts.family != sign.facts.family}:
        mine = [one for one in signs if one.facts.family == family]
        shifted = sum((one.share.now - one.share.before) * _middle(one) for one in mine)
        if not any(one.less or one.more for one in mine) and shifted * step > 0 and abs(step) <= 2 * abs(shifted):
            return replace(sign, less=False, more=False)
    return sign


def _middle(sign: Sign) -> float:
    """Escalation of a cohort halfway between both periods; the known one where it was there in one only."""
    known = [rate for rate in (sign.escalation.before, sign.escalation.now) if not np.isnan(rate)]
    return float(np.mean(known)) if known else 0.0


_SERIES: Final = (("disagreed", "compared"), ("escalated", "decisions"), ("share", "all"), ("cheap", "cheap_size"))
"""Counts and cases of what may move."""


def _moves(one: CohortFacts, overall: CohortFacts, spreads: Sequence[Scatter], first: int) -> tuple[Moved, ...]:
    return tuple(
        comparing.moved(
            *_weeks(one.before, overall.before, names), *_weeks(one.now, overall.now, names, first), spread=spread
        )
        for names, spread in zip(_SERIES, spreads, strict=True)
    )


def _scatters(members: Sequence[CohortFacts], overall: CohortFacts, first: int) -> tuple[Scatter, ...]:
    """Estimate how weeks scatter from all cohorts of a family together: one cohort has few weeks."""
    return tuple(
        comparing.scatter(
            _weeks(getattr(one, side), getattr(overall, side), names, first if side == "now" else 0)
            for one in members
            for side in ("before", "now")
        )
        for names in _SERIES
    )


def _together(facts: Facts, spreads: Mapping[tuple[str, ...], Sequence[Scatter]]) -> tuple[float, float]:
    """Return p-values of "all cohorts together escalate less" and "more", whatever the mix did (Mantel and Haenszel 1959).

    All cases move whenever the mix does, by any of the columns, so the least certain column counts.
    """
    found = []
    for family in facts.families:
        before, now = (
            np.array([[getattr(one, side).total(name) for name in _SERIES[1]] for one in facts.of(family)])
            for side in ("before", "now")
        )
        found.append(comparing.together(*before.T, *now.T, spread=spreads[family][1]))
    return max((down for down, _ in found), default=1.0), max((up for _, up in found), default=1.0)


def _weeks(period: Period, whole: Period, names: tuple[str, str], first: int = 0) -> tuple[Floats, Floats]:
    if names == ("share", "all"):
        # Effective sizes of parts need not add up to that of the whole.
        # Shares are compared from the week in which other traffic arrived.
        return np.minimum(period.decisions, whole.decisions)[first:], whole.decisions[first:]
    return getattr(period, names[0]), getattr(period, names[1])


def _over(one: CohortFacts, side: str) -> float:
    period = getattr(one, side)
    return float(bounds.p_at_least(period.total("disagreed"), period.total("compared"), one.budget))


def from_start(one: CohortFacts) -> bool:
    """Whether the first half of the reference weeks is over budget by itself: a change may lie within the reference, too."""
    half = max(1, len(one.before.compared) // 2)
    bad, all_ = one.before.disagreed[:half].sum(), one.before.compared[:half].sum()
    return bool(all_ == 0 or bad > one.budget * all_)


def _rise(facts: Facts) -> float:
    """Level at which a cohort's disagreement rose; stricter where the week in which it began was looked for."""
    return facts.alpha / 5 if len(facts.windows) > 2 else facts.alpha


def _other_share(facts: Facts, one: CohortFacts, share: Moved) -> bool:
    """Whether a share may have moved; not adjusted over cohorts, for the careful answer is that one did."""
    return bool(one.cohort) and 2 * min(share.up, share.down) <= facts.alpha


def _is_new(share: Moved) -> bool:
    return share.size_before > 0 and share.size > 0 and share.now > 0 and share.before < min(NEW, share.now / 4)


def _holm(facts: Facts, p: object) -> dict[Cohort, float]:
    """Adjust a p-value over the cohorts of each family; all cases are a family of one."""
    assert callable(p)
    found: dict[Cohort, float] = {}
    for family in dict.fromkeys(one.family for one in facts.cohorts):
        mine = facts.of(family)
        adjusted = bounds.holm([p(one) for one in mine])
        found.update(zip((one.cohort for one in mine), adjusted.tolist(), strict=True))
    return found


def _mixed(facts: Facts, signs: Iterable[Sign], level: float) -> tuple[Sign, ...]:
    """Cohorts whose share moved by more than chance and more than it matters, the largest change first."""
    if not facts.before:
        return ()
    p = _holm(facts, lambda one: 2 * min(_share_p(signs, one.cohort)))
    moved = [
        sign
        for sign in signs
        if sign.cohort and p[sign.cohort] <= level and abs(sign.share.now - sign.share.before) >= SHARE
    ]
    # Where two cohorts trade places, the one that grew is named first: its cases are the new ones.
    return tuple(
        sorted(moved, key=lambda s: (-round(abs(s.share.now - s.share.before), 9), s.share.before - s.share.now))
    )


def _share_p(signs: Iterable[Sign], cohort: Cohort) -> tuple[float, float]:
    [sign] = [one for one in signs if one.cohort == cohort]
    return sign.share.up, sign.share.down


def spread(reading: Reading) -> tuple[Sign, ...]:
    """Cohorts whose disagreement rose together, where no cohort of any family was spared; else none.

    Every family needs a cohort that rose, and some family two: new cases of one kind that go to all cohorts of another column
    make those look worse, and their own column does not move. No correction: the claim is about all of them. Cohorts get worse unequally, so
    one that rose by less than the others is not spared.
    """
    found: list[Sign] = []
    for family in reading.facts.families:
        mine = reading.of(family)
        rose = [sign for sign in mine if sign.rose]
        if not rose:
            return ()
        odds = float(np.exp(np.mean([np.log(comparing.odds_ratio(sign.disagreement)) for sign in rose])))
        if (
            _spared(reading, mine, np.sqrt(odds))
            or _quiet(reading, mine, np.sqrt(odds))
            or not _others_rose(reading, mine)
        ):
            return ()
        found += rose
    return together(found)


def _others_rose(reading: Reading, signs: Sequence[Sign]) -> bool:
    """Whether disagreement rose in the others together, too, when the cohort that rose most is left out."""
    most = min(signs, key=lambda sign: sign.disagreement.up)
    rest = [sign.disagreement for sign in signs if sign is not most and sign.disagreement.known]
    if not rest:
        return True
    [spread, *_] = _scatters([sign.facts for sign in signs], reading.overall.facts, 0)
    known = spread if spread.df >= comparing.FREE else comparing.Scatter(1.0, comparing.MANY)
    counts = [(one.before * one.size_before, one.size_before, one.now * one.size, one.size) for one in rest]
    return comparing.together(*np.array(counts).T, spread=known)[1] <= reading.facts.alpha


def together(signs: Sequence[Sign]) -> tuple[Sign, ...]:
    """Return the signs where some family has two of them; else none."""
    return tuple(signs) if largest(signs) > 1 else ()


def largest(signs: Sequence[Sign]) -> int:
    """Most signs of one family: two columns tell the same cases apart twice."""
    return max(Counter(sign.facts.family for sign in signs).values(), default=0)


def risen(reading: Reading, sign: Sign) -> bool:
    """Whether its disagreement rose, adjusted over the cohorts of its family that are over budget: of many, one rises by chance."""
    over = [one for one in reading.of(sign.facts.family) if one.over]
    if sign not in over:
        return sign.rose
    adjusted = bounds.holm([one.disagreement.up for one in over])
    return sign.rose and bool(adjusted[over.index(sign)] <= _rise(reading.facts))


def relieved(reading: Reading) -> bool:
    """Whether disagreement fell in at least two cohorts at once and escalates no more in them, and rose in none."""
    level = _rise(reading.facts)
    fell = [s for s in reading.members if s.disagreement.down <= level and s.escalation.up > reading.facts.alpha]
    return len(fell) > 1 and not any(sign.disagreement.now > sign.disagreement.before for sign in reading.members)


def _spared(reading: Reading, signs: Sequence[Sign], odds: float) -> bool:
    """Whether the odds of disagreement in some cohort are shown to have grown by less than `odds`, if at all."""
    from scipy.special import ndtri

    looked = sum(sign.disagreement.known for sign in signs)
    # One of many small cohorts looks spared by chance.
    errors = float(ndtri(1 - reading.facts.alpha / max(looked, 1)))
    return any(comparing.odds_ratio(one, errors=errors) < odds for one in _unmoved(reading, signs))


def _quiet(reading: Reading, signs: Sequence[Sign], odds: float) -> bool:
    """Whether cohorts in which nothing moved grew by less than `odds` together: then not every cohort got worse.

    That spares none of them by name, and leaves open which cohort alone did.
    """
    from scipy.special import ndtri

    found = _unmoved(reading, signs)
    if not found:
        return False
    # The fewer they are, the likelier it is that chance chose them.
    part = len(found) / sum(sign.disagreement.known for sign in signs)
    return comparing.shared_odds_ratio(found, errors=float(ndtri(1 - reading.facts.alpha * part))) < odds


def _unmoved(reading: Reading, signs: Sequence[Sign]) -> list[Moved]:
    """How disagreement moved where neither it nor the first tier's agreement is seen to have got worse."""
    level = _rise(reading.facts)
    known = [sign for sign in signs if sign.disagreement.known]
    return [sign.disagreement for sign in known if not sign.rose and sign.cheap.down > level]


def localised(reading: Reading, sign: Sign) -> bool:
    """Whether another cohort of the family is shown not to have risen as much as this one did at least."""
    # Of rises that were noticed the estimate is too large.
    odds = comparing.odds_ratio(sign.disagreement, errors=-comparing.BOUND)
    return _spared(reading, [one for one in reading.of(sign.facts.family) if one is not sign], odds)


def gate_alone(signs: Sequence[Sign]) -> bool:
    """Whether answers of the first tier did not get worse where disagreement rose: then the gate alone lets them through.

    What the cascade serves wrongly rose by some share of all cases. Had the answers got worse, the first tier's agreement
    over all cases, escalated ones included, would have fallen by at least about as much. Where that agreement is unknown in
    the reference weeks, worse answers leave escalation where it was, and a gate that keeps more does not.
    """
    served, worse, variance = 0.0, 0.0, 0.0
    for sign in signs:
        if not (sign.cheap.known and sign.disagreement.known):
            continue
        weight, cheap = sign.weight, sign.cheap
        kept0, kept1 = 1 - sign.escalation.before, 1 - sign.escalation.now
        served += weight * (kept1 * sign.disagreement.now - kept0 * sign.disagreement.before)
        worse += weight * (cheap.before - cheap.now)
        variance += weight**2 * sum(
            rate * (1 - rate) / size for rate, size in ((cheap.before, cheap.size_before), (cheap.now, cheap.size))
        )
    if variance == 0:
        return all(sign.fell for sign in signs if sign.rose)
    return served > 0 and worse + comparing.BOUND * float(np.sqrt(variance)) < served


def answers_worse(reading: Reading, sign: Sign) -> bool:
    """Whether the first tier agrees less over all cases of a cohort, and the gate alone does not explain what it serves."""
    return sign.cheap.down <= reading.facts.alpha and not gate_alone((sign,))


def mended(reading: Reading) -> tuple[Sign, ...]:
    """Cohorts that escalate more for having been over budget, and all cases where such a cohort is among them."""
    found = tuple(sign for sign in reading.signs if sign.mended(reading.facts.alpha))
    return (reading.overall, *found) if found and reading.overall not in found else found


def sharpest(signs: Sequence[Sign]) -> tuple[Sign, ...]:
    """Keep the cohorts of the family in which one moved its escalation most; the same move shows in other families."""
    if not signs:
        return ()
    first = max(signs, key=lambda s: abs(s.escalation.now - s.escalation.before) if s.escalation.known else 0.0)
    return tuple(sign for sign in signs if sign.facts.family == first.facts.family)
