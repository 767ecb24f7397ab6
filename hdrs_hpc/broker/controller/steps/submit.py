"""QUEUED: exactly one Slurm job for an attempt, however often the broker dies on the way.

The attempt's name is unguessable and was written down before anything was sent.  ``submit_intent_at`` is
written before every try.  After a doubt the cluster is asked by that name: found means adopt; not found means
submit again only when the cluster proves absence and a late arrival is excluded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from connectors.clusters import (
    Cluster,
    ClusterJob,
    JobPhase,
    JobRequest,
    Lookup,
    SubmissionRefusedError,
    why_waits,
)
from hdrs_hpc.broker.controller.steps.choose import Choice, Choosing, observe_choice
from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, observe_stop
from hdrs_hpc.broker.controller.steps.restage import Restage
from hdrs_hpc.broker.controller.steps.stage import age_s
from hdrs_hpc.broker.home.installed_runtimes import installed_flavour, installed_runtime
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError
from hdrs_hpc.broker.logged_keys import log_made, use_key
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, copies, documents, jobs, kept, log, opt_outs, projects, transition
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.job_spec import JobSpec, kept_by
from hdrs_hpc.documents.models.workload import BundleRef
from hdrs_hpc.protocol import batch, bundle, layout, wheel_lock
from hdrs_hpc.sealing.copy_builder import CopyBuilder

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class SubmitFacts:
    job: Job
    attempt: Attempt
    stop: Stop | None
    found: tuple[ClusterJob, ...]
    may_submit: bool
    """Never tried, or absence is proven and nothing can arrive late."""
    doubts: tuple[str, ...]
    drained: bool
    choice: Choice | None = None
    """How far it is chosen what the attempt is served; None with ``stop``."""
    outdated: bool = False
    """Whether somebody opted out of its data, or in, since its copies were made."""


@dataclass(frozen=True)
class Submit:
    """Key, bundle, intent, sbatch: in this order, so that each can be repeated."""

    job: Job
    attempt: Attempt

    def act(self, broker: OpenBroker) -> None:
        job, attempt = self.job, self.attempt
        assert job.cluster is not None
        with broker.db.read() as tx:
            spec = jobs.spec_of(tx, job)
            root = documents.current_root(tx)
            project = projects.get(tx, job.project)
            run_until = projects.grant_of(tx, project).valid.run_until
        _make_key(broker, job, attempt, "output")
        _make_kept_keys(broker, job, attempt, spec)
        if spec.workload.bundle is not None:
            seal_bundle(broker, job, attempt, spec.workload.bundle)
        walltime_s = min(spec.resources.time, int((run_until - broker.now()).total_seconds()))
        request = self._request(broker, spec, root.document.audience, max(60, walltime_s))
        with broker.db.write() as tx:
            jobs.require_unmoved(tx, job)
            opt_outs.require_current(tx, copies.of_job(tx, job.id).values())
            jobs.note_attempt(tx, attempt.name, submit_intent_at=clock.to_text(broker.now()))
        try:
            job_id = broker.cluster(job.cluster, job.project).submit(request)
        except SubmissionRefusedError as error:
            EndJob(job, Outcome.FAILED, error.code).act(broker)
            return
        _note_submitted(broker, job, attempt, job_id, adopted=False)

    def _request(self, broker: OpenBroker, spec: JobSpec, audience: str, walltime_s: int) -> JobRequest:
        job, resources = self.job, spec.resources
        assert job.cluster is not None
        assert job.decision is not None
        settings = broker.cluster_settings(job.cluster)
        cluster = broker.cluster(job.cluster, job.project)
        lifetime_s = walltime_s + broker.settings.beside_walltime_s
        shell = JobRequest(
            name=self.attempt.name,
            script=b"#",
            nodes=resources.nodes,
            cpus_per_task=resources.cpus_per_task,
            mem_mb=resources.mem,
            gres=resources.gres,
            time_s=lifetime_s,
        )
        plan = batch.BatchPlan(
            attempt=self.attempt.name,
            project=job.project,
            audience=audience,
            scratch=cluster.scratch_path(),
            node_tmp=settings.node_tmp,
            runtime_digest=installed_runtime(broker.home, settings.name, job.project),
            flavour_digest=installed_flavour(broker.home, settings.name, job.project, spec.workload.runs_on),
            broker_key=broker.ask(m.SigningKeys()).lines["handover-answer"],
            isolation=job.decision["isolation"],
            memory_mb=resources.mem,
            lifetime_s=lifetime_s,
            nodes=resources.nodes,
            launch_prefix=cluster.launch_prefix(shell),
        )
        return JobRequest(**(vars(shell) | {"script": batch.render(plan)}))


@dataclass(frozen=True)
class Adopt:
    """The cluster has the job: note its identity.  A second one of the same name is cancelled and alarmed."""

    job: Job
    attempt: Attempt
    found: tuple[ClusterJob, ...]

    def act(self, broker: OpenBroker) -> None:
        assert self.job.cluster is not None
        first, *others = sorted(self.found, key=lambda item: (item.submit_time, item.job_id))
        for other in others:
            if other.phase is not JobPhase.ENDED:
                broker.cluster(self.job.cluster, self.job.project).cancel(other.job_id)
        if others:
            with broker.db.write() as tx:
                log.append(
                    tx,
                    "alarm",
                    {"project": self.job.project},
                    detail={"code": "duplicate-cluster-job", "attempt": self.attempt.name},
                )
        _note_submitted(broker, self.job, self.attempt, first.job_id, adopted=True)


@dataclass(frozen=True)
class Started:
    """The cluster runs it (or ran it): the hand-over's turn."""

    job: Job
    attempt: Attempt
    found: ClusterJob

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            jobs.note_attempt(
                tx,
                self.attempt.name,
                started_at=clock.to_text(broker.now()),
                submit_time=self.found.submit_time,
                restarts=self.found.restarts,
                raw_state=self.found.raw_state,
            )
            log.append(
                tx,
                "attempt-started",
                {**self.job.subject, "attempt": self.attempt.name},
                detail={"nodes": list(self.found.nodes)},
            )
            alerts.clear(tx, f"job/{self.job.id}")
            transition.move(tx, "job", self.job.subject, "QUEUED", "RUNNING")


@dataclass(frozen=True)
class Wait:
    """Say what is waited for."""

    moves_on: ClassVar[bool] = False

    job: Job
    code: str
    message: str

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            alerts.put(tx, f"job/{self.job.id}", self.code, self.message)


class SubmitStep:
    def observe(self, broker: OpenBroker, job: Job) -> SubmitFacts:
        assert job.cluster is not None
        with broker.db.read() as tx:
            attempt = jobs.attempts_of(tx, job.id)[-1]
            outdated = opt_outs.job_outdated_since(tx, job.id) is not None
        stop = observe_stop(broker, job)
        if stop is not None:  # what takes away does not wait for the cluster
            return SubmitFacts(job, attempt, stop, (), False, (), False)
        cluster = broker.cluster(job.cluster, job.project)
        lookup = broker.find(job.cluster, job.project, attempt.name)
        return SubmitFacts(
            job=job,
            attempt=attempt,
            stop=None,
            found=tuple(lookup.jobs[attempt.name]),
            may_submit=is_settled(broker, attempt, cluster, lookup),
            doubts=lookup.doubts,
            drained=broker.drained(job.cluster),
            choice=observe_choice(broker, job, attempt),
            outdated=outdated,
        )

    def decide(
        self, facts: SubmitFacts
    ) -> EndJob | Choosing | Submit | Adopt | Started | Restage | Wait | None:
        job, attempt = facts.job, facts.attempt
        if facts.stop:
            return EndJob(job, facts.stop.outcome, facts.stop.reason)
        if facts.found:
            if attempt.cluster_job_id is None:
                return Adopt(job, attempt, facts.found)
            if facts.outdated:
                return Restage(job, attempt)
            mine = [item for item in facts.found if item.job_id == attempt.cluster_job_id]
            if mine and mine[0].phase in (JobPhase.RUNNING, JobPhase.COMPLETING, JobPhase.ENDED):
                return Started(job, attempt, mine[0])
            if not mine:
                return Wait(job, "cluster-job-unseen", "the cluster shows the job's name under another id")
            if mine[0].phase is JobPhase.PENDING and mine[0].reason:
                return Wait(job, "cluster-job-pending", why_waits(mine[0].reason))
            return None
        if facts.outdated and (attempt.cluster_job_id is not None or facts.may_submit):
            return Restage(job, attempt)
        if attempt.cluster_job_id is not None:
            return Wait(job, "cluster-job-unseen", "the cluster accepted the job and does not show it")
        if facts.drained:
            return Wait(job, "cluster-drained", "an admin stopped new work for this cluster")
        if facts.may_submit:
            if facts.choice is not None and facts.choice.served is None:
                return facts.choice.next()
            return Submit(job, attempt)
        doubts = "; ".join(facts.doubts) or "waiting until a late arrival is excluded"
        return Wait(job, "submission-uncertain", doubts)


def is_settled(broker: OpenBroker, attempt: Attempt, cluster: Cluster, lookup: Lookup) -> bool:
    """Whether what the cluster shows of an attempt is all that there will be: nothing of it is on its way."""
    if attempt.submit_intent_at is None or attempt.cluster_job_id is not None:
        return True
    return lookup.absence_proven and age_s(broker, attempt.submit_intent_at) >= cluster.settle_s


def seal_bundle(broker: OpenBroker, job: Job, attempt: Attempt, named: BundleRef) -> None:
    """Put the researcher's code and its wheels on scratch, sealed under a key of their own.  Idempotent."""
    assert job.cluster is not None
    _make_key(broker, job, attempt, "bundle")
    folder = broker.home.staging_dir(f"bundle-{attempt.name}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        given = use_key(broker, "bundle", job.project, attempt.name)
    except KeydRefusedError as error:
        if error.code == "manifest-settled":
            return  # sealed before; keyd remembers
        raise
    parts = layout.bundle_parts(job.project, attempt.name)
    builder = CopyBuilder(
        broker.cluster(job.cluster, job.project).objects(*parts),
        given.key,
        "copy",
        job.project,
        attempt.name,
        folder / "journals",
    )
    if not builder.sealed:
        code = broker.home.file(named.digest).read_bytes()
        lock = wheel_lock.of_bundle(
            bundle.read(code, named.digest).files, named.wheels.lock if named.wheels else None
        )
        for wheel in lock.wheels if lock else ():
            path = layout.wheel_path(wheel.digest)
            if builder.find(path) is None:  # sent by an earlier try
                builder.put(path, _pieces(broker.home.file(wheel.digest)))
        builder.put(layout.BUNDLE_PATH, code)
    sealed = builder.seal()
    broker.ask(
        m.NoteManifest(job.project, "bundle", attempt.name, sealed.manifest_name, sealed.manifest_digest)
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _make_key(broker: OpenBroker, job: Job, attempt: Attempt, role: Literal["output", "bundle"]) -> None:
    key = broker.ask(m.CreateKey(job.project, role, attempt.name, None, None)).id
    with broker.db.write() as tx:
        log_made(tx, job.project, role, attempt.name, key)


def _make_kept_keys(broker: OpenBroker, job: Job, attempt: Attempt, spec: JobSpec) -> None:
    """A fresh key for each output that is to stay in the project; none of an earlier attempt's is used again."""
    classes = {name: output.class_ for name, output in kept_by(spec).items()}
    with broker.db.write() as tx:
        rows = kept.want(tx, job, attempt, classes)
    for row in rows:
        use = m.KeptFor(job.id, attempt.name, row.output, row.cls)
        key = broker.ask(m.CreateKey(job.project, "kept", row.id, None, None, kept=use)).id
        with broker.db.write() as tx:
            log_made(tx, job.project, "kept", row.id, key)


def _note_submitted(broker: OpenBroker, job: Job, attempt: Attempt, job_id: str, *, adopted: bool) -> None:
    with broker.db.write() as tx:
        jobs.note_attempt(tx, attempt.name, cluster_job_id=job_id)
        log.append(
            tx,
            "attempt-submitted",
            {**job.subject, "attempt": attempt.name},
            detail={"cluster-job": job_id, "adopted": adopted},
        )
        alerts.clear(tx, f"job/{job.id}")
