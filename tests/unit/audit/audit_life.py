"""A whole signed life of one project, as an exported log: what the verification is tried on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.audit.certificate import REQUIRED_CHECKS
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.export import write_export
from hdrs_hpc.audit.merkle import root_hash
from hdrs_hpc.audit.places import ACCEPTED, NOT_PROVEN, PLACES, UNVERIFIED
from hdrs_hpc.core import strict_json
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.documents.sshsig import public_line

START = datetime(2026, 12, 1, 9, 0, 0, tzinfo=UTC)
ATTEMPT = "hdrs-" + "0123456789abcdefghjkmnpqrs"
NONCE = "0123456789ABCDEFGHJKMNPQRS"


def digest(data: bytes | str) -> str:
    return f"sha256:{hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()}"


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def line(name: str) -> str:
    return public_line(private(name), name)


def signed(kind: str, payload: dict[str, Any], *names: str) -> Envelope:
    raw = strict_json.dumps({"schema": KINDS[kind].schema, **payload})
    envelopes = [sign_in_process(KINDS[kind], raw, private(name)) for name in names]
    return Envelope(envelopes[0].payload_type, raw, tuple(item.signatures[0] for item in envelopes))


def root_payload(**changes: Any) -> dict[str, Any]:
    people = {
        "adeyemi": ["custodian"],
        "brandt": ["custodian"],
        "okafor": ["researcher"],
        "chen": ["checker"],
        "duarte": ["checker"],
    }
    return {
        "audience": "north",
        "version": 1,
        "supersedes": None,
        "demo": True,
        "organisations": {"north": {"name": "North"}},
        "people": {
            name: {"name": name.title(), "organisation": "north", "keys": [line(name)], "roles": roles}
            for name, roles in people.items()
        },
        "thresholds": {
            "trust-root": 2,
            "grant": 2,
            "dataset-registration": 1,
            "closure": 1,
            "code-approval": 1,
        },
        "broker-keys": {
            name: [line(f"broker {name}")]
            for name in ("checkpoint", "release-record", "certificate", "handover-answer")
        },
    } | changes


@dataclass
class Life:
    """Entries and documents in the making; ``at`` is one second later for each entry."""

    entries: list[Entry] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    checkpoints: list[bytes] = field(default_factory=list)
    root: bytes = b""

    def add(
        self, event: str, subject: dict[str, str], actor: str = "broker/controller", **detail: Any
    ) -> Entry:
        at = (START + timedelta(seconds=len(self.entries))).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = Entry(
            len(self.entries),
            at,
            event,
            subject,
            actor,
            {key.rstrip("_").replace("_", "-"): value for key, value in detail.items()},
        )
        self.entries.append(entry)
        return entry

    def accept(self, event: str, subject: dict[str, str], envelope: Envelope, **detail: Any) -> str:
        raw = envelope.to_bytes()
        self.documents[envelope.digest] = raw
        self.add(
            event, {**subject, "document": envelope.digest}, "broker/web", envelope=digest(raw), **detail
        )
        return envelope.digest

    def log_root(self, size: int | None = None) -> str:
        return root_hash(entry.leaf_hash() for entry in self.entries[:size]).hex()

    def checkpoint(self, signer: str = "broker checkpoint", **changes: Any) -> bytes:
        payload = {
            "audience": "north",
            "size": len(self.entries),
            "root": self.log_root(),
            "at": self.entries[-1].at,
        } | changes
        raw = signed("checkpoint", payload, signer).to_bytes()
        self.checkpoints.append(raw)
        return raw

    def write(self, folder: Path) -> Path:
        """All checkpoints, as an auditor may have gathered them; the broker exports the last one only."""
        entries = [entry.to_bytes() for entry in self.entries]
        write_export(folder, entries, self.checkpoints[-1], self.documents.values())
        (folder / "checkpoints.jsonl").write_bytes(b"".join(raw + b"\n" for raw in self.checkpoints))
        return folder


GRANT = {
    "project": "lung-fm",
    "version": 1,
    "title": "Spacing of chest CT",
    "approval": {"body": "Access Committee", "reference": "DAC-1"},
    "valid": {
        "from": "2026-11-01",
        "run-until": "2026-12-30T00:00:00Z",
        "review-grace": "14d",
        "destroy-by": "2027-01-30T00:00:00Z",
    },
    "people": {"lead": "okafor", "researchers": ["okafor"]},
    "lay-summary": "Computers learn from chest scans, so that they help to find disease earlier",
    "legal-basis": {"article6": "6(1)(e)", "article9": "9(2)(j)"},
    "use": ["DUO:0000007"],
    "contact": "dac@north.example",
    "data": {"ct": {"version": digest("inventory"), "profile": "radiology-basic@1"}},
    "workloads": {"builtin": ["cohort-summary@1"]},
    "limits": {
        "clusters": ["here"],
        "isolation": "cooperative",
        "nodes": 1,
        "time": "01:00:00",
        "gpu-hours": 0,
    },
    "outputs": {"reviewers": 2, "table": {"min-count": 10, "round": 5}},
}
SPEC = {
    "project": "lung-fm",
    "name": "spacing",
    "purpose": "Check spacing before pretraining",
    "data": {"ct": {"dataset": "ct"}},
    "workload": {"kind": "dask", "builtin": "cohort-summary@1"},
    "resources": {"nodes": 1, "cpus-per-task": 2, "mem": "2G", "time": "00:10:00"},
    "outputs": {
        "cohort": {
            "class": "table",
            "path": "cohort.csv",
            "columns": {"n_patients": {"count": "patients"}},
            "max-size": "1MiB",
        }
    },
    "audience": "north",
    "nonce": NONCE,
    "not-before": "2026-12-01T08:00:00Z",
    "expires": "2026-12-02T08:00:00Z",
}
PROJECT = {"project": "lung-fm"}
JOB = {**PROJECT, "job": "7K3QW2"}
RUN = {**JOB, "attempt": ATTEMPT}
COPY = {**PROJECT, "copy": "C0PY42"}
RUNTIME = digest("runtime")


def decision(checker: str, rebuilt: str, *, verdict: str = "approve", job: str = "7K3QW2") -> Envelope:
    nonce = digest(checker)[7:].upper().translate(str.maketrans("ILOU", "1100"))[:26]
    payload = {
        "project": "lung-fm",
        "job": job,
        "nonce": nonce,
        "decisions": [
            {
                "artefact": "cohort",
                "rebuilt": rebuilt,
                "report": digest("report"),
                "verdict": verdict,
                "reason": "fine",
            }
        ],
    }
    return signed("output-decision", payload, checker)


def state_opt_outs(
    life: Life, listed: str, version: int = 1, supersedes: str | None = None, signer: str = "adeyemi"
) -> str:
    """A custodian says who opted out, which leads to the list ``listed``; gives the statement's digest."""
    follows = {"supersedes": supersedes} if supersedes else {}
    change = {
        "audience": "north",
        "dataset": "ct",
        "version": version,
        "action": "add",
        "ids": digest(f"ids of {listed}"),
        "nonce": NONCE,
        "at": "2026-12-01T09:00:00Z",
        **follows,
    }
    envelope = signed("opt-out-change", change, signer)
    told = {"version": version, "action": "add", "list": digest(listed), "about": 10, **follows}
    life.accept("opt-out-changed", {"dataset": "ct"}, envelope, **told)
    return envelope.digest


def begin(life: Life) -> None:
    """Trust root, dataset, grant."""
    root = signed("trust-root", root_payload(), "adeyemi", "brandt")
    life.root = root.to_bytes()
    life.accept("trust-root-accepted", {}, root, version=1, pinned=True)
    registration = {
        "name": "ct",
        "owner": "north",
        "kind": "radiology",
        "sensitivity": "synthetic",
        "source": {"type": "folder", "path": "archive"},
        "version": digest("inventory"),
        "items": 960,
    }
    life.accept(
        "dataset-registered",
        {"dataset": "ct"},
        signed("dataset-registration", registration, "adeyemi"),
        version=digest("inventory"),
        items=960,
        sensitivity="synthetic",
        owner="north",
    )
    state_opt_outs(life, "opt-out list")
    life.accept(
        "grant-accepted",
        PROJECT,
        signed("grant", GRANT, "adeyemi", "brandt"),
        version=1,
        signers=["adeyemi", "brandt"],
        reviewers=2,
        run_until="2026-12-30T00:00:00Z",
        destroy_by="2027-01-30T00:00:00Z",
    )
    life.add("project-moved", PROJECT, from_="APPROVED", to="ACTIVE")
    life.checkpoint()


def stage(life: Life) -> None:
    life.add("copy-key-created", {**COPY, "key": "k-copy"}, "broker/keyd", role="copy")
    life.add("copy-moved", COPY, from_="PENDING", to="STAGING")
    life.add(
        "copy-sealed",
        {**COPY, "dataset": "ct"},
        manifest=digest("manifest"),
        version=digest("inventory"),
        objects=38,
        plaintext_bytes=9000,
        sealed_bytes=9999,
        items=122,
        refused=3,
        opted_out=6,
        opt_out_list=digest("opt-out list"),
        opt_out_about=10,
        report=digest("report"),
    )
    life.add("copy-moved", COPY, from_="STAGING", to="READY")


def run(life: Life) -> None:
    spec = signed("job-spec", {**SPEC, "trust-root": Envelope.parse(life.root).digest}, "okafor")
    life.accept("job-received", JOB, spec, submitter="okafor")
    life.add("job-moved", JOB, from_="RECEIVED", to="ADMITTED")
    life.add("runtime-installed", {"cluster": "here"}, "broker/admin", digest=RUNTIME)
    life.add("attempt-created", RUN, number=1, cluster="here")
    life.add("output-key-created", {**RUN, "key": "k-out"}, "broker/keyd", role="output")
    life.add("attempt-submitted", RUN, cluster_job="4711")
    life.add("attempt-started", RUN, nodes=["n1"])
    life.add(
        "handover-bound",
        {**RUN, "node": "n1"},
        "broker/keyd",
        public_key=digest("public"),
        runtime=RUNTIME,
    )
    life.add(
        "handover-answered",
        {**RUN, "node": "n1"},
        "broker/keyd",
        public_key=digest("public"),
        answer=digest("answer"),
        keys=["k-copy", "k-out"],
        not_after="2026-12-01T11:00:00Z",
    )
    life.add("handover-closed", RUN)
    life.add("attempt-ended", RUN, result="completed", exit_code=0)
    life.add("outputs-collected", RUN, closing_list=digest("list"), artefacts=1, bytes=200)


def review(life: Life) -> None:
    artefact = {**JOB, "artefact": "cohort"}
    rebuilt = digest("rebuilt")
    life.add(
        "artefact-checked", artefact, "broker/airlock", verdict="passed", content=digest("salt, rebuilt")
    )
    decisions = [
        life.accept("decision-filed", JOB, decision(checker, rebuilt)) for checker in ("chen", "duarte")
    ]
    life.add("decisions-opened", JOB, documents=decisions, checkers=["chen", "duarte"])
    life.add("artefact-released", artefact, content=rebuilt, size=180, class_="table", decisions=decisions)
    life.add("artefact-fetched", {**artefact, "person": "okafor"}, "okafor")
    life.checkpoint()


def close(life: Life, **changes: Any) -> Envelope:
    """Closure, destruction, certificate; gives the certificate."""
    closure = {
        "project": "lung-fm",
        "action": "close",
        "reason": "Done",
        "nonce": NONCE,
        "at": "2026-12-01T09:00:00Z",
    }
    life.accept("closure-accepted", PROJECT, signed("closure", closure, "brandt"), action="close")
    life.add("project-moved", PROJECT, from_="ACTIVE", to="CLOSING")
    gone = life.add(
        "key-destroyed", {**PROJECT, "key": "k-copy"}, "broker/keyd", role="copy", keystore="file"
    )
    life.add("key-destroyed", {**PROJECT, "key": "k-out"}, "broker/keyd", role="output", keystore="file")
    life.add("copy-tried", COPY, objects=38, bytes=9999, samples=1, keys=2)
    life.add("copy-removed", COPY, objects=38, bytes=9999)
    life.add("copy-moved", COPY, from_="READY", to="DESTROYED")
    life.add("attempt-tried", RUN, objects=2, bytes=300, samples=1, keys=1)
    life.add("attempt-removed", RUN, objects=2, bytes=300)
    life.add("job-moved", JOB, from_="ADMITTED", to="PURGED", outcome="SUCCEEDED")
    for place in PLACES.values():
        life.add(
            "place-verified",
            PROJECT,
            place=place.name,
            method=place.verified_by.value,
            result=min(ACCEPTED[place.verified_by]),
            verified=place.verified_by not in UNVERIFIED,
        )
    payload = certificate_payload(life, gone.at) | changes
    certificate = signed("certificate", payload, "broker certificate")
    life.accept(
        "certificate-issued",
        PROJECT,
        certificate,
        size=payload["log"]["size"],
        root=f"sha256:{payload['log']['root']}",
    )
    life.add("project-moved", PROJECT, from_="CLOSING", to="CLOSED")
    life.checkpoint()
    return certificate


def certificate_payload(life: Life, gone_at: str) -> dict[str, Any]:
    grant = next(entry for entry in life.entries if entry.event == "grant-accepted")
    return {
        "audience": "north",
        "project": "lung-fm",
        "grant": grant.subject["document"],
        "trust-root": Envelope.parse(life.root).digest,
        "reason": "closed",
        "closed-at": gone_at,
        "issued-at": life.entries[-1].at,
        "assurance": "DEMO",
        "copies": [
            {
                "copy": "C0PY42",
                "dataset": "ct",
                "version": digest("inventory"),
                "manifest-digest": digest("manifest"),
                "opt-out-list": digest("opt-out list"),
                "opt-out-about": 10,
                "objects": 38,
                "bytes": 9999,
                "key-id": "k-copy",
                "key-destroyed-at": gone_at,
            }
        ],
        "attempts": [
            {
                "attempt": ATTEMPT,
                "job": "7K3QW2",
                "objects": 2,
                "bytes": 300,
                "keys": [{"key-id": "k-out", "destroyed-at": gone_at}],
                "runtimes": [RUNTIME],
            }
        ],
        "deidentification-key-destroyed": True,
        "keystore": {
            "class": "file",
            "claim": "unlinked",
            "master-rotated": True,
            "statement": "unlinked, not provably erased on this medium",
        },
        "inventory": "hdrs-hpc/places/3",
        "places": [
            {
                "place": place.name,
                "owner": place.owner,
                "purger": place.purger,
                "verified": place.verified_by not in UNVERIFIED,
                "method": place.verified_by.value,
                "result": min(ACCEPTED[place.verified_by]),
                "how": "looked",
            }
            for place in PLACES.values()
        ],
        "checks": [{"check": name, "result": "passed", "detail": "looked"} for name in REQUIRED_CHECKS],
        "cannot-prove": list(NOT_PROVEN.values()),
        "log": {"size": len(life.entries), "root": life.log_root()},
    }
