"""No sandbox: a clean environment, process limits, and an end that leaves no process behind.

For trying out and for synthetic data.  The workload runs as the project's account and could read whatever that
account can; the grant of real data requires more than this.
"""

from __future__ import annotations

import os
import subprocess

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node.sandbox import Limits, Places, SandboxFailedError, processes


class CooperativeSandbox:
    def inside(self, outside: Places) -> Places:
        return outside

    def start(
        self, argv: tuple[str, ...], env: dict[str, str], places: Places, limits: Limits
    ) -> CooperativeRun:
        try:
            process = subprocess.Popen(
                die_with_parent.guarded(argv, dispensable=True),
                env=env,
                cwd=places.out,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxFailedError(type(error).__name__) from None
        return CooperativeRun(process)


class CooperativeRun:
    """The agent is the subreaper, so what the workload daemonises comes back to it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def pids(self) -> list[int]:
        return processes.descendants(os.getpid())

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # the guard ends what it started, and then itself
            self._process.wait()
        processes.kill_descendants(os.getpid())
