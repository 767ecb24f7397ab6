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


@dataclass(frozen=True, slots=True)
class PatchImage:
    """One array that windows are cut from.

    ``axes``, ``shape`` and ``shard`` describe the array; ``size`` is a window's extent (z, y, x) in it.
    ``plane``: the one z that windows lie at; None: they go through z as through y and x.
    """

    item: str
    patient: str
    level: int
    axes: str
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    size: tuple[int, int, int]
    plane: int | None = None

    def extent(self, axis: str) -> int:
        """Positions along an axis; 1 along one that the array lacks."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Windows along t, z, y, x that cover the image; the last of a row is moved in so as to end at its edge."""
        counts = [-(-self.extent(axis) // size) for axis, size in zip(_SPACE, self.size, strict=True)]
        return (self.extent("t"), 1 if self.plane is not None else counts[0], counts[1], counts[2])

    def start(self, axis: str, number: int, shift: int = 0) -> int:
        """Where the window ``number`` of the grid begins along a space axis, moved by ``shift`` but kept inside."""
        if axis == "z" and self.plane is not None:
            return self.plane
        size = self.size[_SPACE.index(axis)]
        return min(max(0, number * size + shift), max(0, self.extent(axis) - size))

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
    """All windows of some images, numbered image by image and within an image shard by shard.

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
        self._cells = [cells for cells, _ in ordered]
        self._first = np.cumsum([0, *(len(cells) for cells in self._cells)])
        bounds = [first + edges for first, (_, edges) in zip(self._first[:-1], ordered, strict=True)]
        self.groups: NDArray[np.int64] = np.concatenate([*bounds, [self._first[-1]]]).astype(np.int64)
        """Bounds of the runs of windows that begin in one shard: run g is ``groups[g]`` to ``groups[g + 1]``."""

    def __len__(self) -> int:
        return int(self._first[-1])

    def window(self, number: int, epoch: int = 0) -> Window:
        """Raises IndexError."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self._first, number, side="right")) - 1
        image = self.images[which]
        cell = int(self._cells[which][number - self._first[which]])
        t, z, y, x = (int(place) for place in np.unravel_index(cell, image.grid))
        shifts = [0, 0, 0]
        if self.moved:
            draw = np.random.default_rng([self.seed, epoch, number])
            low, high = [-(size // 2) for size in image.size], [size - size // 2 for size in image.size]
            shifts = [int(shift) for shift in draw.integers(low, high)]
        starts = (
            image.start(axis, place, shift)
            for axis, place, shift in zip(_SPACE, (z, y, x), shifts, strict=True)
        )
        return Window(which, t, *starts)


def _by_shard(
    image: PatchImage, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Grid windows (flat numbers) sorted by the shard they begin in, and where each shard's windows begin."""
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
    order = np.lexsort((cells, *reversed(shards)))
    sorted_shards = np.stack(shards)[:, order]
    new = np.any(np.diff(sorted_shards, axis=1) != 0, axis=0)
    edges = np.flatnonzero(np.concatenate([[True], new])) if len(cells) else np.empty(0, np.int64)
    return cells[order].astype(np.uint32), edges.astype(np.int64)
