"""Files that researchers upload in pieces: code, wheels and other files that specs name by digest.

An upload is begun with digest and size, and goes on piece by piece at the offset that it has come to, as in the tus
protocol (https://tus.io).  How far it came is the size of its file, so a line or a process that breaks between
two pieces costs one piece.  It is complete once size and SHA-256 are right, and then lies in the home by its digest,
once however many projects hold it.

A file belongs to the project for which it came: who only knows a digest can't make a job of another project's file,
nor learn that it is there.  Nothing is read whole into memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from hdrs_hpc.broker.home import UPLOADS_BYTES, BrokerHome
from hdrs_hpc.broker.store import projects, uploads
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.uploads import Upload
from hdrs_hpc.core import clock, ids
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotAllowedError, NotFoundError, SiteError

PIECE_BYTES = 8 << 20
MAX_FILE_BYTES = 64 << 30
PERSON_BYTES = 32 << 30
PROJECT_BYTES = 128 << 30
PROJECT_FILES = 20_000
UNFINISHED = 16
"""Uploads of one person that may go on at a time."""
UNFINISHED_FOR = timedelta(days=1)
UNUSED_FOR = timedelta(days=30)
SPARE_BYTES = 1 << 30
"""Of the broker's disk, that uploads leave free for its database and log."""


class UploadUnknownError(NotFoundError):
    code = "upload-unknown"
    meaning = "There is no such upload of yours, or it was given up because nothing came for a day."
    remedy = "Submit again; it begins anew."


class UploadOffsetError(ConflictError):
    retry = True
    code = "upload-offset"
    meaning = "A piece of an upload does not begin where the upload has come to."
    remedy = "Ask how far the upload came, and go on from there; `hdrs-hpc submit` does."


class UploadBusyError(ConflictError):
    retry = True
    code = "upload-busy"
    meaning = "Another piece of the same upload is being written."
    remedy = "Stop the other `hdrs-hpc submit`, or wait until it is through."


class UploadTooLongError(BadDocumentError):
    code = "upload-too-long"
    meaning = "More bytes came than the upload was begun with."
    remedy = "Submit again; the file changed while it was sent."


class UploadDigestError(BadDocumentError):
    code = "upload-digest-mismatch"
    meaning = "What came is not the file whose digest the upload was begun with; it was thrown away."
    remedy = "Submit again; where it happens twice, something on the way changes what is sent."


class UploadQuotaError(NotAllowedError):
    code = "upload-quota"
    meaning = (
        "The file would take more than one file, a person, a project or all together may take at the broker."
    )
    remedy = "Bring less; what no living job needs goes by itself 30 days after it was last used."


class UploadDiskFullError(SiteError):
    http_status = 507
    retry = False
    code = "upload-disk-full"
    meaning = "The broker's disk has no room for the file; what came before is kept for a day."
    remedy = "Tell the broker's operator, and submit again once there is room: it goes on where it stopped."


@dataclass(frozen=True)
class Progress:
    """How far a file came.  ``upload`` is None once it is complete."""

    upload: str | None
    offset: int
    size: int


def begin(
    db: Database,
    home: BrokerHome,
    person: str,
    project: str,
    digest: str,
    size: int,
    most_bytes: int = UPLOADS_BYTES,
) -> Progress:
    """Begin an upload, or find the one that goes on; complete at once where the project holds the file.

    ``most_bytes``: what all files together may take.
    Raises NotFoundError, UploadQuotaError, UploadDiskFullError.
    """
    now = clock.now()
    with db.write() as tx:
        if person not in projects.grant_of(tx, projects.get(tx, project)).people.researchers:
            raise NotFoundError("there is no such project, or it is not yours", where=project)
        _sweep(tx, home)
        if uploads.held(tx, project, digest) == size:
            uploads.note_use(tx, project, [digest], now)
            return Progress(None, size, size)
        known = uploads.going_on(tx, project, person, digest)
        if known is not None and known.size == size:
            return Progress(known.id, _offset(home, known.id), size)
        if known is not None:
            uploads.forget(tx, known.id)
            home.upload_part(known.id).unlink(missing_ok=True)
        _require_room(tx, home, person, project, size, most_bytes)
        begun = Upload(ids.new_id(26), project, person, digest, size, clock.to_text(now))
        uploads.begin(tx, begun)
    return Progress(begun.id, 0, size)


def progress(db: Database, home: BrokerHome, person: str, upload: str) -> Progress:
    """How far an upload of this person came; raises UploadUnknownError."""
    with db.read() as tx:
        found = _own(tx, person, upload)
    return Progress(found.id, _offset(home, found.id), found.size)


def add(db: Database, home: BrokerHome, person: str, upload: str, offset: int, piece: bytes) -> Progress:
    """Append a piece; the last one completes the upload, after its digest was found right.

    A piece that is sent again, since its answer was lost, is refused with UploadOffsetError and changes nothing.
    Raises also UploadUnknownError, UploadBusyError, UploadTooLongError, UploadDigestError, UploadDiskFullError.
    """
    with db.read() as tx:
        _own(tx, person, upload)
    part = home.upload_part(upload)
    with _locked(part) as file:
        with db.write() as tx:
            found = uploads.get(tx, upload, person)
            if found is None:  # completed or given up since
                part.unlink(missing_ok=True)
                raise UploadUnknownError()
            uploads.touch(tx, upload, clock.now())
        come = os.fstat(file).st_size
        if offset != come:
            raise UploadOffsetError(f"it has come to byte {come}, and the piece begins at {offset}")
        if come + len(piece) > found.size:
            raise UploadTooLongError(f"more than the {found.size} bytes that it was begun with")
        _append(file, come, piece)
        come += len(piece)
        if come < found.size:
            return Progress(upload, come, found.size)
        return _complete(db, home, found, file)


def _complete(db: Database, home: BrokerHome, upload: Upload, file: int) -> Progress:
    os.fsync(file)
    part = home.upload_part(upload.id)
    right = _digest(file) == upload.digest
    with db.write() as tx:
        if not right:
            uploads.forget(tx, upload.id)
        else:
            # Linked before it is written down: after a crash between the two the last piece is sent again, empty.
            with contextlib.suppress(FileExistsError):
                os.link(part, home.file(upload.digest))
            _sync(home.file(upload.digest).parent)
            uploads.hold(tx, upload, clock.now())
    part.unlink(missing_ok=True)
    if not right:
        raise UploadDigestError()
    return Progress(None, upload.size, upload.size)


def _own(tx: Connection, person: str, upload: str) -> Upload:
    found = uploads.get(tx, upload, person)
    if found is None:
        raise UploadUnknownError()
    return found


def _require_room(
    tx: Connection, home: BrokerHome, person: str, project: str, size: int, most_bytes: int
) -> None:
    limits = (
        ("one file", uploads.Amount(0, 0), MAX_FILE_BYTES),
        ("one person", uploads.taken(tx, person=person), PERSON_BYTES),
        ("a project", uploads.taken(tx, project=project), PROJECT_BYTES),
        ("all together", uploads.taken(tx), most_bytes),
    )
    for whose, amount, most in limits:
        if amount.size_bytes + size > most:
            raise UploadQuotaError(
                f"{whose} may take {most >> 30} GiB, of which {amount.size_bytes} bytes are taken"
            )
    if uploads.taken(tx, project=project).files >= PROJECT_FILES:
        raise UploadQuotaError(f"a project may have {PROJECT_FILES} files")
    if uploads.unfinished(tx, person) >= UNFINISHED:
        raise UploadQuotaError(f"{UNFINISHED} uploads of yours go on; finish one first")
    if shutil.disk_usage(home.root).free < size + SPARE_BYTES:
        raise UploadDiskFullError()


def _sweep(tx: Connection, home: BrokerHome) -> None:
    """Remove what ran out: uploads of which nothing came for a day, files that nobody used for 30."""
    now = clock.now()
    for upload in uploads.drop_stale_uploads(tx, now - UNFINISHED_FOR):
        home.upload_part(upload).unlink(missing_ok=True)
    for digest in uploads.drop_unused_files(tx, now - UNUSED_FOR):
        home.file(digest).unlink(missing_ok=True)
    for path in home.file("sha256:").parent.iterdir():
        # Linked by a process that died before it wrote that down.
        old = path.stat().st_mtime < time.time() - UNFINISHED_FOR.total_seconds()
        if old and not uploads.is_held(tx, f"sha256:{path.name}"):
            path.unlink(missing_ok=True)


def _offset(home: BrokerHome, upload: str) -> int:
    try:
        return home.upload_part(upload).stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[int]:
    """The upload's file, of which this is the only writer; raises UploadBusyError."""
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadBusyError() from None
        yield file
    finally:
        os.close(file)


def _append(file: int, offset: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            written = os.pwrite(file, view, offset + len(piece) - len(view))
            view = view[written:]
    except OSError as error:
        os.ftruncate(file, offset)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UploadDiskFullError() from None
        raise


def _digest(file: int) -> str:
    with os.fdopen(os.dup(file), "rb") as handle:
        handle.seek(0)
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
