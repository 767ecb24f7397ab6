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
from hdrs_hpc.sealing.objects.sftp_wire import (
    CREATE_FLAG,
    EOF,
    EXCLUSIVE_FLAG,
    FSYNC,
    LIMITS,
    MAX_MESSAGE_BYTES,
    NO_ATTRIBUTES,
    OK,
    READ_FLAG,
    VERSION,
    WRITE_FLAG,
    Ask,
    Attributes,
    Fields,
    SftpGarbledError,
    Told,
    mode_attributes,
    path_of,
    refusal,
    text,
)

MODEST_BYTES = 32 * 1024
"""What every server must take at once; more only from one that tells its limits."""
LARGE_BYTES = 255 * 1024
"""OpenSSH's own limit."""
READS_AT_ONCE = 64
LISTINGS_AT_ONCE = 8
_BUFFER_BYTES = 64 * 1024
_DATA_HEAD_BYTES = 4 + 1 + 4 + 4


class SftpLostError(ConnectionError):
    """The connection ended; what was under way may or may not have happened."""


class Answer:
    """What one request will be answered.  ``into`` is where READ's data go, if there are any."""

    __slots__ = ("_done", "_failure", "into", "kind", "message")

    def __init__(self, into: memoryview | None = None) -> None:
        self._done = threading.Event()
        self._failure: Exception | None = None
        self.into = into
        self.kind = 0
        self.message = b""
        """The message after its request id; for data that went into ``into`` its length, u32."""

    def arrived(self, kind: int, message: bytes) -> None:
        self.kind, self.message = kind, message
        self._done.set()

    def lost(self, failure: Exception) -> None:
        self._failure = failure
        self._done.set()

    def is_there(self, timeout_s: float) -> bool:
        return self._done.wait(timeout_s)

    def fields(self, kind: Told) -> Fields:
        """Its fields.  Raises what the server's refusal says, SftpLostError, SftpGarbledError."""
        if self._failure is not None:
            raise SftpLostError(str(self._failure)) from self._failure
        fields = Fields(self.message)
        if self.kind == Told.STATUS and kind != Told.STATUS:
            raise refusal(fields.u32())
        if self.kind != kind:
            raise SftpGarbledError("an answer of another kind than was asked for")
        return fields

    def status(self) -> int:
        return self.fields(Told.STATUS).u32()


class SftpSession:
    """Takes over ``line``, on which an SFTP server answers; ``hang_up`` is called once, when it ends.

    A request that gets no answer while nothing at all arrives for ``timeout_s`` ends the connection.
    Everything below raises SftpLostError or another ConnectionError or TimeoutError when the connection ends,
    and other OSErrors where the server refuses.
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
        self._waiting: dict[int, Answer] = {VERSION: hello}
        self._next_number = VERSION + 1
        self._ended: Exception | None = None
        self._heard = time.monotonic()
        # Seconds and microseconds, for sends only: the reading thread may wait for ever.
        limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        threading.Thread(target=self._read_answers, name="sftp", daemon=True).start()
        self._send([struct.pack(">IBI", 5, Ask.INIT, VERSION)])
        fields = self.wait(hello).fields(Told.VERSION)
        extensions = set()
        while fields.more():
            extensions.add(fields.text())
            fields.text()
        self._timeout_s = timeout_s
        self.can_sync: Final = FSYNC in extensions
        self.write_bytes, self.read_bytes = MODEST_BYTES, MODEST_BYTES
        if LIMITS in extensions:
            limits = self.wait(self.ask(Ask.EXTENDED, text(LIMITS))).fields(Told.EXTENDED_REPLY)
            limits.u64()
            read, write = limits.u64(), limits.u64()
            self.read_bytes = min(LARGE_BYTES, read) or MODEST_BYTES
            self.write_bytes = min(LARGE_BYTES, write) or MODEST_BYTES

    @property
    def alive(self) -> bool:
        return self._ended is None

    def close(self) -> None:
        self._end(SftpLostError("closed"))

    # ── files ──

    def create(self, path: str) -> Answer:
        """A new file, 0600; its handle is to be seen."""
        flags = struct.pack(">I", WRITE_FLAG | CREATE_FLAG | EXCLUSIVE_FLAG)
        return self.ask(Ask.OPEN, path_of(path) + flags + mode_attributes(0o600))

    def open(self, path: str) -> Answer:
        """A file, or with OpenSSH a folder, for reading; its handle is to be seen."""
        return self.ask(Ask.OPEN, path_of(path) + struct.pack(">I", READ_FLAG) + NO_ATTRIBUTES)

    def handle(self, answer: Answer) -> bytes:
        """Wait for a handle.  Raises FileNotFoundError where a file, or a new one's folder, is missing."""
        return self.wait(answer).fields(Told.HANDLE).text()

    def write(self, handle: bytes, offset: int, data: Bytes) -> Answer:
        """At most ``write_bytes``.  ``data`` may be used again when this returns; its status is to be seen."""
        head = text(handle) + struct.pack(">QI", offset, len(data))
        return self.ask(Ask.WRITE, head, data)

    def sync(self, handle: bytes) -> Answer:
        """To the medium; only where ``can_sync``."""
        return self.ask(Ask.EXTENDED, text(FSYNC) + text(handle))

    def read_into(self, handle: bytes, start: int, target: memoryview) -> None:
        """Fill ``target``.  Raises EOFError where the file ends before."""
        under_way: deque[tuple[Answer, int, memoryview]] = deque()

        def ask(at: int, part: memoryview) -> None:
            body = text(handle) + struct.pack(">QI", at, len(part))
            under_way.append((self.ask(Ask.READ, body, into=part), at, part))

        asked = 0
        while asked < len(target) or under_way:
            if asked < len(target) and len(under_way) < READS_AT_ONCE:
                part = target[asked : asked + self.read_bytes]
                ask(start + asked, part)
                asked += len(part)
                continue
            answer, at, part = under_way.popleft()
            self.wait(answer)
            if answer.kind == Told.STATUS and answer.status() == EOF:
                raise EOFError
            count = answer.fields(Told.DATA).u32()
            if count == 0:
                raise SftpGarbledError("no bytes where some were promised")
            if count < len(part):
                ask(at + count, part[count:])

    def close_handle(self, handle: bytes) -> Answer:
        return self.ask(Ask.CLOSE, text(handle))

    def handle_attributes(self, handle: bytes) -> Answer:
        return self.ask(Ask.FSTAT, text(handle))

    # ── names ──

    def attributes(self, path: str, *, follow: bool = False) -> Attributes:
        kind = Ask.STAT if follow else Ask.LSTAT
        return self.wait(self.ask(kind, path_of(path))).fields(Told.ATTRS).attributes()

    def rename(self, old: str, new: str) -> Answer:
        """OpenSSH links and unlinks: what is there is never replaced, as posix-rename would."""
        return self.ask(Ask.RENAME, path_of(old) + path_of(new))

    def remove(self, path: str) -> Answer:
        return self.ask(Ask.REMOVE, path_of(path))

    def make_folder(self, path: str) -> None:
        """0700.  Raises SftpRefusedError when there is one already."""
        self.succeed(self.ask(Ask.MKDIR, path_of(path) + mode_attributes(0o700)))

    def listing(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """Names in a folder; links are not followed.  Raises FileNotFoundError."""
        handle = self.handle(self.ask(Ask.OPENDIR, path_of(path)))
        under_way: deque[Answer] = deque()
        try:
            while True:
                while len(under_way) < LISTINGS_AT_ONCE:
                    under_way.append(self.ask(Ask.READDIR, text(handle)))
                answer = self.wait(under_way.popleft())
                if answer.kind == Told.STATUS and answer.status() == EOF:
                    return
                fields = answer.fields(Told.NAME)
                for _ in range(fields.u32()):
                    name = fields.text().decode("utf-8", "surrogateescape")
                    fields.text()
                    yield name, fields.attributes()
        finally:
            if self.alive:
                self.close_handle(handle)

    # ── questions and answers ──

    def ask(self, kind: Ask, body: bytes, data: Bytes = b"", into: memoryview | None = None) -> Answer:
        """Send one request; its answer comes later."""
        answer = Answer(into)
        with self._lock:
            if self._ended is not None:
                raise SftpLostError(str(self._ended)) from self._ended
            number = self._next_number
            self._next_number = (number + 1) & 0xFFFFFFFF
            self._waiting[number] = answer
        head = struct.pack(">IBI", 5 + len(body) + len(data), kind, number) + body
        self._send([head, data] if len(data) else [head])
        return answer

    def wait(self, answer: Answer) -> Answer:
        """Until it is there.  Raises TimeoutError, and ends the connection, when nothing arrives any more."""
        since = time.monotonic()
        while not answer.is_there(max(0.0, max(since, self._heard) + self._timeout_s - time.monotonic())):
            if time.monotonic() - max(since, self._heard) >= self._timeout_s:
                late = TimeoutError("no answer in time")
                self._end(late)
                raise late
        return answer

    def succeed(self, answer: Answer) -> None:
        """Wait, and raise unless the answer is OK."""
        status = self.wait(answer).status()
        if status != OK:
            raise refusal(status)

    def _send(self, parts: list[Bytes]) -> None:
        try:
            with self._sending:
                sent = self._line.sendmsg(parts)
                if sent < sum(map(len, parts)):
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
        buffer = bytearray(_BUFFER_BYTES)
        view = memoryview(buffer)
        have = 0
        try:
            while True:
                count = self._line.recv_into(view[have:])
                if not count:
                    raise SftpLostError("the server ended the connection")
                self._heard = time.monotonic()
                have += count
                at = 0
                while (size := self._one(view[at:have])) is not None:
                    at += size
                view[: have - at] = bytes(view[at:have])
                have -= at
        except OSError as error:
            self._end(error)
        finally:
            self._line.close()

    def _one(self, there: memoryview) -> int | None:
        """Deal with the first message in ``there``; gives its bytes there, None while it is not whole."""
        if len(there) < _DATA_HEAD_BYTES and (len(there) < 4 or len(there) < 4 + int.from_bytes(there[:4])):
            return None
        length = int.from_bytes(there[:4])
        if not 5 <= length <= MAX_MESSAGE_BYTES:
            raise SftpGarbledError("not an SFTP message")
        kind, number = there[4], int.from_bytes(there[5:9])
        whole = 4 + length
        answer = self._waiting.get(number)
        if answer is None:
            raise SftpGarbledError("an answer to nothing")
        if kind == Told.DATA and answer.into is not None:
            size = int.from_bytes(there[9:13])
            if size != length - 9 or size > len(answer.into):
                raise SftpGarbledError("data of another length than was asked for")
            here = min(len(there), whole) - _DATA_HEAD_BYTES
            answer.into[:here] = there[_DATA_HEAD_BYTES : _DATA_HEAD_BYTES + here]
            self._receive(answer.into[here:size])
            message = bytes(there[9:13])
        elif len(there) >= whole:
            message = bytes(there[9:whole])
        else:
            rest = bytearray(whole - len(there))
            self._receive(memoryview(rest))
            message = bytes(there[9:]) + bytes(rest)
        with self._lock:
            self._waiting.pop(number, None)
        answer.arrived(kind, message)
        return min(whole, len(there))

    def _receive(self, target: memoryview) -> None:
        while target:
            count = self._line.recv_into(target)
            if not count:
                raise SftpLostError("the server ended the connection")
            self._heard = time.monotonic()
            target = target[count:]

    def _end(self, why: Exception) -> Exception:
        """The connection is over, for ``why``; all who wait learn it."""
        with self._lock:
            if self._ended is not None:
                return self._ended
            self._ended = why
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.lost(why)
        with contextlib.suppress(OSError):  # it may have ended before
            self._line.shutdown(socket.SHUT_RDWR)
        self._hang_up()
        return why
