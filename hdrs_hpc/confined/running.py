"""A confined process that was started: waiting until it is confined, asking after it, ending all of it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.core.errors import SiteError

START_TIMEOUT_S = 120.0


class SandboxFailedError(SiteError):
    code = "sandbox-failed"
    meaning = "The sandbox did not start on the compute node."
    remedy = "`hdrs-hpc cluster doctor` tells which isolation the site's nodes can give."


class Running:
    """A started process under its guard (``core/die_with_parent.py``), and whatever it forked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        """The guard; its streams are those of the confined process."""
        self._first_fd = -1

    def wait_until_up(self, up: int) -> None:
        """Wait for what is said at the other end of ``up`` once the process is confined; closes it.

        Where there is a process 1 of its own namespace the guard writes that one's pid as a line.  Then comes a text
        that ends with a bracket; or a code that says why it did not get that far.  Raises SandboxFailedError.
        """
        raw = b""
        deadline = time.monotonic() + START_TIMEOUT_S
        with os.fdopen(up, "rb", buffering=0) as stream:
            while select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                piece = stream.read(4096)
                if not piece:
                    break
                raw += piece
                if raw.rstrip().endswith(b"}"):
                    first, line, _ = raw.partition(b"\n")
                    # The kernel kills all others of a namespace before it lets process 1 end.
                    with contextlib.suppress(ProcessLookupError):  # it is over already
                        self._first_fd = os.pidfd_open(int(first)) if line else -1
                    return
        self.kill()
        raise SandboxFailedError(raw.decode() if re.fullmatch(rb"[a-z-]{1,60}", raw) else "")

    def poll(self) -> int | None:
        """Its exit code (128 + n after signal n), or None while it lives.  Never blocks."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def pids(self) -> list[int]:
        """Processes of it that live now, as this machine numbers them."""
        return die_with_parent.descendants(self.process.pid)

    def kill(self) -> None:
        """End everything that was started, whatever it forked; gives only when none of it is left.  Idempotent."""
        self.process.terminate()  # the guard ends what it started, and then itself
        if self._first_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
            select.select([self._first_fd], [], [])
            os.close(self._first_fd)
            self._first_fd = -1
        self.process.wait()
