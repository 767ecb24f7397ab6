"""QUEUED, before anything is submitted: choose what the attempt is served, and say so in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.broker.controller.steps.ending import EndJob
from hdrs_hpc.broker.controller.steps.start_workers import Retry, StartChooser
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, copies, log, projects
from hdrs_hpc.broker.store import served as served_store
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.served import Served, ServedInput
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.core.errors import NotFoundError


class SelectionEmptyError(NotFoundError):
    code = "selection-empty"
    meaning = "The job's selection chooses nothing of an input, so there is nothing to run on."
    remedy = "Widen the selection in the spec; `hdrs-hpc project show` tells what the grant gives."


@dataclass(frozen=True)
class NoteServed:
    """From here on this is all that the attempt can be given: keyd asks for these entries."""

    job: Job
    attempt: Attempt
    result: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        subject = {**self.job.subject, "attempt": self.attempt.name}
        inputs = {name: ServedInput(**one) for name, one in self.result["inputs"].items()}
        with broker.db.write() as tx:
            projects.require_open(tx, self.job.project)
            seqs = tuple(
                log.append(
                    tx,
                    "served-chosen",
                    subject,
                    detail={
                        "input": name,
                        "copy": one.copy,
                        "spec": self.job.spec,
                        "manifest": one.manifest,
                        "narrowed": one.narrowed,
                    },
                )
                for name, one in inputs.items()
            )
            totals = {word: self.result[word] for word in ("people", "items", "instances")}
            served_store.note(tx, self.attempt.name, Served(inputs, **totals, seqs=seqs))
            alerts.clear(tx, f"job/{self.job.id}")


type Choosing = StartChooser | Retry | NoteServed | EndJob


@dataclass(frozen=True)
class Choice:
    """How far the choice of one attempt is; ``served`` is None until it was noted."""

    job: Job
    attempt: Attempt
    uses: Mapping[str, Copy]
    served: Served | None
    work: workers.Work

    def next(self) -> Choosing | None:
        """What to do about it, or None while the chooser works."""
        work = self.work
        gone = next((copy for copy in self.uses.values() if copy.state == "DESTROYED"), None)
        if gone is not None:
            return EndJob(self.job, Outcome.FAILED, gone.reason or "copy-destroyed")
        if work.running or any(copy.state != "READY" for copy in self.uses.values()):
            return None
        if work.result is not None and self._is_of_these_copies(work.result):
            empty = [name for name, one in work.result["inputs"].items() if not one["items"]]
            if empty:
                detail: dict[str, object] = {"message": f"nothing is selected of {', '.join(empty)}"}
                return EndJob(self.job, Outcome.REFUSED, SelectionEmptyError.code, detail)
            return NoteServed(self.job, self.attempt, work.result)
        if work.error is None:
            return StartChooser(self.attempt)
        if not work.error["retry"]:
            return EndJob(self.job, Outcome.FAILED, work.error["code"], {"message": work.error["message"]})
        again = Retry(f"job/{self.job.id}", StartChooser(self.attempt), work.error)
        return again if work.rested else None

    def _is_of_these_copies(self, result: Mapping[str, Any]) -> bool:
        chosen = {name: one["copy"] for name, one in result["inputs"].items()}
        return chosen == {name: copy.id for name, copy in self.uses.items()}


def observe_choice(broker: OpenBroker, job: Job, attempt: Attempt) -> Choice:
    """A choice that was made of other copies than the job's present ones is none."""
    with broker.db.read() as tx:
        uses = copies.of_job(tx, job.id)
    served = served_store.of_attempt(attempt)
    return Choice(
        job,
        attempt,
        uses,
        served if served is not None and served.fits(uses) else None,
        workers.observe(broker.home.served_dir(attempt.name)),
    )
