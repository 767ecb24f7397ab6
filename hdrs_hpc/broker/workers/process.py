"""Long work in processes of its own: one folder a piece of work, with a lock, a result and a log.

The kernel gives the lock back however the process ends, so "is it running?" is a question to the kernel and
not to a note that a crash leaves behind.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.core import die_with_parent, errors
from hdrs_hpc.core.durable_files import write_json
from hdrs_hpc.core.errors import HdrsError, InternalError, SiteError

RETRY_AFTER_S = 5.0


class WorkerDiedError(SiteError):
    code = "worker-died"
    meaning = "A worker of the broker ended without a result: killed, out of memory, or unable to start."
    remedy = "It is started again; if it stays so, look at its log below the broker's home and at the memory."


@dataclass(frozen=True)
class Work:
    """What can be seen of one piece of work.  ``error`` is an ``as_dict`` of an HdrsError."""

    running: bool
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    rested: bool
    """Whether the last failure is long enough ago to try again."""


def observe(folder: Path) -> Work:
    """Look at a piece of work; a folder that is not there is work not yet begun."""
    running = _locked(folder / "lock")
    try:
        found = json.loads((folder / "result.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Work(running, None, None, True)
    rested = time.time() - (folder / "result.json").stat().st_mtime > RETRY_AFTER_S
    return Work(running, found.get("ok"), found.get("error"), rested)


def start(folder: Path, module: str, *arguments: str) -> None:
    """Start ``python -m module … --lock-fd N`` detached from us, unless it runs already.

    The lock is taken here and inherited: a process that is still starting counts as running.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock, (folder / "log").open("ab") as output:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # What stands here if it dies without a word: killed, out of memory, or unable to start.
        write_json(folder / "result.json", {"error": WorkerDiedError().as_dict()})
        started = subprocess.Popen(
            die_with_parent.guarded(
                [sys.executable, "-m", module, *arguments, "--lock-fd", str(lock.fileno())], forward=True
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        lock.write(str(started.pid))


def stop(folder: Path) -> None:
    """Kill the work with all that it started, if it runs.  While the lock is held, the pid in it is its own."""
    path = folder / "lock"
    if _locked(path):
        with contextlib.suppress(ValueError, ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


def run(folder: Path, lock_fd: int, work: Callable[[], dict[str, Any]]) -> int:
    """Do the work under the inherited lock and write its result; gives the exit code.

    No child may inherit the lock in its turn, or it would look as if the work went on after our death.
    """
    os.set_inheritable(lock_fd, False)
    try:
        outcome: dict[str, Any] = {"ok": work()}
    except HdrsError as error:
        outcome = {"error": error.as_dict()}
    except Exception as error:
        # Its text may hold anything; its kind and place are enough to find our bug.
        where = f"{type(error).__name__} at {errors.raised_at(error)}"
        outcome = {"error": InternalError("a worker of the broker failed", where=where).as_dict()}
    write_json(folder / "result.json", outcome)
    return 0 if "ok" in outcome else 1


def main(
    of: str, folder: Callable[[BrokerHome, str], Path], work: Callable[[BrokerHome, str], dict[str, Any]]
) -> NoReturn:
    """A worker's whole program: the work on the ``--copy`` or ``--attempt`` that :func:`start` named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument(f"--{of}", dest="name", required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    asked = parser.parse_args()
    home = BrokerHome.at(asked.home).require()
    sys.exit(run(folder(home, asked.name), asked.lock_fd, lambda: work(home, asked.name)))


def _locked(path: Path) -> bool:
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
