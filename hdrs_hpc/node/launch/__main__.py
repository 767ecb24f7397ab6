"""The launcher: process 1 of the workload's side.  Executes the plan of this node and waits for its end.

It knows no kind of workload.  The plan names one module; its processes are forked from this one, which has imported
that module already: what takes a second of a core is so paid once.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hdrs_hpc.catalogue.workloads.plan import Plan, Process
from hdrs_hpc.core import wire
from hdrs_hpc.node.launch.plan import EXIT_ALONE, EXIT_EXCEPTION, Launch

GRACE_S = 10.0


def main(argv: list[str]) -> int:
    launch = wire.from_bytes(Launch, Path(argv[0]).read_bytes())
    if launch.most_threads:
        # Inside the sandbox's user namespace: what else the account runs on the node does not count.
        resource.setrlimit(resource.RLIMIT_NPROC, (launch.most_threads, launch.most_threads))
    # Before anything starts a thread.
    run: Callable[[Launch, Process], int] = importlib.import_module(launch.plan.module).run
    children: dict[int, str] = {}
    for process in launch.plan.processes:
        pid = os.fork()
        if pid == 0:
            _be(run, launch, process)
        children[pid] = process.role
    code = _wait(children, launch.plan)
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # all results lie in the outputs: a quiet end is a quick one
    return code


def _be(run: Callable[[Launch, Process], int], launch: Launch, process: Process) -> None:
    """One process of the plan until its end, without handlers that the launcher might have set."""
    code = EXIT_EXCEPTION
    try:
        code = run(launch, process)
    finally:
        os._exit(code)


def _wait(children: dict[int, str], plan: Plan) -> int:
    """Wait for the end of the process that decides, or of the last one; removes who ended from ``children``.

    Those that it needs may end just before it does: it gets a moment.  When they ended by themselves nobody is left
    to work with, and it would wait for ever.
    """
    deadline: float | None = None
    while children:
        pid, status = os.waitpid(-1, 0 if deadline is None else os.WNOHANG)
        if pid == 0:
            if deadline is not None and time.monotonic() >= deadline:
                return EXIT_ALONE
            time.sleep(0.02)
            continue
        role = children.pop(pid, "")
        if role == plan.ends_with:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        left = children.values()
        if plan.ends_with in left and deadline is None and any(role not in left for role in plan.needs):
            deadline = time.monotonic() + GRACE_S
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
