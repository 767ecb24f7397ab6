"""The bytes of an artefact, as somebody gets them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArtefactBytes:
    raw: bytes
    media_type: str | None
    file: str
    """The name to save it under."""
