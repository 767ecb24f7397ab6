"""A life of images beside a linked table: one cohort, one person under one pseudonym, pixels searched for text."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hdrs_hpc.broker.store import copies, projects
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OUTSIDE_THE_COHORT = 28
COLUMNS: dict[str, Any] = {
    "hospital_number": "patient-id",
    "first_scan": "shifted-date",
    "arm": {"rule": "category", "values": ["A", "B"]},
}
CODE = """
import csv
from imaging.reading import open_staged

def run(context):
    outcomes = open_staged("outcomes").table()
    index = context.data["ct"].index().select(["item", "patient", "study_date"])
    joined = index.join(outcomes, keys="patient", join_type="inner").to_pylist()
    with context.output("joined").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["what", "n"])
        table.writerow(["rows", outcomes.num_rows])
        table.writerow(["series", index.num_rows])
        table.writerow(["joined", len(joined)])
        table.writerow(["patients", len({row["patient"] for row in joined})])
        table.writerow(["same day", sum(row["first_scan"] == row["study_date"] for row in joined)])
        table.writerow(["columns", len(outcomes.column_names)])
"""
COUNTED = {
    "what": {"key": ["rows", "series", "joined", "patients", "same day", "columns"]},
    "n": {"count": "whatever the row says"},
}
OUTPUTS = {"joined": {"class": "table", "path": "joined.csv", "columns": COUNTED, "max-size": "1MiB"}}


@pytest.fixture
def world(make_world: Any) -> World:
    """The images of a trust that names no issuer in them, and its table of the same patients."""
    made: World = make_world(isolation="sandboxed")
    folder = made.root / "extract"
    folder.mkdir()
    with (folder / "outcomes.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["hospital_number", "first_scan", "arm", "consultant"])
        for image in first_images(made):
            day = image.StudyDate
            rows.writerow([image.PatientID, f"{day[:4]}-{day[4:6]}-{day[6:]}", "A", "Dr Who"])
    made.versions["north-ct"] = made.register("north-ct", "radiology", made.archive.radiology, issuer="NORTH")
    made.versions["outcomes"] = made.register("outcomes", "table", str(folder), issuer="NORTH")
    return made


def first_images(world: World) -> list[pydicom.Dataset]:
    """One image of each patient."""
    patients = sorted(path for path in Path(world.archive.radiology).iterdir() if path.is_dir())
    return [pydicom.dcmread(next(patient.glob("*0/*")), stop_before_pixels=True) for patient in patients]


def name_cohort(world: World, patients: list[str]) -> str:
    raw = "\n".join(patients).encode()
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    path = world.home.cohort_file(digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return digest


def data(world: World, cohort: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "north-ct": {
            "version": world.versions["north-ct"],
            "profile": "radiology-basic@2",
            "max-failed": 10,
            "cohort": cohort,
            "pixels": {"burned-in": "hold", "find-text": True},
        },
        "outcomes": {
            "version": world.versions["outcomes"],
            "profile": "table-basic@1",
            "cohort": cohort,
            "columns": columns,
        },
    }


def test_images_and_a_table_of_one_issuer_join_on_the_cohort(world: World) -> None:
    opted_out = set(world.opted_out)
    everybody = [image.PatientID for image in first_images(world)]
    chosen = everybody[OUTSIDE_THE_COHORT:]
    expected = len(set(chosen) - opted_out)
    cohort = name_cohort(world, chosen)
    open_counts = {"reviewers": 2, "table": {"min-count": 1, "round": 1}}
    world.grant(data=data(world, cohort, COLUMNS), outputs=open_counts)
    inputs = {"ct": {"dataset": "north-ct"}, "outcomes": {"dataset": "outcomes"}}
    job = world.submit_bundle({"mine.py": CODE}, "mine:run", data=inputs, outputs=OUTPUTS)
    world.run_job(job, "IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    world.review(job)
    assert world.run_job(job, "PURGED").reason == "released"
    text = (world.home.released_dir(job) / "joined").read_text()
    told = {row["what"]: int(row["n"]) for row in csv.DictReader(io.StringIO(text))}
    assert told["patients"] == told["rows"] == expected > 0
    assert told["joined"] == told["series"] >= expected
    assert told["same day"] > expected // 2, (
        "dates of both moved alike; a series held for its text is not there"
    )
    assert told["columns"] == len(COLUMNS), "what the grant does not list stays behind"

    fewer = {name: said for name, said in COLUMNS.items() if name != "arm"}
    with world.ctx.db.read() as tx:
        before = projects.get(tx, world.project).grant
    world.grant(data=data(world, cohort, fewer), outputs=open_counts, version=2, supersedes=before)
    world.run_until(lambda: states(world) == {"north-ct": "READY", "outcomes": "DESTROYED"}, 30)
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)


def states(world: World) -> dict[str, str]:
    with world.ctx.db.read() as tx:
        return {copy.dataset: copy.state for copy in copies.of_project(tx, world.project)}
