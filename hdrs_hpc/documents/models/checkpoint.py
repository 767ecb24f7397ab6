"""Audit checkpoint: the broker's signed statement of the log's size and root hash."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from hdrs_hpc.forms.document import Document
from hdrs_hpc.forms.words import Hash, Moment, Name


class Checkpoint(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/checkpoint/1"

    audience: Name
    size: Annotated[int, Field(ge=0)]
    """How many entries the log has."""
    root: Hash
    """RFC 6962 Merkle tree hash over them, hexadecimal."""
    at: Moment
