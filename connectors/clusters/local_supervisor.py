"""The process that stands in for Slurm on one machine: it starts one job, limits it, outlives the broker.

Run by file, isolated (``python -I -S local_supervisor.py <job folder> <die_with_parent.py>``), so it imports
nothing of ours but ``local_memory.py``, by its place, and no environment can change what it does.  The second file
is the guard between it and the script: what the script leaves is ended even where this process is killed.  The
job's folder holds, each written once:

``request.json``  what was asked            ``started.json``  which processes run it (pid, start time)
``script``        run by /bin/sh             ``cancelled``     somebody wants its end
``script.json``   the script's process       ``ended.json``    how it ended

Whoever links ``started.json`` into place runs the job; a second supervisor of the same folder goes away.
Descendants of the script cannot leave: this process is their subreaper, so even those in sessions and process
groups of their own stay below it and are killed at the end.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

KILL_WAIT_S = 15.0
"""Between SIGTERM and SIGKILL at the time limit or a cancel (Slurm's KillWait, 30 s by default)."""
SWEEP_S = 0.05
_PR_SET_CHILD_SUBREAPER = 36


def main(folder: Path, guard: str) -> int:
    request = json.loads((folder / "request.json").read_bytes())
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return 70
    # Blocked before started.json names this process: a signal sent from then on waits for sigtimedwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    started = {"pid": os.getpid(), "start": start_time(os.getpid()), "boot": boot_id(), "at": time.time()}
    if not write_once(folder / "started.json", started):
        return 0
    if (folder / "cancelled").exists():
        end(folder, "CANCELLED", None)
        return 0
    bound = _memory_bound(folder, request)
    script = _start(folder, request, guard, bound)
    state, status = _watch(folder, script, float(request["time_s"]))
    _kill_descendants()
    bound.remove()
    end(folder, state, status)
    return 0


def _memory_bound(folder: Path, request: dict[str, Any]) -> Any:
    """The module beside this file by its place: isolated as we are, nothing of ours is on the path."""
    spec = importlib.util.spec_from_file_location("local_memory", Path(__file__).with_name("local_memory.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.make(folder.name, int(request["mem_mb"]))


def _start(folder: Path, request: dict[str, Any], guard: str, bound: Any) -> int:
    """Start the script in a session of its own; gives its pid.  By fork: subprocess would reap behind us."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.umask(0o077)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            os.chdir("/")
            bound.enter()
            argv = [sys.executable, "-I", "-S", "-B", guard, str(parent), "--forward", "--"]
            argv += [*bound.words, "/bin/sh", str(folder / "script")]
            os.execve(argv[0], argv, request["environment"])  # noqa: S606
        finally:
            os._exit(70)
    write_once(folder / "script.json", {"pid": pid, "start": start_time(pid)})
    return pid


def _watch(folder: Path, script: int, time_s: float) -> tuple[str, int | None]:
    """Wait for the script's end, the limit or a cancel; gives Slurm's state word and the exit code."""
    deadline = time.monotonic() + time_s
    while True:
        left = deadline - time.monotonic()
        status = _reap(script)
        if status is not None:
            return ("COMPLETED" if status == 0 else "FAILED"), status
        if (folder / "cancelled").exists():
            return "CANCELLED", _stop(script)
        if left <= 0:
            return "TIMEOUT", _stop(script)
        signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, min(left, 60.0))


def _stop(script: int) -> int | None:
    """Ask all descendants to end, then wait for the script a little; the rest is _kill_descendants.

    Each once: the script's guard would pass its own signal on, and a shell that waits for its agent in a trap stops
    waiting at a second one, so that it cleans up while the agent still writes.
    """
    for pid in [pid for pid in descendants(os.getpid()) if pid != script] or [script]:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + KILL_WAIT_S
    status = _reap(script)
    while status is None and (left := deadline - time.monotonic()) > 0:
        signal.sigtimedwait({signal.SIGCHLD}, left)
        status = _reap(script)
    return status


def _reap(script: int) -> int | None:
    """Collect every dead child (orphans come to us as subreaper); the script's exit code once it is dead."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == script:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _kill_descendants() -> None:
    """Until none is left: a process may fork while we look, but none can be re-parented past us."""
    while True:
        _reap(-1)
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(SWEEP_S)


def descendants(root: int) -> list[int]:
    """Pids of all processes below ``root`` now, from the parent field of /proc/<pid>/stat."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process began, None if it is gone or a zombie; with the pid it
    names a process for ever."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def session_of(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[3])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third (state) on: the second may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end(folder: Path, state: str, exit_code: int | None) -> None:
    write_once(folder / "ended.json", {"state": state, "exit_code": exit_code, "at": time.time()})


def write_once(path: Path, value: dict[str, Any]) -> bool:
    """Whole or not at all, durable, and False when it was there before."""
    passing = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with passing.open("xb") as file:
        file.write(json.dumps(value).encode())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(passing, path)
    except FileExistsError:
        return False
    finally:
        passing.unlink()
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
