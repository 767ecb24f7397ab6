"""What the agent counts itself, and the small file on scratch that tells the broker in coarse steps."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hdrs_hpc.node.processes import memory_bytes
from hdrs_hpc.protocol import progress
from hdrs_hpc.protocol.progress import Phase, Progress, Stop

LOOK_S = 1.0
"""How often it is looked whether there is anything to tell."""
PERIOD_S = 15.0
"""Between two reports of the same phase: a workload must not write by the times of reports."""


class Meter:
    """Counters of one agent, exact: only :meth:`snapshot` and :attr:`totals` leave the node.  Thread safe."""

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
        self.processes_planned = 0
        """Processes that the plan has on this node, launcher included."""
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
    def exact(self) -> tuple[int, int, int, int]:
        """Items read, plaintext bytes served, requests, alarms."""
        with self._lock:
            return len(self._items), self._bytes, self._requests, self._alarms

    @property
    def totals(self) -> tuple[int, int]:
        """Items read and plaintext bytes served, in the steps of a progress report."""
        items, size_bytes, _, _ = self.exact
        return progress.full_steps(items, self.items_total), progress.power_of_two(size_bytes)

    def snapshot(self, alarms: int = 0) -> Progress:
        """``alarms``: those counted elsewhere."""
        pids = self.pids()
        items, size_bytes, _, own_alarms = self.exact
        return progress.quantised(
            Progress(
                phase=self.phase,
                stop=self.stop,
                elapsed_s=int(time.monotonic() - self._started),
                running_s=self.running_s,
                items_total=self.items_total,
                items_read=items,
                bytes_read=size_bytes,
                processes_alive=min(len(pids), self.processes_planned),
                memory_bytes=memory_bytes(pids),
                alarms=own_alarms + alarms,
            )
        )


class ProgressFile:
    """Writes snapshots to ``path``: at once where the phase changes, else every 15 s where a number changed.

    Scratch may be full or slow: progress is then missing, and nothing else happens.
    """

    def __init__(self, path: Path, take: Callable[[], Progress]) -> None:
        self._path = path
        self._take = take
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._told: Progress | None = None
        self._told_at = 0.0
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.look()
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def look(self) -> None:
        """Write a report if it is time for one."""
        with self._lock, contextlib.suppress(OSError):
            now, found = time.monotonic(), self._take()
            told = self._told
            if told is not None and found.phase == told.phase:
                # Time passes whatever the workload does: that alone is no news.
                same = dataclasses.replace(found, elapsed_s=told.elapsed_s, running_s=told.running_s) == told
                if same or now - self._told_at < PERIOD_S:
                    return
            self._told, self._told_at = found, now
            replace(self._path, progress.to_bytes(found))

    def close(self) -> None:
        """The last report; the phase is one of an end, and so it is written."""
        self._ended.set()
        self.look()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()


def replace(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.replace(path)
