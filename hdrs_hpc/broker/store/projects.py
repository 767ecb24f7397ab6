"""Projects and their grants."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from hdrs_hpc.broker.store import documents
from hdrs_hpc.broker.store.schema import attempts, jobs, projects
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.grant import Grant


@dataclass(frozen=True)
class Project:
    name: str
    state: str
    grant: str
    version: int
    frozen: bool
    closing_reason: str | None
    closing_since: str | None
    copy_keys_destroyed_at: str | None
    certificate: str | None

    @property
    def open(self) -> bool:
        """Whether it may be given anything."""
        return self.state in ("APPROVED", "ACTIVE") and not self.frozen


def find(tx: Connection, name: str) -> Project | None:
    row = tx.execute(select(projects).where(projects.c.name == name)).first()
    return Project(**row._mapping) if row else None


def get(tx: Connection, name: str) -> Project:
    found = find(tx, name)
    if found is None:
        raise NotFoundError("there is no such project, or it is not yours", where=name)
    return found


def every(tx: Connection) -> list[Project]:
    return [Project(**row._mapping) for row in tx.execute(select(projects).order_by(projects.c.name))]


def require_open(tx: Connection, name: str) -> None:
    """In the transaction that logs something given: a freeze that came since we looked must win."""
    if not get(tx, name).open:
        raise StateMovedError("the project was frozen meanwhile")


def grant_of(tx: Connection, project: Project) -> Grant:
    return documents.get(tx, project.grant).read(Grant)


def supersede_grant(tx: Connection, name: str, digest: str, version: int) -> None:
    tx.execute(update(projects).where(projects.c.name == name).values(grant=digest, version=version))


def freeze(tx: Connection, name: str) -> None:
    tx.execute(update(projects).where(projects.c.name == name).values(frozen=True))


def unfreeze(tx: Connection, name: str) -> None:
    tx.execute(update(projects).where(projects.c.name == name).values(frozen=False))


def freezes_in_force(tx: Connection, name: str) -> list[str]:
    """Digests of the closures that froze the project and were not lifted, oldest first."""
    lifted = set(unfreezes(tx, name).values())
    return [digest for digest, found in _closures(tx, name, "freeze") if digest not in lifted]


def unfreezes(tx: Connection, name: str) -> dict[str, str]:
    """Digest of each closure that lifted a freeze, oldest first → digest of that freeze."""
    return {digest: found.freeze or "" for digest, found in _closures(tx, name, "unfreeze")}


def _closures(tx: Connection, name: str, action: str) -> list[tuple[str, Closure]]:
    read = [(item.digest, item.read(Closure)) for item in documents.of_kind(tx, "closure")]
    return [(digest, found) for digest, found in read if (found.project, found.action) == (name, action)]


def note_revoked(tx: Connection, name: str) -> None:
    """A closing project was revoked: what was to be reviewed in peace no longer is."""
    tx.execute(update(projects).where(projects.c.name == name).values(closing_reason="revoked"))


def note_copy_keys_destroyed(tx: Connection, name: str, at: str) -> None:
    tx.execute(update(projects).where(projects.c.name == name).values(copy_keys_destroyed_at=at))


def gpu_hours_used(tx: Connection, name: str, job: str | None = None) -> float:
    """Allocated GPUs × hours of the project's attempts so far (or of one job's); a running one counts up to now."""
    rows = (
        select(attempts.c.started_at, attempts.c.ended_at, attempts.c.alloc_gpus)
        .join(jobs, jobs.c.id == attempts.c.job)
        .where(jobs.c.project == name, attempts.c.started_at.is_not(None))
    )
    if job is not None:
        rows = rows.where(attempts.c.job == job)
    total = 0.0
    for row in tx.execute(rows):
        ended = clock.from_text(row.ended_at) if row.ended_at else clock.now()
        seconds = (ended - clock.from_text(row.started_at)).total_seconds()
        total += max(0.0, seconds) * row.alloc_gpus / 3600
    return total
