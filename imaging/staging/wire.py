"""Messages between the stager and its parsers, over a socket pair: their form, and the parser's side.

One message = u32 length, JSON, u64 length, bytes; a request may carry one open file (SCM_RIGHTS).  A parser reads a
request whole before it answers; the stager's side (:mod:`imaging.staging.parser_process`) never waits for room.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import Any


class WireError(Exception):
    """The other end went away or broke the format; an internal signal, never shown as it is."""


def head(header: bytes, blob_bytes: int = 0) -> bytes:
    """A message up to its bytes, which follow."""
    return struct.pack(">I", len(header)) + header + struct.pack(">Q", blob_bytes)


def send(sock: socket.socket, header: bytes, blob: bytes | memoryview = b"") -> None:
    """Send one message."""
    sock.sendall(head(header, len(blob)))
    if len(blob):
        sock.sendall(blob)


def receive_request(sock: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The parser's side: the next request and its file, or None when the stager is done."""
    ancillary = socket.CMSG_LEN(struct.calcsize("i"))
    first, controls, _, _ = sock.recvmsg(4, ancillary)
    if not first:
        return None
    handles: array.array[int] = array.array("i")
    for level, kind, data in controls:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            handles.frombytes(data[: len(data) - len(data) % handles.itemsize])
    length = first + receive_exactly(sock, 4 - len(first))
    header = receive_exactly(sock, struct.unpack(">I", length)[0])
    receive_exactly(sock, 8)
    if len(handles) != 1:
        for handle in handles:
            os.close(handle)
        raise WireError("a request without exactly one file")
    request: dict[str, Any] = json.loads(header)
    return request, handles[0]


def receive_exactly(sock: socket.socket, length: int) -> bytes:
    """``length`` bytes, or :class:`WireError`."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    while len(view):
        count = sock.recv_into(view)
        if count == 0:
            raise WireError("the other end went away")
        view = view[count:]
    return bytes(buffer)
