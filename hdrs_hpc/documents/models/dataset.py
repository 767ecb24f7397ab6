"""Dataset registration: custodians state what a source of approved data is, whose it is, and its scanned version."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hdrs_hpc.catalogue.data_kinds import DATA_KINDS, DataKind
from hdrs_hpc.documents.models.source import SourceLocation
from hdrs_hpc.forms.document import Document
from hdrs_hpc.forms.words import Digest, Line, Name

Sensitivity = Literal["synthetic", "public", "real"]


def counted(kind: str, items: int) -> str:
    """What a registration's number of items counts: files, never patients."""
    return f"{items:,} {'file' if items == 1 else 'files'} {DATA_KINDS[kind].files_told}"


class DatasetRegistration(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/dataset-registration/2"
    SINCE_BEFORE: ClassVar[str] = "since hdrs-hpc/dataset-registration/1 it names its owner, an organisation"

    name: Name
    owner: Name
    """The organisation of the trust root whose data they are; its own custodians sign this."""
    kind: DataKind
    sensitivity: Sensitivity
    source: SourceLocation
    """Where the data zone reads the dataset from."""
    version: Digest
    """Digest of the inventory that a scan made."""
    items: Annotated[int, Field(ge=0)]
    """How many rows that inventory has."""
    issuer: Line | None = None
    """Who gave the patient ids that name no issuer of their own, for example a trust; None: this dataset itself.

    Equal ids of one issuer are one person in a project, of two issuers two.
    """

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {**super().in_log(people), "dataset": self.name}
