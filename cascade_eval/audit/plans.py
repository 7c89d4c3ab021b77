"""A plan of an audit: what each cohort gets, as a value and as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade_eval.audit import window
from cascade_eval.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "cascade-eval/audit-plan/1"

MOST: Final = 100_000
"""Floors above this are not named."""


@dataclass(frozen=True)
class Stratum:
    """One cohort of a plan.

    Parameters
    ----------
    cohort
        Value by column; empty where all traffic is one stratum.
    unescalated
        Its unescalated cases in the window.
    limit
        Its budget "at most", as a fraction.
    prior
        The rate expected of it.
    prior_from
        Where that comes from, in words.
    floor
        Calls from which it is decided with the plan's power, if the prior is true; None above 100,000.
    calls
        Calls it gets.
    chance
        Chance that these calls decide it, if the prior is true.
    """

    cohort: Mapping[str, str]
    unescalated: int
    limit: float
    prior: float
    prior_from: str
    floor: int | None
    calls: int
    chance: float

    @property
    def label(self) -> str:
        """As item ids and budgets write it."""
        return window.label(self.cohort)

    @property
    def decided(self) -> bool:
        """Whether it gets the calls that decide it."""
        return self.floor is not None and self.calls >= self.floor


@dataclass(frozen=True)
class Outlook:
    """What the plan does for the overall rate.

    Parameters
    ----------
    expected
        The rate, if every prior is true.
    effective
        Plain cases the weighted sample will be worth; 0 where a cohort gets no call, because then it is unknown.
    limit
        The overall budget; None where there is none.
    needed
        Plain cases that decide it; None above 100,000 or without a budget.
    """

    expected: float
    effective: float
    limit: float | None
    needed: int | None

    @property
    def decided(self) -> bool:
        """Whether the overall budget will be decided with the plan's power, if every prior is true."""
        return self.needed is not None and self.effective >= self.needed


@dataclass(frozen=True)
class Plan:
    """An audit, planned.

    Parameters
    ----------
    cascade, model
        Whose unescalated cases, and the flagship that is asked.
    per
        Cohort columns.
    strata
        One for each cohort with unescalated cases.
    overall
        What it does for the overall rate.
    confidence, power
        Of the verdicts it is planned for.
    cases, usd
        The caps, as given.
    usd_per_call, price_from
        What a call costs and where that comes from; None where nothing is known.
    created_at
        UTC, ISO 8601.
    notes
        What was assumed.
    """

    cascade: str
    model: str
    per: tuple[str, ...]
    strata: tuple[Stratum, ...]
    overall: Outlook
    confidence: float
    power: float
    cases: int | None
    usd: float | None
    usd_per_call: float | None
    price_from: str
    created_at: str
    notes: tuple[str, ...] = ()

    @property
    def calls(self) -> int:
        """Flagship calls."""
        return sum(stratum.calls for stratum in self.strata)

    @property
    def seed(self) -> str:
        """What its sample is drawn by unless someone says otherwise: of a window there is one, whatever is spent on it."""
        window_ = [self.cascade, self.model, [[dict(each.cohort), each.unescalated] for each in self.strata]]
        return hashlib.sha256(json.dumps(window_, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def spend(self) -> float | None:
        """Expected dollars; None where no price is known."""
        return None if self.usd_per_call is None else self.calls * self.usd_per_call

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """One sentence for each cohort that cannot be decided: why, and what it would take."""
        return tuple(_shortfall(each, self.usd_per_call) for each in self.strata if not each.decided)

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON stores it; `load_plan` reads it back."""
        return {
            "schema": SCHEMA,
            **{name: value for name, value in asdict(self).items() if name not in {"strata", "overall"}},
            "strata": [{**asdict(each), "decided": each.decided} for each in self.strata],
            "overall": {**asdict(self.overall), "decided": self.overall.decided},
            "calls": self.calls,
            "spend": self.spend,
            "seed": self.seed,
            "shortfalls": list(self.shortfalls),
        }


def priors(record: Mapping[str, Any]) -> dict[str, float | tuple[int, int]]:
    """Read expected rates: the record of an earlier `Reading`, or a mapping from cohorts to rates or [count, nobs].

    Raises
    ------
    UsageError
        With every entry that is neither.

    Examples
    --------
    >>> priors({"language=fr": 0.04, "language=nl": [3, 60]})
    {'language=fr': 0.04, 'language=nl': (3, 60)}
    """
    if "cohorts" in record and "schema" in record:
        return {
            window.label(each["cohort"]): (int(each["disagree"]), int(each["answered"]))
            for each in record["cohorts"]
            if each["answered"]
        }
    problems = [
        Problem(f"the prior of '{name}' is {value!r}; write a rate such as 0.04, or [count, cases] such as [3, 60].")
        for name, value in record.items()
        if rate(value) is None
    ]
    if problems:
        raise UsageError(problems)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def load_plan(path: str | Path) -> Plan:
    """Read a plan back from its JSON.

    Raises
    ------
    UsageError
        There is no such file, or it is no plan.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise UsageError(
                [Problem(f"is not an audit plan (schema {record['schema']!r}, not {SCHEMA!r})", str(path))]
            )
        return _restored(record)
    except OSError as error:
        raise UsageError([Problem(f"cannot be read: {error.strerror}", str(path))]) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError([Problem(f"is not an audit plan: {error}", str(path))]) from error


def _restored(record: Mapping[str, Any]) -> Plan:
    strata = tuple(Stratum(**{k: v for k, v in each.items() if k != "decided"}) for each in record["strata"])
    overall = Outlook(**{k: v for k, v in record["overall"].items() if k != "decided"})
    derived = {"schema", "strata", "overall", "calls", "spend", "seed", "shortfalls", "per", "notes"}
    rest = {name: value for name, value in record.items() if name not in derived}
    calls = [each.calls for each in strata]
    if not strata or any(not isinstance(n, int) or n < 0 for n in calls):
        raise ValueError(f"calls are whole numbers, not {calls}")
    return Plan(strata=strata, overall=overall, per=tuple(record["per"]), notes=tuple(record["notes"]), **rest)


def rate(value: Any) -> float | None:
    """Return the rate a prior gives; None where it is no prior.

    Examples
    --------
    >>> rate(0.04), rate((3, 12)), rate("4%")
    (0.04, 0.25, None)
    """
    if isinstance(value, (list, tuple)):
        if len(value) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
            return None
        count, nobs = value
        return count / nobs if 0 <= count <= nobs and nobs else None
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if ok else None


def _shortfall(stratum: Stratum, price: float | None) -> str:
    prior = f"expected rate {100 * stratum.prior:.3g}%, budget {100 * stratum.limit:.3g}%"
    if stratum.floor is None:
        return f"{stratum.label}: over {MOST:,} calls would be needed, the {prior}: too near to tell apart."
    dollars = "" if price is None else f" (${stratum.floor * price:,.2f})"
    sentence = (
        f"{stratum.label}: {stratum.floor:,} calls{dollars} would decide it, and it gets {stratum.calls:,}; {prior}."
    )
    if stratum.floor > stratum.unescalated:
        times = stratum.floor / stratum.unescalated
        sentence += (
            f" This window has {stratum.unescalated:,} such cases: take one {times:.1f} times as long, or pool it."
        )
    return sentence
