"""What became of data at staging, for custodians: counts and reasons, no name or number of any item."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.reading import models, permissions, visible
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import copies
from hdrs_hpc.core.errors import NotFoundError

_KINDS = ("volumes", "slides", "tables")


def reports(tx: Connection, who: Who, name: str) -> list[models.StagingReport]:
    """One for each copy that was made for the project, or that could not be made."""
    visible.project(tx, who, name)
    if not permissions.may_see_staging(who):
        raise NotFoundError("there are no staging reports, or they are not yours", where=name)
    return [_shown(copy) for copy in copies.of_project(tx, name)]


def _shown(copy: copies.Copy) -> models.StagingReport:
    """Chosen field by field: what a report holds besides stays in the data zone."""
    report = copy.report or {}
    staged = report.get("staged", {})
    return models.StagingReport(
        copy_=copy.id,
        project=copy.project,
        dataset=copy.dataset,
        version=copy.version,
        cluster=copy.cluster,
        state=copy.state,
        reason=copy.reason,
        made_for=report.get("made-for", {}),
        profile=report.get("profile"),
        items_in=report["in"]["items"] if report else None,
        items_staged=staged.get("items"),
        staged={kind: staged[kind] for kind in _KINDS if kind in staged},
        patients=staged.get("patients"),
        reasons=[
            models.StagingReason(
                code=code, meaning=told["meaning"], count=told["count"], failed=told["failed"]
            )
            for code, told in report.get("refused", {}).items()
        ],
    )
