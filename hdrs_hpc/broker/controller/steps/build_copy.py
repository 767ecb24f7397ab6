"""PENDING and STAGING of a copy: make its key, let the stager build it, seal it into the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.broker.controller.steps.retire import replace, still_granted
from hdrs_hpc.broker.controller.steps.start_workers import Retry, StartStager, StopWorker
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.logged_keys import destroy_keys, log_made
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts, log, opt_outs, projects, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.policy.refusals import OptOutChangedError

logger = logging.getLogger("hdrs_hpc.controller")


@dataclass(frozen=True)
class BuildCopyFacts:
    copy: Copy
    open: bool
    granted: bool
    """Whether the grant in force still gives what it is to hold."""
    outdated: bool
    """Whether patients opted out, or in, since it was begun."""
    work: workers.Work


@dataclass(frozen=True)
class Begin:
    """The key first: a copy without one can't be begun."""

    copy: Copy

    def act(self, broker: OpenBroker) -> None:
        copy = self.copy
        key = broker.ask(m.CreateKey(copy.project, "copy", copy.id, copy.dataset, copy.version, copy.opt_out))
        deid = broker.ask(m.CreateKey(copy.project, "deid", "project", None, None))
        with broker.db.write() as tx:
            log_made(tx, copy.project, "copy", copy.id, key.id)
            log_made(tx, copy.project, "deid", "project", deid.id)
            transition.move(tx, "copy", copy.subject, "PENDING", "STAGING")


@dataclass(frozen=True)
class Seal:
    """From here on the copy is read-only: its manifest's digest is with keyd and in the log."""

    copy: Copy
    result: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        copy, made = self.copy, self.result
        broker.ask(
            m.NoteManifest(copy.project, "copy", copy.id, made["manifest_name"], made["manifest_digest"])
        )
        with broker.db.write() as tx:
            opt_outs.require_current(tx, [copy])
            log.append(
                tx,
                "copy-sealed",
                {**copy.subject, "dataset": copy.dataset},
                detail={
                    "manifest": made["manifest_digest"],
                    "manifest-object": made["manifest_name"],
                    "version": copy.version,
                    "objects": made["objects"],
                    "plaintext-bytes": made["plaintext_bytes"],
                    "sealed-bytes": made["sealed_bytes"],
                    "items": made["items"],
                    "refused": made["refused"],
                    "opted-out": made["opted_out"],
                    "opt-out-list": made["report"]["opt-out"]["list"],
                    "opt-out-about": made["report"]["opt-out"]["about"],
                    "report": made["report_digest"],
                    "cluster": copy.cluster,
                },
            )
            transition.move(
                tx,
                "copy",
                copy.subject,
                "STAGING",
                "READY",
                manifest_name=made["manifest_name"],
                manifest_digest=made["manifest_digest"],
                objects=made["objects"],
                plaintext_bytes=made["plaintext_bytes"],
                sealed_bytes=made["sealed_bytes"],
                report=made["report"],
            )
            alerts.clear(tx, f"copy/{copy.id}")


@dataclass(frozen=True)
class Fail:
    """The key dies with the copy; what was written is unlinked when the project closes or now, if it can be."""

    copy: Copy
    reason: str
    where: str | None = None

    def act(self, broker: OpenBroker) -> None:
        copy = self.copy
        logger.error("copy/%s: %s at %s", copy.id, self.reason, self.where)
        destroy_keys(broker, copy.project, "copies", copy.id)
        with broker.db.write() as tx:
            log.append(tx, "copy-failed", copy.subject, detail={"code": self.reason})
            transition.move(tx, "copy", copy.subject, copy.state, "DESTROYED", reason=self.reason)
            if self.reason == OptOutChangedError.code:
                replace(tx, copy)
            alerts.clear(tx, f"copy/{copy.id}")


class BuildCopyStep:
    def observe(self, broker: OpenBroker, copy: Copy) -> BuildCopyFacts:
        with broker.db.read() as tx:
            project = projects.get(tx, copy.project)
            granted = still_granted(projects.grant_of(tx, project), copy)
            outdated = opt_outs.outdated_since(tx, copy) is not None
        return BuildCopyFacts(
            copy, project.open, granted, outdated, workers.observe(broker.home.staging_dir(copy.id))
        )

    def decide(self, facts: BuildCopyFacts) -> Begin | StartStager | StopWorker | Retry | Seal | Fail | None:
        copy, work = facts.copy, facts.work
        if not facts.open or not facts.granted or facts.outdated:
            if work.running:
                return StopWorker(StartStager(copy))
            if not facts.open:
                return Fail(copy, "project-frozen")
            return Fail(copy, OptOutChangedError.code if facts.granted else "copy-superseded")
        if copy.state == "PENDING":
            return Begin(copy)
        if work.running:
            return None
        if work.result is not None:
            return Seal(copy, work.result)
        if work.error is not None:
            if not work.error["retry"]:
                return Fail(copy, work.error["code"], work.error["where"])
            return Retry(f"copy/{copy.id}", StartStager(copy), work.error) if work.rested else None
        return StartStager(copy)
