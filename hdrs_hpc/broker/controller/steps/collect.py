"""COLLECTING: have the collector fetch and check, then show the reviewers what may be reviewed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from connectors.clusters import site_end
from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, observe_stop
from hdrs_hpc.broker.controller.steps.start_workers import Retry, StartCollector, StopWorker
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError
from hdrs_hpc.broker.logged_keys import require_living
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import alerts, artefacts, jobs, kept, log, transition
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.core import clock, ids, strict_json
from hdrs_hpc.protocol import outputs, progress
from hdrs_hpc.protocol.outputs import Ending


@dataclass(frozen=True)
class CollectFacts:
    job: Job
    attempt: Attempt
    stop: Stop | None
    work: workers.Work


@dataclass(frozen=True)
class NoteEnd:
    """The attempt brought nothing to review: its workload failed, or its node did."""

    job: Job
    attempt: Attempt
    reason: str
    detail: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            log.append(
                tx,
                "attempt-ended",
                {**self.job.subject, "attempt": self.attempt.name},
                detail={"result": self.reason} | _told(self.detail),
            )
            alerts.clear(tx, f"job/{self.job.id}")
            EndJob(self.job, Outcome.FAILED, self.reason, self.detail).move(tx)


@dataclass(frozen=True)
class Show:
    """File what the checker found; what it rebuilt goes to the reviewers."""

    job: Job
    attempt: Attempt
    result: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        subject = {**self.job.subject, "attempt": self.attempt.name}
        closing, rows = self.result["closing"], self.result["artefacts"]
        staying = self._settle_kept(broker, closing["outputs"])
        with broker.db.write() as tx:
            log.append(
                tx,
                "attempt-ended",
                subject,
                detail={"result": "workload-ended", "exit-code": 0, "node-seconds": closing["running-s"]},
            )
            log.append(
                tx,
                "outputs-collected",
                subject,
                detail={
                    "closing-list": self.result["manifest_digest"],
                    "artefacts": len(rows),
                    "bytes": self.result["sealed_bytes"],
                },
            )
            for row in rows:
                self._file(tx, row)
            for key, output in staying.items():
                self._keep(tx, key, output, clock.to_text(broker.now()))
            alerts.clear(tx, f"job/{self.job.id}")
            transition.move(tx, "job", self.job.subject, "COLLECTING", "IN_REVIEW")

    def _settle_kept(self, broker: OpenBroker, listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Tell keyd what each output that stays was sealed as; gives them by the id of their key.

        One whose key died meanwhile, as all do when the project closes, stays nowhere.
        """
        with broker.db.read() as tx:
            rows = {row.output: row for row in kept.of_attempt(tx, self.attempt.name)}
        ids = {
            key.holder: key.id for key in broker.ask(m.Inspect(self.job.project)).live if key.role == "kept"
        }
        found = {}
        for item in listed:
            row = rows.get(item["name"])
            if item["kept"] is None or row is None or row.id not in ids:
                continue
            name, digest = item["kept"]["manifest-name"], item["kept"]["manifest-digest"]
            try:
                broker.ask(m.NoteManifest(self.job.project, "kept", row.id, name, digest))
            except KeydRefusedError as error:
                if error.code != "key-destroyed":
                    raise
                continue
            found[ids[row.id]] = item | {"row": row}
        return found

    def _keep(self, tx: Connection, key: str, item: dict[str, Any], now: str) -> None:
        require_living(tx, self.job.project, [key])
        row: kept.KeptOutput = item["row"]
        manifest, size = item["kept"]["manifest-digest"], item["size-bytes"]
        kept.note(tx, row.id, manifest_digest=manifest, size=size, kept_at=now)
        detail = {"class": row.cls, "manifest": manifest, "size": size}
        log.append(tx, "artefact-kept", row.subject, detail=detail)

    def _file(self, tx: Connection, row: dict[str, Any]) -> None:
        report_digest = f"sha256:{hashlib.sha256(strict_json.dumps(row['report'])).hexdigest()}"
        artefacts.put(
            tx,
            artefacts.Artefact(
                job=self.job.id,
                name=row["name"],
                cls=row["cls"],
                media_type=row["media_type"],
                size=row["size"],
                rebuilt=row["rebuilt"],
                file=row["file"],
                report=row["report"],
                report_digest=report_digest,
                refused=row["refused"],
                nonce=ids.new_id(26),
                verdict=None,
                release_record=None,
            ),
        )
        detail = {"report": report_digest, "class": row["cls"]}
        if row["refused"]:
            detail |= {"verdict": "refused", "code": row["refused"]}
        else:
            detail |= {"verdict": "passed", "content": row["rebuilt"]}
        log.append(tx, "artefact-checked", {**self.job.subject, "artefact": row["name"]}, detail=detail)


class CollectStep:
    def observe(self, broker: OpenBroker, job: Job) -> CollectFacts:
        with broker.db.read() as tx:
            attempt = jobs.attempts_of(tx, job.id)[-1]
        work = workers.observe(broker.home.quarantine_dir(attempt.name))
        return CollectFacts(job, attempt, observe_stop(broker, job), work)

    def decide(
        self, facts: CollectFacts
    ) -> EndJob | StartCollector | StopWorker | Retry | NoteEnd | Show | None:
        job, attempt, work = facts.job, facts.attempt, facts.work
        # Frozen or ended projects may still have their results reviewed; only cancel and revocation stop that.
        if facts.stop is not None and facts.stop.final:
            if work.running:
                return StopWorker(StartCollector(attempt))
            return EndJob(job, facts.stop.outcome, facts.stop.reason)
        if work.running:
            return None
        if work.error is not None:
            if work.error["retry"]:
                again = Retry(f"job/{job.id}", StartCollector(attempt), work.error)
                return again if work.rested else None
            return NoteEnd(job, attempt, *_why_nothing(attempt, work.error))
        if work.result is None:
            return StartCollector(attempt)
        ended = work.result["closing"]["workload"]
        if ended["ending"] == "exited" and ended["exit-code"] == 0:
            return Show(job, attempt, work.result)
        return NoteEnd(job, attempt, *_why_failed(attempt, ended))


def _why_failed(attempt: Attempt, ended: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Reason and detail for people, of a workload that ended badly.

    A signal from outside is the site's doing where the cluster says that it ended the job: the code of somebody
    whose node died did not "end by signal 15".
    """
    site = site_end(attempt.raw_state or "")
    killed = ended["ending"] in (Ending.CRASHED, Ending.PROCESS_KILLED)
    if killed and ended.get("signal") and site is not None:
        return site, {}
    return outputs.reason_of(ended["ending"]), ended


def _why_nothing(attempt: Attempt, error: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Reason and detail for people, where the outputs can't be opened or were never sealed."""
    stop = (attempt.progress or {}).get("stop", "none")
    if error["code"] == "no-outputs":
        if stop not in ("none", progress.Stop.SIGNAL):
            return progress.reason_of(stop), {}
        if stop == progress.Stop.SIGNAL:
            return site_end(attempt.raw_state or "") or progress.reason_of(stop), {}
        return site_end(attempt.raw_state or "") or "node-failed", {}
    return error["code"], {}


def _told(detail: dict[str, Any]) -> dict[str, Any]:
    """What of a crash goes into the log: the exception's type and a line of the researcher's own code."""
    told: dict[str, Any] = {}
    if detail.get("exit-code") is not None:
        told["exit-code"] = detail["exit-code"]
    if detail.get("exception-type"):
        told["exception"] = detail["exception-type"]
    if detail.get("bundle-line"):
        told["line"] = detail["bundle-line"]["line"]
    return told
