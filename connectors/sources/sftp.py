"""A folder of an SFTP server as a source, over the same pinned SSH connections as clusters."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from connectors.clusters.openssh import IdentityError, OpenSsh
from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError
from connectors.clusters.settings import SshSettings
from connectors.sources import (
    SourceCredentialError,
    SourceItem,
    SourceItemMissingError,
    SourceLoginError,
    SourceTooLargeError,
    SourceUnreadableError,
)
from connectors.sources.names import to_name, to_text
from connectors.sources.retrying import LineBrokenError, Retrying
from connectors.sources.spool import Partial
from hdrs_hpc.documents.models.source import SftpLocation
from hdrs_hpc.sealing.objects import sftp_wire as wire
from hdrs_hpc.sealing.objects.sftp import SftpPool
from hdrs_hpc.sealing.objects.sftp_session import SftpSession
from hdrs_hpc.sealing.objects.sftp_wire import Attributes

T = TypeVar("T")
MAX_DEPTH = 64
_WINDOW = 2 << 20
"""Asked for at once: many requests under way hide the latency, few bytes bound the memory."""
_FOLDERS_REMEMBERED = 4096


class SftpCarrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(
        self, place: SftpLocation, retrying: Retrying | None = None, *, read_timeout_s: int = 60
    ) -> None:
        self._place = place
        self._retrying = retrying or Retrying()
        self._read_timeout_s = read_timeout_s
        self._settings = SshSettings.model_construct(
            host=place.host,
            port=place.port,
            host_key=place.host_key,
            identity=place.identity,
            connect_timeout_s=15,
            read_timeout_s=read_timeout_s,
        )
        self._lock = threading.Lock()
        self._pool: SftpPool | None = None
        self._given_up: list[SftpPool] = []
        self._root: str | None = None
        self._real_folders: OrderedDict[str, None] = OrderedDict()

    def items(self) -> Iterator[SourceItem]:
        """Links are neither followed nor listed; memory is one folder's listing per level."""
        yield from self._walk(self._real_root(), "", 0)

    def fetch(self, path: str, partial: Partial) -> None:
        """Goes on where a transfer broke, as long as size and time of change are the same."""
        try:
            full = f"{self._real_root()}/{to_name(path).decode('utf-8')}"
        except UnicodeDecodeError:
            raise SourceItemMissingError("a path of another form than the source gives") from None
        with self._session() as sftp:
            self._check_folder(sftp, full.rpartition("/")[0])
            found = sftp.attributes(sftp.ask(wire.attributes(full)))
            if not stat.S_ISREG(found.mode):
                raise SourceItemMissingError("an item is not a regular file")
            handle = sftp.handle(sftp.ask(wire.open_to_read(full)))
            try:
                self._read(sftp, handle, _mark(found), found.size_bytes, partial)
            finally:
                sftp.tell(wire.close(handle))

    def _read(self, sftp: SftpSession, handle: bytes, mark: str, size: int, partial: Partial) -> None:
        def now() -> str:
            return _mark(sftp.attributes(sftp.ask(wire.handle_attributes(handle))))

        if now() != mark:
            raise LineBrokenError("a file was replaced while it was opened")
        if partial.mark != mark:
            partial.restart(mark)
        while partial.size < size:
            # Of its own each time: after a failure answers may still arrive in it.
            block = bytearray(min(_WINDOW, size - partial.size))
            if sftp.read_into(handle, partial.size, memoryview(block)) != len(block):
                raise LineBrokenError("a file became shorter while it was read")
            partial.write(block)
        if now() != mark:
            partial.restart()
            raise LineBrokenError("a file changed while it was read")

    def close(self) -> None:
        with self._lock:
            pools = [*self._given_up, *([self._pool] if self._pool else ())]
            self._pool, self._given_up = None, []
        for pool in pools:
            pool.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (SftpCarrier, (self._place, self._retrying))

    def _walk(self, folder: str, prefix: str, depth: int) -> Iterator[SourceItem]:
        if depth > MAX_DEPTH:
            raise SourceTooLargeError(f"folders nested deeper than {MAX_DEPTH}")
        entries = self._ask(lambda sftp: list(_entries(sftp, folder or "/")))
        # A folder sorts as its name followed by "/", which is how its items' paths compare.
        entries.sort(
            key=lambda entry: to_text(entry[0].encode()).encode() + (b"/" if stat.S_ISDIR(entry[1]) else b"")
        )
        for name, mode, size in entries:
            if stat.S_ISDIR(mode):
                yield from self._walk(f"{folder}/{name}", f"{prefix}{name}/", depth + 1)
            elif stat.S_ISREG(mode):
                yield SourceItem(to_text(f"{prefix}{name}".encode()), size)

    def _real_root(self) -> str:
        with self._lock:
            root = self._root
        if root is None:
            root = self._ask(lambda sftp: sftp.real_path(self._place.path)).rstrip("/")
            looked_at = wire.attributes(root or "/", follow=True)
            if not stat.S_ISDIR(self._ask(lambda sftp: sftp.attributes(sftp.ask(looked_at))).mode):
                raise SourceItemMissingError("there is no such folder on the server")
            with self._lock:
                self._root = root
        return root

    def _check_folder(self, sftp: SftpSession, folder: str) -> None:
        """A folder on the way that is (or became) a link would lead out of the source."""
        with self._lock:
            if folder in self._real_folders:
                return
        if sftp.real_path(folder or "/") != (folder or "/"):
            raise SourceItemMissingError("an item's folder is a link")
        with self._lock:
            self._real_folders[folder] = None
            while len(self._real_folders) > _FOLDERS_REMEMBERED:
                self._real_folders.popitem(last=False)

    def _ask(self, question: Callable[[SftpSession], T]) -> T:
        def once() -> T:
            with self._session() as sftp:
                return question(sftp)

        return self._retrying.run(once)

    @contextmanager
    def _session(self) -> Iterator[SftpSession]:
        """One for a piece of work; others may be using it too."""
        try:
            with self._connections().session() as sftp:
                yield sftp
        except FileNotFoundError:
            raise SourceItemMissingError("an item is absent") from None
        except PermissionError:
            raise SourceUnreadableError("an item may not be read") from None
        except HostKeyMismatchError:
            raise SourceLoginError("the server's key is not the one that is pinned") from None
        except IdentityError as error:
            raise SourceCredentialError(error.message) from None
        except ClusterUnreachableError as error:
            if "refused" in error.message and "key" in error.message:
                raise SourceLoginError("the server refused our key") from None
            self._give_up()
            raise LineBrokenError("the server can't be reached over SSH") from None
        except UnicodeDecodeError:
            raise SourceUnreadableError(
                "a file's name is not UTF-8",
                remedy="Rename the file, or mount the folder and give it as a folder.",
            ) from None
        except OSError as error:
            raise LineBrokenError(f"SFTP broke off ({type(error).__name__})") from None

    def _give_up(self) -> None:
        """It would refuse to connect for a while; when to try again is for :class:`Retrying` to say.  Others may
        still read over its connections."""
        with self._lock:
            if self._pool is not None:
                self._given_up.append(self._pool)
                self._pool = None

    def _connections(self) -> SftpPool:
        with self._lock:
            if self._pool is None:
                self._pool = SftpPool(OpenSsh(self._settings, self._place.user).open_session)
            return self._pool


def _entries(sftp: SftpSession, folder: str) -> Iterator[tuple[str, int, int]]:
    """Name, mode and size.  Raises UnicodeDecodeError."""
    for name, found in sftp.listing(folder):
        if name not in (".", ".."):
            yield name.encode("utf-8", "surrogateescape").decode("utf-8"), found.mode, found.size_bytes


def _mark(found: Attributes) -> str:
    return f"{found.size_bytes}/{found.changed_s}"
