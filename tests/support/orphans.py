"""Start something in a process of its own, kill that at a random moment, and count what is left of it.

Run by itself: ``python -m tests.support.orphans <kind> <trials>`` prints a JSON object.  It is the reaper of all that
it starts, so whatever outlives its parent comes back to it and is found among its descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from connectors.clusters import local_supervisor
from connectors.clusters.commands import HereRunner
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.broker.workers.airlock import run as airlock
from hdrs_hpc.confined import starting, table
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.port import Confined
from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node.sandbox import Places, Sandbox
from imaging.staging.pool import ParserPool

LONGEST_START_S, MOST_LONGEST_START_S = 0.25, 4.0
"""Kills come at most so long after the start; later, up to the second, where the machine is too busy for the first."""
SETTLE_S = 20.0
MOST_TRIES = 5
"""How many times as often as asked for to try, where kills come too early."""
SLEEPER = Confined(("/usr/bin/sleep", "600"), {}, Path("/"))


def _orphaned() -> None:
    """The control: a child that nothing ends with its parent."""
    subprocess.Popen(["/bin/sleep", "600"], stdin=subprocess.DEVNULL)


def _sandboxed() -> None:
    starting.start(Bubblewrap(), SLEEPER)


def _plain() -> None:
    script = "sleep 600 & (setsid sleep 600 &) ; sleep 600"
    subprocess.Popen(die_with_parent.guarded(["/bin/sh", "-c", script]), stdin=subprocess.DEVNULL)


def _parsers() -> None:
    ParserPool(2).start()


def _checker() -> None:
    confined = airlock.checker()
    starting.start(table.strongest("checker"), confined, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _workload() -> None:
    """As an agent starts it: by a process that becomes the guard, and waits until it is confined."""
    with tempfile.TemporaryDirectory() as name:
        places = Places(*[Path(name)] * 9)
        Sandbox("sandboxed").start(("/usr/bin/sleep", "600"), {}, places, gpus="")
        time.sleep(600)


def _command() -> None:
    with contextlib.suppress(Exception):
        HereRunner().run(["/bin/sleep", "600"], timeout_s=500)


def _worker() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workers.start(Path(folder) / "work", "tests.support.sleeper")
        time.sleep(600)


def _job() -> None:
    """Become the supervisor of a job of the local cluster, whose processes leave its session."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps({"time_s": 600, "mem_mb": 512, "environment": {}}))
        (folder / "script").write_text("sleep 600 & (setsid sleep 600 &) ; sleep 600\n")
        words = [local_supervisor.__file__, name, die_with_parent.__file__]
        os.execv(sys.executable, [sys.executable, "-I", "-S", *words])


KINDS: dict[str, Callable[[], None]] = {
    "orphaned": _orphaned,
    "sandboxed": _sandboxed,
    "workload": _workload,
    "plain": _plain,
    "parsers": _parsers,
    "checker": _checker,
    "command": _command,
    "worker": _worker,
    "job": _job,
}


def trial(start: Callable[[], None], rng: random.Random, *, kill: str, longest_s: float) -> tuple[int, bool]:
    """How many processes were left, and whether any had been started at the moment of the kill.

    ``kill``: ``parent``, or ``guard``: first the process that the parent started, then the parent.
    """
    parent = os.fork()
    if parent == 0:
        try:
            start()
            time.sleep(600)
        finally:
            os._exit(1)
    time.sleep(rng.uniform(0, longest_s))
    below = die_with_parent.descendants(parent)
    if kill == "guard":
        for pid in below[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os.kill(parent, signal.SIGKILL)
    deadline = time.monotonic() + SETTLE_S
    while left := die_with_parent.descendants(os.getpid()):
        if time.monotonic() > deadline:
            break
        _reap()
        time.sleep(0.005)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while die_with_parent.descendants(os.getpid()):
        time.sleep(0.005)
    _reap()
    return len(left), bool(below)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main(kind: str, trials: int, kill: str, settle_s: float) -> None:
    global SETTLE_S
    SETTLE_S = settle_s
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    table.strongest("checker")
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    done: list[tuple[int, bool]] = []
    longest_s = LONGEST_START_S
    # A kill that came before anything was started shows nothing: on a busy machine many do, and do not count.
    while sum(begun for _, begun in done) < trials and len(done) < MOST_TRIES * trials:
        done.append(trial(KINDS[kind], rng, kill=kill, longest_s=longest_s))
        if not done[-1][1]:
            longest_s = min(1.1 * longest_s, MOST_LONGEST_START_S)
    found = {
        "trials": len(done),
        "begun": sum(begun for _, begun in done),
        "left": sum(left for left, _ in done),
        "seed": seed,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
