"""``SiteFiles`` over SFTP.

SFTP has no way to open a folder without following links, so every folder on the way is looked at first.  What
could slip in between belongs to the same account, and could do no more than that account can do anyway.
"""

from __future__ import annotations

import errno
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko

from connectors.clusters.commands import CommandRunner
from connectors.clusters.files import MAX_TREE_DEPTH, MAX_TREE_ENTRIES
from connectors.clusters.port import SiteCommandError, UnsafePathError
from connectors.clusters.ssh import SshRunner

SHA256_LIMIT_S = 600
_CHUNK_BYTES = 1 << 20


class SftpFiles:
    def __init__(self, runner: SshRunner, scratch: str) -> None:
        self._runner = runner
        self._scratch = scratch

    def read(self, parts: Sequence[str], max_bytes: int) -> bytes | None:
        with self._session() as sftp:
            if not self._are_folders(sftp, parts[:-1]):
                return None
            path = self._path(parts)
            try:
                found = sftp.lstat(path)
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(found.st_mode or 0):
                raise UnsafePathError(f"{'/'.join(parts)} is not a regular file")
            with sftp.open(path, "rb") as file:
                data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise UnsafePathError(f"{'/'.join(parts)} is larger than {max_bytes} bytes")
        return data

    def remove_tree(self, parts: Sequence[str]) -> int:
        with self._session() as sftp:
            if not self._are_folders(sftp, parts):
                return 0
            return self._empty(sftp, self._path(parts), 0)

    def _empty(self, sftp: paramiko.SFTPClient, path: str, depth: int) -> int:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        removed = 0
        with suppress(FileNotFoundError):
            for entry in sftp.listdir_attr(path):
                child = f"{path}/{_name(entry)}"
                if stat.S_ISDIR(entry.st_mode or 0):  # listdir does not follow links
                    removed += self._empty(sftp, child, depth + 1)
                else:
                    with suppress(FileNotFoundError):
                        sftp.remove(child)
                        removed += 1
            sftp.rmdir(path)
        return removed

    def measure_tree(self, parts: Sequence[str]) -> tuple[int, int]:
        with self._session() as sftp:
            if not self._are_folders(sftp, parts):
                return 0, 0
            count = total = 0
            for size in self._sizes(sftp, self._path(parts), 0):
                count, total = count + 1, total + size
                if count > MAX_TREE_ENTRIES:
                    raise UnsafePathError(f"more than {MAX_TREE_ENTRIES} entries below one folder")
        return count, total

    def _sizes(self, sftp: paramiko.SFTPClient, path: str, depth: int) -> Iterator[int]:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        try:
            entries = sftp.listdir_attr(path)
        except FileNotFoundError:
            return
        for entry in entries:
            if stat.S_ISDIR(entry.st_mode or 0):
                yield from self._sizes(sftp, f"{path}/{_name(entry)}", depth + 1)
            else:
                yield entry.st_size or 0

    def list_tree(self, parts: Sequence[str]) -> list[str]:
        with self._session() as sftp:
            if not self._are_folders(sftp, parts):
                return []
            names: list[str] = []
            for name in self._walk(sftp, self._path(parts), "", 0):
                names.append(name)
                if len(names) > MAX_TREE_ENTRIES:
                    raise UnsafePathError(f"more than {MAX_TREE_ENTRIES} entries below one folder")
        return sorted(names)

    def _walk(self, sftp: paramiko.SFTPClient, path: str, prefix: str, depth: int) -> Iterator[str]:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        try:
            entries = sftp.listdir_attr(path)
        except FileNotFoundError:
            return
        for entry in entries:
            name = _name(entry)
            if stat.S_ISDIR(entry.st_mode or 0):
                yield f"{prefix}{name}/"
                yield from self._walk(sftp, f"{path}/{name}", f"{prefix}{name}/", depth + 1)
            else:
                yield f"{prefix}{name}"

    def install(self, file: Path, parts: Sequence[str], digest_hex: str) -> None:
        target = self._path(parts)
        passing = self._path((*parts[:-1], f"part-{secrets.token_hex(8)}"))
        with self._session() as sftp:
            self._make_folders(sftp, parts[:-1])
            if self._has(sftp, target, file.stat().st_size, digest_hex):
                return
            try:
                with file.open("rb") as source, sftp.open(passing, "wx") as sink:
                    sftp.chmod(passing, 0o600)
                    sink.set_pipelined(True)
                    while chunk := source.read(_CHUNK_BYTES):
                        sink.write(chunk)
                if not self._has(sftp, passing, file.stat().st_size, digest_hex):
                    raise SiteCommandError("the runtime that arrived is not the one that was sent")
                sftp.posix_rename(passing, target)
            finally:
                with suppress(FileNotFoundError):
                    sftp.remove(passing)

    def _has(self, sftp: paramiko.SFTPClient, path: str, size: int, digest_hex: str) -> bool:
        try:
            found = sftp.lstat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode or 0) or found.st_size != size:
            return False
        return remote_sha256(self._runner, path) == digest_hex

    def _make_folders(self, sftp: paramiko.SFTPClient, parts: Sequence[str]) -> None:
        for depth in range(1, len(parts) + 1):
            path = self._path(parts[:depth])
            # A job may make it at the same time; the look below decides.
            with suppress(OSError):
                sftp.mkdir(path, 0o700)
            if not stat.S_ISDIR(sftp.lstat(path).st_mode or 0):
                raise UnsafePathError(f"{'/'.join(parts[:depth])} is not a folder")

    def _are_folders(self, sftp: paramiko.SFTPClient, parts: Sequence[str]) -> bool:
        """False when one is missing; raises UnsafePathError when one is a link or no folder."""
        for depth in range(1, len(parts) + 1):
            try:
                found = sftp.lstat(self._path(parts[:depth]))
            except FileNotFoundError:
                return False
            if not stat.S_ISDIR(found.st_mode or 0):
                raise UnsafePathError(f"{'/'.join(parts[:depth])} is not a folder")
        return True

    def _path(self, parts: Sequence[str]) -> str:
        return "/".join((self._scratch, *parts))

    @contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        with self._runner.sftp() as sftp:
            try:
                yield sftp
            except OSError as error:
                if isinstance(error, TimeoutError | ConnectionError):
                    raise
                what = error.strerror or errno.errorcode.get(error.errno or 0, "refused")
                raise SiteCommandError(f"SFTP: {what}") from None


def remote_sha256(runner: CommandRunner, path: str) -> str | None:
    """The digest as the site computes it, None when it can't."""
    done = runner.run(("/usr/bin/env", "-i", "/usr/bin/sha256sum", "--", path), timeout_s=SHA256_LIMIT_S)
    word = done.stdout.split(b" ", 1)[0].decode("ascii", "replace")
    return word if done.returncode == 0 else None


def _name(entry: paramiko.SFTPAttributes) -> str:
    """A server that answers with a path could lead us elsewhere."""
    name: str = entry.filename
    if "/" in name or name in ("", ".", ".."):
        raise UnsafePathError("the server listed a name that is a path")
    return name
