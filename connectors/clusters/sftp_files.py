"""``SiteFiles`` over SFTP.

SFTP has no way to open a folder without following links, so every folder on the way is looked at first.  What
could slip in between belongs to the same account, and could do no more than that account can do anyway.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from connectors.clusters.commands import CommandRunner
from connectors.clusters.files import MAX_TREE_DEPTH, MAX_TREE_ENTRIES
from connectors.clusters.port import ClusterUnreachableError, SiteCommandError, UnsafePathError
from hdrs_hpc.sealing.objects import sftp_wire as wire
from hdrs_hpc.sealing.objects.sftp import SftpPool, write_all
from hdrs_hpc.sealing.objects.sftp_session import SftpSession
from hdrs_hpc.sealing.objects.sftp_wire import Attributes, SftpRefusedError

SHA256_LIMIT_S = 600
_CHUNK_BYTES = 1 << 20


class SftpFiles:
    def __init__(self, pool: SftpPool, runner: CommandRunner, scratch: str) -> None:
        self._pool = pool
        self._runner = runner
        self._scratch = scratch

    def read(self, parts: Sequence[str], max_bytes: int) -> bytes | None:
        with self._session() as sftp:
            if not _are_folders(sftp, self._scratch, parts[:-1]):
                return None
            path = self._path(parts)
            found = _look(sftp, path)
            if found is None:
                return None
            if not stat.S_ISREG(found.mode):
                raise UnsafePathError(f"{'/'.join(parts)} is not a regular file")
            data = _read(sftp, path, max_bytes + 1)
        if len(data) > max_bytes:
            raise UnsafePathError(f"{'/'.join(parts)} is larger than {max_bytes} bytes")
        return data

    def remove_tree(self, parts: Sequence[str]) -> int:
        with self._session() as sftp:
            if not _are_folders(sftp, self._scratch, parts):
                return 0
            return _empty(sftp, self._path(parts), 0)

    def measure_tree(self, parts: Sequence[str]) -> tuple[int, int]:
        count = total = 0
        for name, size in self._entries(parts):
            if not name.endswith("/"):
                count, total = count + 1, total + size
        return count, total

    def list_tree(self, parts: Sequence[str]) -> list[str]:
        return sorted(name for name, _ in self._entries(parts))

    def _entries(self, parts: Sequence[str]) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        with self._session() as sftp:
            if _are_folders(sftp, self._scratch, parts):
                for entry in _walk(sftp, self._path(parts), "", 0):
                    found.append(entry)
                    if len(found) > MAX_TREE_ENTRIES:
                        raise UnsafePathError(f"more than {MAX_TREE_ENTRIES} entries below one folder")
        return found

    def install(self, file: Path, parts: Sequence[str], digest_hex: str) -> None:
        target = self._path(parts)
        passing = self._path((*parts[:-1], f"part-{secrets.token_hex(8)}"))
        with self._session() as sftp:
            self._make_folders(sftp, parts[:-1])
            if self._has(sftp, target, file.stat().st_size, digest_hex):
                return
            try:
                with file.open("rb") as source:
                    handle = sftp.handle(sftp.ask(wire.create(passing)))
                    write_all(sftp, handle, iter(lambda: source.read(_CHUNK_BYTES), b""), "the runtime")
                if not self._has(sftp, passing, file.stat().st_size, digest_hex):
                    raise SiteCommandError("the runtime that arrived is not the one that was sent")
                sftp.succeed(sftp.ask(wire.replace(passing, target)))
            finally:
                with suppress(FileNotFoundError):
                    sftp.succeed(sftp.ask(wire.remove(passing)))

    def _has(self, sftp: SftpSession, path: str, size: int, digest_hex: str) -> bool:
        found = _look(sftp, path)
        if found is None or not stat.S_ISREG(found.mode) or found.size_bytes != size:
            return False
        return remote_sha256(self._runner, path) == digest_hex

    def _make_folders(self, sftp: SftpSession, parts: Sequence[str]) -> None:
        for depth in range(1, len(parts) + 1):
            path = self._path(parts[:depth])
            # A job may make it at the same time; the look below decides.
            with suppress(FileNotFoundError, PermissionError, SftpRefusedError):
                sftp.succeed(sftp.ask(wire.make_folder(path)))
            found = _look(sftp, path)
            if found is None or not stat.S_ISDIR(found.mode):
                raise UnsafePathError(f"{'/'.join(parts[:depth])} is not a folder")

    def _path(self, parts: Sequence[str]) -> str:
        return "/".join((self._scratch, *parts))

    @contextmanager
    def _session(self) -> Iterator[SftpSession]:
        """For one piece of work.  Raises ClusterUnreachableError when the line breaks, SiteCommandError where the
        server refuses."""
        try:
            with self._pool.session() as sftp:
                yield sftp
        except (TimeoutError, ConnectionError) as error:
            raise ClusterUnreachableError(f"SFTP broke off ({type(error).__name__})") from None
        except OSError as error:
            raise SiteCommandError(f"SFTP: {error.strerror or error or type(error).__name__}") from None


def remote_sha256(runner: CommandRunner, path: str) -> str | None:
    """The digest as the site computes it, None when it can't."""
    done = runner.run(("/usr/bin/env", "-i", "/usr/bin/sha256sum", "--", path), timeout_s=SHA256_LIMIT_S)
    word = done.stdout.split(b" ", 1)[0].decode("ascii", "replace")
    return word if done.returncode == 0 else None


def _look(sftp: SftpSession, path: str) -> Attributes | None:
    """Of the thing itself, were it a link; None when nothing is there."""
    try:
        return sftp.attributes(sftp.ask(wire.attributes(path)))
    except FileNotFoundError:
        return None


def _are_folders(sftp: SftpSession, scratch: str, parts: Sequence[str]) -> bool:
    """False when one is missing; raises UnsafePathError when one is a link or no folder."""
    for depth in range(1, len(parts) + 1):
        found = _look(sftp, "/".join((scratch, *parts[:depth])))
        if found is None:
            return False
        if not stat.S_ISDIR(found.mode):
            raise UnsafePathError(f"{'/'.join(parts[:depth])} is not a folder")
    return True


def _read(sftp: SftpSession, path: str, most: int) -> bytes:
    data = bytearray()
    handle = sftp.handle(sftp.ask(wire.open_to_read(path)))
    try:
        while len(data) < most:
            # Of their own: after a failure answers may still arrive in them.
            piece = bytearray(min(_CHUNK_BYTES, most - len(data)))
            count = sftp.read_into(handle, len(data), memoryview(piece))
            data += piece[:count]
            if count < len(piece):
                break
    finally:
        sftp.tell(wire.close(handle))
    return bytes(data)


def _listing(sftp: SftpSession, path: str, depth: int) -> Iterator[tuple[str, Attributes]]:
    """What is in a folder, links as links; nothing where it is gone meanwhile."""
    if depth > MAX_TREE_DEPTH:
        raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
    with suppress(FileNotFoundError):
        for name, found in sftp.listing(path):
            if name in (".", ".."):
                continue
            if "/" in name or not name:  # a server that answers with a path could lead us elsewhere
                raise UnsafePathError("the server listed a name that is a path")
            yield name, found


def _empty(sftp: SftpSession, path: str, depth: int) -> int:
    removed = 0
    for name, found in _listing(sftp, path, depth):
        if stat.S_ISDIR(found.mode):
            removed += _empty(sftp, f"{path}/{name}", depth + 1)
        else:
            with suppress(FileNotFoundError):
                sftp.succeed(sftp.ask(wire.remove(f"{path}/{name}")))
                removed += 1
    with suppress(FileNotFoundError):
        sftp.succeed(sftp.ask(wire.remove_folder(path)))
    return removed


def _walk(sftp: SftpSession, path: str, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    """Names and sizes of everything below; a folder's name ends in "/"."""
    for name, found in _listing(sftp, path, depth):
        if stat.S_ISDIR(found.mode):
            yield f"{prefix}{name}/", 0
            yield from _walk(sftp, f"{path}/{name}", f"{prefix}{name}/", depth + 1)
        else:
            yield f"{prefix}{name}", found.size_bytes
