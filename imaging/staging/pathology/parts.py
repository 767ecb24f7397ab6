"""The shards of a slide, each a part: tiles kept undecoded, tiles encoded anew, tiles of derived levels.

Tiles that are kept go through the stager without being decoded there; what must be decoded of the source is
decoded by the parser.  What is encoded is encoded here, from pixels: a parser that a file has taken over can make
derived levels wrong, but no codestream of its own making is among them, so thumbnails may be decoded beside the key.
A part holds the codestreams of its shards and the pixels of what is decoded at once, whatever the slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.items import Bench, Made
from imaging.staging.pathology.arrays import GrowingShard, LevelArray
from imaging.staging.pathology.halving import halve
from imaging.staging.pathology.source import BLOCK, Box, Reader, Stored, codestreams, merged

type _Opened = Mapping[str, tuple[memoryview, NDArray[np.uint64]]]
"""Shards by path, with the places of their tiles."""


@dataclass(frozen=True, slots=True)
class KeptShard:
    """Codestreams of the source, undecoded; tiles that it lacks are encoded here, from a larger level if that shows
    something there.  ``stack``: the stored plane, then those of larger levels up to level 0."""

    array: LevelArray
    stack: tuple[Stored, ...]
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    share: float
    level: int = 0
    inputs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.array.shard_path(self.plane, self.rows[0], self.columns[0])

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        lengths, data = codestreams(bench, self.stack[0].grids, self.rows, self.columns)
        kept = len(data)
        filled = 0
        if len(self.stack) > 1 and not all(lengths):
            more = self._filled(bench, lengths)
            filled = sum(map(bool, more))
            lengths, data = merged(lengths, data, list(map(len, more)), b"".join(more))
        told = {"bytes": kept, "absent": lengths.count(0), "filled": filled, "level": self.level}
        return Made(self.array.shard(lengths, data, self.columns[1] - self.columns[0]), told)

    def _filled(self, bench: Bench, lengths: Sequence[int]) -> list[bytes]:
        """Of each tile, row-major: its codestream if the source lacks it and a larger level shows something."""
        array = self.array
        area = _box(array, self.rows, self.columns)
        reader = Reader(bench, self.stack, area, array.samples, array.dtype, array.fill)
        across = self.columns[1] - self.columns[0]
        found = []
        for place, length in enumerate(lengths):
            row, column = self.rows[0] + place // across, self.columns[0] + place % across
            box = _box(array, (row, row + 1), (column, column + 1))
            pixels = None if length else reader.tile(box)
            found.append(b"" if pixels is None else array.filling(pixels))
        return found


@dataclass(frozen=True, slots=True)
class MadeShards:
    """Pixels of the source, encoded: one area of a level (or, with ``halved``, of the next one, averaged from it)
    and of the levels below, each averaged from the one above; a shard of each of ``arrays``.  ``stack``: the stored
    plane that is read, then those of larger levels up to level 0."""

    arrays: tuple[LevelArray, ...]
    stack: tuple[Stored, ...]
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    """Of tiles of the first array."""
    halved: bool
    share: float
    level: int = 0
    inputs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.arrays[0].shard_path(self.plane, self.rows[0], self.columns[0])

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        shards = [GrowingShard(array) for array in self.arrays]
        looks = list(self._looks())
        told = {"bytes": 0, "absent": 0, "filled": 0, "level": self.level}
        for (rows, columns), look in zip(
            looks, bench.threads.map(lambda look: self._look(bench, *look), looks), strict=True
        ):
            for depth, (shard, (across, streams, pixels)) in enumerate(zip(shards, look.levels, strict=True)):
                place = (rows[0] - self.rows[0] >> depth, columns[0] - self.columns[0] >> depth)
                shard.add(*place, across, streams)
                told["bytes"] += pixels
            told["absent"] += look.absent
            told["filled"] += look.filled
        objects = {
            array.shard_path(self.plane, self.rows[0] >> depth, self.columns[0] >> depth): shard.finish()
            for depth, (array, shard) in enumerate(zip(self.arrays, shards, strict=True))
        }
        return Made(objects.pop(self.path), told, objects)

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

    def _look(self, bench: Bench, rows: tuple[int, int], columns: tuple[int, int]) -> _Look:
        array = self.arrays[0]
        top, left, bottom, right = _box(array, rows, columns)
        factor = 2 if self.halved else 1
        height, width = self.stack[0].size
        box = (top * factor, left * factor, min(bottom * factor, height), min(right * factor, width))
        reader = Reader(bench, self.stack, box, array.samples, array.dtype, array.fill)
        found = reader.pixels(box, halved=self.halved)
        pixels = found.values
        levels = []
        for depth, array in enumerate(self.arrays):
            pixels = halve(pixels) if depth else pixels
            levels.append((-(-pixels.shape[1] // array.tile[1]), list(array.streams(pixels)), pixels.nbytes))
        if self.halved:
            # The level that is read is in the copy too, and its own part tells what it lacks.
            return _Look(levels, 0, 0)
        return _Look(levels, len(found.absent), found.filled)


@dataclass(frozen=True, slots=True)
class _Look:
    """``levels``: of each level tiles across, codestreams, decoded bytes.  ``absent``, ``filled``: tiles of the source
    (one that lies in two looks counts in both)."""

    levels: list[tuple[int, list[bytes], int]]
    absent: int
    filled: int


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


def _box(array: LevelArray, rows: tuple[int, int], columns: tuple[int, int]) -> Box:
    """Pixels of a rectangle of tiles, cut at the level's edge: top, left, bottom, right."""
    high, wide = array.tile
    return (
        rows[0] * high,
        columns[0] * wide,
        min(rows[1] * high, array.height),
        min(columns[1] * wide, array.width),
    )
