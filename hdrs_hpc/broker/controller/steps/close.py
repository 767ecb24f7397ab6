"""A project's life: begin, end by time or closure, destroy in order, prove.

Order of CLOSING: keys of copies and of kept outputs at once → jobs cancelled → reviews within their grace → outputs'
keys (each job's own purge) → copies and kept outputs unlinked → the project's keys → every place verified →
certificate.  Keys never wait for the cluster; the certificate does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hdrs_hpc.broker.controller import certify
from hdrs_hpc.broker.controller.steps.retire import RetireCopy, UnlinkCopy, UnlinkKept, outdated, superseded
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.logged_keys import destroy_keys, log_destroyed
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import checkpoint, copies, jobs, kept, log, opt_outs, projects, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.policy.refusals import OptOutChangedError


@dataclass(frozen=True)
class OpenFacts:
    project: Project
    grant: Grant
    known: bool
    """Whether keyd holds to the grant that is in force here and to the opt-out lists of its datasets, and knows every
    freeze that was lifted."""
    started: bool
    ended: bool
    superseded: tuple[Copy, ...]
    outdated: tuple[Copy, ...]
    """Made under an opt-out list that is no longer in force."""
    unused: tuple[Copy, ...]


@dataclass(frozen=True)
class TellKeyd:
    """keyd learns of grants, lifted freezes and opt-outs from here too: the process that accepted one may have died."""

    project: Project

    def act(self, broker: OpenBroker) -> None:
        checkpoint.tell_keyd(broker.db, broker.ask, self.project.name)
        with broker.db.read() as tx:
            data = projects.grant_of(tx, self.project).data
        for dataset in data:
            checkpoint.tell_opt_outs(broker.db, broker.ask, dataset)


@dataclass(frozen=True)
class Begin:
    project: Project

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            transition.move(tx, "project", {"project": self.project.name}, "APPROVED", "ACTIVE")


@dataclass(frozen=True)
class End:
    """Its time to run is over."""

    project: Project

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            transition.move(
                tx,
                "project",
                {"project": self.project.name},
                self.project.state,
                "CLOSING",
                reason="ended",
                closing_reason="ended",
                closing_since=clock.to_text(broker.now()),
            )


class OpenStep:
    def observe(self, broker: OpenBroker, project: Project) -> OpenFacts:
        with broker.db.read() as tx:
            grant = projects.grant_of(tx, project)
            changed, old, unused = (
                superseded(tx, grant),
                outdated(tx, project.name),
                copies.unused(tx, project.name),
            )
            said = {dataset: opt_outs.current(tx, dataset) for dataset in grant.data}
            # One look-up at most turns: closures are read only of a project that was unfrozen once.
            unfrozen = log.has(tx, "project-unfrozen", {"project": project.name})
            lifted = projects.unfreezes(tx, project.name) if unfrozen else {}
        held = broker.ask(m.HeldGrant(project.name))
        known = (
            held.grant == project.grant
            and lifted.keys() <= set(held.unfrozen)
            and all(
                broker.ask(m.HeldOptOut(dataset)).list == (statement.list if statement else None)
                for dataset, statement in said.items()
            )
        )
        now = broker.now()
        started, ended = now >= grant.valid.from_, now >= grant.valid.run_until
        return OpenFacts(project, grant, known, started, ended, tuple(changed), tuple(old), tuple(unused))

    def decide(self, facts: OpenFacts) -> TellKeyd | Begin | End | RetireCopy | UnlinkCopy | None:
        if facts.ended:
            return End(facts.project)
        if not facts.known and not facts.project.frozen:
            return TellKeyd(facts.project)
        if facts.started and facts.project.state == "APPROVED":
            return Begin(facts.project)
        if facts.superseded:
            return RetireCopy(facts.superseded[0])
        if facts.outdated:
            return RetireCopy(facts.outdated[0], OptOutChangedError.code)
        if facts.unused:
            return UnlinkCopy(facts.unused[0])
        return None


@dataclass(frozen=True)
class ClosingFacts:
    project: Project
    copy_keys_live: bool
    jobs_left: int
    building: bool
    to_unlink: tuple[Copy, ...]
    kept: tuple[KeptOutput, ...]
    """Outputs that stayed in the project and lie there still."""
    keys_live: bool


@dataclass(frozen=True)
class DestroyCopyKeys:
    """At once: from here on what lies on scratch opens for nobody."""

    project: Project

    def act(self, broker: OpenBroker) -> None:
        destroy_keys(broker, self.project.name, "copies", None)
        now = clock.to_text(broker.now())
        with broker.db.write() as tx:
            projects.note_copy_keys_destroyed(tx, self.project.name, now)
            for row in kept.of_project(tx, self.project.name):
                if row.destroyed_at is None:
                    kept.note(tx, row.id, destroyed_at=now)


@dataclass(frozen=True)
class DestroyProjectKeys:
    """De-identification key and key-encryption key; the master key is replaced."""

    project: Project

    def act(self, broker: OpenBroker) -> None:
        destroy_keys(broker, self.project.name, "all", None)


@dataclass(frozen=True)
class Certify:
    """Look into every place, then sign what was found."""

    project: Project

    @property
    def waits_for(self) -> str:
        """All sites of its project, as the project's own accounts: no other project's certificate waits with it."""
        return f"project/{self.project.name}"

    def act(self, broker: OpenBroker) -> None:
        log_destroyed(broker, self.project.name)
        TellKeyd(self.project).act(broker)  # which signs only for the grant that it holds to
        certify.issue(broker, self.project)


class ClosingStep:
    def observe(self, broker: OpenBroker, project: Project) -> ClosingFacts:
        with broker.db.read() as tx:
            listed = [job for job in jobs.of_project(tx, project.name) if job.state != "PURGED"]
            staged = copies.of_project(tx, project.name)
            rows = kept.of_project(tx, project.name)
        held = broker.ask(m.Inspect(project.name))
        return ClosingFacts(
            project=project,
            copy_keys_live=(
                project.copy_keys_destroyed_at is None
                or any(key.role in ("copy", "kept") for key in held.live)
            ),
            jobs_left=len(listed),
            building=any(copy.state in ("PENDING", "STAGING") for copy in staged),
            to_unlink=tuple(copy for copy in staged if copy.unlinked is None),
            kept=tuple(row for row in rows if row.unlinked is None),
            keys_live=bool(held.live) or held.project_key,
        )

    def decide(self, facts: ClosingFacts) -> Any:
        if facts.copy_keys_live:
            return DestroyCopyKeys(facts.project)
        if facts.jobs_left or facts.building:
            return None
        if facts.to_unlink:
            return UnlinkCopy(facts.to_unlink[0])
        if facts.kept:
            return UnlinkKept(facts.kept[0])
        if facts.keys_live:
            return DestroyProjectKeys(facts.project)
        return Certify(facts.project)
