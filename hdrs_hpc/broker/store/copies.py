"""Staged copies, and which job needs which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from hdrs_hpc.broker.store import transition
from hdrs_hpc.broker.store.schema import copies, job_copies, jobs
from hdrs_hpc.core.ids import new_id


@dataclass(frozen=True)
class Copy:
    """One dataset version, minimised and de-identified by one ``recipe`` for one project on one cluster."""

    id: str
    project: str
    dataset: str
    version: str
    cluster: str
    recipe: str
    opt_out: str | None
    """Keyed digest of the opt-out list that it is made under."""
    state: str
    manifest_name: str | None
    manifest_digest: str | None
    objects: int | None
    plaintext_bytes: int | None
    sealed_bytes: int | None
    report: dict[str, Any] | None
    reason: str | None
    unlinked: int | None

    @property
    def subject(self) -> dict[str, str]:
        return {"project": self.project, "copy": self.id}


def _row(row: Any) -> Copy:
    return Copy(**row._mapping)


def get(tx: Connection, copy: str) -> Copy:
    return _row(tx.execute(select(copies).where(copies.c.id == copy)).one())


def of_project(tx: Connection, project: str) -> list[Copy]:
    return [
        _row(row)
        for row in tx.execute(select(copies).where(copies.c.project == project).order_by(copies.c.id))
    ]


def active(tx: Connection) -> list[Copy]:
    """Copies that are being made."""
    rows = tx.execute(select(copies).where(copies.c.state.in_(("PENDING", "STAGING"))).order_by(copies.c.id))
    return [_row(row) for row in rows]


def usable(
    tx: Connection, project: str, dataset: str, version: str, cluster: str, recipe: str, opt_out: str
) -> Copy | None:
    """A copy that serves the same purpose and is not destroyed."""
    row = tx.execute(
        select(copies).where(
            copies.c.project == project,
            copies.c.dataset == dataset,
            copies.c.version == version,
            copies.c.cluster == cluster,
            copies.c.recipe == recipe,
            copies.c.opt_out == opt_out,
            copies.c.state != "DESTROYED",
        )
    ).first()
    return _row(row) if row else None


def want(
    tx: Connection, project: str, dataset: str, version: str, cluster: str, recipe: str, opt_out: str
) -> Copy:
    """The copy that serves, begun if there is none; ``opt_out`` is the list in force."""
    known = usable(tx, project, dataset, version, cluster, recipe, opt_out)
    if known is not None:
        return known
    values = {
        "id": new_id(10),
        "project": project,
        "dataset": dataset,
        "version": version,
        "cluster": cluster,
        "recipe": recipe,
        "opt_out": opt_out,
    }
    transition.begin(tx, "copy", values)
    return get(tx, values["id"])


def link(tx: Connection, job: str, uses: Mapping[str, str]) -> None:
    """Note which copy stands for which input of a job."""
    for name, copy in uses.items():
        tx.execute(insert(job_copies).values(job=job, input=name, copy=copy))


def relink(tx: Connection, job: str, name: str, copy: str) -> None:
    """Let another copy stand for an input of a job."""
    tx.execute(
        update(job_copies).where(job_copies.c.job == job, job_copies.c.input == name).values(copy=copy)
    )


def of_job(tx: Connection, job: str) -> dict[str, Copy]:
    """Input name → copy."""
    rows = tx.execute(
        select(job_copies.c.input, copies)
        .join(copies, copies.c.id == job_copies.c.copy)
        .where(job_copies.c.job == job)
        .order_by(job_copies.c.input)
    )
    found = {}
    for row in rows:
        values = dict(row._mapping)
        name = values.pop("input")
        found[name] = Copy(**values)
    return found


def unused(tx: Connection, project: str) -> list[Copy]:
    """Destroyed copies whose objects lie there still and that no attempt can be reading."""
    reading = (
        select(job_copies.c.copy)
        .join(jobs, jobs.c.id == job_copies.c.job)
        .where(jobs.c.state.in_(("QUEUED", "RUNNING")))
    )
    rows = tx.execute(
        select(copies)
        .where(
            copies.c.project == project,
            copies.c.state == "DESTROYED",
            copies.c.unlinked.is_(None),
            copies.c.id.not_in(reading),
        )
        .order_by(copies.c.id)
    )
    return [_row(row) for row in rows]


def note_unlinked(tx: Connection, copy: str, count: int) -> None:
    tx.execute(update(copies).where(copies.c.id == copy).values(unlinked=count))
