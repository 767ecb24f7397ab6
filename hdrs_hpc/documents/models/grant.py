"""The grant: what a project may do, with which data, by whom and until when.  Signed by custodians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.catalogue.outputs.output_class import GrantRule
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.core.limits import MAX_NODES
from hdrs_hpc.documents.models.data_use import DataUse, LegalBasis
from hdrs_hpc.documents.models.linked_columns import Columns
from hdrs_hpc.documents.models.selection import Selection
from hdrs_hpc.forms.document import Document, Items, Part, fault
from hdrs_hpc.forms.words import (
    Digest,
    Duration,
    End,
    Line,
    Name,
    Prose,
    SizeBytes,
    Start,
    Versioned,
    WalltimeS,
)


class DatesOutOfOrderError(BadDocumentError):
    code = "dates-out-of-order"
    meaning = "The dates of a document contradict each other."
    remedy = "A grant has from < run-until ≤ destroy-by; a spec expires at most 31 days after its not-before."


class SupersedesError(BadDocumentError):
    code = "supersedes-mismatch"
    meaning = "The version number and the version superseded do not fit together."
    remedy = "Version 1 supersedes nothing; every later version names the digest of the one before."


class BundleSizeError(BadDocumentError):
    code = "bundle-size-unsaid"
    meaning = "A grant lets researchers bring code without saying how much."
    remedy = "Give `limits: {bundle-size: 2GiB}` where `own-code` is `reviewed` or `project`."


class Approval(Part):
    """Whose decision the grant carries out."""

    body: Line
    reference: Line


class Valid(Part):
    """The project's dates.  A day given for an end counts whole, in UTC."""

    from_: Start
    run_until: End
    """First moment at which nothing of the project may run."""
    review_grace: Duration
    """How long reviews may go on after that; never past ``destroy_by``."""
    destroy_by: End

    @model_validator(mode="after")
    def _ordered(self) -> Valid:
        if self.run_until <= self.from_:
            fault(DatesOutOfOrderError, "run-until is not after from")
        if self.destroy_by < self.run_until:
            fault(DatesOutOfOrderError, "destroy-by is before run-until")
        return self


class People(Part):
    lead: Name
    researchers: Annotated[Items[Name], Field(min_length=1, max_length=200)]


class PixelRules(Part):
    """Identity in the pixels themselves: text burned into images, faces in head scans."""

    burned_in: Literal["blank", "hold", "refuse"] = "refuse"
    """Of images that may carry burned-in text: blank the places, hold the image for a person, or refuse it."""
    find_text: bool = False
    """Search every image for text, also where no rule suspects any."""
    deface: bool = False
    """Remove the face from head scans; what can't be defaced with certainty is held."""


class GrantedDataset(Part):
    version: Digest
    select: Selection = Field(default_factory=dict)
    """Which part is granted; empty for the whole."""
    cohort: Digest | None = None
    """SHA-256 of a list of patients, kept in the data zone: nobody else is staged."""
    columns: Columns = Field(default_factory=dict)
    """Of a table: the columns that are granted."""
    profile: Versioned
    """De-identification profile, such as ``radiology-basic@1``."""
    max_failed: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """How many items may be refused at staging before the whole copy is."""
    pixels: PixelRules = PixelRules()


class Workloads(Part):
    builtin: Annotated[Items[Versioned], Field(max_length=100)] = ()
    own_code: Literal["none", "reviewed", "project"] = "none"


class Limits(Part):
    clusters: Annotated[Items[Name], Field(min_length=1, max_length=50)]
    isolation: Isolation
    """The least isolation that a node must give."""
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    time: WalltimeS
    """Longest run of one job, in seconds."""
    gpu_hours: Annotated[int, Field(ge=0, le=1_000_000_000)]
    """For the whole project."""
    network: Literal["none", "job"] = "none"
    """Whether sandboxed nodes of one job may talk to each other; below a sandbox nothing keeps them apart."""
    bundle_size: SizeBytes | None = None
    """The largest bundle of the researchers' code; absent where they may bring none."""
    kept_size: SizeBytes | None = None
    """How much the project may keep for later jobs; absent for nothing."""


class OutputRules(Part):
    """Which classes of artefact may be declared, and how they are checked; an absent class is not granted.

    Every class of the catalogue has a field of its name here.
    """

    reviewers: Annotated[int, Field(ge=1, le=5)]
    bits: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """How much all releases of the project may carry together; absent where it is not counted."""

    def rule(self, output_class: str) -> GrantRule | None:
        """The rule of a class, or None where the class is not granted."""
        found: GrantRule | None = getattr(self, output_class, None)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are granted."""
        return tuple(row.name for row in outputs.CLASSES if self.rule(row.name) is not None)


if not TYPE_CHECKING:
    OutputRules = create_model(
        "OutputRules",
        __base__=OutputRules,
        __module__=__name__,
        __doc__=OutputRules.__doc__,
        **{row.name: (row.rule | None, None) for row in outputs.CLASSES},
    )


class Grant(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/grant/2"
    SINCE_BEFORE: ClassVar[str] = (
        "since hdrs-hpc/grant/1 a grant also says lay-summary, legal-basis, use and contact, "
        "and limits.bundle-size where researchers bring code"
    )

    project: Name
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    supersedes: Digest | None = None
    audience: Name | None = None
    """The one broker this grant is for; absent where the custodians' trust root serves only one."""
    title: Line
    approval: Approval
    valid: Valid
    people: People
    lay_summary: Annotated[Prose, Field(min_length=20)]
    """What the project does and why, for anybody: patients may read it."""
    legal_basis: LegalBasis
    use: DataUse
    """What the data may be used for."""
    contact: Line
    """Whom to write to about the grant."""
    data: Annotated[dict[Name, GrantedDataset], Field(min_length=1, max_length=100)]
    workloads: Workloads
    limits: Limits
    outputs: OutputRules

    @model_validator(mode="after")
    def _superseding(self) -> Grant:
        if (self.supersedes is None) != (self.version == 1):
            fault(SupersedesError, "version 1 supersedes nothing, every later version names the one before")
        return self

    @model_validator(mode="after")
    def _bundles_bounded(self) -> Grant:
        if self.workloads.own_code != "none" and self.limits.bundle_size is None:
            fault(BundleSizeError, "researchers may bring code, and limits.bundle-size does not say how much")
        return self

    @property
    def everyone(self) -> frozenset[str]:
        """Lead and researchers: the people who have an interest in the project."""
        return frozenset((self.people.lead, *self.people.researchers))

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {
            **super().in_log(people),
            "signers": list(people),
            "reviewers": self.outputs.reviewers,
            "run-until": clock.to_text(self.valid.run_until),
            "destroy-by": clock.to_text(self.valid.destroy_by),
        }
