"""A folder of an SFTP server as a source, over the same pinned SSH connections as clusters."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import paramiko

from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError
from connectors.clusters.settings import SshSettings
from connectors.clusters.ssh import IdentityError, SshRunner
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
from hdrs_hpc.documents.models.source import SftpPlace

T = TypeVar("T")
MAX_DEPTH = 64
CLIENTS_KEPT = 16
_WINDOW = 2 << 20
"""Asked for at once: many requests under way hide the latency, few bytes bound the memory."""
_REQUESTS_AT_ONCE = 128
_FOLDERS_REMEMBERED = 4096


class SftpCarrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(
        self, place: SftpPlace, retrying: Retrying | None = None, *, read_timeout_s: int = 60
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
        self._ssh: SshRunner | None = None
        self._given_up: list[SshRunner] = []
        self._idle: list[paramiko.SFTPClient] = []
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
        with self._client() as client:
            self._check_folder(client, full.rpartition("/")[0])
            found = client.lstat(full)
            if not stat.S_ISREG(found.st_mode or 0):
                raise SourceItemMissingError("an item is not a regular file")
            with client.open(full, "rb") as file:
                mark = _mark(file.stat())
                if mark != _mark(found):
                    raise LineBrokenError("a file was replaced while it was opened")
                if partial.mark != mark:
                    partial.restart(mark)
                size = found.st_size or 0
                while partial.size < size:
                    wanted = min(_WINDOW, size - partial.size)
                    for block in file.readv([(partial.size, wanted)], _REQUESTS_AT_ONCE):
                        if len(block) != wanted:
                            raise LineBrokenError("a file became shorter while it was read")
                        partial.write(block)
                if _mark(file.stat()) != mark:
                    partial.restart()
                    raise LineBrokenError("a file changed while it was read")

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            runners = [*self._given_up, *([self._ssh] if self._ssh else ())]
            self._ssh, self._given_up = None, []
        for client in idle:
            client.close()
        for runner in runners:
            runner.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (SftpCarrier, (self._place, self._retrying))

    def _walk(self, folder: str, prefix: str, depth: int) -> Iterator[SourceItem]:
        if depth > MAX_DEPTH:
            raise SourceTooLargeError(f"folders nested deeper than {MAX_DEPTH}")
        found = self._ask(lambda client: client.listdir_attr(folder or "/"))
        entries = [(entry.filename, entry.st_mode or 0, entry.st_size or 0) for entry in found]
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
            root = self._ask(lambda client: client.normalize(self._place.path)).rstrip("/")
            mode = self._ask(lambda client: client.stat(root or "/")).st_mode or 0
            if not stat.S_ISDIR(mode):
                raise SourceItemMissingError("there is no such folder on the server")
            with self._lock:
                self._root = root
        return root

    def _check_folder(self, client: paramiko.SFTPClient, folder: str) -> None:
        """A folder on the way that is (or became) a link would lead out of the source."""
        with self._lock:
            if folder in self._real_folders:
                return
        if client.normalize(folder or "/") != (folder or "/"):
            raise SourceItemMissingError("an item's folder is a link")
        with self._lock:
            self._real_folders[folder] = None
            while len(self._real_folders) > _FOLDERS_REMEMBERED:
                self._real_folders.popitem(last=False)

    def _ask(self, question: Callable[[paramiko.SFTPClient], T]) -> T:
        def once() -> T:
            with self._client() as client:
                return question(client)

        return self._retrying.run(once)

    @contextmanager
    def _client(self) -> Iterator[paramiko.SFTPClient]:
        """Lend a client; give it back unless it failed."""
        try:
            client = self._take()
            try:
                yield client
            except BaseException:
                client.close()
                raise
            with self._lock:
                if len(self._idle) < CLIENTS_KEPT:
                    self._idle.append(client)
                    return
            client.close()
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
            self._give_up_runner()
            raise LineBrokenError("the server can't be reached over SSH") from None
        except UnicodeDecodeError:
            raise SourceUnreadableError(
                "a file's name is not UTF-8",
                remedy="Rename the file, or mount the folder and give it as a folder.",
            ) from None
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            raise LineBrokenError(f"SFTP broke off ({type(error).__name__})") from None

    def _give_up_runner(self) -> None:
        """It would refuse to connect for a while; when to try again is for :class:`Retrying` to say.  Others may
        still read over its connections."""
        with self._lock:
            if self._ssh is not None:
                self._given_up.append(self._ssh)
                self._ssh = None

    def _take(self) -> paramiko.SFTPClient:
        with self._lock:
            while self._idle:
                client = self._idle.pop()
                channel = client.get_channel()
                if channel is not None and not channel.closed:
                    return client
            if self._ssh is None:
                self._ssh = SshRunner(self._settings, self._place.user)
            ssh = self._ssh
        return ssh.open_sftp()


def _mark(found: paramiko.SFTPAttributes) -> str:
    return f"{found.st_size}/{found.st_mtime}"
