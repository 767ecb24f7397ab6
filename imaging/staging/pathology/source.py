"""Codestreams and pixels of a slide's stored levels, from its source items through parsers.

A scanner may store no tile in places.  At level 0 that is background.  In a smaller level it may also be that nobody
made the tile, though the next larger level has tissue there: then it is averaged from that level, or from the level
above that, as far up as it takes (OpenSlide does so too, of Aperio's files).  What is stored stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging import answers
from imaging.staging.items import Bench
from imaging.staging.pathology.halving import halve, shrink
from imaging.staging.pathology.slide import Grid
from imaging.staging.refusals import ItemRefused, Refused

BLOCK = 2048
"""Side of the square of source pixels that a parser decodes for one answer, or what whole tiles need."""
_SHARD_LIMIT_BYTES = 256 << 20

Box = tuple[int, int, int, int]
"""Of pixels of a level: top, left, bottom, right."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One plane of a stored level.  ``size``, ``tile``: (y, x) pixels.  ``grids``: asked in order, and the first that
    has a tile gives it."""

    size: tuple[int, int]
    tile: tuple[int, int]
    grids: tuple[Grid, ...]


@dataclass(frozen=True, slots=True)
class Pixels:
    """``values``: (y, x, samples).  ``absent``: boxes of whole tiles (cut at the box that was asked for), in pixels of
    the level, that no level has anything for.  ``filled``: tiles that a larger level gave."""

    values: NDArray[Any]
    absent: list[Box]
    filled: int


class Reader:
    """Reads boxes of the first of ``stack``, a plane's stored levels from one of them up to level 0."""

    def __init__(
        self, bench: Bench, stack: Sequence[Stored], area: Box, samples: int, dtype: str, fill: int
    ) -> None:
        """``area``: of the first level, with all boxes that will be asked for."""
        self._bench = bench
        self._stack = stack
        self._area = area
        self._samples, self._dtype, self._fill = samples, np.dtype(dtype), fill
        self._tiles: dict[int, tuple[int, int, NDArray[np.bool_]]] = {}

    def pixels(self, box: Box, *, halved: bool = False) -> Pixels:
        """Of ``box``, averaged over 2×2 if ``halved``; raises :class:`ItemRefused`."""
        if halved:
            found = self._halved(box)
            if found is not None:
                return found
            whole = self._read(0, box)
            return Pixels(halve(whole.values), whole.absent, whole.filled)
        return self._read(0, box)

    def tile(self, box: Box) -> NDArray[Any] | None:
        """Of one tile's ``box`` that the first level has nothing for: what the larger levels show there, or None."""
        return self._from_larger(0, box)

    def _halved(self, box: Box) -> Pixels | None:
        """Averaged by the parser; None where holes have to be filled first."""
        shape = (-(-(box[2] - box[0]) // 2), -(-(box[3] - box[1]) // 2), self._samples)
        values, missing = self._stored(0, box, shape, halved=True)
        if missing is None:
            return Pixels(values, [], 0)
        holes = list(self._holes(0, box))
        return None if any(self._shown_by_larger(0, hole) for hole in holes) else Pixels(values, holes, 0)

    def _read(self, depth: int, box: Box) -> Pixels:
        shape = (box[2] - box[0], box[3] - box[1], self._samples)
        values, missing = self._stored(depth, box, shape, halved=False)
        if missing is None:
            return Pixels(values, [], 0)
        absent, filled = [], 0
        for hole in self._holes(depth, box):
            seen = self._from_larger(depth, hole)
            if seen is None:
                absent.append(hole)
                continue
            if not values.flags.writeable:
                values = values.copy()
            top, left, bottom, right = hole
            values[top - box[0] : bottom - box[0], left - box[1] : right - box[1]] = seen
            filled += 1
        return Pixels(values, absent, filled)

    def _stored(
        self, depth: int, box: Box, shape: tuple[int, int, int], *, halved: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """What the level itself has, and where in that it has nothing (None: nowhere)."""
        values: NDArray[Any] | None = None
        missing = np.ones(shape[:2], dtype=bool)
        for grid in self._stack[depth].grids:
            try:
                pixels, holes = source_pixels(self._bench, grid, box, halved, shape, self._dtype)
            except Refused as refused:
                raise ItemRefused(grid.number, str(refused)) from None
            there = np.ones(shape[:2], dtype=bool)
            for top, left, bottom, right in holes:
                there[top:bottom, left:right] = False
            if values is None:
                values = pixels
            else:
                use = missing & there
                values = values if values.flags.writeable else values.copy()
                values[use] = pixels[use]
            missing &= ~there
            if not missing.any():
                return values, None
        if values is None:
            raise RuntimeError("a plane without a grid")
        values = values if values.flags.writeable else values.copy()
        values[missing] = self._fill
        return values, missing

    def _from_larger(self, depth: int, box: Box) -> NDArray[Any] | None:
        """``box`` of level ``depth`` averaged from the next larger one, which may itself have it from a larger one."""
        if not self._shown_by_larger(depth, box):
            return None
        top, left, bottom, right = box
        values = np.empty((bottom - top, right - left, self._samples), self._dtype)
        factors = self._factors(depth, depth + 1)
        # So many rows and columns at once that what is decoded for them is no larger than a look.
        high, wide = (max(1, int(BLOCK / factor)) for factor in factors)
        for y in range(top, bottom, high):
            for x in range(left, right, wide):
                part = (y, x, min(y + high, bottom), min(x + wide, right))
                source = self._mapped(depth, depth + 1, part)
                seen = self._read(depth + 1, source).values
                values[y - top : part[2] - top, x - left : part[3] - left] = shrink(
                    seen, (source[0], source[1]), part, factors
                )
        return values

    def _shown_by_larger(self, depth: int, box: Box) -> bool:
        """Whether any larger level has a tile that shows some of ``box`` of level ``depth``."""
        for larger in range(depth + 1, len(self._stack)):
            first_row, first_column, there = self._present(larger)
            rows, columns = self._tile_spans(larger, self._mapped(depth, larger, box))
            if there[
                max(0, rows[0] - first_row) : rows[1] - first_row,
                max(0, columns[0] - first_column) : columns[1] - first_column,
            ].any():
                return True
        return False

    def _holes(self, depth: int, box: Box) -> Iterator[Box]:
        """The parts of ``box`` that level ``depth`` stores no tile for, tile by tile."""
        first_row, first_column, there = self._present(depth)
        (top, bottom), (left, right) = self._tile_spans(depth, box)
        high, wide = self._stack[depth].tile
        for row in range(top, bottom):
            for column in range(left, right):
                if not there[row - first_row, column - first_column]:
                    yield (
                        max(row * high, box[0]),
                        max(column * wide, box[1]),
                        min((row + 1) * high, box[2]),
                        min((column + 1) * wide, box[3]),
                    )

    def _present(self, depth: int) -> tuple[int, int, NDArray[np.bool_]]:
        """Row and column of the first tile, and which tiles there are, of what ``area`` is of level ``depth``."""
        if depth not in self._tiles:
            stored = self._stack[depth]
            area = self._mapped(0, depth, self._area) if depth else self._area
            # Levels between round the area outwards, each by less than a tile.
            rows, columns = (
                (max(0, first - 1), min(last + 1, -(-side // tile)))
                for (first, last), side, tile in zip(
                    self._tile_spans(depth, area), stored.size, stored.tile, strict=True
                )
            )
            there = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), dtype=bool)
            for grid in stored.grids:
                there |= _present(self._bench, grid, rows, columns)
            self._tiles[depth] = (rows[0], columns[0], there)
        return self._tiles[depth]

    def _tile_spans(self, depth: int, box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
        high, wide = self._stack[depth].tile
        return (box[0] // high, -(-box[2] // high)), (box[1] // wide, -(-box[3] // wide))

    def _factors(self, depth: int, larger: int) -> tuple[float, float]:
        """How many pixels of level ``larger`` one of level ``depth`` is, (y, x): a whole number if the sizes are so
        far as rounding lets them be."""
        small, large = self._stack[depth].size, self._stack[larger].size
        return _factor(small[0], large[0]), _factor(small[1], large[1])

    def _mapped(self, depth: int, larger: int, box: Box) -> Box:
        """The pixels of level ``larger`` that show ``box`` of level ``depth``: at least one row and column."""
        height, width = self._stack[larger].size
        down, across = self._factors(depth, larger)
        top = min(math.floor(box[0] * down), height - 1)
        left = min(math.floor(box[1] * across), width - 1)
        bottom = max(min(math.ceil(box[2] * down), height), top + 1)
        right = max(min(math.ceil(box[3] * across), width), left + 1)
        return top, left, bottom, right


def _factor(small: int, large: int) -> float:
    whole = max(1, round(large / small))
    return float(whole) if abs(large / whole - small) <= 1 else large / small


def codestreams(
    bench: Bench, grids: Sequence[Grid], rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[list[int], bytearray]:
    """Lengths and bytes of a rectangle of tiles, row-major, each of the first grid that has it; 0 where none has.

    Raises :class:`ItemRefused`.
    """
    lengths, data = _codestreams(bench, grids[0], rows, columns)
    for grid in grids[1:]:
        more, other = _codestreams(bench, grid, rows, columns)
        lengths, data = merged(lengths, data, more, other)
    return lengths, data


def merged(
    lengths: Sequence[int], data: bytearray, more: Sequence[int], other: bytes | bytearray
) -> tuple[list[int], bytearray]:
    """Tiles of two sources over one rectangle; the first has precedence."""
    if not any(more):
        return list(lengths), data
    both = bytearray()
    found: list[int] = []
    at = at_other = 0
    for length, length_other in zip(lengths, more, strict=True):
        if length:
            both += data[at : at + length]
        else:
            both += other[at_other : at_other + length_other]
        found.append(length or length_other)
        at += length
        at_other += length_other
    return found, both


def _codestreams(
    bench: Bench, grid: Grid, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[list[int], bytearray]:
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
        raise ItemRefused(grid.number, str(refused)) from None
    return lengths, data


def _lengths(header: bytes) -> list[int]:
    try:
        lengths = [int(length) for length in answers.said(header)["lengths"]]
    except answers.LIES:
        raise Refused("parser-crashed") from None
    if any(length < 0 for length in lengths):
        raise Refused("parser-crashed")
    return lengths


def _present(bench: Bench, grid: Grid, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.bool_]:
    """Which tiles of a rectangle the grid has."""
    shape = (rows[1] - rows[0], columns[1] - columns[0])
    wanted: dict[str, Any] = {"level": grid.level, "plane": grid.plane, "rows": rows, "columns": columns}
    try:
        ((_, blob),) = bench.reader.ask(grid.number, "present", **wanted)
        if len(blob) != -(-shape[0] * shape[1] // 8):
            raise Refused("parser-crashed")
    except ValueError:
        raise ItemRefused(grid.number, "parser-crashed") from None
    except Refused as refused:
        raise ItemRefused(grid.number, str(refused)) from None
    bits = np.unpackbits(np.frombuffer(blob, np.uint8), count=shape[0] * shape[1])
    return bits.reshape(shape).astype(bool)


def source_pixels(
    bench: Bench,
    grid: Grid,
    box: Box,
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
