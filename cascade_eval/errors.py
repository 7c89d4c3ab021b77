"""Everything that can be wrong with what a user handed in.

::

    CascadeEvalError
    └── UsageError          a list of problems, all of one file shown together; exit code 4
        ├── SuiteError      a suite, cascade or budget that cannot be read
        ├── DataError       traffic or a golden that cannot be trusted
        ├── CostError       a price or a recorded cost that is missing where a budget needs it
        └── BaselineError   a baseline that is missing, partial or of other data

A `UsageError` is never a failing budget: nothing was judged.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    Parameters
    ----------
    message
        What is wrong, what is allowed, the nearest valid name, the next command.
    file
        The file it stands in, as the user named it.
    line
        One-based line (JSONL, YAML) or row of that file.
    """

    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}"


class CascadeEvalError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(CascadeEvalError):
    """What was handed in cannot be used; `problems` lists every reason found.

    Parameters
    ----------
    problems
        Problems or plain messages, shown one per line.
    """

    def __init__(self, problems: Iterable[Problem | str] | str) -> None:
        if isinstance(problems, str):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


class SuiteError(UsageError):
    """A suite, a cascade or a budget cannot be read."""


class DataError(UsageError):
    """Traffic or a golden cannot be trusted."""


class CostError(UsageError):
    """A price or recorded cost is missing where it is needed."""


class BaselineError(UsageError):
    """A baseline is missing, partial, or of other data."""


def did_you_mean(word: str, allowed: Iterable[str], *, head: str = "Allowed") -> str:
    """Name the nearest allowed word, as the tail of a sentence.

    Parameters
    ----------
    word
        What was written.
    allowed
        What may be written.
    head
        What the list begins with where no word is near.

    Returns
    -------
    str
        `` Did you mean 'x'?``, with the leading space, or all allowed words when none is near.

    Examples
    --------
    >>> did_you_mean("treshold", ["threshold", "signal"])
    " Did you mean 'threshold'?"
    >>> did_you_mean("price", ["threshold", "signal"])
    " Allowed: 'signal', 'threshold'."
    """
    words = sorted(set(allowed))
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    if not words:
        return ""
    shown = ", ".join(f"'{name}'" for name in words[:20])
    return f" {head}: {shown}{', …' if len(words) > 20 else ''}."


def beside(path: Path) -> str:
    """Name the file nearest to one that is not there, as the end of a sentence.

    Parameters
    ----------
    path
        What was looked for.

    Returns
    -------
    str
        Beginning with a full stop, or with the folder that does not exist either.

    Examples
    --------
    >>> from pathlib import Path
    >>> "there is no such file" + beside(Path("docs/monitr.md"))
    "there is no such file. Did you mean 'monitor.md'?"
    >>> "there is no such file" + beside(Path("dosc/monitor.md"))
    'there is no such file (dosc does not exist either)'
    """
    if not path.parent.is_dir():
        return f" ({path.parent} does not exist either)"
    names = [item.name for item in path.parent.iterdir() if not item.name.startswith(".")]
    stem = path.name.partition(".")[0]
    # Two names are not alike because both end in .parquet.
    alike = difflib.get_close_matches(stem, {name.partition(".")[0] for name in names}, n=1)
    near = [name for name in names if name.partition(".")[0] in alike]
    return f".{did_you_mean(path.name if near else '', near or names, head='Beside it')}"
