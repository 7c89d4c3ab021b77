"""The configuration that is tested: tiers, gates, routes.

A cascade is an ordered list of tiers; the last one is the flagship, the reference for every other answer. Every
other tier has a gate: a signal with a threshold, or several combined by `all` / `any`. Routes decide where a case
starts, before any call.

These are plain values. `cascade_eval.suite` reads them from YAML; `cascade_eval.replay` applies them to traffic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Signal:
    """What a gate looks at: a recorded numeric column or a built-in, with its options.

    Parameters
    ----------
    name
        `confidence` or any recorded column, or a built-in such as `logprob`. `recorded` with the option
        `column` addresses a column that bears a built-in's name.
    options
        As written in the suite; validated by the signal.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """One string for the same signal with the same options."""
        return f"{self.name} {json.dumps(dict(self.options), sort_keys=True)}" if self.options else self.name

    def __str__(self) -> str:
        if not self.options:
            return self.name
        if self.name == "recorded":
            return str(self.options.get("column"))
        return f"{self.name} ({', '.join(f'{k}: {v}' for k, v in self.options.items())})"


@dataclass(frozen=True)
class Calibrate:
    """Turn a raw signal into a probability of agreement before it is compared.

    Parameters
    ----------
    kind
        ``platt``, ``isotonic`` or ``hierarchical``; ``stored`` when `file` is given.
    per
        Cohort columns the map may differ by; empty means one map for all.
    file
        A stored calibration, relative to the suite; None means fitted out of fold on the judged data.
    """

    kind: Literal["platt", "isotonic", "hierarchical", "stored"]
    per: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True)
class Leaf:
    """A gate on one signal: it settles where the value is at least the threshold.

    Parameters
    ----------
    signal
        What is compared.
    threshold
        Settles at value >= threshold (`surer` higher) or value <= threshold (lower); equality settles.
    escalate
        Instead of a threshold: the share of cases to escalate, 0 to 1, turned into the quantile of the raw signal
        in the judged data.
    calibrate
        Compare the calibrated value.
    surer
        Which direction means surer.
    name
        To address this leaf in a sweep of a composite gate.
    chosen_on
        Sketch of the cases, or SHA-256 of the data, whose agreement chose the threshold; on those it proves nothing.
    """

    signal: Signal
    threshold: float | None = None
    escalate: float | None = None
    calibrate: Calibrate | None = None
    surer: Literal["higher", "lower"] = "higher"
    name: str | None = None
    chosen_on: str | None = None


@dataclass(frozen=True)
class All:
    """Settles when every gate settles; evaluated in written order, stopping when decided."""

    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class AnyOf:
    """Settles when one gate settles; evaluated in written order, stopping when decided."""

    gates: tuple[Gate, ...]


Gate: TypeAlias = Leaf | All | AnyOf


@dataclass(frozen=True)
class Tier:
    """One model in its place.

    Parameters
    ----------
    name
        Its name in the cascade.
    model
        The recorded model that answers for it.
    gate
        Settles or escalates; None only for the flagship.
    timeout
        Seconds after which its answer no longer counts; a slower call escalates and is paid.
    hedged
        Start the next tier at once; both are paid, latency is the maximum when it escalates.
    """

    name: str
    model: str
    gate: Gate | None = None
    timeout: float | None = None
    hedged: bool = False


@dataclass(frozen=True)
class Route:
    """Cases whose columns have one of these values start at this tier.

    Parameters
    ----------
    when
        Allowed values by case column; all columns must match.
    start
        Name of the tier.
    """

    when: Mapping[str, tuple[str, ...]] = field(hash=False)
    start: str


@dataclass(frozen=True)
class Cascade:
    """Tiers in order, cheapest first; the last is the flagship.

    Parameters
    ----------
    name
        As the suite names it.
    tiers
        At least one. A cascade of one tier is always-flagship.
    routes
        Tried in order; the first that matches decides where a case starts.
    definition
        The same as plain JSON, complete enough to be read back from evidence.
    """

    name: str
    tiers: tuple[Tier, ...]
    routes: tuple[Route, ...] = ()
    definition: Any = field(default=None, hash=False, compare=False)

    @property
    def flagship(self) -> Tier:
        """The last tier."""
        return self.tiers[-1]

    def position(self, name: str) -> int:
        """Position of the tier called `name`."""
        return next(i for i, tier in enumerate(self.tiers) if tier.name == name)


def leaves(gate: Gate | None) -> Iterator[Leaf]:
    """Every leaf of a gate, in the order in which it is evaluated.

    Examples
    --------
    >>> gate = All((Leaf(Signal("schema"), 1.0), Leaf(Signal("confidence"), 0.8)))
    >>> [leaf.signal.name for leaf in leaves(gate)]
    ['schema', 'confidence']
    """
    if isinstance(gate, Leaf):
        yield gate
    elif gate is not None:
        for child in gate.gates:
            yield from leaves(child)
