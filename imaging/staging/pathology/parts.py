"""The shards of a slide, each a part: tiles kept undecoded, tiles encoded anew, tiles of derived levels.

Tiles that are kept go through the stager without being decoded there; what must be decoded of the source is
decoded by the parser.  The pixels of no part exceed ``MADE_BYTES`` (and a quarter), whatever the slide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging import answers
from imaging.staging.items import Bench, Made
from imaging.staging.pathology.arrays import LevelArray
from imaging.staging.pathology.halving import halve
from imaging.staging.pathology.slide import Grid
from imaging.staging.refusals import ItemRefused, Refused

BLOCK = 2048
"""Side of the square of source pixels that a parser decodes for one answer."""
_SHARD_LIMIT_BYTES = 256 << 20


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
class EncodedShard:
    """Pixels of the source, encoded anew; or, with ``halved``, those of the next level, averaged from them."""

    array: LevelArray
    grids: tuple[Grid, ...]
    plane: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    source: tuple[int, int]
    """Height and width of the source's level."""
    halved: bool
    share: float
    inputs: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.array.shard_path(self.plane, self.rows[0], self.columns[0])

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        top, left, bottom, right = _box(self.array, self.rows, self.columns)
        canvas = np.empty((bottom - top, right - left, self.array.samples), dtype=self.array.dtype)
        factor = 2 if self.halved else 1
        # Whole tiles, so that the parser decodes each once.
        high, wide = (max(1, BLOCK // factor // side) * side for side in self.array.tile)
        for y in range(top, bottom, high):
            for x in range(left, right, wide):
                y1, x1 = min(y + high, bottom), min(x + wide, right)
                box = (
                    y * factor,
                    x * factor,
                    min(y1 * factor, self.source[0]),
                    min(x1 * factor, self.source[1]),
                )
                part = canvas[y - top : y1 - top, x - left : x1 - left]
                _read(bench, self.grids, box, self.halved, part, self.array.fill)
        return Made(self.array.encoded(canvas), {"bytes": canvas.nbytes})


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
        return tuple(path for path, _, _ in self._sources())

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        top, left, bottom, right = _box(self.array, self.rows, self.columns)
        canvas = np.empty((bottom - top, right - left, self.array.samples), dtype=self.array.dtype)
        high, wide = self.above.tile
        # Both levels have one tile size and no odd tile but at the edge: each tile above fills half a tile here.
        for path, first_row, first_column in self._sources():
            for row, column, tile in self.above.decoded(inputs[path]):
                y, x = (first_row + row) * high, (first_column + column) * wide
                if not (2 * top <= y < 2 * bottom and 2 * left <= x < 2 * right):
                    continue
                half = halve(tile[: self.above.height - y, : self.above.width - x])
                y, x = y // 2 - top, x // 2 - left
                canvas[y : y + half.shape[0], x : x + half.shape[1]] = half
        return Made(self.array.encoded(canvas), {"bytes": canvas.nbytes})

    def _sources(self) -> Iterator[tuple[str, int, int]]:
        """(path, first row, first column of tiles) of the shards above that hold this one's pixels."""
        down, across = self.above.across
        rows, columns = self.above.tiles
        for row in range(2 * self.rows[0] // down * down, min(2 * self.rows[1], rows), down):
            for column in range(
                2 * self.columns[0] // across * across, min(2 * self.columns[1], columns), across
            ):
                yield self.above.shard_path(self.plane, row, column), row, column


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
    out: NDArray[Any],
    fill: int,
) -> None:
    """Decode a box of source pixels into ``out`` (y, x, samples)."""
    remaining: NDArray[np.bool_] | None = None
    for grid in grids:
        try:
            pixels, there = _pixels(bench, grid, box, halved, out)
        except Refused as refused:
            raise ItemRefused(grid.number, refused.code) from None
        if remaining is None:
            out[...] = pixels
            remaining = ~there
        else:
            use = remaining & there
            out[use] = pixels[use]
            remaining &= ~there
        if not remaining.any():
            return
    if remaining is not None and len(grids) > 1:
        out[remaining] = fill


def _pixels(
    bench: Bench, grid: Grid, box: tuple[int, int, int, int], halved: bool, out: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The parser's pixels, checked, and which of them the source really has."""
    wanted: dict[str, Any] = {"level": grid.level, "plane": grid.plane, "box": box, "halved": halved}
    try:
        # Not as a list, since it may answer without end, and not by a name, which would keep its parser.
        ((header, blob),) = bench.reader.ask(grid.number, "pixels", **wanted)
        said = answers.said(header)
        shape = tuple(int(part) for part in said["shape"])
        dtype = np.dtype(str(said["dtype"]))
        holes = [tuple(int(edge) for edge in hole) for hole in said["holes"]]
    except answers.LIES:
        raise Refused("parser-crashed") from None
    if shape != out.shape or dtype != out.dtype or len(blob) != math.prod(shape) * dtype.itemsize:
        raise Refused("parser-crashed")
    there = np.ones(shape[:2], dtype=bool)
    for hole in holes:
        if len(hole) != 4 or min(hole) < 0:
            raise Refused("parser-crashed")
        there[hole[0] : hole[2], hole[1] : hole[3]] = False
    return np.frombuffer(blob, dtype=dtype).reshape(shape), there
