"""Models of every signed document's payload: strict, immutable, all faults reported at once."""

from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.certificate import Certificate
from hdrs_hpc.documents.models.checkpoint import Checkpoint
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.document import Document, Finding, InvalidDocumentError
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft
from hdrs_hpc.documents.models.login import Login
from hdrs_hpc.documents.models.release import ReleaseRecord
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.models.trust_root import TrustRoot

__all__ = [
    "Certificate",
    "Checkpoint",
    "Closure",
    "CodeApproval",
    "DatasetRegistration",
    "Document",
    "Finding",
    "Grant",
    "InvalidDocumentError",
    "JobSpec",
    "JobSpecDraft",
    "Login",
    "OutputDecision",
    "ReleaseRecord",
    "TrustRoot",
]
