"""Weeks of a suite put together: what was measured now goes before what a history remembers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cascade_eval import history, monitor
from cascade_eval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from cascade_eval.monitor import Row
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic


@dataclass(frozen=True, eq=False)
class Weeks:
    """Rows of many weeks of one suite.

    Parameters
    ----------
    rows
        Of the history and of this traffic; this traffic's weeks replace the history's.
    reason
        Why they cannot be judged; None where they can.
    silent
        Cascades the history has no row of, and why that keeps them from being judged.
    alone
        Whether there is nothing but this traffic.
    notes
        What to say about them.
    later
        Rows the history has after this traffic's last week: they prove nothing about it, and an alarm in them is not
        passed over.
    """

    rows: tuple[Row, ...] = ()
    reason: str | None = None
    silent: Mapping[str, str] = field(default_factory=dict)
    alone: bool = True
    notes: tuple[str, ...] = ()
    later: tuple[Row, ...] = ()


def asked(found: Suite) -> bool:
    """Tell whether a suite has anything to do with weeks."""
    return found.history is not None or any(budget.bound.watched for budget in found.budgets)


def gather(found: Suite, traffic: Traffic, *, executor: Executor | None = None) -> Weeks:
    """Put the weeks of a suite together; nothing is written into its history.

    Parameters
    ----------
    found
        From `suite.load`.
    traffic
        The cases of this run. Of the history, their weeks are left out, and all later ones: what is judged is how
        things stood in the last week of this traffic.
    executor
        Where batches are counted.

    Returns
    -------
    Weeks
        With a reason instead of rows where there is no time, or where a history that is named cannot be read or has
        no row of this suite: a promise over weeks that are lost is not measured.
    """
    try:
        own = monitor.weekly(replace(found, baseline=None), traffic, executor=executor)
    except UsageError as error:
        return Weeks(reason=f"no week can be told: {_said(error)}")
    if found.history is None:
        return Weeks(own, notes=tuple(_alone(own)))
    shown = shown_as(found.history)
    try:
        kept = history.read(place(found))
    except (UsageError, OSError) as error:
        return Weeks(reason=f"the history {shown} cannot be read: {_said(error)}")
    mine = [row for row in kept if row.suite == own[0].suite]
    try:
        refuse_namesake(found, mine, shown)
    except UsageError as error:
        return Weeks(reason=_said(error))
    if not mine:
        return Weeks(reason=_other(shown, own[0].suite, kept, _command(found)))
    return _joined(own, mine, shown, _command(found))


def place(found: Suite, *, there: bool = True) -> str:
    """Find the history a suite names, seen from the suite.

    Parameters
    ----------
    found
        A suite with a history.
    there
        Whether a SQLite file has to be there: it is made by writing and not by reading.

    Raises
    ------
    UsageError
        It has to be there, and is not.
    """
    where = found.history or ""
    kind, separator, rest = where.partition(":///")
    if not kind.startswith("sqlite") or not separator:
        return found.resolve(where)
    name, mark, options = rest.partition("?")
    path = found.base / name
    if there and not path.is_file():
        raise UsageError(f"there is no such database file as {path}")
    return f"{kind}:///{path.resolve()}{mark}{options}"


def refuse_namesake(found: Suite, kept: Sequence[Row], shown: str) -> None:
    """Refuse a history that keeps another suite's weeks under this one's name: each would vouch for the other.

    Parameters
    ----------
    found
        Whose weeks are to be read or written.
    kept
        Rows of the history.
    shown
        The history, as messages name it.

    Raises
    ------
    UsageError
        Names the other suite.
    """
    if (other := monitor.namesake(found, kept)) is not None:
        raise UsageError(
            f"the history {shown} keeps weeks of {other} under the same name, '{monitor.known_as(found)}'. Call one of the "
            "suites otherwise, or give each a history of its own."
        )


def _joined(own: Sequence[Row], kept: Sequence[Row], shown: str, command: str) -> Weeks:
    own, apart = monitor.without_late(own, kept)
    last = max(row.window for row in own)
    judged = dict.fromkeys(row.cascade for row in own)
    # A whole week at once: a cohort that is missing now is not to be vouched for by what was kept of it.
    replaced = {(row.cascade, row.kind, row.window) for row in own}
    past = [row for row in kept if row.window <= last and (row.cascade, row.kind, row.window) not in replaced]
    past = [row for row in past if row.cascade in judged]
    later = tuple(row for row in kept if row.window > last and row.cascade in judged and row.kind == "production")
    after = len({row.window for row in later})
    notes = [f"the history {shown} has {after:,} weeks after {last}, the last of this traffic; they were left out"]
    known = {row.cascade for row in kept if row.kind == "production"}
    silent = {
        name: f"the history {shown} has no week of the cascade '{name}'. Add one: {command}"
        for name in judged
        if name not in known
    }
    said = (*apart, *(notes if later else ()))
    return Weeks((*past, *own), None, silent, alone=not past, notes=said, later=later)


def _alone(own: Sequence[Row]) -> Iterator[str]:
    windows = len({row.window for row in own})
    yield (
        f"no 'history:' is named, so promises that are watched weekly rest on the {windows:,} "
        f"week{'' if windows == 1 else 's'} of this traffic alone"
    )


def _other(shown: str, name: str, kept: Sequence[Row], command: str) -> str:
    names = sorted({row.suite for row in kept})
    has = f"it has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "it is empty"
    return f"the history {shown} has no week of '{name}' ({has}). Add one: {command}"


def _command(found: Suite) -> str:
    where = '"$HISTORY"' if "://" in (found.history or "") else os.path.relpath(found.resolve(found.history or ""))
    return f"cascade-eval monitor {found.name} --history {where}"


def _said(error: Exception) -> str:
    problems = getattr(error, "problems", None)
    if not problems:
        return str(error)
    return "; ".join(problem.message.rstrip(".") for problem in problems[:3])


def shown_as(where: str) -> str:
    """Name a history without whatever could be a password."""
    if "://" not in where:
        return where
    parts = urlsplit(where)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
