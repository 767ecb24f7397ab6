"""One SFTP connection with many requests under way at once.

Any number of threads ask; one thread reads the answers and hands each to who waits for it.  So a small object
costs its round trips to its own caller only, and large ones fill the line.  Data goes from the caller's memory
into the line and from the line into the caller's memory, without a copy in between.

Encryption is not done here: the line is whatever carries bytes to an SFTP server, see
:mod:`connectors.clusters.openssh`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from hdrs_hpc.sealing.objects import Bytes
from hdrs_hpc.sealing.objects import sftp_wire as wire
from hdrs_hpc.sealing.objects.sftp_wire import Attributes, Fields, Request, SftpGarbledError, Told

MODEST_BYTES = 32 * 1024
"""What every server must take at once; more only from one that tells its limits."""
LARGE_BYTES = 255 * 1024
"""OpenSSH's own limit."""
READS_AT_ONCE = 64
LISTINGS_AT_ONCE = 8
LONGEST_ANSWER = 4
"""Times the time limit."""
_BUFFER_BYTES = 64 * 1024
_DATA_HEAD_BYTES = 4 + 1 + 4 + 4
_HEAD = struct.Struct(">IBI")


class SftpLostError(ConnectionError):
    """The connection ended; what was under way may or may not have happened."""


class Answer:
    """What one request will be answered; see :meth:`SftpSession.wait`."""

    __slots__ = ("_absent", "_failure", "into", "kind", "message")

    def __init__(self, into: memoryview | None = None) -> None:
        self._absent = threading.Lock()  # an Event would cost several times as much
        self._absent.acquire()
        self._failure: Exception | None = None
        self.into = into
        self.kind = 0
        self.message = b""
        """The message after its request's number; of data that went into ``into`` only the length, u32."""

    def arrived(self, kind: int, message: bytes) -> None:
        self.kind, self.message = kind, message
        self._absent.release()

    def lost(self, failure: Exception) -> None:
        self._failure = failure
        self._absent.release()

    def is_there(self, within_s: float) -> bool:
        if not self._absent.acquire(timeout=within_s):
            return False
        self._absent.release()
        return True

    def fields(self, kind: Told) -> Fields:
        """Its fields.  Raises what the server's refusal says, SftpLostError, SftpGarbledError."""
        if self._failure is not None:
            raise SftpLostError(str(self._failure)) from self._failure
        fields = Fields(self.message)
        if self.kind == Told.STATUS and kind != Told.STATUS:
            raise wire.refusal(fields.u32())
        if self.kind != kind:
            raise SftpGarbledError("an answer of another kind than was asked for")
        return fields

    def is_end(self) -> bool:
        return self.kind == Told.STATUS and self.fields(Told.STATUS).u32() == wire.EOF


class SftpSession:
    """Takes over ``line``, on which an SFTP server answers; ``hang_up`` is called once, when it ends.

    A request that gets no answer while nothing at all arrives for ``timeout_s`` (``connect_timeout_s`` for
    the first) ends the connection.  All methods raise a ConnectionError or TimeoutError when it ends, and
    other OSErrors where the server refuses.
    """

    def __init__(
        self,
        line: socket.socket,
        timeout_s: float,
        hang_up: Callable[[], object],
        connect_timeout_s: float | None = None,
    ) -> None:
        self._line = line
        self._timeout_s = timeout_s if connect_timeout_s is None else connect_timeout_s
        self._hang_up = hang_up
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        hello = Answer()
        # Where other answers have their request's number, the first has the version.
        self._waiting: dict[int, Answer] = {wire.VERSION: hello}
        self._next_number = wire.VERSION + 1
        self._ended: Exception | None = None
        self._heard = time.monotonic()
        # Seconds and microseconds, for sends only: the reading thread may wait for ever.
        limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        threading.Thread(target=self._read_answers, name="sftp", daemon=True).start()
        self._send([_HEAD.pack(5, wire.Ask.INIT, wire.VERSION)])
        fields = self.wait(hello).fields(Told.VERSION)
        extensions = set()
        while fields.more():
            extensions.add(fields.text())
            fields.text()
        self._timeout_s = timeout_s
        self.can_sync: Final = wire.FSYNC in extensions
        self.write_bytes, self.read_bytes = MODEST_BYTES, MODEST_BYTES
        if wire.LIMITS in extensions:
            limits = self.wait(self.ask(wire.limits())).fields(Told.EXTENDED_REPLY)
            limits.u64()
            read, write = limits.u64(), limits.u64()
            self.read_bytes = max(MODEST_BYTES, min(LARGE_BYTES, read))
            self.write_bytes = max(MODEST_BYTES, min(LARGE_BYTES, write))

    @property
    def alive(self) -> bool:
        return self._ended is None

    def close(self) -> None:
        self._end(SftpLostError("closed"))

    def ask(self, request: Request) -> Answer:
        """Send one request; its answer comes later.  Its data may be used again when this returns."""
        (answer,) = self.ask_all(request)
        return answer

    def ask_all(self, *requests: Request) -> list[Answer]:
        """Send several in one go; OpenSSH works them off in this order."""
        answers = [Answer(request.into) for request in requests]
        parts: list[Bytes] = []
        with self._lock:
            if self._ended is not None:
                raise SftpLostError(str(self._ended)) from self._ended
            number = self._next_number
            self._next_number = (number + len(requests)) & 0x7FFFFFFF
            for request, answer in zip(requests, answers, strict=True):
                self._waiting[number] = answer
                length = 5 + len(request.body) + len(request.data)
                parts.append(_HEAD.pack(length, request.kind, number) + request.body)
                if request.data:
                    parts.append(request.data)
                number += 1
        self._send(parts)
        return answers

    def tell(self, request: Request) -> None:
        """Send a request whose answer nobody waits for; no error where the connection is over."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.ask(request)

    def wait(self, answer: Answer) -> Answer:
        """Until it is there.  Raises TimeoutError, and ends the connection, when nothing arrives any more.

        A server that sends a byte now and then, and never the answer, has ``LONGEST_ANSWER`` times as long.
        """
        begun = time.monotonic()
        at_last = begun + LONGEST_ANSWER * self._timeout_s
        while True:
            left_s = min(at_last, max(begun, self._heard) + self._timeout_s) - time.monotonic()
            if answer.is_there(max(0.0, left_s)):
                return answer
            if left_s <= 0:
                late = TimeoutError("no answer in time")
                self._end(late)
                raise late

    def succeed(self, answer: Answer) -> None:
        """Wait, and raise unless the answer is OK."""
        if (status := self.wait(answer).fields(Told.STATUS).u32()) != wire.OK:
            raise wire.refusal(status)

    def handle(self, answer: Answer) -> bytes:
        """Wait for a handle.  Raises FileNotFoundError where a file, or a new one's folder, is missing."""
        return self.wait(answer).fields(Told.HANDLE).text()

    def attributes(self, answer: Answer) -> Attributes:
        """Wait for attributes.  Raises FileNotFoundError."""
        return self.wait(answer).fields(Told.ATTRS).attributes()

    def real_path(self, path: str) -> str:
        """Without links, dots and what is relative.  Raises FileNotFoundError, UnicodeDecodeError."""
        fields = self.wait(self.ask(wire.real_path(path))).fields(Told.NAME)
        if fields.u32() != 1:
            raise SftpGarbledError("one path was asked for, and another number told")
        return fields.text().decode("utf-8")

    def read_into(self, handle: bytes, start: int, target: memoryview) -> int:
        """Fill ``target``; gives the bytes there were, fewer only where the file ends."""
        under_way: deque[tuple[Answer, int, int]] = deque()
        asked, filled = 0, len(target)
        while asked < len(target) or under_way:
            if asked < len(target) and len(under_way) < READS_AT_ONCE:
                at, asked = asked, min(len(target), asked + self.read_bytes)
                under_way.append((self.ask(wire.read(handle, start + at, target[at:asked])), at, asked))
                continue
            answer, at, end = under_way.popleft()
            if self.wait(answer).is_end():
                filled = min(filled, at)
                continue
            count = answer.fields(Told.DATA).u32()
            if count == 0:
                raise SftpGarbledError("no bytes where some were promised")
            if at + count < end:
                again = self.ask(wire.read(handle, start + at + count, target[at + count : end]))
                under_way.append((again, at + count, end))
        return filled

    def listing(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """Names in a folder; links are not followed.  Raises FileNotFoundError."""
        handle = self.handle(self.ask(wire.open_folder(path)))
        under_way: deque[Answer] = deque()
        try:
            while True:
                while len(under_way) < LISTINGS_AT_ONCE:
                    under_way.append(self.ask(wire.next_names(handle)))
                answer = self.wait(under_way.popleft())
                if answer.is_end():
                    return
                fields = answer.fields(Told.NAME)
                if not (count := fields.u32()):
                    raise SftpGarbledError("no names where some were promised")
                for _ in range(count):
                    name = fields.text().decode("utf-8", "surrogateescape")
                    fields.text()
                    yield name, fields.attributes()
        finally:
            self.tell(wire.close(handle))

    def _send(self, parts: list[Bytes]) -> None:
        try:
            with self._sending:
                sent = self._line.sendmsg(parts)
                for part in parts:
                    if sent < len(part):
                        self._line.sendall(memoryview(part)[sent:])
                    sent = max(0, sent - len(part))
        except BlockingIOError:
            late = TimeoutError("the line takes nothing more")
            self._end(late)
            raise late from None
        except OSError as error:
            self._end(error)
            raise SftpLostError(str(self._ended)) from error

    def _read_answers(self) -> None:
        view = memoryview(bytearray(_BUFFER_BYTES))
        have = 0
        try:
            while True:
                have += self._receive_some(view[have:])
                at = 0
                while (size := self._hand_out_first(view[at:have])) is not None:
                    at += size
                view[: have - at] = bytes(view[at:have])
                have -= at
        except OSError as error:
            self._end(error)
        finally:
            self._line.close()

    def _hand_out_first(self, there: memoryview) -> int | None:
        """Deal with the first message in ``there``; gives its bytes there, None while its head is missing."""
        if len(there) < 4:
            return None
        length = int.from_bytes(there[:4])
        if not 5 <= length <= wire.MAX_MESSAGE_BYTES:
            raise SftpGarbledError("not an SFTP message")
        if len(there) < min(_DATA_HEAD_BYTES, 4 + length):
            return None
        _, kind, number = _HEAD.unpack_from(there)
        answer = self._waiting.get(number)
        if answer is None:
            raise SftpGarbledError("an answer to nothing")
        whole: int = 4 + length
        here = min(whole, len(there))
        if kind == Told.DATA and answer.into is not None:
            message = bytes(there[9:13])
            size = int.from_bytes(message)
            if size != whole - _DATA_HEAD_BYTES or size > len(answer.into):
                raise SftpGarbledError("data of another length than was asked for")
            answer.into[: here - _DATA_HEAD_BYTES] = there[_DATA_HEAD_BYTES:here]
            self._receive(answer.into[here - _DATA_HEAD_BYTES : size])
        elif here < whole:
            rest = bytearray(whole - here)
            self._receive(memoryview(rest))
            message = bytes(there[9:here]) + rest
        else:
            message = bytes(there[9:whole])
        with self._lock:
            waits = self._waiting.pop(number, None) is not None
        if waits:
            answer.arrived(kind, message)
        return here

    def _receive(self, target: memoryview) -> None:
        while target:
            target = target[self._receive_some(target) :]

    def _receive_some(self, target: memoryview) -> int:
        count = self._line.recv_into(target)
        if not count:
            raise SftpLostError("the server ended the connection")
        self._heard = time.monotonic()
        return count

    def _end(self, why: Exception) -> None:
        """The connection is over; all who wait learn it."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = why
            waiting, self._waiting = self._waiting, {}
        with contextlib.suppress(OSError):  # it may have ended before
            self._line.shutdown(socket.SHUT_RDWR)
        for answer in waiting.values():
            answer.lost(why)
        self._hang_up()
