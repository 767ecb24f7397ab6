"""Messages on keyd's socket: one request and one answer a connection, each bounded before it is read."""

from __future__ import annotations

from hdrs_hpc.core import wire
from hdrs_hpc.core.line import Line, MessageTooLongError

MAX_MESSAGE_BYTES = 64 << 20
"""The answers of 64 nodes, each as large as it may be."""


def send(line: Line, raw: bytes) -> None:
    """Queue one message; see :class:`Line`."""
    line.say_message(raw)


def receive(line: Line, until: float) -> bytes:
    """One message; raises ConnectionError when the other side is gone, TimeoutError at ``until``."""
    try:
        return line.receive_message(MAX_MESSAGE_BYTES, until)
    except MessageTooLongError:
        raise wire.MessageError("larger than a message may be") from None
