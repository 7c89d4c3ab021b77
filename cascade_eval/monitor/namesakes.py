"""Under which name a history keeps a suite's weeks, and who else keeps some under it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade_eval.monitor.nouns import Row
    from cascade_eval.suite import Suite


def known_as(suite: Suite) -> str:
    """Name a suite independently of the folder a job runs in: its file's name without ``.cascade.yaml``."""
    return PurePosixPath(suite.name).name.removesuffix(".yaml").removesuffix(".cascade")


def origin(suite: Suite) -> str | None:
    """Return where a suite lies in its repository, the same on every machine; None outside of one."""
    root, path = _root(suite), _path(suite)
    return None if root is None else path.relative_to(root).as_posix()


def namesake(suite: Suite, kept: Iterable[Row]) -> str | None:
    """Return another suite of this repository whose weeks a history keeps under the same name; None where there is none.

    Rows of a suite that lies elsewhere now, and of one outside of any repository, are taken for this suite's own.

    Parameters
    ----------
    suite
        Whose weeks are to be read or written.
    kept
        Rows of the history.
    """
    root = _root(suite)
    if root is None:
        return None
    others = {row.origin for row in kept if row.suite == known_as(suite)} - {origin(suite), None}
    return next((other for other in sorted(filter(None, others)) if (root / other).is_file()), None)


def _path(suite: Suite) -> Path:
    return (suite.base / Path(suite.name).name).resolve()


def _root(suite: Suite) -> Path | None:
    return next((folder for folder in _path(suite).parents if (folder / ".git").exists()), None)
