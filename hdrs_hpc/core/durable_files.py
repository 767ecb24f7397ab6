"""Small files that a crash leaves whole: the old one or the new one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from hdrs_hpc.core import strict_json


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a small file atomically and durably."""
    replace_file(path, strict_json.dumps(value))


def replace_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file (0600) so that a crash or power cut leaves the old one or the new one, whole.

    Pieces of an iterable are written as they come; when it raises, nothing has changed.
    """
    partial = partial_of(path)
    try:
        with create(partial) as handle:
            for piece in [content] if isinstance(content, bytes) else content:
                handle.write(piece)
            handle.flush()
            os.fsync(handle.fileno())
        give_name(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def partial_of(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def create(partial: Path) -> BinaryIO:
    """An empty file (0600) to write to."""
    return os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def give_name(partial: Path, path: Path) -> None:
    """Put a written and synced file under its name, durably."""
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
