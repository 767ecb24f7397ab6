"""Somebody opted out of the data of a job whose nodes have no keys yet: it goes back and gets new copies.

Its attempt is given up with its place in the cluster's queue: one that started would only wait for data that are
being made.
"""

from __future__ import annotations

from dataclasses import dataclass

from hdrs_hpc.broker.controller.steps.ending import EndJob
from hdrs_hpc.broker.controller.steps.stage import take_new_copies
from hdrs_hpc.broker.logged_keys import destroy_keys
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, jobs, log, transition
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.core import clock
from hdrs_hpc.policy.refusals import OptOutChangedError


@dataclass(frozen=True)
class Restage:
    """Key, cluster job, then the way back; each may be done twice.  What lies on scratch goes with the job's purge."""

    job: Job
    attempt: Attempt

    def act(self, broker: OpenBroker) -> None:
        job, attempt = self.job, self.attempt
        assert job.cluster is not None
        destroy_keys(broker, job.project, "outputs", attempt.name)
        if attempt.cluster_job_id is not None:
            broker.cluster(job.cluster, job.project).cancel(attempt.cluster_job_id)
        with broker.db.write() as tx:
            take_new_copies(tx, job)
            if attempt.started_at is not None and attempt.ended_at is None:
                jobs.note_attempt(tx, attempt.name, ended_at=clock.to_text(broker.now()))
            log.append(
                tx,
                "attempt-cancelled",
                {**job.subject, "attempt": attempt.name},
                detail={"reason": OptOutChangedError.code},
            )
            alerts.clear(tx, f"job/{job.id}")
            transition.move(tx, "job", job.subject, job.state, "STAGING", reason=OptOutChangedError.code)


def leave_old_copies(job: Job, attempt: Attempt) -> Restage | EndJob:
    """Somebody opted out of its data: it starts anew on the new copies, unless a node of it may have had keys."""
    if attempt.handover in ("none", "bound"):
        return Restage(job, attempt)
    return EndJob(job, Outcome.CANCELLED, OptOutChangedError.code)
