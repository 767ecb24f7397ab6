"""One volume → one sharded zarr array, slab by slab, in bounded memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from imaging.layout import chunk_path, level_path
from imaging.staging.items import Bench, Made
from imaging.staging.radiology.assembly import Volume
from imaging.staging.radiology.metadata import volume_axes
from imaging.staging.refusals import ItemRefused, Refused

CHUNK = (32, 128, 128)
"""(z, y, x): 1 MiB of 16-bit voxels, good for whole slices and for 3-D patches."""
SHARD_BYTES = 64 << 20
"""Plaintext of one object at most, and of one slab in memory: few, large objects."""


@dataclass(frozen=True, slots=True)
class SlabPart:
    """One shard of a volume's array: slices of the source, decoded and encoded."""

    path: str
    slices: tuple[tuple[int, int], ...]
    """(item number, frame), times-major, in the order of the slab."""
    shape: tuple[int, ...]
    """Of the slab: ([t,] z, y, x)."""
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    share: float
    inputs: tuple[str, ...] = ()

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        slab = np.empty((len(self.slices), *self.shape[-2:]), dtype=self.dtype)
        _fill(slab, self.slices, bench)
        return Made(encoded(slab.reshape(self.shape), self.chunks, self.shards))


def create_volume(store: Store, path: str, volume: Volume, attributes: dict[str, Any]) -> None:
    """Write the metadata of the group and array at ``path``; the shards (:func:`slab_parts`) stay."""
    dtype = volume_dtype(volume)
    chunks, shards = layout(volume.shape, dtype.itemsize)
    zarr.create_group(store, path=path, attributes=attributes)
    _create(
        store,
        level_path(path),
        volume.shape,
        dtype,
        chunks,
        shards,
        [axis["name"] for axis in volume_axes(volume)],
    )


def slab_parts(path: str, volume: Volume) -> list[SlabPart]:
    """The shards of the array at ``path``/0, each a part."""
    dtype = volume_dtype(volume)
    shape = volume.shape
    chunks, shards = layout(shape, dtype.itemsize)
    slabs = list(_slabs(shape, shards))
    parts = []
    for times, slices in slabs:
        wanted = tuple(
            (one.instance.number, one.frame)
            for time in times
            for one in volume.slices[time][slices.start : slices.stop]
        )
        four = len(shape) == 4
        extent = (*((len(times),) if four else ()), len(slices), *shape[-2:])
        place = (
            (slices.start // shards[-3],)
            if len(shape) == 3
            else (times.start // shards[0], slices.start // shards[-3])
        )
        parts.append(
            SlabPart(
                chunk_path(level_path(path), *place, 0, 0),
                wanted,
                extent,
                dtype.str,
                chunks,
                shards,
                1 / len(slabs),
            )
        )
    return parts


def encoded(slab: NDArray[Any], chunks: tuple[int, ...], shards: tuple[int, ...]) -> bytes:
    """The bytes of the one shard that ``slab`` fills (an edge slab is padded with the fill value)."""
    store = MemoryStore()
    array = _create(store, "a", slab.shape, slab.dtype, chunks, shards, None)
    array[...] = slab
    (key,) = (key for key in store._store_dict if key.startswith("a/c/"))
    return store._store_dict[key].to_bytes()


def _create(
    store: Store,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    shards: tuple[int, ...],
    names: list[str] | None,
) -> zarr.Array[Any]:
    return zarr.create_array(
        store,
        name=name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        filters=None,
        fill_value=0,
        dimension_names=names,
        # Chunks of zeros are written too: which chunks exist would draw the body's outline.
        config={"write_empty_chunks": True},
    )


def volume_dtype(volume: Volume) -> np.dtype[Any]:
    """Integers as stored: 8, 16 or 32 bits, signed as declared, little-endian."""
    header = volume.slices[0][0].instance.header
    return np.dtype(f"<{'i' if header.signed else 'u'}{header.bits_allocated // 8}")


def layout(shape: tuple[int, ...], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunk and shard shapes: a shard spans whole slices, then as many as fit in :data:`SHARD_BYTES`."""
    z, y, x = shape[-3:]
    chunk = (min(CHUNK[0], z), min(CHUNK[1], y), min(CHUNK[2], x))
    plane = math.ceil(y / chunk[1]) * chunk[1] * math.ceil(x / chunk[2]) * chunk[2] * itemsize
    while chunk[0] > 1 and plane * chunk[0] > SHARD_BYTES:
        chunk = (chunk[0] // 2, chunk[1], chunk[2])
    deep = min(math.ceil(z / chunk[0]), max(1, SHARD_BYTES // (plane * chunk[0])))
    shard = (
        deep * chunk[0],
        math.ceil(y / chunk[1]) * chunk[1],
        math.ceil(x / chunk[2]) * chunk[2],
    )
    if len(shape) == 3:
        return chunk, shard
    times = 1
    if shard[0] >= z:
        times = min(shape[0], max(1, SHARD_BYTES // (plane * shard[0])))
    return (1, *chunk), (times, *shard)


def _slabs(shape: tuple[int, ...], shards: tuple[int, ...]) -> Iterator[tuple[range, range]]:
    """(times, slices) of each shard: partial shard writes would read and write the shard again."""
    count = shape[0] if len(shape) == 4 else 1
    times_each = shards[0] if len(shape) == 4 else 1
    depth, deep = shape[-3], shards[-3]
    for time in range(0, count, times_each):
        for place in range(0, depth, deep):
            yield range(time, min(time + times_each, count)), range(place, min(place + deep, depth))


def _fill(slab: NDArray[Any], wanted: Sequence[tuple[int, int]], bench: Bench) -> None:
    """Decode the wanted slices into ``slab``, asking once per run of frames of one instance, in parallel."""
    at = 0
    under_way: list[Future[None]] = []
    for number, run in groupby(wanted, key=lambda one: one[0]):
        frames = [frame for _, frame in run]
        under_way.append(bench.threads.submit(_fill_run, slab[at : at + len(frames)], number, frames, bench))
        at += len(frames)
    failures = [future.exception() for future in under_way]  # all have ended: nobody writes on
    for failure in failures:
        if failure is not None:
            raise failure


def _fill_run(part: NDArray[Any], number: int, frames: list[int], bench: Bench) -> None:
    got = 0
    try:
        for header, blob in bench.reader.ask(number, "frames", frames=frames):
            if got == len(frames):
                raise Refused("parser-crashed")
            part[got] = _checked(header, blob, part.shape[1:], part.dtype)
            got += 1
    except Refused as refused:
        raise ItemRefused(number, refused.code) from None
    if got != len(frames):
        raise ItemRefused(number, "truncated-pixel-data")


def _checked(header: bytes, blob: bytearray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A parser's frame, if it is of the promised size and type; widened where the codec gave fewer bits."""
    try:
        said = json.loads(header)
        found = np.dtype(str(said["dtype"]))
        size = tuple(int(part) for part in said["shape"])
    except (ValueError, KeyError, TypeError):
        raise Refused("parser-crashed") from None
    if size != shape or found.kind not in "iu":
        raise Refused("decode-failed")
    if len(blob) != math.prod(shape) * found.itemsize:
        raise Refused("parser-crashed")
    if not np.can_cast(found, dtype, "safe"):
        raise Refused("decode-failed")
    return np.frombuffer(blob, dtype=found).reshape(shape)
