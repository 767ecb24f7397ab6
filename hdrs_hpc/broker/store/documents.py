"""Accepted documents: exact envelopes, found by the digest of their payload."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from hdrs_hpc.broker.store.schema import documents, trust_roots
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import InternalError, NotFoundError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.forms.document import Document

KEPT, KEPT_BYTES = 1024, 64 << 10
"""How many documents a process keeps parsed, by their exact bytes, and how large they may be for that."""
KEPT_ROOTS = 4


@dataclass(frozen=True)
class Accepted:
    """One accepted document.  ``people`` signed it; ``raw`` is the envelope as it was accepted."""

    digest: str
    kind: str
    raw: bytes
    people: tuple[str, ...]
    accepted_at: str

    @property
    def envelope(self) -> Envelope:
        return Envelope.parse(self.raw)

    def read[Doc: Document](self, model: type[Doc]) -> Doc:
        """What it says.  The same bytes are parsed and checked once by a process, and never changed afterwards."""
        if len(self.raw) > KEPT_BYTES:
            return model.from_payload(self.envelope.payload)
        found: Doc = _read(model, self.raw)
        return found


@functools.lru_cache(maxsize=KEPT)
def _read[Doc: Document](model: type[Doc], raw: bytes) -> Doc:
    return model.from_payload(Envelope.parse(raw).payload)


@functools.lru_cache(maxsize=KEPT_ROOTS)
def _root(raw: bytes, digest: str) -> trust.VerifiedRoot:
    return trust.load_root(raw, digest)


def put(tx: Connection, digest: str, kind: str, raw: bytes, people: tuple[str, ...]) -> None:
    tx.execute(
        insert(documents).values(
            digest=digest,
            kind=kind,
            envelope=raw,
            people=list(people),
            accepted_at=clock.to_text(clock.now()),
        )
    )


def find(tx: Connection, digest: str) -> Accepted | None:
    row = tx.execute(select(documents).where(documents.c.digest == digest)).first()
    if row is None:
        return None
    return Accepted(row.digest, row.kind, row.envelope, tuple(row.people), row.accepted_at)


def get(tx: Connection, digest: str) -> Accepted:
    found = find(tx, digest)
    if found is None:
        raise InternalError("a row names a document that is not there")
    return found


def of_kind(tx: Connection, kind: str) -> list[Accepted]:
    rows = tx.execute(
        select(documents)
        .where(documents.c.kind == kind)
        .order_by(documents.c.accepted_at, documents.c.digest)
    )
    return [Accepted(row.digest, row.kind, row.envelope, tuple(row.people), row.accepted_at) for row in rows]


def all_raw(tx: Connection) -> dict[str, bytes]:
    """Every accepted envelope by digest, for the audit export."""
    return {row.digest: row.envelope for row in tx.execute(select(documents.c.digest, documents.c.envelope))}


def current_root(tx: Connection) -> trust.VerifiedRoot:
    """The trust root in force; it was verified when it was accepted, and each process verifies its bytes again."""
    row = tx.execute(select(trust_roots).order_by(trust_roots.c.version.desc()).limit(1)).first()
    if row is None:
        raise NotFoundError(
            "this broker has no trust root yet", remedy="Install the signed one with `hdrs-hpc broker trust`."
        )
    return _root(get(tx, row.digest).raw, row.digest)


def put_root(tx: Connection, root: trust.VerifiedRoot) -> None:
    """Put an accepted trust root in force."""
    tx.execute(insert(trust_roots).values(version=root.document.version, digest=root.digest))


def root_of_version(tx: Connection, version: int) -> Accepted | None:
    row = tx.execute(select(trust_roots.c.digest).where(trust_roots.c.version == version)).first()
    return get(tx, row.digest) if row else None


def first_root_digest(tx: Connection) -> str | None:
    row = tx.execute(select(trust_roots).order_by(trust_roots.c.version).limit(1)).first()
    return row.digest if row else None
