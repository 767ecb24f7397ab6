"""A client of the agent's data socket: sizes, listings and batched ranged reads."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.protocol import datasocket
from hdrs_hpc.protocol.datasocket import MISSING, DataServerError, Op, Range, Status

MAX_IDLE = 8
"""Connections kept for the next request; each holds a mapping of one slot."""
REQUEST_BYTES = 2 << 20
"""Asked for at once: what the agent wrote is still in the processor's cache when it is copied from the slot."""
READ_AHEAD = 1
"""Requests under way while the answer to an earlier one is used."""
MAX_KNOWN_SIZES = 200_000
SOCKET_VARIABLE = "HDRS_DATA_SOCKET"
_NAMED_PER_FRAME = 1000
_SMALL_BYTES = 64 << 10

type Data = bytes | memoryview


class NoSuchInputError(NotFoundError):
    code = "no-such-input"
    meaning = "The job has no input of that name."
    remedy = "Inputs are named under `data:` in the job spec."


class NotInJobError(NotFoundError):
    code = "not-in-a-job"
    meaning = "There is no node agent to read from: this is not a job."
    remedy = "open_staged() works inside a job; outside, open a copy with `hdrs-hpc imaging`."


@dataclass(frozen=True)
class _Piece:
    """A part of range ``which`` that fits into one slot."""

    which: int
    at: int
    wanted: Range


class DataClient:
    """Talks to the agent at ``path``.  Thread safe; one connection a request in flight."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[_Connection] = deque()
        self._sizes: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def inputs(self) -> list[str]:
        return self._ask(Op.INPUTS, b"", lambda body, _: datasocket.parse_names(body))

    def paths(self, name: str, prefix: str = "") -> list[str]:
        """All paths of input ``name`` that begin with ``prefix``, sorted; their sizes are remembered."""
        found: list[str] = []
        more = True
        while more:
            body = datasocket.list_body(name, prefix, found[-1] if found else "")
            page = self._ask(Op.LIST, body, lambda reply, _: datasocket.parse_listing(reply))
            self._remember(name, page.entries)
            found += [path for path, _ in page.entries]
            more = page.more
        return found

    def children(self, name: str, folder: str) -> list[str]:
        """Names directly below ``folder`` (``""`` is the top), sorted."""
        found: list[str] = []
        more = True
        while more:
            body = datasocket.list_body(name, folder, found[-1] if found else "")
            page = self._ask(Op.CHILDREN, body, lambda reply, _: datasocket.parse_listing(reply))
            found += [child for child, _ in page.entries]
            more = page.more
        return found

    def sizes(self, name: str, paths: Sequence[str]) -> list[int]:
        """Bytes of each object, ``MISSING`` (-1) where there is none.  A copy never changes, so each is asked once."""
        unknown = list(dict.fromkeys(path for path in paths if (name, path) not in self._sizes))
        learnt: dict[str, int] = {}
        for start in range(0, len(unknown), _NAMED_PER_FRAME):
            part = unknown[start : start + _NAMED_PER_FRAME]
            reply = self._ask(Op.SIZES, datasocket.sizes_body(name, part), lambda body, _: body)
            lengths = datasocket.parse_lengths(reply, len(part))
            learnt.update(zip(part, lengths, strict=True))
        self._remember(name, learnt.items())
        return [learnt[path] if path in learnt else self._sizes[name, path] for path in paths]

    def read(self, name: str, ranges: Sequence[Range]) -> list[Data | None]:
        """The bytes of each range, None where there is no such object; as few round trips as slots allow."""
        made: list[Data | None] = [None] * len(ranges)
        for brought in self.arriving(name, ranges):
            for which, data in brought:
                made[which] = data
        return made

    def arriving(self, name: str, ranges: Sequence[Range]) -> Iterator[list[tuple[int, Data | None]]]:
        """Like :meth:`read`, request by request: numbers of the ranges that are now whole, with their bytes.

        While the bytes of one request are copied and used, the agent already opens those of the next.
        """
        clipped = self._clipped(name, ranges)
        part: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None  # pieces of one range come in order
        for batch, lengths, slot in self._answers(name, _batches(clipped, REQUEST_BYTES)):
            brought: list[tuple[int, Data | None]] = []
            at = 0
            for piece, length in zip(batch, lengths, strict=True):
                whole = clipped[piece.which].length
                if length == MISSING:
                    brought.append((piece.which, None))
                    continue
                data = slot[at : at + length]
                at += length
                if piece.wanted.length == whole:
                    brought.append((piece.which, _copied(data)))
                    continue
                if length != piece.wanted.length:
                    raise DataServerError("the agent gave less than there is")
                if part is None:
                    part = np.empty(whole, np.uint8)
                part[piece.at : piece.at + length] = np.frombuffer(data, np.uint8)
                if piece.at + length == whole:
                    brought.append((piece.which, part.data))
                    part = None
            yield brought

    @contextlib.contextmanager
    def lent(self, name: str, ranges: Sequence[Range]) -> Iterator[list[memoryview | None]]:
        """The bytes of each range where the agent wrote them, read-only, without a copy; valid within the block.

        None where there is no such object; beyond an object's end a view is shorter.  All ranges come in one
        request and so must fit into one slot together: raises ValueError for more than ``SLOT_BYTES`` bytes,
        ``MAX_RANGES`` ranges or more text than a frame holds.  The connection is held for the block.
        """
        batches = list(_batches(ranges, datasocket.SLOT_BYTES)) or [[]]
        if len(batches) > 1:
            raise ValueError(f"what is lent fits into one slot: {datasocket.SLOT_BYTES} bytes")
        body = datasocket.read_body(name, [piece.wanted for piece in batches[0]])
        with self._connection() as connection:
            lengths = datasocket.parse_lengths(connection.answer(Op.READ, body), len(ranges))
            with connection.loan(lengths) as views:
                yield views

    def _clipped(self, name: str, ranges: Sequence[Range]) -> list[Range]:
        """Ranges of more than one request end where their objects end, so that their bytes have one place."""
        long = [wanted.path for wanted in ranges if wanted.length > REQUEST_BYTES]
        sizes = dict(zip(long, self.sizes(name, long), strict=True)) if long else {}
        return [
            Range(wanted.path, wanted.start, max(0, min(wanted.length, sizes[wanted.path] - wanted.start)))
            if wanted.length > REQUEST_BYTES
            else wanted
            for wanted in ranges
        ]

    def _answers(
        self, name: str, batches: Iterable[list[_Piece]]
    ) -> Iterator[tuple[list[_Piece], tuple[int, ...], memoryview]]:
        """Each batch with the lengths it got and the slot they lie in, which is valid until the next one."""
        under_way: deque[tuple[list[_Piece], _Connection]] = deque()

        def first() -> Iterator[tuple[list[_Piece], tuple[int, ...], memoryview]]:
            batch, connection = under_way[0]
            yield batch, datasocket.parse_lengths(connection.reply(), len(batch)), connection.slot
            under_way.popleft()
            self._give_back(connection)

        try:
            for batch in batches:
                connection = self._borrow()
                under_way.append((batch, connection))
                connection.ask(Op.READ, datasocket.read_body(name, [piece.wanted for piece in batch]))
                if len(under_way) > READ_AHEAD:
                    yield from first()
            while under_way:
                yield from first()
        finally:
            for _, connection in under_way:
                self._give_back(connection)

    def _remember(self, name: str, entries: Iterable[tuple[str, int]]) -> None:
        with self._lock:
            if len(self._sizes) > MAX_KNOWN_SIZES:
                self._sizes.clear()
            self._sizes.update({(name, path): size for path, size in entries})

    def _ask[T](self, op: Op, body: bytes, take: Callable[[bytes, memoryview], T]) -> T:
        """One request; ``take`` gets the reply and the slot while nobody else may fill it."""
        with self._connection() as connection:
            return take(connection.answer(op, body), connection.slot)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[_Connection]:
        connection = self._borrow()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _borrow(self) -> _Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _Connection(self._path)

    def _give_back(self, connection: _Connection) -> None:
        if connection.clean and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()


class _Connection:
    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
            self._socket.sendall(datasocket.frame(Op.OPEN, datasocket.open_body()))
            start, fds, _, _ = socket.recv_fds(self._socket, datasocket.HEAD_BYTES, 1)
            head = start + self._exactly(datasocket.HEAD_BYTES - len(start))
            status, length = datasocket.parse_head(head)
            body = self._exactly(length)
            if status != Status.OK or not fds:
                raise DataServerError("the agent refused a connection")
            size = datasocket.parse_opened(body)
            self._map = mmap.mmap(fds[0], size, mmap.MAP_SHARED, mmap.PROT_READ)
            os.close(fds[0])
        except OSError:
            self._socket.close()
            raise DataServerError("the agent can't be reached") from None
        self.slot = memoryview(self._map)
        self.clean = True
        """Whether the next request may go out here: no reply is outstanding, nobody looks at the slot."""

    def answer(self, op: Op, body: bytes) -> bytes:
        """The reply to one request.  Raises NoSuchInputError, DataServerError."""
        self.ask(op, body)
        return self.reply()

    def ask(self, op: Op, body: bytes) -> None:
        self.clean = False  # until the reply is here, whole
        try:
            self._socket.sendall(datasocket.frame(op, body))
        except OSError:
            raise DataServerError("the agent went away") from None

    def reply(self) -> bytes:
        """What is answered to :meth:`ask`; raises as :meth:`answer` does."""
        try:
            status, length = datasocket.parse_head(self._exactly(datasocket.HEAD_BYTES))
            reply = self._exactly(length)
        except OSError:
            raise DataServerError("the agent went away") from None
        self.clean = True
        if status == Status.NO_SUCH_INPUT:
            raise NoSuchInputError()
        if status != Status.OK:
            raise DataServerError(f"the agent answered with status {status}")
        return reply

    @contextlib.contextmanager
    def loan(self, lengths: Iterable[int]) -> Iterator[list[memoryview | None]]:
        """Views of the slot, one after the other.  Who holds on to one afterwards keeps the slot from being
        filled again.
        """
        lent = _Lent(self.slot)
        slot = memoryview(lent)
        views: list[memoryview | None] = []
        at = 0
        for length in lengths:
            views.append(None if length == MISSING else slot[at : at + length])
            at += max(0, length)
        try:
            yield views
        finally:
            for view in (*views, slot):
                if view is not None:
                    with contextlib.suppress(BufferError):  # somebody's array is made of it
                        view.release()
            self.clean = self.clean and lent.returned

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        raw = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        while len(raw) < size:  # a signal came in between
            more = self._socket.recv(size - len(raw), socket.MSG_WAITALL)
            if not more:
                raise DataServerError("the agent went away")
            raw += more
        return raw


class _Lent:
    """Shows a slot, and knows whether the last view of it, or of parts of it, is gone."""

    def __init__(self, slot: memoryview) -> None:
        self._slot = slot
        self.returned = False

    def __buffer__(self, flags: int) -> memoryview:
        return self._slot[:]

    def __release_buffer__(self, view: memoryview) -> None:
        view.release()
        self.returned = True


def client_here() -> DataClient:
    """This process's client of this node's agent.  Raises NotInJobError.

    The socket is looked up where the reading happens, never carried along: on another node of the job it lies
    elsewhere.  A fork gets a client of its own, since two processes can't share a connection.
    """
    path = os.environ.get(SOCKET_VARIABLE)
    if path is None:
        raise NotInJobError()
    return _client(path, os.getpid())


@lru_cache(maxsize=4)
def _client(path: str, process: int) -> DataClient:
    return DataClient(path)


def _batches(ranges: Sequence[Range], most_bytes: int) -> Iterator[list[_Piece]]:
    """Cut ranges into pieces and gather them so that each batch has ``most_bytes`` and fits into one frame."""
    batch: list[_Piece] = []
    room, text = most_bytes, datasocket.MAX_FRAME // 2
    for which, wanted in enumerate(ranges):
        at = 0
        while True:
            length = min(wanted.length - at, most_bytes)
            cost = len(wanted.path.encode("utf-8")) + 32
            if batch and (length > room or len(batch) >= datasocket.MAX_RANGES or cost > text):
                yield batch
                batch, room, text = [], most_bytes, datasocket.MAX_FRAME // 2
            batch.append(_Piece(which, at, Range(wanted.path, wanted.start + at, length)))
            room, text, at = room - length, text - cost, at + length
            if at >= wanted.length:
                break
    if batch:
        yield batch


def _copied(data: memoryview) -> Data:
    """Of much data numpy's copy: it lets other threads run, and asks for huge pages."""
    if len(data) < _SMALL_BYTES:
        return bytes(data)
    return np.frombuffer(data, np.uint8).copy().data
