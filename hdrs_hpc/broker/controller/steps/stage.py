"""ADMITTED and STAGING: see that a copy of everything the job needs is there, then give it an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection

from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, observe_stop
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import capacity, copies, jobs, log, opt_outs, projects, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.documents.models.grant import GrantedDataset
from hdrs_hpc.documents.models.selection import Values
from hdrs_hpc.policy import charging, selection
from hdrs_hpc.policy.refusals import OptOutNotStatedError


@dataclass(frozen=True)
class WantCopies:
    """Begin the copies that are not there yet; link them all to the job."""

    job: Job

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            spec = jobs.spec_of(tx, self.job)
            grant = projects.grant_of(tx, projects.get(tx, self.job.project))
            assert self.job.cluster is not None
            uses = {}
            for name, use in spec.data.items():
                granted = grant.data.get(use.dataset)
                if granted is None or selection.outside(use.select, granted.select):
                    # A new version of the grant came after the rules were applied.
                    EndJob(self.job, Outcome.FAILED, "grant-superseded").move(tx)
                    return
                said = opt_outs.current(tx, use.dataset)
                if said is None:  # the rules refuse such a job; nothing is staged if they ever do not
                    raise OptOutNotStatedError(where=use.dataset)
                # All that the grant gives: what of it a job is served is chosen anew for each attempt.
                made = recipe(granted, granted.select)
                copy = copies.want(
                    tx, self.job.project, use.dataset, granted.version, self.job.cluster, made, said.list
                )
                uses[name] = copy.id
            copies.link(tx, self.job.id, uses)
            transition.move(tx, "job", self.job.subject, "ADMITTED", "STAGING")


@dataclass(frozen=True)
class TakeNewCopies:
    """Somebody opted out while the job waited for its data: it waits for the new copies instead."""

    moves_on: ClassVar[bool] = False

    job: Job

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            take_new_copies(tx, self.job)


@dataclass(frozen=True)
class MakeAttempt:
    """All copies are sealed: name the attempt, which is its identity at the cluster."""

    job: Job

    def act(self, broker: OpenBroker) -> None:
        assert self.job.decision is not None
        with broker.db.write() as tx:
            projects.require_open(tx, self.job.project)
            opt_outs.require_current(tx, copies.of_job(tx, self.job.id).values())
            spec = jobs.spec_of(tx, self.job)
            attempt = jobs.new_attempt(tx, self.job.id)
            told = capacity.of(tx, self.job.cluster) if self.job.cluster else None
            charged = charging.gpus(spec.resources, told.capacity if told else None)
            jobs.note_attempt(tx, attempt.name, alloc_gpus=charged)
            log.append(
                tx,
                "attempt-created",
                {**self.job.subject, "attempt": attempt.name},
                detail={
                    "number": attempt.number,
                    "cluster": self.job.cluster,
                    "isolation": self.job.decision["isolation"],
                },
            )
            transition.move(tx, "job", self.job.subject, "STAGING", "QUEUED")


@dataclass(frozen=True)
class StageFacts:
    job: Job
    stop: Stop | None
    copies: tuple[Copy, ...]
    outdated: bool = False
    """Whether one of them was made, or was to be, under an opt-out list that is no longer in force."""


class WantCopiesStep:
    def observe(self, broker: OpenBroker, job: Job) -> StageFacts:
        return StageFacts(job, observe_stop(broker, job), ())

    def decide(self, facts: StageFacts) -> EndJob | WantCopies:
        if facts.stop:
            return EndJob(facts.job, facts.stop.outcome, facts.stop.reason)
        return WantCopies(facts.job)


class AwaitCopiesStep:
    def observe(self, broker: OpenBroker, job: Job) -> StageFacts:
        with broker.db.read() as tx:
            found = tuple(copies.of_job(tx, job.id).values())
            outdated = opt_outs.job_outdated_since(tx, job.id) is not None
        return StageFacts(job, observe_stop(broker, job), found, outdated)

    def decide(self, facts: StageFacts) -> EndJob | MakeAttempt | TakeNewCopies | None:
        if facts.stop:
            return EndJob(facts.job, facts.stop.outcome, facts.stop.reason)
        if facts.outdated:
            return TakeNewCopies(facts.job)
        for copy in facts.copies:
            if copy.state == "DESTROYED":
                return EndJob(facts.job, Outcome.FAILED, copy.reason or "copy-destroyed")
        if all(copy.state == "READY" for copy in facts.copies):
            return MakeAttempt(facts.job)
        return None


def take_new_copies(tx: Connection, job: Job) -> None:
    """Let copies under the opt-out lists in force stand for inputs whose copy is outdated; begin them if need be."""
    for name, copy in copies.of_job(tx, job.id).items():
        said = opt_outs.current(tx, copy.dataset)
        if opt_outs.outdated_since(tx, copy) is not None and said is not None:
            new = copies.want(
                tx, copy.project, copy.dataset, copy.version, copy.cluster, copy.recipe, said.list
            )
            copies.relink(tx, job.id, name, new.id)


def recipe(granted: GrantedDataset, chosen: Mapping[str, Values]) -> str:
    """What makes two copies of one dataset version differ, as canonical JSON: selection, columns and profile."""
    narrowed = granted.model_copy(update={"select": dict(chosen)})
    return strict_json.dumps(narrowed.model_dump(mode="json", by_alias=True, exclude={"version"})).decode()


def age_s(broker: OpenBroker, since: str) -> float:
    """Seconds since a moment in the database."""
    return (broker.now() - clock.from_text(since)).total_seconds()
