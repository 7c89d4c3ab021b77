"""Data files: which belong to a path, what format each is, how its bytes are read."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval import errors
from cascade_eval.errors import DataError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

DOCUMENTS = frozenset(
    {".md", ".rst", ".txt", ".html", ".css", ".js", ".pdf", ".png", ".svg", ".jpg", ".jpeg", ".bib", ".yaml", ".yml",
     ".toml", ".py", ".ipynb", ".sh", ".sql", ".dvc"}
)  # fmt: skip
CHECKSUMS = frozenset({".crc", ".md5", ".sha1", ".sha256"})
COMPANIONS = frozenset(
    {"readme", "license", "notice", "changelog", "makefile", "import.json", "evidence.json", "plan.json", "manifest.json",
     "metadata.json", "schema.json", "dataset_info.json"}
)  # fmt: skip
"""What may lie beside data and is none: described by these, or by the endings above; names in small letters."""


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
        Nothing there, no data file in it, or a format this package does not read; a file beside the data that may be data.
    """
    there = every(path, base)
    data = [file for file in there if file.format]
    if not data:
        raise DataError([Problem(f"no data file. {_READABLE}", shown(path, base))])
    refuse_unread(there, data, FORMATS, _READABLE)
    return sorted(data, key=lambda file: file.relative)


def refuse_unread(there: Sequence[File], taken: Sequence[File], endings: Container[str], readable: str) -> None:
    """Refuse files that are not read and may be data: rotated, half copied, otherwise packed, of another format.

    Parameters
    ----------
    there
        All files of a folder.
    taken
        Those that are read.
    endings
        Endings of data files; one that stands within a name makes the file a part of the data.
    readable
        What is read, as a sentence.

    Raises
    ------
    DataError
        Names each file that is neither read nor a known companion.
    """
    names = {file.relative for file in taken}
    unread = [file for file in there if file.relative not in names and not _companion(file.relative, endings)]
    if unread:
        said = f"is not read, and would be left out. {readable} Unpack or rename it, move it away, or begin its name with '_'"
        raise DataError([Problem(said, file.name) for file in sorted(unread, key=lambda file: file.relative)])


def _companion(relative: str, endings: Container[str]) -> bool:
    path = Path(relative.lower())
    if path.suffix in CHECKSUMS or path.name in COMPANIONS or path.name.endswith(".schema.json"):
        return True
    return path.suffix in DOCUMENTS and not any(suffix in endings for suffix in path.suffixes)


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
        raise DataError([Problem(f"there is no such file or folder{errors.beside(root)}", path)])
    return [File(path, root.name, str(root))]


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


def hasher(files: Sequence[File]) -> Callable[[], str]:
    """Return what hashes these files once, and refuses to, each time, where one is not the file it is now any more."""
    before = [_stamp(file) for file in files]
    once = functools.cache(lambda: sha256(files))

    def hash_unchanged() -> str:
        found = once()
        changed = [file for file, stamp in zip(files, before, strict=True) if _stamp(file) != stamp]
        if changed:
            raise DataError([Problem("was replaced while it was read. Run again", file.name) for file in changed])
        return found

    return hash_unchanged


def _stamp(file: File) -> tuple[int, int, int] | None:
    """Tell one state of a local file from another; None where that cannot be told."""
    if file.system is not None:
        return None
    state = Path(file.path).stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def sha256(files: Sequence[File]) -> str:
    """Hash the bytes of the files, in the order of their relative names."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    for file in files:
        with file.open() as stream:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])
    return digest.hexdigest()
