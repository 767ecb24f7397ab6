"""Jobs: where they are, why, what came out."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from hdrs_hpc.broker import wake
from hdrs_hpc.broker.filing import cancellation, fetching
from hdrs_hpc.broker.reading import jobs, models
from hdrs_hpc.broker.web.answers import DOWNLOAD, ENVELOPE, download, envelope
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import JobPrefix, NameInPath, NameInQuery

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
def every(
    web: WebHere,
    who: Asker,
    project: NameInQuery | None = None,
    state: NameInQuery | None = None,
) -> list[models.JobLine]:
    """The jobs of your projects, newest last."""
    with web.db.read() as tx:
        return jobs.every(tx, who, project, state)


@router.get("/{prefix}")
def one(prefix: JobPrefix, web: WebHere, who: Asker) -> models.Job:
    """One job, by the beginning of its id: state, every rule of its decision, progress, outputs."""
    with web.db.read() as tx:
        return jobs.one(tx, who, web.home, prefix)


@router.post("/{prefix}/cancel")
def cancel(prefix: JobPrefix, web: WebHere, who: Asker) -> models.Job:
    """Ask for the job's end; it is cancelled once the cluster says so and everything of it is purged."""
    with web.db.read() as tx:
        job = jobs.cancellable(tx, who, prefix)
    cancellation.request(web.db, who.person, job)
    wake.ring(web.home)
    with web.db.read() as tx:
        return jobs.one(tx, who, web.home, job)


@router.get("/{prefix}/artefacts/{name}", responses=DOWNLOAD)
def artefact(prefix: JobPrefix, name: NameInPath, web: WebHere, who: Asker) -> Response:
    """The bytes of one released artefact.  Fetching is logged."""
    with web.db.read() as tx:
        job, found = jobs.artefact(tx, who, web.home, prefix, name)
    fetching.note_fetched(web.db, job, name, who.person)
    return download(found.source, found.media_type, found.file)


@router.get("/{prefix}/artefacts/{name}/record", responses=ENVELOPE)
def record(prefix: JobPrefix, name: NameInPath, web: WebHere, who: Asker) -> Response:
    """Its signed release record."""
    with web.db.read() as tx:
        return envelope(jobs.record(tx, who, web.home, prefix, name))
