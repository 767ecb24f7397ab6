"""One volume → one sharded zarr array, slab by slab, in bounded memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from itertools import groupby
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec

from imaging.layout import level_path
from imaging.staging.metadata import volume_axes
from imaging.staging.radiology.assembly import Slice, Volume
from imaging.staging.refusals import Refused

CHUNK = (32, 128, 128)
"""(z, y, x): 1 MiB of 16-bit voxels, good for whole slices and for 3-D patches."""
SHARD_BYTES = 64 << 20
"""Plaintext of one object at most, and of one slab in memory: few, large objects."""

Decode = Callable[[int, list[int]], Iterator[tuple[bytes, bytearray]]]
"""(item number, frame indices) → answers of a parser; raises :class:`Refused`."""


class SliceRefused(Exception):
    """A slice could not be decoded: the whole volume stays out, this item under its own code."""

    def __init__(self, number: int, code: str) -> None:
        super().__init__(code)
        self.number = number
        self.code = code


def write_volume(
    store: Store, path: str, volume: Volume, attributes: dict[str, Any], decode: Decode, threads: Executor
) -> tuple[int, str]:
    """Write the group and array at ``path``; gives the plaintext voxel bytes and the dtype's name.

    Raises :class:`SliceRefused`; what was written until then is the caller's to drop.
    """
    dtype = volume_dtype(volume)
    shape = volume.shape
    chunks, shards = layout(shape, dtype.itemsize)
    zarr.create_group(store, path=path, attributes=attributes, overwrite=True)
    array = zarr.create_array(
        store,
        name=level_path(path),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        filters=None,
        fill_value=0,
        dimension_names=[axis["name"] for axis in volume_axes(volume)],
        # Chunks of zeros are written too: which chunks exist would draw the body's outline.
        config={"write_empty_chunks": True},
        overwrite=True,
    )
    for times, slices in _slabs(shape, shards):
        wanted = [volume.slices[time][place] for time in times for place in slices]
        slab = np.empty((len(wanted), *shape[-2:]), dtype=dtype)
        _fill(slab, wanted, decode, threads)
        if len(shape) == 4:
            array[times.start : times.stop, slices.start : slices.stop] = slab.reshape(
                len(times), len(slices), *shape[-2:]
            )
        else:
            array[slices.start : slices.stop] = slab
    return math.prod(shape) * dtype.itemsize, dtype.name


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


def _fill(slab: NDArray[Any], wanted: list[Slice], decode: Decode, threads: Executor) -> None:
    """Decode the wanted slices into ``slab``, asking once per run of frames of one instance, in parallel."""
    at = 0
    under_way: list[Future[None]] = []
    for number, run in groupby(wanted, key=lambda one: one.instance.number):
        frames = [one.frame for one in run]
        under_way.append(threads.submit(_fill_run, slab[at : at + len(frames)], number, frames, decode))
        at += len(frames)
    failures = [future.exception() for future in under_way]  # all have ended: nobody writes on
    for failure in failures:
        if failure is not None:
            raise failure


def _fill_run(part: NDArray[Any], number: int, frames: list[int], decode: Decode) -> None:
    got = 0
    try:
        for header, blob in decode(number, frames):
            if got == len(frames):
                raise Refused("parser-crashed")
            part[got] = _checked(header, blob, part.shape[1:], part.dtype)
            got += 1
    except Refused as refused:
        raise SliceRefused(number, refused.code) from None
    if got != len(frames):
        raise SliceRefused(number, "truncated-pixel-data")


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
