"""Projects: what a person may do in them, what is left, and what closing one would destroy."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.reading import clusters, models, visible
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import artefacts, copies, datasets, documents, jobs, kept, opt_outs, projects
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import Grant


def every(tx: Connection, who: Who, home: BrokerHome) -> list[models.Project]:
    return [_shown(tx, home, project, grant) for project, grant in visible.visible_projects(tx, who)]


def one(tx: Connection, who: Who, home: BrokerHome, name: str) -> models.Project:
    return _shown(tx, home, *visible.project(tx, who, name))


def grant(tx: Connection, who: Who, name: str) -> bytes:
    """The envelope of the grant in force."""
    project, _ = visible.project(tx, who, name)
    return documents.get(tx, project.grant).raw


def certificate(tx: Connection, who: Who, home: BrokerHome, name: str) -> bytes:
    """The envelope of the certificate of destruction; raises NotFoundError before the project is closed."""
    project, _ = visible.project(tx, who, name)
    path = home.certificate_file(name)
    if project.certificate is None or not path.is_file():
        raise NotFoundError("the project has no certificate yet", where=name)
    return path.read_bytes()


def closing_plan(tx: Connection, who: Who, name: str) -> models.ClosingPlan:
    """What closing the project now would destroy."""
    project, found = visible.project(tx, who, name)
    of_project = jobs.of_project(tx, name)
    outputs = [item for job in of_project for item in artefacts.of_job(tx, job.id)]
    return models.ClosingPlan(
        project=name,
        state=project.state,
        copies=[
            models.DoomedCopy(
                copy_=copy.id,
                dataset=copy.dataset,
                version=copy.version,
                cluster=copy.cluster,
                state=copy.state,
                objects=copy.objects,
                sealed_bytes=copy.sealed_bytes,
            )
            for copy in copies.of_project(tx, name)
            if copy.state != "DESTROYED"
        ],
        kept=[
            models.DoomedKept(job=row.job, output=row.output, class_=row.cls, size=row.size)
            for row in kept.of_project(tx, name)
            if row.state == "kept"
        ],
        jobs=[
            models.DoomedJob(job=job.id, name=job.name, state=job.state)
            for job in of_project
            if job.state != "PURGED"
        ],
        artefacts_in_review=sum(item.verdict is None and item.refused is None for item in outputs),
        released_artefacts=sum(item.release_record is not None for item in outputs),
        review_grace_s=int(found.valid.review_grace.total_seconds()),
        destroy_by=clock.to_text(found.valid.destroy_by),
    )


def _kept(rows: list[kept.KeptOutput]) -> list[models.Kept]:
    return [
        models.Kept(
            job=row.job,
            output=row.output,
            class_=row.cls,
            state=row.state,
            size=row.size,
            kept_at=row.kept_at,
            cluster=row.cluster,
        )
        for row in rows
    ]


def _shown(tx: Connection, home: BrokerHome, project: projects.Project, grant: Grant) -> models.Project:
    left = grant.valid.run_until - clock.now()
    versions = {(item.name, item.version): item for item in datasets.every(tx)}
    stated = opt_outs.stated(tx)
    rows = kept.of_project(tx, project.name)
    registered = datasets.registrations_for(tx, grant)
    data = {}
    for name, granted in grant.data.items():
        known = versions.get((name, granted.version))
        data[name] = models.GrantedData(
            version=granted.version,
            kind=known.kind if known else None,
            sensitivity=known.sensitivity if known else None,
            owner=registered[name].owner if name in registered else None,
            items=known.items if known else None,
            select=granted.model_dump(mode="json")["select"],
            profile=granted.profile,
            max_failed=granted.max_failed,
            opt_outs_stated=name in stated,
        )
    return models.Project(
        name=project.name,
        title=grant.title,
        state=project.state,
        frozen=project.frozen,
        freezes=projects.freezes_in_force(tx, project.name),
        grant=project.grant,
        grant_version=project.version,
        starts=clock.to_text(grant.valid.from_),
        run_until=clock.to_text(grant.valid.run_until),
        destroy_by=clock.to_text(grant.valid.destroy_by),
        days_left=0 if project.state in ("CLOSING", "CLOSED") else max(0, left.days),
        gpu_hours=grant.limits.gpu_hours,
        gpu_hours_used=round(projects.gpu_hours_used(tx, project.name), 2),
        kept=_kept(rows),
        kept_bytes=sum(row.size or 0 for row in rows if row.state == "kept"),
        kept_promised=jobs.kept_promised(tx, project.name),
        jobs=len(jobs.of_project(tx, project.name)),
        lead=grant.people.lead,
        researchers=list(grant.people.researchers),
        data=data,
        workloads=grant.workloads.model_dump(mode="json"),
        limits=grant.limits.model_dump(mode="json"),
        clusters=clusters.offers(tx, home, grant.limits.clusters),
        outputs=grant.outputs.model_dump(mode="json", exclude_none=True),
        closing=project.closing_reason,
        copy_keys_destroyed_at=project.copy_keys_destroyed_at,
        certificate=project.certificate,
    )
