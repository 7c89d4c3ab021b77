"""What a signal has to say of itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from cascade_eval import errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch, Field

Options: TypeAlias = Mapping[str, Any]
Direction: TypeAlias = Literal["higher", "lower"]


class Call(NamedTuple):
    """A call that is paid when a gate reads a signal: one of another model, or the extra samples of this one."""

    model: str
    kind: Literal["call", "samples"] = "call"


@dataclass(frozen=True)
class Option:
    """One option of a signal and what it may say.

    Parameters
    ----------
    help
        One sentence.
    kind
        ``number``, ``text``, ``flag``, ``names`` (a list of texts) or ``mapping``.
    default
        Used where the suite does not say; ignored when `required`.
    choices
        The only texts or names allowed; empty allows all.
    low, high
        Bounds of a number, both allowed.
    required
        Whether the suite must say.
    problem
        Looks at a value of the right kind and returns what is wrong with it, None where nothing is.
    """

    help: str
    kind: Literal["number", "text", "flag", "names", "mapping"] = "text"
    default: Any = None
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    required: bool = False
    problem: Callable[[Any], str | None] | None = None

    def check(self, value: object) -> str | None:
        """Return what is wrong with a value, None where nothing is.

        Examples
        --------
        >>> Option("Which.", choices=("mean", "minimum")).check("minimun")
        "'minimun' is not allowed. Did you mean 'minimum'?"
        >>> Option("How far.", kind="number", low=0, high=1).check(2)
        '2 is not a number from 0 to 1'
        """
        if not _is(value, self.kind):
            return f"{value!r} is not {_KINDS[self.kind]}"
        if self.kind == "number" and not self.low <= value <= self.high:  # type: ignore[operator]  # it is a number
            return f"{value!r} is not a number from {self.low:g} to {self.high:g}"
        if self.choices:
            for word in value if isinstance(value, (list, tuple)) else [value]:
                if word not in self.choices:
                    return f"'{word}' is not allowed.{errors.did_you_mean(str(word), self.choices)}"
        return self.problem(value) if self.problem else None


_KINDS = {
    "number": "a number",
    "text": "a text",
    "flag": "true or false",
    "names": "a list of texts",
    "mapping": "a mapping",
}


def _is(value: object, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind == "names":
        return isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value)
    return isinstance(value, {"text": str, "flag": bool, "mapping": Mapping}[kind])


def _no_calls(_model: str, _options: Options) -> tuple[Call, ...]:
    return ()


def _no_problems(_options: Options) -> list[str]:
    return []


@dataclass(frozen=True)
class Definition:
    """A signal.

    Parameters
    ----------
    name
        As a suite writes it.
    compute
        From a batch, the gated model and complete options to floats of shape (cases,); NaN where there is no signal.
    columns
        From the model and complete options to the columns `compute` reads.
    help
        One sentence: what it is.
    cost
        What reading it costs, in words.
    source
        Where the idea or the formula comes from.
    options
        By name.
    low, high
        Its range.
    surer
        Which direction means surer; a function of the options where that depends on them.
    calls
        From the model and complete options to the calls that are paid when a gate reads it.
    problems
        From complete options to what is wrong with their combination.
    """

    name: str
    compute: Callable[[Batch, str, Options], NDArray[np.floating]]
    columns: Callable[[str, Options], frozenset[Field]]
    help: str
    cost: str
    source: str
    options: Mapping[str, Option] = field(default_factory=dict)
    low: float = 0.0
    high: float = 1.0
    surer: Direction | Callable[[Options], Direction] = "higher"
    calls: Callable[[str, Options], tuple[Call, ...]] = _no_calls
    problems: Callable[[Options], list[str]] = _no_problems
