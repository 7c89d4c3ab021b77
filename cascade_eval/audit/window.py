"""What an audit needs to know of a window of traffic: a replay of it, or one replay for each of its pieces.

A window is a `Replay` (a slice of one is a window, too), or any number of replays of distinct cases, such as the
batches of a file too large for memory. Counts add, so the pieces may come in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cascade_eval import cohorts
from cascade_eval.errors import UsageError
from cascade_eval.metrics import Context  # noqa: TC001  a field of a public value
from cascade_eval.metrics.parts import short
from cascade_eval.replay import Replay, Rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.cohorts import Member

Window: TypeAlias = Replay | Iterable[Replay]


@dataclass(eq=False)
class Seen:
    """Sums over a window.

    Parameters
    ----------
    cascade, rules, context
        Of the replays.
    family
        Cohort columns.
    cases, unescalated
        By member of the family; `cases` counts all of them, as the pooling of small cohorts does.
    resolved, unresolved
        Cases with and without a known path.
    asked, asked_nano
        Flagship calls of known cost, and their nano-dollars.
    paid_nano
        Nano-dollars spent beyond the flagship's own calls, weighted: what always asking it would not have cost.
    unknown
        Cases of which that is unknown.
    """

    cascade: Cascade
    rules: Rules
    context: Context
    family: tuple[str, ...]
    cases: dict[Member, int] = field(default_factory=dict)
    unescalated: dict[Member, int] = field(default_factory=dict)
    resolved: int = 0
    unresolved: int = 0
    asked: int = 0
    asked_nano: int = 0
    paid_nano: float = 0.0
    unknown: int = 0


def pieces(window: Window) -> Iterator[Replay]:
    """Yield the replays of a window; UsageError where there is none."""
    if isinstance(window, Replay):
        yield window
        return
    empty = True
    for piece in window:
        empty = False
        yield piece
    if empty:
        raise UsageError("an audit needs a replay of the window it is drawn from, and there is none.")


def look(window: Window, family: tuple[str, ...]) -> Seen:
    """Add up what a plan and a reading need.

    Raises
    ------
    UsageError
        Too few paths are known to say which cases were not escalated.
    """
    seen: Seen | None = None
    for piece in pieces(window):
        seen = seen or Seen(piece.cascade, piece.columns.rules, piece.context, family)
        _count(seen, piece)
        _charge(seen, piece)
    assert seen is not None
    total = seen.resolved + seen.unresolved
    if total == 0 or short(seen.resolved, total, seen.context.coverage):
        raise UsageError(
            f"only {seen.resolved:,} of {total:,} cases have a known path, so nobody can say which were not escalated: "
            f"rows of a cheaper tier or a signal column are missing ({seen.context.coverage:.0%} are needed)."
        )
    return seen


def unescalated(piece: Replay) -> NDArray[np.bool_]:
    """Which cases of the whole batch a cheaper tier settled, shape (n_cases,)."""
    settled, last = piece.decisions.settled, len(piece.cascade.tiers) - 1
    found: NDArray[np.bool_] = piece.chosen & ~piece.decisions.cached & (settled >= 0) & (settled < last)
    return found


def _count(seen: Seen, piece: Replay) -> None:
    codes = piece.columns.codes(seen.family)
    size = len(codes.members)
    every = np.bincount(codes.codes[piece.chosen], minlength=size).tolist()
    kept = np.bincount(codes.codes[unescalated(piece)], minlength=size).tolist()
    for member, cases, below in zip(codes.members, every, kept, strict=True):
        seen.cases[member] = seen.cases.get(member, 0) + cases
        seen.unescalated[member] = seen.unescalated.get(member, 0) + below
    asked = piece.chosen & ~piece.decisions.cached
    seen.resolved += int((asked & (piece.decisions.settled >= 0)).sum())
    seen.unresolved += int((asked & (piece.decisions.settled < 0)).sum())


def _charge(seen: Seen, piece: Replay) -> None:
    decisions, last = piece.decisions, len(piece.cascade.tiers) - 1
    flagship = piece.columns.charge(piece.cascade.flagship.model)
    known = piece.chosen & flagship.known
    seen.asked += int(known.sum())
    seen.asked_nano += int(flagship.nano[known].sum())
    below = unescalated(piece)
    up = piece.chosen & ~decisions.cached & (decisions.settled == last)
    extra = np.where(up, decisions.cost - flagship.nano, decisions.cost)
    priced = decisions.cost_known & (flagship.known | below)
    weight = piece.columns.weights()
    part = (below | up) & priced
    seen.paid_nano += float((extra[part] if weight is None else extra[part] * weight[part]).sum())
    seen.unknown += int(((below | up) & ~priced).sum())


class Strata:
    """Which stratum each member of a family belongs to, small members pooled.

    Parameters
    ----------
    family
        Cohort columns.
    names
        Text of each stratum, in order, as `text` writes it.
    """

    def __init__(self, family: tuple[str, ...], names: Sequence[str]) -> None:
        self.family = family
        self.names = tuple(names)
        self._place = {name: place for place, name in enumerate(names)}
        allowed = [set[str]() for _ in family]
        for name in names:
            for values, value in zip(allowed, json.loads(name).values(), strict=True):
                values.add(value)
        self._values = allowed

    def place(self, member: Member) -> int:
        """Position of a member's stratum, -1 where it has none."""
        own = self._place.get(text(self.family, member))
        if own is not None:
            return own
        pooled = tuple(
            value if value in values else cohorts.OTHER for value, values in zip(member, self._values, strict=True)
        )
        return self._place.get(text(self.family, pooled), -1)

    def codes(self, piece: Replay) -> NDArray[np.int64]:
        """Stratum of each case of the batch, -1 where it has none."""
        codes = piece.columns.codes(self.family)
        places = np.array([self.place(member) for member in codes.members], dtype=np.int64)
        return places[codes.codes]


def text(family: tuple[str, ...], member: Member) -> str:
    """Write a stratum as the sample stores it.

    Examples
    --------
    >>> text(("language",), ("fr",)), text((), ())
    ('{"language": "fr"}', '{}')
    """
    return json.dumps(cohorts.mapping(family, member), ensure_ascii=False)


def label(cohort: Mapping[str, str]) -> str:
    """Write a cohort as item ids and budgets write it.

    Examples
    --------
    >>> label({"language": "fr"}), label({})
    ('language=fr', 'overall')
    """
    return cohorts.label(tuple(cohort), tuple(cohort.values()))
