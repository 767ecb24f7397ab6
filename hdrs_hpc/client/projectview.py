"""A project as the broker shows it to one of its people: enough to apply the rules before anything is signed.

What decides is the broker, later and with more at hand; here its answers are only told early.  What it does not
show to a researcher is named in :attr:`SpecContext.untold`, and the rules that need it are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hdrs_hpc.catalogue.isolation import WEAKEST
from hdrs_hpc.client import remembered, signatures
from hdrs_hpc.client.context import SpecContext
from hdrs_hpc.client.http import BrokerRefusedError
from hdrs_hpc.client.session import NotLoggedInError, Session
from hdrs_hpc.core import clock
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.core.errors import NotFoundError, UsageError
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.policy import refusals
from hdrs_hpc.policy.facts import ClusterFacts, Facts, project_stands
from hdrs_hpc.policy.kept import KeptFact

_UNTOLD = {
    refusals.CodeNotApprovedError.code: "whether a code reviewer from outside the project approved this very bundle",
}


def context(session: Session, project: str, cluster: str | None) -> SpecContext:
    """The rules' context as the broker shows it; ``cluster``: the one that the spec names.

    Raises ProjectUnknownError for a project that is not there or not theirs, NotLoggedInError, SiteError.
    """
    if session.settings.person is None:
        raise NotLoggedInError()
    shown = _shown(session, project)
    root = session.refresh_root()
    grant, people = _grant(session, project, shown)
    chosen = cluster or grant.limits.clusters[0]
    offer = shown["clusters"].get(chosen)
    facts = Facts(
        now=clock.now(),
        grant=grant,
        grant_people=people,
        registrations={
            name: _registration(name, data)
            for name, data in shown["data"].items()
            if data["kind"] is not None
        },
        # A cluster that the broker has no settings for offers nothing, as in its own decision.
        cluster=ClusterFacts(chosen, offer["isolation"], offer["nodes"], _capacity(offer))
        if offer
        else ClusterFacts(chosen, WEAKEST, 0),
        trust_root=root.document,
        trust_root_digest=root.digest,
        project_state=project_stands(shown["state"], frozen=shown["frozen"]),
        gpu_hours_used=shown["gpu-hours-used"],
        kept=tuple(
            KeptFact(k["job"], k["output"], k["state"], k["size"] or 0, k["cluster"]) for k in shown["kept"]
        ),
        kept_promised=shown["kept-promised"],
        opt_outs=frozenset(name for name, data in shown["data"].items() if data["opt-outs-stated"]),
    )
    return SpecContext(None, root, session.settings.person, facts, _UNTOLD)


def _capacity(offer: dict[str, Any] | None) -> Capacity | None:
    """What the cluster told of its nodes; None where that is not known yet."""
    has = offer["capacity"] if offer else None
    return Capacity.from_value(has) if has else None


def remember(session: Session, project: str, shown: dict[str, Any]) -> None:
    """Keep what the broker has ``shown`` of a project, with its grant, for what works without asking it."""
    _grant(session, project, shown)


@dataclass(frozen=True)
class Beginning:
    """What a new spec is filled in from."""

    grant: Grant
    real: bool
    """Whether any of its data are real, or not told."""
    capacity: Capacity | None
    """What the first cluster of the grant has; None while that is not known."""


def to_begin_with(session: Session, project: str | None) -> Beginning | None:
    """Of the project named, else of the only one that runs and in which the person works.

    None where there is none; raises UsageError where there are several.
    """
    if project is not None:
        return _to_begin_with(session, project)
    mine = [
        item["name"]
        for item in session.api.get("/v1/projects")
        if session.settings.person in item["researchers"]
        and item["state"] in ("APPROVED", "ACTIVE")
        and not item["frozen"]
    ]
    if len(mine) > 1:
        raise UsageError(
            f"you work in several projects: {', '.join(mine)}", remedy="Name one with --project."
        )
    return _to_begin_with(session, mine[0]) if mine else None


def _to_begin_with(session: Session, project: str) -> Beginning:
    shown = _shown(session, project)
    grant, _ = _grant(session, project, shown)
    if shown["state"] in ("CLOSING", "CLOSED"):
        raise refusals.ProjectNotActiveError(f"the project is {shown['state']}", where=project)
    real = any(data["sensitivity"] in (None, "real") for data in shown["data"].values())
    return Beginning(grant, real, _capacity(shown["clusters"].get(grant.limits.clusters[0])))


def _shown(session: Session, project: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = session.api.get(f"/v1/projects/{quote(project, safe='')}")
    except BrokerRefusedError as error:
        if error.kind != NotFoundError.kind:
            raise
        raise refusals.ProjectUnknownError(f"there is no {project} here, or it is not yours") from None
    return found


def _grant(session: Session, project: str, shown: dict[str, Any]) -> tuple[Grant, tuple[str, ...]]:
    """The grant in force and who signed it; an altered signature raises.  Kept with what is ``shown``."""
    kind = kinds.GRANT
    envelope = Envelope.parse(session.api.get_bytes(f"/v1/projects/{quote(project, safe='')}/grant"))
    signed_by = signatures.progress(envelope, kind, session.root.document).people
    remembered.keep(session, project, shown, envelope)
    return Grant.from_payload(envelope.payload), signed_by


def _registration(name: str, data: dict[str, Any]) -> DatasetRegistration:
    """What the broker shows of a dataset's registration; where it lies stays in the data zone."""
    return DatasetRegistration.from_value(
        {
            "schema": DatasetRegistration.SCHEMA,
            "name": name,
            "owner": data["owner"],
            "kind": data["kind"],
            "sensitivity": data["sensitivity"],
            "source": {"type": "folder", "path": "(not shown)"},
            "version": data["version"],
            "items": data["items"],
        }
    )
