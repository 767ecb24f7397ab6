"""The certificate of destruction: look into every place of the inventory, then state what was found, and how.

Rows that nobody can look at say ``not-checked``.  A finder that finds something, or can't look, bars the certificate:
the project stays CLOSING with an alert that names the place.
"""

from __future__ import annotations

import hashlib
from typing import Any

from hdrs_hpc.audit import places
from hdrs_hpc.broker.controller import certificate
from hdrs_hpc.broker.controller.finders import (
    FINDERS,
    FOUND,
    UNREACHABLE,
    Found,
    KeyStillThereError,
    PlaceNotEmptyError,
    Subject,
    is_verified,
)
from hdrs_hpc.broker.controller.steps import samples
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, kept, log, transition
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.core.durable_files import replace_file
from hdrs_hpc.core.errors import HdrsError, InternalError
from hdrs_hpc.documents.models.certificate import Certificate


def issue(broker: OpenBroker, project: Project) -> None:
    """Verify, sign, log, close.  Idempotent up to the last transaction, which ends the project's life."""
    subject = look_up(broker, project)
    rows = look(broker, subject)
    _require_complete(rows)
    with broker.db.write() as tx:
        said = {
            entry.detail["place"]: dict(entry.detail)
            for entry in log.of_event(tx, "place-verified")
            if entry.subject["project"] == project.name
        }
        for name, found in rows.items():
            detail = _place_detail(name, found)
            if said.get(name) != detail:  # the same as before a crash or a refusal is not said again
                log.append(tx, "place-verified", {"project": project.name}, detail=detail)
    checkpoint.sign(broker.db, broker.ask)
    payload = certificate.payload(broker, subject, rows)
    envelope = broker.ask(m.SignCertificate(payload)).envelope
    read = Certificate.from_payload(payload)
    digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
    path = broker.home.certificate_file(project.name)
    with broker.db.write() as tx:
        documents.put(tx, digest, "certificate", envelope, ())
        log.append(
            tx,
            "certificate-issued",
            {"project": project.name, "document": digest},
            detail={
                "envelope": f"sha256:{hashlib.sha256(envelope).hexdigest()}",
                "size": read.log.size,
                "root": f"sha256:{read.log.root}",
            },
        )
        transition.move(tx, "project", {"project": project.name}, "CLOSING", "CLOSED", certificate=digest)
        alerts.clear(tx, f"project/{project.name}")
        replace_file(path, envelope)
    checkpoint.sign(broker.db, broker.ask)


def look_up(broker: OpenBroker, project: Project) -> Subject:
    """What the database, keyd and the log know of the project."""
    held = broker.ask(m.Inspect(project.name))
    with broker.db.read() as tx:
        listed = jobs.of_project(tx, project.name)
        pairs = tuple((attempt, job) for job in listed for attempt in jobs.attempts_of(tx, job.id))
        staged = tuple(copies.of_project(tx, project.name))
        stayed = tuple(kept.of_project(tx, project.name))
        kept_tried = samples.of_kept(tx, project.name)
        copies_tried = samples.of_copies(tx, project.name)
        attempts_tried = samples.of_attempts(tx, project.name)
        removed = [
            entry.detail
            for entry in log.of_event(tx, "quarantine-removed")
            if entry.subject["project"] == project.name
        ]
    real = [record for record in held.destroyed if not record.id.startswith("K-none")]
    return Subject(
        project=project,
        copies=staged,
        kept=stayed,
        jobs=tuple(listed),
        attempts=pairs,
        key_ends={record.id: record.at for record in real},
        key_ids={(record.role, record.holder): record.id for record in real},
        deid_destroyed=not any(record.role == "deid" for record in held.live),
        master_rotated=held.master_rotated,
        copies_tried=copies_tried,
        attempts_tried=attempts_tried,
        kept_tried=kept_tried,
        quarantine=(sum(d["objects"] for d in removed), sum(d["bytes"] for d in removed)),
    )


def look(broker: OpenBroker, subject: Subject) -> dict[str, Found]:
    """The row of every place, by looking; one that is not empty or can't be looked at says so and raises nothing."""
    rows = {}
    for name in places.PLACES:
        try:
            rows[name] = FINDERS[name](broker, subject)
        except (PlaceNotEmptyError, KeyStillThereError) as error:
            rows[name] = Found(FOUND, f"looked, and it is not as it must be: {error.message}")
        except HdrsError as error:
            rows[name] = Found(UNREACHABLE, f"could not be looked at: {error.code}")
        except OSError as error:
            rows[name] = Found(UNREACHABLE, f"could not be looked at: {type(error).__name__}")
    return rows


def _require_complete(rows: dict[str, Found]) -> None:
    if rows.keys() != places.PLACES.keys():
        raise InternalError("the inventory and its finders differ")
    bad = sorted(name for name, found in rows.items() if found.result in (FOUND, UNREACHABLE))
    if "key-store" in bad:
        raise KeyStillThereError(rows["key-store"].how, where=", ".join(bad))
    if bad:
        raise PlaceNotEmptyError(rows[bad[0]].how, where=", ".join(bad))
    for name, found in rows.items():
        place = places.PLACES[name]
        if not found.how or not place.accepts(
            str(place.verified_by), found.result, verified=is_verified(name, found)
        ):
            raise InternalError("a finder gives a result that its place does not allow", where=name)


def _place_detail(name: str, found: Found) -> dict[str, Any]:
    detail = {
        "place": name,
        "method": str(places.PLACES[name].verified_by),
        "result": found.result,
        "verified": is_verified(name, found),
    }
    return detail | found.amount
