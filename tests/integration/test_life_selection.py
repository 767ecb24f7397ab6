"""Lives whose spec selects less than the grant gives: the job meets exactly that, by whatever way it looks."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from connectors.clusters.local import LocalCluster
from hdrs_hpc.broker.home.selectable import read_selectable
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import copies, jobs, served
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.protocol import layout
from imaging.staging import selectable
from imaging.staging.selectable import Selectable
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FROM, TO = "18820101", "18871231"
SELECT = {"StudyDate": "1882-01-01/1887-12-31", "PatientSex": ["F"]}
QUICK = 'def run(context):\n    context.output("t").write_text("arm,n\\nall,1\\n")\n'
LOOKS_EVERYWHERE = """
from hdrs_hpc.protocol.datasocket import MISSING, Range
from imaging.reading.client import client_here
from imaging.reading.staged import NoSuchItemError

def absent(read):
    try:
        read()
    except NoSuchItemError:
        return True
    return False

def run(context):
    ct, outcomes, said = context.data["ct"], context.data["outcomes"], SAID
    client = client_here()
    rows = ct.index().to_pylist()
    assert sorted(row["item"] for row in rows) == said["served"]
    assert all(row["sex"] in ("F", None) for row in rows)
    everything = client.paths("ct", "")
    items = {path.rpartition("/")[0] for path in everything if path.count("/") == 2 and path.endswith("zarr.json")}
    assert sorted(items) == said["served"]
    assert ["series/" + name for name in ct.series()] == said["served"]
    assert "report.json" not in everything
    for name in said["others"]:
        ways = (name, name + "/zarr.json", name + "/0/zarr.json", name + "/0/c/0/0/0", name + "/0/c/0/0/0/0")
        assert client.sizes("ct", ways) == [MISSING] * len(ways)
        assert client.read("ct", [Range(path, 0, 16) for path in ways]) == [None] * len(ways)
        assert client.paths("ct", name) == []
        assert client.children("ct", name) == []
        assert all(absent(lambda path=path: ct.read(path)) for path in ways)
        assert absent(lambda: ct.volume(name))
    hidden = {name.split("/")[1].encode() for name in said["others"]}
    for path in everything:
        if path.count("/") < 2 or path.endswith("zarr.json"):
            text = ct.read(path)
            assert not [one for one in hidden if one in text or one in path.encode()]
    for name in said["served"]:
        assert ct.volume(name)[:1].size
    people = {row["patient"] for row in rows}
    table = outcomes.table()
    assert set(table["patient"].to_pylist()) == people & set(said["in-table"])
    (listed,) = outcomes.index().to_pylist()
    assert listed["shape"][0] == table.num_rows
    for path in client.paths("outcomes", ""):
        text = client.read("outcomes", [Range(path, 0, 1 << 20)])[0]
        assert not [one for one in said["strangers"] if one.encode() in bytes(text)]
    context.output("t").write_text("arm,n\\nall,1\\n")
"""
COLUMNS = {"arm": {"key": ["all"]}, "n": {"count": "patients"}}
OUTPUTS = {"t": {"class": "table", "path": "t.csv", "columns": COLUMNS, "max-size": "1KiB"}}
WHOLE = {"ct": {"dataset": "north-ct"}, "outcomes": {"dataset": "outcomes"}}
NARROW = WHOLE | {"ct": {"dataset": "north-ct", "select": SELECT}}


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    """Images and a table of their patients, staged whole by a first job."""
    made = make_world(archive=None, patients=14)
    folder = made.root / "extract"
    folder.mkdir()
    with (folder / "outcomes.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["hospital_number", "visit"])
        for patient in sorted({image.PatientID for image in images(made)}):
            rows.writerow([patient, "1885-05-05"])
    made.versions["north-ct"] = made.register("north-ct", "radiology", made.archive.radiology, issuer="NORTH")
    made.versions["outcomes"] = made.register("outcomes", "table", str(folder), issuer="NORTH")
    version = made.versions
    made.grant(
        data={
            "north-ct": {"version": version["north-ct"], "profile": "radiology-basic@2", "max-failed": 10},
            "outcomes": {
                "version": version["outcomes"],
                "profile": "table-basic@1",
                "columns": {"hospital_number": "patient-id", "visit": "shifted-date"},
            },
        },
        outputs={"reviewers": 2, "table": {"min-count": 1, "round": 1}},
    )
    made.run_job(submit(made, data=WHOLE), "IN_REVIEW", "PURGED")
    return made


def images(world: World) -> list[pydicom.Dataset]:
    """One readable image of each series of the archive."""
    found: dict[Any, pydicom.Dataset] = {}
    for path in sorted(Path(world.archive.radiology).rglob("*")):
        try:
            image = pydicom.dcmread(path, stop_before_pixels=True) if path.is_file() else pydicom.Dataset()
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        found.setdefault(image.get("SeriesInstanceUID"), image)
    return [image for image in found.values() if image.get("PatientID") and image.get("StudyDate")]


def staged(world: World, dataset: str) -> list[Selectable]:
    with world.ctx.db.read() as tx:
        (copy,) = [copy for copy in copies.of_project(tx, world.project) if copy.dataset == dataset]
    key = world.ctx.ask(m.UseKey("select", world.project, copy.id)).key
    return selectable.from_bytes(read_selectable(world.home, key, world.project, copy.id))


def is_selected(one: Selectable) -> bool:
    (said,) = one.values
    return said["PatientSex"] == "F" and FROM <= said["StudyDate"] <= TO


def attempt_of(world: World, job: str) -> jobs.Attempt:
    with world.ctx.db.read() as tx:
        return jobs.attempts_of(tx, job)[-1]


def submit(world: World, code: str = QUICK, data: Any = NARROW) -> str:
    return world.submit_bundle({"mine.py": code}, "mine:run", data=data, outputs=OUTPUTS)


def test_a_whole_selection_is_served_by_the_copy_itself(world: World) -> None:
    with world.ctx.db.read() as tx:
        first = jobs.of_project(tx, world.project)[0]
        told = served.of_job(tx, first.id)
        uses = copies.of_job(tx, first.id)
    assert told is not None
    assert first.state == "IN_REVIEW", world.describe()
    assert {name: one.manifest for name, one in told.inputs.items()} == {
        name: copy.manifest_digest for name, copy in uses.items()
    }
    assert told.inputs["ct"].items == len(staged(world, "north-ct"))


def test_a_job_meets_what_its_spec_selects_and_nothing_else(world: World) -> None:
    everything = staged(world, "north-ct")
    told = {(one.values[0]["PatientSex"], one.values[0]["StudyDate"]) for one in everything}
    assert told <= {(image.PatientSex, image.StudyDate) for image in images(world)}, (
        "true dates, not moved ones"
    )
    chosen = [one for one in everything if is_selected(one)]
    assert 0 < len(chosen) < len(everything)
    people = {one.patient for one in chosen}
    strangers = sorted({str(one.patient) for one in everything} - {str(one) for one in people})
    said = {
        "served": sorted(one.item for one in chosen),
        "others": sorted(one.item for one in everything if not is_selected(one)),
        "strangers": strangers,
        "in-table": sorted({str(one.patient) for one in everything}),
    }
    work = submit(world, f"SAID = {said!r}\n{LOOKS_EVERYWHERE}")
    ended = world.run_job(work, "IN_REVIEW", "PURGED")
    assert ended.state == "IN_REVIEW", world.describe()
    with world.ctx.db.read() as tx:
        fact = served.of_job(tx, work)
    assert fact is not None
    assert fact.inputs["ct"].items == len(chosen)
    assert fact.people == len(people)
    assert fact.items == len(chosen) + fact.inputs["outcomes"].items
    assert fact.instances >= len(chosen)
    entries = [entry for entry in proofs.entries(world) if entry.event == "served-chosen"]
    mine = {
        entry.detail["input"]: entry.detail["manifest"]
        for entry in entries
        if entry.subject["job"] == work and entry.detail["narrowed"]
    }
    assert mine == {name: one.manifest for name, one in fact.inputs.items()}
    with world.ctx.db.read() as tx:
        made = [copy for copy in copies.of_project(tx, world.project) if copy.dataset == "north-ct"]
    assert len(made) == 1, "one copy serves all selections"


@pytest.mark.parametrize(
    "words",
    [{"StudyDate": "1999-01-01/1999-12-31"}, {"Modality": ["XX"]}, {"Manufacturer": ["Nobody"]}],
    ids=lambda words: next(iter(words)),
)
def test_a_selection_of_nothing_is_refused_before_anything_is_submitted(
    world: World, words: dict[str, Any]
) -> None:
    job = submit(world, data={"ct": {"dataset": "north-ct", "select": words}})
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("REFUSED", "selection-empty")
    attempt = attempt_of(world, job)
    assert attempt.submit_intent_at is None
    assert world.ctx.cluster(world.cluster, world.project).find([attempt.name]).jobs[attempt.name] == []


def test_a_controller_that_swaps_the_choice_for_the_whole_copy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """keyd holds it to what the log says was chosen for this spec, whichever way the swap is made."""
    job = submit(world)
    world.run_job(job, "RUNNING")
    attempt = attempt_of(world, job)
    told = served.of_attempt(attempt)
    assert told is not None
    with world.ctx.db.write() as tx:
        uses = copies.of_job(tx, job)
        wider = served.ServedInput(
            **vars(told.inputs["ct"]) | {"manifest": uses["ct"].manifest_digest, "narrowed": False}
        )
        served.note(
            tx,
            attempt.name,
            served.Served({**told.inputs, "ct": wider}, told.people, told.items, told.instances, told.seqs),
        )
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("FAILED", "served-not-chosen")
    assert "handover-bound" not in {
        entry.event for entry in proofs.entries(world) if entry.subject.get("attempt") == attempt.name
    }


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "another-jobs"])
def test_a_manifest_that_was_meddled_with_on_scratch_serves_nothing(world: World, damage: str) -> None:
    job = submit(world)
    other = submit(world)
    world.run_until(lambda: all(attempt_served(world, one) for one in (job, other)), 60)
    paths = [manifest_file(world, one) for one in (job, other)]
    raw = paths[0].read_bytes()
    paths[0].unlink()
    match damage:
        case "cut":
            paths[0].write_bytes(raw[:-1])
        case "changed":
            paths[0].write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
        case "another-jobs":
            paths[0].write_bytes(paths[1].read_bytes())
    ended = world.run_job(job, "PURGED", timeout_s=90)
    assert ended.outcome == "FAILED", world.describe()
    assert ended.reason == "agent-stopped-input-unreadable"
    world.run_job(other, "IN_REVIEW", "PURGED")


def attempt_served(world: World, job: str) -> bool:
    with world.ctx.db.read() as tx:
        attempts = jobs.attempts_of(tx, job)
    return bool(attempts) and attempts[-1].served is not None


def manifest_file(world: World, job: str) -> Path:
    attempt = attempt_of(world, job)
    told = served.of_attempt(attempt)
    assert told is not None
    cluster = world.ctx.cluster(world.cluster, world.project)
    assert isinstance(cluster, LocalCluster)
    folder = cluster.scratch_path(*layout.served_parts(world.project, attempt.name, "ct"))
    return Path(folder, "m-" + told.inputs["ct"].manifest.removeprefix("sha256:"))


def test_what_is_left_of_it_goes_with_the_job_and_the_project(world: World) -> None:
    assert proofs.check_places(world, "home", "scratch")
    with world.ctx.db.read() as tx:
        mine = jobs.of_project(tx, world.project)
    for job in mine:
        if world.job(job.id).state == "IN_REVIEW":
            world.review(job.id)
    world.run_until(lambda: all(world.job(job.id).state == "PURGED" for job in mine), 90)
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 90)
    proofs.check_closed(world)
    with pytest.raises(HdrsError):
        staged(world, "north-ct")
