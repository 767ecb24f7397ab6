"""A job's memory on real Slurm: its cgroup is the wall, the agent survives it and says what happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.clusters.slurm import SlurmCluster
from tests.support.world import World

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(400)]

MEM_MB = 768
TAKING = {
    "anonymous": "kept = [bytearray(b'x' * (64 << 20)) for _ in range(60)]",
    "memfd": "fd = os.memfd_create('x')\n    while True:\n        os.write(fd, b'x' * (8 << 20))",
    "files-and-anonymous": "fill('/tmp'); fill('/dev/shm'); kept = [bytearray(b'x' * (64 << 20)) for _ in range(60)]",
    "many-processes": (
        "[os.fork() or (bytearray(b'x' * (128 << 20)), time.sleep(60), os._exit(0)) for _ in range(16)]\n"
        "    time.sleep(60)"
    ),
}
CODE = """
import os, time

def fill(folder):
    try:
        for number in range(4096):
            with open(f'{folder}/fill-{number}', 'wb') as file:
                file.write(b'x' * (1 << 20))
    except OSError:
        pass

def run(context):
    __TAKE__
"""
TABLE = {"t": {"class": "table", "path": "t.csv", "counts": ["n"], "max-size": "1KiB"}}


def test_doctor_tries_the_wall_on_a_node(cluster: SlurmCluster) -> None:
    (found,) = [check for check in cluster.doctor() if check.name == "memory"]
    assert (found.ok, found.message) == (True, "the kernel ended a step that took more than its --mem")


@pytest.mark.parametrize("kind", TAKING)
def test_a_job_that_takes_more_than_it_has_ends_as_out_of_memory(
    kind: str, make_slurm_world: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_slurm_world()
    world.grant(limits=world.grant_value()["limits"] | {"isolation": "sandboxed"})
    job = world.submit_bundle(
        {"mine.py": CODE.replace("__TAKE__", TAKING[kind])},
        "mine:run",
        data={"slides": {"dataset": "demo-he"}},
        outputs=TABLE,
        resources={"nodes": 1, "cpus-per-task": 2, "mem": f"{MEM_MB}M", "time": "00:10:00"},
    )
    world.run_job(job, "PURGED", timeout_s=200)
    ended = world.job(job)
    with capsys.disabled():
        print(f"\nSlurm {kind}: {ended.reason}, {(ended.detail or {}).get('memory')}")
    assert ended.reason == "out-of-memory", world.describe()
    taken = (ended.detail or {})["memory"]
    assert (taken["had-mb"], taken["wall"]) == (MEM_MB, "cgroup")
