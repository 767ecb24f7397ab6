"""A standalone copy as what :func:`imaging.reading.open_staged` gives inside a job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from hdrs_hpc.protocol.datasocket import MISSING, Range
from hdrs_hpc.sealing.cipher import never_pickled
from hdrs_hpc.sealing.manifest import Entry
from hdrs_hpc.sealing.reader import SealedCopy
from hdrs_hpc.sealing.zarr_store import SealedStore
from imaging.reading.ranges import Views
from imaging.reading.staged import StagedCopy
from imaging.standalone.folder import NotACopyError, open_copy, read_copy_file, read_secret


def open_staged(dest: Path, secret: Path | bytes) -> StagedCopy:
    """The copy in ``dest`` as what :func:`imaging.reading.open_staged` gives inside a job.

    With the secret's *file* it may be sent to other processes (Dask, a DataLoader's workers): what is pickled names
    folder and file, and each process reads the secret itself.  With the secret's bytes it stays in this process.
    Raises what :func:`open_copy` and :func:`read_secret` raise.
    """
    described = read_copy_file(dest)
    digest = str(described["digest"]) if described is not None and "digest" in described else ""
    if isinstance(secret, Path):
        folder = StandaloneFolder(dest.resolve(), digest, secret_file=secret.resolve())
    else:
        folder = StandaloneFolder(dest.resolve(), digest, secret=secret)
    folder.open()
    return StagedCopy(folder)


@dataclass(frozen=True, slots=True)
class StandaloneFolder:
    """Where a standalone copy lies and how its secret is found: a ``CopySource``."""

    dest: Path
    digest: str
    """Of the manifest: a copy that was staged anew in the same place is another one."""
    secret_file: Path | None = None
    secret: bytes | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.secret is not None:
            never_pickled(self)
        return (StandaloneFolder, (self.dest, self.digest, self.secret_file))

    @property
    def name(self) -> str:
        return self.dest.name

    @property
    def store(self) -> Store:
        return StandaloneStore(self)

    def read(self, path: str) -> bytes | None:
        copy = self.open()
        entry = copy.find(path)
        return None if entry is None else bytes(copy.read_view(entry))

    def sizes(self, paths: Sequence[str]) -> list[int]:
        entries = map(self.open().find, paths)
        return [MISSING if entry is None else entry.size for entry in entries]

    @contextlib.contextmanager
    def lent(self, ranges: Sequence[Range]) -> Iterator[Views]:
        copy = self.open()
        views: list[memoryview | None] = []
        for wanted in ranges:
            entry = copy.find(wanted.path)
            views.append(None if entry is None else copy.read_view(entry, wanted.start, wanted.length))
        yield views

    def children(self, folder: str) -> list[str]:
        return self.open().children(folder)

    def open(self) -> SealedCopy:
        """This process's opened copy.  A fork opens its own: locks may have been held when it was made."""
        return _opened(self, os.getpid())


class StandaloneStore(SealedStore):
    """The zarr store of a standalone copy; what is pickled is the reference to it, if it holds no secret."""

    def __init__(self, folder: StandaloneFolder) -> None:
        super().__init__(folder.open())
        self._folder = folder

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:  # type: ignore[override]  # its parent refuses
        return (StandaloneStore, (self._folder,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandaloneStore) and self._folder == other._folder

    __hash__ = None  # as zarr's own stores

    def __repr__(self) -> str:
        return "StandaloneStore()"

    def with_read_only(self, read_only: bool = True) -> StandaloneStore:
        if not read_only:
            raise ValueError("a sealed copy is read-only")
        return StandaloneStore(self._folder)

    def _find(self, key: str) -> Entry | None:
        return self._folder.open().find(key)

    def _read(self, key: str, entry: Entry, start: int, length: int) -> memoryview | None:
        return self._folder.open().read_view(entry, start, length)

    def _keys(self, prefix: str) -> list[str]:
        return list(self._folder.open().paths(prefix))

    def _names(self, folder: str) -> list[str]:
        return self._folder.open().children(folder)


@lru_cache(maxsize=8)
def _opened(folder: StandaloneFolder, process: int) -> SealedCopy:
    if folder.secret is not None:
        secret = folder.secret
    else:
        assert folder.secret_file is not None
        secret = read_secret(folder.secret_file)
    copy = open_copy(folder.dest, secret)
    described = read_copy_file(folder.dest)
    if described is None or described["digest"] != folder.digest:
        raise NotACopyError("another copy has taken its place", where=str(folder.dest))
    return copy
