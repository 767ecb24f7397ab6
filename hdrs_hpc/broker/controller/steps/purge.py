"""PURGING of a job: keys first, then the cluster's job, scratch, quarantine and whatever waited for review."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from connectors.clusters import JobPhase
from hdrs_hpc.broker.controller.steps import samples
from hdrs_hpc.broker.controller.steps.submit import is_settled
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.logged_keys import destroy_keys, log_destroyed
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, jobs, kept, log, transition
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.protocol import layout


class ListingNotEmptyError(SiteError):
    code = "listing-not-empty"
    meaning = "Something is still there after it was unlinked."
    remedy = "Another process may be writing; the broker unlinks again until the listing is empty."


@dataclass(frozen=True)
class PurgeFacts:
    job: Job
    attempts: tuple[Attempt, ...]
    live_keys: bool
    lost: tuple[KeptOutput, ...] = ()
    """Outputs that were to stay and do not: their attempt or their job did not end well."""
    running: tuple[str, ...] = ()
    """Cluster jobs of this job that are not over."""
    unsettled: bool = False
    """A submission may still be on its way to the cluster."""
    unseen: SiteError | None = None
    """Why the cluster did not show them."""


@dataclass(frozen=True)
class DestroyKeys:
    """Takes away at once, whatever the cluster says."""

    job: Job
    attempts: tuple[Attempt, ...]
    lost: tuple[KeptOutput, ...]

    def act(self, broker: OpenBroker) -> None:
        for attempt in self.attempts:
            destroy_keys(broker, self.job.project, "outputs", attempt.name)
        for row in self.lost:
            destroy_keys(broker, self.job.project, "copies", row.id)
            with broker.db.write() as tx:
                kept.note(tx, row.id, destroyed_at=clock.to_text(broker.now()))


@dataclass(frozen=True)
class CancelAttempts:
    job: Job
    running: tuple[str, ...]

    def act(self, broker: OpenBroker) -> None:
        assert self.job.cluster is not None
        for cluster_job in self.running:
            broker.cluster(self.job.cluster, self.job.project).cancel(cluster_job)
        with broker.db.write() as tx:
            alerts.put(tx, f"job/{self.job.id}", "cancelling", "waiting until the cluster's job is over")


@dataclass(frozen=True)
class CancelUnseen:
    """The cluster shows nothing, and may still obey: cancel what it accepted.  Cancelling twice does no harm."""

    job: Job
    attempts: tuple[Attempt, ...]
    trouble: SiteError

    def act(self, broker: OpenBroker) -> None:
        assert self.job.cluster is not None
        for attempt in self.attempts:
            if attempt.cluster_job_id is not None:
                broker.cluster(self.job.cluster, self.job.project).cancel(attempt.cluster_job_id)
        raise self.trouble.with_traceback(
            None
        )  # nothing is removed before the cluster shows that all is over


@dataclass(frozen=True)
class AwaitSubmission:
    """We died around sbatch: a cluster job that turns up later must be cancelled before anything is removed."""

    moves_on: ClassVar[bool] = False

    job: Job

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            alerts.put(
                tx, f"job/{self.job.id}", "submission-uncertain", "waiting until a late arrival is excluded"
            )


@dataclass(frozen=True)
class Remove:
    """Measure and try what lies on scratch, unlink it, list, and only then say so."""

    job: Job
    attempts: tuple[Attempt, ...]
    lost: tuple[KeptOutput, ...]

    def act(self, broker: OpenBroker) -> None:
        log_destroyed(broker, self.job.project)
        for row in self.lost:
            unlink_kept(broker, row)
        removed = []
        for attempt in self.attempts:
            assert self.job.cluster is not None
            cluster = broker.cluster(self.job.cluster, self.job.project)
            parts = layout.attempt_parts(self.job.project, attempt.name)
            tried = samples.try_attempt(broker, cluster, self.job, attempt)
            cluster.remove_tree(*parts)
            if cluster.list_tree(*parts):
                raise ListingNotEmptyError(where=attempt.name)
            removed.append((attempt, tried))
        files = size = 0
        folders = [broker.home.artefacts_dir(self.job.id)]
        for attempt in self.attempts:
            folders += [
                broker.home.quarantine_dir(attempt.name),
                broker.home.staging_dir(f"bundle-{attempt.name}"),
                broker.home.served_dir(attempt.name),
            ]
        for folder in folders:
            found = remove_folder(folder)
            files, size = files + found[0], size + found[1]
        with broker.db.write() as tx:
            for attempt, tried in removed:
                log.append(
                    tx,
                    "attempt-removed",
                    {**self.job.subject, "attempt": attempt.name},
                    detail={"objects": tried.objects, "bytes": tried.bytes},
                )
                if attempt.started_at is not None and attempt.ended_at is None:
                    jobs.note_attempt(tx, attempt.name, ended_at=clock.to_text(broker.now()))
            log.append(tx, "quarantine-removed", self.job.subject, detail={"objects": files, "bytes": size})
            alerts.clear(tx, f"job/{self.job.id}")
            transition.move(tx, "job", self.job.subject, "PURGING", "PURGED")


class DestroyKeysStep:
    """Keys only, in the controller's own loop: they wait for no site."""

    def observe(self, broker: OpenBroker, job: Job) -> PurgeFacts:
        with broker.db.read() as tx:
            attempts = tuple(jobs.attempts_of(tx, job.id))
            rows = kept.of_job(tx, job.id)
        well = job.outcome == Outcome.SUCCEEDED
        lost = tuple(row for row in rows if row.unlinked is None and not (well and row.state == "kept"))
        names = {attempt.name for attempt in attempts} | {row.id for row in lost}
        live = any(key.holder in names for key in broker.ask(m.Inspect(job.project)).live)
        return PurgeFacts(job, attempts, live or any(row.destroyed_at is None for row in lost), lost)

    def decide(self, facts: PurgeFacts) -> DestroyKeys | None:
        return DestroyKeys(facts.job, facts.attempts, facts.lost) if facts.live_keys else None


class PurgeStep:
    def observe(self, broker: OpenBroker, job: Job) -> PurgeFacts:
        facts = DestroyKeysStep().observe(broker, job)
        if facts.live_keys or not facts.attempts:
            return facts
        assert job.cluster is not None
        cluster = broker.cluster(job.cluster, job.project)
        try:
            lookup = broker.look_up(job.cluster, job.project, sorted(item.name for item in facts.attempts))
        except SiteError as error:
            return replace(facts, unseen=error)
        shown = [item for found in lookup.jobs.values() for item in found]
        unsettled = any(
            not lookup.jobs[attempt.name] and not is_settled(broker, attempt, cluster, lookup)
            for attempt in facts.attempts
        )
        running = tuple(item.job_id for item in shown if item.phase is not JobPhase.ENDED)
        return replace(facts, running=running, unsettled=unsettled)

    def decide(
        self, facts: PurgeFacts
    ) -> DestroyKeys | CancelUnseen | CancelAttempts | AwaitSubmission | Remove:
        if facts.live_keys:
            return DestroyKeys(facts.job, facts.attempts, facts.lost)
        if facts.unseen is not None:
            return CancelUnseen(facts.job, facts.attempts, facts.unseen)
        if facts.running:
            return CancelAttempts(facts.job, facts.running)
        if facts.unsettled:
            return AwaitSubmission(facts.job)
        return Remove(facts.job, facts.attempts, facts.lost)


def unlink_kept(broker: OpenBroker, row: KeptOutput) -> None:
    """Its key is dead; measure and try what lies there, unlink it, list, and only then say so."""
    cluster = broker.cluster(row.cluster, row.project)
    parts = layout.kept_parts(row.project, row.id)
    tried = samples.try_kept(broker, cluster, row)
    cluster.remove_tree(*parts)
    if cluster.list_tree(*parts):
        raise ListingNotEmptyError(where=row.id)
    with broker.db.write() as tx:
        log.append_once(
            tx, "kept-removed", row.subject, detail={"objects": tried.objects, "bytes": tried.bytes}
        )
        kept.note(tx, row.id, unlinked=tried.objects)


def remove_folder(folder: Path) -> tuple[int, int]:
    """Unlink a folder of the data zone; gives files and bytes that were there."""
    files = size = 0
    if folder.is_dir():
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                files, size = files + 1, size + path.stat().st_size
        shutil.rmtree(folder)
    return files, size
