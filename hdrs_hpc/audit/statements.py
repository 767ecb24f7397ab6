"""Compares what an entry says of a signed document with what the document itself says.

The log is the broker's word, the documents are the people's; where an entry repeats a document, they must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.models import (
    Certificate,
    Closure,
    CodeApproval,
    DatasetRegistration,
    Grant,
    JobSpec,
    OptOutChange,
    OutputDecision,
    TrustRoot,
)
from hdrs_hpc.documents.trust import Verified
from hdrs_hpc.forms.document import Document


class StatementMismatchError(BadDocumentError):
    code = "audit-document-mismatch"
    meaning = "An entry of the log and the signed document that it names tell different things."
    remedy = (
        "Stop trusting this broker until its operator explains the entry named; keep this copy of the log."
    )


def check_statement(entry: Entry, verified: Verified[Document]) -> None:
    """Raise :class:`StatementMismatchError` where ``entry`` contradicts the document that it accepts."""
    said = {**entry.subject, **entry.detail}
    for key, value in _READERS[type(verified.document)](verified).items():
        if key in said and said[key] != value:
            raise StatementMismatchError(
                f"{key} is not what the document says", where=f"entry {entry.seq}, {entry.event}"
            )


def _root(verified: Verified[Any]) -> dict[str, Any]:
    root: TrustRoot = verified.document
    return {"version": root.version, "supersedes": root.supersedes}


def _registration(verified: Verified[Any]) -> dict[str, Any]:
    dataset: DatasetRegistration = verified.document
    return {
        "dataset": dataset.name,
        "version": dataset.version,
        "items": dataset.items,
        "sensitivity": dataset.sensitivity,
        "owner": dataset.owner,
        "kind": dataset.kind,
    }


def _grant(verified: Verified[Any]) -> dict[str, Any]:
    grant: Grant = verified.document
    return {
        "project": grant.project,
        "version": grant.version,
        "supersedes": grant.supersedes,
        "signers": list(verified.people),
        "reviewers": grant.outputs.reviewers,
        "run-until": clock.to_text(grant.valid.run_until),
        "destroy-by": clock.to_text(grant.valid.destroy_by),
    }


def _approval(verified: Verified[Any]) -> dict[str, Any]:
    approval: CodeApproval = verified.document
    (reviewer,) = verified.people
    return {"project": approval.project, "bundle": approval.bundle, "reviewer": reviewer}


def _spec(verified: Verified[Any]) -> dict[str, Any]:
    spec: JobSpec = verified.document
    (submitter,) = verified.people
    return {"project": spec.project, "submitter": submitter}


def _decision(verified: Verified[Any]) -> dict[str, Any]:
    decision: OutputDecision = verified.document
    return {"project": decision.project, "job": decision.job}


def _closure(verified: Verified[Any]) -> dict[str, Any]:
    closure: Closure = verified.document
    return {"project": closure.project, "action": closure.action}


def _opt_out(verified: Verified[Any]) -> dict[str, Any]:
    change: OptOutChange = verified.document
    return {
        "dataset": change.dataset,
        "version": change.version,
        "action": change.action,
        "supersedes": change.supersedes,
    }


def _certificate(verified: Verified[Any]) -> dict[str, Any]:
    certificate: Certificate = verified.document
    return {
        "project": certificate.project,
        "size": certificate.log.size,
        "root": f"sha256:{certificate.log.root}",
    }


_READERS: dict[type[Document], Callable[[Verified[Any]], dict[str, Any]]] = {
    TrustRoot: _root,
    DatasetRegistration: _registration,
    Grant: _grant,
    CodeApproval: _approval,
    JobSpec: _spec,
    OutputDecision: _decision,
    Closure: _closure,
    OptOutChange: _opt_out,
    Certificate: _certificate,
}
"""What each kind of document says, under the names that entries use."""
