"""Sockets and pipes on which nothing fits: the kernel's smallest buffers, and ends that take and give single bytes.

An exchange in which both ends may write at once, each before it reads, stands still here at the first kilobytes.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SMALLEST_PIPE_BYTES = 4096


class NarrowSocket(socket.socket):
    """With the smallest buffers that the kernel gives: 4,608 and 2,304 bytes, its own bookkeeping included."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self.setsockopt(socket.SOL_SOCKET, option, 1)


class ByteSocket(NarrowSocket):
    """Takes and gives one byte a call."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        return super().recv(min(size, 1), flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return super().recv_into(memoryview(buffer).cast("B")[:1], 0, flags)

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> Any:
        return super().recvmsg(min(size, 1), ancillary, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        return super().send(memoryview(data).cast("B")[:1], flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        for byte in memoryview(data).cast("B"):
            super().sendall(bytes([byte]), flags)

    def sendmsg(self, buffers: Any, ancillary: Any = (), *more: Any) -> int:
        whole = b"".join(bytes(memoryview(one).cast("B")[:1]) for one in buffers)
        return super().sendmsg([whole[:1]], ancillary, *more)


KINDS: dict[str, type[NarrowSocket]] = {"smallest buffers": NarrowSocket, "single bytes": ByteSocket}


@contextmanager
def sockets(kind: type[NarrowSocket]) -> Iterator[None]:
    """Every socket that this process makes inside is of this kind, accepted ones and pairs too."""
    ordinary = socket.socket
    socket.socket = kind  # type: ignore[misc]
    try:
        yield
    finally:
        socket.socket = ordinary  # type: ignore[misc]


@contextmanager
def pipes() -> Iterator[None]:
    """Every pipe to a process started inside holds one page."""
    ordinary = subprocess.Popen.__init__

    def narrow(self: Any, *arguments: Any, **more: Any) -> None:
        ordinary(self, *arguments, pipesize=SMALLEST_PIPE_BYTES, **more)

    subprocess.Popen.__init__ = narrow  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = ordinary  # type: ignore[method-assign]
