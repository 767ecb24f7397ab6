"""A slide file as its parser sees it: planes of tiles, given undecoded or as pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.halving import halve
from imaging.staging.pathology.headers import SlideHeader, WsmHeader

MAX_TILE_BYTES = 64 << 20
"""Encoded."""
MAX_TILE_PIXELS = 64 << 20
MAX_BOX_PIXELS = 4096 * 4096
_ANSWER_BYTES = 16 << 20

Holes = list[tuple[int, int, int, int]]


class Grid(Protocol):
    """One plane of one level, in tiles."""

    height: int
    width: int
    tile: tuple[int, int]
    """(height, width)."""
    samples: int
    dtype: np.dtype[Any]
    fill: int

    def has_any(self) -> bool:
        """Whether there is any tile."""
        ...

    def has(self, row: int, column: int) -> bool:
        """Whether there is such a tile."""
        ...

    def codestream(self, row: int, column: int) -> bytes:
        """The tile as a self-contained codestream without anything but pixels; b"" where there is none.

        Raises :class:`Unreadable`.
        """
        ...

    def decoded(self, row: int, column: int) -> NDArray[Any] | None:
        """(y, x, samples), of the whole tile or cut at the level's edge; None where there is none.

        Good until the next tile is asked for: its memory may be used again.
        """
        ...


class SlideFile(Protocol):
    """An opened slide, or one DICOM instance of one."""

    source: Source

    def header(self, keywords: frozenset[str]) -> SlideHeader | WsmHeader: ...

    def grid(self, level: int, plane: int) -> Grid:
        """Of the levels and planes of the header, and no other image of the file."""
        ...


def read_tiles(grid: Grid, rows: Sequence[int], columns: Sequence[int]) -> Iterator[list[bytes]]:
    """Codestreams of tiles ``rows[0]:rows[1]`` × ``columns[0]:columns[1]``, row-major, some at a time."""
    _check_within(rows, -(-grid.height // grid.tile[0]))
    _check_within(columns, -(-grid.width // grid.tile[1]))
    some: list[bytes] = []
    size = 0
    for row in range(*rows):
        for column in range(*columns):
            some.append(grid.codestream(row, column))
            size += len(some[-1])
            if size >= _ANSWER_BYTES:
                yield some
                some, size = [], 0
    if some:
        yield some


def read_present(grid: Grid, rows: Sequence[int], columns: Sequence[int]) -> bytes:
    """Which tiles of ``rows[0]:rows[1]`` × ``columns[0]:columns[1]`` there are: a bit each, row-major, the highest of a
    byte first."""
    _check_within(rows, -(-grid.height // grid.tile[0]))
    _check_within(columns, -(-grid.width // grid.tile[1]))
    there = [grid.has(row, column) for row in range(*rows) for column in range(*columns)]
    return np.packbits(np.asarray(there, dtype=bool)).tobytes()


def read_pixels(grid: Grid, box: Sequence[int], halved: bool) -> tuple[NDArray[Any], Holes]:
    """Pixels of ``box`` (top, left, bottom, right), (y, x, samples), averaged over 2×2 if ``halved``; and the
    rectangles, in the result, that the file has no tiles for.  Those have the background's value."""
    top, left, bottom, right = (int(edge) for edge in box)
    _check_within((top, bottom), grid.height)
    _check_within((left, right), grid.width)
    if (bottom - top) * (right - left) > MAX_BOX_PIXELS:
        raise Unreadable("too-large")
    high, wide = grid.tile
    factor = 2 if halved else 1
    # Where no 2×2 block lies across two tiles each is averaged by itself, while it is in the processor's cache.
    at_once = not halved or not any(edge % 2 for edge in (high, wide, top, left))
    step = factor if at_once else 1
    canvas = np.empty((-(-(bottom - top) // step), -(-(right - left) // step), grid.samples), grid.dtype)
    holes: Holes = []
    for row in range(top // high, -(-bottom // high)):
        for column in range(left // wide, -(-right // wide)):
            y, x = row * high, column * wide
            y0, x0 = max(y, top), max(x, left)
            y1, x1 = min(y + high, bottom), min(x + wide, right)
            place = canvas[
                (y0 - top) // step : -(-(y1 - top) // step), (x0 - left) // step : -(-(x1 - left) // step)
            ]
            tile = grid.decoded(row, column)
            if tile is None:
                place[...] = grid.fill
                high_edge, left_edge = (y0 - top) // factor, (x0 - left) // factor
                holes.append((high_edge, left_edge, (y1 - top) // factor, (x1 - left) // factor))
                continue
            part = tile[y0 - y : y1 - y, x0 - x : x1 - x]
            if part.shape != (y1 - y0, x1 - x0, grid.samples) or tile.dtype != grid.dtype:
                raise Unreadable("truncated-tile")
            if step == 2:
                halve(part, place)
            else:
                place[...] = part
    return (canvas if at_once else halve(canvas)), holes


def _check_within(span: Sequence[int], size: int) -> None:
    """What was asked lies in the level; raises ValueError (the stager's mistake or a changed file)."""
    first, last = span
    if not 0 <= first < last <= size:
        raise ValueError("outside the level")
