"""The certificate of destruction: look into every place of the inventory, then state what was found.

A finder that does not find what it must raises, and the project stays CLOSING with an alert: there is no
certificate with a gap.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.clusters import JobPhase
from hdrs_hpc.audit import places
from hdrs_hpc.broker.context import Context
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.keys.client import KeydRefusedError
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, log, transition
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.broker.workers import replace_file
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import InternalError, SiteError
from hdrs_hpc.documents.models.certificate import Certificate
from hdrs_hpc.protocol import layout


class PlaceNotEmptyError(SiteError):
    code = "place-not-empty"
    meaning = "A place that must be empty by now is not; no certificate is issued."
    remedy = "Look what is there; the broker looks again at every tick."


class KeyStillThereError(SiteError):
    code = "key-still-there"
    meaning = "keyd still holds or gives a key of the project; no certificate is issued."
    remedy = "Look at keyd's log; the broker destroys again at every tick."


@dataclass(frozen=True)
class Subject:
    """What belonged to the project that is certified."""

    project: Project
    copies: tuple[Copy, ...]
    jobs: tuple[Job, ...]
    attempts: tuple[tuple[Attempt, Job], ...]
    key_ends: dict[str, str]
    """Key id → when it was destroyed, as keyd says."""
    key_ids: dict[tuple[str, str], str]
    """(role, holder) → key id."""


@dataclass(frozen=True)
class Found:
    """What one place was found to be; ``count`` and ``size`` are what had been there."""

    result: str
    count: int = 0
    size: int = 0


Finder = Callable[[Context, Subject], Found]


def issue(ctx: Context, project: Project) -> None:
    """Verify, sign, log, close.  Idempotent up to the last transaction, which ends the project's life."""
    subject = _subject(ctx, project)
    _check_keys(ctx, subject)
    rows = {name: finder(ctx, subject) for name, finder in FINDERS.items()}
    if rows.keys() != places.PLACES.keys():
        raise InternalError("the inventory and its finders differ")
    for name, found in rows.items():
        place = places.PLACES[name]
        looked = place.verified_by not in places.UNVERIFIED
        if not place.accepts(str(place.verified_by), found.result, verified=looked):
            raise InternalError("a finder gives a result that its place does not allow", where=name)
    with ctx.db.write() as tx:
        said = {
            entry.detail["place"]: dict(entry.detail)
            for entry in log.of_event(tx, "place-verified")
            if entry.subject["project"] == project.name
        }
        for name, found in rows.items():
            detail = _place_detail(name, found)
            if said.get(name) != detail:  # the same as before a crash or a refusal is not said again
                log.append(tx, "place-verified", {"project": project.name}, detail=detail)
    checkpoint.sign(ctx.db, ctx.ask)
    payload = _payload(ctx, subject, rows)
    envelope = base64.b64decode(ctx.ask(m.SignCertificate(payload))["envelope"])
    certificate = Certificate.from_payload(payload)
    digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
    path = ctx.home.certificate_file(project.name)
    with ctx.db.write() as tx:
        documents.put(tx, digest, "certificate", envelope, ())
        log.append(
            tx,
            "certificate-issued",
            {"project": project.name, "document": digest},
            detail={
                "envelope": f"sha256:{hashlib.sha256(envelope).hexdigest()}",
                "size": certificate.log.size,
                "root": f"sha256:{certificate.log.root}",
            },
        )
        transition.move(tx, "project", {"project": project.name}, "CLOSING", "CLOSED", certificate=digest)
        alerts.clear(tx, f"project/{project.name}")
        replace_file(path, envelope)
    checkpoint.sign(ctx.db, ctx.ask)


def _subject(ctx: Context, project: Project) -> Subject:
    destroyed = ctx.ask(m.Inspect(project.name))["destroyed"]
    with ctx.db.read() as tx:
        listed = jobs.of_project(tx, project.name)
        pairs = tuple((attempt, job) for job in listed for attempt in jobs.attempts_of(tx, job.id))
        staged = tuple(copies.of_project(tx, project.name))
    real = [record for record in destroyed if not record["id"].startswith("K-none")]
    return Subject(
        project=project,
        copies=staged,
        jobs=tuple(listed),
        attempts=pairs,
        key_ends={record["id"]: record["at"] for record in real},
        key_ids={(record["role"], record["holder"]): record["id"] for record in real},
    )


def _check_keys(ctx: Context, subject: Subject) -> None:
    """keyd lists no key, and when asked for one of each kind it refuses."""
    name = subject.project.name
    held = ctx.ask(m.Inspect(name))
    if held["live"] or held["project_key"]:
        raise KeyStillThereError()
    asked: list[m.UseKey] = [m.UseKey("stage", name, copy.id) for copy in subject.copies]
    asked += [m.UseKey("collect", name, attempt.name) for attempt, _ in subject.attempts]
    for ask in asked:
        try:
            ctx.ask(ask)
        except KeydRefusedError:
            continue
        raise KeyStillThereError(where=ask.purpose)


def _place_detail(name: str, found: Found) -> dict[str, Any]:
    place = places.PLACES[name]
    return {
        "place": name,
        "method": str(place.verified_by),
        "result": found.result,
        "verified": place.verified_by not in places.UNVERIFIED,
        "count": found.count,
        "bytes": found.size,
    }


def _payload(ctx: Context, subject: Subject, rows: dict[str, Found]) -> bytes:
    project = subject.project
    with ctx.db.read() as tx:
        root = documents.current_root(tx)
        size = log.size(tx)
        head = log.root(tx, size)
        removed = {
            entry.subject["attempt"]: entry.detail
            for entry in log.of_event(tx, "attempt-removed")
            if entry.subject["project"] == project.name
        }
    keystore = ctx.ask(m.Status())["keystore"]
    now = clock.to_text(ctx.now())
    value: dict[str, Any] = {
        "schema": Certificate.SCHEMA,
        "audience": root.document.audience,
        "project": project.name,
        "grant": project.grant,
        "trust-root": root.digest,
        "reason": project.closing_reason,
        "closed-at": project.copy_keys_destroyed_at,
        "issued-at": now,
        "assurance": "DEMO" if root.document.demo else "file-keystore",
        "copies": [
            _copy_row(subject, copy) for copy in subject.copies if ("copy", copy.id) in subject.key_ids
        ],
        "attempts": [_attempt_row(subject, attempt, job, removed) for attempt, job in subject.attempts],
        "deidentification-key-destroyed": True,
        "keystore": {
            "class": keystore["class"],
            "claim": "unlinked",
            "master-rotated": True,
            "statement": keystore["statement"],
        },
        "inventory": places.INVENTORY,
        "places": [_place_row(name, found) for name, found in rows.items()],
        "checks": _checks(subject),
        "cannot-prove": list(places.NOT_PROVEN.values()),
        "log": {"size": size, "root": head.hex()},
    }
    return Certificate.from_value(value).to_payload()


def _copy_row(subject: Subject, copy: Copy) -> dict[str, Any]:
    key = subject.key_ids[("copy", copy.id)]
    row: dict[str, Any] = {
        "copy": copy.id,
        "dataset": copy.dataset,
        "version": copy.version,
        "objects": copy.unlinked or 0,
        "bytes": copy.sealed_bytes or 0,
        "key-id": key,
        "key-destroyed-at": subject.key_ends[key],
    }
    return row | ({"manifest-digest": copy.manifest_digest} if copy.manifest_digest else {})


def _attempt_row(subject: Subject, attempt: Attempt, job: Job, removed: dict[str, Any]) -> dict[str, Any]:
    detail = removed.get(attempt.name, {"objects": 0, "bytes": 0})
    row: dict[str, Any] = {
        "attempt": attempt.name,
        "job": job.id,
        "objects": detail["objects"],
        "bytes": detail["bytes"],
    }
    keys = sorted(
        subject.key_ids[(role, attempt.name)]
        for role in ("output", "bundle")
        if (role, attempt.name) in subject.key_ids
    )
    row["keys"] = [{"key-id": key, "destroyed-at": subject.key_ends[key]} for key in keys]
    return row


def _place_row(name: str, found: Found) -> dict[str, Any]:
    place = places.PLACES[name]
    return {
        "place": name,
        "owner": place.owner,
        "purger": place.purger,
        "verified": place.verified_by not in places.UNVERIFIED,
        "method": str(place.verified_by),
        "result": found.result,
        "count": found.count,
        "bytes": found.size,
    }


def _checks(subject: Subject) -> list[dict[str, str]]:
    keys = len(subject.key_ends)
    return [
        {
            "check": "keys-gone",
            "result": "passed",
            "detail": f"keyd lists no key of the project and refused each that it was asked for; {keys} destroyed",
        },
        {
            "check": "samples-do-not-open",
            "result": "not-possible",
            "detail": "the sealed objects are unlinked, so none is left to try",
        },
        {
            "check": "listings-empty",
            "result": "passed",
            "detail": f"scratch of {len(subject.copies)} copies and {len(subject.attempts)} attempts was listed",
        },
    ]


# --- one finder a place


def _outside(_ctx: Context, _subject: Subject) -> Found:
    return Found("outside")


def _no_patient_data(_ctx: Context, _subject: Subject) -> Found:
    return Found("no-patient-data")


def _ended(ctx: Context, subject: Subject) -> Found:
    """Every cluster job of the project is over, so are the processes, mounts and memory that it had."""
    by_cluster: dict[str, list[str]] = {}
    for attempt, job in subject.attempts:
        by_cluster.setdefault(job.cluster or "", []).append(attempt.name)
    for cluster, names in by_cluster.items():
        lookup = ctx.cluster(cluster, subject.project.name).find(sorted(names))
        for found in lookup.jobs.values():
            if any(item.phase is not JobPhase.ENDED for item in found):
                raise PlaceNotEmptyError("a cluster job of the project is not over", where=cluster)
    return Found("ended" if subject.attempts else "never-made", len(subject.attempts))


def _data_zone_ended(_ctx: Context, subject: Subject) -> Found:
    """The stager's and checker's processes hold their folder's lock; the folders are gone, so are they."""
    return Found("ended" if subject.copies else "never-made", len(subject.copies))


def _never_made(_ctx: Context, _subject: Subject) -> Found:
    return Found("never-made")


def _key_store(ctx: Context, subject: Subject) -> Found:
    _check_keys(ctx, subject)
    return Found("empty", len(subject.key_ends))


def _sealed_copies(ctx: Context, subject: Subject) -> Found:
    name = subject.project.name
    for cluster in {copy.cluster for copy in subject.copies}:
        left = ctx.cluster(cluster, name).list_tree(*layout.project_parts(name), "copies")
        _require_empty([path for path in left if not path.endswith("/")], "copies")
    size = sum(copy.sealed_bytes or 0 for copy in subject.copies)
    count = sum(copy.unlinked or 0 for copy in subject.copies)
    return Found("key-gone-and-empty" if subject.copies else "never-made", count, size)


def _attempts_gone(result: str) -> Finder:
    def find(ctx: Context, subject: Subject) -> Found:
        name = subject.project.name
        for cluster in {job.cluster for _, job in subject.attempts if job.cluster}:
            left = ctx.cluster(cluster, name).list_tree(*layout.project_parts(name), "attempts")
            _require_empty([path for path in left if not path.endswith("/")], "attempts")
        return Found(result if subject.attempts else "never-made", len(subject.attempts))

    return find


def _folders_gone(folders: Callable[[Context, Subject], list[Path]], result: str = "empty") -> Finder:
    def find(ctx: Context, subject: Subject) -> Found:
        expected = folders(ctx, subject)
        _require_empty([path.name for path in expected if path.exists()], "data zone")
        return Found(result if expected else "never-made", len(expected))

    return find


def _staging(ctx: Context, subject: Subject) -> list[Path]:
    found = [ctx.home.staging_dir(copy.id) for copy in subject.copies]
    return found + [ctx.home.staging_dir(f"bundle-{attempt.name}") for attempt, _ in subject.attempts]


def _quarantine(ctx: Context, subject: Subject) -> list[Path]:
    return [ctx.home.quarantine_dir(attempt.name) for attempt, _ in subject.attempts]


def _artefacts(ctx: Context, subject: Subject) -> list[Path]:
    return [ctx.home.artefacts_dir(job.id) for job in subject.jobs]


def _released(ctx: Context, subject: Subject) -> Found:
    count = size = 0
    for job in subject.jobs:
        folder = ctx.home.released_dir(job.id)
        for path in folder.iterdir() if folder.is_dir() else ():
            count, size = count + 1, size + path.stat().st_size
    return Found("released-only" if count else "never-made", count, size)


def _require_empty(left: list[str], where: str) -> None:
    if left:
        raise PlaceNotEmptyError(f"{len(left)} things are left", where=where)


FINDERS: dict[str, Finder] = {
    "source-archive": _outside,
    "inventory": _outside,
    "opt-out-list": _outside,
    "cohort-lists": _outside,
    "stager-memory": _data_zone_ended,
    "copy-journals": _folders_gone(_staging),
    "items-map": _folders_gone(_staging),
    "staging-report": _folders_gone(_staging),
    "key-store": _key_store,
    "database": _no_patient_data,
    "settings": _no_patient_data,
    "audit-export": _no_patient_data,
    "broker-logs": _no_patient_data,
    "quarantine": _folders_gone(_quarantine, "key-gone-and-empty"),
    "checked-artefacts": _folders_gone(_artefacts),
    "checker-memory": _data_zone_ended,
    "released-artefacts": _released,
    "pictures": _never_made,
    "sealed-copies": _sealed_copies,
    "attempt-bundle": _attempts_gone("key-gone-and-empty"),
    "attempt-outputs": _attempts_gone("key-gone-and-empty"),
    "attempt-progress": _attempts_gone("empty"),
    "runtime": _no_patient_data,
    "node-private-folder": _ended,
    "node-memory": _ended,
    "sandbox-tmp": _ended,
    "shared-memory": _ended,
    "dask-spill": _ended,
    "compile-caches": _ended,
    "gpu-memory": lambda _ctx, subject: Found("not-proven" if subject.attempts else "never-made"),
    "slurm-spool": _no_patient_data,
    "slurm-output": _no_patient_data,
    "slurm-accounting": _no_patient_data,
}
"""How each row of ``audit/places.py`` is looked at; a test proves that none lacks."""
