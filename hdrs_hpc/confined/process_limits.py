"""No sandbox: a clean environment, limits, process numbers of its own where the machine allows, an end that is sure.

For trying out and for data that is not real.  The process runs as this account and can read whatever that can.
"""

from __future__ import annotations

from hdrs_hpc.confined.port import Confined, Prepared


class ProcessLimits:
    name = "process-limits"
    separates = False

    def missing(self) -> str | None:
        return None

    def trials(self) -> tuple[tuple[str, ...], ...]:
        return ()

    def prepare(self, confined: Confined, up: int | None) -> Prepared:
        return Prepared(confined.command)
