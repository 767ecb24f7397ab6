"""The arrays of a copy: types, chunks and shards, and the bytes of one shard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import imagecodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec

from imaging.layout import chunk_path
from imaging.staging.items import OBJECTS_BESIDE, Expected
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.shards import shard

VOLUME_CHUNK = (32, 128, 128)
"""(z, y, x): 1 MiB of 16-bit voxels, good for whole slices and for 3-D patches."""
PLANE_CHUNK = 512
"""(y, x) of images that are no volume: a tile of a radiograph, a whole frame of most cines."""
FEWEST_DEEP = 4
"""Slices from which on chunks reach over several."""
SHARD_BYTES = 64 << 20
"""Plaintext of one object at most, and of one slab in memory: few, large objects.  A single plane may be more."""
BLOCK_BYTES = 256 << 10
"""Of a chunk, compressed by itself.  With planes of bits side by side it is faster both ways and smaller than blosc's
own choice (docs/adr/0020)."""
RATIO, RATIO_OF_BYTES, LABEL_RATIO = 2.4, 1.5, 100
"""Decoded ÷ stored, as a forecast takes it: of CT as measured in docs/adr/0020 (MR shrinks somewhat more), of 8-bit
images and of labels a guess."""
OVER_LOSSLESS, HEADER_BYTES = 1.1, 3 << 10
"""Stored ÷ codestreams of a source that is losslessly compressed already, by slower and better codecs; and what of a
file is no codestream."""
LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.110",
        "1.2.840.10008.1.2.4.201",
        "1.2.840.10008.1.2.4.202",
    }
)
"""Transfer syntaxes of JPEG lossless, JPEG-LS, JPEG 2000 (also high throughput) and JPEG XL without loss."""
METADATA_BYTES = 6 << 10
"""Of group, array and manifest of an item, roughly."""
_SMALL_CHUNK = 64 << 10
"""Times of small images are put together in one chunk up to this."""
Shuffle = Literal["noshuffle", "shuffle", "bitshuffle"]
_SHUFFLES: dict[Shuffle, Any] = {
    "noshuffle": imagecodecs.BLOSC.SHUFFLE.NOSHUFFLE,
    "shuffle": imagecodecs.BLOSC.SHUFFLE.SHUFFLE,
    "bitshuffle": imagecodecs.BLOSC.SHUFFLE.BITSHUFFLE,
}


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """An array to be written.  ``axes``: names, slowest first, some of ``tczyx``."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    is_label: bool = False

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def dtype_name(self) -> str:
        """As numpy and zarr call it."""
        return np.dtype(self.dtype).name

    @property
    def chunks(self) -> tuple[int, ...]:
        """A chunk has all three channels of RGB, and one channel of segments."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        deep = sizes.get("z", 1) >= FEWEST_DEEP
        z, y, x = VOLUME_CHUNK if deep else (1, PLANE_CHUNK, PLANE_CHUNK)
        chunk = {
            "c": 1 if self.is_label else sizes.get("c", 1),
            "z": min(z, sizes.get("z", 1)),
            "y": min(y, sizes["y"]),
            "x": min(x, sizes["x"]),
        }
        one = math.prod(chunk.values()) * self.itemsize
        chunk["t"] = 1 if deep else max(1, min(sizes.get("t", 1), _SMALL_CHUNK // one))
        # However large the plane: a shard is whole planes, so chunks may not be deeper than a shard can be.
        while chunk["z"] > 1 and self._plane(chunk) * chunk["z"] > SHARD_BYTES:
            chunk["z"] //= 2
        return tuple(chunk[name] for name in self.axes)

    @property
    def shards(self) -> tuple[int, ...]:
        """Whole planes, then as many slices, then as many times as fit in :data:`SHARD_BYTES`."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        chunk = dict(zip(self.axes, self.chunks, strict=True))
        shard = {name: math.ceil(sizes[name] / chunk[name]) * chunk[name] for name in "yx"}
        if "c" in chunk:
            shard["c"] = chunk["c"]
        left = max(1, SHARD_BYTES // self._plane(chunk))
        for name in "zt":
            if name in chunk:
                count = max(1, min(math.ceil(sizes[name] / chunk[name]), left // chunk[name]))
                shard[name] = count * chunk[name]
                # A slab that is not the whole depth has one time, so that slabs are contiguous.
                left = left // shard[name] if shard[name] >= sizes[name] else 1
        return tuple(shard[name] for name in self.axes)

    def _plane(self, chunk: dict[str, int]) -> int:
        """Bytes of one padded plane with the channels that a chunk has."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        rows = math.ceil(sizes["y"] / chunk["y"]) * chunk["y"]
        columns = math.ceil(sizes["x"] / chunk["x"]) * chunk["x"]
        return rows * columns * chunk.get("c", 1) * self.itemsize

    def slabs(self) -> Iterator[Slab]:
        """The shards, each written whole: partial shard writes would read and write the shard again."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        shard = dict(zip(self.axes, self.shards, strict=True))
        spans = {
            name: [
                range(at, min(at + shard.get(name, 1), sizes.get(name, 1)))
                for at in range(0, sizes.get(name, 1), shard.get(name, 1))
            ]
            for name in "tcz"
        }
        for t in spans["t"]:
            for c in spans["c"]:
                for z in spans["z"]:
                    start = {"t": t.start, "c": c.start, "z": z.start, "y": 0, "x": 0}
                    extent = {"t": len(t), "c": len(c), "z": len(z), "y": sizes["y"], "x": sizes["x"]}
                    yield Slab(
                        tuple(start[name] // shard[name] for name in self.axes),
                        tuple(extent[name] for name in self.axes),
                        t,
                        c,
                        z,
                    )

    def expected(self, transfer_syntax: str, source_bytes: int, files: int) -> Expected:
        """What it will take, from so many files in this transfer syntax that have so many bytes."""
        whole = math.prod(self.shape) * self.itemsize
        if self.is_label:
            size, basis = whole // LABEL_RATIO, f"decoded ÷ {LABEL_RATIO} (label)"
        elif transfer_syntax in LOSSLESS:
            codestreams = max(source_bytes // 4, source_bytes - files * HEADER_BYTES)
            size, basis = round(codestreams * OVER_LOSSLESS), f"codestreams × {OVER_LOSSLESS} (lossless)"
        else:
            ratio = RATIO if self.itemsize > 1 else RATIO_OF_BYTES
            size, basis = round(whole / ratio), f"decoded ÷ {ratio} ({8 * self.itemsize} bits)"
        shards = math.prod(math.ceil(n / of) for n, of in zip(self.shape, self.shards, strict=True))
        size = min(size, whole) + METADATA_BYTES
        return Expected(size, whole + METADATA_BYTES, shards + OBJECTS_BESIDE, basis)

    def create(self, store: Store, path: str) -> zarr.Array[Any]:
        """Write the array's metadata at ``path``; shards that lie there already stay."""
        return self._create(store, path, self.shape, list(self.axes))

    def encoded(self, slab: NDArray[Any], threads: Executor | None = None) -> bytes:
        """The bytes of the one shard that ``slab`` fills (an edge slab is padded with the fill value)."""
        grid = [whole // chunk for whole, chunk in zip(self.shards, self.chunks, strict=True)]
        return shard(slab, self.chunks, grid, self._encode, threads)

    def _encode(self, chunk: NDArray[Any]) -> bytes:
        """As the codec that the metadata names would."""
        level, shuffle, block = self._codec
        return bytes(
            imagecodecs.blosc_encode(
                chunk,
                level=level,
                compressor="zstd",
                shuffle=_SHUFFLES[shuffle],
                typesize=self.itemsize,
                blocksize=block,
                numthreads=1,
            )
        )

    @property
    def _codec(self) -> tuple[int, Shuffle, int]:
        """Level, shuffle and block size of blosc-zstd."""
        if self.is_label:
            return 5, "noshuffle", 0  # long runs: small at any level, and read faster at a higher one
        return 1, "shuffle" if self.itemsize == 1 else "bitshuffle", BLOCK_BYTES

    def _create(
        self, store: Store, name: str, shape: tuple[int, ...], names: list[str] | None
    ) -> zarr.Array[Any]:
        level, shuffle, block = self._codec
        codec = BloscCodec(
            cname="zstd", clevel=level, shuffle=shuffle, typesize=self.itemsize, blocksize=block
        )
        return zarr.create_array(
            store,
            name=name,
            shape=shape,
            dtype=np.dtype(self.dtype),
            chunks=self.chunks,
            shards=self.shards,
            compressors=codec,
            filters=None,
            fill_value=0,
            dimension_names=names,
            # Chunks of zeros are written too: which chunks exist would draw the body's outline.
            config={"write_empty_chunks": True},
        )


@dataclass(frozen=True, slots=True)
class Slab:
    """One shard's part of an array: its place in the grid of shards, its shape, and which indices it holds."""

    place: tuple[int, ...]
    shape: tuple[int, ...]
    times: range
    channels: range
    slices: range

    def path(self, array: str) -> str:
        return chunk_path(array, *self.place)


def stored_dtype(header: InstanceHeader) -> str:
    """Values as stored, little-endian: the smallest integer that holds Bits Allocated, or the float."""
    if header.value_type in ("float32", "float64"):
        return "<f4" if header.value_type == "float32" else "<f8"
    if header.value_type == "bit":
        return "|u1"
    size = next(size for size in (1, 2, 4, 8) if header.bits_allocated <= 8 * size)
    return np.dtype(f"<{'i' if header.signed else 'u'}{size}").str
