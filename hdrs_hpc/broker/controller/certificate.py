"""What the certificate says: what was destroyed, what was found at each place, what nobody can prove."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hdrs_hpc.audit import places
from hdrs_hpc.broker.controller.finders import Found, Subject, is_verified
from hdrs_hpc.broker.controller.steps.samples import Tried
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import documents, log
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.certificate import Certificate

_NOTHING = Tried(0, 0, 0, 0)


def payload(broker: OpenBroker, subject: Subject, rows: dict[str, Found]) -> bytes:
    project = subject.project
    with broker.db.read() as tx:
        root = documents.current_root(tx)
        size = log.size(tx)
        head = log.root(tx, size)
        runtimes: dict[str, set[str]] = defaultdict(set)
        for entry in log.of_event(tx, "handover-bound"):
            if entry.subject["project"] == project.name and "runtime" in entry.detail:
                runtimes[entry.subject["attempt"]].add(entry.detail["runtime"])
    keyd = broker.ask(m.Status())
    now = clock.to_text(broker.now())
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
        "kept": [_kept_row(subject, row) for row in subject.kept if ("kept", row.id) in subject.key_ids],
        "attempts": [
            _attempt_row(subject, attempt, job) | {"runtimes": sorted(runtimes[attempt.name])}
            for attempt, job in subject.attempts
        ],
        "deidentification-key-destroyed": subject.deid_destroyed,
        "keystore": {
            "class": keyd.keystore_class,
            "claim": "unlinked",
            "master-rotated": subject.master_rotated,
            "statement": keyd.keystore_statement,
        },
        "inventory": places.INVENTORY,
        "places": [_place_row(name, found) for name, found in rows.items()],
        "checks": checks(subject, rows),
        "cannot-prove": list(places.NOT_PROVEN.values()),
        "log": {"size": size, "root": head.hex()},
    }
    return Certificate.from_value(value).to_payload()


def _copy_row(subject: Subject, copy: Copy) -> dict[str, Any]:
    key = subject.key_ids[("copy", copy.id)]
    tried = subject.copies_tried.get(copy.id, _NOTHING)
    row: dict[str, Any] = {
        "copy": copy.id,
        "dataset": copy.dataset,
        "version": copy.version,
        "objects": tried.objects,
        "bytes": tried.bytes,
        "key-id": key,
        "key-destroyed-at": subject.key_ends[key],
    }
    if copy.manifest_digest and copy.report:
        listed = copy.report["opt-out"]
        row |= {"manifest-digest": copy.manifest_digest}
        row |= {"opt-out-list": listed["list"], "opt-out-about": listed["about"]}
    return row


def _kept_row(subject: Subject, kept: KeptOutput) -> dict[str, Any]:
    key = subject.key_ids[("kept", kept.id)]
    tried = subject.kept_tried.get(f"{kept.attempt}/{kept.output}", _NOTHING)
    row: dict[str, Any] = {
        "job": kept.job,
        "attempt": kept.attempt,
        "output": kept.output,
        "class": kept.cls,
        "objects": tried.objects,
        "bytes": tried.bytes,
        "key-id": key,
        "key-destroyed-at": subject.key_ends[key],
    }
    return row | ({"manifest-digest": kept.manifest_digest} if kept.manifest_digest else {})


def _attempt_row(subject: Subject, attempt: Attempt, job: Job) -> dict[str, Any]:
    tried = subject.attempts_tried.get(attempt.name, _NOTHING)
    keys = sorted(
        subject.key_ids[(role, attempt.name)]
        for role in ("output", "bundle")
        if (role, attempt.name) in subject.key_ids
    )
    return {
        "attempt": attempt.name,
        "job": job.id,
        "objects": tried.objects,
        "bytes": tried.bytes,
        "keys": [{"key-id": key, "destroyed-at": subject.key_ends[key]} for key in keys],
    }


def _place_row(name: str, found: Found) -> dict[str, Any]:
    place = places.PLACES[name]
    row = {
        "place": name,
        "owner": place.owner,
        "purger": place.purger,
        "verified": is_verified(name, found),
        "method": str(place.verified_by),
        "result": found.result,
        "how": found.how,
    }
    return row | found.amount


def checks(subject: Subject, rows: dict[str, Found]) -> list[dict[str, str]]:
    tried = subject.tried
    count = sum(each.samples for each in tried)
    keys = max((each.keys for each in tried), default=0)
    without = sum(1 for each in tried if each.objects and not each.samples)
    if count:
        detail = (
            f"before unlinking, {count} manifests were tried with each key that keyd then held, at most {keys}; "
            f"none opened; {without} copies, kept outputs or attempts with objects had no manifest to try"
        )
    else:
        detail = "no copy and no attempt came as far as a sealed manifest, so there was none to try"
    return [
        {"check": "keys-gone", "result": "passed", "detail": rows["key-store"].how},
        {"check": "samples-do-not-open", "result": "passed" if count else "not-possible", "detail": detail},
        {
            "check": "listings-empty",
            "result": "passed",
            "detail": "; ".join(
                rows[name].how for name in ("sealed-copies", "kept-outputs", "attempt-outputs")
            ),
        },
    ]
