"""A workload under its guard, and what processes hold."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from hdrs_hpc.core import die_with_parent

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


class GuardedRun:
    """A started workload under its guard, which adopts whatever it daemonises (``core/die_with_parent.py``)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def pids(self) -> list[int]:
        return die_with_parent.descendants(self._process.pid)

    def kill(self) -> None:
        self._process.terminate()  # the guard ends what it started, and then itself
        self._process.wait()


def memory_bytes(pids: list[int]) -> int:
    """Resident memory together; shared pages count once for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int((_PROC / str(pid) / "statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    return total
