"""A staged copy as a zarr store: read-only, without a key, and pickled as a reference.

Reads that a zarr pipeline starts together travel together: each is queued, and the queue goes out as one request
when the event loop next comes round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from hdrs_hpc.protocol.datasocket import MISSING, Range
from imaging.reading.client import Data, DataClient, client_here

type _Wanted = Sequence[tuple[str, ByteRequest | None]]
type _Queued = tuple[str, ByteRequest | None, asyncio.Future[Data | None]]


class StagedStore(Store):
    """Input ``name`` of this job, as this node's agent serves it."""

    def __init__(self, name: str) -> None:
        super().__init__(read_only=True)
        self._name = name
        self._queues: dict[asyncio.AbstractEventLoop, list[_Queued]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (StagedStore, (self._name,))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StagedStore):
            return NotImplemented
        return self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"StagedStore({self._name!r})"

    def with_read_only(self, read_only: bool = True) -> StagedStore:
        if not read_only:
            raise ValueError("a staged copy is read-only")
        return StagedStore(self._name)

    @property
    def _client(self) -> DataClient:
        return client_here()

    # reading

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return _buffer(self._client.read(self._name, self._ranges([(key, byte_range)]))[0], prototype)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        loop = asyncio.get_running_loop()
        queue = self._queues.setdefault(loop, [])
        if not queue:
            loop.call_soon(self._flush, loop)
        future: asyncio.Future[Data | None] = loop.create_future()
        queue.append((key, byte_range, future))
        return _buffer(await future, prototype)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        return await self._size(key) != MISSING

    async def getsize(self, key: str) -> int:
        size = await self._size(key)
        if size == MISSING:
            raise FileNotFoundError(key)
        return size

    # listing

    @property
    def supports_listing(self) -> bool:
        return True

    async def list(self) -> AsyncIterator[str]:
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._client.paths, self._name, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(self._client.children, self._name, prefix.strip("/")):
            yield name

    # writing: there is none

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> None:
        _refuse()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        _refuse()

    async def delete(self, key: str) -> None:
        _refuse()

    async def delete_dir(self, prefix: str) -> None:
        _refuse()

    async def clear(self) -> None:
        _refuse()

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        queued = self._queues.pop(loop, [])
        task = loop.run_in_executor(None, self._read, loop, queued)
        task.add_done_callback(lambda done: _fail_the_rest(queued, done))

    def _read(self, loop: asyncio.AbstractEventLoop, queued: Sequence[_Queued]) -> None:
        """Deliver what each request brings at once: one chunk is decoded while the next is on its way."""
        ranges = self._ranges([(key, part) for key, part, _ in queued])
        for brought in self._client.arriving(self._name, ranges):
            loop.call_soon_threadsafe(_deliver, [(queued[which][2], data) for which, data in brought])

    def _ranges(self, wanted: _Wanted) -> Sequence[Range]:
        """All of ``wanted``, with at most one round trip for unknown sizes."""
        unsized = [key for key, part in wanted if not isinstance(part, RangeByteRequest)]
        sizes = dict(zip(unsized, self._client.sizes(self._name, unsized), strict=True)) if unsized else {}
        return [_range(key, part, sizes.get(key, MISSING)) for key, part in wanted]

    async def _size(self, key: str) -> int:
        return (await asyncio.to_thread(self._client.sizes, self._name, [key]))[0]


def _range(key: str, part: ByteRequest | None, size: int) -> Range:
    if isinstance(part, RangeByteRequest):
        return Range(key, part.start, max(0, part.end - part.start))
    size = max(0, size)
    if isinstance(part, OffsetByteRequest):
        start = min(part.offset, size)
    elif isinstance(part, SuffixByteRequest):
        start = max(0, size - part.suffix)
    else:
        start = 0
    return Range(key, start, size - start)


def _deliver(results: Sequence[tuple[asyncio.Future[Data | None], Data | None]]) -> None:
    for future, data in results:
        if not future.done():  # else its reader was cancelled
            future.set_result(data)


def _fail_the_rest(queued: Sequence[_Queued], done: asyncio.Future[None]) -> None:
    error = asyncio.CancelledError() if done.cancelled() else done.exception()
    for _, _, future in queued:
        if error is not None and not future.done():
            future.set_exception(error)


def _buffer(data: Data | None, prototype: BufferPrototype | None) -> Buffer | None:
    if data is None:
        return None
    return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


def _refuse() -> NoReturn:
    raise ValueError("a staged copy is read-only")
