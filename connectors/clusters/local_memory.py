"""The kernel's bound on the memory of a job of the local cluster, where this account may make one.

Run by file like the supervisor beside it: the standard library only.  A cgroup of the job's own is made beside or
below the one that we are in, which root may, and an account to which it was delegated.  Where systemd runs for the
user, it makes a scope instead.  Elsewhere there is none, and the node's agent watches (``hdrs_hpc/node/memory.py``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Bound:
    """What holds the next job: a cgroup to move into, or words that start its command in a scope."""

    folder: Path | None = None
    words: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "cgroup" if self.folder is not None else "scope" if self.words else "watched"

    def enter(self) -> None:
        """Move this process, and so all that it starts, into the cgroup; raises OSError."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()), "ascii")

    def remove(self) -> None:
        """Once nothing runs in it."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def make(name: str, mem_mb: int, proc: Path = Path("/proc"), v1: Path = _V1, v2: Path = _V2) -> Bound:
    """A bound of ``mem_mb`` for the job ``name``; a :class:`Bound` without anything where none can be made."""
    for parent, version in _parents(proc, v1, v2):
        folder = parent / name
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            if _limit(folder, mem_mb, version):
                return Bound(folder)
            folder.rmdir()
    return Bound(words=_scope(name, mem_mb))


def forget(name: str) -> None:
    """Remove what a supervisor that was killed left: an empty cgroup of this name."""
    for parent, _ in _parents(Path("/proc"), _V1, _V2):
        with contextlib.suppress(OSError):
            (parent / name).rmdir()


def _parents(proc: Path, v1: Path, v2: Path) -> list[tuple[Path, int]]:
    """Where a cgroup of ours could be made: in version 1 below our own, in version 2 beside it (no inner processes)."""
    try:
        lines = [line.split(":", 2) for line in (proc / "self/cgroup").read_text("utf-8").splitlines()]
    except OSError:
        return []
    found = [(v1 / path.lstrip("/"), 1) for _, names, path in lines if "memory" in names.split(",")]
    own = [path for number, names, path in lines if number == "0" and not names]
    found += [((v2 / path.lstrip("/")).parent, 2) for path in own if path != "/"]
    return [(folder, version) for folder, version in found if os.access(folder, os.W_OK)]


def _limit(folder: Path, mem_mb: int, version: int) -> bool:
    limit = str(mem_mb << 20)
    if version == 1:
        (folder / "memory.limit_in_bytes").write_text(limit, "ascii")
        with contextlib.suppress(OSError):  # without it, nothing counts swap
            (folder / "memory.memsw.limit_in_bytes").write_text(limit, "ascii")
        return int((folder / "memory.limit_in_bytes").read_text("ascii")) == mem_mb << 20
    (folder / "memory.max").write_text(limit, "ascii")
    with contextlib.suppress(OSError):
        (folder / "memory.swap.max").write_text("0", "ascii")
    return int((folder / "memory.max").read_text("ascii")) == mem_mb << 20


def _scope(name: str, mem_mb: int) -> tuple[str, ...]:
    """A scope of the user's systemd: the command stays our child (systemd-run(1), ``--scope``)."""
    program = shutil.which("systemd-run", path="/usr/bin:/bin")
    runtime = Path(f"/run/user/{os.getuid()}")
    if program is None or not (runtime / "systemd/private").exists():
        return ()
    bounds = (f"--property=MemoryMax={mem_mb}M", "--property=MemorySwapMax=0")
    keep = ("/usr/bin/env", f"XDG_RUNTIME_DIR={runtime}")
    return (*keep, program, "--user", "--scope", "--quiet", "--collect", f"--unit={name}", *bounds, "--")
