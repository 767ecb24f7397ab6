"""Fetching a released artefact, which is logged before its bytes are sent."""

from __future__ import annotations

from hdrs_hpc.broker.store import log
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.jobs import Job


def note_fetched(db: Database, job: Job, artefact: str, person: str) -> None:
    with db.write() as tx:
        subject = {**job.subject, "artefact": artefact, "person": person}
        log.append(tx, "artefact-fetched", subject, actor=person)
