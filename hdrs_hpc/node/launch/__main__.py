"""The launcher: process 1 of the workload's side.  Starts the ranks of this node and waits for their end.

Ranks are forked from one process that has already imported Dask, which saves each of them a second of a core.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

from hdrs_hpc.node.launch.plan import EXIT_NO_RANKS, LaunchPlan
from hdrs_hpc.protocol import wire

# Imported for the forks' sake, before anything starts a thread.
from hdrs_hpc.node.launch import ranks  # isort: skip


CLIENT_GRACE_S = 10.0


def main(argv: list[str]) -> int:
    plan = wire.from_bytes(LaunchPlan, Path(argv[0]).read_bytes())
    if plan.most_threads:
        # Inside the sandbox's user namespace: what else the account runs on the node does not count.
        resource.setrlimit(resource.RLIMIT_NPROC, (plan.most_threads, plan.most_threads))
    roles = [*(["scheduler", "client"] if plan.first else []), *["worker"] * plan.workers]
    children: dict[int, str] = {}
    for number, role in enumerate(roles):
        pid = os.fork()
        if pid == 0:
            ranks.run(plan, role, number)  # never returns
        children[pid] = role
    code = _wait(children, plan.first)
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # all results lie in the outputs: a quiet end is a quick one
    return code


def _wait(children: dict[int, str], first: bool) -> int:
    """Wait for the client's end, or on other nodes for the last worker's; removes who ended from ``children``.

    When the client shuts the cluster down, scheduler and workers end before it does: it gets a moment.  When
    they ended by themselves nobody is left to compute for it, and it would wait for ever.
    """
    deadline: float | None = None
    while children:
        pid, status = os.waitpid(-1, 0 if deadline is None else os.WNOHANG)
        if pid == 0:
            if deadline is not None and time.monotonic() >= deadline:
                return EXIT_NO_RANKS
            time.sleep(0.02)
            continue
        role = children.pop(pid, "")
        if role == "client":
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        left = children.values()
        if first and deadline is None and ("scheduler" not in left or "worker" not in left):
            deadline = time.monotonic() + CLIENT_GRACE_S
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
