"""Sealed copies as zarr v3 stores: read-only over a sealed copy, writable over one under construction.

Both subclass ``zarr.abc.store.Store`` and nothing else: ``WrapperStore`` would forward whatever it is not
told about to an inner store, past the seal.  There is no inner store here, so a method that a later zarr adds
either builds on the methods below or fails.

Zarr takes a missing chunk for fill value.  So None is answered only for what the manifest does not name; an
object that it names and that is not there raises, and never as FileNotFoundError, which zarr's codecs would
swallow.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable
from typing import NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from hdrs_hpc.sealing.cipher import never_pickled
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.manifest import Entry
from hdrs_hpc.sealing.reader import SealedCopy


class _SealedReads(Store):
    """What both stores share: all reading goes through ``_find`` and ``_read``.

    The synchronous methods do the work; the asynchronous ones run them on a thread, so that neither waiting
    for storage nor AES (which lets go of the interpreter's lock) stalls the event loop.
    """

    @abstractmethod
    def _find(self, key: str) -> Entry | None: ...

    @abstractmethod
    def _read(self, key: str, entry: Entry, start: int, length: int) -> memoryview | None: ...

    @abstractmethod
    def _keys(self, prefix: str) -> list[str]: ...

    @abstractmethod
    def _names(self, folder: str) -> list[str]: ...

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        self._is_open = True
        entry = self._find(key)
        if entry is None:
            return None
        data = self._read(key, entry, *_range(byte_range, entry.size))
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        reads = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*reads))

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._find, key) is not None

    async def getsize(self, key: str) -> int:
        entry = await asyncio.to_thread(self._find, key)
        if entry is None:
            raise FileNotFoundError(key)
        return entry.size

    @property
    def supports_listing(self) -> bool:
        return True

    async def list(self) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._keys, ""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._keys, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for name in await asyncio.to_thread(self._names, prefix.rstrip("/")):
            yield name


class SealedStore(_SealedReads):
    """A sealed copy, read-only for ever."""

    def __init__(self, copy: SealedCopy, *, read_only: bool = True) -> None:
        if not read_only:
            raise ValueError("a sealed copy is read-only")
        super().__init__(read_only=True)
        self._copy = copy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SealedStore) and self._copy is other._copy

    __hash__ = None  # type: ignore[assignment]  # as zarr's own stores

    def __repr__(self) -> str:
        return "SealedStore()"

    def with_read_only(self, read_only: bool = True) -> SealedStore:
        return SealedStore(self._copy, read_only=read_only)

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()

    async def clear(self) -> None:
        self._check_writable()

    # Zarr's quick synchronous path asks for all three of these or uses none.

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()

    def delete_sync(self, key: str) -> None:
        self._check_writable()

    def _find(self, key: str) -> Entry | None:
        return self._copy.find(key)

    def _read(self, key: str, entry: Entry, start: int, length: int) -> memoryview | None:
        return self._copy.read_view(entry, start, length)

    def _keys(self, prefix: str) -> list[str]:
        return list(self._copy.paths(prefix))

    def _names(self, folder: str) -> list[str]:
        return self._copy.children(folder)


class BuildingStore(_SealedReads):
    """A copy under construction: writable, and readable meanwhile; read-only from the moment it is sealed."""

    def __init__(self, builder: CopyBuilder, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._builder = builder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BuildingStore) and self._builder is other._builder

    __hash__ = None  # type: ignore[assignment]  # as zarr's own stores

    def __repr__(self) -> str:
        return "BuildingStore()"

    def with_read_only(self, read_only: bool = False) -> BuildingStore:
        return BuildingStore(self._builder, read_only=read_only)

    @property
    def read_only(self) -> bool:
        return self._read_only or self._builder.sealed

    @property
    def supports_writes(self) -> bool:
        return True

    @property
    def supports_deletes(self) -> bool:
        return True

    def set_sync(self, key: str, value: Buffer) -> None:
        self._is_open = True
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"a zarr Buffer is stored, not {type(value).__name__}")
        self._builder.put(key, memoryview(value.as_numpy_array()).cast("B"))

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        self._check_writable()
        if not await self.exists(key):
            await self.set(key, value)

    def delete_sync(self, key: str) -> None:
        self._check_writable()
        self._builder.delete(key)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self.delete_sync, key)

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for key in await asyncio.to_thread(self._keys, folder):
            await self.delete(key)

    async def clear(self) -> None:
        await self.delete_dir("")

    def _find(self, key: str) -> Entry | None:
        return self._builder.find(key)

    def _read(self, key: str, entry: Entry, start: int, length: int) -> memoryview | None:
        return self._builder.read_view(key, start, length)

    def _keys(self, prefix: str) -> list[str]:
        return self._builder.paths(prefix)

    def _names(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return sorted({key[len(prefix) :].split("/", 1)[0] for key in self._builder.paths(prefix)})


def _range(request: ByteRequest | None, size: int) -> tuple[int, int]:
    """Start and length of what zarr asks for, clipped to the object."""
    match request:
        case None:
            start, end = 0, size
        case RangeByteRequest():
            start, end = request.start, request.end
        case OffsetByteRequest():
            start, end = request.offset, size
        case SuffixByteRequest():
            start, end = size - request.suffix, size
        case _:
            raise TypeError(f"Unexpected byte_range, got {request}.")
    start = min(max(0, start), size)
    return start, max(0, min(end, size) - start)
