"""Jobs and their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from hdrs_hpc.broker.store import documents
from hdrs_hpc.broker.store.schema import attempts, jobs
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import ids
from hdrs_hpc.core.errors import ConflictError, NotFoundError
from hdrs_hpc.documents.models.job_spec import JobSpec, kept_by


class AmbiguousIdError(ConflictError):
    code = "ambiguous-id"
    meaning = "More than one job begins like that."
    remedy = "Type one more letter of the id."


@dataclass(frozen=True)
class Job:
    id: str
    project: str
    submitter: str
    spec: str
    nonce: str
    name: str
    state: str
    outcome: str | None
    reason: str | None
    detail: dict[str, Any] | None
    decision: dict[str, Any] | None
    cluster: str | None
    cancel_requested: bool
    received_at: str
    changed_at: str

    @property
    def subject(self) -> dict[str, str]:
        return {"project": self.project, "job": self.id}


@dataclass(frozen=True)
class Attempt:
    """One Slurm job.  ``handover`` goes none → bound → answered → closed."""

    name: str
    job: str
    number: int
    submit_intent_at: str | None
    cluster_job_id: str | None
    submit_time: str | None
    restarts: int | None
    started_at: str | None
    ended_at: str | None
    raw_state: str | None
    exit_code: int | None
    handover: str
    served: dict[str, Any] | None
    """What the attempt is served, see ``store/served.py``."""
    bindings: dict[str, Any] | None
    log_seq: int | None
    alloc_gpus: int
    progress: dict[str, Any] | None


def get(tx: Connection, job: str) -> Job:
    row = tx.execute(select(jobs).where(jobs.c.id == job)).first()
    if row is None:
        raise NotFoundError("there is no such job, or it is not yours", where=job[:40])
    return Job(**row._mapping)


def require_unmoved(tx: Connection, job: Job) -> None:
    """In the transaction that says what comes next: whoever ended the job since we looked must win."""
    if get(tx, job.id).state != job.state:
        raise StateMovedError("the job moved on meanwhile")


def by_spec(tx: Connection, digest: str) -> Job | None:
    row = tx.execute(select(jobs).where(jobs.c.spec == digest)).first()
    return Job(**row._mapping) if row else None


def nonce_used(tx: Connection, submitter: str, nonce: str) -> bool:
    wanted = select(jobs.c.id).where(jobs.c.submitter == submitter, jobs.c.nonce == nonce)
    return tx.execute(wanted).first() is not None


def free_id(tx: Connection) -> str:
    """A new id that no job has."""
    while True:
        candidate = ids.new_id()
        if tx.execute(select(jobs.c.id).where(jobs.c.id == candidate)).first() is None:
            return candidate


def active(tx: Connection) -> list[Job]:
    rows = tx.execute(select(jobs).where(jobs.c.state != "PURGED").order_by(jobs.c.received_at, jobs.c.id))
    return [Job(**row._mapping) for row in rows]


def oldest_in_state(tx: Connection, state: str) -> str | None:
    """Since when the job that has been in this state for longest is in it; None where no job is."""
    found: str | None = tx.execute(
        select(func.min(jobs.c.changed_at)).where(jobs.c.state == state)
    ).scalar_one()
    return found


def of_project(tx: Connection, project: str) -> list[Job]:
    rows = tx.execute(select(jobs).where(jobs.c.project == project).order_by(jobs.c.received_at, jobs.c.id))
    return [Job(**row._mapping) for row in rows]


def spec_of(tx: Connection, job: Job) -> JobSpec:
    return documents.get(tx, job.spec).read(JobSpec)


def kept_promised(tx: Connection, project: str, but: str | None = None) -> int:
    """Bytes that jobs which were admitted and have not ended may still add to what the project keeps."""
    under_way = ("ADMITTED", "STAGING", "QUEUED", "RUNNING", "COLLECTING")
    return sum(
        output.max_size
        for job in of_project(tx, project)
        if job.id != but and job.state in under_way
        for output in kept_by(spec_of(tx, job)).values()
    )


def request_cancel(tx: Connection, job: str) -> None:
    tx.execute(update(jobs).where(jobs.c.id == job).values(cancel_requested=True))


def note_decision(tx: Connection, job: str, decision: Mapping[str, Any]) -> None:
    tx.execute(update(jobs).where(jobs.c.id == job).values(decision=dict(decision)))


def new_attempt(tx: Connection, job: str) -> Attempt:
    """The job's next attempt, under a name that nobody can guess and that is never used twice."""
    number = len(attempts_of(tx, job)) + 1
    name = ids.new_secret_name("hdrs")
    tx.execute(insert(attempts).values(name=name, job=job, number=number, handover="none", alloc_gpus=0))
    return attempt(tx, name)


def attempt(tx: Connection, name: str) -> Attempt:
    return Attempt(**tx.execute(select(attempts).where(attempts.c.name == name)).one()._mapping)


def attempts_of(tx: Connection, job: str) -> list[Attempt]:
    rows = tx.execute(select(attempts).where(attempts.c.job == job).order_by(attempts.c.number))
    return [Attempt(**row._mapping) for row in rows]


def attempts_at(tx: Connection, cluster: str, project: str) -> list[str]:
    """Names of the attempts of living jobs at a cluster."""
    rows = tx.execute(
        select(attempts.c.name)
        .join(jobs, jobs.c.id == attempts.c.job)
        .where(jobs.c.cluster == cluster, jobs.c.project == project, jobs.c.state != "PURGED")
    )
    return [row.name for row in rows]


def note_attempt(tx: Connection, name: str, **columns: Any) -> None:
    """Write facts of an attempt; its state is the job's."""
    tx.execute(update(attempts).where(attempts.c.name == name).values(**columns))
