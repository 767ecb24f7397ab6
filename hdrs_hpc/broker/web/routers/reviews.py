"""Reviews, blind: a checker sees artefact and report, and nobody else's verdict before all have decided."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from hdrs_hpc.broker.reading import models, reviews
from hdrs_hpc.broker.web.answers import DOWNLOAD, download
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import JobPrefix, NameInPath

router = APIRouter(prefix="/reviews", tags=["reviews"])


@router.get("")
def every(web: WebHere, who: Asker) -> list[models.ReviewLine]:
    """The jobs in review that you may check: those of projects in which you do not work."""
    with web.db.read() as tx:
        return reviews.every(tx, who)


@router.get("/{prefix}")
def one(prefix: JobPrefix, web: WebHere, who: Asker) -> models.Review:
    """Every artefact of a job with the report of its check."""
    with web.db.read() as tx:
        return reviews.one(tx, who, prefix)


@router.get("/{prefix}/artefacts/{name}", responses=DOWNLOAD)
def artefact(prefix: JobPrefix, name: NameInPath, web: WebHere, who: Asker) -> Response:
    """The rebuilt bytes, exactly those that would be released."""
    with web.db.read() as tx:
        found = reviews.artefact(tx, who, web.home, prefix, name)
    return download(found.source, found.media_type, found.file)
