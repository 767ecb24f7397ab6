"""The audit log: checkpoints and consistency for everybody, entries and documents for custodians and admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from sqlalchemy import Connection

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.store import checkpoint, documents, log
from hdrs_hpc.broker.web import models, permissions, views
from hdrs_hpc.broker.web.answers import ENTRY_LINES, ENVELOPE, LINES
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import DigestInPath, EntryNumber, LogSize
from hdrs_hpc.broker.web.permissions import Who
from hdrs_hpc.core.errors import NotFoundError

router = APIRouter(prefix="/audit", tags=["audit"])
MAX_PAGE = 5000


@router.get("/checkpoint", responses=ENVELOPE)
def newest(web: WebHere) -> Response:
    """A signed checkpoint of the log as it is now.  Keep it: a later log must extend it."""
    return views.envelope(checkpoint.sign(web.db, web.ask))


@router.get("/consistency")
def consistency(web: WebHere, old: LogSize, new: LogSize) -> models.Consistency:
    """Proof (RFC 6962 §2.1.2) that the log of ``new`` entries extends the one of ``old``.  Only hashes."""
    with web.db.read() as tx:
        there = log.size(tx)
        if not old <= new <= there:
            raise NotFoundError(f"the log has {there} entries")
        proof = merkle.consistency_proof(log.StoredTree(tx), old, new)
    return models.Consistency(old=old, new=new, proof=[step.hex() for step in proof])


@router.get("/inclusion")
def inclusion(web: WebHere, entry: EntryNumber, size: LogSize) -> models.Inclusion:
    """Proof (RFC 6962 §2.1.1) that an entry is in the log of ``size`` entries.  Only hashes."""
    with web.db.read() as tx:
        there = log.size(tx)
        if not entry < size <= there:
            raise NotFoundError(f"the log has {there} entries")
        tree = log.StoredTree(tx)
        leaf = tree.node(0, entry)
        proof = merkle.inclusion_proof(tree, entry, size)
    return models.Inclusion(entry=entry, size=size, leaf=leaf.hex(), proof=[step.hex() for step in proof])


@router.get("/entries", responses=ENTRY_LINES)
def entries(
    web: WebHere,
    who: Asker,
    since: EntryNumber = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> Response:
    """Canonical bytes of the entries from ``since`` on, one a line."""
    _require_reader(who)
    with web.db.read() as tx:
        found = log.entries(tx, since, limit)
    return Response(b"".join(line + b"\n" for line in found), media_type=LINES)


@router.get("/checkpoints", responses=ENTRY_LINES)
def checkpoints(web: WebHere, who: Asker) -> Response:
    """Every signed checkpoint, one envelope a line."""
    _require_reader(who)
    with web.db.read() as tx:
        found = log.checkpoint_envelopes(tx)
    return Response(b"".join(line + b"\n" for line in found), media_type=LINES)


@router.get("/documents")
def document_digests(web: WebHere, who: Asker) -> list[str]:
    """Digests of the accepted documents that may be read: decisions only once all of a job are in."""
    _require_reader(who)
    with web.db.read() as tx:
        return sorted(_readable(tx))


@router.get("/documents/{digest}", responses=ENVELOPE)
def document(digest: DigestInPath, web: WebHere, who: Asker) -> Response:
    """One accepted document, byte for byte."""
    _require_reader(who)
    with web.db.read() as tx:
        raw = _readable(tx).get(digest)
    if raw is None:
        raise NotFoundError("there is no such document, or it is still sealed", where=digest[:80])
    return views.envelope(raw)


def _require_reader(who: Who) -> None:
    if not permissions.may_read_log(who):
        raise NotFoundError("there is nothing at this address")


def _readable(tx: Connection) -> dict[str, bytes]:
    opened = {
        digest for entry in log.of_event(tx, "decisions-opened") for digest in entry.detail["documents"]
    }
    sealed = {item.digest for item in documents.of_kind(tx, "output-decision")} - opened
    return {digest: raw for digest, raw in documents.all_raw(tx).items() if digest not in sealed}
