"""The agent's end of the workload's sandbox: which folders it sees, under which names, and how it ends.

What it may have besides is written in ``confine.py``, a process that holds no key and becomes the workload's guard.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from hdrs_hpc.catalogue import isolation
from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.confined.running import Running, SandboxFailedError
from hdrs_hpc.core import die_with_parent

POLL_S = 0.005


@dataclass(frozen=True)
class Places:
    """Folders as one side sees them: the agent on the node, or the workload in its sandbox."""

    runtime: Path
    out: Path
    """Outputs, in private memory."""
    data: Path
    """Holds the data server's socket."""
    inputs: Path
    """Files that the job takes in, read-only."""
    bundle: Path
    """The researcher's code, read-only; empty for a built-in workload."""
    wheels: Path
    """Packages that the researcher's code brought along, unpacked, read-only."""
    plan: Path
    """Launch plan and TLS material, read-only."""
    report: Path
    """Where the launcher says how the workload ended."""
    tmp: Path
    shm: Path
    """Shared memory (POSIX): a folder of the same tmpfs as ``tmp`` and ``out``, so that one budget holds all three."""


INSIDE = Places(
    runtime=Path("/opt/hdrs"),
    out=Path("/out"),
    data=Path("/data"),
    inputs=Path("/inputs"),
    bundle=Path("/bundle"),
    wheels=Path("/wheels"),
    plan=Path("/plan"),
    report=Path("/report"),
    tmp=Path("/tmp"),  # noqa: S108  a private tmpfs
    shm=Path("/dev/shm"),  # noqa: S108  the same
)


@dataclass(frozen=True)
class Sandbox:
    confine: ClassVar[str] = "hdrs_hpc.node.confine"
    """The program that becomes the guard."""
    output: ClassVar[int | None] = subprocess.DEVNULL
    """Where goes what it prints: nowhere.  Nothing on a node says otherwise."""

    level: GivenIsolation

    def inside(self, outside: Places) -> Places:
        """The same folders as the workload will see them."""
        return INSIDE if isolation.is_contained(self.level) else outside

    def start(self, argv: tuple[str, ...], env: dict[str, str], places: Places, gpus: str) -> Running:
        """Start ``argv`` (paths as seen inside) with exactly ``env``; it is confined when this gives.

        ``gpus``: value for CUDA_VISIBLE_DEVICES; empty: no GPU device is there.  Raises SandboxFailedError.
        """
        asked = self.asked(argv, env, places, gpus)
        reader, writer = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", self.confine, str(writer), str(os.getpid())],
                env=die_with_parent.environment(),
                stdin=subprocess.PIPE,
                stdout=self.output,
                stderr=self.output,
                pass_fds=(writer,),
            )
        except OSError as error:
            os.close(reader)
            raise SandboxFailedError(type(error).__name__) from None
        finally:
            os.close(writer)
        running = Running(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:  # it ended already, and says why
            stream.write(json.dumps(asked, default=str).encode())
        running.wait_until_up(reader)
        return running

    def asked(self, argv: tuple[str, ...], env: dict[str, str], places: Places, gpus: str) -> dict[str, Any]:
        """What the guard is told."""
        return {"level": self.level, "argv": argv, "env": env, "gpus": bool(gpus), "places": asdict(places)}

    def run(
        self, argv: tuple[str, ...], env: dict[str, str], places: Places, stop: Callable[[], bool]
    ) -> int | None:
        """The same without GPUs, until its end: its exit code, or None where ``stop`` said so first."""
        running = self.start(argv, env, places, gpus="")
        try:
            while (code := running.poll()) is None and not stop():
                time.sleep(POLL_S)
        finally:
            self.end(running)
        return code

    def end(self, running: Running) -> None:
        """All of the workload is gone after this; nothing changes the outputs any more."""
        running.kill()
        if not isolation.is_contained(self.level):
            # The agent is the subreaper: what a workload that killed its guard has daemonised comes back to it.
            die_with_parent.end_descendants()
