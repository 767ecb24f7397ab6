"""Sealed objects as files in one folder behind SFTP, over a few connections at once."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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
from hdrs_hpc.sealing.objects.sftp_session import Answer, SftpSession
from hdrs_hpc.sealing.objects.sftp_wire import SftpRefusedError, Told

CONNECTIONS = 4
PER_CONNECTION = 16
"""Calls at once on one connection; together with it far below the open files that a server allows."""
_PARTIAL = ".partial-"
_REMOVALS_AT_ONCE = 64
_WRITES_NOTED = 64


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

    A call during which its connection fails raises ObjectTransferError and may be repeated.
    """

    def __init__(self, pool: SftpPool, root: str) -> None:
        self._pool = pool
        self._root = root.rstrip("/")

    def put(self, name: str, data: Bytes | Iterable[Bytes]) -> None:
        """Three round trips: create; write, sync and close; rename."""
        check_name(name)
        partial = f"{self._root}/{new_secret_name(_PARTIAL + name[:8])}"
        try:
            with self._session(name) as sftp:
                handle, folder = self._create(sftp, partial)
                try:
                    _write(sftp, handle, data, name)
                    self._rename_once(sftp, partial, folder, name)
                except BaseException:
                    if sftp.alive:
                        sftp.remove(partial)  # nobody waits for it: what fails here, the next sweep finds
                    raise
                finally:
                    if folder and sftp.alive:
                        sftp.close_handle(folder)
        except _SourceError as failed:
            raise failed.error from None

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        with self._session(name) as sftp:
            handle = sftp.handle(sftp.open(f"{self._root}/{name}"))
            try:
                there = sftp.wait(sftp.handle_attributes(handle)).fields(Told.ATTRS).attributes().size_bytes
                end = there if length is None else min(there, start + length)
                target = bytearray(max(0, end - start))
                sftp.read_into(handle, start, memoryview(target))
            except EOFError:
                message = "the object became shorter while it was read"
                raise ObjectTransferError(message, where=name) from None
            finally:
                if sftp.alive:
                    sftp.close_handle(handle)
        return bytes(target)

    def size(self, name: str) -> int:
        check_name(name)
        with self._session(name) as sftp:
            return sftp.attributes(f"{self._root}/{name}").size_bytes

    def list(self) -> Iterator[str]:
        return (name for name, _ in self.sizes())

    def sizes(self) -> Iterator[tuple[str, int]]:
        with self._session(None) as sftp:
            try:
                for name, found in sftp.listing(self._root):
                    if not name.startswith(".") and stat.S_ISREG(found.mode):
                        yield name, found.size_bytes
            except FileNotFoundError:
                return  # nothing was put yet

    def delete(self, name: str) -> None:
        check_name(name)
        with contextlib.suppress(ObjectMissingError), self._session(name) as sftp:
            sftp.succeed(sftp.remove(f"{self._root}/{name}"))

    def sweep(self) -> int:
        with self._session(None) as sftp:
            try:
                partials = [name for name, _ in sftp.listing(self._root) if name.startswith(_PARTIAL)]
            except FileNotFoundError:
                return 0
            under_way: deque[Answer] = deque()
            for partial in partials:
                under_way.append(sftp.remove(f"{self._root}/{partial}"))
                if len(under_way) >= _REMOVALS_AT_ONCE:
                    _removed(sftp, under_way.popleft())
            for answer in under_way:
                _removed(sftp, answer)
        return len(partials)

    def _create(self, sftp: SftpSession, partial: str) -> tuple[bytes, bytes]:
        """Handles of a new file and of its folder; the second is empty where folders can't be synced."""
        for attempt in range(2):
            asked = sftp.create(partial)
            folder = sftp.open(self._root) if sftp.can_sync else None
            try:
                handle = sftp.handle(asked)
                break
            except FileNotFoundError:
                if attempt:
                    raise
                _make_folders(sftp, self._root)
        with contextlib.suppress(FileNotFoundError, PermissionError, SftpRefusedError):
            return handle, sftp.handle(folder) if folder else b""
        return handle, b""  # not a server of OpenSSH's: others open files only

    def _rename_once(self, sftp: SftpSession, partial: str, folder: bytes, name: str) -> None:
        final = f"{self._root}/{name}"
        renamed = sftp.rename(partial, final)
        synced = sftp.sync(folder) if folder else None
        try:
            sftp.succeed(renamed)
        except SftpRefusedError:
            with contextlib.suppress(FileNotFoundError):
                sftp.attributes(final)
                raise ObjectExistsError(where=name) from None
            raise
        if synced is not None:
            with contextlib.suppress(SftpRefusedError):  # file systems that sync no folders
                sftp.succeed(synced)

    @contextlib.contextmanager
    def _session(self, name: str | None) -> Iterator[SftpSession]:
        try:
            with self._pool.session() as sftp:
                yield sftp
        except FileNotFoundError:
            raise ObjectMissingError(where=name) from None
        except OSError as error:
            raise ObjectTransferError(f"SFTP failed ({type(error).__name__})", where=name) from error


class _SourceError(Exception):
    """Carries an error of the data's source past the translation of the connection's errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _from_source(data: Bytes | Iterable[Bytes]) -> Iterator[Bytes]:
    try:
        yield from pieces(data)
    except OSError as error:
        raise _SourceError(error) from None


def _write(sftp: SftpSession, handle: bytes, data: Bytes | Iterable[Bytes], name: str) -> None:
    """Send everything, then look at every answer: written, of the right length, on the medium, closed."""
    upload = _Upload(sftp, handle, name)
    try:
        for piece in _from_source(data):
            upload.add(memoryview(piece).cast("B"))
        upload.flush()
    except BaseException:
        if sftp.alive:
            sftp.close_handle(handle)
        raise
    synced = sftp.sync(handle) if sftp.can_sync else None
    length = sftp.handle_attributes(handle)
    closed = sftp.close_handle(handle)
    upload.finish()
    for answer in (synced, closed):
        if answer is not None:
            _written(sftp, answer, name)
    if sftp.wait(length).fields(Told.ATTRS).attributes().size_bytes != upload.sent:
        raise ObjectTransferError("the server keeps another length than was sent", where=name)


class _Upload:
    """Pieces of any size → requests of the size the server likes best; large pieces are not copied."""

    def __init__(self, sftp: SftpSession, handle: bytes, name: str) -> None:
        self._sftp = sftp
        self._handle = handle
        self._name = name
        self._most = sftp.write_bytes
        self._gathered = bytearray()
        self._under_way: deque[Answer] = deque()
        self.sent = 0

    def add(self, piece: memoryview) -> None:
        if self._gathered:
            missing = self._most - len(self._gathered)
            self._gathered += piece[:missing]
            piece = piece[missing:]
            if len(self._gathered) == self._most:
                self.flush()
        while len(piece) >= self._most:
            self._send(piece[: self._most])
            piece = piece[self._most :]
        self._gathered += piece

    def flush(self) -> None:
        if self._gathered:
            self._send(self._gathered)
            self._gathered = bytearray()

    def finish(self) -> None:
        while self._under_way:
            _written(self._sftp, self._under_way.popleft(), self._name)

    def _send(self, data: Bytes) -> None:
        self._under_way.append(self._sftp.write(self._handle, self.sent, data))
        self.sent += len(data)
        if len(self._under_way) > _WRITES_NOTED:
            _written(self._sftp, self._under_way.popleft(), self._name)


def _written(sftp: SftpSession, answer: Answer, name: str) -> None:
    try:
        sftp.succeed(answer)
    except SftpRefusedError as error:
        # SFTP has one word, "Failure", for a full disk, a used-up quota and a broken one; the first two are
        # the usual ones.
        message = "the server refused a write: disk full or quota used up"
        raise ScratchFullError(message, where=name) from error


def _removed(sftp: SftpSession, answer: Answer) -> None:
    with contextlib.suppress(FileNotFoundError):
        sftp.succeed(answer)


def _make_folders(sftp: SftpSession, path: str) -> None:
    """Make a folder and those above it, 0700 each."""
    with contextlib.suppress(FileNotFoundError):
        sftp.attributes(path, follow=True)
        return
    above = path.rsplit("/", 1)[0]
    if above and above != path:
        _make_folders(sftp, above)
    try:
        sftp.make_folder(path)
    except SftpRefusedError:
        sftp.attributes(path, follow=True)  # another worker was quicker
