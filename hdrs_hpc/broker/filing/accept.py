"""The one way in for documents that people signed: verify, judge, store and log in one transaction.

Whoever files a document needs no other credential: its signatures decide.  The same bytes again are the same
document and give the same answer.  A refusal leaves nothing behind but the log's entry ``document-refused``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from hdrs_hpc.broker.home import BrokerHome, opt_out_lists
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import artefacts, checkpoint, documents, jobs, log, opt_outs, projects, transition
from hdrs_hpc.broker.store import datasets as dataset_rows
from hdrs_hpc.broker.store.checkpoint import AskKeyd
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.schema import datasets, trust_roots
from hdrs_hpc.broker.store.schema import jobs as job_table
from hdrs_hpc.broker.store.schema import projects as project_table
from hdrs_hpc.core import clock, ids
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, HdrsError, NotAllowedError, NotFoundError
from hdrs_hpc.documents import succession, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from hdrs_hpc.policy import closing as closing_policy
from hdrs_hpc.policy import grant as grant_policy
from hdrs_hpc.policy import opt_out as opt_out_policy
from hdrs_hpc.policy import registration as registration_policy
from hdrs_hpc.policy import review as review_policy
from hdrs_hpc.policy.refusals import (
    ProjectNotActiveError,
    SpecExpiredError,
    SpecNotYetValidError,
    WrongAudienceError,
)
from hdrs_hpc.policy.rules import PolicyRefusedError, RuleResult
from hdrs_hpc.protocol import bundle


class NotForFilingError(BadDocumentError):
    code = "not-for-filing"
    meaning = "Documents of this kind are not filed with the broker."
    remedy = (
        "File grants, registrations, opt-out changes, approvals, specs, decisions, closures and trust roots."
    )


class ReplayedError(ConflictError):
    code = "replayed"
    meaning = "Another spec of this person bears the same nonce."
    remedy = "Sign again: every signature gets a nonce of its own."


class DatasetRegisteredError(ConflictError):
    code = "dataset-registered"
    meaning = "That version of the dataset is registered already, by another document."
    remedy = "Nothing needs to be done; `hdrs-hpc dataset show` shows the registration in force."


class BundleMissingError(NotFoundError):
    code = "bundle-missing"
    meaning = "The bundle that the spec names was not uploaded, or has other bytes than were signed."
    remedy = "Submit with `hdrs-hpc submit`, which uploads the bundle first."


class ReviewNotOpenError(ConflictError):
    code = "review-not-open"
    meaning = "The job is not in review."
    remedy = "`hdrs-hpc review list` shows what waits for you."


class ChallengeError(NotAllowedError):
    code = "login-challenge"
    meaning = "The login does not answer the challenge that this broker gave."
    remedy = "Log in again."


@dataclass(frozen=True)
class Receipt:
    """What the sender gets: what it became, and a signed checkpoint of the log that holds it."""

    kind: str
    digest: str
    project: str | None
    job: str | None
    known: bool
    checkpoint: bytes


@dataclass(frozen=True)
class _Case:
    """One document on its way in."""

    tx: Connection
    root: trust.VerifiedRoot
    raw: bytes
    envelope: Envelope
    home: BrokerHome

    def file(self, kind: str, people: tuple[str, ...]) -> None:
        documents.put(self.tx, self.envelope.digest, kind, self.raw, people)

    def log(self, event: str, actor: str, subject: dict[str, str], detail: dict[str, object]) -> None:
        log.append(
            self.tx,
            event,
            {**subject, "document": self.envelope.digest},
            actor=actor,
            detail={"envelope": _sha256(self.raw), **detail},
        )


def accept(db: Database, ask: AskKeyd, raw: bytes, *, home: BrokerHome) -> Receipt:
    """File one signed document of any kind that people sign.  Raises HdrsError; then nothing was accepted."""
    kind_name = digest = None
    try:
        envelope = Envelope.parse(raw)
        digest = envelope.digest
        kind = BY_PAYLOAD_TYPE.get(envelope.payload_type)
        if kind is None or kind.name not in _FILERS:
            raise NotForFilingError()
        kind_name = kind.name
        if kind_name in _KEYD_FIRST:
            _KEYD_FIRST[kind_name](db, ask, envelope, raw)
        with db.write() as tx:
            known = documents.find(tx, digest)
            if known is not None:
                project, job = _what_it_became(tx, known)
            else:
                case = _Case(tx, documents.current_root(tx), raw, envelope, home)
                project, job = _FILERS[kind_name](case)
    except HdrsError as error:
        if not error.retry:  # what may succeed in a minute was not judged yet
            _log_refusal(db, error, kind_name, digest)
        raise
    if project is not None and kind_name in ("grant", "closure"):
        checkpoint.tell_keyd(db, ask, project)
    if kind_name == "opt-out-change":
        checkpoint.tell_opt_outs(db, ask, OptOutChange.from_payload(envelope.payload).dataset)
    return Receipt(kind_name, digest, project, job, known is not None, checkpoint.sign(db, ask))


def accept_first_root(db: Database, ask: AskKeyd, raw: bytes, digest: str) -> None:
    """Pin the first trust root.  Its digest came by another way than the file; it is the log's first entry."""
    root = trust.load_root(raw, digest)
    ask(m.PinRoot(raw, digest))
    with db.write() as tx:
        first = documents.first_root_digest(tx)
        if first is not None:
            if first != digest:
                raise ConflictError("this broker has another first trust root")
            return
        documents.put(tx, root.digest, "trust-root", raw, root.people)
        tx.execute(insert(trust_roots).values(version=root.document.version, digest=root.digest))
        log.append(
            tx,
            "trust-root-accepted",
            {"document": root.digest},
            actor=log.WEB,
            detail={"envelope": _sha256(raw), "version": root.document.version, "pinned": True},
        )
    checkpoint.sign(db, ask)


def put_bundle(db: Database, content: bytes, digest: str) -> None:
    """Keep an uploaded bundle; a spec will name it by digest.  Its content is checked when the spec comes."""
    if _sha256(content) != digest:
        raise bundle.BundleDigestError()
    with db.write() as tx:
        jobs.put_bundle(tx, digest, content)


def put_opt_out_ids(db: Database, home: BrokerHome, raw: bytes, dataset: str) -> tuple[OptOutIds, list[int]]:
    """Keep an uploaded file of ids in the data zone; which of them, by place, are on the dataset's list already.

    A signed change will name it by its digest.
    """
    with db.read() as tx:
        named = [item.ids for statements in opt_outs.every(tx).values() for item in statements]
        said = opt_outs.of_dataset(tx, dataset)
    found = opt_out_lists.keep(home, raw, named)
    return found, opt_out_lists.listed_places(opt_out_lists.in_force(home, said), found)


def login(db: Database, raw: bytes, challenge: str) -> str:
    """The person who answered the challenge; raises NotAllowedError."""
    try:
        with db.read() as tx:
            root = documents.current_root(tx)
        found = trust.verify(Envelope.parse(raw), "login", root)
        answer = found.document
        if (answer.audience, answer.challenge) != (root.document.audience, challenge):
            raise ChallengeError()
    except HdrsError as error:
        with db.write() as tx:
            if documents.first_root_digest(tx) is not None:
                log.append(tx, "login-refused", {}, actor=log.WEB, detail={"code": error.code})
        raise
    person = found.people[0]
    with db.write() as tx:
        log.append(tx, "login-accepted", {"person": person}, actor=person)
    return person


def request_cancel(db: Database, person: str, job_id: str) -> None:
    """Note that a job is to end; whether ``person`` may was decided by the caller.  Idempotent."""
    with db.write() as tx:
        job = jobs.get(tx, job_id)
        if job.state not in ("PURGING", "PURGED") and not job.cancel_requested:
            jobs.request_cancel(tx, job.id)
            log.append(tx, "cancel-requested", job.subject, actor=person)


# --- one function a kind: judge it, file it, give (project, job)


def _trust_root(case: _Case) -> tuple[str | None, str | None]:
    new = trust.load_root(case.raw, None)
    succession.check(case.root, new, entries=log.size(case.tx))
    case.file("trust-root", new.people)
    case.tx.execute(insert(trust_roots).values(version=new.document.version, digest=new.digest))
    case.log(
        "trust-root-accepted",
        new.people[0],
        {},
        {"version": new.document.version, "supersedes": case.root.digest},
    )
    return None, None


def _dataset(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "dataset-registration", case.root)
    registration = found.document
    same = (datasets.c.name == registration.name, datasets.c.version == registration.version)
    if case.tx.execute(select(datasets.c.name).where(*same)).first() is not None:
        raise DatasetRegisteredError(where=registration.name)
    facts = registration_policy.RegistrationFacts(
        signers=found.people,
        trust_root=case.root.document,
        registered=tuple(
            DatasetRegistration.from_payload(item.envelope.payload)
            for item in documents.of_kind(case.tx, "dataset-registration")
        ),
    )
    _hold(registration_policy.decide(registration, facts))
    case.file("dataset-registration", found.people)
    case.tx.execute(
        insert(datasets).values(
            name=registration.name,
            version=registration.version,
            registration=found.digest,
            kind=registration.kind,
            sensitivity=registration.sensitivity,
            items=registration.items,
        )
    )
    case.log(
        "dataset-registered",
        found.people[0],
        {"dataset": registration.name},
        {
            "version": registration.version,
            "items": registration.items,
            "sensitivity": registration.sensitivity,
            "owner": registration.owner,
            "kind": registration.kind,
        },
    )
    return None, None


def _grant(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "grant", case.root)
    grant = found.document
    known = projects.find(case.tx, grant.project)
    if known is not None and known.frozen:
        raise ProjectNotActiveError("a frozen project gets no new grant", where=grant.project)
    in_force = projects.grant_of(case.tx, known) if known else None
    facts = grant_policy.GrantFacts(
        now=clock.now(),
        signers=found.people,
        trust_root=case.root.document,
        registrations=registrations(case.tx, grant),
        in_force=in_force,
        in_force_digest=known.grant if known else None,
        in_force_owners=grant_policy.owners_of(registrations(case.tx, in_force)) if in_force else {},
        project_state=known.state if known else None,
    )
    _hold(grant_policy.decide(grant, facts))
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
        case.tx.execute(
            update(project_table)
            .where(project_table.c.name == grant.project)
            .values(grant=found.digest, version=grant.version)
        )
    case.log("grant-accepted", found.people[0], {"project": grant.project}, detail)
    return grant.project, None


def _opt_out(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "opt-out-change", case.root)
    change = found.document
    said = opt_outs.of_dataset(case.tx, change.dataset)
    facts = opt_out_policy.OptOutFacts(
        signers=found.people,
        trust_root=case.root.document,
        registrations=dataset_rows.registrations_of(case.tx, change.dataset),
        version=len(said),
        document=said[-1].document if said else None,
    )
    _hold(opt_out_policy.decide(change, facts))
    listed = opt_out_lists.after(case.home, said, change.action, opt_out_lists.read(case.home, change.ids))
    case.file("opt-out-change", found.people)
    statement = opt_outs.Statement(
        dataset=change.dataset,
        version=change.version,
        document=found.digest,
        action=change.action,
        ids=change.ids,
        list=listed.digest,
        about=listed.about,
        accepted_at=clock.to_text(clock.now()),
    )
    opt_outs.put(case.tx, statement)
    detail: dict[str, object] = {
        "version": change.version,
        "action": change.action,
        "list": listed.digest,
        "about": listed.about,
    }
    if change.supersedes is not None:
        detail["supersedes"] = change.supersedes
    case.log("opt-out-changed", found.people[0], {"dataset": change.dataset}, detail)
    return None, None


def _code_approval(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "code-approval", case.root)
    approval = found.document
    project = projects.get(case.tx, approval.project)
    grant = projects.grant_of(case.tx, project)
    _hold(grant_policy.check_code_approval(approval, found.people[0], grant))
    case.file("code-approval", found.people)
    case.log(
        "code-approved",
        found.people[0],
        {"project": approval.project},
        {"bundle": approval.bundle, "reviewer": approval.reviewer},
    )
    return approval.project, None


def _job_spec(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "job-spec", case.root)
    spec = found.document
    submitter = found.people[0]
    project = projects.get(case.tx, spec.project)
    if submitter not in projects.grant_of(case.tx, project).people.researchers:
        # The same words as for a project that does not exist: strangers learn nothing.
        raise NotFoundError("there is no such project, or it is not yours", where=spec.project)
    if spec.audience != case.root.document.audience:
        raise WrongAudienceError()
    now = clock.now()
    if now < spec.not_before:
        raise SpecNotYetValidError()
    if now >= spec.expires:
        raise SpecExpiredError()
    nonces = select(job_table.c.id).where(job_table.c.submitter == submitter, job_table.c.nonce == spec.nonce)
    if case.tx.execute(nonces).first() is not None:
        raise ReplayedError()
    if spec.workload.bundle is not None:
        content = jobs.bundle(case.tx, spec.workload.bundle.digest)
        if content is None or len(content) != spec.workload.bundle.size:
            raise BundleMissingError()
        bundle.read(content, spec.workload.bundle.digest)
    case.file("job-spec", found.people)
    job = _free_job_id(case.tx)
    transition.begin(
        case.tx,
        "job",
        {
            "id": job,
            "project": spec.project,
            "submitter": submitter,
            "spec": found.digest,
            "nonce": spec.nonce,
            "name": spec.name,
            "cancel_requested": False,
        },
    )
    case.log("job-received", submitter, {"project": spec.project, "job": job}, {"submitter": submitter})
    return spec.project, job


def _output_decision(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "output-decision", case.root)
    decision, checker = found.document, found.people[0]
    job = jobs.get(case.tx, decision.job)
    if job.state != "IN_REVIEW":
        raise ReviewNotOpenError(where=job.id)
    project = projects.get(case.tx, job.project)
    shown = [item for item in artefacts.of_job(case.tx, job.id) if item.refused is None]
    facts = review_policy.ReviewFacts(
        grant=projects.grant_of(case.tx, project),
        trust_root=case.root.document,
        job=job.id,
        artefacts={
            item.name: review_policy.UnderReview(item.rebuilt or "", item.report_digest) for item in shown
        },
        decided_by=frozenset(item.person for item in artefacts.decisions_of(case.tx, job.id)),
    )
    _hold(review_policy.decide(decision, checker, facts))
    case.file("output-decision", found.people)
    for verdict in decision.decisions:
        artefacts.put_decision(
            case.tx,
            artefacts.Decision(
                job.id, verdict.artefact, checker, verdict.verdict, verdict.reason, found.digest
            ),
        )
    case.log("decision-filed", checker, job.subject, {})
    return job.project, job.id


def _closure(case: _Case) -> tuple[str | None, str | None]:
    found = trust.verify(case.envelope, "closure", case.root)
    closure = found.document
    project = projects.get(case.tx, closure.project)
    grant = projects.grant_of(case.tx, project)
    facts = closing_policy.ClosingFacts(
        signers=found.people,
        trust_root=case.root.document,
        granted_by=documents.get(case.tx, project.grant).people,
        owners=grant_policy.owners_of(registrations(case.tx, grant)),
        state=project.state,
        freezes=tuple(projects.freezes_in_force(case.tx, project.name)),
    )
    _hold(closing_policy.decide(closure, facts))
    case.file("closure", found.people)
    case.log("closure-accepted", found.people[0], {"project": project.name}, {"action": closure.action})
    if closure.action == "unfreeze":
        if not projects.freezes_in_force(case.tx, project.name):
            projects.unfreeze(case.tx, project.name)
            log.append(case.tx, "project-unfrozen", {"project": project.name})
        return project.name, None
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
    return project.name, None


def _tell_root(db: Database, ask: AskKeyd, envelope: Envelope, raw: bytes) -> None:
    ask(m.PinRoot(raw, None))


def _tell_closure(db: Database, ask: AskKeyd, envelope: Envelope, raw: bytes) -> None:
    with db.read() as tx:
        closure = trust.verify(envelope, "closure", documents.current_root(tx)).document
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


_FILERS: dict[str, Callable[[_Case], tuple[str | None, str | None]]] = {
    "trust-root": _trust_root,
    "dataset-registration": _dataset,
    "grant": _grant,
    "code-approval": _code_approval,
    "job-spec": _job_spec,
    "output-decision": _output_decision,
    "closure": _closure,
    "opt-out-change": _opt_out,
}
# keyd must know of what takes away before the database does: a crash in between then errs on the safe side.
_KEYD_FIRST: dict[str, Callable[[Database, AskKeyd, Envelope, bytes], None]] = {
    "closure": _tell_closure,
    "trust-root": _tell_root,
}


def registrations(tx: Connection, grant: Grant) -> dict[str, DatasetRegistration]:
    """The registrations of exactly the versions that the grant names."""
    found = {}
    for name, granted in grant.data.items():
        row = tx.execute(
            select(datasets.c.registration).where(
                datasets.c.name == name, datasets.c.version == granted.version
            )
        ).first()
        if row is not None:
            envelope = documents.get(tx, row.registration).envelope
            found[name] = DatasetRegistration.from_payload(envelope.payload)
    return found


def _hold(rules: tuple[RuleResult, ...]) -> None:
    if not all(rule.ok for rule in rules):
        raise PolicyRefusedError(rules)


def _what_it_became(tx: Connection, known: documents.Accepted) -> tuple[str | None, str | None]:
    if known.kind == "job-spec":
        job = jobs.by_spec(tx, known.digest)
        return (job.project, job.id) if job else (None, None)
    payload = BY_PAYLOAD_TYPE[known.envelope.payload_type].model.from_payload(known.envelope.payload)
    return getattr(payload, "project", None), getattr(payload, "job", None)


def _free_job_id(tx: Connection) -> str:
    while True:
        candidate = ids.new_id()
        if tx.execute(select(job_table.c.id).where(job_table.c.id == candidate)).first() is None:
            return candidate


def _log_refusal(db: Database, error: HdrsError, kind: str | None, digest: str | None) -> None:
    broken = (
        [rule.code for rule in error.results if rule.code] if isinstance(error, PolicyRefusedError) else []
    )
    detail = {"code": next(iter(broken), error.code)}
    if kind is not None:
        detail["kind"] = kind
    if digest is not None:
        detail["digest"] = digest
    with db.write() as tx:
        if documents.first_root_digest(tx) is not None:  # the first root is the log's first entry
            log.append(tx, "document-refused", {}, actor=log.WEB, detail=detail)


def _sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
