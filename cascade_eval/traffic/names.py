"""Which column means what: listed names, foreign names, `<model>.<column>`, and the shape of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cascade_eval import errors
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CASE_COLUMNS = frozenset(
    {
        "decided_at",
        "input",
        "expected",
        "weight",
        "cluster",
        "audit_probability",
        "task_id",
        "completed",
        "feedback",
        "is_regeneration",
        "regenerated",
        "served_by",
        "escalated",
        "gate_confidence",
        "cached",
        "cohort",
    }
)
"""Columns that always describe the case, never one model's outcome."""

OUTCOME_COLUMNS = frozenset(
    {
        "answer",
        "score",
        "agrees",
        "confidence",
        "token_logprobs",
        "samples",
        "samples_cost_usd",
        "samples_output_tokens",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "cost_usd",
        "latency_s",
        "status",
        "judged",
    }
)
"""Columns that always describe one model's outcome."""

KEYS = ("case_id", "model", "run")
"""Columns that say which row this is."""


@dataclass(frozen=True)
class Layout:
    """Where each of our columns stands in a table.

    Parameters
    ----------
    shape
        ``long`` (a row per case and model), ``wide`` (a row per case) or ``aligned`` (wide, checked before).
    stored
        Long: stored name by our column name. Wide and aligned: stored name by field.
    """

    shape: Literal["long", "wide", "aligned"]
    names: Mapping[str, str]
    fields: Mapping[Field, str]

    @property
    def case_id(self) -> str:
        """The stored name of `case_id`."""
        return self.names["case_id"] if self.shape == "long" else self.fields[Field(None, "case_id")]

    @property
    def models(self) -> tuple[str, ...]:
        """Models that have columns of their own; empty in long form, where models stand in rows."""
        return tuple(dict.fromkeys(field.model for field in self.fields if field.model is not None))

    @property
    def case_columns(self) -> tuple[str, ...]:
        """Columns that can be asked for as columns of the case."""
        if self.shape == "long":
            return tuple(name for name in self.names if name not in OUTCOME_COLUMNS and name not in KEYS)
        return tuple(field.name for field in self.fields if field.model is None and field.name != "case_id")

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        """Long form: columns that can be asked for as columns of an outcome."""
        return tuple(name for name in self.names if name not in CASE_COLUMNS and name not in KEYS)

    def stored(self, field: Field) -> str | None:
        """Return the stored column of a field, None where there is none."""
        if self.shape != "long":
            return self.fields.get(field)
        allowed = self.case_columns if field.model is None else self.outcome_columns
        return self.names[field.name] if field.name in allowed else None


def layout(
    stored: Sequence[str], columns: Mapping[str, str], models: Iterable[str] = ()
) -> tuple[Layout | None, list[str]]:
    """Decide the shape of a table and name its columns.

    Parameters
    ----------
    stored
        Column names as stored.
    columns
        Foreign name by our name: `{"case_id": "request_id"}`; in wide form an outcome column stands for every
        model (`{"answer": "response"}` reads `mini.response`), and `{"mini.answer": "reply"}` for one.
    models
        Models known beforehand (nested records name them).

    Returns
    -------
    layout, problems
        No layout where a required column is missing; each problem is a sentence.

    Examples
    --------
    >>> found, problems = layout(["case_id", "gpt-4.1.confidence", "language"], {})
    >>> found.shape, found.models, found.case_columns
    ('wide', ('gpt-4.1',), ('language',))
    """
    ours = {foreign: our for our, foreign in columns.items()}
    names = {ours.get(name, name): name for name in stored if ours.get(name, name) not in columns or name in ours}
    fields = _fields(stored, columns, models)
    long = "model" in names and (
        not any(field.model for field in fields) or any(name in OUTCOME_COLUMNS for name in names)
    )
    problems = _unknown(stored, columns, fields)
    if "case_id" not in names:
        problems.append(
            f"no column 'case_id'. Name yours in the suite: columns: {{case_id: <column>}}. Columns here: {_some(stored)}."
        )
    if not long and not any(field.model for field in fields):
        problems.append(
            "no model answered: expected a column 'model' (a row per case and model) or columns '<model>.<column>'"
            f" such as 'mini.answer' (a row per case). Columns here: {_some(stored)}."
        )
    if problems:
        return None, problems
    return (Layout("long", names, {}) if long else Layout("wide", {}, fields)), []


def _unknown(stored: Sequence[str], columns: Mapping[str, str], fields: Mapping[Field, str]) -> list[str]:
    used = set(fields.values())
    suffixes = {name.removeprefix(f"{field.model}.") for field, name in fields.items() if field.model}
    return [
        f"columns: {our}: there is no column '{foreign}'.{errors.did_you_mean(foreign, {*stored, *suffixes})}"
        for our, foreign in columns.items()
        if foreign not in stored and not any(name.endswith(f".{foreign}") for name in used)
    ]


def _some(stored: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in stored[:12])
    return shown + (", …" if len(stored) > 12 else "") if stored else "none"


def _fields(stored: Sequence[str], columns: Mapping[str, str], models: Iterable[str]) -> dict[Field, str]:
    """Split wide names; a name a user mapped wins over one that happens to be the same."""
    ours = {foreign: our for our, foreign in columns.items()}
    outcomes = OUTCOME_COLUMNS | {foreign for our, foreign in columns.items() if our in OUTCOME_COLUMNS}
    known = {*models, *(split[0] for name in stored if (split := _at_outcome(name, outcomes)))}
    found: dict[Field, str] = {}
    mapped: set[Field] = set()
    for name in stored:
        model, column = (None, name) if name in CASE_COLUMNS else _split(name, outcomes, known)
        if name in ours:
            model, column = _split(ours[name], OUTCOME_COLUMNS, known)
        field = Field(model, ours.get(column, column) if name not in ours else column)
        is_mapped = name in ours or (model is not None and column in ours)
        if field not in mapped:
            found[field] = name
        if is_mapped:
            found[field] = name
            mapped.add(field)
    return found


def _at_outcome(name: str, outcomes: Iterable[str]) -> tuple[str, str] | None:
    model, dot, column = name.rpartition(".")
    if dot and model and column in outcomes:
        return model, column
    # A foreign outcome name may hold dots itself.
    for outcome in outcomes:
        if "." in outcome and name.endswith(f".{outcome}"):
            return name.removesuffix(f".{outcome}"), outcome
    return None


def _split(name: str, outcomes: Iterable[str], known: set[str]) -> tuple[str | None, str]:
    at_outcome = _at_outcome(name, outcomes)
    if at_outcome:
        return at_outcome
    prefixes = [model for model in known if name.startswith(f"{model}.")]
    if prefixes:
        model = max(prefixes, key=len)
        return model, name.removeprefix(f"{model}.")
    # Without any listed outcome column the last dot is all there is; with one, a dotted name is of the case.
    model, dot, column = name.rpartition(".")
    return (model, column) if dot and model and column and not known else (None, name)
