"""RUNNING: have the keys handed over inside the attempt's own job, then watch until it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from connectors.clusters import ClusterJob, JobPhase
from hdrs_hpc.broker.controller.steps.choose import Choice, Choosing, observe_choice
from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, observe_stop
from hdrs_hpc.broker.controller.steps.hand_over import Bind, Deliver
from hdrs_hpc.broker.controller.steps.restage import Restage, leave_old_copies
from hdrs_hpc.broker.controller.steps.stage import age_s
from hdrs_hpc.broker.controller.steps.submit import Wait
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import (
    alerts,
    jobs,
    opt_outs,
    transition,
)
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.core import clock, wire
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.protocol import layout, progress

FORGOTTEN_AFTER_S = 3600.0


@dataclass(frozen=True)
class RunFacts:
    job: Job
    attempt: Attempt
    stop: Stop | None
    found: ClusterJob | None
    progress: dict[str, Any] | None
    late: bool
    """The hand-over should have happened by now."""
    forgotten: bool
    """The cluster proves that it knows no such job, and the longest time that it could run is over."""
    choice: Choice | None = None
    """What the attempt is served, as far as it is chosen; None with ``stop``."""
    outdated_s: float | None = None
    """How long ago somebody opted out of its data, or in; None while its copies are those in force."""
    grace_s: float = 0.0
    """How long it may run on after that."""


@dataclass(frozen=True)
class NoteProgress:
    """What the agent measured, for people to see."""

    moves_on: ClassVar[bool] = False

    attempt: Attempt
    progress: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            jobs.note_attempt(tx, self.attempt.name, progress=self.progress)


@dataclass(frozen=True)
class Ended:
    """The cluster says that no process of it is left: fetch what it sealed."""

    job: Job
    attempt: Attempt
    found: ClusterJob | None
    """None where the cluster forgot it, long after its end at the latest."""
    progress: dict[str, Any] | None
    """What the agent measured last: an agent that stops ends within moments, and says why here alone."""

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            jobs.note_attempt(
                tx,
                self.attempt.name,
                ended_at=clock.to_text(broker.now()),
                raw_state=self.found.raw_state if self.found else "FORGOTTEN",
                exit_code=self.found.exit_code if self.found else None,
                progress=self.progress or self.attempt.progress,
            )
            alerts.clear(tx, f"job/{self.job.id}")
            transition.move(tx, "job", self.job.subject, "RUNNING", "COLLECTING")


class RunStep:
    def observe(self, broker: OpenBroker, job: Job) -> RunFacts:
        assert job.cluster is not None
        with broker.db.read() as tx:
            attempt = jobs.attempts_of(tx, job.id)[-1]
            spec = jobs.spec_of(tx, job)
            since = opt_outs.job_outdated_since(tx, job.id)
        outdated_s = (broker.now() - since).total_seconds() if since else None
        grace_s = broker.settings.opt_out_grace_s if attempt.handover == "closed" else 0.0
        stop = observe_stop(broker, job)
        if stop is not None or (outdated_s is not None and outdated_s >= grace_s):
            # What takes away does not wait for the cluster.
            return RunFacts(
                job,
                attempt,
                stop,
                None,
                None,
                late=False,
                outdated_s=outdated_s,
                grace_s=grace_s,
                forgotten=False,
            )
        lookup = broker.find(job.cluster, job.project, attempt.name)
        found = [item for item in lookup.jobs[attempt.name] if item.job_id == attempt.cluster_job_id]
        running_s = age_s(broker, attempt.started_at) if attempt.started_at else 0.0
        longest_s = spec.resources.time + broker.settings.handover_deadline_s + FORGOTTEN_AFTER_S
        return RunFacts(
            job=job,
            attempt=attempt,
            stop=None,
            found=found[0] if found else None,
            progress=read_progress(broker, job, attempt),
            late=running_s > broker.settings.handover_deadline_s,
            outdated_s=outdated_s,
            grace_s=grace_s,
            forgotten=not found and lookup.absence_proven and running_s > longest_s,
            choice=observe_choice(broker, job, attempt),
        )

    def decide(
        self, facts: RunFacts
    ) -> EndJob | Choosing | Bind | Deliver | NoteProgress | Ended | Restage | Wait | None:
        job, attempt, found = facts.job, facts.attempt, facts.found
        if facts.stop:
            return EndJob(job, facts.stop.outcome, facts.stop.reason)
        if facts.outdated_s is not None and facts.outdated_s >= facts.grace_s:
            return leave_old_copies(job, attempt)
        if facts.forgotten or (found is not None and found.phase is JobPhase.ENDED):
            return Ended(job, attempt, found, facts.progress)
        if found is None:
            return Wait(job, "cluster-job-unseen", "the cluster does not show the job that it runs")
        if found.phase is JobPhase.UNKNOWN:
            return Wait(
                job, "cluster-state-unknown", "the cluster says neither that it runs nor that it ended"
            )
        if found is not None and found.phase is JobPhase.RUNNING and attempt.handover != "closed":
            if facts.late:
                return EndJob(job, Outcome.FAILED, "handover-timeout")
            if attempt.handover != "none":
                return Deliver(job, attempt, found)
            assert facts.choice is not None
            if facts.choice.served is None:  # it was submitted by an earlier version, or has other copies now
                return facts.choice.next()
            return Bind(job, attempt, found, facts.choice.served)
        if facts.progress is not None and facts.progress != attempt.progress:
            return NoteProgress(attempt, facts.progress)
        return None


def read_progress(broker: OpenBroker, job: Job, attempt: Attempt) -> dict[str, Any] | None:
    """The agent's own measurements, or None while there are none worth believing."""
    assert job.cluster is not None
    try:
        raw = broker.cluster(job.cluster, job.project).read_file(
            *layout.progress_parts(job.project, attempt.name), max_bytes=progress.MAX_BYTES
        )
        return wire.to_value(progress.from_bytes(raw)) if raw else None
    except HdrsError:
        return None  # progress is a courtesy: nothing depends on it
