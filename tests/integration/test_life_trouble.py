"""Trouble around a life: too many broken files, a full scratch.  What waits says so, and goes on by itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hdrs_hpc.broker.store import alerts, copies
from tests.conftest import require
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RADIOLOGY = {"ct": {"dataset": "demo-ct-mr"}}


@pytest.fixture(scope="module")
def first(make_world: Callable[..., World]) -> World:
    return make_world()


def alert_codes(world: World) -> set[str]:
    with world.ctx.db.read() as tx:
        return {alert.code for alert in alerts.every(tx)}


def test_more_broken_files_than_the_grant_allows(first: World) -> None:
    world = first.beside("too-many")
    data = world.grant_value()["data"]
    data["demo-ct-mr"]["max-failed"] = 0
    world.grant(data=data)
    job = world.run_job(world.submit(data=RADIOLOGY), "PURGED")
    assert (job.outcome, job.reason) == ("FAILED", "too-many-failed")
    with world.ctx.db.read() as tx:
        (copy,) = copies.of_project(tx, world.project)
    assert (copy.state, copy.reason) == ("DESTROYED", "too-many-failed")
    world.run_until(lambda: proofs.events(world)["copy-removed"] == 1, 20)
    cluster = world.ctx.cluster(world.cluster, world.project)
    assert cluster.list_tree("hdrs-hpc", world.project, "copies") == [], "unlinked before the project ends"
    again = world.run_job(world.submit(data=RADIOLOGY), "PURGED")
    assert again.reason == "too-many-failed", "a new copy was tried for the new job"
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)


@pytest.fixture
def small_scratch(first: World) -> Iterator[tuple[World, Callable[[int], None]]]:
    """A project whose copies and attempts lie on a file system of a few megabytes, which can be enlarged."""
    require(os.geteuid() == 0, "mounting a small file system needs root")
    world = first.beside("full-scratch")
    folder = Path(world.ctx.cluster(world.cluster, world.project).scratch_path("hdrs-hpc", world.project))
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "hdrs-test", str(folder)], check=True)

    def enlarge(mebibytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={mebibytes}m", str(folder)], check=True)

    yield world, enlarge
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root_parts
def test_a_full_scratch_waits_and_goes_on_when_there_is_room(
    small_scratch: tuple[World, Callable[[int], None]],
) -> None:
    world, enlarge = small_scratch
    world.grant()
    job = world.submit(data=RADIOLOGY, outputs={"summary": world.spec_value()["outputs"]["summary"]})
    world.run_until(lambda: "scratch-full" in alert_codes(world), 60)
    assert world.job(job).state == "STAGING"
    enlarge(300)
    assert world.run_job(job, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    assert "scratch-full" not in alert_codes(world)
    check_broken_files_are_named_by_number(world)
    world.review(job)
    assert world.run_job(job, "PURGED").reason == "released"
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)


def check_broken_files_are_named_by_number(world: World) -> None:
    with world.ctx.db.read() as tx:
        (copy,) = copies.of_project(tx, world.project)
    assert copy.report is not None
    refused = {code: told for code, told in copy.report["refused"].items() if code != "opted-out"}
    numbers = [number for told in refused.values() for number in told["items"]]
    assert len(numbers) == world.archive.odd_files
    # The image without a place in the patient is no broken file: a rule keeps it out, it may be a screen with text.
    assert copy.report["failed"] == world.archive.odd_files - 1
    assert all(isinstance(number, int) for number in numbers)
    told = json.dumps(copy.report)
    names = {part for path in Path(world.archive.radiology).rglob("*") for part in path.parts if " " in part}
    assert names
    assert not [name for name in names if name in told]
