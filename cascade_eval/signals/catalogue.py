"""Which signals there are, and what a name in a gate means."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import errors
from cascade_eval.signals import recorded
from cascade_eval.signals.definition import Call, Definition, Direction, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from importlib.metadata import EntryPoint

    from numpy.typing import NDArray

    from cascade_eval.cascade import Signal
    from cascade_eval.traffic.batch import Batch

GROUP = "cascade_eval.signals"
"""Entry-point group in which other packages offer a `Definition` under its name."""

BUILT_IN = (
    "agreement",
    "hedging",
    "judge",
    "length",
    "logprob",
    "recorded",
    "regex",
    "schema",
    "self_consistency",
    "self_reported",
)
"""Signals of this package; each is the module of that name."""


_NO_SIGNALS = frozenset(
    {"answer", "status", "served_model", "finish_reason", "reason", "asked_at", "call", "attempts", "judged"}
    | {"samples", "token_logprobs", "top_logprobs"}
)
"""Columns that hold text or lists and so are no signal by themselves."""

_JOIN = " Repeats in rows of their own become samples by `cascade-eval record … --collect FILE`."


def names() -> tuple[str, ...]:
    """Return the names of all built-in and installed signals, sorted.

    Examples
    --------
    >>> "logprob" in names()
    True
    """
    return tuple(sorted({*BUILT_IN, *_installed()}))


def find(name: str) -> Definition | None:
    """Return the built-in or installed signal of that name, None where there is none.

    Raises
    ------
    UsageError
        A package offers a signal under the name of a built-in, or something that is no `Definition` of that name.

    Examples
    --------
    >>> find("logprob").surer({"statistic": "probability"}), find("confidence")
    ('higher', None)
    """
    if name in BUILT_IN:
        _refuse_shadows()
        definition: Definition = importlib.import_module(f"cascade_eval.signals.{name}").SIGNAL
        return definition
    points = _installed()
    return _load(points[name]) if name in points else None


@cache
def _installed() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _refuse_shadows() -> None:
    shadows = [_installed()[name] for name in BUILT_IN if name in _installed()]
    if shadows:
        raise errors.UsageError(
            f"{_owner(point)} offers a signal called '{point.name}', which is built in. Remove that package or rename its signal."
            for point in shadows
        )


def _owner(point: EntryPoint) -> str:
    return f"the installed package '{point.dist.name}'" if point.dist else f"the entry point '{point.value}'"


@cache
def _load(point: EntryPoint) -> Definition:
    try:
        definition = point.load()
    except Exception as error:  # whatever a foreign package raises when it is imported
        raise errors.UsageError(
            f"{_owner(point)} offers the signal '{point.name}', which cannot be imported: {error}"
        ) from error
    if not isinstance(definition, Definition) or definition.name != point.name:
        raise errors.UsageError(
            f"{_owner(point)} offers {definition!r} as the signal '{point.name}'; allowed: a cascade_eval.signals.Definition of that name"
        )
    return definition


def _resolve(signal: Signal) -> tuple[Definition, Options]:
    """Return the definition and complete options of a signal; every other name is a recorded column."""
    definition = find(signal.name)
    if definition is None:
        return recorded.SIGNAL, {"column": signal.name}
    return definition, {**{name: option.default for name, option in definition.options.items()}, **signal.options}


def check(signal: Signal, available: Collection[Field] | None, model: str) -> list[str]:
    """Return everything that is wrong with a signal as a suite writes it, in words.

    Parameters
    ----------
    signal
        Name and options.
    available
        Every recorded field, or None where the traffic is not known yet; only then any name may be a column.
    model
        The model whose answers are gated.

    Examples
    --------
    >>> from cascade_eval.cascade import Signal
    >>> check(Signal("logprob", {"statistik": "mean"}), None, "mini")
    ["unknown option 'statistik' of logprob. Did you mean 'statistic'?"]
    >>> check(Signal("logprobs"), {Field("mini", "confidence")}, "mini")
    ["unknown signal 'logprobs'. Did you mean 'logprob'?"]
    """
    definition = find(signal.name)
    if definition is None:
        return _check_column(signal, available, model)
    problems = [problem for name, value in signal.options.items() for problem in _check_option(definition, name, value)]
    problems += [
        f"{definition.name} needs the option '{name}': {option.help}"
        for name, option in definition.options.items()
        if option.required and name not in signal.options
    ]
    if problems:
        return problems
    complete = _resolve(signal)[1]
    problems = [f"{definition.name}: {problem}" for problem in definition.problems(complete)]
    problems = problems or _check_needs(definition, complete, available, model)
    if definition is recorded.SIGNAL:
        problems += _check_column(type(signal)(complete["column"]), available, model)
    elif signal.name not in BUILT_IN and available is not None and Field(model, signal.name) in available:
        problems.append(
            f"'{signal.name}' is both a recorded column of '{model}' and an installed signal; "
            f"write {{recorded: {signal.name}}} for the column, or rename one of them"
        )
    return problems


def _check_needs(
    definition: Definition, options: Options, available: Collection[Field] | None, model: str
) -> list[str]:
    """Refuse a built-in signal of which not one column was recorded: it could say nothing in any case."""
    if available is None or definition is recorded.SIGNAL or definition.name not in BUILT_IN:
        return []
    fields = definition.columns(model, options)
    here = {field.model for field in available}
    if not fields or fields & set(available) or any(field.model not in here for field in fields):
        return []
    missing = " or ".join(f"'{field}'" for field in sorted(fields, key=str))
    join = _JOIN if definition.name == "self_consistency" else ""
    return [f"{definition.name} reads {missing}, which no case has.{join}"]


def _check_option(definition: Definition, name: str, value: object) -> list[str]:
    if name not in definition.options:
        if not definition.options:
            return [f"{definition.name} takes no options, not '{name}'"]
        return [f"unknown option '{name}' of {definition.name}.{errors.did_you_mean(name, definition.options)}"]
    problem = definition.options[name].check(value)
    return [] if problem is None else [f"{definition.name}, option {name}: {problem}"]


def _check_column(signal: Signal, available: Collection[Field] | None, model: str) -> list[str]:
    if available is not None and Field(model, signal.name) not in available:
        columns = sorted({field.name for field in available if field.model == model} - _NO_SIGNALS)
        near = errors.did_you_mean(signal.name, {*columns, *names()})
        if near.startswith(" Did"):
            return [f"unknown signal '{signal.name}'.{near}"]
        here = f"Columns of '{model}': {', '.join(map(repr, columns)) or 'none'}. Signals: {', '.join(names())}."
        return [f"unknown signal '{signal.name}': '{model}' has no such column, and no signal is called so. {here}"]
    if signal.options:
        return [f"'{signal.name}' is a recorded column and takes no options, not '{next(iter(signal.options))}'"]
    return []


def needs(signal: Signal, model: str) -> frozenset[Field]:
    """Return the columns a signal reads.

    Examples
    --------
    >>> from cascade_eval.cascade import Signal
    >>> sorted(map(str, needs(Signal("logprob"), "mini") | needs(Signal("confidence"), "mini")))
    ['mini.confidence', 'mini.token_logprobs']
    """
    definition, options = _resolve(signal)
    return definition.columns(model, options)


def compute(signal: Signal, batch: Batch, model: str) -> NDArray[np.floating]:
    """Return a signal case by case: floats of shape (cases,), NaN where there is none.

    A recorded column keeps its precision. A column that does not exist gives no signal in any case.

    Raises
    ------
    DataError
        A column is not of the type the signal reads.
    UsageError
        An installed signal returned something else than one float per case.
    """
    definition, options = _resolve(signal)
    values = definition.compute(batch, model, options)
    if definition.name not in BUILT_IN:
        shaped = isinstance(values, np.ndarray) and values.shape == (batch.cases,)
        if not (shaped and np.issubdtype(values.dtype, np.floating)):
            raise errors.UsageError(
                f"the signal '{definition.name}' returned {type(values).__name__}, not {batch.cases} floats, one per case"
            )
    return values


def calls(signal: Signal, model: str) -> tuple[Call, ...]:
    """Return the calls that are paid when a gate reads a signal.

    Examples
    --------
    >>> from cascade_eval.cascade import Signal
    >>> calls(Signal("judge", {"model": "critic"}), "mini")
    (Call(model='critic', kind='call'),)
    """
    definition, options = _resolve(signal)
    return definition.calls(model, options)


def surer(signal: Signal) -> Direction:
    """Return which direction of a signal means surer: ``higher`` or ``lower``; higher for recorded columns.

    Examples
    --------
    >>> from cascade_eval.cascade import Signal
    >>> surer(Signal("logprob", {"statistic": "entropy"})), surer(Signal("confidence"))
    ('lower', 'higher')
    """
    definition, options = _resolve(signal)
    return definition.surer(options) if callable(definition.surer) else definition.surer
