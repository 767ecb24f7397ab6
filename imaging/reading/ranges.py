"""Where the bytes of many ranges come from: the agent, a folder of one's own, or any zarr store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import cpu
from zarr.core.sync import sync

from hdrs_hpc.protocol.datasocket import MISSING, Range

type Views = Sequence[memoryview | None]


@runtime_checkable
class LendsRanges(Protocol):
    """A ``CopySource`` may also be one of these; it is then asked for many ranges at once."""

    def sizes(self, paths: Sequence[str]) -> list[int]:
        """Bytes of each object; -1 where there is none."""
        ...

    def lent(self, ranges: Sequence[Range]) -> AbstractContextManager[Views]:
        """The bytes of each range, valid within the block; None where there is no such object, and fewer than
        asked for only where an object ends."""
        ...


class StoreRanges:
    """The same over any zarr store: one read a range."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sizes(self, paths: Sequence[str]) -> list[int]:
        return sync(self._sizes(paths))

    @contextlib.contextmanager
    def lent(self, ranges: Sequence[Range]) -> Iterator[Views]:
        yield sync(self._read(ranges))

    async def _sizes(self, paths: Sequence[str]) -> list[int]:
        found = []
        for path in paths:
            try:
                found.append(await self._store.getsize(path))
            except FileNotFoundError:
                found.append(MISSING)
        return found

    async def _read(self, ranges: Sequence[Range]) -> list[memoryview | None]:
        found: list[memoryview | None] = []
        for wanted in ranges:
            part = RangeByteRequest(wanted.start, wanted.start + wanted.length)
            data = await self._store.get(wanted.path, cpu.buffer_prototype, part)
            found.append(None if data is None else memoryview(data.to_bytes()))
        return found
