"""No sandbox: a clean environment, process limits, and an end that leaves no process behind.

For trying out and for synthetic data.  The workload runs as the project's account and could read whatever that
account can; the grant of real data requires more than this.
"""

from __future__ import annotations

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


class CooperativeRun(processes.GuardedRun):
    """The agent is the subreaper: what a workload that kills its guard has daemonised comes back to it."""

    def kill(self) -> None:
        super().kill()
        die_with_parent.end_descendants()
