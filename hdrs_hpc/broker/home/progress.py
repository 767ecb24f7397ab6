"""How far a piece of long work is, as its process last wrote it into its folder of the home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROGRESS_NAME = "progress.json"


def told(folder: Path) -> dict[str, Any] | None:
    """What the work last wrote about how far it is."""
    try:
        found: dict[str, Any] = json.loads((folder / PROGRESS_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found
