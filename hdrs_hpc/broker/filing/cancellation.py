"""A cancellation: a person asks for a job's end."""

from __future__ import annotations

from hdrs_hpc.broker.store import jobs, log
from hdrs_hpc.broker.store.database import Database


def request(db: Database, person: str, job_id: str) -> None:
    """Note that a job is to end; whether ``person`` may was decided by the caller.  Idempotent."""
    with db.write() as tx:
        job = jobs.get(tx, job_id)
        if job.state not in ("PURGING", "PURGED") and not job.cancel_requested:
            jobs.request_cancel(tx, job.id)
            log.append(tx, "cancel-requested", job.subject, actor=person)
