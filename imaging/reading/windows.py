"""Which patches a data set has: windows on a grid over images, numbered so that a shard's windows stand together.

A plan is arithmetic and a list of small integers (4 bytes a window): nothing is read to know window *i*, and every
process that holds the plan knows the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPACE = "zyx"
_BLOCK_SIDE = {0: 64, 1: 64, 2: 8, 3: 4}
"""Windows along each side of a block, by the number of axes that windows lie along: 64 in all."""


@dataclass(frozen=True, slots=True)
class PatchImage:
    """One array that windows are cut from.

    ``axes``, ``shape`` and ``shard`` describe the array; ``size`` is a window's extent (z, y, x) in it.
    ``plane``: the one z that windows lie at; None: they go through z as through y and x.  ``stride`` (z, y, x): from
    one window of the grid to the next; None: as far as a window is large.
    """

    item: str
    patient: str
    level: int
    axes: str
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    size: tuple[int, int, int]
    plane: int | None = None
    stride: tuple[int, int, int] | None = None

    @property
    def step(self) -> tuple[int, int, int]:
        return self.stride or self.size

    def extent(self, axis: str) -> int:
        """Positions along an axis; 1 along one that the array lacks."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Windows along t, z, y, x that cover the image; the last of a row is moved in so as to end at its edge."""
        counts = [
            max(0, -(-(self.extent(axis) - size) // step)) + 1
            for axis, size, step in zip(_SPACE, self.size, self.step, strict=True)
        ]
        return (self.extent("t"), 1 if self.plane is not None else counts[0], counts[1], counts[2])

    def start(self, axis: str, number: int, shift: int = 0) -> int:
        """Where the window ``number`` of the grid begins along a space axis, moved by ``shift`` but kept inside."""
        if axis == "z" and self.plane is not None:
            return self.plane
        size, step = self.size[_SPACE.index(axis)], self.step[_SPACE.index(axis)]
        return min(max(0, number * step + shift), max(0, self.extent(axis) - size))

    def shard_extent(self, axis: str) -> int:
        return self.shard[self.axes.index(axis)] if axis in self.axes else 1


@dataclass(frozen=True, slots=True)
class Window:
    """A patch: its image's number in the plan, time point and first voxel.  It may reach past the image's end."""

    image: int
    t: int
    z: int
    y: int
    x: int


class PatchPlan:
    """All windows of some images, numbered image by image, within an image shard by shard, and within a shard block
    by block: neighbours, that touch the same chunks.

    ``kept`` says for each image which grid windows there are: a boolean (t, z, y, x) in the shape of its ``grid``, or
    None for all.  With ``moved`` a window lies at a random place around its grid position, anew each epoch: every
    part of an image is seen equally often, at another offset (stratified sampling).
    """

    def __init__(
        self,
        images: Sequence[PatchImage],
        kept: Sequence[NDArray[np.bool_] | None] | None = None,
        *,
        moved: bool = False,
        seed: int = 0,
    ) -> None:
        self.images = tuple(images)
        self.moved = moved
        self.seed = seed
        masks = kept if kept is not None else [None] * len(self.images)
        ordered = [_by_shard(image, mask) for image, mask in zip(self.images, masks, strict=True)]
        self._cells = [cells for cells, _, _ in ordered]
        self._first = np.cumsum([0, *(len(cells) for cells in self._cells)])
        self.groups = self._bounds([shards for _, shards, _ in ordered])
        """Bounds of the runs of windows that begin in one shard: run g is ``groups[g]`` to ``groups[g + 1]``."""
        self.blocks = self._bounds([blocks for _, _, blocks in ordered])
        """Bounds of the runs of windows of one block."""

    def __len__(self) -> int:
        return int(self._first[-1])

    def window(self, number: int, epoch: int = 0) -> Window:
        """Raises IndexError."""
        return self.windows([number], epoch)[0]

    def windows(self, numbers: Sequence[int], epoch: int = 0) -> list[Window]:
        """Raises IndexError."""
        wanted = np.asarray(numbers, np.int64)
        if ((wanted < 0) | (wanted >= len(self))).any():
            raise IndexError("the plan has no such window")
        of_image = np.searchsorted(self._first, wanted, side="right") - 1
        places = np.empty((len(wanted), 4), np.int64)
        draws = _draws(self.seed, epoch, wanted) if self.moved else None
        for which in np.unique(of_image).tolist():
            image, rows = self.images[which], np.flatnonzero(of_image == which)
            cells = self._cells[which][wanted[rows] - self._first[which]]
            grid = np.unravel_index(cells, image.grid)
            places[rows, 0] = grid[0]
            for column, (axis, size, step) in enumerate(zip(_SPACE, image.size, image.step, strict=True)):
                at = grid[1 + column] * step
                if draws is not None:
                    at = at - step // 2 + (draws[rows, column] % np.uint64(step)).astype(np.int64)
                last = max(0, image.extent(axis) - size)
                places[rows, 1 + column] = np.clip(at, 0, last)
                if axis == "z" and image.plane is not None:
                    places[rows, 1] = image.plane
        return [
            Window(which, *place) for which, place in zip(of_image.tolist(), places.tolist(), strict=True)
        ]

    def _bounds(self, edges: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        bounds = [first + each for first, each in zip(self._first[:-1], edges, strict=True)]
        return np.concatenate([*bounds, [self._first[-1]]]).astype(np.int64)


def _draws(seed: int, epoch: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n, 3) random numbers, each a function of seed, epoch and the window's number only: SplitMix64 (Steele, Lea
    and Flood 2014) of one after the other.  A generator a window would take longer than the window's decoding."""
    mixed = np.zeros((len(numbers), 3), np.uint64)
    for part in (np.uint64(seed % 2**64), np.uint64(epoch % 2**64), numbers.astype(np.uint64)[:, None]):
        mixed = _mix((mixed ^ part) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(mixed + np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _by_shard(
    image: PatchImage, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """Grid windows (flat numbers) sorted by the shard they begin in and their block, and where each shard's and
    each block's windows begin."""
    grid = image.grid
    if mask is not None and mask.shape != grid:
        raise ValueError(f"a mask of {mask.shape} for a grid of {grid}")
    cells = np.arange(np.prod(grid, dtype=np.int64)) if mask is None else np.flatnonzero(mask)
    places = np.unravel_index(cells, grid)
    shards: list[NDArray[np.int64]] = [places[0] // image.shard_extent("t")]
    for axis, place in zip(_SPACE, places[1:], strict=True):
        starts = np.asarray(
            [image.start(axis, number) for number in range(grid[1 + _SPACE.index(axis)])], np.int64
        )
        shards.append((starts // image.shard_extent(axis))[place])
    side = _BLOCK_SIDE[sum(count > 1 for count in grid[1:])]
    blocks = [places[0], *(place // side for place in places[1:])]
    order = np.lexsort((cells, *reversed(blocks), *reversed(shards)))
    keys = np.stack([*shards, *blocks])[:, order]
    return cells[order].astype(np.uint32), _edges(keys[: len(shards)]), _edges(keys)


def _edges(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where columns differ from the one before; the first does."""
    if not keys.shape[1]:
        return np.empty(0, np.int64)
    new = np.any(np.diff(keys, axis=1) != 0, axis=0)
    return np.flatnonzero(np.concatenate([[True], new])).astype(np.int64)
