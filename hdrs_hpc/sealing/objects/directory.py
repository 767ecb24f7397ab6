"""Sealed objects as files in one folder of a file system that this process sees."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hdrs_hpc.core.errors import SiteError
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

_PARTIAL = ".partial-"  # no object's name can begin with a dot
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class DirectoryStore:
    """An ObjectStore over ``path``, which the first put makes, 0700."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, data: Bytes | Iterable[Bytes]) -> None:
        check_name(name)
        partial = self._path / (new_secret_name(_PARTIAL + name[:8]))
        with _site_errors(name):
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                for piece in pieces(data):
                    with _site_errors(name):
                        _write(handle, memoryview(piece).cast("B"))
                with _site_errors(name):
                    os.fsync(handle)
            finally:
                os.close(handle)
            with _site_errors(name):
                _link_once(partial, self._path / name)
        finally:
            partial.unlink(missing_ok=True)
        with _site_errors(name):
            _sync_folder(self._path)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with _site_errors(name), self._open(name) as handle:
            there = max(0, os.fstat(handle).st_size - start)
            length = there if length is None else min(length, there)
            data = os.pread(handle, length, start)
            if len(data) == length or not data:
                return data
            rest = memoryview(bytearray(length - len(data)))
            return data + rest[: _fill(handle, start + len(data), rest)]

    def get_into(self, name: str, start: int, view: memoryview) -> int:
        with _site_errors(name), self._open(name) as handle:
            return _fill(handle, start, view)

    def size(self, name: str) -> int:
        check_name(name)
        with _site_errors(name):
            return (self._path / name).lstat().st_size

    def list(self) -> Iterator[str]:
        return (name for name, _ in self.sizes())

    def sizes(self) -> Iterator[tuple[str, int]]:
        for entry in self._entries():
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    yield entry.name, entry.stat(follow_symlinks=False).st_size

    def delete(self, name: str) -> None:
        check_name(name)
        with _site_errors(name):
            (self._path / name).unlink(missing_ok=True)

    def sweep(self) -> int:
        partials = [Path(entry.path) for entry in self._entries() if entry.name.startswith(_PARTIAL)]
        for partial in partials:
            partial.unlink(missing_ok=True)
        return len(partials)

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._path) as entries:
                yield from entries
        except FileNotFoundError:
            return  # nothing was put yet

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[int]:
        check_name(name)
        # NOFOLLOW: who can write to scratch must not make us read a file of ours.
        handle = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)


def _fill(handle: int, start: int, view: memoryview) -> int:
    """One read gives at most 2 GiB, and a network file system may give less."""
    filled = 0
    while filled < len(view) and (got := os.preadv(handle, [view[filled:]], start + filled)):
        filled += got
    return filled


def _write(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _link_once(partial: Path, final: Path) -> None:
    """Give the file its name, atomically, unless the name is taken: ``link`` never replaces, ``rename``
    would.
    """
    try:
        os.link(partial, final)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links.  Two puts of one name could race here, but names are unguessable
        # or the digest of the content.
        if final.exists():
            raise FileExistsError from None
        partial.rename(final)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _site_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissingError(where=name) from None
    except FileExistsError:
        raise ObjectExistsError(where=name) from None
    except OSError as error:
        raise _site_error(error, name) from error


def _site_error(error: OSError, name: str) -> SiteError:
    if error.errno in _FULL:
        return ScratchFullError(where=name)
    return ObjectTransferError(
        f"the file system answered {errno.errorcode.get(error.errno or 0)}", where=name
    )
