"""Fetching a released artefact, which is logged before its bytes are sent."""

from __future__ import annotations

from hdrs_hpc.broker.store import jobs, log
from hdrs_hpc.broker.store.database import Database


def note_fetched(db: Database, job: str, artefact: str, person: str) -> None:
    with db.write() as tx:
        subject = {**jobs.get(tx, job).subject, "artefact": artefact, "person": person}
        log.append(tx, "artefact-fetched", subject, actor=person)
