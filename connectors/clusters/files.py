"""Folders and small files below a scratch that this machine mounts; links are never followed."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from connectors.clusters.port import SiteCommandError, UnsafePathError

MAX_TREE_ENTRIES = 2_000_000
"""A listing longer than this is an attack or a fault; sealed copies have few, large objects."""
MAX_TREE_DEPTH = 64
_CHUNK_BYTES = 1 << 20
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SiteFiles(Protocol):
    """What both kinds of cluster need of a scratch; see :class:`connectors.clusters.port.Cluster`."""

    def read(self, parts: Sequence[str], max_bytes: int) -> bytes | None: ...

    def remove_tree(self, parts: Sequence[str]) -> int: ...

    def measure_tree(self, parts: Sequence[str]) -> tuple[int, int]: ...

    def list_tree(self, parts: Sequence[str]) -> list[str]: ...

    def install(self, file: Path, parts: Sequence[str], digest_hex: str) -> None: ...


class DirectoryFiles:
    """``SiteFiles`` by file descriptors: each folder is opened from its parent, refusing links, so that
    nobody can swap a folder for a link between a check and its use."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def read(self, parts: Sequence[str], max_bytes: int) -> bytes | None:
        try:
            with self._folder(parts[:-1]) as folder:
                file_fd = os.open(
                    parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
                )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnsafePathError(f"{'/'.join(parts)}: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(file_fd).st_mode):
                raise UnsafePathError(f"{'/'.join(parts)} is not a regular file")
            with os.fdopen(file_fd, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(file_fd)
        if len(data) > max_bytes:
            raise UnsafePathError(f"{'/'.join(parts)} is larger than {max_bytes} bytes")
        return data

    def remove_tree(self, parts: Sequence[str]) -> int:
        removed = 0
        try:
            with self._folder(parts[:-1]) as parent:
                try:
                    found = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
                except FileNotFoundError:
                    return 0
                if not stat.S_ISDIR(found.st_mode):
                    raise UnsafePathError(f"{'/'.join(parts)} is not a folder")
                removed = self._empty(parts[-1], parent, 0)
                os.rmdir(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            return removed
        except OSError as error:
            raise SiteCommandError(f"removing {'/'.join(parts)}: {error.strerror}") from None
        return removed

    def _empty(self, name: str, parent: int, depth: int) -> int:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        removed = 0
        folder = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        try:
            with os.scandir(folder) as entries:
                children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for child, is_folder in children:
                if is_folder:
                    removed += self._empty(child, folder, depth + 1)
                    os.rmdir(child, dir_fd=folder)
                else:
                    os.unlink(child, dir_fd=folder)
                    removed += 1
        finally:
            os.close(folder)
        return removed

    def measure_tree(self, parts: Sequence[str]) -> tuple[int, int]:
        try:
            with self._folder(parts) as folder:
                sizes = list(_bounded(self._sizes(folder, 0)))
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise UnsafePathError(f"measuring {'/'.join(parts)}: {error.strerror}") from None
        return len(sizes), sum(sizes)

    def _sizes(self, folder: int, depth: int) -> Iterator[int]:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        with os.scandir(folder) as entries:
            children = [
                (entry.name, entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False).st_size)
                for entry in entries
            ]
        for name, is_folder, size in children:
            if not is_folder:
                yield size
                continue
            try:
                child = os.open(name, _OPEN_FOLDER, dir_fd=folder)
            except FileNotFoundError:
                continue
            try:
                yield from self._sizes(child, depth + 1)
            finally:
                os.close(child)

    def list_tree(self, parts: Sequence[str]) -> list[str]:
        try:
            with self._folder(parts) as folder:
                names = list(_bounded(self._walk(folder, "", 0)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnsafePathError(f"listing {'/'.join(parts)}: {error.strerror}") from None
        return sorted(names)

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[str]:
        if depth > MAX_TREE_DEPTH:
            raise UnsafePathError("folders are nested deeper than any that hdrs-hpc makes")
        with os.scandir(folder) as entries:
            children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in children:
            yield f"{prefix}{name}/" if is_folder else f"{prefix}{name}"
            if is_folder:
                try:
                    child = os.open(name, _OPEN_FOLDER, dir_fd=folder)
                except FileNotFoundError:
                    continue
                try:
                    yield from self._walk(child, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(child)

    def install(self, file: Path, parts: Sequence[str], digest_hex: str) -> None:
        folder_path = self._scratch.joinpath(*parts[:-1])
        self._make_folders(parts[:-1])
        target = folder_path / parts[-1]
        if target.is_file() and not target.is_symlink() and _sha256(target) == digest_hex:
            return
        passing = folder_path / f"part-{secrets.token_hex(8)}"
        try:
            with file.open("rb") as source, passing.open("xb") as sink:
                passing.chmod(0o600)
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
            if _sha256(passing) != digest_hex:
                raise SiteCommandError("the runtime that arrived is not the one that was sent")
            passing.replace(target)
        except OSError as error:
            raise SiteCommandError(f"installing the runtime: {error.strerror}") from None
        finally:
            passing.unlink(missing_ok=True)

    def _make_folders(self, parts: Sequence[str]) -> None:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._scratch
        for part in parts:
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink():
                raise UnsafePathError(f"{part} is a link")

    @contextmanager
    def _folder(self, parts: Sequence[str]) -> Iterator[int]:
        """A descriptor of a folder below scratch; OSError if any step is missing, a link or no folder."""
        current = os.open(self._scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                deeper = os.open(part, _OPEN_FOLDER, dir_fd=current)
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)


def _bounded[T](names: Iterator[T]) -> Iterator[T]:
    for count, name in enumerate(names):
        if count >= MAX_TREE_ENTRIES:
            raise UnsafePathError(f"more than {MAX_TREE_ENTRIES} entries below one folder")
        yield name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
