"""People with keys, and the documents they sign: what tests on documents, policy and client begin with."""

from __future__ import annotations

import copy
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.core import strict_json
from hdrs_hpc.documents import sshsig, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.signing import sign_in_process

NINES, ONES, TWOS = "sha256:" + "9" * 64, "sha256:" + "1" * 64, "sha256:" + "2" * 64
FLAVOUR = "sha256:" + "f" * 64
ROLES = {
    "ada": ["custodian"],
    "bob": ["custodian"],
    "rae": ["researcher"],
    "sam": ["researcher", "checker", "code-reviewer"],
    "cy": ["checker"],
    "di": ["checker", "code-reviewer"],
    "hal": ["admin"],
    "eli": ["custodian"],
    "fay": ["custodian"],
}
HOME = dict.fromkeys(ROLES, "north") | {"rae": "uni", "sam": "uni", "eli": "south", "fay": "south"}
"""Whose custodians ada and bob are, whose data are granted: north.  South is another hospital of the same broker."""
ORGANISATIONS = {
    "north": {"name": "North Hospital", "threshold": 2},
    "south": {"name": "South Hospital", "threshold": 2},
    "uni": {"name": "A University"},
}
DUTIES = ("checkpoint", "release-record", "certificate", "handover-answer")

GRANT: dict[str, Any] = {
    "schema": "hdrs-hpc/grant/2",
    "project": "lung-fm",
    "version": 1,
    "title": "Self-supervised pretraining on chest CT and lung H&E",
    "approval": {"body": "North SDE Data Access Committee", "reference": "DAC-2026-0142"},
    "valid": {
        "from": "2026-12-01",
        "run-until": "2027-06-30",
        "review-grace": "14d",
        "destroy-by": "2027-07-31",
    },
    "people": {"lead": "rae", "researchers": ["rae"]},
    "lay-summary": "Computers learn from chest scans, so that they help to find disease earlier",
    "legal-basis": {"article6": "6(1)(e)", "article9": "9(2)(j)"},
    "use": ["DUO:0000007"],
    "contact": "dac@north.example",
    "data": {
        "north-chest-ct": {
            "version": NINES,
            "select": {"BodyPartExamined": ["CHEST"], "StudyDate": "2019-01-01/2023-12-31"},
            "profile": "radiology-basic@1",
            "max-failed": 50,
        }
    },
    "workloads": {"builtin": ["cohort-summary@1"], "own-code": "reviewed"},
    "limits": {
        "clusters": ["isambard-ai", "local"],
        "isolation": "sandboxed",
        "nodes": 8,
        "time": "24:00:00",
        "gpu-hours": 100,
        "bundle-size": "16MiB",
    },
    "outputs": {
        "reviewers": 2,
        "table": {"min-count": 10, "round": 5},
        "image": {},
    },
}
COLUMNS: dict[str, Any] = {"site": {"key": ["north", "south"]}, "n_patients": {"count": "patients"}}
SPEC: dict[str, Any] = {
    "schema": "hdrs-hpc/job-spec/2",
    "project": "lung-fm",
    "name": "spacing",
    "purpose": "Check spacing before pretraining",
    "data": {"ct": {"dataset": "north-chest-ct", "select": {"Modality": ["CT"]}}},
    "workload": {"kind": "dask", "builtin": "cohort-summary@1"},
    "resources": {"nodes": 1, "cpus-per-task": 4, "mem": "16G", "gres": "gpu:2", "time": "02:00:00"},
    "outputs": {
        "cohort": {"class": "table", "path": "cohort.csv", "columns": COLUMNS, "max-size": "1MiB"},
        "spacing": {"class": "table", "path": "spacing.csv", "columns": COLUMNS, "max-size": "2MiB"},
    },
    "audience": "north-sde",
    "nonce": "0123456789ABCDEFGHJKMNPQRS",
    "not-before": "2027-01-15T00:00:00Z",
    "expires": "2027-01-22T00:00:00Z",
    "trust-root": ONES,
}
REGISTRATION: dict[str, Any] = {
    "schema": "hdrs-hpc/dataset-registration/2",
    "name": "north-chest-ct",
    "owner": "north",
    "kind": "radiology",
    "sensitivity": "real",
    "source": {"type": "folder", "path": "/archive/ct"},
    "version": NINES,
    "items": 1000,
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "code-approval": (
        "di",
        {
            "schema": "hdrs-hpc/code-approval/1",
            "project": "lung-fm",
            "bundle": TWOS,
            "reviewer": "di",
            "statement": "Read in full.",
            "at": "2027-01-10T09:00:00Z",
        },
    ),
    "output-decision": (
        "cy",
        {
            "schema": "hdrs-hpc/output-decision/1",
            "project": "lung-fm",
            "job": "7K3QW2",
            "nonce": "0123456789ABCDEFGHJKMNPQRS",
            "decisions": [
                {
                    "artefact": "cohort",
                    "rebuilt": ONES,
                    "report": TWOS,
                    "verdict": "approve",
                    "reason": "No small counts are left.",
                }
            ],
        },
    ),
    "closure": (
        "ada",
        {
            "schema": "hdrs-hpc/closure/2",
            "project": "lung-fm",
            "action": "close",
            "reason": "The study is done.",
            "nonce": "0123456789ABCDEFGHJKMNPQRS",
            "at": "2027-05-01T09:00:00Z",
        },
    ),
    "opt-out-change": (
        "ada",
        {
            "schema": "hdrs-hpc/opt-out-change/1",
            "audience": "north-sde",
            "dataset": "north-chest-ct",
            "version": 1,
            "action": "add",
            "ids": TWOS,
            "nonce": "0123456789ABCDEFGHJKMNPQRS",
            "at": "2027-01-10T09:00:00Z",
        },
    ),
    "login": (
        "rae",
        {
            "schema": "hdrs-hpc/login/1",
            "audience": "north-sde",
            "challenge": "abcdefghijklmnopqrstuvwxyz",
            "at": "2027-05-01T09:00:00Z",
        },
    ),
    "release-record": (
        "release-record",
        {
            "schema": "hdrs-hpc/release-record/1",
            "audience": "north-sde",
            "project": "lung-fm",
            "job": "7K3QW2",
            "attempt": "hdrs-0123456789abcdefghjkmnpqrs",
            "artefact": "cohort",
            "class": "table",
            "file": "cohort.csv",
            "media-type": "text/csv",
            "content": ONES,
            "bytes": 812,
            "report": TWOS,
            "grant": NINES,
            "spec": ONES,
            "decisions": [ONES, TWOS],
            "reviewers": ["cy", "di"],
            "released-at": "2027-01-16T09:00:00Z",
        },
    ),
    "checkpoint": (
        "checkpoint",
        {
            "schema": "hdrs-hpc/checkpoint/1",
            "audience": "north-sde",
            "size": 7,
            "root": "ab" * 32,
            "at": "2027-01-16T09:00:00Z",
        },
    ),
    "certificate": (
        "certificate",
        {
            "schema": "hdrs-hpc/certificate/1",
            "audience": "north-sde",
            "project": "lung-fm",
            "grant": NINES,
            "trust-root": ONES,
            "reason": "closed",
            "closed-at": "2027-05-01T09:00:00Z",
            "issued-at": "2027-05-01T09:10:00Z",
            "assurance": "file-keystore",
            "copies": [
                {
                    "copy": "7K3QW2",
                    "dataset": "north-chest-ct",
                    "version": NINES,
                    "manifest-digest": ONES,
                    "objects": 38,
                    "bytes": 123456,
                    "key-id": "K7",
                    "key-destroyed-at": "2027-05-01T09:00:00Z",
                }
            ],
            "attempts": [
                {
                    "attempt": "hdrs-0123456789abcdefghjkmnpqrs",
                    "job": "7K3QW2",
                    "objects": 4,
                    "bytes": 4096,
                    "keys": [{"key-id": "K8", "destroyed-at": "2027-05-01T09:05:00Z"}],
                }
            ],
            "deidentification-key-destroyed": True,
            "keystore": {
                "class": "file",
                "claim": "unlinked",
                "master-rotated": True,
                "statement": "Unlinked, not provably erased on this medium; master rotated.",
            },
            "inventory": "hdrs-hpc/places/3",
            "places": [
                {
                    "place": "scratch-copies",
                    "owner": "stager",
                    "purger": "purge",
                    "verified": True,
                    "method": "key-and-listing",
                    "result": "key-gone-and-empty",
                    "how": "Listed after unlinking.",
                    "count": 38,
                    "bytes": 123456,
                }
            ],
            "checks": [{"check": "keys-gone", "result": "passed", "detail": "keyd has no key."}],
            "cannot-prove": ["Snapshots of scratch keep ciphertext."],
            "log": {"size": 9, "root": "cd" * 32},
        },
    ),
}


class Party:
    """Everyone in :data:`ROLES` and the broker's duties, each with an ed25519 key."""

    def __init__(self) -> None:
        self.keys = {name: Ed25519PrivateKey.generate() for name in (*ROLES, *DUTIES)}

    def line(self, name: str) -> str:
        return sshsig.public_line(self.keys[name], name)

    def root_value(self, **changes: Any) -> dict[str, Any]:
        value = {
            "schema": "hdrs-hpc/trust-root/2",
            "audience": "north-sde",
            "version": 1,
            "supersedes": None,
            "demo": False,
            "organisations": copy.deepcopy(ORGANISATIONS),
            "people": {
                name: {
                    "name": name.title(),
                    "organisation": HOME[name],
                    "keys": [self.line(name)],
                    "roles": roles,
                }
                for name, roles in ROLES.items()
            },
            "thresholds": {
                "trust-root": 2,
                "grant": 2,
                "dataset-registration": 2,
                "closure": 1,
                "code-approval": 1,
            },
            "broker-keys": {duty: [self.line(duty)] for duty in DUTIES},
        }
        return {**value, **changes}

    def sign(self, kind_name: str, value: Any, *people: str | Ed25519PrivateKey) -> Envelope:
        kind = KINDS[kind_name]
        payload = value if isinstance(value, bytes) else strict_json.dumps(value)
        envelope = Envelope(kind.payload_type, payload)
        for person in people:
            key = self.keys[person] if isinstance(person, str) else person
            envelope = envelope.with_signature(sign_in_process(kind, payload, key).signatures[0])
        return envelope

    def root(self, **changes: Any) -> trust.VerifiedRoot:
        envelope = self.sign("trust-root", self.root_value(**changes), "ada", "bob")
        return trust.load_root(envelope.to_bytes(), envelope.digest)

    def signed(self, kind_name: str) -> Envelope:
        """A good envelope of any kind that people or broker sign."""
        match kind_name:
            case "trust-root":
                return self.sign("trust-root", self.root_value(), "ada", "bob")
            case "grant":
                return self.sign("grant", GRANT, "ada", "bob")
            case "job-spec":
                return self.sign("job-spec", SPEC, "rae")
            case "dataset-registration":
                return self.sign("dataset-registration", REGISTRATION, "ada", "bob")
        signer, value = OTHERS[kind_name]
        return self.sign(kind_name, value, signer)


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A deep copy with the value at a dotted path replaced; ``...`` removes it."""
    made = copy.deepcopy(value)
    *steps, last = path.split("/")
    at: Any = made
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if new is ...:
        del at[last]
    else:
        at[last] = new
    return made
