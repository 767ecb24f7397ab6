"""Small files that a crash leaves whole: the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hdrs_hpc.core import strict_json


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a small file atomically and durably."""
    replace_file(path, strict_json.dumps(value))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file (0600) so that a crash or power cut leaves the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
