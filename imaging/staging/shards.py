"""The bytes of a shard, written by hand: encoded chunks one after another, then where each lies.

The index is that of zarr's ``sharding_indexed`` codec with its default codecs and place: u64 offset and length per
chunk, little-endian, in C order, then its CRC-32C, at the end.  Encoding lets go of the interpreter's lock, so the
chunks of one shard are encoded side by side; through zarr it would be one after another, and each copied twice more.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

Encode = Callable[[NDArray[Any]], bytes]
_BATCH_BYTES = 4 << 20
"""Decoded bytes a piece of work: large enough that handing it out does not show."""


def shard(
    slab: NDArray[Any],
    chunk: Sequence[int],
    grid: Sequence[int],
    encode: Encode,
    threads: Executor | None = None,
) -> bytes:
    """The shard whose chunks (of shape ``chunk``, ``grid`` of them along each axis) ``slab`` fills from its origin.

    Chunks at the slab's edge are padded with zeros; what lies beyond it is zero.  ``threads`` encode, if given.
    """
    places = list(itertools.product(*(range(count) for count in grid)))
    each = max(1, _BATCH_BYTES // (math.prod(chunk) * slab.itemsize))

    def some(at: int) -> list[bytes]:
        return [encode(_chunk(slab, chunk, place)) for place in places[at : at + each]]

    batches = range(0, len(places), each)
    made = map(some, batches) if threads is None or len(batches) == 1 else threads.map(some, batches)
    encoded = list(itertools.chain.from_iterable(made))
    return b"".join((*encoded, _index(encoded)))


def _chunk(slab: NDArray[Any], chunk: Sequence[int], place: Sequence[int]) -> NDArray[Any]:
    inside = slab[tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, chunk, strict=True))]
    if inside.shape == tuple(chunk):
        return np.ascontiguousarray(inside)
    padded = np.zeros(chunk, dtype=slab.dtype)
    padded[tuple(map(slice, inside.shape))] = inside
    return padded


def _index(encoded: Sequence[bytes]) -> bytes:
    index = b"".join(_entries(encoded))
    return index + struct.pack("<I", crc32c(index))


def _entries(encoded: Sequence[bytes]) -> Iterator[bytes]:
    at = 0
    for one in encoded:
        yield struct.pack("<QQ", at, len(one))
        at += len(one)
