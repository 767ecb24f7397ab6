"""What the modules of the kinds share: a document on its way in, what it became, and how rules refuse it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store import documents, log
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy.rules import PolicyRefusedError, RuleResult


@dataclass(frozen=True)
class Became:
    """The project a document belongs to, and the job it is about or became."""

    project: str | None = None
    job: str | None = None


@dataclass(frozen=True)
class Case:
    """One document on its way in, in the transaction that accepts it."""

    tx: Connection
    root: trust.VerifiedRoot
    raw: bytes
    envelope: Envelope
    home: BrokerHome

    def file(self, kind: str, people: tuple[str, ...]) -> None:
        documents.put(self.tx, self.envelope.digest, kind, self.raw, people)

    def log(self, event: str, actor: str, subject: dict[str, str], detail: dict[str, object]) -> None:
        log.append(
            self.tx,
            event,
            {**subject, "document": self.envelope.digest},
            actor=actor,
            detail={"envelope": sha256(self.raw), **detail},
        )


def hold(rules: tuple[RuleResult, ...]) -> None:
    """Raises PolicyRefusedError, with every rule's result, unless all of them hold."""
    if not all(rule.ok for rule in rules):
        raise PolicyRefusedError(rules)


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
