"""The bound on a node's memory, as the agent holds it: a process without keys looks, and the agent ends what it names.

What is looked at, and how, is :mod:`hdrs_hpc.node.memory_watch`, which is no part of the agent.  It is believed
about memory and processes, and can write no more with that than a workload could.  An attempt that nobody watches
any more is ended.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path

from hdrs_hpc.node import keyless
from hdrs_hpc.node.stopping import StoppedEarly
from hdrs_hpc.protocol.outputs import Ending, MemoryTaken, MemoryWall, WorkloadExit
from hdrs_hpc.protocol.progress import Stop

SILENT_S = 120.0
"""A watch that says nothing for so long is none.  It speaks ten times a second; busy nodes are slow."""
STEPS = 20
"""Steps of the budget in which it is told how much was taken: a workload must not write by it."""
ENDINGS = {"fine": None, "memory": Ending.OUT_OF_MEMORY, "crowded": Ending.TOO_MANY_PROCESSES}


class Watch:
    """Started before the workload, closed after it.  ``files``: what of the attempt's lies in memory.

    Raises StoppedEarly (``unwatched``) where the watch does not come up, ends, or falls silent.
    """

    def __init__(self, mem_mb: int, most_threads: int, *files: Path) -> None:
        self._mem_mb = mem_mb
        self._heard = time.monotonic()
        self.wall: MemoryWall = "watched"
        """Who bounds an attempt of ``mem_mb`` here."""
        # Ours is the one process that the watch may not look into: it is given the sizes of our mappings, opened.
        with Path("/proc/self/smaps").open("rb") as own:
            words = (os.getpid(), own.fileno(), mem_mb, most_threads, *files)
            self._process = keyless.start("memory_watch", *words, files=(own.fileno(),))
        self._found: WorkloadExit | None = None
        try:
            self.look(SILENT_S)
        except StoppedEarly:
            self.close()
            raise

    def look(self, wait_s: float) -> WorkloadExit | None:
        """The end that the workload deserves, where the watch found one; else None after ``wait_s`` at most."""
        assert self._process.stdout is not None
        if self._found is None and select.select([self._process.stdout], [], [], wait_s)[0]:
            self._heard = time.monotonic()
            self._found = self._understand(os.read(self._process.stdout.fileno(), 1 << 16))
        elif time.monotonic() >= self._heard + SILENT_S:
            raise StoppedEarly(Stop.UNWATCHED)
        return self._found

    def end(self) -> WorkloadExit | None:
        """The last word, once the workload has ended by itself."""
        try:
            said, _ = self._process.communicate(timeout=SILENT_S)
        except subprocess.TimeoutExpired:
            raise StoppedEarly(Stop.UNWATCHED) from None
        if self._process.returncode != 0:
            raise StoppedEarly(Stop.UNWATCHED)
        return self._found or self._understand(said)

    def close(self) -> None:
        with self._process:
            self._process.terminate()

    def _understand(self, said: bytes) -> WorkloadExit | None:
        """Whole lines: each was written at once, and all that were in the pipe are read at once."""
        try:
            wall, found, taken = said.decode("ascii").splitlines()[-1].split(" ")
            ending, taken_mb = ENDINGS[found], int(taken)
        except (ValueError, LookupError):
            raise StoppedEarly(Stop.UNWATCHED) from None
        self.wall = "cgroup" if wall == "cgroup" else "watched"
        if ending is None:
            return None
        step = max(1, self._mem_mb // STEPS)
        told = MemoryTaken(self._mem_mb, max(1, min(-(-taken_mb // step), 2 * STEPS)) * step, self.wall)
        memory = told if ending is Ending.OUT_OF_MEMORY else None
        return WorkloadExit(ending, None, None, None, None, memory)
