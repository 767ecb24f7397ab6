"""Sealed objects as files in one folder behind SFTP, over a few connections at once."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import batched

from hdrs_hpc.core.ids import new_secret_name
from hdrs_hpc.sealing.objects import (
    Bytes,
    ObjectExistsError,
    ObjectMissingError,
    ObjectTransferError,
    ScratchFullError,
    check_name,
    pieces,
)
from hdrs_hpc.sealing.objects import sftp_wire as wire
from hdrs_hpc.sealing.objects.sftp_session import Answer, SftpSession
from hdrs_hpc.sealing.objects.sftp_wire import Attributes, SftpRefusedError

CONNECTIONS = 4
PER_CONNECTION = 16
MOST_AT_ONCE_BYTES = 4 << 30
"""Of one :meth:`SftpStore.get`; readers of larger objects ask for ranges."""
"""Calls at once on one connection; together with it far below the open files that a server allows."""
_PARTIAL = ".partial-"
_REFUSALS = (FileNotFoundError, PermissionError, SftpRefusedError)
_REMOVALS_AT_ONCE = 64
_WRITES_AT_ONCE = 64


class SftpPool:
    """Connections to one account of one server, shared by all stores there.

    ``open_session`` gives a new one, with its host key pinned and time-outs set; what it raises passes
    through.  At most ``connections`` are held, and more than one only while several calls are at work.  One
    that failed is thrown away, and made anew when it is next needed.
    """

    def __init__(self, open_session: Callable[[], SftpSession], connections: int = CONNECTIONS) -> None:
        self._open_session = open_session
        self._lock = threading.Lock()
        self._seats = [_Seat() for _ in range(connections)]
        self._room = threading.BoundedSemaphore(connections * PER_CONNECTION)

    @contextlib.contextmanager
    def session(self) -> Iterator[SftpSession]:
        """One for a piece of work; others may be using it too."""
        with self._room:
            with self._lock:
                seat = min(self._seats, key=_Seat.load)
                seat.users += 1
            try:
                yield seat.take(self._open_session)
            finally:
                with self._lock:
                    seat.users -= 1

    def close(self) -> None:
        """Close the connections; who still works on them fails, and a later call opens new ones."""
        for seat in self._seats:
            seat.close()


@dataclass(slots=True)
class _Seat:
    """Room for one connection."""

    users: int = 0
    current: SftpSession | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> tuple[int, bool]:
        """Free ones first, of those the connected."""
        return self.users, self.current is None

    def take(self, open_session: Callable[[], SftpSession]) -> SftpSession:
        with self.lock:
            if self.current is None or not self.current.alive:
                self.current = None
                self.current = open_session()
            return self.current

    def close(self) -> None:
        with self.lock:
            gone, self.current = self.current, None
        if gone is not None:
            gone.close()


class SftpStore:
    """An ObjectStore over the folder ``root`` of an SFTP server; the first put makes it, 0700.

    A call during which its connection fails raises ObjectTransferError and may be repeated.  An object is on
    the server's medium before it has its name; names are at the latest when the folder is next listed, as
    sealing a copy does at its end.
    """

    def __init__(self, pool: SftpPool, root: str) -> None:
        self._pool = pool
        self._root = root.rstrip("/")

    def put(self, name: str, data: Bytes | Iterable[Bytes]) -> None:
        """As the port says, in three round trips: create; write, sync and close; rename."""
        check_name(name)
        partial = f"{self._root}/{new_secret_name(_PARTIAL + name[:8])}"
        try:
            with self._session(name) as sftp:
                handle = self._create(sftp, partial)
                try:
                    write_all(sftp, handle, data, name)
                    self._rename_once(sftp, partial, name)
                except BaseException:
                    sftp.tell(wire.remove(partial))  # where that fails, the next sweep finds it
                    raise
        except SourceReadError as failed:
            raise failed.error from None

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self._opened(name) as (sftp, handle):
            there = sftp.attributes(sftp.ask(wire.handle_attributes(handle))).size_bytes
            end = there if length is None else min(there, start + length)
            if end - start > MOST_AT_ONCE_BYTES:
                raise ObjectTransferError("the server tells a size that no object has", where=name)
            target = bytearray(max(0, end - start))
            if sftp.read_into(handle, start, memoryview(target)) != len(target):
                raise ObjectTransferError("the object became shorter while it was read", where=name)
        return bytes(target)

    def get_into(self, name: str, start: int, view: memoryview) -> int:
        """Fill ``view`` from ``start`` on; gives the number of bytes, fewer only where the object ends."""
        # Not into ``view`` itself: after a failure answers may still arrive, when its owner uses it for something else.
        target = memoryview(bytearray(len(view)))
        with self._opened(name) as (sftp, handle):
            count = sftp.read_into(handle, start, target)
        view[:count] = target[:count]
        return count

    def size(self, name: str) -> int:
        check_name(name)
        with self._session(name) as sftp:
            return sftp.attributes(sftp.ask(wire.attributes(f"{self._root}/{name}"))).size_bytes

    def list(self) -> Iterator[str]:
        return (name for name, _ in self.sizes())

    def sizes(self) -> Iterator[tuple[str, int]]:
        with self._session(None) as sftp:
            for name, found in self._entries(sftp):
                if not name.startswith(".") and stat.S_ISREG(found.mode):
                    yield name, found.size_bytes

    def delete(self, name: str) -> None:
        check_name(name)
        with contextlib.suppress(ObjectMissingError), self._session(name) as sftp:
            sftp.succeed(sftp.ask(wire.remove(f"{self._root}/{name}")))

    def sweep(self) -> int:
        with self._session(None) as sftp:
            partials = [name for name, _ in self._entries(sftp) if name.startswith(_PARTIAL)]
            for some in batched(partials, _REMOVALS_AT_ONCE):
                for answer in sftp.ask_all(*(wire.remove(f"{self._root}/{partial}") for partial in some)):
                    with contextlib.suppress(FileNotFoundError):
                        sftp.succeed(answer)
        return len(partials)

    def _entries(self, sftp: SftpSession) -> Iterator[tuple[str, Attributes]]:
        if sftp.can_sync:
            with contextlib.suppress(
                *_REFUSALS
            ):  # servers that open files only, systems that sync no folders
                folder = sftp.handle(sftp.ask(wire.open_to_read(self._root)))
                synced = sftp.ask(wire.sync(folder))
                sftp.tell(wire.close(folder))
                sftp.succeed(synced)
        with contextlib.suppress(FileNotFoundError):  # nothing was put yet
            yield from sftp.listing(self._root)

    def _create(self, sftp: SftpSession, partial: str) -> bytes:
        try:
            return sftp.handle(sftp.ask(wire.create(partial)))
        except FileNotFoundError:
            _make_folders(sftp, self._root)
            return sftp.handle(sftp.ask(wire.create(partial)))

    def _rename_once(self, sftp: SftpSession, partial: str, name: str) -> None:
        final = f"{self._root}/{name}"
        try:
            sftp.succeed(sftp.ask(wire.rename(partial, final)))
        except SftpRefusedError:
            with contextlib.suppress(FileNotFoundError):
                sftp.attributes(sftp.ask(wire.attributes(final)))
                raise ObjectExistsError(where=name) from None
            raise

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[SftpSession, bytes]]:
        check_name(name)
        with self._session(name) as sftp:
            handle = sftp.handle(sftp.ask(wire.open_to_read(f"{self._root}/{name}")))
            try:
                yield sftp, handle
            finally:
                sftp.tell(wire.close(handle))

    @contextlib.contextmanager
    def _session(self, name: str | None) -> Iterator[SftpSession]:
        try:
            with self._pool.session() as sftp:
                yield sftp
        except FileNotFoundError:
            raise ObjectMissingError(where=name) from None
        except OSError as error:
            raise ObjectTransferError(f"SFTP failed ({type(error).__name__})", where=name) from error


class SourceReadError(Exception):
    """Carries an error of the data's source past the translation of the connection's errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _from_source(data: Bytes | Iterable[Bytes]) -> Iterator[Bytes]:
    try:
        yield from pieces(data)
    except OSError as error:
        raise SourceReadError(error) from None


def write_all(sftp: SftpSession, handle: bytes, data: Bytes | Iterable[Bytes], name: str) -> None:
    """Send everything, and see every answer: written, on the medium, closed."""
    upload = _Upload(sftp, handle, name)
    try:
        for piece in _from_source(data):
            upload.add(memoryview(piece).cast("B"))
    except BaseException:
        sftp.tell(wire.close(handle))
        raise
    upload.finish()


class _Upload:
    """Pieces of any size → requests of the size that the server likes best; large pieces are not copied."""

    def __init__(self, sftp: SftpSession, handle: bytes, name: str) -> None:
        self._sftp = sftp
        self._handle = handle
        self._name = name
        self._most = sftp.write_bytes
        self._gathered = bytearray()
        self._under_way: deque[Answer] = deque()
        self._sent = 0

    def add(self, piece: memoryview) -> None:
        if self._gathered:
            missing = self._most - len(self._gathered)
            self._gathered += piece[:missing]
            piece = piece[missing:]
            if len(self._gathered) == self._most:
                self._send(self._gathered)
                self._gathered = bytearray()
        while len(piece) >= self._most:
            self._send(piece[: self._most])
            piece = piece[self._most :]
        self._gathered += piece

    def finish(self) -> None:
        last = [wire.write(self._handle, self._sent, self._gathered)] if self._gathered else []
        if self._sftp.can_sync:
            last.append(wire.sync(self._handle))
        self._under_way += self._sftp.ask_all(*last, wire.close(self._handle))
        # The others are there when the last one is: to be woken once is enough.
        self._sftp.wait(self._under_way[-1])
        for answer in self._under_way:
            self._see(answer)

    def _send(self, data: Bytes) -> None:
        self._under_way.append(self._sftp.ask(wire.write(self._handle, self._sent, data)))
        self._sent += len(data)
        if len(self._under_way) > _WRITES_AT_ONCE:
            self._see(self._under_way.popleft())

    def _see(self, answer: Answer) -> None:
        try:
            self._sftp.succeed(answer)
        except SftpRefusedError as error:
            # SFTP has one word, "Failure", for a full disk, a used-up quota and a broken one; the first two
            # are the usual ones.
            message = "the server refused a write: disk full or quota used up"
            raise ScratchFullError(message, where=self._name) from error


def _make_folders(sftp: SftpSession, path: str) -> None:
    """Make a folder and those above it, 0700 each."""
    looked_at = wire.attributes(path, follow=True)
    with contextlib.suppress(FileNotFoundError):
        sftp.attributes(sftp.ask(looked_at))
        return
    above = path.rsplit("/", 1)[0]
    if above and above != path:
        _make_folders(sftp, above)
    try:
        sftp.succeed(sftp.ask(wire.make_folder(path)))
    except SftpRefusedError:
        sftp.attributes(sftp.ask(looked_at))  # another worker was quicker
