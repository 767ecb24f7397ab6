"""Models of every signed document's payload: strict, immutable, all faults reported at once.

Each is imported when it is first asked for: building all of them takes a quarter of a second, and who stages a folder
needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdrs_hpc.documents.models.approval import CodeApproval
    from hdrs_hpc.documents.models.certificate import Certificate
    from hdrs_hpc.documents.models.checkpoint import Checkpoint
    from hdrs_hpc.documents.models.closure import Closure
    from hdrs_hpc.documents.models.dataset import DatasetRegistration
    from hdrs_hpc.documents.models.grant import Grant
    from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft
    from hdrs_hpc.documents.models.login import Login
    from hdrs_hpc.documents.models.opt_out import OptOutChange
    from hdrs_hpc.documents.models.release import ReleaseRecord
    from hdrs_hpc.documents.models.review import OutputDecision
    from hdrs_hpc.documents.models.trust_root import TrustRoot

_LIES_IN = {
    "Certificate": "certificate",
    "Checkpoint": "checkpoint",
    "Closure": "closure",
    "CodeApproval": "approval",
    "DatasetRegistration": "dataset",
    "Grant": "grant",
    "JobSpec": "job_spec",
    "JobSpecDraft": "job_spec",
    "Login": "login",
    "OptOutChange": "opt_out",
    "OutputDecision": "review",
    "ReleaseRecord": "release",
    "TrustRoot": "trust_root",
}

__all__ = [
    "Certificate",
    "Checkpoint",
    "Closure",
    "CodeApproval",
    "DatasetRegistration",
    "Grant",
    "JobSpec",
    "JobSpecDraft",
    "Login",
    "OptOutChange",
    "OutputDecision",
    "ReleaseRecord",
    "TrustRoot",
]


def __getattr__(name: str) -> Any:
    module = _LIES_IN.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
