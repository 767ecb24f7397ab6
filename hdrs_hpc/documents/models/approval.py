"""Code approval: one named reviewer has read one bundle, named by digest, for one project."""

from __future__ import annotations

from typing import Any, ClassVar

from hdrs_hpc.forms.document import Document
from hdrs_hpc.forms.words import Digest, Moment, Name, Prose


class CodeApproval(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/code-approval/1"

    project: Name
    bundle: Digest
    reviewer: Name
    """Must be the person whose key signs."""
    statement: Prose
    at: Moment

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {**super().in_log(people), "reviewer": people[0]}
