"""The audit log: checkpoints and consistency for everybody, entries and documents for custodians and admins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hdrs_hpc.broker.filing import checkpoints as signing
from hdrs_hpc.broker.reading import audit, models
from hdrs_hpc.broker.web.answers import ENTRY_LINES, ENVELOPE, LINES, envelope
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import DigestInPath, EntryNumber, LogSize

router = APIRouter(prefix="/audit", tags=["audit"])
MAX_PAGE = 5000


@router.get("/checkpoint", responses=ENVELOPE)
def newest(web: WebHere) -> Response:
    """A signed checkpoint of the log as it is now.  Keep it: a later log must extend it."""
    return envelope(signing.newest(web.db, web.ask))


@router.get("/consistency")
def consistency(web: WebHere, old: LogSize, new: LogSize) -> models.Consistency:
    """Proof (RFC 6962 §2.1.2) that the log of ``new`` entries extends the one of ``old``.  Only hashes."""
    with web.db.read() as tx:
        return audit.consistency(tx, old, new)


@router.get("/inclusion")
def inclusion(web: WebHere, entry: EntryNumber, size: LogSize) -> models.Inclusion:
    """Proof (RFC 6962 §2.1.1) that an entry is in the log of ``size`` entries.  Only hashes."""
    with web.db.read() as tx:
        return audit.inclusion(tx, entry, size)


@router.get("/entries", responses=ENTRY_LINES)
def entries(
    web: WebHere,
    who: Asker,
    since: EntryNumber = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> Response:
    """Canonical bytes of the entries from ``since`` on, one a line."""
    with web.db.read() as tx:
        return _lines(audit.entries(tx, who, since, limit))


@router.get("/checkpoints", responses=ENTRY_LINES)
def checkpoints(web: WebHere, who: Asker) -> Response:
    """Every signed checkpoint, one envelope a line."""
    with web.db.read() as tx:
        return _lines(audit.checkpoints(tx, who))


@router.get("/documents")
def document_digests(web: WebHere, who: Asker) -> list[str]:
    """Digests of the accepted documents that may be read: decisions only once all of a job are in."""
    with web.db.read() as tx:
        return audit.document_digests(tx, who)


@router.get("/documents/{digest}", responses=ENVELOPE)
def document(digest: DigestInPath, web: WebHere, who: Asker) -> Response:
    """One accepted document, byte for byte."""
    with web.db.read() as tx:
        return envelope(audit.document(tx, who, digest))


def _lines(found: Iterable[bytes]) -> Response:
    return Response(b"".join(line + b"\n" for line in found), media_type=LINES)
