"""The hand-over of an attempt's keys: one courier asks its nodes who they are, a second brings each its answer.

keyd judges by itself; what it bound is in the log before it answers.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection

from connectors.clusters import ClusterJob, StepFailedError, StepRefusedError
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.controller.steps.ending import EndJob, observe_stop
from hdrs_hpc.broker.controller.steps.restage import leave_old_copies
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.logged_keys import require_living
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, log, opt_outs, projects
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.served import Served, ServedInput
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import clock, wire
from hdrs_hpc.core.errors import HdrsError, NotAllowedError, SiteError
from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.protocol import handover, layout

COURIER_TIMEOUT_S = 60.0
COURIERS_AT_ONCE = 8


@dataclass(frozen=True)
class Bind:
    """First courier: ask every agent who it is; keyd judges and binds; the bindings go into the log."""

    job: Job
    attempt: Attempt
    found: ClusterJob
    served: Served

    @property
    def waits_for(self) -> str | None:
        return self.job.cluster

    def act(self, broker: OpenBroker) -> None:
        try:
            replies = _courier(broker, self.job, self.attempt, self.found, handover.Request("hello"))
        except StepFailedError:
            raise AgentsStartingError() from None
        hellos = tuple(reply.hello for reply in replies if reply.hello is not None)
        if len(hellos) < len(replies):
            raise AgentsStartingError("an agent did not say who it is")
        assert self.job.cluster is not None
        checkpoint.tell_runtimes(broker.db, broker.ask, self.job.cluster)
        try:
            bound = checkpoint.ask_with_proof(
                broker.db, broker.ask, self.served.seqs, lambda proof: self._request(broker, hellos, proof)
            )
        except HdrsError as error:
            if error.retry:
                raise
            refuse(broker, self.job, self.attempt, error)
            return
        subject = {**self.job.subject, "attempt": self.attempt.name}
        with broker.db.write() as tx:
            jobs.require_unmoved(tx, self.job)
            projects.require_open(tx, self.job.project)
            opt_outs.require_current(tx, copies.of_job(tx, self.job.id).values())
            seqs = [
                log.append(
                    tx,
                    "handover-bound",
                    {**subject, "node": node},
                    actor=log.KEYD,
                    detail={"public-key": said.public_key, "runtime": said.runtime},
                )
                for node, said in sorted(bound.nodes.items())
            ]
            jobs.note_attempt(tx, self.attempt.name, handover="bound", bindings={"seqs": seqs})

    def _request(
        self, broker: OpenBroker, hellos: tuple[handover.Hello, ...], chosen: m.LogProof
    ) -> m.BindNodes:
        job, attempt = self.job, self.attempt
        assert job.decision is not None
        assert job.cluster is not None
        with broker.db.read() as tx:
            spec = documents.get(tx, job.spec).raw
            parsed = jobs.spec_of(tx, job)
            approvals = _approvals(tx, job, parsed)
        bundled = parsed.workload.bundle is not None
        return m.BindNodes(
            project=job.project,
            job=job.id,
            attempt=attempt.name,
            spec=spec,
            code_approvals=approvals,
            hellos=hellos,
            copies=tuple(self._facts(name, one) for name, one in self.served.inputs.items()),
            chosen=chosen,
            bundle_parts=layout.bundle_parts(job.project, attempt.name) if bundled else None,
            cluster=job.cluster,
            isolation=job.decision["isolation"],
            started_at=attempt.started_at or clock.to_text(broker.now()),
        )

    def _facts(self, name: str, one: ServedInput) -> m.CopyFacts:
        project = self.job.project
        added = layout.served_parts(project, self.attempt.name, name) if one.narrowed else None
        return m.CopyFacts(name, one.copy, layout.copy_parts(project, one.copy), one.manifest, added)


def _approvals(tx: Connection, job: Job, spec: JobSpec) -> tuple[bytes, ...]:
    """The approvals of exactly this bundle in this project, at most as many as a request may bring."""
    if spec.workload.bundle is None:
        return ()
    wanted = (job.project, spec.workload.bundle.to_approve)
    found = []
    for item in documents.of_kind(tx, "code-approval"):
        approval = item.read(CodeApproval)
        if (approval.project, approval.covers) == wanted:
            found.append(item.raw)
    return tuple(found[-16:])


@dataclass(frozen=True)
class Deliver:
    """Second courier: sealed answers, given by keyd only against proof that the bindings are in the log."""

    job: Job
    attempt: Attempt
    found: ClusterJob

    @property
    def waits_for(self) -> str | None:
        return self.job.cluster

    def act(self, broker: OpenBroker) -> None:
        job, attempt = self.job, self.attempt
        assert attempt.bindings is not None
        try:
            given = checkpoint.ask_with_proof(
                broker.db,
                broker.ask,
                attempt.bindings["seqs"],
                lambda proof: m.AnswerNodes(attempt.name, proof),
            )
        except HdrsError as error:
            if error.retry:
                raise
            refuse(broker, job, attempt, error)
            return
        if attempt.handover == "bound":
            self._log_answered(broker, given)
        replies = _deliver(broker, job, attempt, self.found, given.answers, given.nodes)
        refused = next((reply for reply in replies if reply.refused), None)
        if refused is not None:
            refuse(broker, job, attempt, AnswerDeclinedError(f"{refused.refused}", where=refused.node))
            return
        with broker.db.write() as tx:
            jobs.note_attempt(tx, attempt.name, handover="closed")
            log.append(tx, "handover-closed", {**job.subject, "attempt": attempt.name})
            alerts.clear(tx, f"job/{job.id}")

    def _log_answered(self, broker: OpenBroker, given: m.AnsweredNodes) -> None:
        bound = {}
        with broker.db.read() as tx:
            for seq in (self.attempt.bindings or {})["seqs"]:
                entry = Entry.from_bytes(log.entry(tx, seq))
                bound[entry.subject["node"]] = entry.detail["public-key"]
        with broker.db.write() as tx:
            jobs.require_unmoved(tx, self.job)
            projects.require_open(tx, self.job.project)
            opt_outs.require_current(tx, copies.of_job(tx, self.job.id).values())
            require_living(tx, self.job.project, given.keys)
            for node, answer in sorted(given.answers.items()):
                log.append(
                    tx,
                    "handover-answered",
                    {**self.job.subject, "attempt": self.attempt.name, "node": node},
                    actor=log.KEYD,
                    detail={
                        "public-key": bound[node],
                        "answer": answer.digest(),
                        "keys": list(given.keys),
                        "not-after": given.not_after,
                    },
                )
            jobs.note_attempt(tx, self.attempt.name, handover="answered")


class AgentsStartingError(SiteError):
    code = "agents-starting"
    meaning = "The nodes check and unpack the runtime; their agents do not answer yet."
    remedy = "Nothing to do; if it lasts longer than the site's hand-over deadline, the attempt is stopped."


class AnswerDeclinedError(NotAllowedError):
    code = "handover-answer-declined"
    meaning = "An agent refused the answer it was brought."
    remedy = "The attempt is stopped; `hdrs-hpc job show` names the reason."


def refuse(broker: OpenBroker, job: Job, attempt: Attempt, error: HdrsError) -> None:
    """A hand-over that must not happen: log it, alarm, stop the attempt."""
    with broker.db.write() as tx:
        jobs.require_unmoved(tx, job)
        outdated = opt_outs.job_outdated_since(tx, job.id) is not None
        log.append(
            tx,
            "handover-refused",
            {**job.subject, "attempt": attempt.name},
            actor=log.KEYD,
            detail={"code": error.code},
        )
        if error.code in ("handover-second-key", "handover-answer-declined"):
            log.append(
                tx,
                "alarm",
                {"project": job.project},
                detail={"code": error.code, "attempt": attempt.name, "job": job.id},
            )
    if outdated:  # keyd destroyed the old copy's key, or refused it, before we looked
        leave_old_copies(job, attempt).act(broker)
        return
    EndJob(job, Outcome.FAILED, error.code, {"message": error.message}).act(broker)


def _deliver(
    broker: OpenBroker,
    job: Job,
    attempt: Attempt,
    found: ClusterJob,
    answers: dict[str, handover.NodeAnswer],
    nodes: bytes,
) -> list[handover.Reply]:
    """A courier to each node with its own answer and the list of all nodes, a few at once.

    Raises SiteError where one of them failed, after all had their turn: the next time brings the same bytes.
    """

    def bring(item: tuple[str, handover.NodeAnswer]) -> list[handover.Reply]:
        node, answer = item
        _require_going_on(broker, job)  # couriers of many nodes take minutes: a freeze in between ends them
        return _courier(broker, job, attempt, found, handover.Request("answer", answer, nodes), node)

    first, *others = answers.items()
    with ThreadPoolExecutor(COURIERS_AT_ONCE) as pool:
        brought = [pool.submit(bring, item) for item in others]
        replies = bring(first)  # in our own thread: most jobs have one node
    return [*replies, *(reply for one in brought for reply in one.result())]


def _require_going_on(broker: OpenBroker, job: Job) -> None:
    with broker.db.read() as tx:
        now = jobs.get(tx, job.id)
    if now.state != job.state or observe_stop(broker, now) is not None:
        raise StateMovedError("the job was stopped meanwhile")


def _courier(
    broker: OpenBroker,
    job: Job,
    attempt: Attempt,
    found: ClusterJob,
    request: handover.Request,
    node: str | None = None,
) -> list[handover.Reply]:
    """One courier step on every node of the attempt, or on one; raises SiteError while agents are not there yet."""
    assert job.cluster is not None
    settings = broker.cluster_settings(job.cluster)
    try:
        lines = broker.cluster(job.cluster, job.project).run_in_job(
            found.job_id,
            layout.courier_argv(settings.node_tmp, attempt.name),
            wire.to_line(request),
            max(1, len(found.nodes)) if node is None else 1,
            COURIER_TIMEOUT_S,
            node,
        )
    except StepRefusedError:
        raise StepFailedError("the job let no step in; it may be ending") from None
    return [handover.parse_reply(line) for line in lines]
