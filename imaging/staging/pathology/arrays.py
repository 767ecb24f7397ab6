"""A level's zarr array, and its shards as bytes.

A shard is written by hand: the tiles' codestreams one after another, then the index of the ``sharding_indexed``
codec (u64 offset and length per tile, all ones where there is none) and its CRC-32C.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import imagecodecs
import numpy as np
import zarr
from google_crc32c import value as crc32c
from imagecodecs.zarr import Jpeg, Jpeg2k
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec

from imaging.layout import chunk_path
from imaging.staging.pathology.slide import Slide
from imaging.staging.refusals import Refused

Codec = Literal["jpeg", "jpeg2000", "zstd"]

QUALITY = 90
"""Of derived levels."""
QUALITY_OF_COPY = 95
"""Of a level 0 that had to be encoded anew from a lossy original."""
SHARD_TILES = 32
"""Tiles along each side of a shard at most: some 15 MB of JPEG."""
KEPT_BYTES, MADE_BYTES = 192 << 20, 48 << 20
"""Decoded size of a shard at most: of tiles kept undecoded, of tiles that are encoded here."""
_ABSENT = (1 << 64) - 1
_SANE_TILE = range(128, 1025)


@dataclass(frozen=True, slots=True)
class LevelArray:
    """``tile``, ``across`` (tiles of a shard along each side): (y, x).  ``plane_axes``: those before (y, x)."""

    path: str
    height: int
    width: int
    tile: tuple[int, int]
    across: tuple[int, int]
    codec: Codec
    samples: int
    dtype: str
    plane_axes: tuple[int, ...]
    fill: int
    quality: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array: (c, y, x) or (c, z, y, x)."""
        return (*self.plane_axes, self.height, self.width)

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles of the whole level: (rows, columns)."""
        return -(-self.height // self.tile[0]), -(-self.width // self.tile[1])

    def planes(self) -> int:
        """Planes of one or three samples."""
        return math.prod(self.plane_axes) // self.samples

    def shards(self) -> Iterator[tuple[int, range, range]]:
        """(plane, rows of tiles, columns of tiles) of each shard."""
        rows, columns = self.tiles
        for plane in range(self.planes()):
            for top in range(0, rows, self.across[0]):
                for left in range(0, columns, self.across[1]):
                    yield (
                        plane,
                        range(top, min(top + self.across[0], rows)),
                        range(left, min(left + self.across[1], columns)),
                    )

    def shard_path(self, plane: int, row: int, column: int) -> str:
        """The object that holds the tile at (row, column) of ``plane``."""
        focal = self.plane_axes[1:]
        channel = 0 if self.samples == 3 else plane // math.prod(focal)
        depth = (plane % focal[0],) if focal else ()
        return chunk_path(self.path, channel, *depth, row // self.across[0], column // self.across[1])

    def create(self, store: Store) -> None:
        """Write the array's metadata; raises nothing of its own."""
        ones = (1,) * len(self.plane_axes[1:])
        chunk = (self.samples, *ones, *self.tile)
        shard = (*chunk[:-2], self.tile[0] * self.across[0], self.tile[1] * self.across[1])
        interleaved = self.samples == 3 and self.codec != "zstd"
        axes = range(1, len(chunk))
        serializer: Any = {
            "jpeg": Jpeg(level=self.quality),
            "jpeg2000": Jpeg2k(),
            "zstd": BytesCodec(endian="little"),
        }[self.codec]
        zarr.create_array(
            store,
            name=self.path,
            shape=self.shape,
            dtype=self.dtype,
            chunks=chunk,
            shards=shard,
            # NGFF wants channel first, JPEG interleaves it.
            filters=[TransposeCodec(order=(*axes, 0))] if interleaved else [],
            serializer=serializer,
            compressors=[_blosc(self.dtype)] if self.codec == "zstd" else None,
            fill_value=self.fill,
            dimension_names=["c", "z", "y", "x"] if ones else ["c", "y", "x"],
            config={"write_empty_chunks": True},
        )

    def shard(self, lengths: Sequence[int], data: bytearray, columns: int) -> bytearray:
        """Codestreams (row-major over a rectangle ``columns`` wide; 0 bytes where none) as a shard, in place."""
        index = np.full((*self.across, 2), _ABSENT, dtype="<u8")
        sizes = np.asarray(lengths, dtype=np.uint64)
        ends = np.cumsum(sizes, dtype=np.uint64)
        there = np.stack([ends - sizes, sizes], axis=-1)
        there[sizes == 0] = _ABSENT
        index[: len(lengths) // columns, :columns] = there.reshape(-1, columns, 2)
        raw = index.tobytes()
        data += raw + struct.pack("<I", crc32c(raw))
        return data

    def streams(self, pixels: NDArray[Any]) -> Iterator[bytes]:
        """Pixels (y, x, samples), from a tile's corner on, as encoded tiles, row-major."""
        high, wide = self.tile
        room = np.empty((high, wide, self.samples), dtype=self.dtype)
        for top in range(0, pixels.shape[0], high):
            for left in range(0, pixels.shape[1], wide):
                part = pixels[top : top + high, left : left + wide]
                room[: part.shape[0], : part.shape[1]] = part
                yield self.stream(room, part.shape[0], part.shape[1])

    def stream(self, tile: NDArray[Any], height: int, width: int) -> bytes:
        """A tile (y, x, samples), contiguous, of which ``height`` × ``width`` are in the level, encoded.

        It is filled up by repeating the last row and column: a lossy codec would blur a jump into the picture.
        """
        tile[:height, width:] = tile[:height, width - 1 : width]
        tile[height:] = tile[height - 1]
        if self.codec == "jpeg":
            return self._jpeg(tile)
        if self.codec == "zstd":
            return self._zstd(tile)
        raise RuntimeError("JPEG 2000 is kept, never made")

    def _jpeg(self, tile: NDArray[Any]) -> bytes:
        # Encoded here and not by zarr's codec, which hands the encoder a transposed view that it refuses.
        tile = tile[..., 0] if self.samples == 1 else tile
        # Subsampling "444": stain colour is what slides are about.
        return bytes(imagecodecs.jpeg8_encode(tile, level=self.quality, subsampling="444"))

    def _zstd(self, tile: NDArray[Any]) -> bytes:
        raw = np.ascontiguousarray(tile.transpose(2, 0, 1))
        shuffle = imagecodecs.BLOSC.SHUFFLE.SHUFFLE
        return bytes(
            imagecodecs.blosc_encode(
                raw.tobytes(),
                level=5,
                compressor="zstd",
                typesize=raw.dtype.itemsize,
                shuffle=shuffle,
                numthreads=1,
            )
        )

    def places(self, shard: bytes) -> NDArray[np.uint64]:
        """(row, column, (offset, length)) of a shard's tiles, of those made here only: all there are have one."""
        size = math.prod(self.across) * 16
        index = np.frombuffer(shard, "<u8", count=size // 8, offset=len(shard) - size - 4)
        return index.reshape(*self.across, 2)

    def decode(self, stream: memoryview, room: NDArray[Any]) -> NDArray[Any]:
        """(y, x, samples) of a tile that was made here, in ``room`` (contiguous, of its shape) or elsewhere."""
        if self.codec == "zstd":
            raw = np.frombuffer(imagecodecs.blosc_decode(stream, numthreads=1), dtype=self.dtype)
            return raw.reshape(self.samples, *self.tile).transpose(1, 2, 0)
        imagecodecs.jpeg8_decode(stream, out=room[..., 0] if self.samples == 1 else room)
        return room


def kept_array(path: str, slide: Slide, level: int) -> LevelArray:
    """The array of a stored level: codestreams as they are, or encoded anew where that can't be."""
    stored = slide.levels[level]
    tile = (stored.tile_height, stored.tile_width)
    if stored.encoding in ("jpeg", "jpeg2000"):
        codec: Codec = "jpeg" if stored.encoding == "jpeg" else "jpeg2000"
        return _array(path, slide, (stored.height, stored.width), tile, codec, KEPT_BYTES, QUALITY)
    codec = "jpeg" if stored.encoding == "lossy" and _jpeg_can(slide) else "zstd"
    size = (stored.height, stored.width)
    return _array(path, slide, size, _sane(tile), codec, MADE_BYTES, QUALITY_OF_COPY)


def derived_array(path: str, slide: Slide, size: tuple[int, int]) -> LevelArray:
    """The array of a level (height, width) that the file lacks."""
    stored = slide.levels[-1]
    # The file's tile size again, so that its tiles' edges and those of the new level meet.
    tile = _sane((stored.tile_height, stored.tile_width))
    codec: Codec = "jpeg" if _jpeg_can(slide) and stored.encoding != "lossless" else "zstd"
    return _array(path, slide, size, tile, codec, MADE_BYTES, QUALITY)


def _array(
    path: str,
    slide: Slide,
    size: tuple[int, int],
    tile: tuple[int, int],
    codec: Codec,
    limit: int,
    quality: int,
) -> LevelArray:
    pixel = slide.samples * np.dtype(slide.dtype).itemsize
    side = max(1, min(SHARD_TILES, math.isqrt(limit // (tile[0] * tile[1] * pixel))))
    if tile[0] * tile[1] * pixel > KEPT_BYTES:
        raise Refused("too-large")
    across = (min(side, -(-size[0] // tile[0])), min(side, -(-size[1] // tile[1])))
    channels = 3 if slide.color else len(slide.channels)
    depth = (len(slide.focal_um),) if len(slide.focal_um) > 1 else ()
    return LevelArray(
        path,
        *size,
        tile,
        across,
        codec,
        slide.samples,
        slide.dtype,
        (channels, *depth),
        slide.fill,
        quality,
    )


def _jpeg_can(slide: Slide) -> bool:
    """Whether JPEG may stand for it: brightfield of 8 bits; fluorescence is measured, so never lossy."""
    return slide.color and slide.dtype == "uint8"


def _sane(tile: tuple[int, int]) -> tuple[int, int]:
    return tile if all(side in _SANE_TILE and side % 2 == 0 for side in tile) else (256, 256)


def _blosc(dtype: str) -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=np.dtype(dtype).itemsize)
