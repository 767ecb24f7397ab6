"""Dataset registration: custodians state what a source of approved data is, whose it is, and its scanned version."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hdrs_hpc.documents.models.document import Document
from hdrs_hpc.documents.models.source import SourceLocation
from hdrs_hpc.documents.models.words import Digest, Line, Name

Kind = Literal["radiology", "pathology", "table"]
_COUNTED: dict[Kind, str] = {
    "radiology": "that the scan listed; staging makes series of them, and says which it refuses",
    "pathology": "that the scan listed; staging makes slides of them, and says which it refuses",
    "table": "with rows of the table; none of them is one patient",
}
Sensitivity = Literal["synthetic", "public", "real"]


def counted(kind: Kind, items: int) -> str:
    """What a registration's number of items counts: files, never patients."""
    return f"{items:,} {'file' if items == 1 else 'files'} {_COUNTED[kind]}"


class DatasetRegistration(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/dataset-registration/2"
    SINCE_BEFORE: ClassVar[str] = "since hdrs-hpc/dataset-registration/1 it names its owner, an organisation"

    name: Name
    owner: Name
    """The organisation of the trust root whose data they are; its own custodians sign this."""
    kind: Kind
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
