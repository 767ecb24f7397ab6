"""Who opted out of a dataset: what is in force and what a change touches; nothing here tells an id."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.reading import models, permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import copies, datasets, jobs, opt_outs, projects
from hdrs_hpc.core.errors import NotFoundError


def in_force(tx: Connection, who: Who, dataset: str, grace_s: float) -> models.OptOuts:
    """The statement in force about a dataset, and the copies and jobs that a change of it touches."""
    require_may_change(tx, who, dataset)
    said = opt_outs.of_dataset(tx, dataset)
    touched = [_copy(tx, copy) for copy in _living(tx, dataset)]
    waiting = [
        models.OptOutJob(job=job.id, project=job.project, name=job.name, state=job.state)
        for job in jobs.active(tx)
        if job.state in ("ADMITTED", "STAGING", "QUEUED", "RUNNING")
        and any(use.dataset == dataset for use in jobs.spec_of(tx, job).data.values())
    ]
    last = said[-1] if said else None
    return models.OptOuts(
        dataset=dataset,
        version=len(said),
        document=last.document if last else None,
        list_=last.list if last else None,
        about=last.about if last else None,
        action=last.action if last else None,
        accepted_at=last.accepted_at if last else None,
        grace_s=grace_s,
        copies=touched,
        jobs=waiting,
    )


def require_may_change(tx: Connection, who: Who, dataset: str) -> None:
    if not permissions.may_change_opt_outs(who, datasets.registrations_of(tx, dataset)):
        raise NotFoundError("there is no such dataset, or it is not yours", where=dataset)


def _living(tx: Connection, dataset: str) -> list[copies.Copy]:
    """Copies of it that are made or being made, or whose objects lie there still."""
    found = [copy for project in projects.every(tx) for copy in copies.of_project(tx, project.name)]
    return [copy for copy in found if copy.dataset == dataset and copy.unlinked is None]


def _copy(tx: Connection, copy: copies.Copy) -> models.OptOutCopy:
    current = opt_outs.outdated_since(tx, copy) is None
    return models.OptOutCopy(
        copy_=copy.id, project=copy.project, cluster=copy.cluster, state=copy.state, current=current
    )
