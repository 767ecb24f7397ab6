"""Serves plaintext of the inputs to the workload: requests through a unix socket, bytes through shared memory.

Each connection has one slot of memory and one thread.  The slot is written here and can only be read there: its
size and further writing are sealed before it is passed on, so a workload can neither alter what another process
reads nor cut it short under our feet.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.node.meter import Meter
from hdrs_hpc.protocol import datasocket
from hdrs_hpc.protocol.datasocket import FrameError, Listing, Op, Range, Status
from hdrs_hpc.sealing.manifest import PathNotInCopyError
from hdrs_hpc.sealing.place import ROOT_ITEM, item_of
from hdrs_hpc.sealing.reader import SealedCopy

MAX_CONNECTIONS = 1024
LIST_PAGE = 2000
# linux/fcntl.h; not in the fcntl module
_F_SEAL_FUTURE_WRITE = 0x0010


class DataServer:
    """Serves ``inputs`` at ``path`` until closed."""

    def __init__(self, path: Path, inputs: Mapping[str, SealedCopy], meter: Meter) -> None:
        self._inputs = inputs
        self._meter = meter
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(128)
        threading.Thread(target=self._accept, name="data", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, _Slot() as slot:
                self._serve_frames(connection, slot)
        except OSError:
            return  # the workload's process went away
        finally:
            self._room.release()

    def _serve_frames(self, connection: socket.socket, slot: _Slot) -> None:
        try:
            while (request := _receive(connection)) is not None:
                self._answer(connection, slot, *request)
        except FrameError:
            self._meter.alarm()  # and the connection ends: what follows can't be told apart

    def _answer(self, connection: socket.socket, slot: _Slot, kind: int, body: bytes) -> None:
        if kind == Op.OPEN:
            if datasocket.parse_open(body) != datasocket.VERSION:
                raise FrameError("another version of the protocol")
            reply = datasocket.frame(Status.OK, datasocket.opened_body(datasocket.SLOT_BYTES))
            sent = socket.send_fds(connection, [reply], [slot.fd])
            connection.sendall(reply[sent:])
            return
        connection.sendall(datasocket.frame(*self._outcome(slot, kind, body)))

    def _outcome(self, slot: _Slot, kind: int, body: bytes) -> tuple[Status, bytes]:
        try:
            return Status.OK, self._act(slot, kind, body)
        except KeyError:
            return Status.NO_SUCH_INPUT, b""
        except FrameError:
            self._meter.alarm()
            return Status.BAD_REQUEST, b""
        except HdrsError:
            return Status.UNREADABLE, b""

    def _act(self, slot: _Slot, kind: int, body: bytes) -> bytes:
        """Raises KeyError for an unknown input."""
        if kind == Op.READ:
            return self._read(slot, *datasocket.parse_read(body))
        if kind == Op.SIZES:
            name, paths = datasocket.parse_sizes(body)
            return datasocket.lengths_body([_size(self._inputs[name], path) for path in paths])
        if kind == Op.LIST:
            return self._list(*datasocket.parse_list(body))
        if kind == Op.CHILDREN:
            return self._children(*datasocket.parse_list(body))
        if kind == Op.INPUTS and not body:
            return datasocket.names_body(sorted(self._inputs))
        raise FrameError("an unknown request")

    def _read(self, slot: _Slot, name: str, ranges: list[Range]) -> bytes:
        copy = self._inputs[name]
        at = 0
        lengths: list[int] = []
        try:
            for wanted in ranges:
                try:
                    room = slot.view[at : at + wanted.length]
                    lengths.append(copy.read_into(wanted.path, wanted.start, room))
                    at += lengths[-1]
                except PathNotInCopyError:
                    lengths.append(datasocket.MISSING)
        finally:  # what lies in the slot was served, whatever became of the rest
            items = {item_of(wanted.path) for wanted in ranges} - {ROOT_ITEM}
            self._meter.served(name, items, at)
        return datasocket.lengths_body(lengths)

    def _list(self, name: str, prefix: str, after: str) -> bytes:
        found = list(islice(self._inputs[name].entries(prefix, after), LIST_PAGE + 1))
        page = _page((entry.path, entry.size) for entry in found[:LIST_PAGE])
        return datasocket.listing_body(Listing(page, more=len(page) < len(found)))

    def _children(self, name: str, folder: str, after: str) -> bytes:
        names = self._inputs[name].children(folder)
        first = bisect_right(names, after)
        page = _page((child, 0) for child in islice(names, first, None))
        return datasocket.listing_body(Listing(page, more=first + len(page) < len(names)))


class _Slot:
    """Shared memory of one connection.  ``fd`` may be passed on; only this side's mapping can write."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, datasocket.SLOT_BYTES)
        self._map = mmap.mmap(self.fd, datasocket.SLOT_BYTES)
        # Sealed while our writable mapping exists: from here on nobody can make another, and nobody can shrink
        # the file, which would kill this process with SIGBUS at its next write.
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        self.view = memoryview(self._map)

    def __enter__(self) -> _Slot:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)
        # Frames of an error may still look at it; the map then goes with the last of them.
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


def _page(entries: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """As many as fit into one frame."""
    room = datasocket.MAX_FRAME // 2
    page: list[tuple[str, int]] = []
    for entry in entries:
        room -= len(entry[0].encode("utf-8")) + 10
        if room < 0:
            break
        page.append(entry)
    return tuple(page)


def _size(copy: SealedCopy, path: str) -> int:
    entry = copy.find(path)
    return datasocket.MISSING if entry is None else entry.size


def _receive(connection: socket.socket) -> tuple[int, bytes] | None:
    """One frame, or None at the end of the connection."""
    head = _exactly(connection, datasocket.HEAD_BYTES)
    if head is None:
        return None
    kind, length = datasocket.parse_head(head)
    body = _exactly(connection, length)
    if body is None:
        raise FrameError("the connection ended within a frame")
    return kind, body


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < size:
        piece = connection.recv(size - len(pieces))
        if not piece:
            if pieces:
                raise FrameError("the connection ended within a frame")
            return None
        pieces += piece
    return bytes(pieces)
