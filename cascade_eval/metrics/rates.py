"""Rates over what became of the cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval.counts import ANSWERED, DISAGREE, UNANSWERED, UNKNOWN, UNSAMPLED, states
from cascade_eval.metrics.parts import (
    audit_balance,
    audit_words,
    facts,
    layout_of,
    path_reasons,
    sample,
    short,
    to_estimates,
    unread,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade_eval.counts import Counts
    from cascade_eval.metrics.nouns import Compute, Context
    from cascade_eval.metrics.parts import Mask, Sample
    from cascade_eval.verdicts import Estimate


def escalation(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of the cases that started at or below a tier that left it; below the flagship by default."""
    layout, (start, settled, *_) = layout_of(context)
    last = len(context.tiers) - 1
    if name == "escalation":
        started, left = start < last, (start < last) & (settled == last)
    else:
        position = context.tiers.index(name.removeprefix("escalation from "))
        started = (start <= position) & (settled >= position)
        left = started & (settled > position)
    parts = sample(counts, "states", layout.mask(left), layout.mask(started))
    return to_estimates(name, context, parts, reasons=path_reasons(counts, context))


def disagreement(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of unescalated cases whose served answer does not agree; unknown comparisons count against the claim."""
    layout, (start, settled, served, *_) = layout_of(context)
    last = len(context.tiers) - 1
    kept = settled < last
    weights = "v" if context.audit else "w"

    def part(numerator: Mask, denominator: Mask) -> Sample:
        return sample(counts, "states", layout.mask(kept & numerator), layout.mask(kept & denominator), weights=weights)

    looked = kept & (served != UNSAMPLED)
    compared = looked & (served != UNKNOWN)
    known = part(served == DISAGREE, compared)
    worst = (part(served == DISAGREE, looked), part((served == DISAGREE) | (served == UNKNOWN), looked))
    reasons = path_reasons(counts, context)
    raw = counts["states"]
    below, escalated = raw @ layout.mask(start < last), raw @ layout.mask((start < last) & (settled == last))
    unescalated = raw @ layout.mask(kept)
    for i, reason in enumerate(reasons):
        if reason is not None:
            continue
        seen, total = int(known.nobs[i]), int(worst[0].nobs[i])
        left_out = _left_out(counts, i, context) if context.audit and total else None
        if unescalated[i] == 0:
            reasons[i] = (
                "the gates escalated every case, so there is no unescalated answer to compare"
                if below[i] and below[i] == escalated[i]
                else "no unescalated case to judge"
            )
        elif total == 0 or short(seen, total, context.audited):
            reasons[i] = (
                f"audited is {seen:,} of {total or int(unescalated[i]):,} unescalated cases with a known comparison, "
                f"below {context.audited:.0%}: the flagship's answer is missing or failed, or neither answer says anything; `cascade-eval audit plan` says how many to ask for"
            )
        elif left_out is not None:
            reasons[i] = left_out
    return to_estimates(name, context, known, worst=worst, reasons=reasons)


def _left_out(counts: Counts, i: int, context: Context) -> str | None:
    """Say so where an audit's drawn cases stand for far fewer unescalated cases than there are."""
    stands, there, chance = audit_balance(counts, i, context)
    if there - stands <= chance:
        return None
    return f"{audit_words(stands, there)}, so some had no chance to be drawn"


def share(selected: Callable[..., Mask], among: Callable[..., Mask], *, gates: bool = False) -> Compute:
    """Make a plain rate over states from two choices of states, given (start, settled, served, failed, again, last).

    With `gates`, none of them is no finding where every call of the cheaper tiers failed.
    """

    def compute(name: str, counts: Counts, context: Context) -> list[Estimate]:
        layout, digits = layout_of(context)
        last = len(context.tiers) - 1
        denominator = np.broadcast_to(among(*digits, last), digits[0].shape)
        numerator = denominator & selected(*digits, last)
        parts = sample(counts, "states", layout.mask(numerator), layout.mask(denominator))
        reasons = path_reasons(counts, context, gates=False)
        if gates:
            # Where some call failed this way that is a finding; where none did, and all failed, it is none.
            reasons = [
                reason or (None if parts.count[i] else unread(counts, context, i)) for i, reason in enumerate(reasons)
            ]
        return to_estimates(name, context, parts, reasons=reasons)

    return compute


def coverage(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of cases whose path is known."""
    layout = states(len(context.tiers))
    raw = counts["states"]
    known = raw[:, : layout.regular].sum(axis=1)
    return facts(name, known, known + raw[:, layout.unresolved])


def audited(name: str, counts: Counts, context: Context) -> list[Estimate]:
    """Share of unescalated cases (of those an audit drew) whose comparison is known."""
    layout, (_, settled, served, *_) = layout_of(context)
    looked = (settled < len(context.tiers) - 1) & (served != UNSAMPLED)
    raw = counts["states"]
    return facts(name, raw @ layout.mask(looked & (served != UNKNOWN)), raw @ layout.mask(looked))


def _resolved(start: Any, *_: Any) -> Mask:
    return np.ones(start.shape, dtype=np.bool_)


def _at_flagship(start: Any, settled: Any, served: Any, failed: Any, again: Any, last: int) -> Mask:  # noqa: ARG001  one signature for all
    mask: Mask = (settled < last) | (served == UNANSWERED) | (served == ANSWERED)
    return mask


unanswered = share(lambda _s, settled, served, _f, _a, last: (settled == last) & (served == UNANSWERED), _at_flagship)
timeouts = share(lambda _s, _t, _v, failed, _a, _l: (failed & 1) > 0, _resolved, gates=True)
refusals = share(lambda _s, _t, _v, failed, _a, _l: (failed & 2) > 0, _resolved, gates=True)
regeneration = share(lambda *digits: digits[4] == 2, lambda *digits: digits[4] > 0)
