"""Release record: the broker's statement that one artefact left the project, and on whose decisions."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from hdrs_hpc.catalogue.outputs import ClassName
from hdrs_hpc.forms.document import Document, Items
from hdrs_hpc.forms.words import Digest, Line, Moment, Name, ShortId


class ReleaseRecord(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/release-record/1"

    audience: Name
    project: Name
    job: ShortId
    attempt: Line
    """Name of the attempt that made it."""
    artefact: Name
    class_: ClassName
    file: Line
    """File name under which it is fetched."""
    media_type: Line
    content: Digest
    """Of the rebuilt bytes that left; nothing else did."""
    bytes: Annotated[int, Field(ge=0)]
    report: Digest
    """Of the check's report that the reviewers saw."""
    grant: Digest
    spec: Digest
    decisions: Annotated[Items[Digest], Field(min_length=1)]
    """Of the signed output decisions that released it."""
    reviewers: Annotated[Items[Name], Field(min_length=1)]
    released_at: Moment
