"""Code approval: one named reviewer has read one bundle, named by digest, for one project."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from hdrs_hpc.documents.models.workload import what_is_approved
from hdrs_hpc.forms.document import Document, Part
from hdrs_hpc.forms.words import Digest, Moment, Name, Prose


class ReviewedWheels(Part):
    """The packages that the code brings along, whose hashes the reviewer's own machine verified."""

    lock: Digest
    index: Annotated[str, Field(min_length=1, max_length=500)]
    """Where the reviewer's machine fetched them from: an address, or ``local files``."""


class CodeApproval(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/code-approval/1"

    project: Name
    bundle: Digest
    wheels: ReviewedWheels | None = None
    reviewer: Name
    """Must be the person whose key signs."""
    statement: Prose
    at: Moment

    @property
    def covers(self) -> str:
        """What is approved, as :attr:`BundleRef.to_approve` names what is asked for."""
        return what_is_approved(self.bundle, self.wheels.lock if self.wheels else None)

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {**super().in_log(people), "reviewer": people[0]}
