"""Ways in which any job can end early, decided in one place for all steps.

Taking away waits for no site: :class:`StopStep` runs in the controller's own loop, beside the step of the job's state
in the loop of its cluster, which may be waiting for a site that hangs.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import projects, transition
from hdrs_hpc.broker.store.jobs import Job


@dataclass(frozen=True)
class EndJob:
    """Send a job to PURGING with its outcome and reason code."""

    job: Job
    outcome: Outcome
    reason: str
    detail: dict[str, object] | None = None

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            self.move(tx)

    def move(self, tx: Connection) -> None:
        """The same, in a transaction that says more."""
        job, to = self.job, {"outcome": self.outcome, "reason": self.reason}
        transition.move(tx, "job", job.subject, job.state, "PURGING", **to, detail=self.detail)


@dataclass(frozen=True)
class Stop:
    """Why a job must not go on."""

    outcome: Outcome
    reason: str

    @property
    def final(self) -> bool:
        """Whether it also ends what has run already: frozen and ended projects may still review their results."""
        return self.reason in ("cancelled", "grant-revoked")


def observe_stop(broker: OpenBroker, job: Job) -> Stop | None:
    """Whether somebody cancelled the job, or its project may not be given anything any more."""
    with broker.db.read() as tx:
        project = projects.get(tx, job.project)
        run_until = projects.grant_of(tx, project).valid.run_until
    if project.closing_reason == "revoked":
        return Stop(Outcome.CANCELLED, "grant-revoked")
    if job.cancel_requested:
        return Stop(Outcome.CANCELLED, "cancelled")
    if not project.open:
        return Stop(Outcome.CANCELLED, "project-frozen")
    if broker.now() >= run_until:
        return Stop(Outcome.EXPIRED, "project-ended")
    return None


@dataclass(frozen=True)
class StopFacts:
    job: Job
    stop: Stop | None


class StopStep:
    """End a job that must not go on; what its site still has of it is for its purge."""

    def observe(self, broker: OpenBroker, job: Job) -> StopFacts:
        return StopFacts(job, observe_stop(broker, job))

    def decide(self, facts: StopFacts) -> EndJob | None:
        return EndJob(facts.job, facts.stop.outcome, facts.stop.reason) if facts.stop else None
