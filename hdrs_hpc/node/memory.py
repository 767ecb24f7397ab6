"""The bound on a node's memory: what an attempt takes, who bounds it, and whether the kernel had to.

One budget, ``mem``, holds all of an attempt on a node: private memory of every process, shared mappings, files in
memory that are still open, and the tmpfs with ``/tmp``, ``/dev/shm`` and the outputs.

The wall is the job's own cgroup where it has a limit (``cgroup``): the kernel then kills, and begins with the
workload, which is marked for it.  Elsewhere nothing but the agent's eyes bound it (``watched``): it looks every
tenth of a second, and what is taken between two looks is over the budget for that long.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.node.sandbox.processes import memory_bytes, threads
from hdrs_hpc.protocol.outputs import MemoryTaken, MemoryWall

LOOK_S = 0.1
SLOWEST_SHARE = 10
"""A look that takes long (many processes) is followed by so many times its length of rest."""
STEPS = 20
"""Steps of the budget in which it is told how much was taken: a workload must not write by it."""
SLACK_MB = 64
"""A cgroup whose limit is this much above ``mem`` is still the job's own: sites round up."""
DISPENSABLE = b"1000"
_PROC = Path("/proc")
_MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+)")


@dataclass(frozen=True)
class Cgroup:
    """The memory controller's view of this process; ``version`` 1 or 2."""

    folder: Path
    version: int
    limit_bytes: int
    """The smallest limit of the folder and those above it."""

    @classmethod
    def find(cls, proc: Path = _PROC) -> Cgroup | None:
        """Our own, or None where there is no memory controller or no limit.  Raises nothing."""
        try:
            lines = (proc / "self/cgroup").read_text("utf-8").splitlines()
            mounts = (proc / "self/mountinfo").read_text("utf-8").splitlines()
        except OSError:
            return None
        for version, name in _memberships(lines):
            for root, mount in _mounts(mounts, version):
                if name == root or name.startswith(f"{root.rstrip('/')}/"):
                    top, below = Path(mount), name[len(root.rstrip("/")) :].strip("/")
                    limit = _limit(top, below, version)
                    return None if limit is None else cls(top / below, version, limit)
        return None

    def kills(self) -> int:
        """How often the kernel has killed in it for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        try:
            found = re.search(r"^oom_kill (\d+)$", (self.folder / name).read_text("ascii"), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def peak_bytes(self) -> int:
        """The most it ever held, 0 where the kernel does not say."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        try:
            return int((self.folder / name).read_text("ascii"))
        except (OSError, ValueError):
            return 0


def _memberships(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Version and path of the hierarchies that may have the memory controller, the likelier first."""
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    yield from ((1, path) for _, names, path in parts if "memory" in names.split(","))
    yield from ((2, path) for number, names, path in parts if number == "0" and not names)


def _mounts(lines: list[str], version: int) -> Iterator[tuple[str, str]]:
    """Root and place of the mounts of that hierarchy (proc(5), mountinfo)."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if (version == 2 and kind[0] == "cgroup2") or (
            version == 1 and kind[0] == "cgroup" and "memory" in kind[2].split(",")
        ):
            yield fields[3], fields[4]


def _limit(top: Path, below: str, version: int) -> int | None:
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    limits = []
    folder = top / below
    while True:
        with contextlib.suppress(OSError, ValueError):  # "max", or no such file at the root
            limits.append(int((folder / name).read_text("ascii")))
        if folder == top:
            break
        folder = folder.parent
    # Version 1 says "none" with a number close to 2^63.
    found = [limit for limit in limits if limit < 1 << 60]
    return min(found) if found else None


def wall(mem_mb: int, cgroup: Cgroup | None) -> MemoryWall:
    """Who bounds an attempt of ``mem_mb`` here."""
    held = cgroup is not None and cgroup.limit_bytes <= (mem_mb + SLACK_MB) << 20
    return "cgroup" if held else "watched"


class Watch:
    """Looks at the attempt's memory and processes while its workload runs.  ``files``: its tmpfs."""

    def __init__(self, mem_mb: int, most_threads: int, files: Path, cgroup: Cgroup | None) -> None:
        self._mem_mb = mem_mb
        self._most_threads = most_threads
        self._files = files
        self._cgroup = cgroup if wall(mem_mb, cgroup) == "cgroup" else None
        self._kills = self._cgroup.kills() if self._cgroup else 0
        self._due = 0.0
        self.peak_bytes = 0
        """The most that was seen by looking."""

    def look(self, pids: Callable[[], list[int]]) -> MemoryTaken | None:
        """What was taken, where that is more than there is.  Cheap where it is not yet time to look again."""
        now = time.monotonic()
        if now < self._due:
            return None
        found = self._look([os.getpid(), *pids()])
        self._due = now + max(LOOK_S, SLOWEST_SHARE * (time.monotonic() - now))
        return found

    def killed(self) -> MemoryTaken | None:
        """What was taken, where the kernel killed something of the attempt for it."""
        if self._cgroup is None or self._cgroup.kills() == self._kills:
            return None
        return self._taken(max(self._cgroup.peak_bytes(), self._mem_mb << 20))

    def crowded(self, pids: list[int]) -> bool:
        """Whether the workload has as many threads as it may have."""
        return self._most_threads > 0 and threads(pids) >= self._most_threads

    def _look(self, pids: list[int]) -> MemoryTaken | None:
        for pid in pids[1:]:
            _make_dispensable(pid)
        if (killed := self.killed()) is not None:
            return killed
        most = self._mem_mb << 20
        taken = memory_bytes(pids) + _files_bytes(
            self._files
        )  # never less than is taken: shared pages count twice
        held = _held_files(pids)
        if taken + sum(held.values()) > most:
            taken = _taken_bytes(pids, self._files, held)
        else:
            taken += sum(held.values())
        self.peak_bytes = max(self.peak_bytes, taken)
        return self._taken(taken) if taken > most else None

    def _taken(self, taken_bytes: int) -> MemoryTaken:
        step = max(1, self._mem_mb // STEPS)
        steps = -(-(taken_bytes >> 20) // step)
        took_mb = min(steps, 2 * STEPS) * step
        return MemoryTaken(self._mem_mb, took_mb, "cgroup" if self._cgroup else "watched")


def _make_dispensable(pid: int) -> None:
    """The kernel kills the workload before its agent, also where the workload asked for other."""
    path = _PROC / str(pid) / "oom_score_adj"
    with contextlib.suppress(OSError):
        if path.read_bytes().strip() != DISPENSABLE:
            path.write_bytes(DISPENSABLE)


def _files_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _held_files(pids: list[int]) -> dict[int, int]:
    """Memory of files without a name (memfd) that somebody has open, mapped or not, by inode."""
    found: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(_PROC / str(pid) / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):  # noqa: PTH115
                        about = entry.stat()
                        if stat.S_ISREG(about.st_mode):
                            found[about.st_ino] = about.st_blocks * 512
    return found


def _taken_bytes(pids: list[int], files: Path, held: dict[int, int]) -> int:
    """Exactly: the share of each process in its mappings, but files of the tmpfs and ``held`` ones once each."""
    device = files.stat().st_dev
    total = _files_bytes(files) + sum(held.values())
    for pid in pids:
        try:
            total += _share_bytes((_PROC / str(pid) / "smaps").read_bytes(), device, held)
        except PermissionError:  # it made itself unreadable: all that it maps is counted
            total += memory_bytes([pid])
        except OSError:
            continue  # it ended
    return total


def _share_bytes(smaps: bytes, device: int, held: dict[int, int]) -> int:
    """Pages of a library or a file on disk count too: they are charged to the job, though the kernel can drop them."""
    total, counted = 0, True
    for line in smaps.splitlines():
        found = _MAPPING.match(line)
        if found is not None:
            here = os.makedev(int(found[1], 16), int(found[2], 16))
            counted = here != device and int(found[3]) not in held
        elif counted and line.startswith(b"Pss:"):
            total += int(line.split()[1]) << 10
    return total
