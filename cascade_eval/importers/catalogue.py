"""The importers there are: built in, and offered by installed packages through the entry points `cascade_eval.importers`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from cascade_eval import errors
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "cascade_eval.importers"

BUILT_IN: Final = (
    "otel",
    "openinference",
    "litellm",
    "langfuse",
    "openai_batch",
    "anthropic_batch",
    "promptfoo",
    "decisions",
)
"""Kinds of logs, each a module of this package whose `IMPORTER` reads it."""


def names() -> tuple[str, ...]:
    """Return every kind that can be imported.

    Examples
    --------
    >>> names()[:4]
    ('otel', 'openinference', 'litellm', 'langfuse')
    """
    return (*BUILT_IN, *sorted(set(_installed()) - set(BUILT_IN)))


def find(name: str) -> Importer:
    """Return the importer of a kind of log.

    Raises
    ------
    UsageError
        There is none of that name, or an installed package offers one that cannot be used.

    Examples
    --------
    >>> find("otel").help
    'OpenTelemetry spans of model calls, as OTLP JSON.'
    """
    if name in BUILT_IN:
        found = import_module(f"cascade_eval.importers.{name}").IMPORTER
        assert isinstance(found, Importer)
        return found
    if name in _installed():
        return _load(_installed()[name])
    raise errors.UsageError(f"no importer '{name}'.{errors.did_you_mean(name, names())}")


@cache
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> Importer:
    owner = f"the installed package '{point.dist.name}'" if point.dist else f"the entry point '{point.value}'"
    try:
        found = point.load()
    except Exception as error:  # whatever a foreign package raises when it is imported
        raise errors.UsageError(
            f"{owner} offers the importer '{point.name}', which cannot be loaded: {error}"
        ) from error
    if not isinstance(found, Importer) or found.name != point.name:
        raise errors.UsageError(f"{owner} offers the importer '{point.name}', which is not an Importer of that name")
    return found
