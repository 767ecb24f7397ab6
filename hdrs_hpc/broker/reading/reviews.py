"""Reviews, blind: a checker sees artefact and report, and nobody else's verdict before all have decided."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.reading import models, permissions, visible
from hdrs_hpc.broker.reading.artefact_bytes import ArtefactBytes
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import artefacts, jobs
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import Grant


def every(tx: Connection, who: Who) -> list[models.ReviewLine]:
    """The jobs in review that the person may check: those of projects in which they do not work."""
    return [
        models.ReviewLine(**_line(tx, who, job, grant))
        for project, grant in visible.every_project(tx)
        if permissions.may_review(who, grant)
        for job in jobs.of_project(tx, project.name)
        if job.state == "IN_REVIEW"
    ]


def one(tx: Connection, who: Who, prefix: str) -> models.Review:
    """Every artefact of a job with the report of its check."""
    job, grant = visible.job_in_review(tx, who, prefix)
    return models.Review(
        **_line(tx, who, job, grant),
        title=grant.title,
        outputs=[
            models.ReviewArtefact(
                name=item.name,
                class_=item.cls,
                media_type=item.media_type,
                size=item.size,
                rebuilt=item.rebuilt,
                report=item.report,
                report_digest=item.report_digest,
                refused=item.refused,
            )
            for item in artefacts.of_job(tx, job.id)
        ],
        decisions=_decisions(tx, who, job, grant),
    )


def artefact(tx: Connection, who: Who, home: BrokerHome, prefix: str, name: str) -> ArtefactBytes:
    """The rebuilt bytes, exactly those that would be released."""
    job, _ = visible.job_in_review(tx, who, prefix)
    found = [item for item in artefacts.of_job(tx, job.id) if item.name == name and item.refused is None]
    # Looking back at bytes ends with the review: afterwards they are purged or released.
    if job.state != "IN_REVIEW" or not found or found[0].file is None:
        raise NotFoundError("there is no artefact of that name under review", where=name)
    path = home.artefacts_dir(job.id) / found[0].name
    if not path.is_file():
        raise NotFoundError("there is no artefact of that name under review", where=name)
    return ArtefactBytes(path.open("rb"), found[0].media_type, found[0].file)


def _line(tx: Connection, who: Who, job: jobs.Job, grant: Grant) -> dict[str, object]:
    decided = {item.person for item in artefacts.decisions_of(tx, job.id)}
    return {
        "job": job.id,
        "project": job.project,
        "name": job.name,
        "purpose": jobs.spec_of(tx, job).purpose,
        "since": job.changed_at,
        "artefacts": len(artefacts.of_job(tx, job.id)),
        "decided_by_you": who.person in decided,
        "reviews_done": len(decided),
        "reviews_needed": grant.outputs.reviewers,
    }


def _decisions(tx: Connection, who: Who, job: jobs.Job, grant: Grant) -> list[models.OpenDecision]:
    """One's own at any time; the others' once all have decided and none can be swayed any more."""
    found = artefacts.decisions_of(tx, job.id)
    complete = len({item.person for item in found}) >= grant.outputs.reviewers or job.state != "IN_REVIEW"
    return [
        models.OpenDecision(
            person=item.person, artefact=item.artefact, verdict=item.verdict, reason=item.reason
        )
        for item in found
        if complete or item.person == who.person
    ]
