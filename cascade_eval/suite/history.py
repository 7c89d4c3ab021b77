"""The cascades of a suite as they were at a commit, for `baseline: git:<ref>`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cascade_eval.errors import BaselineError, Problem, SuiteError
from cascade_eval.suite import cascades, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade_eval.cascade import Cascade

_SECONDS = 60
_INSTEAD = "or name a cascade of this suite as the baseline: 'baseline: current'."


@dataclass(frozen=True)
class Past:
    """Cascades of a suite at a commit.

    Parameters
    ----------
    commit
        Full hash.
    created_at
        When it was committed, ISO 8601 with zone.
    cascades
        By name.
    """

    commit: str
    created_at: str
    cascades: Mapping[str, Cascade]


def at(path: str | Path, ref: str, *, shown: str | None = None) -> Past:
    """Read the cascades of the suite at `path` as they were at a commit.

    Parameters
    ----------
    path
        The suite in the working tree.
    ref
        A branch, tag or commit, such as ``origin/main``.
    shown
        How messages name the suite; by default `path`.

    Raises
    ------
    BaselineError
        Where git, the commit or the file is missing, or its cascades cannot be read; with the next command.
    """
    path = Path(path)
    shown = path.as_posix() if shown is None else shown
    found = _git(path.parent, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None and _git(path.parent, "rev-parse", "--git-dir") is None:
        raise BaselineError([Problem(f"'git:{ref}' needs a git repository, and there is none here; {_INSTEAD}", shown)])
    if found is None:
        raise BaselineError([Problem(f"git knows no commit '{ref}' here. {_fetch(ref)}, {_INSTEAD}", shown)])
    commit = found.strip()
    when = _git(path.parent, "show", "--no-patch", "--format=%cI", commit) or ""
    return Past(commit, when.strip(), _cascades(path, commit, ref, shown))


def _fetch(ref: str) -> str:
    remote, _, branch = ref.rpartition("/")
    if not remote:
        return f"A shallow clone has only the newest commit; run 'git fetch --unshallow' or 'git fetch origin {ref}'"
    return f"Run 'git fetch --depth=1 {remote} {branch}:refs/remotes/{ref}'"


def _cascades(path: Path, commit: str, ref: str, shown: str) -> dict[str, Cascade]:
    try:
        document = text.read(_show(path.parent, commit, path.name), file=f"{shown} at {ref}", as_text=cascades.in_route)
    except FileNotFoundError:
        message = f"this suite does not exist at '{ref}'. Commit it there first, {_INSTEAD}"
        raise BaselineError([Problem(message, shown)]) from None
    except SuiteError as error:
        raise BaselineError(error.problems) from None
    written = document.value.get("cascades") if isinstance(document.value, dict) else None
    problems: list[Problem] = []
    read = cascades.read(written, document.lines, lambda file: _show(path.parent, commit, file), problems)
    if problems:
        raise BaselineError(problems)
    return {name: cascade for name, cascade in read.items() if cascade is not None}


def _show(folder: Path, commit: str, path: str) -> str:
    shown = _git(folder, "show", f"{commit}:./{path}")
    if shown is None:
        raise FileNotFoundError("")
    return shown


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, None where it fails."""
    environment = os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(  # noqa: S603  no shell; the ref is checked before it gets here and never an option
            ["git", "-C", str(folder), "--no-pager", *arguments],  # noqa: S607  the git of the user's own path
            capture_output=True,
            check=False,
            env=environment,
            timeout=_SECONDS,
        )
    except FileNotFoundError:
        raise BaselineError(f"a baseline by commit needs git, which is not installed. Install it, {_INSTEAD}") from None
    except subprocess.TimeoutExpired:
        raise BaselineError(f"git did not answer within {_SECONDS} seconds.") from None
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else None
