"""RECEIVED: apply every rule of the policy, keep the whole decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from hdrs_hpc.broker.opened import ClusterUnknownError, OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import (
    capacity,
    datasets,
    documents,
    jobs,
    kept,
    log,
    opt_outs,
    projects,
    transition,
)
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.catalogue.isolation import WEAKEST
from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, kept_by
from hdrs_hpc.policy import charging
from hdrs_hpc.policy import job as policy
from hdrs_hpc.policy.facts import ClusterFacts, Facts, project_stands
from hdrs_hpc.policy.kept import KeptFact


@dataclass(frozen=True)
class AdmitFacts:
    job: Job
    spec: JobSpec
    facts: Facts
    grant_digest: str


@dataclass(frozen=True)
class Admit:
    """Write the decision down and move on, or end as REFUSED."""

    job: Job
    decision: policy.Decision
    grant: str
    cluster: str

    def act(self, broker: OpenBroker) -> None:
        codes = sorted({rule.code for rule in self.decision.broken if rule.code})
        with broker.db.write() as tx:
            jobs.note_decision(tx, self.job.id, self.decision.as_dict())
            log.append(
                tx,
                "job-decided",
                self.job.subject,
                detail={"allowed": self.decision.allowed, "grant": self.grant, "codes": codes},
            )
            if self.decision.allowed:
                transition.move(tx, "job", self.job.subject, "RECEIVED", "ADMITTED", cluster=self.cluster)
            else:
                transition.move(
                    tx,
                    "job",
                    self.job.subject,
                    "RECEIVED",
                    "PURGED",
                    outcome=Outcome.REFUSED,
                    reason=codes[0],
                )


class AdmitStep:
    def observe(self, broker: OpenBroker, job: Job) -> AdmitFacts:
        with broker.db.read() as tx:
            spec = jobs.spec_of(tx, job)
            project = projects.get(tx, job.project)
            grant = projects.grant_of(tx, project)
            root = documents.current_root(tx)
            approvals = {}
            for item in documents.of_kind(tx, "code-approval"):
                approval = item.read(CodeApproval)
                # Of several approvals of a bundle one by somebody outside the project is enough.
                apart = approval.reviewer not in grant.everyone
                if approval.project == job.project and (apart or approval.covers not in approvals):
                    approvals[approval.covers] = approval.reviewer
            facts = Facts(
                now=broker.now(),
                grant=grant,
                grant_people=documents.get(tx, project.grant).people,
                cluster=_cluster_facts(tx, broker, spec, grant),
                registrations=datasets.registrations_for(tx, grant),
                trust_root=root.document,
                trust_root_digest=root.digest,
                project_state=project_stands(project.state, frozen=project.frozen),
                gpu_hours_used=projects.gpu_hours_used(tx, job.project) + _promised(tx, job),
                code_approvals=approvals,
                opt_outs=opt_outs.stated(tx),
                kept=_kept(tx, job.project),
                kept_promised=jobs.kept_promised(tx, job.project, job.id),
            )
        return AdmitFacts(job, spec, facts, project.grant)

    def decide(self, facts: AdmitFacts) -> Admit:
        decision = policy.decide(facts.spec, facts.job.submitter, facts.facts)
        return Admit(facts.job, decision, facts.grant_digest, facts.facts.cluster.name)


def _cluster_facts(tx: Connection, broker: OpenBroker, spec: JobSpec, grant: Grant) -> ClusterFacts:
    name = policy.choose_cluster(spec, grant)
    try:
        settings = broker.cluster_settings(name)
    except ClusterUnknownError:
        # A cluster without settings offers nothing: the rules then refuse by name instead of a crash here.
        return ClusterFacts(name, WEAKEST, 0)
    told = capacity.of(tx, name)
    return ClusterFacts(name, settings.isolation, settings.max_nodes, told.capacity if told else None)


def _kept(tx: Connection, project: str) -> tuple[KeptFact, ...]:
    return tuple(
        KeptFact(row.job, row.output, row.state, row.size or 0, row.cluster)
        for row in kept.of_project(tx, project)
    ) + tuple(_to_be_kept(tx, project))


def _to_be_kept(tx: Connection, project: str) -> Iterator[KeptFact]:
    """Outputs of jobs that have no attempt yet."""
    for job in jobs.of_project(tx, project):
        if job.state in ("ADMITTED", "STAGING"):
            for name in kept_by(jobs.spec_of(tx, job)):
                yield KeptFact(job.id, name, "unfinished")


def _promised(tx: Connection, job: Job) -> float:
    """GPU-hours that jobs admitted earlier may still use beyond what they have."""
    total = 0.0
    for other in jobs.of_project(tx, job.project):
        if other.id != job.id and other.state in ("ADMITTED", "STAGING", "QUEUED", "RUNNING"):
            used = projects.gpu_hours_used(tx, job.project, other.id)
            told = capacity.of(tx, other.cluster) if other.cluster else None
            needed = charging.gpu_hours(jobs.spec_of(tx, other).resources, told.capacity if told else None)
            total += max(0.0, needed - used)
    return total
