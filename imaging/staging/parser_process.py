"""One parser process as the stager sees it: started, asked, listened to, ended.

The stager bounds and checks everything a parser says: a file that took its parser over must gain nothing by it.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Generator

from hdrs_hpc.confined import starting
from hdrs_hpc.confined.port import Confined, Provider
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.core.line import Line
from imaging.staging import wire
from imaging.staging.refusals import Refused

MAX_HEADER_BYTES = 128 << 20
"""A multi-frame object of 100,000 frames, the most there may be, has 25 to 60 MB of geometry."""
MAX_BLOB_BYTES = 1 << 30
_START_TIMEOUT_S = 180.0
_RECYCLE_AFTER = 5000
"""Requests after which a parser is replaced: bounds leaks in native decoders."""
_RECYCLE_AFTER_S = 1200.0
"""The same in time: well before the processor time that a parser may use (that limit would hit an innocent file)."""

Answer = tuple[bytes, bytearray]
"""JSON text and bytes."""


class ParserStartError(SiteError):
    code = "parser-does-not-start"
    meaning = "The process that parses untrusted files could not be started."
    remedy = "Check that the environment is complete (`hdrs-hpc imaging --help` works) and memory is free."


class ParserProcess:
    """Requests are answered in their order.  They may be asked ahead, as many as the caller can keep open: they wait
    in our memory, not in a buffer of the kernel, and go out while answers are listened to."""

    def __init__(self, provider: Provider, confined: Confined, timeout_s: float) -> None:
        """Raises :class:`ParserStartError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self._run = starting.start(provider, confined, stdin=theirs.fileno())
            except SandboxFailedError:
                ours.close()
                raise ParserStartError() from None
        self._sock = ours
        self._line = Line(ours)
        self._served = 0
        self._until = time.monotonic() + _RECYCLE_AFTER_S
        self._timeout_s = timeout_s

    def wait_until_ready(self) -> None:
        """Raises :class:`ParserStartError`; not part of starting, so that parsers start side by side."""
        try:
            self._receive(time.monotonic() + _START_TIMEOUT_S)
        except (OSError, wire.WireError):
            raise ParserStartError() from None

    def usable(self) -> bool:
        """Whether it may be asked about further files."""
        fresh = self._served < _RECYCLE_AFTER and time.monotonic() < self._until
        # One that "answered" before it was asked would be sent a descriptor that means another file by then.
        return fresh and not self._line.unsent_bytes and self._run.poll() is None

    def ask(self, request: bytes, handle: int) -> None:
        """Queue a request about the open file ``handle``, which has to stay open until it is answered.

        If the parser is gone, :meth:`answers` says so as a refusal.
        """
        self._served += 1
        self._line.say(wire.head(request), handle=handle)

    def answers(self) -> Generator[Answer]:
        """The answers to the oldest request; raises :class:`Refused`."""
        try:
            while True:
                header, blob = self._receive(time.monotonic() + self._timeout_s)
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

    def kill(self) -> None:
        """End the process; whoever listens hears that it is gone."""
        self._run.process.terminate()

    def stop(self) -> None:
        """End the process and forget it."""
        self._sock.close()
        self._run.kill()

    def _receive(self, until: float) -> Answer:
        header = self._line.receive_message(MAX_HEADER_BYTES, until)
        (length,) = struct.unpack(">Q", self._line.receive(8, until))
        if length > MAX_BLOB_BYTES:
            raise wire.WireError("an answer longer than any honest one")
        blob = bytearray(length)
        if length:
            self._line.receive_into(memoryview(blob), until)
        return header, blob


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
