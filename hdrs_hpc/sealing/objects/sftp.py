"""Sealed objects as files in one folder behind SFTP, over a few connections at once."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections.abc import Callable, Iterable, Iterator

import paramiko

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

_PARTIAL = ".partial-"
_READ_RUN_BYTES = 8 << 20
"""Asked for in one go; paramiko looks through all requests under way at each answer."""


class SftpStore:
    """An ObjectStore over the folder ``root`` of an SFTP server; the first put makes it, 0700.

    ``open_connection`` gives a new connection, with its host key pinned and time-outs set; at most
    ``streams`` are held at once, further callers wait.  A connection that failed is thrown away; the failed
    call raises ObjectTransferError and may be repeated.
    """

    def __init__(
        self, open_connection: Callable[[], paramiko.SFTPClient], root: str, streams: int = 4
    ) -> None:
        self._open_connection = open_connection
        self._root = root.rstrip("/")
        self._free = threading.BoundedSemaphore(streams)
        self._lock = threading.Lock()
        self._idle: list[paramiko.SFTPClient] = []

    def put(self, name: str, data: Bytes | Iterable[Bytes]) -> None:
        check_name(name)
        partial = f"{self._root}/{new_secret_name(_PARTIAL + name[:8])}"
        try:
            with self._connection(name) as sftp:
                file = self._create(sftp, partial)
                try:
                    _write(sftp, file, data, name)
                    _rename_once(sftp, partial, f"{self._root}/{name}", name)
                finally:
                    _close_quietly(file)
                    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                        sftp.remove(partial)  # the whole object has its own name by now, or never will
        except _SourceError as failed:
            raise failed.error from None

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        with self._connection(name) as sftp, sftp.open(f"{self._root}/{name}", "rb") as file:
            # A request beyond the end would be answered with an error in the midst of the others.
            end = file.stat().st_size or 0
            end = end if length is None else min(end, start + length)
            runs = range(start, end, _READ_RUN_BYTES)
            parts = [part for run in runs for part in file.readv([(run, min(_READ_RUN_BYTES, end - run))])]
        data = b"".join(parts)
        if len(data) != max(0, end - start):
            raise ObjectTransferError("the object became shorter while it was read", where=name)
        return data

    def size(self, name: str) -> int:
        check_name(name)
        with self._connection(name) as sftp:
            return sftp.lstat(f"{self._root}/{name}").st_size or 0

    def get_into(self, name: str, start: int, view: memoryview) -> int:
        data = self.get(name, start, len(view))
        view[: len(data)] = data
        return len(data)

    def list(self) -> Iterator[str]:
        return (name for name, _ in self.sizes())

    def sizes(self) -> Iterator[tuple[str, int]]:
        for entry in self._entries():
            if not entry.filename.startswith(".") and stat.S_ISREG(entry.st_mode or 0):
                yield entry.filename, entry.st_size or 0

    def delete(self, name: str) -> None:
        check_name(name)
        with contextlib.suppress(ObjectMissingError), self._connection(name) as sftp:
            sftp.remove(f"{self._root}/{name}")

    def sweep(self) -> int:
        partials = [entry.filename for entry in self._entries() if entry.filename.startswith(_PARTIAL)]
        for partial in partials:
            with self._connection(None) as sftp, contextlib.suppress(FileNotFoundError):
                sftp.remove(f"{self._root}/{partial}")
        return len(partials)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sftp in idle:
            sftp.close()

    def _entries(self) -> Iterator[paramiko.SFTPAttributes]:
        with self._connection(None) as sftp:
            try:
                entries = sftp.listdir_attr(self._root)
            except FileNotFoundError:
                return  # nothing was put yet
        yield from entries

    def _create(self, sftp: paramiko.SFTPClient, partial: str) -> paramiko.SFTPFile:
        try:
            return sftp.open(partial, "wbx")
        except FileNotFoundError:
            _make_folders(sftp, self._root)
            return sftp.open(partial, "wbx")

    @contextlib.contextmanager
    def _connection(self, name: str | None) -> Iterator[paramiko.SFTPClient]:
        """Lend a connection; give it back unless it failed."""
        with self._free:
            try:
                sftp = self._take()
                try:
                    yield sftp
                except (EOFError, paramiko.SSHException, ConnectionError, TimeoutError):
                    sftp.close()
                    raise
                except BaseException:
                    self._give_back(sftp)
                    raise
                self._give_back(sftp)
            except FileNotFoundError:
                raise ObjectMissingError(where=name) from None
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise ObjectTransferError(f"SFTP failed ({type(error).__name__})", where=name) from error

    def _take(self) -> paramiko.SFTPClient:
        with self._lock:
            while self._idle:
                sftp = self._idle.pop()
                if not _is_dead(sftp):
                    return sftp
                sftp.close()  # it died while nobody used it
        return self._open_connection()

    def _give_back(self, sftp: paramiko.SFTPClient) -> None:
        with self._lock:
            self._idle.append(sftp)


def _is_dead(sftp: paramiko.SFTPClient) -> bool:
    channel = sftp.get_channel()
    return channel is None or channel.closed


class _SourceError(Exception):
    """Carries an error of the data's source past the translation of the connection's errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _from_source(data: Bytes | Iterable[Bytes]) -> Iterator[Bytes]:
    try:
        yield from pieces(data)
    except (OSError, EOFError) as error:
        raise _SourceError(error) from None


def _write(
    sftp: paramiko.SFTPClient, file: paramiko.SFTPFile, data: Bytes | Iterable[Bytes], name: str
) -> None:
    """Send everything, requests overlapping, and see every answer before returning.

    Paramiko drops the answers to overlapping writes that arrive while it waits for another one, an error
    included, and its ``close`` hides errors.  Its non-overlapping write first collects every answer still
    due: so the last byte is written a second time in that way.
    """
    last = b""
    written = 0
    file.set_pipelined(True)
    for piece in _from_source(data):
        view = memoryview(piece).cast("B")
        if view:
            with _refused_writes(sftp, name):
                file.write(view)
            last = bytes(view[-1:])
            written += len(view)
    if last:
        with _refused_writes(sftp, name):
            file.set_pipelined(False)
            file.seek(written - 1)
            file.write(last)
    if file.stat().st_size != written:
        raise ObjectTransferError("the server keeps another length than was sent", where=name)


@contextlib.contextmanager
def _refused_writes(sftp: paramiko.SFTPClient, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None or _is_dead(sftp):
            raise
        # SFTP has one word, "Failure", for a full disk, a used-up quota and a broken one; the first two are
        # the usual ones.
        message = "the server refused a write: disk full or quota used up"
        raise ScratchFullError(message, where=name) from error


def _rename_once(sftp: paramiko.SFTPClient, partial: str, final: str, name: str) -> None:
    """Plain SFTP rename (OpenSSH: link and unlink) never replaces; posix-rename would."""
    try:
        sftp.rename(partial, final)
    except (ConnectionError, TimeoutError):
        raise
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            sftp.lstat(final)
            raise ObjectExistsError(where=name) from None
        raise


def _close_quietly(file: paramiko.SFTPFile) -> None:
    file.set_pipelined(False)  # else closing waits for answers that may never come
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        file.close()


def _make_folders(sftp: paramiko.SFTPClient, path: str) -> None:
    """Make a folder and those above it, 0700 each."""
    with contextlib.suppress(FileNotFoundError):
        sftp.stat(path)
        return
    above = path.rsplit("/", 1)[0]
    if above and above != path:
        _make_folders(sftp, above)
    try:
        sftp.mkdir(path, 0o700)
    except OSError:
        sftp.stat(path)  # another worker was quicker
