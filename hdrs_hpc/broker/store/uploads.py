"""Whose uploaded files are whose: uploads that go on, files that a project holds, and which jobs need them.

The bytes lie in the broker's home, once by digest however many projects hold them; how far an upload came is the
size of its file there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, select, update

from hdrs_hpc.broker.store.schema import held_files, job_files, jobs, uploads
from hdrs_hpc.core import clock


@dataclass(frozen=True)
class Upload:
    """One file on its way from one person, for one project."""

    id: str
    project: str
    person: str
    digest: str
    size: int
    touched_at: str


@dataclass(frozen=True)
class Amount:
    files: int
    size_bytes: int


def begin(tx: Connection, upload: Upload) -> None:
    tx.execute(insert(uploads).values(**vars(upload)))


def get(tx: Connection, upload: str, person: str) -> Upload | None:
    """One of this person's own uploads."""
    return _one(tx, and_(uploads.c.id == upload, uploads.c.person == person))


def going_on(tx: Connection, project: str, person: str, digest: str) -> Upload | None:
    same = and_(uploads.c.project == project, uploads.c.person == person, uploads.c.digest == digest)
    return _one(tx, same)


def touch(tx: Connection, upload: str, now: datetime) -> None:
    tx.execute(update(uploads).where(uploads.c.id == upload).values(touched_at=clock.to_text(now)))


def forget(tx: Connection, upload: str) -> None:
    tx.execute(delete(uploads).where(uploads.c.id == upload))


def hold(tx: Connection, upload: Upload, now: datetime) -> None:
    """The upload is complete: from now on its project holds the file."""
    forget(tx, upload.id)
    if held(tx, upload.project, upload.digest) is None:
        tx.execute(
            insert(held_files).values(
                project=upload.project,
                digest=upload.digest,
                person=upload.person,
                size=upload.size,
                used_at=clock.to_text(now),
            )
        )


def held(tx: Connection, project: str, digest: str) -> int | None:
    """Size of a file that the project holds; None where it holds none of this digest."""
    row = tx.execute(
        select(held_files.c.size).where(held_files.c.project == project, held_files.c.digest == digest)
    ).first()
    return None if row is None else int(row.size)


def note_use(tx: Connection, project: str, digests: Iterable[str], now: datetime) -> None:
    for digest in digests:
        same = and_(held_files.c.project == project, held_files.c.digest == digest)
        tx.execute(update(held_files).where(same).values(used_at=clock.to_text(now)))


def note_needed(tx: Connection, job: str, project: str, digests: Iterable[str], now: datetime) -> None:
    """The files that a job needs: they are kept until it is purged."""
    needed = sorted(set(digests))
    for digest in needed:
        tx.execute(insert(job_files).values(job=job, digest=digest))
    note_use(tx, project, needed, now)


def taken(tx: Connection, *, person: str | None = None, project: str | None = None) -> Amount:
    """What files and uploads take, of a person, of a project, or of all; an upload counts with all that it said."""
    files, size = 0, 0
    for table in (uploads, held_files):
        query = select(func.count(), func.coalesce(func.sum(table.c.size), 0)).select_from(table)
        if person is not None:
            query = query.where(table.c.person == person)
        if project is not None:
            query = query.where(table.c.project == project)
        found = tx.execute(query).one()
        files, size = files + int(found[0]), size + int(found[1])
    return Amount(files, size)


def unfinished(tx: Connection, person: str) -> int:
    query = select(func.count()).select_from(uploads).where(uploads.c.person == person)
    return int(tx.execute(query).scalar_one())


def drop_stale_uploads(tx: Connection, before: datetime) -> list[str]:
    """Forget uploads of which nothing came since then; gives their ids."""
    query = select(uploads.c.id).where(uploads.c.touched_at < clock.to_text(before))
    stale = [row.id for row in tx.execute(query)]
    for upload in stale:
        forget(tx, upload)
    return stale


def drop_unused_files(tx: Connection, before: datetime) -> list[str]:
    """Let go of files that nobody used since then and no living job needs; gives the digests nobody holds now."""
    needed = exists().where(
        job_files.c.digest == held_files.c.digest,
        job_files.c.job == jobs.c.id,
        jobs.c.project == held_files.c.project,
        jobs.c.state != "PURGED",
    )
    unused = and_(held_files.c.used_at < clock.to_text(before), ~needed)
    rows = tx.execute(select(held_files.c.project, held_files.c.digest).where(unused)).all()
    for row in rows:
        same = and_(held_files.c.project == row.project, held_files.c.digest == row.digest)
        tx.execute(delete(held_files).where(same))
    return sorted({row.digest for row in rows if not is_held(tx, row.digest)})


def is_held(tx: Connection, digest: str) -> bool:
    """Whether any project holds a file of this digest."""
    return tx.execute(select(held_files.c.digest).where(held_files.c.digest == digest)).first() is not None


def _one(tx: Connection, condition: ColumnElement[bool]) -> Upload | None:
    row = tx.execute(select(uploads).where(condition)).first()
    return None if row is None else Upload(**row._mapping)
