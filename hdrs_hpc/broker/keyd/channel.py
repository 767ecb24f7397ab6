"""Length-prefixed messages on keyd's socket: one request and one answer a connection."""

from __future__ import annotations

import struct

from hdrs_hpc.core.line import Line
from hdrs_hpc.protocol import wire

MAX_MESSAGE_BYTES = 64 << 20
"""The answers of 64 nodes, each as large as it may be."""


def send(line: Line, raw: bytes) -> None:
    """Queue one message; see :class:`Line`."""
    line.say(struct.pack(">I", len(raw)), raw)


def receive(line: Line, until: float) -> bytes:
    """One message; raises ConnectionError when the other side is gone, TimeoutError at ``until``."""
    (length,) = struct.unpack(">I", line.receive(4, until))
    if length > MAX_MESSAGE_BYTES:
        raise wire.MessageError("larger than a message may be")
    return line.receive(length, until)
