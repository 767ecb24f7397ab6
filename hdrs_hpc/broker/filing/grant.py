"""A grant: a project's first one makes it, later versions supersede."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint, projects, transition
from hdrs_hpc.broker.store import datasets as dataset_rows
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy import grant as grant_policy
from hdrs_hpc.policy.refusals import ProjectNotActiveError


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.GRANT, case.root)
    grant = found.document
    known = projects.find(case.tx, grant.project)
    if known is not None and known.frozen:
        raise ProjectNotActiveError("a frozen project gets no new grant", where=grant.project)
    in_force = projects.grant_of(case.tx, known) if known else None
    facts = grant_policy.GrantFacts(
        now=clock.now(),
        signers=found.people,
        trust_root=case.root.document,
        registrations=dataset_rows.registrations_for(case.tx, grant),
        in_force=in_force,
        in_force_digest=known.grant if known else None,
        in_force_owners=grant_policy.owners_of(dataset_rows.registrations_for(case.tx, in_force))
        if in_force
        else {},
        project_state=known.state if known else None,
    )
    hold(grant_policy.decide(grant, facts))
    case.file("grant", found.people)
    detail: dict[str, object] = {
        "version": grant.version,
        "signers": list(found.people),
        "reviewers": grant.outputs.reviewers,
        "run-until": clock.to_text(grant.valid.run_until),
        "destroy-by": clock.to_text(grant.valid.destroy_by),
    }
    if known is None:
        transition.begin(
            case.tx,
            "project",
            {"name": grant.project, "grant": found.digest, "version": grant.version, "frozen": False},
        )
    else:
        detail["supersedes"] = known.grant
        projects.supersede_grant(case.tx, grant.project, found.digest, grant.version)
    case.log("grant-accepted", found.people[0], {"project": grant.project}, detail)
    return Became(grant.project)


def tell_keyd(db: Database, ask: AskKeyd, envelope: Envelope, became: Became) -> None:
    """Have keyd hold to every grant and lifted freeze of the project that the log says was accepted."""
    if became.project is None:
        raise InternalError("a document of a project without its project")
    checkpoint.tell_keyd(db, ask, became.project)
