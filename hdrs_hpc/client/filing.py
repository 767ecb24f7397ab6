"""Sending signed documents to a broker."""

from __future__ import annotations

from dataclasses import dataclass

from hdrs_hpc.client import checkpoints
from hdrs_hpc.client.http import BrokerAnswerError
from hdrs_hpc.client.session import Session
from hdrs_hpc.documents.envelope import Envelope


@dataclass(frozen=True)
class Receipt:
    """What the document became at the broker, and how long the log is that holds it."""

    kind: str
    digest: str
    project: str | None
    job: str | None
    known: bool
    log_size: int

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "digest": self.digest,
            "project": self.project,
            "job": self.job,
            "known": self.known,
            "log-size": self.log_size,
        }


def file(session: Session, envelope: Envelope) -> Receipt:
    """File a document; verifies and keeps the checkpoint that comes back."""
    told = session.open_api.post("/v1/documents", envelope.to_bytes())
    if told.get("digest") != envelope.digest:
        raise BrokerAnswerError("the receipt is for another document")
    if told["kind"] == "trust-root":
        session.refresh_root()
    checkpoint = checkpoints.keep(session, str(told["checkpoint"]).encode("utf-8"))
    return Receipt(
        str(told["kind"]),
        envelope.digest,
        told["project"],
        told["job"],
        bool(told["known"]),
        checkpoint.size,
    )
