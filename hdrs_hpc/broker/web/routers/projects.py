"""Projects: what a person may do in them, what is left, and what closing one would destroy."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from hdrs_hpc.broker.reading import models, projects, staging
from hdrs_hpc.broker.web.answers import ENVELOPE, envelope
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import NameInPath

router = APIRouter(prefix="/projects", tags=["projects"])


@router.get("")
def every(web: WebHere, who: Asker) -> list[models.Project]:
    """The projects that you may see."""
    with web.db.read() as tx:
        return projects.every(tx, who, web.home)


@router.get("/{name}")
def one(name: NameInPath, web: WebHere, who: Asker) -> models.Project:
    """Data, people, limits, days and GPU-hours left."""
    with web.db.read() as tx:
        return projects.one(tx, who, web.home, name)


@router.get("/{name}/grant", responses=ENVELOPE)
def grant(name: NameInPath, web: WebHere, who: Asker) -> Response:
    """The signed grant in force, exactly as it was accepted."""
    with web.db.read() as tx:
        return envelope(projects.grant(tx, who, name))


@router.get("/{name}/certificate", responses=ENVELOPE)
def certificate(name: NameInPath, web: WebHere, who: Asker) -> Response:
    """The signed certificate of destruction, once the project is closed."""
    with web.db.read() as tx:
        return envelope(projects.certificate(tx, who, web.home, name))


@router.get("/{name}/staging-reports")
def staging_reports(name: NameInPath, web: WebHere, who: Asker) -> list[models.StagingReport]:
    """For custodians: what became of the data of each copy, in counts and reasons."""
    with web.db.read() as tx:
        return staging.reports(tx, who, name)


@router.get("/{name}/closing-plan")
def closing_plan(name: NameInPath, web: WebHere, who: Asker) -> models.ClosingPlan:
    """What closing the project now would destroy.  Changes nothing."""
    with web.db.read() as tx:
        return projects.closing_plan(tx, who, name)
