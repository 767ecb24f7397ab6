"""Sharded zarr v3 arrays as places of bytes: which shard and which range of it holds an inner chunk.

The index of a shard (codec ``sharding_indexed``: u64 offset and length a chunk, all ones where there is none, then
CRC-32C) is read and checked once and kept.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.metadata.v3 import ArrayV3Metadata, RegularChunkGridMetadata

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol.datasocket import MAX_RANGES, MISSING, SLOT_BYTES, Range
from imaging.reading.chunk_codecs import ChunkDecoder, decoder_of
from imaging.reading.ranges import LendsRanges

ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)
INDEX_CACHE_BYTES = 64 << 20
"""Of shard indices that a reader keeps: those of four million chunks."""
_ENTRY_BYTES, _CRC_BYTES = 16, 4


class ShardDamagedError(BadDocumentError):
    code = "shard-damaged"
    meaning = "A shard of the staged copy is not what the sharding codec of zarr writes."
    remedy = "Stage the data anew; a sealed copy can't have been damaged since it was sealed."


@dataclass(frozen=True, slots=True, eq=False)
class ShardedArray:
    """One array.  ``chunk`` and ``shard`` (in elements), ``grid`` (inner chunks of a shard): along each axis."""

    path: str
    metadata: ArrayV3Metadata
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    decoder: ChunkDecoder
    index_first: bool
    checked: bool

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> ShardedArray | None:
        """None for an array that this reader does not know (not sharded, or coded otherwise): zarr reads that."""
        metadata = array.metadata
        if not isinstance(metadata, ArrayV3Metadata) or not isinstance(
            metadata.chunk_grid, RegularChunkGridMetadata
        ):
            return None
        match metadata.codecs:
            case (ShardingCodec() as sharding,):
                pass
            case _:
                return None
        index_codecs = list(sharding.index_codecs)
        match index_codecs:
            case [BytesCodec(endian="little"), *rest] if all(isinstance(each, Crc32cCodec) for each in rest):
                checked = len(rest) == 1
            case _:
                return None
        chunk, shard = tuple(sharding.chunk_shape), tuple(metadata.chunk_grid.chunk_shape)
        dtype = np.dtype(array.dtype)
        decoder = decoder_of(sharding.codecs, chunk, dtype)
        if decoder is None or len(rest) > 1 or not array.shape:
            return None
        return cls(
            array.path,
            metadata,
            tuple(array.shape),
            chunk,
            shard,
            dtype,
            metadata.fill_value,
            decoder,
            sharding.index_location == "start",
            checked,
        )

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(whole // part for whole, part in zip(self.shard, self.chunk, strict=True))

    @property
    def shards(self) -> tuple[int, ...]:
        """Shards along each axis."""
        return tuple(-(-size // part) for size, part in zip(self.shape, self.shard, strict=True))

    @property
    def index_bytes(self) -> int:
        return math.prod(self.grid) * _ENTRY_BYTES + (_CRC_BYTES if self.checked else 0)

    def object_of(self, shard: int) -> str:
        """Path of the shard with this flat number."""
        place = tuple(int(at) for at in np.unravel_index(shard, self.shards))
        key = self.metadata.encode_chunk_key(place)
        return f"{self.path}/{key}" if self.path else key

    def parse_index(self, raw: memoryview) -> NDArray[np.int64]:
        """(chunks, 2): first and last byte + 1, both -1 where there is no chunk.  Raises ShardDamagedError."""
        if len(raw) != self.index_bytes:
            raise ShardDamagedError("a shard is shorter than its index")
        entries = raw[: math.prod(self.grid) * _ENTRY_BYTES]
        if self.checked and crc32c(bytes(entries)) != int.from_bytes(raw[len(entries) :], "little"):
            raise ShardDamagedError("the index of a shard does not have its checksum")
        found = np.frombuffer(entries, "<u8").reshape(-1, 2)
        absent = (found == ABSENT).all(axis=1)
        made = found.astype(np.int64)
        made[:, 1] += made[:, 0]
        made[absent] = -1
        if (made[~absent] < 0).any() or (made[:, 1] < made[:, 0]).any():
            raise ShardDamagedError("the index of a shard names no place")
        return made


class ShardIndices:
    """The indices of a copy's shards, those used last.  Thread safe, and safe after a fork."""

    def __init__(self, limit_bytes: int = INDEX_CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, NDArray[np.int64] | None] = OrderedDict()
        self._bytes = 0

    def of(
        self, array: ShardedArray, shards: Sequence[int], source: LendsRanges
    ) -> list[NDArray[np.int64] | None]:
        """As :meth:`ShardedArray.parse_index`; None for a shard that there is not."""
        if self._process != os.getpid():
            self._renew()  # the lock may have been held when the fork was made
        paths = [array.object_of(shard) for shard in shards]
        found: dict[str, NDArray[np.int64] | None] = {}
        with self._lock:
            for path in paths:
                if path in self._kept:
                    self._kept.move_to_end(path)
                    found[path] = self._kept[path]
        if missing := [path for path in paths if path not in found]:
            read = self._read(array, missing, source)
            found.update(read)
            self._keep(read)
        return [found[path] for path in paths]

    def _keep(self, read: dict[str, NDArray[np.int64] | None]) -> None:
        with self._lock:
            for path, index in read.items():
                if path not in self._kept:
                    self._kept[path] = index
                    self._bytes += _weight(path, index)
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= _weight(*self._kept.popitem(last=False))

    def _read(
        self, array: ShardedArray, paths: list[str], source: LendsRanges
    ) -> dict[str, NDArray[np.int64] | None]:
        made: dict[str, NDArray[np.int64] | None] = dict.fromkeys(paths)
        length = array.index_bytes
        ranges = []
        for path, size in zip(paths, source.sizes(paths), strict=True):
            if size == MISSING:
                continue
            if size < length:
                raise ShardDamagedError("a shard is shorter than its index")
            ranges.append(Range(path, 0 if array.index_first else size - length, length))
        at_once = max(1, min(MAX_RANGES // 4, SLOT_BYTES // length))
        for start in range(0, len(ranges), at_once):
            part = ranges[start : start + at_once]
            with source.lent(part) as views:
                for wanted, view in zip(part, views, strict=True):
                    if view is None:
                        raise ShardDamagedError("a shard is gone")
                    made[wanted.path] = array.parse_index(view)
        return made


def _weight(path: str, index: NDArray[np.int64] | None) -> int:
    return 200 + len(path) + (0 if index is None else index.nbytes)
