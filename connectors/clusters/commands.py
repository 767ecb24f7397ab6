"""Running one command to its end: bounded in time and output, stdout and stderr drained together.

``CommandRunner`` has two implementations: :class:`HereRunner` on this machine, and
:class:`connectors.clusters.ssh.SshRunner` on another.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Protocol

from connectors.clusters.port import ClusterUnreachableError, SiteCommandError
from hdrs_hpc.core import die_with_parent

MAX_OUTPUT_BYTES = 16 << 20
"""A poll of thousands of jobs prints a few MB; more is a fault."""
_PIECE_BYTES = 64 * 1024


class CommandTimeoutError(ClusterUnreachableError):
    code = "site-command-timeout"
    meaning = "A command on the cluster did not end in time; it may still be at work."


@dataclass(frozen=True)
class Completed:
    """``returncode`` is 128 + n where signal n ended the command."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """The start of stderr as one printable line, for messages about the site's own commands."""
        text = self.stderr.decode("utf-8", "replace")
        return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:300]


class CommandRunner(Protocol):
    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run ``argv``, whose first word is an absolute path, with an environment that holds nothing of
        ours.  Raises CommandTimeoutError, ClusterUnreachableError, SiteCommandError."""
        ...

    def close(self) -> None: ...


class HereRunner:
    """On this machine as this user, with exactly the environment given."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        if not os.access(argv[0], os.X_OK):
            raise SiteCommandError(f"{argv[0]} can't be started: it is not there, or no program")
        try:
            process = subprocess.Popen(
                die_with_parent.guarded(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise SiteCommandError(f"{argv[0]} can't be started: {error.strerror}") from None
        with process:
            try:
                assert process.stdin and process.stdout and process.stderr
                stdout, stderr = converse(
                    process.stdin, process.stdout, process.stderr, stdin, time.monotonic() + timeout_s
                )
            except BaseException:
                # Its whole group: a child that kept the pipes open would make us wait for it.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            code = process.wait()
        return Completed(code if code >= 0 else 128 - code, stdout, stderr)

    def close(self) -> None:
        return


def converse(
    to: IO[bytes], stdout: IO[bytes], stderr: IO[bytes], stdin: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """Feed and drain all three pipes at once, so that none can block the others; close ``to`` when fed.

    Gives stdout and stderr once both have ended.  Raises CommandTimeoutError, SiteCommandError.
    """
    out, err = bytearray(), bytearray()
    left = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ, out)
        selector.register(stderr, selectors.EVENT_READ, err)
        if left:
            os.set_blocking(to.fileno(), False)
            selector.register(to, selectors.EVENT_WRITE)
        else:
            to.close()
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:  # also of one that goes on printing, byte by byte
                raise CommandTimeoutError()
            for key, _ in selector.select(left_s):
                if key.data is None:
                    left = _feed(to, left)
                    if not left:
                        selector.unregister(to)
                        to.close()
                elif piece := os.read(key.fd, _PIECE_BYTES):
                    key.data.extend(piece)
                    if len(key.data) > MAX_OUTPUT_BYTES:
                        raise SiteCommandError("a command printed more than anything it could have to say")
                else:
                    selector.unregister(key.fileobj)
    return bytes(out), bytes(err)


def _feed(pipe: IO[bytes], left: memoryview) -> memoryview:
    """Write what the pipe takes; a reader that went away has read enough."""
    try:
        return left[os.write(pipe.fileno(), left[:_PIECE_BYTES]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]
