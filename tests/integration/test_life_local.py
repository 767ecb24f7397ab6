"""Whole lives on the embedded cluster: from a signed grant to a certificate that strangers can verify."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hdrs_hpc.audit import certificate, verify
from hdrs_hpc.broker.reading import staging
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.cli.demo.canaries import read_list
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from tests.support import proofs
from tests.support.world import World, digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OWN_CODE = """
import csv

def run(context):
    copy = context.data["ct"]
    items = [row["item"] for row in copy.index().to_pylist() if row["kind"] == "volume"]
    sizes = context.client.gather(context.client.map(voxels, items, copy=copy))
    assert all(size > 0 for size in sizes)
    with context.output("cohort").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["arm", "n_series"])
        table.writerow(["all", len(items)])
        table.writerow(["rare", 3])
        table.writerow(["common", len(items) - 3])

def voxels(item, copy):
    return int(copy.volume(item)[:].size)
"""
COLUMNS = {"arm": {"key": ["all", "rare", "common"]}, "n_series": {"count": "series of images"}}
OWN_OUTPUTS = {
    "cohort": {"class": "table", "path": "cohort.csv", "columns": COLUMNS, "max-size": "1MiB"},
    "notes": {"class": "metrics", "path": "notes.json", "max-size": "1KiB"},
}


def released(world: World, job: str) -> dict[str, bytes]:
    folder = world.home.released_dir(job)
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def check_release(world: World, job: str, name: str) -> dict[str, object]:
    """The record of a released artefact verifies and names exactly its bytes."""
    files = released(world, job)
    root = trust.load_root(world.root_envelope, world.root_digest)
    record = trust.verify(Envelope.parse(files[f"{name}.record.json"]), kinds.RELEASE_RECORD, root).document
    assert record.content == digest(files[name])
    assert (record.job, record.artefact, record.bytes) == (job, name, len(files[name]))
    assert sorted(record.reviewers) == ["chen", "dunne"]
    return record.model_dump()


def test_the_whole_life_of_a_project(make_world) -> None:
    world = make_world()
    world.grant()
    spec = world.signed("job-spec", world.spec_value(), "okafor")
    job = world.file_raw(spec).job
    again = world.file_raw(spec)
    assert (again.job, again.known) == (job, True)

    world.run_job(job, "IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    check_reviews_are_blind(world, job)
    check_staging_reports(world)
    world.file("output-decision", world.decision_value(job, {"spacing": "return"}), "dunne")
    assert world.run_job(job, "PURGED").outcome == "SUCCEEDED"
    files = released(world, job)
    assert sorted(files) == sorted(
        file for name in ("cohort", "spacing-bins", "summary") for file in (name, f"{name}.record.json")
    )
    for name in ("cohort", "spacing-bins", "summary"):
        check_release(world, job, name)
    check_suppression(files["cohort"].decode())
    check_picture_free(files)
    assert [item["code"] for item in proofs.details(world, "artefact-withheld")] == ["reviewers-withhold"]

    own = world.submit_bundle(
        {"mine/code.py": OWN_CODE},
        "mine.code:run",
        data={"ct": {"dataset": "demo-ct-mr"}},
        outputs=OWN_OUTPUTS,
    )
    world.run_job(own, "IN_REVIEW", "PURGED")
    assert world.job(own).state == "IN_REVIEW", world.describe()
    assert proofs.events(world)["copy-sealed"] == 2, "the second job reads the copies that are there"
    world.review(own)
    assert world.run_job(own, "PURGED").outcome == "SUCCEEDED"
    mine = released(world, own)
    assert sorted(mine) == ["cohort", "cohort.record.json"], "what was not written is not released"
    rows = list(csv.reader(mine["cohort"].decode().splitlines()))
    assert rows[0] == ["arm", "n_series"]
    assert "3" not in {row[1] for row in rows}
    assert {e["code"] for e in proofs.details(world, "artefact-checked") if "code" in e} == {"output-missing"}

    assert set(proofs.cluster_jobs(world).values()) == {1}
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
    assert released(world, job) == files, "what was released stays"
    check_any_change_shows(world)


def check_staging_reports(world: World) -> None:
    """A custodian reads of what and for whom each is; no file or person of the archive is in them."""
    with world.ctx.db.read() as tx:
        told = staging.reports(tx, Who("abara", frozenset({"custodian"}), "north"), world.project)
    assert {report.made_for["dataset"] for report in told} == {"demo-ct-mr", "demo-he"}
    assert {report.made_for["project"] for report in told} == {world.project}
    assert {report.made_for["grant"] for report in told} == {"version 1"}
    assert sum(reason.count for report in told for reason in report.reasons) > 0
    text = "".join(report.model_dump_json() for report in told)
    archive = Path(world.archive.radiology)
    assert not [path.name for path in archive.rglob("*") if path.is_file() and path.name in text]
    assert not [
        planted.kind
        for planted in read_list(world.canaries)
        if any(form in text.encode() for form in planted.patterns)
    ]


def check_reviews_are_blind(world: World, job: str) -> None:
    """One decision settles nothing and is told to nobody."""
    receipt = world.file("output-decision", world.decision_value(job, {}), "chen")
    for _ in range(3):
        world.tick()
    assert world.job(job).state == "IN_REVIEW"
    assert released(world, job) == {}
    filed = [entry for entry in proofs.entries(world) if entry.event == "decision-filed"]
    assert [entry.subject.get("document") for entry in filed] == [receipt.digest]
    assert set(filed[0].detail) == {"envelope"}, "the log shows a digest only"
    changed_mind = world.decision_value(job, {"cohort": "refuse"})
    assert proofs.refusal(lambda: world.file("output-decision", changed_mind, "chen")) == ["already-decided"]
    own = world.decision_value(job, {})
    assert proofs.refusal(lambda: world.file("output-decision", own, "okafor")) == ["signer-lacks-role"]


def check_suppression(cohort: str) -> None:
    """Every count is at least the threshold and rounded; body parts of few patients are not named at all."""
    rows = list(csv.DictReader(cohort.splitlines()))
    for row in rows:
        shown = [value for value in (row["n_patients"], row["n_series"]) if value != "*"]
        assert shown, cohort
        assert all(int(value) >= 10 and int(value) % 5 == 0 for value in shown), cohort
    ct = {row["body_part"]: row for row in rows if row["modality"] == "CT"}
    assert sum(int(row["n_series"]) for part, row in ct.items() if part != "TOTAL") < int(
        ct["TOTAL"]["n_series"]
    )


def check_picture_free(files: dict[str, bytes]) -> None:
    assert json.loads(files["summary"])
    assert not [name for name, data in files.items() if data.startswith(b"\x89PNG")], "it was returned"


def check_any_change_shows(world: World) -> None:
    """One byte anywhere in the certificate or the export, and verification fails by name."""
    folder = world.root / "audit-export"
    genuine = proofs.certificate_of(world)

    def judge(raw: bytes) -> None:
        certificate.verify_certificate(raw, world.root_envelope, world.root_digest, audit=folder)

    judge(genuine)
    for place in range(0, len(genuine), max(1, len(genuine) // 40)):
        with pytest.raises(HdrsError):
            judge(genuine[:place] + bytes([genuine[place] ^ 1]) + genuine[place + 1 :])
    for cut in (0, 1, len(genuine) - 1):
        with pytest.raises(HdrsError):
            judge(genuine[:cut])
    files = [
        folder / "entries.jsonl",
        folder / "checkpoints.jsonl",
        *sorted((folder / "documents").iterdir()),
    ]
    for path in files:
        raw = path.read_bytes()
        for place in {0, len(raw) // 2, len(raw) - 1}:
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
            with pytest.raises(HdrsError):
                verify.verify_dir(folder, world.root_envelope, world.root_digest)
        path.write_bytes(raw)
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    for fewer in (lines[:-1], lines[1:], lines[:5] + lines[6:], [*lines[:7], lines[8], lines[7], *lines[9:]]):
        (folder / "entries.jsonl").write_bytes(b"".join(fewer))
        with pytest.raises(HdrsError):
            judge(genuine)
    (folder / "entries.jsonl").write_bytes(b"".join(lines))
    judge(genuine)


@pytest.mark.root_parts
def test_a_life_in_sandboxes_ends_the_same_way(make_world) -> None:
    world = make_world(isolation="sandboxed")
    limits = world.grant_value()["limits"] | {"isolation": "sandboxed"}
    world.grant(limits=limits)
    job = world.submit()
    world.run_job(job, "IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    assert world.job(job).decision["isolation"] == "sandboxed"
    world.review(job)
    assert world.run_job(job, "PURGED").reason == "released"
    assert len(released(world, job)) == 8
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)


def test_the_isolation_that_a_grant_asks_for_is_not_argued_about(make_world) -> None:
    world = make_world()
    world.grant(limits=world.grant_value()["limits"] | {"isolation": "sandboxed"})
    job = world.submit()
    ended = world.run_job(job, "PURGED", timeout_s=10)
    assert (ended.outcome, ended.reason) == ("REFUSED", "isolation-insufficient")
    assert ended.decision["allowed"] is False
    assert not proofs.attempt_names(world)
    assert list(Path(world.root / "cluster" / "jobs").rglob("hdrs-*")) == []
