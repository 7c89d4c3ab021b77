"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cascade_eval import errors


def write(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path` through a temporary file in the same folder; missing folders are made.

    A reader never sees half a file, and what stood there before survives a failure. Raises UsageError where the
    folder or the file cannot be written.
    """
    target = Path(path)
    # Of this process, so that two runs writing the same report never share a temporary file.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, target)  # noqa: PTH105  named as the standard library names its atomicity
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise errors.UsageError(f"cannot write {target}: {error.strerror or error}") from error
    return target
