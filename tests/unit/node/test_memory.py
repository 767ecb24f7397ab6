"""Finding one's own cgroup, in both versions, from what the kernel writes; and what is told of memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.clusters import local_memory
from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node import memory, memory_watch
from hdrs_hpc.node.memory_watch import Cgroup, wall
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol.outputs import Ending, MemoryTaken
from hdrs_hpc.protocol.progress import Stop

MIB = 1 << 20
FILES = Path("/sys")
"""A file system without blocks, in the place of an attempt's tmpfs."""


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


def looking(files: Path, mem_mb: int, most_threads: int = 0) -> memory_watch.Watch:
    own = Path("/proc/self/smaps").open("rb")  # noqa: SIM115
    return memory_watch.Watch(os.getpid(), own, mem_mb, most_threads, files)


@pytest.mark.parametrize(("version", "name"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_kills_by_the_kernel_are_counted_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, name: str
) -> None:
    proc, leaf = machine(tmp_path, version, str(4096 * MIB))
    (leaf / name).write_text("low 0\noom 3\noom_kill 2\n")
    found = Cgroup.find(proc)
    monkeypatch.setattr(Cgroup, "find", lambda: found)
    watch = looking(FILES, 4096)
    assert (watch.wall, watch.look()[0]) == ("cgroup", "fine")
    (leaf / name).write_text("low 0\noom 9\noom_kill 3\n")
    assert watch.look() == ("memory", 4096)


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


@contextlib.contextmanager
def holding(what: str, size: int) -> Iterator[None]:
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDING, what, str(size)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield
    finally:
        os.killpg(child.pid, 9)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("what", ["private", "memfd", "mapped-memfd", "shared"])
def test_each_kind_of_memory_is_counted_once(what: str) -> None:
    size = 96 * MIB
    before = looking(FILES, 1).look()[1]
    with holding(what, size):
        found, taken_mb = looking(FILES, 1).look()
    assert found == "memory"
    assert 96 <= taken_mb - before < 96 + 40


def test_memory_that_the_agent_shares_with_its_workload_is_counted_once() -> None:
    """As the slots of the data server are: a memory file, mapped here and held by a child."""
    size = 96 * MIB
    before = looking(FILES, 1).look()[1]
    fd = os.memfd_create("slot", 0)
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as slot:
        slot.write(b"x" * size)
        alone = looking(FILES, 1).look()[1]
        child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=(fd,))
        try:
            passed = looking(FILES, 1).look()[1]
        finally:
            child.kill()
            child.wait()
            os.close(fd)
    # Told in whole MiB, and this process may give a little of its other memory back meanwhile.
    assert 96 - 3 <= alone - before < 96 + 16
    assert 96 - 3 <= passed - before < 96 + 40


def test_a_workload_with_all_its_threads_is_crowded() -> None:
    with holding("private", MIB):
        assert looking(FILES, 100_000, 1).look()[0] == "crowded"
        assert looking(FILES, 100_000, 10_000).look()[0] == "fine"
        assert looking(FILES, 100_000, 0).look()[0] == "fine"


def test_the_workload_is_made_dispensable_and_the_watch_is_not() -> None:
    watch = memory.Watch(100_000, 0, FILES)
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        deadline = time.monotonic() + 60
        marked = Path(f"/proc/{child.pid}/oom_score_adj")
        while marked.read_text().strip() != "1000" and time.monotonic() < deadline:
            assert watch.look(0.05) is None
        assert marked.read_text().strip() == "1000"
        for pid in (watch._process.pid, *die_with_parent.descendants(watch._process.pid)):
            assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() != "1000"
    finally:
        child.kill()
        child.wait()
        watch.close()


def test_the_watch_holds_three_pipes_and_the_sizes_of_our_mappings() -> None:
    """No descriptor that leads to a key, and an environment with nothing of ours but where libraries are."""
    secret = os.memfd_create("secret", 0)
    os.set_inheritable(secret, True)
    watch = memory.Watch(100_000, 0, FILES)
    try:
        (pid,) = die_with_parent.descendants(watch._process.pid)
        links = sorted(entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir())
        kinds = [str(link).split(":")[0] for link in links]
        assert kinds == ["/dev/null", f"/proc/{os.getpid()}/smaps", "pipe", "pipe"]
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {entry.partition(b"=")[0] for entry in environment} <= {b"", b"LD_LIBRARY_PATH"}
    finally:
        watch.close()
        os.close(secret)


def test_what_is_too_much_ends_the_workload_with_what_it_took() -> None:
    watch = memory.Watch(100_000, 0, FILES)
    assert watch.look(1) is None
    assert watch.end() is None
    watch.close()
    with holding("private", 96 * MIB):
        watch = memory.Watch(50, 0, FILES)
        ended = watch.look(60)
        assert watch.end() == ended
        watch.close()
    assert ended is not None
    assert ended.ending is Ending.OUT_OF_MEMORY


@pytest.mark.parametrize("victim", ["watch", "guard"])
def test_an_attempt_whose_watch_dies_is_ended(victim: str) -> None:
    watch = memory.Watch(100_000, 0, FILES)
    try:
        (pid,) = die_with_parent.descendants(watch._process.pid)
        os.kill(pid if victim == "watch" else watch._process.pid, signal.SIGKILL)
        with pytest.raises(StoppedEarly) as stopped:
            for _ in range(200):
                assert watch.look(0.05) is None
        assert stopped.value.stop is Stop.UNWATCHED
    finally:
        watch.close()
    watch = memory.Watch(100_000, 0, FILES)
    (pid,) = die_with_parent.descendants(watch._process.pid)
    os.kill(pid if victim == "watch" else watch._process.pid, signal.SIGKILL)
    with pytest.raises(StoppedEarly):
        watch.end()
    watch.close()


def test_a_watch_that_falls_silent_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = memory.Watch(100_000, 0, FILES)
    try:
        (pid,) = die_with_parent.descendants(watch._process.pid)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(memory, "SILENT_S", 0.5)
        with pytest.raises(StoppedEarly):
            for _ in range(200):
                assert watch.look(0.05) is None
        with pytest.raises(StoppedEarly):
            watch.end()
    finally:
        watch.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"watched fine\n",
        b"watched memory x\n",
        b"watched memory 1 2\n",
        b"\xff fine 1\n",
        b"watched other 1\n",
    ],
)
def test_words_that_are_none_end_the_attempt(said: bytes) -> None:
    with pytest.raises(StoppedEarly):
        unstarted(1000)._understand(said)


def unstarted(mem_mb: int) -> memory.Watch:
    watch = memory.Watch.__new__(memory.Watch)
    watch._mem_mb = mem_mb
    return watch


def test_what_is_told_of_memory_is_in_coarse_steps() -> None:
    """Whatever the watch says: it reads what a workload chose."""
    told = set()
    for taken in (*range(1000, 10_000, 7), -1, 0, 1 << 80):
        ended = unstarted(1000)._understand(b"cgroup fine 3\nwatched memory %d\n" % taken)
        assert ended is not None
        assert ended.memory is not None
        told.add(ended.memory.took_mb)
    assert len(told) <= 40
    assert max(told) == 2000
    ended = unstarted(1000)._understand(b"cgroup memory 1001\n")
    assert ended is not None
    assert ended.memory == MemoryTaken(1000, 1050, "cgroup")


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
