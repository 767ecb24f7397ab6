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

QUALITY = 85
"""Of derived levels, where the source has none on this scale."""
BELOW_SOURCE, LEAST_QUALITY = 6, 65
"""Of derived levels of JPEG: so much less than the source's, and never less than that.  A picture of half the size has
more to tell a pixel: at the source's quality derived levels would take half as many bytes as level 0."""
QUALITY_OF_COPY = 95
"""Of a level 0 that had to be encoded anew from a lossy original."""
SHARD_TILES = 32
"""Tiles along each side of a shard at most: some 15 MB of JPEG."""
LOSSY_BYTES, LOSSLESS_BYTES = 192 << 20, 48 << 20
"""Decoded size of a shard at most: of tiles that are kept or JPEG, of tiles that are encoded here without loss."""
LOOK_SIDE = 4096
"""Side of the square of source pixels that a parser decodes for one answer, at most."""
_TOGETHER = 3
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
        sizes = np.asarray(lengths, dtype=np.uint64)
        places = np.stack([np.cumsum(sizes, dtype=np.uint64) - sizes, sizes], axis=-1)
        places[sizes == 0] = _ABSENT
        return self.indexed(data, places.reshape(-1, columns, 2))

    def indexed(self, data: bytearray, places: NDArray[np.uint64]) -> bytearray:
        """Codestreams as a shard, in place.  ``places``: (row, column, (offset, length)) of its first tiles."""
        index = np.full((*self.across, 2), _ABSENT, dtype="<u8")
        index[: places.shape[0], : places.shape[1]] = places
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

        It is filled up by repeating the last row and column.
        """
        _repeat_edges(tile, height, width)
        if self.codec == "jpeg":
            return self._jpeg(tile, self.quality)
        if self.codec == "zstd":
            return self._zstd(tile)
        raise RuntimeError("a level of JPEG 2000 is kept, never made")

    def filling(self, pixels: NDArray[Any]) -> bytes:
        """A tile for a place where the source has none among tiles that are kept as they are: of its pixels in the
        level (y, x, samples), as such a codestream."""
        tile = np.empty((*self.tile, self.samples), dtype=self.dtype)
        height, width = pixels.shape[:2]
        tile[:height, :width] = pixels
        _repeat_edges(tile, height, width)
        if self.codec == "jpeg":
            return self._jpeg(tile, QUALITY_OF_COPY)
        shown = tile[..., 0] if self.samples == 1 else tile
        return bytes(imagecodecs.jpeg2k_encode(shown, codecformat="j2k", reversible=True))

    def _jpeg(self, tile: NDArray[Any], quality: int) -> bytes:
        # Encoded here and not by zarr's codec, which hands the encoder a transposed view that it refuses.
        tile = tile[..., 0] if self.samples == 1 else tile
        # Subsampling "444": stain colour is what slides are about.
        return bytes(imagecodecs.jpeg8_encode(tile, level=quality, subsampling="444"))

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


class GrowingShard:
    """A shard of ``array`` in the making: codestreams as they come, each at its place."""

    def __init__(self, array: LevelArray) -> None:
        self._array = array
        self._data = bytearray()
        self._places = np.full((*array.across, 2), _ABSENT, dtype=np.uint64)

    def add(self, row: int, column: int, columns: int, streams: Sequence[bytes]) -> None:
        """A rectangle of tiles, ``columns`` wide, row-major, whose first is at (row, column) of the shard."""
        for place, stream in enumerate(streams):
            self._places[row + place // columns, column + place % columns] = (len(self._data), len(stream))
            self._data += stream

    def finish(self) -> bytearray:
        """The object's bytes; nothing can be added any more."""
        return self._array.indexed(self._data, self._places)


def level_arrays(slide: Slide, sizes: Sequence[tuple[int, int]], paths: Sequence[str]) -> list[LevelArray]:
    """Arrays of all levels (height, width): of those that the slide has, then of those derived from its last.

    Shards of levels that are made together (:func:`together`) cover one area: each has half as many tiles along
    its sides as the one above.  Raises :class:`Refused` where tiles are too large.
    """
    one_look = together(slide, len(sizes))
    return [
        _array(path, slide, number, size, max(0, number - one_look.start) if number in one_look else 0)
        for number, (path, size) in enumerate(zip(paths, sizes, strict=True))
    ]


def is_kept(slide: Slide, number: int) -> bool:
    """Whether a level's codestreams go into the copy as they are."""
    return number < len(slide.levels) and slide.levels[number].encoding in ("jpeg", "jpeg2000")


def together(slide: Slide, levels: int) -> range:
    """The levels that one look at the source's last level is enough for: that level if it is encoded anew, and
    the first that are derived from it, as far as whole tiles of all of them come out of :data:`LOOK_SIDE`."""
    first = len(slide.levels) - (not is_kept(slide, len(slide.levels) - 1))
    last = slide.levels[-1]
    side = max(_sane((last.tile_height, last.tile_width))) * (2 if first == len(slide.levels) else 1)
    count = min(_TOGETHER, (LOOK_SIDE // side).bit_length())
    return range(first, min(first + count, levels))


def _array(path: str, slide: Slide, number: int, size: tuple[int, int], halvings: int) -> LevelArray:
    derived = number >= len(slide.levels)
    stored = slide.levels[-1 if derived else number]
    tile = (stored.tile_height, stored.tile_width)
    codec: Codec
    if not derived and (stored.encoding == "jpeg" or stored.encoding == "jpeg2000"):
        codec, quality = stored.encoding, QUALITY
        side = _shard_side(slide, tile, LOSSY_BYTES)
    else:
        # The file's tile size again if it is a sensible one, so that its tiles' edges and those of the level meet.
        tile = _sane(tile)
        lossy = stored.encoding != "lossless" if derived else stored.encoding == "lossy"
        codec = "jpeg" if lossy and _jpeg_can(slide) else "zstd"
        quality = _derived_quality(stored.quality) if derived else QUALITY_OF_COPY
        side = _shard_side(slide, tile, LOSSY_BYTES if codec == "jpeg" else LOSSLESS_BYTES)
        side = 1 << side.bit_length() - 1 >> halvings
    channels = 3 if slide.color else len(slide.channels)
    depth = (len(slide.focal_um),) if len(slide.focal_um) > 1 else ()
    return LevelArray(
        path,
        *size,
        tile,
        (min(side, -(-size[0] // tile[0])), min(side, -(-size[1] // tile[1]))),
        codec,
        slide.samples,
        slide.dtype,
        (channels, *depth),
        slide.fill,
        quality,
    )


def _repeat_edges(tile: NDArray[Any], height: int, width: int) -> None:
    """Fill a tile up beyond its picture: a lossy codec would blur a jump into the picture."""
    tile[:height, width:] = tile[:height, width - 1 : width]
    tile[height:] = tile[height - 1]


def _derived_quality(source: int | None) -> int:
    return QUALITY if source is None else max(LEAST_QUALITY, source - BELOW_SOURCE)


def _shard_side(slide: Slide, tile: tuple[int, int], limit: int) -> int:
    size = tile[0] * tile[1] * slide.samples * np.dtype(slide.dtype).itemsize
    if size > LOSSY_BYTES:
        raise Refused("too-large")
    return max(1, min(SHARD_TILES, math.isqrt(limit // size)))


def _jpeg_can(slide: Slide) -> bool:
    """Whether JPEG may stand for it: brightfield of 8 bits; fluorescence is measured, so never lossy."""
    return slide.color and slide.dtype == "uint8"


def _sane(tile: tuple[int, int]) -> tuple[int, int]:
    return tile if all(side in _SANE_TILE and side % 2 == 0 for side in tile) else (256, 256)


def _blosc(dtype: str) -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=np.dtype(dtype).itemsize)
