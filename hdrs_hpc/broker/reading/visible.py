"""The projects and jobs that a person may see; what they may not see does not exist for them."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.reading import permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import artefacts, jobs, projects
from hdrs_hpc.core import ids
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.grant import Grant


def every_project(tx: Connection) -> list[tuple[projects.Project, Grant]]:
    return [(item, projects.grant_of(tx, item)) for item in projects.every(tx)]


def visible_projects(tx: Connection, who: Who) -> list[tuple[projects.Project, Grant]]:
    return [(item, grant) for item, grant in every_project(tx) if permissions.may_see_project(who, grant)]


def project(tx: Connection, who: Who, name: str) -> tuple[projects.Project, Grant]:
    """The project, or the same NotFoundError for one that is not there and one that is not theirs."""
    found = projects.get(tx, name)
    grant = projects.grant_of(tx, found)
    if not permissions.may_see_project(who, grant):
        raise NotFoundError("there is no such project, or it is not yours", where=name)
    return found, grant


def job(tx: Connection, who: Who, typed: str) -> tuple[jobs.Job, Grant]:
    """The one job whose id begins so among those that the asker may see: others' jobs never make a prefix
    ambiguous, which would tell that they exist."""
    return _one(tx, typed, visible_projects(tx, who))


def job_in_review(tx: Connection, who: Who, typed: str) -> tuple[jobs.Job, Grant]:
    """The same among the jobs whose outputs the asker may check."""
    reviewable = [(item, grant) for item, grant in every_project(tx) if permissions.may_review(who, grant)]
    found, grant = _one(tx, typed, reviewable)
    if not was_reviewed(tx, found):
        raise NotFoundError("there is no such job, or it is not yours", where=typed[:40])
    return found, grant


def was_reviewed(tx: Connection, found: jobs.Job) -> bool:
    """Whether it is in review or came out of it: checkers may look back at what was decided."""
    reviewed = ("IN_REVIEW", "RELEASING", "PURGING", "PURGED")
    return found.state in reviewed and bool(artefacts.of_job(tx, found.id))


def _one(tx: Connection, typed: str, among: list[tuple[projects.Project, Grant]]) -> tuple[jobs.Job, Grant]:
    prefix = ids.normalise(typed)
    found = [
        (item, grant)
        for owner, grant in among
        for item in jobs.of_project(tx, owner.name)
        if prefix and item.id.startswith(prefix)
    ]
    exact = [pair for pair in found if pair[0].id == prefix]
    if exact:
        return exact[0]
    if not found:
        raise NotFoundError("there is no such job, or it is not yours", where=typed[:40])
    if len(found) > 1:
        raise jobs.AmbiguousIdError(where=typed[:40])
    return found[0]
