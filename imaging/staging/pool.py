"""A pool of parser processes: a file that crashes or hangs one costs that file only."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Self

from hdrs_hpc.core import seccomp
from hdrs_hpc.core.errors import SiteError
from imaging.staging import sandbox, wire
from imaging.staging.refusals import Refused

ITEM_TIMEOUT_S = 300.0
_START_TIMEOUT_S = 180.0
_RECYCLE_AFTER = 5000
"""Requests after which a parser is replaced: bounds leaks in native decoders."""


class ParserStartError(SiteError):
    code = "parser-does-not-start"
    meaning = "The process that parses untrusted files could not be started."
    remedy = "Check that the environment is complete (`hdrs-hpc imaging --help` works) and memory is free."


class ParserPool:
    """``size`` parsers, lent to one caller at a time each; thread-safe.  Use as a context manager."""

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = ITEM_TIMEOUT_S,
        argv: Sequence[str] | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._argv = list(argv) if argv is not None else sandbox.parser_argv()
        # bubblewrap's --die-with-parent means the *thread* that started it: one that lives as long as the pool.
        self._starter = ThreadPoolExecutor(1, "parser-starter")
        self._idle: queue.SimpleQueue[_Parser | None] = queue.SimpleQueue()
        self._size = size
        for _ in range(size):
            self._idle.put(None)  # started on first use

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: TracebackType | type | BaseException | None) -> None:
        for _ in range(self._size):
            # Callers that still hold a parser return it within the item's time limit.
            with contextlib.suppress(queue.Empty):
                parser = self._idle.get(timeout=self.timeout_s)
                if parser is not None:
                    parser.stop()
        self._starter.shutdown()

    def ask(self, file: BinaryIO, operation: str, **arguments: Any) -> Iterator[tuple[bytes, bytearray]]:
        """Stream a parser's answers about ``file`` (a real descriptor): pairs of JSON text and bytes.

        Raises :class:`Refused` with the parser's code, ``parser-crashed`` or ``parser-timeout``.  The time
        limit counts from answer to answer.
        """
        request = json.dumps({"op": operation, **arguments}).encode()
        parser = self._idle.get()
        healthy = False
        try:
            if parser is None or not parser.usable():
                if parser is not None:
                    parser.stop()
                    parser = None
                parser = self._starter.submit(_Parser, self._argv, self.timeout_s).result()
                parser.wait_until_ready()
            yield from parser.ask(request, file.fileno())
            healthy = True
        except Refused as refused:
            healthy = refused.code not in ("parser-crashed", "parser-timeout")
            raise
        finally:
            if parser is not None and not healthy:
                parser.stop()  # also when the caller stopped listening in the middle of an answer
                parser = None
            self._idle.put(parser)


class _Parser:
    def __init__(self, argv: list[str], timeout_s: float) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, seccomp.filtered(argv) as (command, given):
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=sandbox.parser_environment(),
                cwd="/",
                pass_fds=given,
            )
        self._sock = ours
        self._served = 0
        self._timeout_s = timeout_s

    def wait_until_ready(self) -> None:
        """Raises :class:`ParserStartError`; not part of starting, so that parsers start side by side."""
        self._sock.settimeout(_START_TIMEOUT_S)
        try:
            wire.receive_header(self._sock)
        except (OSError, wire.WireError):
            raise ParserStartError() from None
        self._sock.settimeout(self._timeout_s)

    def usable(self) -> bool:
        return self._served < _RECYCLE_AFTER and self._process.poll() is None

    def ask(self, request: bytes, handle: int) -> Iterator[tuple[bytes, bytearray]]:
        self._served += 1
        try:
            wire.send(self._sock, request, handle=handle)
            while True:
                header, length = wire.receive_header(self._sock)
                blob = bytearray(length)
                if length:
                    wire.receive_into(self._sock, memoryview(blob))
                end = _ending(header)
                if end is None:
                    yield header, blob
                elif end == "":
                    return
                else:
                    raise Refused(end)
        except TimeoutError:
            raise Refused("parser-timeout") from None
        except (OSError, wire.WireError):
            raise Refused("parser-crashed") from None

    def stop(self) -> None:
        self._sock.close()
        self._process.kill()
        self._process.wait()


def _ending(header: bytes) -> str | None:
    """None for an answer that goes on, "" at its good end, else the reason code."""
    if len(header) > 200:
        return None
    try:
        message = json.loads(header)
    except ValueError:
        raise wire.WireError("an answer that is not JSON") from None
    if not isinstance(message, dict):
        raise wire.WireError("an answer that is not a mapping")
    if message.get("end") is True:
        return ""
    refused = message.get("refused")
    return refused if isinstance(refused, str) else None


def as_descriptor(data: bytes) -> BinaryIO:
    """Bytes in memory as a file with a descriptor, so that they can be handed to a parser."""
    handle = os.memfd_create("item", os.MFD_CLOEXEC)
    file = os.fdopen(handle, "r+b")
    file.write(data)
    file.flush()
    file.seek(0)
    return file
