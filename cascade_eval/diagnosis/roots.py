"""Cohorts over budget that nothing else explains: neither a cohort of another column, nor other shares of the traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import bounds, drift

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade_eval.diagnosis.facts import Period
    from cascade_eval.diagnosis.reading import Reading, Sign


def find(reading: Reading) -> tuple[Sign, ...]:
    """Cohorts over budget that no other cohort over budget explains; all cases where no cohort is.

    A cohort is explained by one of another family without whose cases it would be within its budget: Portuguese requests
    go to every department, and every department looks worse.
    """
    over = sorted((s for s in reading.signs if s.over and s.cohort), key=_excess, reverse=True)
    kept = [s for s in over if not any(_explained(reading, s, by) for by in over if by is not s)]
    kept = [s for s in kept if not _mirrored(reading, s, over)]
    if kept or over:
        return tuple(kept or over)
    return (reading.overall,) if reading.overall.over else ()


def _excess(sign: Sign) -> float:
    low, _ = bounds.rate([sign.facts.now.total("disagreed")], [sign.compared])
    return float(low[0]) / sign.facts.budget


def _explained(reading: Reading, sign: Sign, by: Sign) -> bool:
    left = reading.facts.without.get((sign.cohort, by.cohort))
    if left is None:
        return False
    if set(by.cohort) < set(sign.cohort):
        rest = reading.facts.without.get((by.cohort, sign.cohort))
        return rest is not None and rest[1] > 0 and rest[0] / rest[1] > by.facts.budget
    fine = left[1] > 0 and left[0] / left[1] <= sign.facts.budget
    return fine and _excess(sign) < _excess(by)


def _mirrored(reading: Reading, sign: Sign, named: Iterable[Sign]) -> bool:
    """Whether a cohort is within budget without the cases of all the named ones of another column, one of them worse."""
    groups: dict[tuple[str, ...], list[Sign]] = {}
    for one in named:
        if not set(one.facts.family) & set(sign.facts.family):
            groups.setdefault(one.facts.family, []).append(one)
    count, size = sign.facts.now.total("disagreed"), sign.compared
    for group in groups.values():
        left = [reading.facts.without.get((sign.cohort, one.cohort)) for one in group]
        rest = [count - sum(count - one[0] for one in left if one), size - sum(size - one[1] for one in left if one)]
        fine = all(left) and rest[1] > 0 and rest[0] <= sign.facts.budget * rest[1]
        if fine and max(_excess(one) for one in group) > _excess(sign):
            return True
    return False


def mirrored(reading: Reading, sign: Sign) -> bool:
    """Whether a cohort is within budget without the cases of those over budget by another column: it only mirrors them."""
    over = [one for one in find(reading) if one.cohort and one.facts.family != sign.facts.family]
    return any(_explained(reading, sign, by) for by in over) or _mirrored(reading, sign, over)


def apart(reading: Reading, signs: Sequence[Sign]) -> tuple[Sign, ...]:
    """Leave out the columns of which some cohort is explained by a cohort of another column: they only mirror it."""
    mirrors = {
        s.facts.family
        for s in signs
        if any(by.facts.family != s.facts.family and _explained(reading, s, by) for by in signs)
        or _mirrored(reading, s, signs)
    }
    return tuple(sign for sign in signs if sign.facts.family not in mirrors) or tuple(signs)


def by_mix(reading: Reading) -> tuple[Sign, ...]:
    """Cohorts whose shares alone take all cases together over their budget; none where something moved inside cohorts.

    It did not where no cohort disagrees more than it did, and shares explain at least half of the rise (Kitagawa).
    """
    mixed = tuple(sign for sign in reading.mixed if sign.facts.family == reading.mixed[0].facts.family)
    if find(reading) != (reading.overall,) or not mixed:
        return ()
    mine = reading.of(mixed[0].facts.family)
    if any(sign.rose or sign.less for sign in mine):
        return ()
    return mixed if _by_shares(mine) else ()


def by_shares(reading: Reading) -> bool:
    """Whether other shares of some column explain at least half of how much more all cases together disagree."""
    return any(_by_shares(reading.of(family)) for family in reading.facts.families if family)


def _by_shares(mine: Sequence[Sign]) -> bool:
    kept = [np.array([_kept(getattr(sign.facts, side)) for sign in mine]) for side in ("before", "now")]
    rates = [np.nan_to_num([getattr(sign.disagreement, side) for sign in mine]) for side in ("before", "now")]
    if not all(sizes.sum() > 0 for sizes in kept):
        return False
    split = drift.kitagawa(rates[0] * kept[0], kept[0], rates[1] * kept[1], kept[1])
    return bool(2 * split.mix >= split.total > 0)


def _kept(period: Period) -> float:
    return period.total("decisions") - period.total("escalated")
