"""Length-prefixed messages on keyd's socket."""

from __future__ import annotations

import socket
import struct

from hdrs_hpc.protocol import wire

MAX_MESSAGE_BYTES = 32 << 20


def send(channel: socket.socket, raw: bytes) -> None:
    channel.sendall(struct.pack(">I", len(raw)) + raw)


def receive(channel: socket.socket) -> bytes:
    """One length-prefixed message; raises ConnectionError when the other side is gone."""
    (length,) = struct.unpack(">I", _exactly(channel, 4))
    if length > MAX_MESSAGE_BYTES:
        raise wire.MessageError("larger than a message may be")
    return _exactly(channel, length)


def _exactly(channel: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        piece = channel.recv(min(1 << 20, length - len(parts)))
        if not piece:
            raise ConnectionError("closed in the middle of a message")
        parts += piece
    return bytes(parts)
