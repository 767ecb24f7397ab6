"""Finding and ending the processes below one process, by /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def descendants(root: int) -> list[int]:
    """Pids of all living processes below ``root``; zombies are not among them."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := _state_and_parent(entry)) is not None:
            state, parent = found
            if state not in "ZX":
                children.setdefault(parent, []).append(int(entry.name))
    chosen: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        chosen += below
        todo += below
    return chosen


def memory_bytes(pids: list[int]) -> int:
    """Resident memory together; shared pages count once for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int((_PROC / str(pid) / "statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    return total


def threads(pids: list[int]) -> int:
    """How many threads these processes have together."""
    total = 0
    for pid in pids:
        if (found := _fields(_PROC / str(pid))) is not None:
            total += int(found[17])
    return total


def kill_descendants(root: int, spared: frozenset[int] = frozenset()) -> None:
    """Kill everything below ``root`` until nothing is left; ``root`` must be a subreaper, or be this process.

    A process may fork while we look, but its children cannot get past a subreaper.
    """
    while True:
        reap_orphans(spared)
        left = [pid for pid in descendants(root) if pid not in spared]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def reap_orphans(spared: frozenset[int]) -> None:
    """Collect dead children of this process that nobody else waits for."""
    for pid in _children():
        if pid not in spared:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    found = []
    for task in (_PROC / "self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(text) for text in (task / "children").read_text("ascii").split()]
    return found


def _state_and_parent(entry: Path) -> tuple[str, int] | None:
    fields = _fields(entry)
    return None if fields is None else (fields[0], int(fields[1]))


def _fields(entry: Path) -> list[str] | None:
    """Of /proc/<pid>/stat from the third, the state, on."""
    try:
        text = (entry / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()  # a process may choose a name with spaces and brackets
