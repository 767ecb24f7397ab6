"""Makes ``jobspecs/context/`` and ``jobspecs/hdrs-hpc.toml``: the documents that the examples are judged by.

``python tests/jobspecs/make_context.py`` makes a key for each person, signs, and forgets the keys.  Run it again
after a change to the formats or to a bundle of :data:`APPROVED`, and commit what it wrote.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.protocol import bundle

JOBSPECS = Path(__file__).parents[2] / "jobspecs"
ROLES = {
    "adeyemi": ("Dr A. Adeyemi", "north", ["custodian"]),
    "bauer": ("Prof B. Bauer", "north", ["custodian"]),
    "okafor": ("Dr C. Okafor", "uni", ["researcher"]),
    "lindqvist": ("E. Lindqvist", "uni", ["researcher"]),
    "chen": ("F. Chen", "north", ["checker"]),
    "dubois": ("G. Dubois", "north", ["checker", "code-reviewer"]),
    "evans": ("H. Evans", "south", ["custodian"]),
    "farah": ("Dr I. Farah", "south", ["custodian"]),
}
BROKER_DUTIES = ("checkpoint", "release-record", "certificate", "handover-answer")
CUSTODIANS = {"north": ("adeyemi", "bauer"), "south": ("evans", "farah")}
ORGANISATIONS = {
    "north": {"name": "North Hospital NHS Trust"},
    "south": {"name": "South Hospital NHS Trust"},
    "uni": {"name": "A University"},
}
REGISTERED = {
    "north-chest-ct": ("radiology", "9c" * 32, 84_211),
    "north-lung-he": ("pathology", "41" * 32, 1_204),
    "south-knee-mr": ("radiology", "7d" * 32, 3_090),
}
GRANT = """\
schema: hdrs-hpc/grant/2
project: lung-fm
version: 1
title: Self-supervised pretraining on chest CT and lung H&E
approval: {body: North SDE Data Access Committee, reference: DAC-2026-0142}
valid: {from: 2026-12-01, run-until: 2027-06-30, review-grace: 14d, destroy-by: 2027-07-31}
people: {lead: okafor, researchers: [okafor, lindqvist]}
lay-summary: Computers learn from chest scans, so that they help to find disease earlier
legal-basis: {article6: 6(1)(e), article9: 9(2)(j)}
use: [DUO:0000007, DUO:0000042]
contact: dac@north.example
data:
  north-chest-ct:
    version: sha256:9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c
    select: {BodyPartExamined: [CHEST], StudyDate: 2019-01-01/2023-12-31}
    profile: radiology-basic@1
    max-failed: 50
  north-lung-he:
    version: sha256:4141414141414141414141414141414141414141414141414141414141414141
    profile: slide-basic@1
workloads:
  builtin: [cohort-summary@1, pretrain-mae@1, pretrain-dino@1, finetune@1, embed@1, slide-qc@1, radiomics@1]
  own-code: reviewed
limits:
  clusters: [isambard-ai]
  isolation: sandboxed
  nodes: 8
  time: "24:00:00"
  gpu-hours: 20000
  bundle-size: 16KiB
  kept-size: 50GiB
outputs:
  reviewers: 2
  table: {min-count: 10, round: 5}
  image: {}
  metrics: {}
  weights: {keep: project}
"""
TOML = """\
# What `hdrs-hpc spec check` applies to the specs in this folder and below.
[context]
trust-root = "context/trust-root.json"
root-digest = "{digest}"
grant = "context/grant.json"
registrations = [{registrations}]
code-approvals = [{approvals}]
person = "okafor"
at = "2027-01-15T12:00:00Z"  # pinned, so that the examples never expire
gpu-hours-used = 19990
kept = [
  {{job = "7K3QW2", output = "encoder", size = "1GiB", cluster = "isambard-ai"}},
  {{job = "7K3QW3", output = "encoder", state = "destroyed"}},
  {{job = "7K3QW4", output = "encoder", state = "unfinished"}},
  {{job = "7K3QW5", output = "encoder", size = "1GiB", cluster = "elsewhere"}},
]

[cluster]
name = "isambard-ai"
isolation = "sandboxed"
nodes = 16
has = [
  {{nodes = 12, cpus = 288, mem = "860G", gres = ["gpu:gh200:4"]}},
  {{nodes = 4, cpus = 128, mem = "1536G"}},
]
longest = "20:00:00"
"""


APPROVED = {
    "own-code": "code-approval",
    "large-code": "large-code-approval",
    "command": "command-approval",
    "torch": "torch-approval",
}
"""Folder of a bundle → file of its approval."""


def main() -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in (*ROLES, *BROKER_DUTIES)}

    def signed(kind_name: str, payload: bytes, *people: str) -> bytes:
        kind = KINDS[kind_name]
        envelope = Envelope(kind.payload_type, payload)
        for person in people:
            envelope = envelope.with_signature(sign_in_process(kind, payload, keys[person]).signatures[0])
        kind.model.from_payload(payload)
        return envelope.to_bytes()

    context = JOBSPECS / "context"
    context.mkdir(exist_ok=True)
    root = {
        "schema": "hdrs-hpc/trust-root/2",
        "audience": "north-sde",
        "version": 1,
        "demo": False,
        "organisations": ORGANISATIONS,
        "people": {
            name: {
                "name": shown,
                "organisation": home,
                "keys": [sshsig.public_line(keys[name], name)],
                "roles": roles,
            }
            for name, (shown, home, roles) in ROLES.items()
        },
        "broker-keys": {duty: [sshsig.public_line(keys[duty], duty)] for duty in BROKER_DUTIES},
    }
    raw_root = signed("trust-root", strict_json.dumps(root), "adeyemi", "bauer")
    (context / "trust-root.json").write_bytes(raw_root)
    grant = strict_json.dumps(strict_yaml.load(GRANT.encode())[0])
    (context / "grant.json").write_bytes(signed("grant", grant, "adeyemi", "bauer"))
    for name, (kind, version, items) in REGISTERED.items():
        owner = name.partition("-")[0]
        registration = {
            "schema": "hdrs-hpc/dataset-registration/2",
            "name": name,
            "owner": owner,
            "kind": kind,
            "sensitivity": "real",
            "source": {"type": "folder", "path": f"/archive/{name}"},
            "version": f"sha256:{version}",
            "items": items,
        }
        payload = strict_json.dumps(registration)
        (context / f"{name}.json").write_bytes(signed("dataset-registration", payload, *CUSTODIANS[owner]))
    for folder, name in APPROVED.items():
        approval = {
            "schema": "hdrs-hpc/code-approval/1",
            "project": "lung-fm",
            "bundle": bundle.digest(bundle.pack(JOBSPECS / folder)),
            "reviewer": "dubois",
            "statement": "Read in full: counts series and writes the declared outputs, nothing else.",
            "at": "2027-01-10T09:00:00Z",
        }
        payload = strict_json.dumps(approval)
        (context / f"{name}.json").write_bytes(signed("code-approval", payload, "dubois"))
    places = ", ".join(f'"context/{name}.json"' for name in REGISTERED)
    approvals = ", ".join(f'"context/{name}.json"' for name in APPROVED.values())
    digest = Envelope.parse(raw_root).digest
    text = TOML.format(digest=digest, registrations=places, approvals=approvals)
    (JOBSPECS / "hdrs-hpc.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
