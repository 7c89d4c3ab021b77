"""What only the cases themselves tell: answers of both models, money, labels, and what a cohort is without another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import drift, monitor
from cascade_eval.cascade import leaves
from cascade_eval.counts import AGREE, DISAGREE
from cascade_eval.diagnosis.facts import Audit, Feedback, Money, Overstated
from cascade_eval.monitor import users
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.diagnosis.periods import Split
    from cascade_eval.monitor import Cohort, Row
    from cascade_eval.replay import Replay
    from cascade_eval.suite.survey import OutOfFold
    from cascade_eval.traffic import Batch

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

WEEK: Final = "week of decided_at"

NEARLY: Final = 0.9
"""Share of unescalated cases the flagship has to have answered where no audit is declared."""

MEMBERS: Final = 50
"""Largest family of which cohorts are looked at without one another."""

PRICED: Final = 100
"""Flagship calls of unescalated cases with a known cost from which a single week's cost is looked at."""


def beside(names: frozenset[Field]) -> frozenset[Field]:
    """Columns read beside those that are counted."""
    wanted = {Field(None, n) for n in ("decided_at", "feedback", "completed", "audit_probability", "weight")}
    return frozenset(wanted & names)


@dataclass(frozen=True, eq=False)
class Look:
    """A replay of all cases of the traffic, with the weeks they belong to.

    Parameters
    ----------
    done
        The replay.
    weeks
        Reference period and now.
    places
        Where small cohorts go.
    """

    done: Replay
    weeks: Split
    places: Mapping[Cohort, Cohort]

    @property
    def batch(self) -> Batch:
        """The cases."""
        return self.done.columns.batch

    @cached_property
    def window(self) -> NDArray[np.int64]:
        """Position of each case's week among the windows; -1 where it is none of them."""
        if monitor.WHOLE in self.weeks.windows or not self.batch.has(None, "decided_at"):
            return np.full(self.batch.cases, len(self.weeks.windows) - 1, dtype=np.int64)
        codes = self.done.columns.codes((WEEK,))
        place = {name: i for i, name in enumerate(self.weeks.windows)}
        return np.array([place.get(member[0], -1) for member in codes.members], dtype=np.int64)[codes.codes]

    def within(self, windows: Sequence[str]) -> Mask:
        """Which cases belong to these weeks."""
        return np.isin(self.window, [self.weeks.windows.index(window) for window in windows])

    @cached_property
    def weight(self) -> Floats:
        """Cases each case stands for: its weight, over its chance of being audited; 0 where the audit left it out."""
        base = self.done.columns.weights()
        own = np.ones(self.batch.cases) if base is None else base
        if not self.batch.has(None, "audit_probability"):
            return own
        chance = self.batch.numbers(None, "audit_probability").astype(np.float64)
        return np.where(self.kept, np.nan_to_num(own / chance, nan=0.0), own)

    @cached_property
    def kept(self) -> Mask:
        """Unescalated cases."""
        decided = self.done.decisions
        return (decided.settled >= 0) & (decided.settled < len(self.done.cascade.tiers) - 1) & ~decided.cached

    @cached_property
    def compared(self) -> Mask:
        """Unescalated cases whose comparison is known."""
        return self.kept & np.isin(self.done.decisions.served, (AGREE, DISAGREE)) & (self.weight > 0)

    def codes(self, family: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[Cohort, ...]]:
        """Cohort of each case, small ones pooled."""
        codes = self.done.columns.codes(family)
        names = [tuple(zip(family, member, strict=True)) for member in codes.members]
        moved = [self.places.get(name, name) for name in names]
        members = tuple(dict.fromkeys(moved))
        return np.array([members.index(name) for name in moved], dtype=np.int64)[codes.codes], members

    def cheap(self, family: tuple[str, ...]) -> Iterator[tuple[Cohort, Floats, Floats]]:
        """Yield, cohort by cohort, how often the first tier agrees with the flagship: agreeing and all, by window."""
        tiers = self.done.cascade.tiers
        agrees = self.done.columns.agrees(tiers[0].model, tiers[-1].model)
        decided = self.done.decisions
        there = (decided.start == 0) & (decided.settled >= 0) & ~decided.cached & (self.window >= 0)
        known = there & (agrees >= 0)
        codes, members = self.codes(family)
        cell, shape = codes * len(self.weeks.windows) + self.window, (len(members), len(self.weeks.windows))
        rate, size = _effective(cell[known], shape[0] * shape[1], self.weight[known], agrees[known] == 1)
        size = np.where(self._covered(there & self.kept, known, cell, shape), size, 0.0)
        yield from zip(members, (rate * size).reshape(shape), size.reshape(shape), strict=True)

    def _covered(self, kept: Mask, known: Mask, cell: NDArray[np.int64], shape: tuple[int, int]) -> Mask:
        """Whether known cases stand for unescalated ones too, by cell: the flagship has answered every escalated one.

        An audit may miss a cell by chance, so that it ran is asked of the week.
        """
        base = self.done.columns.weights()
        own = np.ones(len(kept)) if base is None else base
        size = shape[0] * shape[1]
        stand, all_ = (
            np.bincount(cell[rows], weights=weight[rows], minlength=size)[:size]
            for rows, weight in ((kept & known, self.weight), (kept, own))
        )
        if not self.batch.has(None, "audit_probability"):
            return np.asarray(stand >= NEARLY * all_)
        stand, all_ = (np.tile(sums.reshape(shape).sum(axis=0), shape[0]) for sums in (stand, all_))
        return np.asarray(stand >= all_ / 2)

    def without(self, families: Sequence[tuple[str, ...]]) -> dict[tuple[Cohort, Cohort], tuple[float, float]]:
        """Count disagreement now of each cohort without the cases of each cohort of another family."""
        rows = self.compared & self.within(self.weeks.now)
        weight, bad = self.weight[rows], self.done.decisions.served[rows] == DISAGREE
        coded = {family: self.codes(family) for family in families}
        found = {}
        for family, (own, members) in coded.items():
            for other, (theirs, others) in coded.items():
                if family == other or max(len(members), len(others)) > MEMBERS:
                    continue
                cell = own[rows] * len(others) + theirs[rows]
                sums = _sums(cell, len(members) * len(others), weight, bad).reshape(3, len(members), len(others))
                for k, cohort in enumerate(members):
                    for j, left_out in enumerate(others):
                        total, squares, wrong = sums[:, k].sum(axis=1) - sums[:, k, j]
                        size = total * total / squares if squares > 0 else 0.0
                        found[cohort, left_out] = (float(wrong / total * size) if total > 0 else 0.0, float(size))
        return found

    def overstated(
        self, families: Sequence[tuple[str, ...]], stored: OutOfFold | None
    ) -> Iterator[tuple[Cohort, bool, Overstated | None]]:
        """Yield, cohort by cohort, whether a stored calibration has seen it, and whether it promises too much now."""
        tier = self.done.cascade.tiers[0]
        leaf = next(leaves(tier.gate), None)
        if stored is None or leaf is None:
            return
        columns = self.done.columns
        value = np.asarray(columns.value(tier, 0, leaf), dtype=np.float64)
        new, now = stored.uncovered(columns), self.within(self.weeks.now)
        rows = self.compared & now & (self.done.decisions.settled == 0) & ~np.isnan(value)
        for family in ((), *families):
            codes, members = self.codes(family)
            for k, cohort in enumerate(members):
                mine = rows & (codes == k)
                seen = now & (codes == k)
                covered = not seen.any() or float(new[seen].mean()) < 0.5
                yield (
                    cohort,
                    covered,
                    _promise(value[mine], self.done.decisions.served[mine] == AGREE, self.weight[mine]),
                )

    def money(self, budget: float | None) -> Money | None:
        """Cost over always-flagship's, now and before."""
        now = self._cost(self.weeks.now)
        if now is None:
            return None
        value, low, high, flagship, per_request = now
        past = self._cost(self.weeks.before) if self.weeks.before else None
        last = (
            self._cost(self.weeks.now[-1:]) if len(self.weeks.now) > 1 and self._priced(self.weeks.now[-1:]) else None
        )
        return Money(
            value,
            low,
            high,
            None if past is None else past[:3],
            budget,
            value - flagship,
            None if past is None else past[0] - past[3],
            per_request,
            None if last is None else last[:3],
            None if last is None else last[0] - last[3],
        )

    def _cost(self, windows: Sequence[str]) -> tuple[float, float, float, float, float | None] | None:
        part = replace(self.done, rows=self.within(windows), siblings=None)
        if not len(part):
            return None
        found = part.cost
        if found.value is None or found.low is None or found.high is None or not np.isfinite(found.high):
            return None
        return found.value, found.low, found.high, self._flagship(part), part.cost_per_request.value

    def _priced(self, windows: Sequence[str]) -> bool:
        """Whether enough flagship calls of unescalated cases have a known cost: a handful of audits prices no week."""
        known = self.done.columns.charge(self.done.cascade.tiers[-1].model).known
        return int((known & self.kept & self.within(windows)).sum()) >= PRICED

    def _flagship(self, part: Replay) -> float:
        """Share of the cases that the flagship answered, those a route sent to it included."""
        decided = part.decisions
        there = part.chosen & (decided.settled >= 0) & ~decided.cached
        base = self.done.columns.weights()
        weight = np.ones(len(there)) if base is None else base
        last = there & (decided.settled == len(self.done.cascade.tiers) - 1)
        return float(weight[last].sum() / weight[there].sum()) if there.any() else 0.0

    def audit(self, money: Money | None) -> Audit | None:
        """Weigh what the audit of now cost against what the cascade saved; None where no audit is declared."""
        if money is None or money.per_request is None or not self.batch.has(None, "audit_probability"):
            return None
        now = self.within(self.weeks.now)
        drawn = now & self.kept & ~np.isnan(self.batch.numbers(None, "audit_probability"))
        charge = self.done.columns.charge(self.done.cascade.tiers[-1].model)
        known = drawn & charge.known
        if not known.any():
            return None
        base = self.done.columns.weights()
        decided = self.done.decisions
        there = now & (decided.settled >= 0) & ~decided.cached
        cases = float(there.sum() if base is None else base[there].sum())
        cost = float(charge.nano[known].sum()) * 1e-9 * float(drawn.sum() / known.sum())
        full = money.per_request * cases / money.ratio
        return Audit(int(drawn.sum()), cost, full * (1 - money.ratio), full * (1 - money.low))

    def feedback(self, family: tuple[str, ...], confidence: float) -> Iterator[Feedback]:
        """Yield how what users and labels say changed inside cohorts."""
        if not self.weeks.before:
            return
        before, now = self.within(self.weeks.before), self.within(self.weeks.now)
        codes, members = self.codes(family)
        for name, bad, known in self._said():
            table = [
                np.bincount(codes[rows & known & also], minlength=len(members))
                for rows in (before, now)
                for also in (bad, np.ones_like(bad))
            ]
            yield from changed(name, *table, confidence=confidence)

    def _said(self) -> Iterator[tuple[str, Mask, Mask]]:
        batch = self.batch
        values = users.feedback(batch) if batch.has(None, "feedback") else np.full(1, np.nan)
        known = values[~np.isnan(values)]
        yield from users.said(batch, users.middle(float(known.min()), float(known.max())) if len(known) else 0.0)
        yield from self._labelled()

    def _labelled(self) -> Iterator[tuple[str, Mask, Mask]]:
        """Yield what labels say of the flagship, or of what was served where it did not answer every labelled case."""
        tiers, settled = self.done.cascade.tiers, self.done.decisions.settled
        by_tier = [np.asarray(self.done.columns.quality(tier.model), dtype=np.float64) for tier in tiers]
        served = np.full(self.batch.cases, np.nan)
        for position, quality in enumerate(by_tier):
            served = np.where(settled == position, quality, served)
        flagship, known = ~np.isnan(by_tier[-1]), ~np.isnan(served) & ~self.done.decisions.cached
        # Who is escalated changes with the gate, and which cases the flagship answered with it.
        if flagship.any() and (flagship & known).sum() >= NEARLY * known.sum():
            yield "flagship quality", flagship & (by_tier[-1] < 0.5), flagship
        elif known.any():
            yield "served quality", known & (served < 0.5), known


KEPT: Final = {
    "regenerated": ("regenerated", "regeneration_known"),
    "feedback": ("feedback_bad", "feedback_known"),
    "completed": ("completed_bad", "completed_known"),
    "served quality": ("label_bad", "label_known"),
}
"""What rows of a history know of users and labels: bad outcomes, and those that are known."""


def kept(rows: Sequence[Row], weeks: Split, family: tuple[str, ...], confidence: float) -> Iterator[Feedback]:
    """Yield what users and labels say as far as rows of a history know; `rows` are production rows of one cascade."""
    mine = [row for row in rows if row.family == family]
    place = {cohort: i for i, cohort in enumerate(sorted({row.cohort for row in mine}))}
    for name, fields in KEPT.items():
        table = np.zeros((4, len(place)), dtype=np.int64)
        for row in mine:
            for side, windows in enumerate((weeks.before, weeks.now)):
                if row.window in windows:
                    table[2 * side : 2 * side + 2, place[row.cohort]] += [getattr(row, field) for field in fields]
        yield from changed(name, *table, confidence=confidence)


def changed(
    name: str,
    bad0: NDArray[np.int64],
    known0: NDArray[np.int64],
    bad1: NDArray[np.int64],
    known1: NDArray[np.int64],
    *,
    confidence: float,
) -> Iterator[Feedback]:
    """Compare bad outcomes by cohort before and now; nothing where one of the periods knows none."""
    m, n = int(known0.sum()), int(known1.sum())
    if m and n:
        split = drift.kitagawa(bad0, known0, bad1, known1, confidence=confidence)
        before, now = float(bad0.sum() / m), float(bad1.sum() / n)
        yield Feedback(name, before, now, m, n, split.within, split.low, split.high)


def _promise(value: Floats, agreed: Mask, weight: Floats) -> Overstated | None:
    from scipy.special import ndtr

    if not len(value):
        return None
    p = np.clip(value, 0.0, 1.0)
    total = weight.sum()
    spread = float(np.sqrt((weight**2 * p * (1 - p)).sum()))
    gap = float((weight * (p - agreed)).sum())
    expected, observed = float((weight * p).sum() / total), float((weight * agreed).sum() / total)
    size = float(total**2 / (weight**2).sum())
    return Overstated(expected, observed, size, float(ndtr(-gap / spread)) if spread > 0 else 1.0)


def _sums(cell: NDArray[np.int64], size: int, weight: Floats, hit: Mask) -> Floats:
    """Weights, squared weights, and weights of hits by cell; shape (3, size)."""
    return np.stack([np.bincount(cell, weights=w, minlength=size) for w in (weight, weight**2, weight * hit)])


def _effective(cell: NDArray[np.int64], size: int, weight: Floats, hit: Mask) -> tuple[Floats, Floats]:
    """Weighted rate and plain cases it is worth (Kish), by cell."""
    total, squares, hits = _sums(cell, size, weight, hit)
    rate = np.divide(hits, total, out=np.zeros(size), where=total > 0)
    return rate, np.divide(total**2, squares, out=np.zeros(size), where=squares > 0)


def stored_map(found: Mapping[tuple[str, str, int], Any], cascade: str, tier: str) -> OutOfFold | None:
    """Return the stored map of a tier's first gate; None where it has none."""
    one: OutOfFold | None = found.get((cascade, tier, 0))
    return None if one is None or one.known is None else one
