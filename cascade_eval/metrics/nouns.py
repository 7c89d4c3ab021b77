"""What a metric is, and what its function needs to know beside the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cascade_eval.counts import Counts
from cascade_eval.verdicts import Estimate

Unit = Literal["rate", "ratio", "points", "seconds", "dollars", "days"]


@dataclass(frozen=True)
class Context:
    """What the functions need to know beside the counts.

    Parameters
    ----------
    tiers
        Names, cheapest first.
    confidence
        Of each bound on its own side.
    coverage, audited
        Floors: shares below which a verdict was not measured.
    leaves
        What each gated signal is called, in the order of the table ``signals``.
    limits
        Latency budgets in seconds, in the order of the table ``slower``.
    audit
        Whether the traffic declares an audit, so that disagreement is weighted.
    problems
        Why a metric cannot be computed at all, by metric.
    facts
        Numbers that are not counted, such as the age of a calibration, by metric.
    """

    tiers: tuple[str, ...]
    confidence: float = 0.95
    coverage: float = 0.99
    audited: float = 0.99
    leaves: tuple[str, ...] = ()
    limits: tuple[float, ...] = ()
    audit: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)


Compute: TypeAlias = Callable[[str, Counts, Context], list[Estimate]]


@dataclass(frozen=True)
class Metric:
    """A number a budget can be set on.

    Parameters
    ----------
    name
        As written in a suite.
    unit
        ``rate`` (0 to 100%), ``ratio`` (% that may exceed 100), ``points``, ``seconds``, ``dollars`` or ``days``.
    help
        One sentence: what it is, of what.
    compute
        Estimates of every member from their counts.
    """

    name: str
    unit: Unit
    help: str
    compute: Compute | None = None


def blank(name: str, unit: Unit, reason: str, *, nobs: int | None = 0) -> Estimate:
    """Make an estimate of what could not be measured: no value, a reason, and blocked."""
    return Estimate(name, None, nobs=nobs, unit=unit, reason=reason, blocked=True, method="none")
