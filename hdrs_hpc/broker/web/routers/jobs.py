"""Jobs: where they are, why, what came out."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import Connection

from hdrs_hpc.broker import states
from hdrs_hpc.broker.filing import cancellation, fetching
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store import artefacts, copies, jobs
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.web import models, permissions, views
from hdrs_hpc.broker.web.answers import DOWNLOAD, ENVELOPE
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import JobPrefix, NameInPath, NameInQuery
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import Grant

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
        found = []
        for owner, _ in views.visible_projects(tx, who):
            if project in (None, owner.name):
                found += [job for job in jobs.of_project(tx, owner.name) if state in (None, job.state)]
        found.sort(key=lambda job: (job.received_at, job.id))
        return [models.JobLine(**_line(tx, job)) for job in found]


@router.get("/{prefix}")
def one(prefix: JobPrefix, web: WebHere, who: Asker) -> models.Job:
    """One job, by the beginning of its id: state, every rule of its decision, progress, outputs."""
    with web.db.read() as tx:
        return _whole(tx, *views.job(tx, who, prefix), web.home)


@router.post("/{prefix}/cancel")
def cancel(prefix: JobPrefix, web: WebHere, who: Asker) -> models.Job:
    """Ask for the job's end; it is cancelled once the cluster says so and everything of it is purged."""
    with web.db.read() as tx:
        job, grant = views.job(tx, who, prefix)
    if not permissions.may_cancel(who, grant):
        raise NotFoundError("there is no such job, or it is not yours", where=prefix[:40])
    cancellation.request(web.db, who.person, job.id)
    with web.db.read() as tx:
        return _whole(tx, jobs.get(tx, job.id), grant, web.home)


@router.get("/{prefix}/artefacts/{name}", responses=DOWNLOAD)
def artefact(prefix: JobPrefix, name: NameInPath, web: WebHere, who: Asker) -> Response:
    """The bytes of one released artefact.  Fetching is logged."""
    with web.db.read() as tx:
        job, item = _released(tx, who, prefix, name)
    path = web.home.released_dir(job.id) / item.name
    if item.file is None or not path.is_file():
        raise NotFoundError("the artefact is not released, or there is none of that name", where=name)
    raw = path.read_bytes()
    fetching.note_fetched(web.db, job, item.name, who.person)
    return views.download(raw, item.media_type, item.file)


@router.get("/{prefix}/artefacts/{name}/record", responses=ENVELOPE)
def record(prefix: JobPrefix, name: NameInPath, web: WebHere, who: Asker) -> Response:
    """Its signed release record."""
    with web.db.read() as tx:
        job, item = _released(tx, who, prefix, name)
    path = web.home.released_dir(job.id) / f"{item.name}.record.json"
    if not path.is_file():
        raise NotFoundError("the artefact is not released, or there is none of that name", where=name)
    return views.envelope(path.read_bytes())


def _released(tx: Connection, who: Asker, prefix: str, name: str) -> tuple[jobs.Job, artefacts.Artefact]:
    job, grant = views.job(tx, who, prefix)
    if permissions.may_fetch(who, grant):
        for item in artefacts.of_job(tx, job.id):
            if item.name == name and item.release_record is not None:
                return job, item
    raise NotFoundError("the artefact is not released, or there is none of that name", where=name)


def _line(tx: Connection, job: jobs.Job) -> dict[str, str | None]:
    waiting = views.alerts_about(tx, job)
    return {
        "id": job.id,
        "project": job.project,
        "name": job.name,
        "submitter": job.submitter,
        "state": job.state,
        "outcome": job.outcome,
        "reason": job.reason,
        "tes_state": states.tes_state(job.state, job.outcome, job.reason),
        "received_at": job.received_at,
        "changed_at": job.changed_at,
        "waits_for": waiting[0].message if waiting else None,
    }


def _whole(tx: Connection, job: jobs.Job, grant: Grant, home: BrokerHome) -> models.Job:
    staged = copies.of_job(tx, job.id)
    decided = {item.person for item in artefacts.decisions_of(tx, job.id)}
    spec = jobs.spec_of(tx, job)
    return models.Job(
        **_line(tx, job),
        purpose=spec.purpose,
        time=spec.resources.time,
        now=clock.to_text(clock.now()),
        spec=job.spec,
        cluster=job.cluster,
        cancel_requested=job.cancel_requested,
        decision=job.decision,
        detail=job.detail,
        alerts=[models.Alert(**vars(item)) for item in views.alerts_about(tx, job)],
        attempts=[
            models.Attempt(
                number=item.number,
                cluster_job=item.cluster_job_id,
                state=item.raw_state,
                started_at=item.started_at,
                ended_at=item.ended_at,
                exit_code=item.exit_code,
                progress=item.progress,
            )
            for item in jobs.attempts_of(tx, job.id)
        ],
        copies={name: copy.state for name, copy in staged.items()},
        staging=_staging(home, staged.values()) if job.state == "STAGING" else None,
        reviews_done=len(decided),
        reviews_needed=grant.outputs.reviewers,
        artefacts=[_artefact(item, job.state) for item in artefacts.of_job(tx, job.id)],
    )


def _staging(home: BrokerHome, staged: Iterable[Copy]) -> models.StagingProgress:
    """The stagers' own counts of the copies that are still being made, together."""
    total = models.StagingProgress(items_done=0, items_total=0, bytes_done=0, bytes_total=0)
    for copy in staged:
        told = workers.progress(home.staging_dir(copy.id)) if copy.state == "STAGING" else None
        if told is not None:
            total = models.StagingProgress(
                **{name: getattr(total, name) + told[name] for name in models.StagingProgress.model_fields}
            )
    return total


def _artefact(item: artefacts.Artefact, job_state: str) -> models.ArtefactState:
    if item.release_record is not None:
        return models.ArtefactState(
            name=item.name,
            class_=item.cls,
            state="released",
            code=None,
            media_type=item.media_type,
            size=item.size,
            content=item.rebuilt,
        )
    if item.refused is not None:
        return models.ArtefactState(name=item.name, class_=item.cls, state="refused", code=item.refused)
    if item.verdict is not None:
        state = "approved" if item.verdict == "release" else "withheld"
    else:
        state = "in-review" if job_state == "IN_REVIEW" else "destroyed"
    return models.ArtefactState(name=item.name, class_=item.cls, state=state, code=None)
