"""One slide → an OME-Zarr pyramid whose stored levels are the scanner's own JPEG tiles, undecoded.

A shard is written as bytes: codestreams one after another, then the index of the ``sharding_indexed`` codec
(u64 offset and length per tile, all ones where there is none) and its CRC-32C.  Tiles of one level go through
the stager without being decoded there; what must be decoded, to derive levels that the file lacks, is decoded
by the parser.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import imagecodecs
import numpy as np
import zarr
from google_crc32c import value as crc32c
from imagecodecs.zarr import Jpeg
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import TransposeCodec

from imaging.layout import chunk_path, level_path
from imaging.staging.parsing.slides.halving import halve
from imaging.staging.pathology.headers import LevelHeader, SlideHeader
from imaging.staging.refusals import Refused

SHARD_TILES = 32
"""Tiles along each side of a shard: some 15 MB of JPEG a shard."""
SMALLEST_LEVEL = 512
"""Levels are derived until the longer side is below this many pixels; at least one always is, so that a
thumbnail never needs one of the file's own JPEG streams decoded."""
DERIVED_QUALITY = 90
DERIVED_SHARD_ROWS = 8
"""Rows of tiles in a shard of a derived level: it is written strip by strip, a strip a row of shards."""
_ABSENT = (1 << 64) - 1
_WHITE = 255
_SHARD_LIMIT_BYTES = 1 << 30
_BLOCK_WIDTH = 2048

Ask = Callable[..., Iterator[tuple[bytes, bytearray]]]
"""(operation, **arguments) → answers of a parser about this slide; raises :class:`Refused`."""


class Builder(Protocol):
    """The part of ``CopyBuilder`` that is needed here."""

    def put(self, path: str, data: bytes) -> None: ...
    def store(self) -> Store: ...


def derived_sizes(header: SlideHeader) -> list[tuple[int, int]]:
    """(height, width) of the levels to derive below the file's smallest, each half of the one before."""
    smallest = header.levels[-1]
    height, width = smallest.height, smallest.width
    sizes: list[tuple[int, int]] = []
    while not sizes or max(height, width) >= SMALLEST_LEVEL:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def write_slide(
    builder: Builder, path: str, header: SlideHeader, attributes: dict[str, Any], ask: Ask
) -> int:
    """Write group, stored levels and derived levels at ``path``; gives the bytes of image data written.

    Raises :class:`Refused`; what was written until then is the caller's to drop.
    """
    store = builder.store()
    zarr.create_group(store, path=path, attributes=attributes, overwrite=True)
    written = 0
    for number, level in enumerate(header.levels):
        written += _pass_through(builder, store, level_path(path, number), level, ask)
    above: zarr.Array[Any] | None = None
    last = header.levels[-1]
    for offset, size in enumerate(derived_sizes(header)):
        place = level_path(path, len(header.levels) + offset)
        # The file's tile size again, so that strips of it end where tiles of the new level end.
        target = _create(store, place, size, (last.tile_height, last.tile_width), DERIVED_SHARD_ROWS)
        if above is None:
            _derive_from_file(builder, target, header.levels[-1], ask)
        else:
            _derive_from_level(builder, target, above)
        above = target
        written += 3 * size[0] * size[1]
    return written


def _create(
    store: Store, path: str, size: tuple[int, int], tile: tuple[int, int], shard_rows: int = SHARD_TILES
) -> zarr.Array[Any]:
    high, wide = (-(-full // part) for full, part in zip(size, tile, strict=True))
    shard = (3, min(shard_rows, high) * tile[0], min(SHARD_TILES, wide) * tile[1])
    return zarr.create_array(
        store,
        name=path,
        shape=(3, *size),
        dtype="uint8",
        chunks=(3, *tile),
        shards=shard,
        # NGFF wants channel first, JPEG interleaves it.
        filters=[TransposeCodec(order=(1, 2, 0))],
        serializer=Jpeg(level=DERIVED_QUALITY),
        compressors=None,
        fill_value=_WHITE,
        dimension_names=["c", "y", "x"],
        config={"write_empty_chunks": True},
        overwrite=True,
    )


def _pass_through(builder: Builder, store: Store, path: str, level: LevelHeader, ask: Ask) -> int:
    tile = (level.tile_height, level.tile_width)
    array = _create(store, path, (level.height, level.width), tile)
    shards = array.shards
    assert shards is not None
    tiles_high, tiles_wide = shards[1] // tile[0], shards[2] // tile[1]
    rows, columns = -(-level.height // tile[0]), -(-level.width // tile[1])
    written = 0
    for top in range(0, rows, tiles_high):
        for left in range(0, columns, tiles_wide):
            bottom, right = min(top + tiles_high, rows), min(left + tiles_wide, columns)
            lengths, data = _tiles(ask, level.page, (top, bottom), (left, right))
            shard = _shard(lengths, data, right - left, tiles_high, tiles_wide)
            builder.put(chunk_path(path, 0, top // tiles_high, left // tiles_wide), shard)
            written += len(data)
    return written


def _tiles(
    ask: Ask, page: int, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[list[int], bytearray]:
    answers = list(ask("tiles", page=page, rows=rows, columns=columns))
    try:
        ((header, data),) = answers
        lengths = [int(length) for length in json.loads(header)["lengths"]]
    except (ValueError, KeyError, TypeError):
        raise Refused("parser-crashed") from None
    expected = (rows[1] - rows[0]) * (columns[1] - columns[0])
    if len(lengths) != expected or min(lengths) < 0 or sum(lengths) != len(data):
        raise Refused("parser-crashed")
    if len(data) > _SHARD_LIMIT_BYTES:
        raise Refused("too-large")
    return lengths, data


def _shard(lengths: Sequence[int], data: bytearray, across: int, tiles_high: int, tiles_wide: int) -> bytes:
    """Tiles (row-major over a rectangle ``across`` wide) as a shard of ``tiles_high`` × ``tiles_wide``."""
    index = np.full((tiles_high, tiles_wide, 2), _ABSENT, dtype="<u8")
    at = 0
    for number, length in enumerate(lengths):
        if length:
            index[number // across, number % across] = (at, length)
            at += length
    raw = index.tobytes()
    return bytes(data) + raw + struct.pack("<I", crc32c(raw))


def _derive_from_file(builder: Builder, target: zarr.Array[Any], level: LevelHeader, ask: Ask) -> None:
    """Halve the file's smallest level, a strip of blocks of its tiles at a time."""
    rows, columns = -(-level.height // level.tile_height), -(-level.width // level.tile_width)
    # Even numbers of tiles, so that no block but the last has an odd edge.
    tall, wide = 2 * DERIVED_SHARD_ROWS, max(2, _BLOCK_WIDTH // level.tile_width // 2 * 2)
    for top in range(0, rows, tall):
        wanted = (top, min(top + tall, rows))
        parts = [
            _halved(ask, level.page, wanted, (left, min(left + wide, columns)))
            for left in range(0, columns, wide)
        ]
        _write(builder, target, top * level.tile_height // 2, np.concatenate(parts, axis=1))


def _derive_from_level(builder: Builder, target: zarr.Array[Any], above: zarr.Array[Any]) -> None:
    """Halve a level of our own making, a strip at a time."""
    strip = 2 * target.chunks[1] * DERIVED_SHARD_ROWS
    for top in range(0, above.shape[1], strip):
        pixels = np.asarray(above[:, top : top + strip]).transpose(1, 2, 0)
        _write(builder, target, top // 2, halve(pixels))


def _write(builder: Builder, target: zarr.Array[Any], top: int, pixels: NDArray[np.uint8]) -> None:
    """Encode a strip of (y, x, 3) that starts at row ``top`` of the level, as one row of shards.

    Encoded here and not by zarr's codec, which hands the encoder a transposed view that it refuses.
    """
    height, width = target.shape[1:]
    pixels = pixels[: height - top, :width]
    if pixels.shape[1] != width or pixels.shape[0] == 0:
        raise Refused("parser-crashed")
    assert target.shards is not None
    high, wide = target.chunks[1:]
    tiles_high, tiles_wide = target.shards[1] // high, target.shards[2] // wide
    # Tiles at the edge are whole; what lies outside the level repeats its last row and column.
    rows, columns = -(-pixels.shape[0] // high), -(-width // wide)
    missing = (rows * high - pixels.shape[0], columns * wide - width)
    pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    for left in range(0, columns, tiles_wide):
        right = min(left + tiles_wide, columns)
        streams = [
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(
                    pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
                ),
                level=DERIVED_QUALITY,
                subsampling="444",  # stain colour is what slides are about
            )
            for row in range(rows)
            for column in range(left, right)
        ]
        lengths = [len(stream) for stream in streams]
        shard = _shard(lengths, bytearray(b"".join(streams)), right - left, tiles_high, tiles_wide)
        path = chunk_path(target.path, 0, top // target.shards[1], left // tiles_wide)
        builder.put(path, shard)


def _halved(ask: Ask, page: int, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.uint8]:
    answers = list(ask("halved", page=page, rows=rows, columns=columns))
    try:
        ((header, data),) = answers
        shape = tuple(int(part) for part in json.loads(header)["shape"])
    except (ValueError, KeyError, TypeError):
        raise Refused("parser-crashed") from None
    if len(shape) != 3 or shape[2] != 3 or math.prod(shape) != len(data):
        raise Refused("parser-crashed")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
