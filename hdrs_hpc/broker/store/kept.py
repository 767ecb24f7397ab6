"""Outputs that stay in their project for its later jobs: one row for each of an attempt's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.schema import kept_outputs
from hdrs_hpc.core.ids import new_id


@dataclass(frozen=True)
class KeptOutput:
    """One output of one attempt, sealed under a key of its own from the start.

    ``manifest_digest``, ``size`` (bytes) and ``kept_at`` are there once its workload ended well and the attempt's
    closing list named it; ``destroyed_at`` once its key is dead.
    """

    id: str
    project: str
    job: str
    attempt: str
    output: str
    cls: str
    cluster: str
    manifest_digest: str | None
    size: int | None
    kept_at: str | None
    destroyed_at: str | None
    unlinked: int | None

    @property
    def subject(self) -> dict[str, str]:
        return {"project": self.project, "job": self.job, "attempt": self.attempt, "artefact": self.output}

    @property
    def state(self) -> Literal["unfinished", "kept", "destroyed"]:
        if self.destroyed_at is not None:
            return "destroyed"
        return "kept" if self.kept_at is not None else "unfinished"


def want(tx: Connection, job: Job, attempt: Attempt, classes: Mapping[str, str]) -> list[KeptOutput]:
    """Rows of the attempt's outputs that are to stay (name → class), made if they are not there yet."""
    known = {row.output for row in of_attempt(tx, attempt.name)}
    for output, cls in classes.items():
        if output not in known:
            values = {"project": job.project, "job": job.id, "attempt": attempt.name, "cluster": job.cluster}
            tx.execute(insert(kept_outputs).values(id=new_id(10), output=output, cls=cls, **values))
    return of_attempt(tx, attempt.name)


def get(tx: Connection, kept: str) -> KeptOutput:
    return KeptOutput(**tx.execute(select(kept_outputs).where(kept_outputs.c.id == kept)).one()._mapping)


def of_attempt(tx: Connection, attempt: str) -> list[KeptOutput]:
    return _rows(tx, kept_outputs.c.attempt == attempt)


def of_job(tx: Connection, job: str) -> list[KeptOutput]:
    return _rows(tx, kept_outputs.c.job == job)


def of_project(tx: Connection, project: str) -> list[KeptOutput]:
    return _rows(tx, kept_outputs.c.project == project)


def note(tx: Connection, kept: str, **columns: Any) -> None:
    tx.execute(update(kept_outputs).where(kept_outputs.c.id == kept).values(**columns))


def _rows(tx: Connection, wanted: Any) -> list[KeptOutput]:
    rows = tx.execute(select(kept_outputs).where(wanted).order_by(kept_outputs.c.id))
    return [KeptOutput(**row._mapping) for row in rows]
