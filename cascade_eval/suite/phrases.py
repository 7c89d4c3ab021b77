"""The phrases of a suite: shares, times, numbers of cases, calibrations, signals, cohort columns.

Each function reads one phrase and raises ValueError in the words of a suite: what was written, and what to write.
"""

from __future__ import annotations

import difflib
import re
import sys
from decimal import Decimal
from typing import Any

from cascade_eval import cohorts
from cascade_eval.cascade import Calibrate, Signal
from cascade_eval.errors import did_you_mean
from cascade_eval.suite import sketches
from cascade_eval.suite.nouns import CohortColumn

NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SHARE = re.compile(rf"({NUMBER}) ?%")
_TIME = re.compile(rf"({NUMBER}) ?(ms|s)")
_CASES = re.compile(r"([0-9]+) cases?")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_DERIVED = re.compile(r"(hour|weekday|week) of .+")
_IN_SCOPES = (" and ", ",", "=")


def show(value: Any) -> str:
    """Return a value as it is written in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    text = text if len(text) <= 60 else f"{text[:57]}…"
    return f"'{text}'" if isinstance(value, str) else text


def read_share(value: Any) -> float:
    """Read ``30%`` as 0.3.

    Examples
    --------
    >>> read_share("30%"), read_share("99.9 %")
    (0.3, 0.999)
    """
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{show(value)} is not a share. Write {_suggest_share(value)}.")
    if Decimal(match[1]) > 100:
        raise ValueError(f"{show(value)} is more than everything. A share lies between '0%' and '100%'.")
    return float(Decimal(match[1]) / 100)


def _suggest_share(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return "a percentage such as '30%'"
    percent = Decimal(str(value)) * (100 if value <= 1 else 1)
    return f"'{percent.normalize():f}%'"


def read_confidence(value: Any) -> float:
    """Read the confidence of the bounds, between 50% and 100%.

    Examples
    --------
    >>> read_confidence("95%")
    0.95
    """
    read = read_share(value)
    if not 0.5 < read < 1:
        raise ValueError(
            f"{show(value)} is no confidence to judge with. Write one above '50%' and below '100%', such as '95%'."
        )
    return read


def read_seconds(value: Any) -> float:
    """Read ``5s`` or ``800ms``.

    Examples
    --------
    >>> read_seconds("5s"), read_seconds("800 ms")
    (5.0, 0.8)
    """
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        amount = value if isinstance(value, int | float) and not isinstance(value, bool) else 5
        raise ValueError(f"{show(value)} is not a time. Write '{amount}s' or '{amount}ms'.")
    if not Decimal(match[1]):
        raise ValueError(f"{show(value)} is no time to answer in. Write '5s' or '800ms'.")
    return float(Decimal(match[1]) / (1000 if match[2] == "ms" else 1))


def read_cases(value: Any) -> int:
    """Read ``60 cases``.

    Examples
    --------
    >>> read_cases("60 cases")
    60
    """
    match = _CASES.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{show(value)} is not a number of cases. Write '60 cases'.")
    return int(match[1])


_RECIPES = ("platt", "isotonic", "hierarchical")
_RECIPE_HELP = "Write 'platt', 'isotonic', 'hierarchical per language' or the path of a stored calibration (.json)."


def read_calibrate(value: Any) -> Calibrate:
    """Read how a signal becomes a probability of agreement.

    Examples
    --------
    >>> read_calibrate("hierarchical per language and intent").per
    ('language', 'intent')
    >>> read_calibrate("calibrations/mini.json").kind
    'stored'
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{show(value)} is not a calibration. {_RECIPE_HELP}")
    if value.endswith(".json"):
        return Calibrate("stored", file=value)
    kind, _, rest = value.partition(" ")
    if kind == "hierarchical":
        return Calibrate("hierarchical", per=_per(value, rest))
    if kind in _RECIPES and rest:
        raise ValueError(f"'{kind}' fits one map for all cases; only 'hierarchical per …' differs by cohort.")
    if kind == "platt":
        return Calibrate("platt")
    if kind == "isotonic":
        return Calibrate("isotonic")
    near = difflib.get_close_matches(kind, _RECIPES, n=1)
    hint = f"Did you mean '{value.replace(kind, near[0], 1)}'?" if near else _RECIPE_HELP
    raise ValueError(f"{show(value)} is not a calibration. {hint}")


def _per(value: str, rest: str) -> tuple[str, ...]:
    columns = tuple(rest.removeprefix("per ").split(" and ")) if rest.startswith("per ") else ()
    if not columns or not all(column.strip() for column in columns):
        raise ValueError(
            f"{show(value)} does not say by which cohorts the maps may differ. Write 'hierarchical per language'."
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"{show(value)} names a cohort twice.")
    return columns


def read_threshold(value: Any) -> float:
    """Read a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        number = _number_in(value)
        instead = "" if number is None else f" Write 'threshold: {number}', without quotes or unit."
        raise ValueError(f"'threshold' must be a number, not {show(value)}.{instead}")  # noqa: TRY004  pydantic collects ValueError only
    if not abs(value) <= sys.float_info.max:
        raise ValueError("'threshold' must be a finite number.")
    return float(value)


def _number_in(value: Any) -> str | None:
    """Return the number a text was meant to be, percentages as fractions."""
    text = str(value).strip()
    try:
        return repr(round(float(text[:-1]) / 100, 10)) if text.endswith("%") else repr(float(text))
    except ValueError:
        return None


def read_sha256(value: Any) -> str:
    """Read the hash of data, as evidence shows it, or the sketch of its cases, as `threshold --write` writes it.

    Examples
    --------
    >>> read_sha256("AB" * 32) == "ab" * 32
    True
    """
    if not isinstance(value, str) or not (_SHA256.fullmatch(value) or sketches.is_sketch(value)):
        raise ValueError(
            f"{show(value)} is not the hash of data. Write its sha256, 64 letters and digits in quotes, as evidence shows it, "
            "or leave it to 'cascade-eval threshold --write'."
        )
    return value.lower()


def read_signal(value: Any) -> Signal:
    """Read what a gate looks at: a name, or one name with its options.

    Examples
    --------
    >>> read_signal({"recorded": "logprob"})
    Signal(name='recorded', options={'column': 'logprob'})
    """
    if isinstance(value, str) and value.strip():
        return Signal(value)
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(
            f"a signal is a name or one name with its options, such as {{logprob: {{statistic: minimum}}}}, not {show(value)}."
        )
    ((name, options),) = value.items()
    if name == "recorded" and isinstance(options, str):
        options = {"column": options}
    if not isinstance(options, dict):
        message = f"the options of '{name}' are a mapping such as {{{name}: {{option: value}}}}, not {show(options)}."
        raise ValueError(message)  # noqa: TRY004  pydantic collects ValueError only
    return Signal(name, options)


def some(value: list[Any]) -> list[Any]:
    """Return the list; ValueError where it is empty."""
    if not value:
        raise ValueError("an empty list says nothing. Write at least one.")
    return value


def some_columns(value: dict[str, Any]) -> dict[str, Any]:
    """Return what a route looks at; ValueError where that is nothing."""
    if not value:
        raise ValueError("a route without columns matches every case. Name a column and its values.")
    return value


def _cohort_value(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError(f"a value to route by is a word, not {show(value)}.")  # noqa: TRY004  pydantic collects ValueError only
    return cohorts.NONE if value is None else show(value) if isinstance(value, bool) else str(value)


def read_values(value: Any) -> tuple[str, ...]:
    """Read the values a route looks for, as text; null is the cohort ``(none)``.

    Examples
    --------
    >>> read_values(["no", 3, None])
    ('no', '3', '(none)')
    """
    return tuple(_cohort_value(item) for item in some(value if isinstance(value, list) else [value]))


def read_cohort(value: Any, at_least: int | None = None) -> CohortColumn:
    """Return the cohort column that is written so; ValueError where it cannot be one.

    Examples
    --------
    >>> read_cohort("hour of decided_at").derived
    'hour'
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"a cohort column is a word, not {show(value)}.")
    if value in cohorts.DERIVED:
        return CohortColumn("decided_at", at_least, cohorts.DERIVED[value])
    if _DERIVED.fullmatch(value):
        raise ValueError(f"unknown cohort '{value}'.{did_you_mean(value, cohorts.DERIVED)}")
    for mark in _IN_SCOPES:
        if mark in value:
            raise ValueError(
                f"'{value}' cannot be named in a budget, because it contains '{mark.strip()}'. Rename it in 'columns:'."
            )
    return CohortColumn(value, at_least)
