"""Data files: which belong to a path, what format each is, how its bytes are read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval.errors import DataError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class File:
    """One data file.

    Parameters
    ----------
    name
        As the user named it, for messages.
    relative
        Below the path that was opened; decides the order.
    path
        Where it is.
    system
        An fsspec file system, None for the local one.
    """

    name: str
    relative: str
    path: str
    system: Any = None

    @property
    def format(self) -> str | None:
        """``parquet``, ``jsonl`` or ``csv``; None where the name does not say."""
        stem, compression = self._split()
        kind = FORMATS.get(Path(stem).suffix.lower())
        return None if kind == "parquet" and compression else kind

    @property
    def compression(self) -> str | None:
        """``gzip``, ``zstd`` or None."""
        return self._split()[1]

    def _split(self) -> tuple[str, str | None]:
        suffix = Path(self.relative).suffix.lower()
        if suffix in COMPRESSIONS:
            return self.relative[: -len(suffix)], COMPRESSIONS[suffix]
        return self.relative, None

    def open(self) -> Any:
        """Open for reading bytes, as stored."""
        if self.system is not None:
            return self.system.open(self.path, "rb")
        return Path(self.path).open("rb")


def find(path: str, base: Path | None) -> list[File]:
    """List the data files of a file, a folder or an fsspec URL, in the order of their relative names.

    Raises
    ------
    DataError
        Nothing there, no data file in it, or a format this package does not read.
    """
    data = [file for file in every(path, base) if file.format]
    if not data:
        raise DataError([Problem(f"no data file. {_READABLE}", shown(path, base))])
    return sorted(data, key=lambda file: file.relative)


def every(path: str, base: Path | None) -> list[File]:
    """List all files of a file, a folder or an fsspec URL, whatever their format; DataError where nothing is there."""
    return _remote(path) if "://" in path else _local(path, base)


def shown(path: str, base: Path | None) -> str:
    """Name a path for messages: one that a suite wrote relative to itself, from the working directory."""
    if base is None or "://" in path or Path(path).expanduser().is_absolute():
        return path
    return os.path.relpath(base / path)


_READABLE = "Readable: .parquet, .jsonl, .jsonl.gz, .jsonl.zst, .csv, or a folder of them."


def _local(path: str, base: Path | None) -> list[File]:
    root = Path(path).expanduser()
    path = shown(path, base)
    if base is not None and not root.is_absolute():
        root = base / root
    if root.is_dir():
        inside = [p for p in root.rglob("*") if p.is_file() and not _hidden(p.relative_to(root).as_posix())]
        return [
            File(f"{path.rstrip('/')}/{p.relative_to(root).as_posix()}", p.relative_to(root).as_posix(), str(p))
            for p in inside
        ]
    if not root.exists():
        raise DataError([Problem(f"there is no such file or folder{_near(root)}", path)])
    return [File(path, root.name, str(root))]


def _near(root: Path) -> str:
    from cascade_eval import errors

    siblings = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
    return f".{errors.did_you_mean(root.name, siblings)}" if siblings else f" ({root.parent} does not exist either)"


def _remote(path: str) -> list[File]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(path)
        is_folder = system.isdir(root)
        inside = sorted(system.find(root)) if is_folder else [root]
        if not is_folder and not system.exists(root):
            raise DataError([Problem("there is no such file or folder", path)])
    except (OSError, ValueError, ImportError) as error:
        raise DataError([Problem(f"cannot be opened: {error}", path)]) from error
    if not is_folder:
        return [File(path, Path(root).name, root, system)]
    below = [(name, name.removeprefix(root).lstrip("/")) for name in inside]
    return [File(f"{path.rstrip('/')}/{short}", short, name, system) for name, short in below if not _hidden(short)]


def _hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/"))


def sha256(files: Sequence[File]) -> str:
    """Hash the bytes of the files, in the order of their relative names."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    for file in files:
        with file.open() as stream:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])
    return digest.hexdigest()
