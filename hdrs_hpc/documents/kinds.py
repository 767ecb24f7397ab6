"""THE table: each kind of signed document with its payload type, SSHSIG namespace, signer and model.

A signature is good for one kind only, because payload type (inside the DSSE encoding) and namespace (inside
the SSH signature) both name it.  Schemas, events of the log and filing take their kinds from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hdrs_hpc.core.errors import InternalError

if TYPE_CHECKING:
    from hdrs_hpc.documents.models.approval import CodeApproval
    from hdrs_hpc.documents.models.certificate import Certificate
    from hdrs_hpc.documents.models.checkpoint import Checkpoint
    from hdrs_hpc.documents.models.closure import Closure
    from hdrs_hpc.documents.models.dataset import DatasetRegistration
    from hdrs_hpc.documents.models.grant import Grant
    from hdrs_hpc.documents.models.job_spec import JobSpec
    from hdrs_hpc.documents.models.login import Login
    from hdrs_hpc.documents.models.opt_out import OptOutChange
    from hdrs_hpc.documents.models.release import ReleaseRecord
    from hdrs_hpc.documents.models.review import OutputDecision
    from hdrs_hpc.documents.models.trust_root import TrustRoot
    from hdrs_hpc.forms.document import Document

BROKER = "broker"
ANYONE = "anyone"


@dataclass(frozen=True)
class DocumentKind[M: Document]:
    """One row.  ``role`` is a person's role in the trust root, ``anyone`` in it, or ``broker``."""

    name: str
    role: str
    model_place: str | None
    """``module:Class``, resolved when asked for, so that this table stays light."""
    single_signer: bool = False
    """Exactly one person answers for it; a second signer would leave open whose it is."""
    version: int = 1
    """Of the payload's format."""
    draft_place: str | None = None
    """The model of what people write, where signing adds to it."""
    about: str = ""
    """What its entry in the log is about, in names of ``audit.vocabulary.SUBJECTS``, where that entry says no more."""

    @property
    def payload_type(self) -> str:
        return f"application/vnd.hdrs-hpc.{self.name}+json"

    @property
    def namespace(self) -> str:
        return f"hdrs-hpc/{self.name}@1"

    @property
    def schema(self) -> str:
        """The value of the payload's ``schema`` field."""
        return f"hdrs-hpc/{self.name}/{self.version}"

    @property
    def filed(self) -> bool:
        """Whether people send it to the broker to be kept; of a login nothing is kept."""
        return self.role not in (BROKER, ANYONE)

    @property
    def model(self) -> type[M]:
        if self.model_place is None:
            raise InternalError(f"{self.name} is read by the protocol, not by a document model")
        found: type[M] = _at(self.model_place)
        return found

    @property
    def draft(self) -> type[Document]:
        """The model of what people write."""
        found: type[Document] = self.model if self.draft_place is None else _at(self.draft_place)
        return found


def _at(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"hdrs_hpc.documents.models.{module}"), name)


TRUST_ROOT: DocumentKind[TrustRoot] = DocumentKind(
    "trust-root", "custodian", "trust_root:TrustRoot", version=2
)
DATASET_REGISTRATION: DocumentKind[DatasetRegistration] = DocumentKind(
    "dataset-registration", "custodian", "dataset:DatasetRegistration", version=2
)
GRANT: DocumentKind[Grant] = DocumentKind("grant", "custodian", "grant:Grant", version=2)
CODE_APPROVAL: DocumentKind[CodeApproval] = DocumentKind(
    "code-approval", "code-reviewer", "approval:CodeApproval", single_signer=True
)
JOB_SPEC: DocumentKind[JobSpec] = DocumentKind(
    "job-spec",
    "researcher",
    "job_spec:JobSpec",
    single_signer=True,
    version=2,
    draft_place="job_spec:JobSpecDraft",
)
OUTPUT_DECISION: DocumentKind[OutputDecision] = DocumentKind(
    "output-decision", "checker", "review:OutputDecision", single_signer=True
)
OPT_OUT_CHANGE: DocumentKind[OptOutChange] = DocumentKind(
    "opt-out-change", "custodian", "opt_out:OptOutChange"
)
CLOSURE: DocumentKind[Closure] = DocumentKind("closure", "custodian", "closure:Closure", version=2)
LOGIN: DocumentKind[Login] = DocumentKind("login", ANYONE, "login:Login", single_signer=True)
RELEASE_RECORD: DocumentKind[ReleaseRecord] = DocumentKind("release-record", BROKER, "release:ReleaseRecord")
CERTIFICATE: DocumentKind[Certificate] = DocumentKind("certificate", BROKER, "certificate:Certificate")
CHECKPOINT: DocumentKind[Checkpoint] = DocumentKind("checkpoint", BROKER, "checkpoint:Checkpoint")
HANDOVER_ANSWER: DocumentKind[Document] = DocumentKind("handover-answer", BROKER, None, version=2)

_ROWS = tuple(row for row in tuple(vars().values()) if isinstance(row, DocumentKind))
KINDS: dict[str, DocumentKind[Document]] = {row.name: row for row in _ROWS}
BY_PAYLOAD_TYPE: dict[str, DocumentKind[Document]] = {row.payload_type: row for row in _ROWS}
