"""The port to whatever separates a workload from the node: where it sees things, how it starts, how it dies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hdrs_hpc.core.errors import SiteError


class SandboxFailedError(SiteError):
    code = "sandbox-failed"
    meaning = "The sandbox did not start on the compute node."
    remedy = "`hdrs-hpc cluster doctor` tells which isolation the site's nodes can give."


@dataclass(frozen=True)
class Places:
    """Folders as one side sees them: the agent on the node, or the workload in its sandbox."""

    runtime: Path
    out: Path
    """Outputs, in private memory."""
    data: Path
    """Holds the data server's socket."""
    bundle: Path
    """The researcher's code, read-only; empty for a built-in workload."""
    plan: Path
    """Launch plan and TLS material, read-only."""
    report: Path
    """Where the launcher says how the workload ended."""
    tmp: Path
    shm: Path
    """Shared memory (POSIX): a folder of the same tmpfs as ``tmp`` and ``out``, so that one budget holds all three."""


@dataclass(frozen=True)
class Limits:
    gpus: str
    """Value for CUDA_VISIBLE_DEVICES; empty: no GPU device is there."""


class Running(Protocol):
    """A started workload."""

    def poll(self) -> int | None:
        """Its exit code (128 + n after signal n), or None while the first process lives.  Never blocks."""

    def pids(self) -> list[int]:
        """Processes of the workload that live now, as the node numbers them."""

    def kill(self) -> None:
        """End everything that was started, whatever it forked; gives only when none of it is left.

        Idempotent.  After this nothing changes the outputs any more.
        """


class Sandbox(Protocol):
    def inside(self, outside: Places) -> Places:
        """The same folders as the workload will see them."""

    def start(self, argv: tuple[str, ...], env: dict[str, str], places: Places, limits: Limits) -> Running:
        """Start ``argv`` (paths as seen inside) with exactly ``env``.  Raises SandboxFailedError."""
