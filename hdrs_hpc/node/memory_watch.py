"""Looks at the memory and the processes of one attempt, and tells the agent what it finds.

A process of its own, started by the agent (:mod:`hdrs_hpc.node.memory`).  It holds no key: what it reads in /proc
was chosen by the workload, and is read where there is nothing to gain.  It imports nothing of ours but the reading
of /proc.

One budget, ``mem``, holds all of an attempt on a node: private memory of every process (the agent and this one
among them), shared mappings, files in memory that are still open (that of the flavour among them), and the tmpfs with
``/tmp``, ``/dev/shm`` and the outputs.

The wall is the job's own cgroup where it has a limit (``cgroup``): the kernel then kills, and begins with the
workload, which is marked for it.  Elsewhere nothing but these looks bound it (``watched``), one every tenth of a
second, and what is taken between two looks is over the budget for that long.

After each look it writes a line, ``<wall> <found> <MiB>``; after ``memory`` and ``crowded`` it ends.  When its
standard input ends it looks once more, says what it found, and ends with code 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from hdrs_hpc.core.die_with_parent import descendants
from hdrs_hpc.node.processes import memory_bytes

LOOK_S = 0.1
SLOWEST_SHARE = 10
"""A look that takes much of a processor (many processes) is followed by so many times as much rest."""
LONGEST_REST_S = 10.0
SLACK_MB = 64
"""A cgroup whose limit is this much above ``mem`` is still the job's own: sites round up."""
DISPENSABLE = b"1000"
_PROC = Path("/proc")
_MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+)")
Found = Literal["fine", "memory", "crowded"]


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


def wall(mem_mb: int, cgroup: Cgroup | None) -> Literal["cgroup", "watched"]:
    """Who bounds an attempt of ``mem_mb`` here."""
    held = cgroup is not None and cgroup.limit_bytes <= (mem_mb + SLACK_MB) << 20
    return "cgroup" if held else "watched"


class Watch:
    """``agent``: its pid.  ``own``: its ``smaps``, which the kernel gives to nobody else.  ``files``: each a tmpfs."""

    def __init__(self, agent: int, own: BinaryIO, mem_mb: int, most_threads: int, *files: Path) -> None:
        self._agent = agent
        self._own = own
        self._mem_mb = mem_mb
        self._most_threads = most_threads
        self._files = files
        cgroup = Cgroup.find()
        self.wall = wall(mem_mb, cgroup)
        self._cgroup = cgroup if self.wall == "cgroup" else None
        self._kills = self._cgroup.kills() if self._cgroup else 0

    def look(self) -> tuple[Found, int]:
        """What was found, and how many MiB the attempt holds (``memory``: took)."""
        pids = descendants(self._agent)
        workload = [pid for pid in pids if pid not in (os.getpid(), os.getppid())]
        for pid in workload:
            _make_dispensable(pid)
        if self._cgroup is not None and self._cgroup.kills() != self._kills:
            return "memory", max(self._cgroup.peak_bytes() >> 20, self._mem_mb)
        taken_mb = -(-self._taken_bytes(pids) >> 20)
        if taken_mb > self._mem_mb:
            return "memory", taken_mb
        crowded = self._most_threads > 0 and _threads(workload) >= self._most_threads
        return "crowded" if crowded else "fine", taken_mb

    def _taken_bytes(self, pids: list[int]) -> int:
        """Never less than is taken: exact where that could be more than there is, else shared pages count twice."""
        held = _held_files(pids)
        self._own.seek(0)
        devices = {folder.stat().st_dev for folder in self._files}
        files = sum(map(_files_bytes, self._files)) + sum(held.values())
        fixed = files + _share_bytes(self._own.read(), devices, held)
        taken = fixed + memory_bytes(pids)
        return taken if taken <= self._mem_mb << 20 else fixed + _processes_bytes(pids, devices, held)


def main(argv: list[str]) -> int:
    agent, own, mem_mb, most_threads = map(int, argv[:4])
    with os.fdopen(own, "rb", buffering=0) as smaps:
        watch = Watch(agent, smaps, mem_mb, most_threads, *map(Path, argv[4:]))
        rest_s, ending = 0.0, False
        while True:
            started = time.process_time()
            found, taken_mb = watch.look()
            os.write(1, f"{watch.wall} {found} {taken_mb}\n".encode("ascii"))
            if ending or found != "fine":
                return 0
            rest_s = max(LOOK_S, min(LONGEST_REST_S, SLOWEST_SHARE * (time.process_time() - started)))
            ending = bool(select.select([0], [], [], rest_s)[0])


def _threads(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += len(os.listdir(_PROC / str(pid) / "task"))  # noqa: PTH208
    return total


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


def _processes_bytes(pids: list[int], devices: set[int], held: dict[int, int]) -> int:
    """Exactly: the share of each process in its mappings, but none of a tmpfs (``devices``) and of ``held`` files."""
    total = 0
    for pid in pids:
        try:
            total += _share_bytes((_PROC / str(pid) / "smaps").read_bytes(), devices, held)
        except PermissionError:  # it made itself unreadable: all that it maps is counted
            total += memory_bytes([pid])
        except OSError:
            continue  # it ended
    return total


def _share_bytes(smaps: bytes, devices: set[int], held: dict[int, int]) -> int:
    """Pages of a library or a file on disk count too: they are charged to the job, though the kernel can drop them."""
    total, counted = 0, True
    for line in smaps.splitlines():
        found = _MAPPING.match(line)
        if found is not None:
            here = os.makedev(int(found[1], 16), int(found[2], 16))
            counted = here not in devices and int(found[3]) not in held
        elif counted and line.startswith(b"Pss:"):
            total += int(line.split()[1]) << 10
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
