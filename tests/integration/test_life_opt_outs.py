"""A patient withdraws while a project works: from the signed change to the certificate that names both lists."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hdrs_hpc.broker.controller.steps import build_copy
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import copies, jobs
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

GRACE_S = 4.0
BOUND_S = 60.0
"""What the test allows for ticks, the cancelling of a job and the unlinking beside the grace, on a loaded machine."""
CODE = """
import csv, time

def run(context):
    rows = context.data["ct"].index().to_pylist()
    with context.output("patients").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["what", "n"])
        table.writerow(["patients", len({row["patient"] for row in rows})])
    time.sleep(context.parameters.get("seconds", 0))
"""
COLUMNS = {"what": {"key": ["patients"]}, "n": {"count": "patients"}}
OUTPUTS = {"patients": {"class": "table", "path": "patients.csv", "columns": COLUMNS, "max-size": "1MiB"}}
DATA = {"ct": {"dataset": "demo-ct-mr"}}


def submit(world: World, name: str, seconds: int = 0) -> str:
    code = CODE.replace('context.parameters.get("seconds", 0)', str(seconds))
    return world.submit_bundle({"mine.py": code}, "mine:run", data=DATA, outputs=OUTPUTS, name=name)


def grant(world: World) -> None:
    data = world.grant_value()["data"]
    world.grant(
        data={"demo-ct-mr": data["demo-ct-mr"]},
        outputs={"reviewers": 2, "table": {"min-count": 1, "round": 1}},
    )


def patients_of(world: World, job: str) -> int:
    """What a job that only counts was released with."""
    world.run_job(job, "IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    world.review(job)
    assert world.run_job(job, "PURGED").reason == "released"
    text = (world.home.released_dir(job) / "patients").read_text()
    return next(int(row["n"]) for row in csv.DictReader(io.StringIO(text)) if row["what"] == "patients")


def in_the_archive(world: World) -> list[str]:
    """Ids of patients with images who are not on the list."""
    folders = sorted(path for path in Path(world.archive.radiology).iterdir() if path.is_dir())
    firsts = (next(folder.glob("*0/*")) for folder in folders)
    listed = [str(pydicom.dcmread(path, stop_before_pixels=True).PatientID) for path in firsts]
    return [patient for patient in listed if patient not in world.opted_out]


def staged(world: World) -> list[Copy]:
    with world.ctx.db.read() as tx:
        return copies.of_project(tx, world.project)


def is_running(world: World, job: str) -> bool:
    """Whether its workload has begun, with its keys handed over."""
    with world.ctx.db.read() as tx:
        (attempt,) = jobs.attempts_of(tx, job) or (None,)
    return (
        attempt is not None
        and attempt.handover == "closed"
        and (attempt.progress or {}).get("phase") == "running"
    )


def holds_key(world: World, copy: str) -> bool:
    return any(key.holder == copy for key in world.ctx.ask(m.Inspect(world.project)).live)


def test_a_patient_withdraws_while_jobs_run_and_wait(make_world: Any) -> None:
    world: World = make_world()
    world.ctx.settings = dataclasses.replace(world.ctx.settings, opt_out_grace_s=GRACE_S)
    grant(world)
    before = patients_of(world, submit(world, "before"))
    (old,) = staged(world)
    runs = submit(world, "runs", seconds=600)
    world.run_until(lambda: is_running(world, runs), 120)
    drained = world.home.clusters_dir / "local.drained"
    drained.touch()
    waits = submit(world, "waits")
    world.run_job(waits, "QUEUED")

    started = time.monotonic()
    new_list = world.opt_out("demo-ct-mr", "add", [in_the_archive(world)[0]])
    assert not holds_key(world, old.id), "its key is gone before the custodian has the receipt"
    world.run_until(lambda: world.job(runs).state in ("PURGING", "PURGED"), 60)
    stopped_s = time.monotonic() - started
    assert (world.job(runs).outcome, world.job(runs).reason) == ("CANCELLED", "opt-out-changed")
    assert GRACE_S - 1 <= stopped_s < GRACE_S + BOUND_S, "the database counts in whole seconds"
    world.run_until(
        lambda: next(copy for copy in staged(world) if copy.id == old.id).unlinked is not None, 60
    )
    gone_s = time.monotonic() - started
    assert gone_s < GRACE_S + BOUND_S
    print(
        f"old copy's key gone at once, its job stopped after {stopped_s:.1f} s, its objects after {gone_s:.1f} s"
    )

    world.run_until(lambda: any(copy.state == "READY" for copy in staged(world)), 60)
    (new,) = [copy for copy in staged(world) if copy.state == "READY"]
    assert (new.opt_out, new.recipe, new.version) == (new_list, old.recipe, old.version)
    drained.unlink()
    assert patients_of(world, waits) == before - 1, "it waited in the queue, and was given the new copy"
    assert patients_of(world, submit(world, "after")) == before - 1

    sealed = {entry["opt-out-list"]: entry["opt-out-about"] for entry in proofs.details(world, "copy-sealed")}
    assert sealed == {old.opt_out: 10, new_list: 10}, "one patient more does not show in the length"
    assert proofs.details(world, "attempt-cancelled") == [{"reason": "opt-out-changed"}]
    world.run_until(lambda: world.job(runs).state == "PURGED", 60)
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
    told = json.loads(Envelope.parse(proofs.certificate_of(world)).payload)["copies"]
    assert {row["opt-out-list"]: row["opt-out-about"] for row in told} == sealed
    check_no_id_left(world, in_the_archive(world)[0])


def check_no_id_left(world: World, patient: str) -> None:
    """The id is in the data zone's own lists, and nowhere else: not in database, log, documents or scratch."""
    found = [
        path.relative_to(world.root)
        for folder in (world.home.root, world.root / "cluster", world.root / "audit-export")
        for path in folder.rglob("*")
        if path.is_file()
        and not {"inventories", "runtime"} & set(path.parts)  # names of the archive's files; an interpreter
        and patient.encode() in path.read_bytes()
    ]
    assert found and all(path.parts[:2] == ("broker", "opt-outs") for path in found), found


def test_a_list_that_changes_while_the_stager_works_ends_that_copy(make_world: Any, monkeypatch: Any) -> None:
    world: World = make_world()
    grant(world)
    monkeypatch.setattr(build_copy.Seal, "act", lambda self, ctx: None)  # a stager that is not done yet
    job = submit(world, "early")
    world.run_until(lambda: any(copy.state == "STAGING" for copy in staged(world)), 60)
    (old,) = staged(world)
    first, second = in_the_archive(world)[:2]
    lists = [world.opt_out("demo-ct-mr", "add", [first]), world.opt_out("demo-ct-mr", "add", [second])]
    assert len({old.opt_out, *lists}) == 3
    monkeypatch.undo()
    world.run_job(job, "IN_REVIEW", "PURGED")
    assert world.job(job).state == "IN_REVIEW", world.describe()
    states = {copy.opt_out: (copy.state, copy.reason) for copy in staged(world)}
    assert states == {old.opt_out: ("DESTROYED", "opt-out-changed"), lists[1]: ("READY", None)}
    assert [entry["opt-out-list"] for entry in proofs.details(world, "copy-sealed")] == [lists[1]]
    proofs.check_log(world)


def test_nothing_is_staged_of_a_dataset_of_which_nobody_says_who_opted_out(make_world: Any) -> None:
    world: World = make_world()
    version = world.register("silent", "radiology", world.archive.radiology, say_opt_outs=False)
    granted = {"silent": {**world.grant_value()["data"]["demo-ct-mr"], "version": version}}
    world.grant(data=granted, outputs={"reviewers": 2, "table": {"min-count": 1, "round": 1}})
    inputs = {"ct": {"dataset": "silent"}}
    job = world.submit_bundle({"mine.py": CODE}, "mine:run", data=inputs, outputs=OUTPUTS)
    assert world.run_job(job, "PURGED").reason == "opt-out-not-stated"
    assert staged(world) == []
    world.opt_out("silent", "nobody")
    again = world.submit_bundle({"mine.py": CODE}, "mine:run", data=inputs, outputs=OUTPUTS, name="again")
    world.run_until(lambda: any(copy.state in ("STAGING", "READY") for copy in staged(world)), 60)
    (copy,) = staged(world)
    for path in world.home.opt_outs_dir.iterdir():
        path.unlink()
    with pytest.raises(HdrsError) as refused:
        world.opt_out("silent", "add", world.opted_out)
    assert refused.value.code == "opt-out-ids-missing", "a lost list is no empty one"
    assert world.job(again).state != "PURGED" and copy.opt_out
