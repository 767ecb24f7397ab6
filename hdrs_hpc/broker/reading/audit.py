"""The audit log: proofs for everybody, entries and documents for custodians and admins."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.reading import models, permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import documents, log
from hdrs_hpc.core.errors import NotFoundError


def consistency(tx: Connection, old: int, new: int) -> models.Consistency:
    """Proof (RFC 6962 §2.1.2) that the log of ``new`` entries extends the one of ``old``.  Only hashes."""
    there = log.size(tx)
    if not old <= new <= there:
        raise NotFoundError(f"the log has {there} entries")
    proof = merkle.consistency_proof(log.StoredTree(tx), old, new)
    return models.Consistency(old=old, new=new, proof=[step.hex() for step in proof])


def inclusion(tx: Connection, entry: int, size: int) -> models.Inclusion:
    """Proof (RFC 6962 §2.1.1) that an entry is in the log of ``size`` entries.  Only hashes."""
    there = log.size(tx)
    if not entry < size <= there:
        raise NotFoundError(f"the log has {there} entries")
    tree = log.StoredTree(tx)
    leaf = tree.node(0, entry)
    proof = merkle.inclusion_proof(tree, entry, size)
    return models.Inclusion(entry=entry, size=size, leaf=leaf.hex(), proof=[step.hex() for step in proof])


def entries(tx: Connection, who: Who, since: int, limit: int) -> Sequence[bytes]:
    """Canonical bytes of the entries from ``since`` on."""
    _require_reader(who)
    return log.entries(tx, since, limit)


def checkpoints(tx: Connection, who: Who) -> Sequence[bytes]:
    """The envelope of every signed checkpoint."""
    _require_reader(who)
    return log.checkpoint_envelopes(tx)


def document_digests(tx: Connection, who: Who) -> list[str]:
    """Digests of the accepted documents that may be read: decisions only once all of a job are in."""
    _require_reader(who)
    return sorted(_readable(tx))


def document(tx: Connection, who: Who, digest: str) -> bytes:
    """The envelope of one accepted document."""
    _require_reader(who)
    raw = _readable(tx).get(digest)
    if raw is None:
        raise NotFoundError("there is no such document, or it is still sealed", where=digest[:80])
    return raw


def _require_reader(who: Who) -> None:
    if not permissions.may_read_log(who):
        raise NotFoundError("there is nothing at this address")


def _readable(tx: Connection) -> dict[str, bytes]:
    opened = {
        digest for entry in log.of_event(tx, "decisions-opened") for digest in entry.detail["documents"]
    }
    sealed = {item.digest for item in documents.of_kind(tx, "output-decision")} - opened
    return {digest: raw for digest, raw in documents.all_raw(tx).items() if digest not in sealed}
