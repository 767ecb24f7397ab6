"""What the agent counts itself, and the small file on scratch that tells the broker."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hdrs_hpc.node.sandbox.processes import memory_bytes
from hdrs_hpc.protocol import progress
from hdrs_hpc.protocol.progress import Phase, Progress, Stop

PERIOD_S = 1.0


class Meter:
    """Counters of one agent.  Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._running_since: float | None = None
        self._running_s = 0.0
        self._items: set[tuple[str, str]] = set()
        self._bytes = self._requests = self._alarms = 0
        self.phase = Phase.WAITING
        self.stop = Stop.NONE
        self.items_total = 0
        self.pids: Callable[[], list[int]] = list

    def served(self, name: str, items: set[str], size_bytes: int) -> None:
        """One request was served: ``size_bytes`` of plaintext from these items of input ``name``."""
        with self._lock:
            self._requests += 1
            self._bytes += size_bytes
            self._items.update((name, item) for item in items)

    def alarm(self) -> None:
        """Something was asked of the agent that no honest workload asks."""
        with self._lock:
            self._alarms += 1

    def workload_started(self) -> None:
        self._running_since = time.monotonic()

    def workload_ended(self) -> None:
        if self._running_since is not None:
            self._running_s = time.monotonic() - self._running_since
            self._running_since = None

    @property
    def running_s(self) -> int:
        since = self._running_since
        return int(self._running_s if since is None else time.monotonic() - since)

    @property
    def totals(self) -> tuple[int, int]:
        """Items read and plaintext bytes served."""
        with self._lock:
            return len(self._items), self._bytes

    def snapshot(self, alarms: int = 0) -> Progress:
        """``alarms``: those counted elsewhere."""
        pids = self.pids()
        items, size_bytes = self.totals
        return Progress(
            phase=self.phase,
            stop=self.stop,
            elapsed_s=int(time.monotonic() - self._started),
            running_s=self.running_s,
            items_total=self.items_total,
            items_read=items,
            bytes_read=size_bytes,
            requests=self._requests,
            ranks_alive=len(pids),
            memory_bytes=memory_bytes(pids),
            alarms=self._alarms + alarms,
        )


class ProgressFile:
    """Writes snapshots to ``path`` about once a second and whenever :meth:`write` is called.

    Scratch may be full or slow: progress is then missing, and nothing else happens.
    """

    def __init__(self, path: Path, take: Callable[[], Progress]) -> None:
        self._path = path
        self._take = take
        self._lock = threading.Lock()
        self._ended = threading.Event()
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write()
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def write(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            replace(self._path, progress.to_bytes(self._take()))

    def close(self) -> None:
        self._ended.set()
        self.write()

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.write()


def replace(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.replace(path)
