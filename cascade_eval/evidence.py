"""What a run leaves behind: one JSON file from which the report can be rebuilt and the next run judged.

A run hands in one record per suite; `build` completes and validates them, `write` puts them on disk whole or not at
all, `read` trusts nothing. Numbers that could not be computed are null, never NaN. The format itself stands in
`cascade_eval.evidence_format`; ``evidence.schema.json`` is generated from it.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cascade_eval import atomic, errors, evidence_format

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from pydantic_core import ErrorDetails

SCHEMA = evidence_format.SCHEMA
"""The format this version reads and writes."""

MAXIMUM_BYTES = 200_000_000
"""A larger file is refused unread."""

LIBRARIES = ("numpy", "scipy", "pyarrow", "rapidfuzz", "genai-prices", "pytest")
"""Whose versions are written down, because numbers or prices depend on them."""

SHOWN = 20
"""Problems of one file that are shown; the rest is counted."""


def build(
    suite_records: Iterable[Mapping[str, Any]],
    *,
    selected: Mapping[str, int],
    git: Mapping[str, Any] | None = None,
    created_at: datetime | str | None = None,
) -> dict[str, Any]:
    """Complete and validate the records of a run.

    Parameters
    ----------
    suite_records
        One per suite, in order. numpy numbers become Python's; NaN and infinities become null.
    selected
        ``{"items": ran, "of": in all}``. Fewer items than there are makes the run partial: it can be reported,
        and is refused as a baseline.
    git
        From `git_state`.
    created_at
        Now, unless given.

    Returns
    -------
    dict
        JSON-ready, keys in the order of the format.

    Raises
    ------
    UsageError
        A record that is not of the format, every reason listed.

    Examples
    --------
    >>> from cascade_eval import runs, suite
    >>> judged = runs.evaluate(suite.load("suites/tickets.cascade.yaml"))
    >>> items = len(judged.verdicts)
    >>> made = build([{**judged.record, "suite": "suites/tickets.cascade.yaml"}], selected={"items": items, "of": items})
    >>> made["schema"], [cascade["name"] for cascade in made["suites"][0]["cascades"]]
    ('cascade-eval/evidence/1', ['current', 'always-flagship'])
    """
    now = created_at or datetime.now(UTC)
    record = {
        "schema": SCHEMA,
        "created_at": now if isinstance(now, str) else now.astimezone(UTC).isoformat(timespec="seconds"),
        "version": _version("cascade-eval") or "unknown",
        "selected": dict(selected),
        "git": git,
        "versions": _versions(),
        "suites": list(suite_records),
    }
    return _validated(_plain(record), "evidence")


def write(path: str | os.PathLike[str], evidence: Mapping[str, Any]) -> Path:
    """Write evidence atomically; equal evidence gives equal bytes.

    Floats are written in full, because a rounded bound could land on its budget. Raises UsageError where the file
    cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> made = build([], selected={"items": 0, "of": 0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read(write(f"{folder}/evidence.json", made)) == made
    True
    """
    text = json.dumps(evidence, ensure_ascii=False, allow_nan=False, indent=1)
    return atomic.write(path, f"{text}\n".encode())


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and validate evidence; UsageError where it is missing, too large, damaged or of another format.

    Examples
    --------
    >>> read("docs/cli.md")
    Traceback (most recent call last):
    cascade_eval.errors.UsageError: docs/cli.md:1: not JSON: ...
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > MAXIMUM_BYTES:
            raise _refused(file, f"{size:,} bytes is too large for evidence; at most {MAXIMUM_BYTES:,} are read.")
        raw = file.read_bytes()
    except FileNotFoundError as error:
        raise _refused(file, f"there is no such file{errors.beside(file)}") from error
    except OSError as error:
        raise _refused(file, f"cannot be read: {error.strerror or error}.") from error
    try:
        record = json.loads(raw, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        problem = errors.Problem(
            f"not JSON: {error.msg} (column {error.colno}). Evidence is what --cascade-evidence writes.",
            str(file),
            error.lineno,
        )
        raise errors.UsageError([problem]) from error
    except (ValueError, RecursionError) as error:
        raise _refused(file, f"not JSON as evidence is written: {error}.") from error
    _check_schema(record, file)
    return _validated(_plain(record), str(file))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of evidence, the one shipped as ``evidence.schema.json``.

    Examples
    --------
    >>> schema()["title"]
    'cascade-eval/evidence/1'
    """
    return evidence_format.schema()


def git_state(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return commit, branch and whether tracked files differ from it; None where there is no git to ask.

    New files do not make a tree dirty: a run that leaves a report behind would always find itself dirty.
    """
    # A repository's own configuration may name a program as file-system monitor; reading a state runs none.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder)]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=True)  # noqa: S603  fixed words, no shell
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    head = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit, branch = head.get("branch.oid"), head.get("branch.head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith("#") for line in lines),
    }


def redact(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without the text of any case: no question, no answer, nothing expected; case ids stay.

    Examples
    --------
    >>> from cascade_eval import runs, suite
    >>> judged = runs.evaluate(suite.load("suites/tickets.cascade.yaml"))
    >>> made = build([{**judged.record, "suite": "tickets"}], selected={"items": 1, "of": 1})
    >>> for one in (made, redact(made)):
    ...     [worst, *_] = one["suites"][0]["cascades"][0]["worst"]
    ...     print(worst["case_id"], worst["answer"], worst["flagship_answer"])
    en-refund-09  refund  delivery
    en-refund-09 None None
    """
    return {**evidence, "suites": [_redacted_suite(suite) for suite in evidence["suites"]]}


def find_cascade(
    evidence: Mapping[str, Any],
    suite: str,
    name: str,
    *,
    sha256: str | None = None,
    file: str | None = None,
) -> dict[str, Any]:
    """Find a cascade of an earlier run, to compare with.

    Parameters
    ----------
    evidence
        From `read`.
    suite, name
        Of the cascade, as the suite calls itself and it.
    sha256
        Of the data that is judged now; other data is refused.
    file
        Where the evidence was read from, for messages.

    Returns
    -------
    dict
        The cascade's record; its `definition` can be replayed.

    Raises
    ------
    BaselineError
        The run was partial, was of other data, or has no such suite or cascade.
    """
    items, of = evidence["selected"]["items"], evidence["selected"]["of"]
    if items < of:
        message = (
            f"only {items:,} of {of:,} items ran, so this evidence is no baseline. Run the suite whole and use that."
        )
        raise errors.BaselineError([errors.Problem(message, file)])
    suites = {record["suite"]: record for record in evidence["suites"]}
    if suite not in suites:
        message = f"no suite '{suite}' in this evidence.{errors.did_you_mean(suite, suites)}"
        raise errors.BaselineError([errors.Problem(message, file)])
    found: Mapping[str, Any] = suites[suite]
    if sha256 is not None and found["data"]["sha256"] != sha256:
        message = (
            f"the baseline was measured on other data ({found['data']['path']}, sha256 {str(found['data']['sha256'])[:12]},"
            f" not {sha256[:12]}). Run the baseline's cascade on this data, or name a cascade of the suite as baseline."
        )
        raise errors.BaselineError([errors.Problem(message, file)])
    cascades = {record["name"]: record for record in found["cascades"]}
    if name not in cascades:
        message = f"no cascade '{name}' of {suite} in this evidence.{errors.did_you_mean(name, cascades)}"
        raise errors.BaselineError([errors.Problem(message, file)])
    cascade: dict[str, Any] = cascades[name]
    return cascade


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}
    return {name: version for name, version in sorted(found.items()) if version is not None}


def _plain(value: Any) -> Any:
    """Return plain JSON values: no numpy, no tuples, no NaN, no half of a surrogate pair."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    return value


def _validated(record: Any, file: str) -> dict[str, Any]:
    try:
        return evidence_format.Evidence.model_validate(record).model_dump(by_alias=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [errors.Problem(_explained(detail), file) for detail in details[:SHOWN]]
        if len(details) > SHOWN:
            problems.append(errors.Problem(f"… and {len(details) - SHOWN:,} more problems.", file))
        raise errors.UsageError(problems) from error


def _explained(detail: ErrorDetails) -> str:
    """Say in one line what is wrong, where in the evidence, and what is allowed."""
    *parents, last = detail["loc"] or ("evidence",)
    if detail["type"] == "extra_forbidden":
        return f"{_where(parents)}: unknown key '{last}'.{errors.did_you_mean(str(last), _allowed(parents))}"
    if detail["type"] == "missing":
        return f"{_where(parents)}: '{last}' is missing."
    message, given = detail["msg"].removeprefix("Value error, "), detail["input"]
    if detail["type"] == "value_error":
        return f"{_where(detail['loc'])}: {message}."
    shown = f"{given!r:.60}" if not isinstance(given, dict | list) else type(given).__name__
    return f"{_where(detail['loc'])}: {message}, not {shown}."


def _where(loc: Sequence[int | str]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".") or "evidence"


def _allowed(loc: Sequence[int | str]) -> list[str]:
    """Return the keys of the record that stands at this place."""
    node: type[evidence_format.Record] = evidence_format.Evidence
    for part in loc:
        field = node.model_fields.get(str(part))
        node = (_record_in(field.annotation) if field else None) or node
    return [field.alias or name for name, field in node.model_fields.items()]


def _record_in(annotation: Any) -> type[evidence_format.Record] | None:
    """Return the record a field holds, be it a list, a mapping or optional."""
    if isinstance(annotation, type) and issubclass(annotation, evidence_format.Record):
        return annotation
    inner = (_record_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found), None)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; a number that is not known is null")


def _refused(file: Path, message: str) -> errors.UsageError:
    return errors.UsageError([errors.Problem(message, str(file))])


def _check_schema(record: Any, file: Path) -> None:
    """Say first what the file is, when it is not this version's evidence: every other message would mislead."""
    found = record.get("schema") if isinstance(record, dict) else None
    if found == SCHEMA:
        return
    if isinstance(found, str) and found.startswith("cascade-eval/evidence/"):
        raise _refused(
            file,
            f"written in format '{found}'; this version reads '{SCHEMA}'. Upgrade cascade-eval, or run the suite again.",
        )
    raise _refused(file, f"not evidence of a run: 'schema' must be '{SCHEMA}', not {found!r:.60}.")


_CASE_TEXT = ("input", "answer", "flagship_answer", "expected", "baseline_answer", "candidate_answer")


def _without_text(case: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if key in _CASE_TEXT else value for key, value in case.items()}


def _redacted_suite(suite: Mapping[str, Any]) -> dict[str, Any]:
    cascades = [
        {
            **cascade,
            "worst": [_without_text(case) for case in cascade["worst"]],
            "flips": [
                {**flips, "cases": [_without_text(case) for case in flips["cases"]]} for flips in cascade["flips"]
            ],
        }
        for cascade in suite["cascades"]
    ]
    note = "The text of cases (questions, answers, what was expected) was left out."
    return {**suite, "notes": [*(n for n in suite["notes"] if n != note), note], "cascades": cascades}
