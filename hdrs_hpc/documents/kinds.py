"""THE table: each kind of signed document with its payload type, SSHSIG namespace, signer and model.

A signature is good for one kind only, because payload type (inside the DSSE encoding) and namespace (inside
the SSH signature) both name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from hdrs_hpc.core.errors import InternalError

if TYPE_CHECKING:
    from hdrs_hpc.forms.document import Document

BROKER = "broker"
ANYONE = "anyone"


@dataclass(frozen=True)
class DocumentKind:
    """One row.  ``role`` is a person's role in the trust root, ``anyone`` in it, or ``broker``."""

    name: str
    role: str
    model_place: str | None
    """``module:Class``, resolved when asked for, so that this table stays light."""
    single_signer: bool = False
    """Exactly one person answers for it; a second signer would leave open whose it is."""
    version: int = 1
    """Of the payload's format."""

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
    def model(self) -> type[Document]:
        if self.model_place is None:
            raise InternalError(f"{self.name} is read by the protocol, not by a document model")
        module, _, name = self.model_place.partition(":")
        found: type[Document] = getattr(import_module(f"hdrs_hpc.documents.models.{module}"), name)
        return found


_ROWS = (
    DocumentKind("trust-root", "custodian", "trust_root:TrustRoot", version=2),
    DocumentKind("dataset-registration", "custodian", "dataset:DatasetRegistration", version=2),
    DocumentKind("grant", "custodian", "grant:Grant", version=2),
    DocumentKind("code-approval", "code-reviewer", "approval:CodeApproval", single_signer=True),
    DocumentKind("job-spec", "researcher", "job_spec:JobSpec", single_signer=True, version=2),
    DocumentKind("output-decision", "checker", "review:OutputDecision", single_signer=True),
    DocumentKind("opt-out-change", "custodian", "opt_out:OptOutChange"),
    DocumentKind("closure", "custodian", "closure:Closure", version=2),
    DocumentKind("login", ANYONE, "login:Login", single_signer=True),
    DocumentKind("release-record", BROKER, "release:ReleaseRecord"),
    DocumentKind("certificate", BROKER, "certificate:Certificate"),
    DocumentKind("checkpoint", BROKER, "checkpoint:Checkpoint"),
    DocumentKind("handover-answer", BROKER, None, version=2),
)

KINDS: dict[str, DocumentKind] = {row.name: row for row in _ROWS}
BY_PAYLOAD_TYPE: dict[str, DocumentKind] = {row.payload_type: row for row in _ROWS}
