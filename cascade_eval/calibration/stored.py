"""A fitted map in a file.

The file is JSON, so that it can be read, compared and trusted: loading it runs nothing. It names the data it was fitted
on, because a map proves nothing on its own data, and when, because confidence drifts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cascade_eval import atomic
from cascade_eval.calibration.maps import Map
from cascade_eval.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

SCHEMA = "cascade-eval/calibration/1"

_SKETCH = r"cases-[0-9a-f]{64}"

LARGEST = 64 * 2**20
"""Bytes; a larger file is not a calibration."""

_KEYS = ("schema", "created_at", "signal", "models", "data_sha256", "columns", "cohorts", "map")
_OPTIONAL = ("cases",)


@dataclass(frozen=True)
class Stored:
    """A map and where it comes from.

    Parameters
    ----------
    map
        The map.
    data_sha256
        Hash of the data it was fitted on.
    created_at
        When, with zone.
    signal
        The signal it calibrates.
    models
        Whose signal, then the flagship.
    columns
        Cohort columns the map may differ by.
    cohorts
        Cohorts the data had.
    cases
        Sketch of the cases it was fitted on, which still knows them when they are saved again; None where it is not
        known.
    """

    map: Map
    data_sha256: str
    created_at: datetime
    signal: str
    models: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    cases: str | None = None


def save(
    path: str | os.PathLike[str],
    map: Map,  # noqa: A002  what it is
    *,
    data_sha256: str,
    created_at: datetime,
    signal: str,
    models: Sequence[str] = (),
    columns: Sequence[str] = (),
    cohorts: Sequence[str] = (),
    cases: str | None = None,
) -> Path:
    """Write a map to a file, whole or not at all; equal maps give equal bytes.

    Parameters
    ----------
    path
        Of the file.
    map
        What to store.
    data_sha256, created_at, signal, models, columns, cohorts, cases
        As in `Stored`. Without `cohorts` those of the map are written.

    Raises
    ------
    DataError
        Where what is handed in could not be read back.
    """
    value = {
        "schema": SCHEMA,
        "created_at": created_at.isoformat(),
        "signal": signal,
        "models": list(models),
        "data_sha256": data_sha256,
        "columns": list(columns),
        "cohorts": list(cohorts) or list(map.cohorts),
        **({} if cases is None else {"cases": cases}),
        "map": map.to_json(),
    }
    _refuse_if(_problems(value), str(path))
    return atomic.write(path, f"{json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode())


def load(path: str | os.PathLike[str]) -> Stored:
    """Read a stored map.

    Raises
    ------
    DataError
        Where the file is missing, is not a calibration, or contradicts itself; every reason is listed.
    """
    file = str(path)
    value = _read(Path(path), file)
    _refuse_if(_problems(value), file)
    return Stored(
        map=Map.from_json(value["map"]),
        data_sha256=value["data_sha256"],
        created_at=datetime.fromisoformat(value["created_at"]),
        signal=value["signal"],
        models=tuple(value["models"]),
        columns=tuple(value["columns"]),
        cohorts=tuple(value["cohorts"]),
        cases=value.get("cases"),
    )


def _read(path: Path, file: str) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError([Problem(f"larger than {LARGEST // 2**20} MiB, which no calibration is.", file)])
        return json.loads(path.read_bytes(), parse_constant=_not_finite)
    except FileNotFoundError:
        raise DataError(
            [
                Problem(
                    "there is no such calibration; a path in a suite is relative to it. Fit one, or write a recipe such as 'platt'.",
                    file,
                )
            ]
        ) from None
    except OSError as error:
        raise DataError([Problem(f"cannot be read: {error.strerror or error}.", file)]) from None
    except json.JSONDecodeError as error:
        raise DataError([Problem(f"is not JSON: {error.msg}.", file, error.lineno)]) from None
    except (ValueError, RecursionError) as error:
        raise DataError([Problem(f"is not JSON: {error}.", file)]) from None


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number a calibration may hold")


def _refuse_if(problems: Iterator[str], file: str) -> None:
    found = [Problem(problem, file) for problem in problems]
    if found:
        raise DataError(found)


def _problems(value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        yield f"is not a calibration: its schema must be '{SCHEMA}'."
        return
    for name in value:
        if name not in {*_KEYS, *_OPTIONAL}:
            yield f"unknown key '{name}'.{did_you_mean(name, [*_KEYS, *_OPTIONAL])}"
    for name in _KEYS:
        if name not in value:
            yield f"'{name}' is missing."
    for name in ("signal", "data_sha256"):
        if name in value and (not isinstance(value[name], str) or not value[name]):
            yield f"'{name}' must be text."
    if "cases" in value and not (isinstance(value["cases"], str) and re.fullmatch(_SKETCH, value["cases"])):
        yield "'cases' must be a sketch, 'cases-' and 64 hexadecimal digits; it may be left out."
    for name in ("models", "columns", "cohorts"):
        if name in value and not (isinstance(value[name], list) and all(isinstance(v, str) for v in value[name])):
            yield f"'{name}' must be a list of texts."
    if "created_at" in value and not _has_zone(value["created_at"]):
        yield f"'created_at' is {value['created_at']!r:.40}; it must be a time with zone, such as '2026-01-31T12:00:00+00:00'."
    if "map" in value:
        try:
            Map.from_json(value["map"])
        except DataError as error:
            for problem in error.problems:
                yield f"map: {problem.message}"


def _has_zone(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False
