"""Jobs: where they are, why, what came out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from hdrs_hpc.broker import states
from hdrs_hpc.broker.home import BrokerHome, progress
from hdrs_hpc.broker.reading import models, permissions, visible
from hdrs_hpc.broker.reading.artefact_bytes import ArtefactBytes
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import alerts, artefacts, copies, jobs
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import Grant


def every(tx: Connection, who: Who, project: str | None, state: str | None) -> list[models.JobLine]:
    """The jobs of the person's projects, newest last."""
    found = []
    for owner, _ in visible.visible_projects(tx, who):
        if project in (None, owner.name):
            found += [job for job in jobs.of_project(tx, owner.name) if state in (None, job.state)]
    found.sort(key=lambda job: (job.received_at, job.id))
    return [models.JobLine(**_line(tx, job)) for job in found]


def one(tx: Connection, who: Who, home: BrokerHome, prefix: str) -> models.Job:
    """One job, by the beginning of its id."""
    return _whole(tx, *visible.job(tx, who, prefix), home)


def cancellable(tx: Connection, who: Who, prefix: str) -> str:
    """The id of the job, if the person may cancel it; else NotFoundError."""
    job, grant = visible.job(tx, who, prefix)
    if not permissions.may_cancel(who, grant):
        raise NotFoundError("there is no such job, or it is not yours", where=prefix[:40])
    return job.id


def artefact(tx: Connection, who: Who, home: BrokerHome, prefix: str, name: str) -> tuple[str, ArtefactBytes]:
    """The id of the job and the bytes of one released artefact.  Whoever sends them logs it first."""
    job, item = _released(tx, who, prefix, name)
    path = home.released_dir(job.id) / item.name
    if item.file is None or not path.is_file():
        raise NotFoundError("the artefact is not released, or there is none of that name", where=name)
    return job.id, ArtefactBytes(path.open("rb"), item.media_type, item.file)


def record(tx: Connection, who: Who, home: BrokerHome, prefix: str, name: str) -> bytes:
    """The envelope of an artefact's release record."""
    job, item = _released(tx, who, prefix, name)
    path = home.released_dir(job.id) / f"{item.name}.record.json"
    if not path.is_file():
        raise NotFoundError("the artefact is not released, or there is none of that name", where=name)
    return path.read_bytes()


def _released(tx: Connection, who: Who, prefix: str, name: str) -> tuple[jobs.Job, artefacts.Artefact]:
    job, grant = visible.job(tx, who, prefix)
    if permissions.may_fetch(who, grant):
        for item in artefacts.of_job(tx, job.id):
            if item.name == name and item.release_record is not None:
                return job, item
    raise NotFoundError("the artefact is not released, or there is none of that name", where=name)


def _line(tx: Connection, job: jobs.Job) -> dict[str, str | None]:
    waiting = _alerts_about(tx, job)
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
        alerts=[models.Alert(**vars(item)) for item in _alerts_about(tx, job)],
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
        told = progress.told(home.staging_dir(copy.id)) if copy.state == "STAGING" else None
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


def _alerts_about(tx: Connection, found: jobs.Job) -> list[alerts.Alert]:
    """Alerts about the job itself, and about the copies it waits for."""
    about = {f"job/{found.id}"}
    if found.state != "PURGED":
        about |= {f"copy/{copy.id}" for copy in copies.of_job(tx, found.id).values()}
    return [item for item in alerts.every(tx) if item.about in about]
