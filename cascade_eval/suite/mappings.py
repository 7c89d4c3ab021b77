"""How a mapping of a suite is read: unknown keys named, every problem kept, in the words of a suite."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from cascade_eval.errors import did_you_mean
from cascade_eval.suite.phrases import show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from cascade_eval.errors import Problem
    from cascade_eval.suite import text
    from cascade_eval.suite.text import Lines


class Written(BaseModel):
    """A mapping of a suite: unknown keys are named with the nearest allowed one, and every problem is reported."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)
    noun: ClassVar[str] = "this mapping"
    example: ClassVar[str] = "{key: value}"
    elsewhere: ClassVar[tuple[str, ...]] = ()
    """Keys that make the mapping another kind of the same thing, so that a typo in one of them is recognised."""

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        if not isinstance(data, dict):
            _refuse(f"{cls.noun} is a mapping such as {cls.example}, not {show(data)}.")
        known, written, unknown = cls.spelled(data)
        found = [_problem(message, (key,), data) for key, message in unknown.items()]
        if any(difflib.get_close_matches(key, cls.elsewhere, n=1) for key in unknown):
            raise ValidationError.from_exception_data(cls.noun, found)
        try:
            read = handler(known)
        except ValidationError as error:
            found += [_problem(explain(one, cls.noun), _rewritten(one["loc"], written), data) for one in error.errors()]
        if found:
            raise ValidationError.from_exception_data(cls.noun, found)
        return read

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that may be written."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def spelled(cls, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
        """Return entries by allowed key, how misspelled ones were written, and what to say of each unknown key."""
        # A misspelled key is read as the one it was meant to be, so that it is one problem and not two.
        allowed = cls.keys()
        known, written, unknown = {}, {}, {}
        for key, value in data.items():
            if key in allowed:
                known[key] = value
                continue
            unknown[key] = f"unknown key '{key}' in {cls.noun}.{did_you_mean(key, [*allowed, *cls.elsewhere])}"
            for near in difflib.get_close_matches(key, allowed, n=1):
                if near not in data:
                    known[near], written[near] = value, key
        return known, written, unknown


def explain(found: ErrorDetails, noun: str = "a suite") -> str:
    """Say what pydantic found in words of a suite."""
    kind, context = found["type"], found.get("ctx", {})
    key = next((str(part) for part in found["loc"] if not _is_tag(part)), noun)
    if kind == "problem":
        return str(context["message"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"{noun} needs '{key}'."
    value = found["input"]
    if kind == "literal_error":
        return f"'{key}' cannot be {show(value)}.{did_you_mean(str(value), _literals(context['expected']))}"
    if kind in {"recursion_loop", "too_deep"}:
        return "nested too deeply."
    hint = " Write it in quotes." if kind == "string_type" and isinstance(value, int | float) else ""
    return f"'{key}' must be {_SHAPES.get(kind, found['msg'])}, not {show(value)}.{hint}"


_SHAPES = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
}


def _literals(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def problems(error: ValidationError, value: Any, lines: Lines, noun: str = "a suite") -> list[Problem]:
    """Say everything pydantic found in `value`, each with its line."""
    return [lines.problem(explain(found, noun), *_place(found["loc"], value)) for found in error.errors()]


def _place(loc: tuple[str | int, ...], value: Any) -> text.Path:
    """Leave out what is not in `value`: the names of unions, and missing keys."""
    path: list[str | int] = []
    for part in loc:
        if part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
            path.append(part)
            value = value[part]
    return tuple(path)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, int) or part.startswith("<")


def _rewritten(loc: tuple[str | int, ...], written: Mapping[str, str]) -> text.Path:
    return (written.get(str(loc[0]), loc[0]), *loc[1:]) if loc else ()


def _problem(message: str, loc: tuple[str | int, ...], value: Any) -> InitErrorDetails:
    error = PydanticCustomError("problem", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=loc, input=value)


def _refuse(message: str) -> NoReturn:
    raise PydanticCustomError("problem", "{message}", {"message": message})
