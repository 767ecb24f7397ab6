"""Commands at a site's login node as one account, over one connection that is re-used.

This machine's OpenSSH makes the connection and keeps it (:mod:`connectors.clusters.openssh`); each command is a session
on it (:mod:`connectors.clusters.ssh_mux`).  Files go over connections of their own: a large one would delay commands.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from connectors.clusters.commands import CommandTimeoutError, Completed, converse
from connectors.clusters.openssh import OpenSsh, SshProcess
from connectors.clusters.port import ClusterUnreachableError
from connectors.clusters.ssh_mux import MuxSession, SessionRefusedError

MAX_COMMANDS_AT_ONCE = 6
"""sshd's MaxSessions is 10 by default, for one connection."""

_UNIX_PATH_MAX = 108
_LONGEST_SOCKET = "/hdrs-hpc-12345678/s.1234567890123456"
"""As ssh names it for a moment, before it gives the socket its own name."""


class CommandBrokenOffError(ClusterUnreachableError):
    code = "site-command-broken-off"
    meaning = "The connection broke while a command was at work; what it did is not known."


class SshRunner:
    """``CommandRunner`` over SSH."""

    def __init__(self, openssh: OpenSsh) -> None:
        self._kept = _KeptConnection(openssh)
        self._open_within_s = openssh.connect_timeout_s
        self._slots = threading.BoundedSemaphore(MAX_COMMANDS_AT_ONCE)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """As the port says.  ClusterUnreachableError means that the command never started, unless it is a
        CommandBrokenOffError or CommandTimeoutError."""
        with self._slots:
            process, control = self._kept.connected()
            with _Pipes() as pipes:
                try:
                    # exec: no shell stays behind to read anything after this line.
                    session = MuxSession(
                        control,
                        "exec " + shlex.join(argv),
                        pipes.theirs,
                        time.monotonic() + self._open_within_s,
                    )
                except SessionRefusedError as error:
                    self._kept.drop(process)
                    raise ClusterUnreachableError(f"no session: {error}") from None
                except OSError as error:
                    self._kept.drop(process)
                    raise CommandBrokenOffError(type(error).__name__) from None
                with contextlib.closing(session):
                    pipes.close_theirs()
                    deadline = time.monotonic() + timeout_s
                    stdout, stderr = converse(*pipes.ours, stdin, deadline)
                    try:
                        status = session.exit_status(deadline)
                    except TimeoutError:
                        raise CommandTimeoutError() from None
            if status is None:
                raise CommandBrokenOffError("the connection ended, or the command was killed")
            return Completed(status, stdout, stderr)

    def close(self) -> None:
        self._kept.close()


class _Pipes:
    """A command's input, output and errors: our ends as files, the other ends as descriptors to hand over."""

    def __init__(self) -> None:
        ends = [os.pipe() for _ in range(3)]
        (stdin, ours), (out, stdout), (err, stderr) = ends
        self.theirs = [stdin, stdout, stderr]
        self.ours = (os.fdopen(ours, "wb", 0), os.fdopen(out, "rb", 0), os.fdopen(err, "rb", 0))

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_theirs()
        for end in self.ours:
            end.close()


def _folder_for_sockets() -> str:
    """TMPDIR, or /tmp where that is so long that a socket below it has no name that the kernel takes."""
    chosen = tempfile.gettempdir()
    return chosen if len(os.fsencode(chosen)) + len(_LONGEST_SOCKET) < _UNIX_PATH_MAX else "/tmp"  # noqa: S108


class _KeptConnection:
    """The one ``ssh`` that keeps the connection: started when first used, and again when it is found dead."""

    def __init__(self, openssh: OpenSsh) -> None:
        self._openssh = openssh
        self._lock = threading.Lock()
        self._process: SshProcess | None = None
        self._folder: Path | None = None

    def connected(self) -> tuple[SshProcess, Path]:
        """The process, and the socket on which it takes sessions.  Raises what :meth:`OpenSsh.keep_open` does."""
        with self._lock:
            if self._process is None or not self._process.alive or self._folder is None:
                self._end()
                self._folder = Path(tempfile.mkdtemp(prefix="hdrs-hpc-", dir=_folder_for_sockets()))  # 0700
                self._process = self._openssh.keep_open(self._folder / "s")
            return self._process, self._folder / "s"

    def drop(self, process: SshProcess) -> None:
        """End a connection that failed, unless another thread has replaced it already."""
        with self._lock:
            if self._process is process:
                self._end()

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        if process is not None:
            process.end(at_once=True)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
