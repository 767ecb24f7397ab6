"""Who opted out of a dataset: bringing ids into the data zone, and what is in force; no route tells an id."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection

from hdrs_hpc.broker.filing import opt_out
from hdrs_hpc.broker.store import copies, datasets, jobs, opt_outs, projects
from hdrs_hpc.broker.web import models, permissions
from hdrs_hpc.broker.web.answers import takes
from hdrs_hpc.broker.web.dependencies import Asker, OptOutIdsBody, WebHere
from hdrs_hpc.broker.web.inputs import NameInPath
from hdrs_hpc.broker.web.permissions import Who
from hdrs_hpc.core.errors import NotFoundError

router = APIRouter(prefix="/opt-outs", tags=["opt-outs"])


@router.get("/{dataset}")
def one(dataset: NameInPath, web: WebHere, who: Asker) -> models.OptOuts:
    """The statement in force about a dataset, and the copies and jobs that a change of it touches."""
    with web.db.read() as tx:
        _require(tx, who, dataset)
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
        grace_s=web.settings.opt_out_grace_s,
        copies=touched,
        jobs=waiting,
    )


@router.post("/{dataset}/ids", openapi_extra=takes("application/json"))
def bring_ids(dataset: NameInPath, web: WebHere, who: Asker, raw: OptOutIdsBody) -> models.OptOutIds:
    """Keep a file of ids in the data zone until a signed change names its digest; tells which are on the list."""
    with web.db.read() as tx:
        _require(tx, who, dataset)
    found, listed = opt_out.put_ids(web.db, web.home, raw, dataset)
    return models.OptOutIds(digest=found.digest, count=len(found.ids), listed=listed)


def _require(tx: Connection, who: Who, dataset: str) -> None:
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
