"""Closure: a custodian freezes, closes or revokes a project.  The red button."""

from __future__ import annotations

from typing import ClassVar, Literal

from hdrs_hpc.documents.models.document import Document
from hdrs_hpc.documents.models.words import Moment, Name, Nonce, Prose


class Closure(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/closure/1"

    project: Name
    action: Literal["freeze", "close", "revoke"]
    reason: Prose
    nonce: Nonce
    at: Moment
