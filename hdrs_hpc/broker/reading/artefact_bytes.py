"""The stream of a released artefact that somebody gets, with its type and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class ArtefactBytes:
    source: BinaryIO
    """Opened to be read once, piece by piece; what is opened stays whole when the file is purged meanwhile."""
    media_type: str | None
    file: str
    """The name to save it under."""
