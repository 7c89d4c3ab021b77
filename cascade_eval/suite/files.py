"""Text files of a suite: bounded, UTF-8, with the nearest name where one is missing."""

from __future__ import annotations

import difflib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cascade_eval.errors import Problem, SuiteError
from cascade_eval.suite import text

if TYPE_CHECKING:
    from collections.abc import Callable


def read(path: Path, shown: str) -> str:
    """Return the text of a file.

    Raises
    ------
    FileNotFoundError
        Where there is none; its message names the nearest one, as the tail of a sentence.
    SuiteError
        Where it cannot be read.
    """
    try:
        if path.stat().st_size > text.MAX_BYTES:
            raise SuiteError([Problem(f"the file is too large; at most {text.MAX_BYTES:,} bytes are read.", shown)])
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(_near(path, shown)) from None
    except UnicodeDecodeError as error:
        raise SuiteError([Problem(f"not UTF-8 at byte {error.start:,}.", shown)]) from None
    except OSError as error:
        raise SuiteError([Problem(f"cannot be read: {error.strerror}.", shown)]) from None


def _near(path: Path, shown: str) -> str:
    siblings = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f" Did you mean '{PurePosixPath(shown).with_name(near[0])}'?" if near else ""


def beside(base: Path, file: str) -> Callable[[str], str]:
    """Return a reader of files by their path relative to `base`, the folder of the suite shown as `file`."""
    return lambda path: read(base / path, named(file, path))


def named(file: str | None, path: str) -> str:
    """Return how a path relative to a suite is shown.

    Examples
    --------
    >>> named("suites/support.cascade.yaml", "cascades/wider.yaml")
    'suites/cascades/wider.yaml'
    """
    return (PurePosixPath(file or "").parent / path).as_posix()
