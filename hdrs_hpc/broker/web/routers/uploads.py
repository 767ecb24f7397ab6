"""Uploads in pieces, in the words of the tus protocol: how long, how far, and a piece at an offset."""

from __future__ import annotations

from fastapi import APIRouter, Response

from hdrs_hpc.broker.filing import uploads
from hdrs_hpc.broker.reading import permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.web import models
from hdrs_hpc.broker.web.answers import takes
from hdrs_hpc.broker.web.dependencies import Asker, PieceBody, WebHere
from hdrs_hpc.broker.web.inputs import DigestInQuery, NameInPath, NameInQuery, UploadLength, UploadOffset
from hdrs_hpc.core.errors import NotAllowedError

router = APIRouter(prefix="/uploads", tags=["filing"])


@router.post("")
def begin_upload(
    web: WebHere,
    who: Asker,
    project: NameInQuery,
    digest: DigestInQuery,
    upload_length: UploadLength,
    answer: Response,
) -> models.Upload:
    """Begin to upload a file for a project, or find how far it came; complete at once if the project holds it."""
    _require_researcher(who)
    begun = uploads.begin(
        web.db, web.home, who.person, project, digest, upload_length, web.settings.uploads_bytes
    )
    return _told(answer, begun)


@router.get("/{upload}")
def show_upload(web: WebHere, who: Asker, upload: NameInPath, answer: Response) -> models.Upload:
    """How far an upload of one's own came."""
    return _told(answer, uploads.progress(web.db, web.home, who.person, upload))


@router.patch("/{upload}", openapi_extra=takes("application/offset+octet-stream"))
def add_piece(
    web: WebHere,
    who: Asker,
    upload: NameInPath,
    upload_offset: UploadOffset,
    piece: PieceBody,
    answer: Response,
) -> models.Upload:
    """Append a piece where the upload has come to; the last one completes it if the digest is right."""
    _require_researcher(who)
    return _told(answer, uploads.add(web.db, web.home, who.person, upload, upload_offset, piece))


def _require_researcher(who: Who) -> None:
    if not permissions.may_upload(who):
        raise NotAllowedError("only researchers have code to upload")


def _told(answer: Response, progress: uploads.Progress) -> models.Upload:
    answer.headers["Upload-Offset"] = str(progress.offset)
    answer.headers["Upload-Length"] = str(progress.size)
    return models.Upload(
        id=progress.upload,
        offset=progress.offset,
        size=progress.size,
        complete=progress.upload is None,
        piece=uploads.PIECE_BYTES,
    )
