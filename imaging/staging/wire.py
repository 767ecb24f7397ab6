"""Messages between the stager and its parsers, over a socket pair.

One message = u32 length, JSON, u64 length, bytes; a request may carry one open file (SCM_RIGHTS).  The stager
bounds and checks everything a parser says: a file that took its parser over must gain nothing by it.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import time
from typing import Any

MAX_HEADER_BYTES = 128 << 20
"""A multi-frame object of 100,000 frames, the most there may be, has 25 to 60 MB of geometry."""

MAX_BLOB_BYTES = 1 << 30


class WireError(Exception):
    """The other end went away or broke the format; an internal signal, never shown as it is."""


def send(
    sock: socket.socket, header: bytes, blob: bytes | memoryview = b"", handle: int | None = None
) -> None:
    """Send one message; ``handle`` is the descriptor to pass along."""
    head = struct.pack(">I", len(header)) + header + struct.pack(">Q", len(blob))
    if handle is None:
        sock.sendall(head)
    else:
        sent = socket.send_fds(sock, [head], [handle])
        sock.sendall(head[sent:])
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
    head = first + receive_exactly(sock, 4 - len(first)) if len(first) < 4 else first
    header = receive_exactly(sock, struct.unpack(">I", head)[0])
    receive_exactly(sock, 8)
    if len(handles) != 1:
        for handle in handles:
            os.close(handle)
        raise WireError("a request without exactly one file")
    request: dict[str, Any] = json.loads(header)
    return request, handles[0]


def receive_header(sock: socket.socket, until: float | None = None) -> tuple[bytes, int]:
    """The stager's side: the JSON (unparsed) of the next message and the length of the bytes that follow.

    ``until``: see :func:`receive_into`.
    """
    (length,) = struct.unpack(">I", receive_exactly(sock, 4, until))
    if length > MAX_HEADER_BYTES:
        raise WireError("an answer longer than any honest one")
    header = receive_exactly(sock, length, until)
    (blob,) = struct.unpack(">Q", receive_exactly(sock, 8, until))
    if blob > MAX_BLOB_BYTES:
        raise WireError("an answer longer than any honest one")
    return header, blob


def receive_exactly(sock: socket.socket, length: int, until: float | None = None) -> bytes:
    """``length`` bytes, or :class:`WireError`."""
    buffer = bytearray(length)
    receive_into(sock, memoryview(buffer), until)
    return bytes(buffer)


def receive_into(sock: socket.socket, view: memoryview, until: float | None = None) -> None:
    """Fill ``view`` (contiguous bytes) from the socket, or raise :class:`WireError`.

    ``until`` (monotonic seconds): raises TimeoutError then, however often a byte comes before.
    """
    while len(view):
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        count = sock.recv_into(view)
        if count == 0:
            raise WireError("the other end went away")
        view = view[count:]
