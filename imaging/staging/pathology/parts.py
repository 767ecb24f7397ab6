"""The shards of a slide, each a part: tiles kept undecoded, tiles encoded anew, tiles of derived levels.

Tiles that are kept go through the stager without being decoded there; what must be decoded of the source is
decoded by the parser.  What is encoded is encoded here, from pixels: a parser that a file has taken over can make
derived levels wrong, but no codestream of its own making is among them, so thumbnails may be decoded beside the key.
A part holds the codestreams of its shards and the pixels of what is decoded at once, whatever the slide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging import answers
from imaging.staging.items import Bench, Made
from imaging.staging.pathology.arrays import GrowingShard, LevelArray
from imaging.staging.pathology.halving import halve
from imaging.staging.pathology.slide import Grid
from imaging.staging.refusals import ItemRefused, Refused

BLOCK = 2048
"""Side of the square of source pixels that a parser decodes for one answer, or what whole tiles need."""
_SHARD_LIMIT_BYTES = 256 << 20

type _Opened = Mapping[str, tuple[memoryview, NDArray[np.uint64]]]
"""Shards by path, with the places of their tiles."""


@dataclass(frozen=True, slots=True)
class KeptShard:
    """Codestreams of the source, undecoded."""

    array: LevelArray
    grids: tuple[Grid, ...]
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    share: float
    inputs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.array.shard_path(self.plane, self.rows[0], self.columns[0])

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        lengths, data = _codestreams(bench, self.grids[0], self.rows, self.columns)
        for grid in self.grids[1:]:
            more, other = _codestreams(bench, grid, self.rows, self.columns)
            lengths, data = _merged(lengths, data, more, other)
        kept = len(data)
        across = self.columns[1] - self.columns[0]
        absent = lengths.count(0)
        return Made(self.array.shard(lengths, data, across), {"bytes": kept, "absent": absent})


@dataclass(frozen=True, slots=True)
class MadeShards:
    """Pixels of the source, encoded: one area of a level (or, with ``halved``, of the next one, averaged from it)
    and of the levels below, each averaged from the one above; a shard of each of ``arrays``."""

    arrays: tuple[LevelArray, ...]
    grids: tuple[Grid, ...]
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    """Of tiles of the first array."""
    source: tuple[int, int]
    """Height and width of the source's level."""
    halved: bool
    share: float
    inputs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.arrays[0].shard_path(self.plane, self.rows[0], self.columns[0])

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        shards = [GrowingShard(array) for array in self.arrays]
        looks = list(self._looks())
        size = 0
        for (rows, columns), levels in zip(
            looks, bench.threads.map(lambda look: self._look(bench, *look), looks), strict=True
        ):
            for depth, (shard, (across, streams, pixels)) in enumerate(zip(shards, levels, strict=True)):
                place = (rows[0] - self.rows[0] >> depth, columns[0] - self.columns[0] >> depth)
                shard.add(*place, across, streams)
                size += pixels
        objects = {
            array.shard_path(self.plane, self.rows[0] >> depth, self.columns[0] >> depth): shard.finish()
            for depth, (array, shard) in enumerate(zip(self.arrays, shards, strict=True))
        }
        return Made(objects.pop(self.path), {"bytes": size}, objects)

    def _looks(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Rows and columns of tiles that a parser is asked for at once: whole ones of every level."""
        least = 1 << len(self.arrays) - 1
        high, wide = (
            max(1, BLOCK // (side * (2 if self.halved else 1)) // least) * least
            for side in self.arrays[0].tile
        )
        for row in range(*self.rows, high):
            for column in range(*self.columns, wide):
                yield (row, min(row + high, self.rows[1])), (column, min(column + wide, self.columns[1]))

    def _look(
        self, bench: Bench, rows: tuple[int, int], columns: tuple[int, int]
    ) -> list[tuple[int, list[bytes], int]]:
        """Of each level: tiles across, codestreams, decoded bytes."""
        array = self.arrays[0]
        top, left, bottom, right = _box(array, rows, columns)
        factor = 2 if self.halved else 1
        box = (
            top * factor,
            left * factor,
            min(bottom * factor, self.source[0]),
            min(right * factor, self.source[1]),
        )
        pixels = _read(
            bench, self.grids, box, self.halved, (bottom - top, right - left, array.samples), array
        )
        levels = []
        for depth, array in enumerate(self.arrays):
            pixels = halve(pixels) if depth else pixels
            levels.append((-(-pixels.shape[1] // array.tile[1]), list(array.streams(pixels)), pixels.nbytes))
        return levels


@dataclass(frozen=True, slots=True)
class HalvedShard:
    """Pixels of the level above, which was made here, averaged over 2×2."""

    array: LevelArray
    above: LevelArray
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    share: float = 0.0

    @property
    def path(self) -> str:
        return self.array.shard_path(self.plane, self.rows[0], self.columns[0])

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self._sources())

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        opened = {path: (memoryview(shard), self.above.places(shard)) for path, shard in inputs.items()}
        shard = GrowingShard(self.array)
        columns = self.columns[1] - self.columns[0]
        for row, streams in enumerate(
            bench.threads.map(lambda row: self._row(opened, row), range(*self.rows))
        ):
            shard.add(row, 0, columns, streams)
        top, left, bottom, right = _box(self.array, self.rows, self.columns)
        pixel = self.array.samples * np.dtype(self.array.dtype).itemsize
        return Made(shard.finish(), {"bytes": (bottom - top) * (right - left) * pixel})

    def _row(self, opened: _Opened, row: int) -> list[bytes]:
        """Codestreams of a row of tiles.  Both levels have one tile size, and it is even: four above fill one."""
        array = self.array
        high, wide = array.tile
        room = np.empty((high, wide, array.samples), dtype=array.dtype)
        large = np.empty_like(room)
        streams = []
        for column in range(*self.columns):
            for down, across in product((0, 1), (0, 1)):
                self._halve_into(room, opened, (row, down), (column, across), large)
            height, width = min(high, array.height - row * high), min(wide, array.width - column * wide)
            streams.append(array.stream(room, height, width))
        return streams

    def _halve_into(
        self,
        room: NDArray[Any],
        opened: _Opened,
        row: tuple[int, int],
        column: tuple[int, int],
        large: NDArray[Any],
    ) -> None:
        """One quarter of a tile, from the tile above at (2 · row + down, 2 · column + across) if there is one."""
        above = self.above
        high, wide = above.tile
        y, x = 2 * row[0] + row[1], 2 * column[0] + column[1]
        if y * high >= above.height or x * wide >= above.width:
            return
        shard, places = opened[above.shard_path(self.plane, y, x)]
        at, length = (int(number) for number in places[y % above.across[0], x % above.across[1]])
        tile = above.decode(shard[at : at + length], large)
        seen = tile[: above.height - y * high, : above.width - x * wide]
        top, left = row[1] * high // 2, column[1] * wide // 2
        halve(seen, room[top : top + -(-seen.shape[0] // 2), left : left + -(-seen.shape[1] // 2)])

    def _sources(self) -> Iterator[str]:
        """Paths of the shards above that hold this one's pixels."""
        down, across = self.above.across
        rows, columns = self.above.tiles
        for row in range(2 * self.rows[0] // down * down, min(2 * self.rows[1], rows), down):
            first, last = 2 * self.columns[0] // across * across, min(2 * self.columns[1], columns)
            for column in range(first, last, across):
                yield self.above.shard_path(self.plane, row, column)


def _box(array: LevelArray, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels of a rectangle of tiles, cut at the level's edge: top, left, bottom, right."""
    high, wide = array.tile
    return (
        rows[0] * high,
        columns[0] * wide,
        min(rows[1] * high, array.height),
        min(columns[1] * wide, array.width),
    )


def _codestreams(
    bench: Bench, grid: Grid, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[list[int], bytearray]:
    """Lengths and bytes of a rectangle of tiles, row-major; 0 where the source has none."""
    expected = (rows[1] - rows[0]) * (columns[1] - columns[0])
    lengths: list[int] = []
    data = bytearray()
    try:
        for header, blob in bench.reader.ask(
            grid.number, "tiles", level=grid.level, plane=grid.plane, rows=rows, columns=columns
        ):
            some = _lengths(header)
            if not some or len(lengths) + len(some) > expected or sum(some) != len(blob):
                raise Refused("parser-crashed")
            if len(data) + len(blob) > _SHARD_LIMIT_BYTES:
                raise Refused("too-large")
            lengths += some
            data += blob
        if len(lengths) != expected:
            raise Refused("parser-crashed")
    except Refused as refused:
        raise ItemRefused(grid.number, refused.code) from None
    return lengths, data


def _lengths(header: bytes) -> list[int]:
    try:
        lengths = [int(length) for length in answers.said(header)["lengths"]]
    except answers.LIES:
        raise Refused("parser-crashed") from None
    if any(length < 0 for length in lengths):
        raise Refused("parser-crashed")
    return lengths


def _merged(
    lengths: list[int], data: bytearray, more: list[int], other: bytearray
) -> tuple[list[int], bytearray]:
    """Tiles of two grids over one rectangle; the first has precedence."""
    if not any(more):
        return lengths, data
    merged = bytearray()
    found: list[int] = []
    at = at_other = 0
    for length, length_other in zip(lengths, more, strict=True):
        if length:
            merged += data[at : at + length]
        else:
            merged += other[at_other : at_other + length_other]
        found.append(length or length_other)
        at += length
        at_other += length_other
    return found, merged


def _read(
    bench: Bench,
    grids: tuple[Grid, ...],
    box: tuple[int, int, int, int],
    halved: bool,
    shape: tuple[int, int, int],
    array: LevelArray,
) -> NDArray[Any]:
    """A box of source pixels (y, x, samples), decoded by the parser, of the first grid that has each."""
    whole: NDArray[Any] | None = None
    remaining: NDArray[np.bool_] | None = None
    for grid in grids:
        try:
            pixels, holes = source_pixels(bench, grid, box, halved, shape, np.dtype(array.dtype))
        except Refused as refused:
            raise ItemRefused(grid.number, refused.code) from None
        there = np.ones(shape[:2], dtype=bool)
        for top, left, bottom, right in holes:
            there[top:bottom, left:right] = False
        if whole is None or remaining is None:
            whole, remaining = pixels, ~there
        else:
            use = remaining & there
            whole[use] = pixels[use]
            remaining &= ~there
        if not remaining.any():
            break
    if whole is None or remaining is None:
        raise RuntimeError("a plane without a grid")
    if len(grids) > 1:
        whole[remaining] = array.fill
    return whole


def source_pixels(
    bench: Bench,
    grid: Grid,
    box: tuple[int, int, int, int],
    halved: bool,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
) -> tuple[NDArray[Any], list[tuple[int, ...]]]:
    """The parser's pixels, checked, and the rectangles of them that the source has nothing for."""
    wanted: dict[str, Any] = {"level": grid.level, "plane": grid.plane, "box": box, "halved": halved}
    try:
        # Not as a list, since it may answer without end, and not by a name, which would keep its parser.
        ((header, blob),) = bench.reader.ask(grid.number, "pixels", **wanted)
        said = answers.said(header)
        given = tuple(int(part) for part in said["shape"])
        kind = np.dtype(str(said["dtype"]))
        holes = [tuple(int(edge) for edge in hole) for hole in said["holes"]]
    except answers.LIES:
        raise Refused("parser-crashed") from None
    if given != shape or kind != dtype or len(blob) != math.prod(shape) * dtype.itemsize:
        raise Refused("parser-crashed")
    if any(len(hole) != 4 or min(hole) < 0 for hole in holes):
        raise Refused("parser-crashed")
    return np.frombuffer(blob, dtype=dtype).reshape(shape), holes
