"""A closure: freeze, unfreeze, close or revoke a project."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.filing.grant import tell_keyd as tell_keyd  # of a lifted freeze, as of a grant
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint, documents, log, projects, transition
from hdrs_hpc.broker.store import datasets as dataset_rows
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy import closing as closing_policy
from hdrs_hpc.policy import grant as grant_policy


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.CLOSURE, case.root)
    closure = found.document
    project = projects.get(case.tx, closure.project)
    grant = projects.grant_of(case.tx, project)
    facts = closing_policy.ClosingFacts(
        signers=found.people,
        trust_root=case.root.document,
        granted_by=documents.get(case.tx, project.grant).people,
        owners=grant_policy.owners_of(dataset_rows.registrations_for(case.tx, grant)),
        state=project.state,
        freezes=tuple(projects.freezes_in_force(case.tx, project.name)),
    )
    hold(closing_policy.decide(closure, facts))
    case.file("closure", found.people)
    case.log("closure-accepted", found.people[0], {"project": project.name}, {"action": closure.action})
    if closure.action == "unfreeze":
        if not projects.freezes_in_force(case.tx, project.name):
            projects.unfreeze(case.tx, project.name)
            log.append(case.tx, "project-unfrozen", {"project": project.name})
        return Became(project.name)
    if not project.frozen:
        projects.freeze(case.tx, project.name)
        log.append(case.tx, "project-frozen", {"project": project.name}, detail={"reason": closure.action})
    if closure.action in ("close", "revoke") and project.state in ("APPROVED", "ACTIVE"):
        transition.move(
            case.tx,
            "project",
            {"project": project.name},
            project.state,
            "CLOSING",
            reason=closure.action,
            closing_reason="revoked" if closure.action == "revoke" else "closed",
            closing_since=clock.to_text(clock.now()),
        )
    elif closure.action == "revoke" and project.state == "CLOSING":
        projects.note_revoked(case.tx, project.name)  # from here on reviews have no grace left
    return Became(project.name)


def tell_keyd_first(db: Database, ask: AskKeyd, envelope: Envelope, raw: bytes) -> None:
    with db.read() as tx:
        closure = trust.verify(envelope, kinds.CLOSURE, documents.current_root(tx)).document
    if closure.action == "unfreeze":
        return  # it gives back, so the log has it first; keyd is told like of a grant
    try:
        ask(m.AdmitClosure(raw))
    except HdrsError as error:
        if error.code != "keyd-project-unknown":
            raise
        # Whoever accepted the grant died before keyd was told of it.
        with db.read() as tx:
            project = projects.get(tx, closure.project)
        checkpoint.tell_keyd(db, ask, project.name)
        ask(m.AdmitClosure(raw))
