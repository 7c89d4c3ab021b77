"""What a user says about a log: which model is which tier, what a case is, which columns to take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade_eval import errors
from cascade_eval.importers import calls
from cascade_eval.importers.calls import Aside
from cascade_eval.importers.grouping import SUMMED
from cascade_eval.traffic.names import OUTCOME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade_eval.importers.calls import Call, Scalar
    from cascade_eval.importers.definition import Importer


@dataclass(frozen=True)
class Choices:
    """What was said, ready to be looked up.

    Parameters
    ----------
    models
        Label by name of a recorded model; empty without a map.
    places
        Label and the values that must stand at dotted paths, for labels that are not told by a model.
    case
        Paths of the case id; None where the importer's own is meant.
    columns
        Path by name of the column.
    labels
        All labels, in written order; empty without a map.
    roles
        Label, and the names that may have served for it, by role; empty where records name models.
    """

    models: Mapping[str, str]
    places: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    case: tuple[str, ...] | None
    columns: Mapping[str, str]
    labels: tuple[str, ...]
    roles: Mapping[str, tuple[str, frozenset[str]]]
    named: dict[tuple[str, ...], str | None] = field(default_factory=dict, repr=False, compare=False)

    def name(self, call: Call) -> str | None:
        """Return the model of a call's row, None where the map does not say."""
        if call.label is not None:
            return call.label
        if call.variant is not None or self.roles:
            return self._name(call)
        found = self.named.get(call.names, _UNKNOWN)
        if found is _UNKNOWN:
            found = self._name(call)
            if len(self.named) < REMEMBERED:
                self.named[call.names] = found
        return found

    def _name(self, call: Call) -> str | None:
        if self.roles:
            label, allowed = self.roles[call.names[0]]
            if any(name not in allowed for name in call.names[1:]):
                raise Aside("served_by is not the model that the decision and the map name", call.names[1])
            return label
        if not self.labels:
            return call.names[0] if call.names else None
        named = next((self.models[name] for name in call.names if name in self.models), None)
        # Two names of a call that has a variant are a label and a provider, not who was asked and who answered.
        if named is not None and call.variant is None:
            other = next((name for name in call.names if self._dated(name) not in {named, None}), None)
            if other is not None:
                raise Aside(_FELL_BACK, f"{', '.join(call.names)}: {named} or {self._dated(other)}")
        return named

    def _dated(self, name: str) -> str | None:
        """Return the label of a model or of a dated version of it; the longest name that fits."""
        fits = [known for known in self.models if name == known or name.startswith(f"{known}-")]
        return self.models[max(fits, key=len)] if fits else None

    def alike(self, name: str) -> str | None:
        """Return the label of the model that a name the map does not have may be: of another date, or with its provider."""
        return next((label for known, label in self.models.items() if bare(known) == bare(name)), None)

    def label(self, view: Mapping[str, Any]) -> str | None:
        """Return the label whose values a record bears; `Aside` where two labels fit."""
        found = [
            label
            for label, places in self.places
            if all(_as_text(calls.lookup(view, path)) == wanted for path, wanted in places)
        ]
        if len(found) > 1:
            raise Aside("two labels of the map fit", " and ".join(found))
        return found[0] if found else None

    def case_of(self, view: Mapping[str, Any]) -> str:
        """Return the case id, empty where the record has none."""
        values = (calls.lookup(view, path) for path in self.case or ())
        return next((found for value in values if (found := calls.text(value, "the case id"))), "")

    def columns_of(self, view: Mapping[str, Any]) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        """Return the columns of the call and of its case that a record has."""
        outcomes: dict[str, Scalar] = {}
        columns: dict[str, Scalar] = {}
        for name, path in self.columns.items():
            value = calls.scalar(calls.lookup(view, path))
            if value is None:
                continue
            if name == "decided_at":
                columns[name] = calls.moment(value, name) or 0
            elif name in OUTCOME_COLUMNS or name == "run":
                outcomes[name] = value
            else:
                columns[name] = value
        return outcomes, columns


_DATE = re.compile(r"[-@](\d{4}-\d\d-\d\d|\d{8}|latest)$")


def bare(name: str) -> str:
    """Return the name of a model without its provider and its date.

    Examples
    --------
    >>> bare("openai/gpt-4.1-2025-04-14"), bare("gpt-4.1-nano")
    ('gpt-4.1', 'gpt-4.1-nano')
    """
    return _DATE.sub("", name.rpartition("/")[2]).lower()


def _as_text(value: Any) -> str | None:
    found = calls.scalar(value)
    return {True: "true", False: "false"}[found] if isinstance(found, bool) else None if found is None else str(found)


_FELL_BACK = "the model that was asked and the one that answered are two tiers of the map"

REMEMBERED = 10_000
"""Names of models, as calls have them, whose label is looked up once."""

_UNKNOWN = "\0"
"""No label."""

READ = frozenset({"model", "status", "judged", "answer", *SUMMED, "samples", "token_logprobs"})
"""Columns an importer reads itself."""


def read(importer: Importer, *, case: str | None, models: Mapping[str, Any], columns: Mapping[str, str]) -> Choices:
    """Check what was said.

    Raises
    ------
    UsageError
        Everything that is wrong with it.
    """
    problems = [*_wrong_models(importer, models), *_wrong_columns(columns)]
    if case is not None and "case_id" in columns:
        problems.append("the case id is said twice, by 'case' and by the column 'case_id'")
    if problems:
        raise errors.UsageError(problems)
    by_name = {str(value): label for label, value in models.items() if not isinstance(value, Mapping)}
    places = tuple(
        (label, tuple((path, str(_as_text(wanted))) for path, wanted in value.items()))
        for label, value in models.items()
        if isinstance(value, Mapping)
    )
    path = case if case is not None else columns.get("case_id")
    return Choices(
        by_name,
        places,
        _case(importer, path),
        {name: each for name, each in columns.items() if name != "case_id"},
        tuple(models),
        {
            role: (label, frozenset({role, label, str(value)}))
            for role, (label, value) in zip(importer.roles, models.items(), strict=False)
        },
    )


def _case(importer: Importer, written: str | None) -> tuple[str, ...] | None:
    if written is None or written == next(iter(importer.cases)):
        return None
    return importer.cases.get(written, (written,))


def _wrong_models(importer: Importer, models: Mapping[str, Any]) -> Iterable[str]:
    values = [value for value in models.values() if not isinstance(value, Mapping)]
    for label, value in models.items():
        if isinstance(value, Mapping) and not value:
            yield f"models: {label}: an empty mapping fits everything. Name a value, such as {{metadata.tier: cheap}}"
        elif not isinstance(value, Mapping) and (not isinstance(value, str) or not value):
            yield f"models: {label}: is the name of a recorded model, or values at paths: {{metadata.tier: cheap}}"
        elif not isinstance(value, Mapping) and values.count(value) > 1:
            yield f"models: {label}: '{value}' stands for two labels; tell them apart by a value: {{metadata.tier: …}}"
    if importer.roles and models and len(models) != len(importer.roles):
        yield f"models: name {len(importer.roles)} models, in order: {', '.join(importer.roles)}"


def _wrong_columns(columns: Mapping[str, str]) -> Iterable[str]:
    for name, path in columns.items():
        if name in READ:
            yield f"columns: {name} is read by the importer itself"
        elif not path or not isinstance(path, str):
            yield f"columns: {name}: is a dotted path, such as metadata.language"
