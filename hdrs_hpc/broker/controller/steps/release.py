"""IN_REVIEW and RELEASING: wait for all reviewers, then let out exactly what all of them approved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hdrs_hpc.broker.controller.steps.ending import EndJob, Stop, observe_stop
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.states import Outcome
from hdrs_hpc.broker.store import artefacts, checkpoint, documents, jobs, kept, log, projects, transition
from hdrs_hpc.broker.store.artefacts import Artefact, Decision
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.core import clock
from hdrs_hpc.core.durable_files import replace_file
from hdrs_hpc.core.errors import HdrsError, InternalError
from hdrs_hpc.documents.models.release import ReleaseRecord
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.policy import review as policy

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class ReviewFacts:
    job: Job
    stop: Stop | None
    reviewers: int
    shown: tuple[Artefact, ...]
    refused: int
    """Artefacts that the output check refused."""
    kept: int
    """Outputs that stay in the project."""
    decisions: dict[str, OutputDecision]
    deadline: datetime | None
    """While the project is closing: when reviews end."""
    now: datetime


@dataclass(frozen=True)
class OpenDecisions:
    """All have decided: open the decisions and settle every artefact."""

    job: Job
    verdicts: dict[str, str]

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            decided = artefacts.decisions_of(tx, self.job.id)
            log.append(
                tx,
                "decisions-opened",
                self.job.subject,
                detail={
                    "documents": sorted({item.document for item in decided}),
                    "checkers": sorted({item.person for item in decided}),
                },
            )
            for name, verdict in self.verdicts.items():
                artefacts.note(tx, self.job.id, name, verdict=verdict)
                if verdict != "release":
                    log.append(
                        tx,
                        "artefact-withheld",
                        {**self.job.subject, "artefact": name},
                        detail={"code": "reviewers-withhold"},
                    )
            transition.move(tx, "job", self.job.subject, "IN_REVIEW", "RELEASING")


class ReviewStep:
    def observe(self, broker: OpenBroker, job: Job) -> ReviewFacts:
        with broker.db.read() as tx:
            project = projects.get(tx, job.project)
            grant = projects.grant_of(tx, project)
            checked = artefacts.of_job(tx, job.id)
            shown = tuple(item for item in checked if item.refused is None)
            staying = [row for row in kept.of_job(tx, job.id) if row.state == "kept"]
            by_person = {item.person: item.document for item in artefacts.decisions_of(tx, job.id)}
            decisions = {
                person: documents.get(tx, digest).read(OutputDecision) for person, digest in by_person.items()
            }
        deadline = None
        if project.closing_since is not None:
            grace_end = clock.from_text(project.closing_since) + grant.valid.review_grace
            deadline = min(grace_end, grant.valid.destroy_by)
        stop = observe_stop(broker, job)
        return ReviewFacts(
            job=job,
            stop=stop,
            reviewers=grant.outputs.reviewers,
            shown=shown,
            refused=len(checked) - len(shown),
            kept=len(staying),
            decisions=decisions,
            deadline=deadline,
            now=broker.now(),
        )

    def decide(self, facts: ReviewFacts) -> EndJob | OpenDecisions | None:
        job = facts.job
        if facts.stop is not None and facts.stop.final:
            return EndJob(job, facts.stop.outcome, facts.stop.reason)
        if not facts.shown:
            only_kept = facts.kept and not facts.refused
            return EndJob(job, Outcome.SUCCEEDED, "kept" if only_kept else "nothing-releasable")
        if facts.deadline is not None and facts.now >= facts.deadline:
            return EndJob(job, Outcome.EXPIRED, "review-too-late")
        if len(facts.decisions) < facts.reviewers:
            return None
        verdicts = {
            item.name: policy.combine(facts.decisions, item.name, facts.reviewers) for item in facts.shown
        }
        return OpenDecisions(job, dict(verdicts))


@dataclass(frozen=True)
class ReleaseFacts:
    job: Job
    stop: Stop | None
    waiting: tuple[Artefact, ...]
    """Approved, not yet out."""
    released: int


@dataclass(frozen=True)
class Release:
    """One artefact: logged first, then signed by keyd (who reads the decisions itself), then out."""

    job: Job
    artefact: Artefact

    def act(self, broker: OpenBroker) -> None:
        job, item = self.job, self.artefact
        with broker.db.read() as tx:
            attempt = jobs.attempts_of(tx, job.id)[-1]
            project = projects.get(tx, job.project)
            audience = documents.current_root(tx).document.audience
            decided = [d for d in artefacts.decisions_of(tx, job.id) if d.artefact == item.name]
            envelopes = tuple(documents.get(tx, d.document).raw for d in decided)
        subject = {**job.subject, "artefact": item.name}
        with broker.db.write() as tx:
            log.append_once(
                tx,
                "artefact-released",
                subject,
                detail={
                    "content": item.rebuilt,
                    "size": item.size,
                    "class": item.cls,
                    "decisions": sorted(d.document for d in decided),
                },
            )
            told = log.last_seq(tx, "artefact-released", subject)
        record = _record(broker, job, item, attempt, audience, project.grant, decided)
        try:
            signed = checkpoint.ask_with_proof(
                broker.db, broker.ask, [told], lambda proof: m.SignRelease(record, envelopes, proof)
            )
        except HdrsError as error:
            if error.retry:
                raise
            # Such as a checker who joined the project meanwhile: nothing has left, and nothing will.
            EndJob(job, Outcome.FAILED, error.code, {"message": error.message}).act(broker)
            return
        self._publish(broker, signed.envelope)
        with broker.db.write() as tx:
            artefacts.note(tx, job.id, item.name, release_record=_digest(record))

    def _publish(self, broker: OpenBroker, record: bytes) -> None:
        item = self.artefact
        source = broker.home.artefacts_dir(self.job.id) / item.name
        folder = broker.home.released_dir(self.job.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder / item.name, _unchanged(source, item))
        replace_file(folder / f"{item.name}.record.json", record)


@dataclass(frozen=True)
class Finish:
    """Everything approved is out."""

    job: Job
    released: int

    def act(self, broker: OpenBroker) -> None:
        reason = "released" if self.released else "withheld"
        EndJob(self.job, Outcome.SUCCEEDED, reason).act(broker)


class ReleaseStep:
    def observe(self, broker: OpenBroker, job: Job) -> ReleaseFacts:
        with broker.db.read() as tx:
            approved = [item for item in artefacts.of_job(tx, job.id) if item.verdict == "release"]
        waiting = tuple(item for item in approved if item.release_record is None)
        return ReleaseFacts(job, observe_stop(broker, job), waiting, len(approved) - len(waiting))

    def decide(self, facts: ReleaseFacts) -> EndJob | Release | Finish:
        if facts.stop is not None and facts.stop.final:
            return EndJob(facts.job, facts.stop.outcome, facts.stop.reason)
        if facts.waiting:
            return Release(facts.job, facts.waiting[0])
        return Finish(facts.job, facts.released)


def _record(
    broker: OpenBroker,
    job: Job,
    item: Artefact,
    attempt: Attempt,
    audience: str,
    grant: str,
    decided: list[Decision],
) -> bytes:
    return ReleaseRecord.from_value(
        {
            "schema": ReleaseRecord.SCHEMA,
            "audience": audience,
            "project": job.project,
            "job": job.id,
            "attempt": attempt.name,
            "artefact": item.name,
            "class": item.cls,
            "file": item.file,
            "media-type": item.media_type,
            "content": item.rebuilt,
            "bytes": item.size,
            "report": item.report_digest,
            "grant": grant,
            "spec": job.spec,
            "decisions": sorted(d.document for d in decided),
            "reviewers": sorted(d.person for d in decided),
            "released-at": clock.to_text(broker.now()),
        }
    ).to_payload()


def _unchanged(source: Path, item: Artefact) -> Iterator[bytes]:
    """The file's bytes; raises at their end unless they are those that were reviewed."""
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            yield piece
    if f"sha256:{digest.hexdigest()}" != item.rebuilt:
        raise InternalError("an artefact changed between review and release", where=item.name)


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
