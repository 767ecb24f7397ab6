"""A project's life: begin, end by time or closure, destroy in order, prove.

Order of CLOSING: copies' keys at once → jobs cancelled → reviews within their grace → outputs' keys (each job's
own purge) → copies unlinked → the project's keys → every place verified → certificate.  Keys never wait for
the cluster; the certificate does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hdrs_hpc.broker import certify
from hdrs_hpc.broker.context import Context
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.steps.keys import destroy_keys, log_destroyed
from hdrs_hpc.broker.steps.purge import ListingNotEmptyError, remove_folder
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, log, projects, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.protocol import layout

REVIEWABLE = ("COLLECTING", "IN_REVIEW", "RELEASING", "PURGING")
"""States that a closing project lets go on, within the grace for reviews."""


@dataclass(frozen=True)
class Opened:
    project: Project
    grant: Grant
    known: bool
    """Whether keyd holds to the grant that is in force here."""
    started: bool
    ended: bool


@dataclass(frozen=True)
class TellKeyd:
    """keyd learns of a grant from here too, in case the process that accepted it died right after."""

    project: Project

    def act(self, ctx: Context) -> None:
        with ctx.db.read() as tx:
            raw = documents.get(tx, self.project.grant).raw
        checkpoint.tell_grant(ctx.db, ctx.ask, self.project.grant, raw)


@dataclass(frozen=True)
class Begin:
    project: Project

    def act(self, ctx: Context) -> None:
        with ctx.db.write() as tx:
            transition.move(tx, "project", {"project": self.project.name}, "APPROVED", "ACTIVE")


@dataclass(frozen=True)
class End:
    """Its time to run is over."""

    project: Project

    def act(self, ctx: Context) -> None:
        with ctx.db.write() as tx:
            transition.move(
                tx,
                "project",
                {"project": self.project.name},
                self.project.state,
                "CLOSING",
                reason="ended",
                closing_reason="ended",
                closing_since=clock.to_text(ctx.now()),
            )


class OpenStep:
    def observe(self, ctx: Context, project: Project) -> Opened:
        with ctx.db.read() as tx:
            grant = projects.grant_of(tx, project)
        known = ctx.ask(m.Inspect(project.name))["grant"] == project.grant
        now = ctx.now()
        return Opened(project, grant, known, now >= grant.valid.from_, now >= grant.valid.run_until)

    def decide(self, facts: Opened) -> TellKeyd | Begin | End | None:
        if not facts.known and not facts.project.frozen:
            return TellKeyd(facts.project)
        if facts.ended:
            return End(facts.project)
        if facts.started and facts.project.state == "APPROVED":
            return Begin(facts.project)
        return None


@dataclass(frozen=True)
class Closing:
    project: Project
    copy_keys_live: bool
    to_cancel: tuple[Job, ...]
    jobs_left: int
    building: bool
    to_unlink: tuple[Copy, ...]
    keys_live: bool


@dataclass(frozen=True)
class DestroyCopyKeys:
    """At once: from here on what lies on scratch opens for nobody."""

    project: Project

    def act(self, ctx: Context) -> None:
        destroy_keys(ctx, self.project.name, "copies", None)
        with ctx.db.write() as tx:
            projects.note_copy_keys_destroyed(tx, self.project.name, clock.to_text(ctx.now()))


@dataclass(frozen=True)
class CancelJobs:
    jobs: tuple[Job, ...]

    def act(self, ctx: Context) -> None:
        with ctx.db.write() as tx:
            for job in self.jobs:
                jobs.request_cancel(tx, job.id)


@dataclass(frozen=True)
class UnlinkCopy:
    """Unlink, list, and only then say so."""

    copy: Copy

    def act(self, ctx: Context) -> None:
        copy = self.copy
        log_destroyed(ctx, copy.project)
        cluster = ctx.cluster(copy.cluster, copy.project)
        parts = layout.copy_parts(copy.project, copy.id)
        count = cluster.remove_tree(*parts)
        if cluster.list_tree(*parts):
            raise ListingNotEmptyError(where=copy.id)
        remove_folder(ctx.home.staging_dir(copy.id))
        with ctx.db.write() as tx:
            # After a crash in between, the second unlink finds less: the first count is in no log, this is.
            log.append(
                tx,
                "copy-removed",
                copy.subject,
                detail={"objects": copy.objects or count, "bytes": copy.sealed_bytes or 0},
            )
            copies.note_unlinked(tx, copy.id, copy.objects or count)
            if copy.state != "DESTROYED":
                transition.move(tx, "copy", copy.subject, copy.state, "DESTROYED", reason="project-closing")


@dataclass(frozen=True)
class DestroyProjectKeys:
    """De-identification key and key-encryption key; the master key is replaced."""

    project: Project

    def act(self, ctx: Context) -> None:
        destroy_keys(ctx, self.project.name, "all", None)


@dataclass(frozen=True)
class Certify:
    """Look into every place, then sign what was found."""

    project: Project

    def act(self, ctx: Context) -> None:
        log_destroyed(ctx, self.project.name)
        TellKeyd(self.project).act(ctx)  # which signs only for the grant that it holds to
        certify.issue(ctx, self.project)
        with ctx.db.write() as tx:
            alerts.clear(tx, f"project/{self.project.name}")


class ClosingStep:
    def observe(self, ctx: Context, project: Project) -> Closing:
        with ctx.db.read() as tx:
            listed = [job for job in jobs.of_project(tx, project.name) if job.state != "PURGED"]
            staged = copies.of_project(tx, project.name)
        held = ctx.ask(m.Inspect(project.name))
        revoked = project.closing_reason == "revoked"
        return Closing(
            project=project,
            copy_keys_live=(
                project.copy_keys_destroyed_at is None or any(r["role"] == "copy" for r in held["live"])
            ),
            to_cancel=tuple(
                job
                for job in listed
                if not job.cancel_requested
                and (revoked or job.state not in REVIEWABLE)
                and job.state != "PURGING"
            ),
            jobs_left=len(listed),
            building=any(copy.state in ("PENDING", "STAGING") for copy in staged),
            to_unlink=tuple(copy for copy in staged if copy.unlinked is None),
            keys_live=bool(held["live"]) or held["project_key"],
        )

    def decide(self, facts: Closing) -> Any:
        if facts.copy_keys_live:
            return DestroyCopyKeys(facts.project)
        if facts.to_cancel:
            return CancelJobs(facts.to_cancel)
        if facts.jobs_left or facts.building:
            return None
        if facts.to_unlink:
            return UnlinkCopy(facts.to_unlink[0])
        if facts.keys_live:
            return DestroyProjectKeys(facts.project)
        return Certify(facts.project)
