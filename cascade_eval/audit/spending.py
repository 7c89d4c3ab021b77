"""What an audit costs beside what it guards: the saving of the cascade it looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval.audit import window
from cascade_eval.audit.reading import Spend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade_eval.audit.window import Window
    from cascade_eval.replay import Replay


@dataclass(frozen=True)
class Worth:
    """An audit's cost beside the cascade's saving.

    Parameters
    ----------
    usd_per_week, saved_per_week
        Dollars; None where unknown.
    share
        Cost over saving: above 1 the audit costs more than it guards. None where either is unknown, infinite where
        nothing is saved.
    pays
        Whether it costs less; None where that is unknown.
    weeks
        Smallest whole number of weeks between two audits of this size at which they cost less; None where there is none.
    reason
        Why something is unknown.
    """

    usd_per_week: float | None
    saved_per_week: float | None
    share: float | None
    pays: bool | None
    weeks: int | None
    reason: str | None = None


def worth(spend: Spend, *, days: float) -> Worth:
    """Compare what an audit cost with what the cascade saved in the window it looked at.

    Parameters
    ----------
    spend
        From `Reading.spend`, or from `spent`.
    days
        Length of the window.

    Returns
    -------
    Worth

    Examples
    --------
    An audit of $6 in a week in which the cascade saved $4 pays every other week:

    >>> found = worth(Spend(300, 6.0, 4.0), days=7)
    >>> found.share, found.pays, found.weeks
    (1.5, False, 2)
    """
    if not days > 0:
        raise ValueError(f"a window is longer than {days} days")
    if spend.usd is None or spend.saved is None:
        return Worth(None, None, None, None, None, spend.reason or "cost or saving is unknown")
    cost, saved = spend.usd * 7 / days, spend.saved * 7 / days
    if saved <= 0:
        return Worth(cost, saved, math.inf if cost > 0 else None, cost <= 0 and saved >= 0, None)
    # An audit of this size every k weeks guards k weeks of saving; it has to cost less, not as much.
    weeks = max(1, math.floor(spend.usd / saved) + 1)
    return Worth(cost, saved, cost / saved, cost < saved, weeks)


def spent(of: Window) -> Spend:
    """Work out what a declared audit of a window cost, and what the cascade saved in it.

    The audit's calls are those of the flagship on unescalated cases that it drew (`audit_probability`). What always asking
    the flagship would have cost is estimated from them, each standing for one over its chance to be drawn.

    Parameters
    ----------
    of
        A replay of traffic with an audit merged into it, or replays of its pieces.

    Returns
    -------
    Spend
        Without dollars, and with the reason, where no audit is declared, none of its calls was made, or costs are unknown.
        Calls of a judge are not in it.
    """
    parts: list[tuple[int, int, float, float]] = []

    def watched() -> Iterator[Replay]:
        for piece in window.pieces(of):
            part = _audited(piece)
            parts.extend([] if part is None else [part])
            yield piece

    # One look at each piece: a window may be read from files, one batch after the other.
    seen = window.look(watched(), ())
    if not parts:
        return Spend(0, None, None, "the traffic declares no audit (`audit_probability`)")
    calls, unpriced = sum(part[0] for part in parts), sum(part[1] for part in parts)
    paid, always = sum(part[2] for part in parts), sum(part[3] for part in parts)
    if not calls:
        return Spend(0, None, None, "the audit asked nothing: no drawn case has a call of the flagship")
    if unpriced:
        return Spend(calls, None, None, f"the cost of {unpriced:,} of {calls:,} audit calls is unknown")
    if seen.unknown:
        return Spend(calls, paid / 1e9, None, f"what {seen.unknown:,} cases of the window cost is unknown")
    return Spend(calls, paid / 1e9, (always - seen.paid_nano) / 1e9)


def _audited(piece: Replay) -> tuple[int, int, float, float] | None:
    """Count the calls an audit made in a piece and those of unknown cost, and add up their nano-dollars and what they stand for."""
    batch = piece.columns.batch
    if not batch.has(None, "audit_probability"):
        return None
    chance = batch.numbers(None, "audit_probability").astype(np.float64)
    charge = piece.columns.charge(piece.cascade.flagship.model)
    asked = window.unescalated(piece) & ~np.isnan(chance) & (piece.columns.status(piece.cascade.flagship.model) >= 0)
    known = asked & charge.known
    weight = piece.columns.weights()
    stands = (np.ones(batch.cases) if weight is None else weight)[known] / chance[known]
    nano = charge.nano[known]
    return int(asked.sum()), int((asked & ~charge.known).sum()), float(nano.sum()), float((nano * stands).sum())
