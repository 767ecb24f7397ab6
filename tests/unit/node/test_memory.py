"""Finding one's own cgroup, in both versions, from what the kernel writes; and what is told of memory."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.clusters import local_memory
from hdrs_hpc.node.memory import Cgroup, Watch, wall

MIB = 1 << 20


def machine(tmp_path: Path, version: int, limit: str, at: str = "slurm_n1/uid_1/job_2") -> tuple[Path, Path]:
    """A /proc and a cgroup tree like a node's; ``limit`` is the job's."""
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    leaf = top / at / "step_0/task_0"
    leaf.mkdir(parents=True)
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    none = "max" if version == 2 else str((1 << 63) - 4096)
    folder = leaf
    while folder != top:
        (folder / name).write_text(f"{limit if folder == top / at else none}\n")
        folder = folder.parent
    line = f"0::/{at}/step_0/task_0" if version == 2 else f"9:cpu,memory:/{at}/step_0/task_0\n0::/"
    (proc / "self/cgroup").write_text(f"3:cpuset:/\n{line}\n")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,memory"
    (proc / "self/mountinfo").write_text(f"30 23 0:26 / {top} rw,relatime shared:9 - {kind}\n")
    return proc, leaf


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_the_job_above_the_step_is_found(tmp_path: Path, version: int) -> None:
    proc, leaf = machine(tmp_path, version, str(1024 * MIB))
    found = Cgroup.find(proc)
    assert found is not None
    assert (found.folder, found.version, found.limit_bytes) == (leaf, version, 1024 * MIB)
    assert wall(1024, found) == "cgroup"
    assert wall(2048, found) == "cgroup"
    assert wall(512, found) == "watched"  # it holds the job to twice what it asked for


@pytest.mark.parametrize(("version", "none"), [(1, str((1 << 63) - 4096)), (2, "max")])
def test_no_limit_is_no_wall(tmp_path: Path, version: int, none: str) -> None:
    proc, _ = machine(tmp_path, version, none)
    assert Cgroup.find(proc) is None
    assert wall(1024, None) == "watched"


def test_a_machine_that_tells_nothing_has_no_wall(tmp_path: Path) -> None:
    assert Cgroup.find(tmp_path) is None


@pytest.mark.parametrize(("version", "name"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_kills_by_the_kernel_are_counted_from_the_start(tmp_path: Path, version: int, name: str) -> None:
    proc, leaf = machine(tmp_path, version, str(512 * MIB))
    (leaf / name).write_text("low 0\noom 3\noom_kill 2\n")
    watch = Watch(512, 0, tmp_path, Cgroup.find(proc))
    assert watch.killed() is None
    (leaf / name).write_text("low 0\noom 9\noom_kill 3\n")
    taken = watch.killed()
    assert taken is not None
    assert (taken.had_mb, taken.wall) == (512, "cgroup")
    assert taken.took_mb >= 512


HOLDING = """
import mmap, os, sys, time
what, size = sys.argv[1], int(sys.argv[2])
if what == "private":
    kept = bytearray(b"x" * size)
elif what == "memfd":
    fd = os.memfd_create("kept")
    os.write(fd, b"x" * size)
elif what == "mapped-memfd":
    fd = os.memfd_create("kept")
    os.write(fd, b"x" * size)
    kept = mmap.mmap(fd, size)
    sum(kept[at] for at in range(0, size, 4096))
elif what == "shared":
    kept = mmap.mmap(-1, size)
    kept.write(b"x" * size)
    for _ in range(3):
        if os.fork() == 0:
            sum(kept[at] for at in range(0, size, 4096))
            time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("what", ["private", "memfd", "mapped-memfd", "shared"])
def test_each_kind_of_memory_is_counted_once(tmp_path: Path, what: str) -> None:
    size = 96 * MIB
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDING, what, str(size)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        watch = Watch(1, 0, tmp_path, None)
        watch._files = Path("/sys")  # a file system without blocks
        from hdrs_hpc.node import memory
        from hdrs_hpc.node.sandbox import processes

        pids = [child.pid, *processes.descendants(child.pid)]
        taken = memory._taken_bytes(pids, Path("/sys"), memory._held_files(pids))
    finally:
        os.killpg(child.pid, 9)
        child.wait()
        child.stdout.close()
    assert size <= taken < size + 40 * MIB


def test_what_is_told_of_memory_is_in_coarse_steps(tmp_path: Path) -> None:
    watch = Watch(1000, 0, tmp_path, None)
    told = {watch._taken(taken * MIB).took_mb for taken in range(1000, 10_000, 7)}
    assert len(told) <= 32  # 5 bits
    assert max(told) == 2000


def test_a_workload_with_all_its_threads_is_crowded(tmp_path: Path) -> None:
    assert Watch(1000, 1, tmp_path, None).crowded([os.getpid()])
    assert not Watch(1000, 10_000, tmp_path, None).crowded([os.getpid()])
    assert not Watch(1000, 0, tmp_path, None).crowded([os.getpid()])


def test_a_bound_is_made_beside_us_in_version_2_and_below_us_in_version_1(tmp_path: Path) -> None:
    for version, parent in ((1, "memory/a/b"), (2, "cgroup/a")):
        proc, top = tmp_path / f"proc{version}", tmp_path / str(version)
        (proc / "self").mkdir(parents=True)
        (top / parent).mkdir(parents=True)
        (proc / "self/cgroup").write_text("4:memory:/a/b\n" if version == 1 else "0::/a/b\n")
        bound = local_memory.make("hdrs-x", 64, proc, top / "memory", top / "cgroup")
        assert bound.folder == top / parent / "hdrs-x"
        limit = "memory.limit_in_bytes" if version == 1 else "memory.max"
        assert (bound.folder / limit).read_text() == str(64 * MIB)


def test_where_nothing_can_be_made_memory_is_watched(tmp_path: Path) -> None:
    assert local_memory.make("hdrs-x", 64, tmp_path).kind in ("watched", "scope")


def test_anonymous_maps_are_known_by_the_kernel_as_we_read_them() -> None:
    kept = mmap.mmap(-1, 4096)
    kept.write(b"x")
    assert b"Pss:" in Path("/proc/self/smaps").read_bytes()
