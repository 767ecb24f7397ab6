"""One end of a stream connection whose two ends may speak at once.

Two processes that both write before they read wait for each other for ever as soon as what is under way does not
fit into the kernel's buffers, however large those are.  So nothing here waits for room: what is said is queued, and
goes out while the answer is waited for.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque

Bytes = bytes | bytearray | memoryview

LENGTH_BYTES = 4
"""Before each message."""
_PIECE_BYTES = 1 << 20


class LineEndedError(ConnectionError):
    """The other end went away in the midst of a message; an internal signal, never shown as it is."""


class MessageTooLongError(ConnectionError):
    """The other end announced more than it may say: nothing it says is read any more."""


class Line:
    """Wraps a connected stream socket, which becomes non-blocking; one thread at a time.

    ``until`` is in monotonic seconds: TimeoutError is raised then, however often a byte comes or goes before.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unsent: deque[tuple[memoryview, int | None]] = deque()
        self._ends = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    @property
    def unsent_bytes(self) -> int:
        """What is queued and not yet with the kernel."""
        return sum(len(piece) for piece, _ in self._unsent)

    def say(self, *parts: Bytes, handle: int | None = None) -> None:
        """Queue bytes, to be left as they are until sent.  ``handle``: an open descriptor that goes with the first
        of them (SCM_RIGHTS)."""
        for part in parts:
            if len(part):
                self._unsent.append((memoryview(part).cast("B"), handle))
                handle = None

    def say_message(self, *parts: Bytes) -> None:
        """Queue one message in the form that processes of ours speak: u32 length, big endian, then that many bytes."""
        self.say(sum(map(len, parts)).to_bytes(LENGTH_BYTES), *parts)

    def receive_message(self, most: int, until: float) -> bytes:
        """The next message, of at most ``most`` bytes.  Raises MessageTooLongError before anything of a longer one is
        read, and what :meth:`receive` raises."""
        length = int.from_bytes(self.receive(LENGTH_BYTES, until))
        if length > most:
            raise MessageTooLongError(f"a message of {length} bytes where {most} are allowed")
        return self.receive(length, until)

    def say_no_more(self) -> None:
        """Once all is sent, let the other end see that nothing follows."""
        self._ends = True
        self._send_some()

    def receive(self, length: int, until: float) -> bytes:
        """``length`` bytes; sends what is queued meanwhile.  Raises LineEndedError, TimeoutError."""
        buffer = bytearray(length)
        self.receive_into(memoryview(buffer), until)
        return bytes(buffer)

    def receive_into(self, view: memoryview, until: float) -> None:
        """The same, into contiguous bytes."""
        while len(view):
            self._send_some()
            _check(until)
            try:
                count = self._sock.recv_into(view)
            except BlockingIOError:
                self._wait(until, select.POLLIN)
                continue
            if count == 0:
                raise LineEndedError("the other end went away")
            view = view[count:]

    def receive_line(self, most: int, until: float) -> bytes:
        """Bytes up to and with the next line end, ``most`` at most; fewer where the other end stops speaking first.

        The other end must say nothing after the line before it is answered: what came with it is dropped.
        """
        found = bytearray()
        while len(found) < most:
            self._send_some()
            _check(until)
            try:
                piece = self._sock.recv(min(_PIECE_BYTES, most - len(found)))
            except BlockingIOError:
                self._wait(until, select.POLLIN)
                continue
            if not piece:
                break
            found += piece
            if (at := piece.find(b"\n")) >= 0:
                return bytes(found[: len(found) - len(piece) + at + 1])
        return bytes(found)

    def flush(self, until: float) -> None:
        """Wait until all that was said has gone.  Raises TimeoutError; an end that went away is not told here."""
        while self._unsent:
            self._send_some()
            if self._unsent:
                _check(until)
                self._wait(until, 0)

    def _send_some(self) -> None:
        """As much as the kernel takes at once.  An end that hears no more may have answered before: read on."""
        try:
            while self._unsent:
                piece, handle = self._unsent[0]
                some = piece[:_PIECE_BYTES]
                sent = (
                    self._sock.send(some) if handle is None else socket.send_fds(self._sock, [some], [handle])
                )
                if sent == len(piece):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = (piece[sent:], None)
            if self._ends:
                self._ends = False
                self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent.clear()
            self._ends = False

    def _wait(self, until: float, events: int) -> None:
        self._poll.modify(self._sock, events | (select.POLLOUT if self._unsent else 0))
        self._poll.poll(max(0.0, until - time.monotonic()) * 1000)


def _check(until: float) -> None:
    if time.monotonic() >= until:
        raise TimeoutError("the other end took too long")
