"""The cascades of a suite, each written in place or in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.errors import SuiteError
from cascade_eval.suite import files, phrases, text, tiers

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade_eval.cascade import Cascade
    from cascade_eval.errors import Problem
    from cascade_eval.suite.text import Lines

ALWAYS_FLAGSHIP = "always-flagship"
"""The comparison every cascade gets; no cascade of a suite may take its name."""


def in_route(path: text.Path) -> bool:
    """Whether a value of a suite is one that a route compares as text."""
    return path[:1] == ("cascades",) and tiers.in_route(path[2:])


def read(
    written: Any, lines: Lines, read_file: Callable[[str], str], problems: list[Problem]
) -> dict[str, Cascade | None]:
    """Read all cascades; what is wrong is added to `problems`, and None stands for one that could not be read."""
    if not isinstance(written, dict) or not written:
        message = "a suite needs 'cascades'" if written is None else f"'cascades' cannot be {phrases.show(written)}"
        problems.append(
            lines.problem(f"{message}: write 'name: [tiers]' or 'name: path/to/cascade.yaml' for each.", "cascades")
        )
        return {}
    return {name: _cascade(name, value, lines, read_file, problems) for name, value in written.items()}


def _cascade(
    name: str, value: Any, lines: Lines, read_file: Callable[[str], str], problems: list[Problem]
) -> Cascade | None:
    here = ("cascades", name)
    refused = _refused(name)
    if refused is not None:
        problems.append(lines.problem(refused, *here))
        return None
    if not isinstance(value, str):
        return tiers.read(name, value, lines.within(*here), problems)
    try:
        document = text.read(read_file(value), file=files.named(lines.file, value), as_text=tiers.in_route)
    except FileNotFoundError as error:
        problems.append(lines.problem(f"there is no file '{value}' beside the suite.{error}", *here))
    except SuiteError as error:
        problems += error.problems
    else:
        return tiers.read(name, document.value, document.lines, problems)
    return None


def _refused(name: str) -> str | None:
    if name == ALWAYS_FLAGSHIP:
        return f"'{ALWAYS_FLAGSHIP}' is the comparison that every cascade gets. Choose another name."
    if not name.strip() or "::" in name or "/" in name:
        return f"'{name}' cannot name a cascade: ids of tests are built from it. Leave out '::' and '/'."
    return None
