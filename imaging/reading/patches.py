"""Pixels of windows: the seam between what a data set wants and how it is read.

:class:`PatchReader` is handed many windows at once, so that an implementation may group them by shard, keep shard
indices and decode on threads.  :class:`ZarrPatchReader` is the plain one: zarr does the reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from imaging.layout import SERIES
from imaging.reading.staged import StagedCopy, Values
from imaging.reading.values import Modality
from imaging.reading.windows import PatchImage, Window


class PatchReader(Protocol):
    """Reads windows of the images of one plan.  Pickles without what it has opened; thread safe."""

    def read(self, windows: Sequence[Window]) -> list[NDArray[Any]]:
        """One (c, z, y, x) array a window, in the order asked for; c is 1 where the image has no channels."""
        ...


class ZarrPatchReader:
    """Windows by slicing zarr arrays, sorted by place so that neighbours are read after each other.

    ``values``: see :data:`imaging.reading.staged.Values`; ``physical`` gives float32, of series only.  ``fill`` is
    what lies past an image's end.
    """

    def __init__(
        self, copy: StagedCopy, images: Sequence[PatchImage], values: Values = "stored", fill: float = 0
    ) -> None:
        self._copy = copy
        self._images = tuple(images)
        self._values = values
        self._fill = fill
        self._opened: dict[int, tuple[zarr.Array[Any], Modality | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def read(self, windows: Sequence[Window]) -> list[NDArray[Any]]:
        made: dict[int, NDArray[Any]] = {}
        by_place = sorted(range(len(windows)), key=lambda number: _place(windows[number]))
        for number in by_place:
            made[number] = self._read(windows[number])
        return [made[number] for number in range(len(windows))]

    def _read(self, window: Window) -> NDArray[Any]:
        image = self._images[window.image]
        array, modality = self._open(window.image)
        size = image.size if image.plane is None else (1, *image.size[1:])
        wanted: dict[str, slice | int] = {"t": window.t, "c": slice(0, image.extent("c"))}
        for axis, start, extent in zip("zyx", (window.z, window.y, window.x), size, strict=True):
            wanted[axis] = slice(start, min(start + extent, image.extent(axis)))
        region = [wanted[axis] for axis in image.axes]
        block: NDArray[Any] = np.asarray(array[tuple(region)])
        if modality is not None:
            block = modality.apply(block, region)
        for place, axis in enumerate("czyx"):
            if axis not in image.axes:
                block = np.expand_dims(block, place)
        whole = (block.shape[0], *size)
        if block.shape == whole:
            return block
        padded = np.full(whole, self._fill, dtype=block.dtype)
        padded[:, : block.shape[1], : block.shape[2], : block.shape[3]] = block
        return padded

    def _open(self, number: int) -> tuple[zarr.Array[Any], Modality | None]:
        if number not in self._opened:
            image = self._images[number]
            if image.item.startswith(f"{SERIES}/"):
                modality = self._copy.modality(image.item) if self._values == "physical" else None
                self._opened[number] = (self._copy.volume(image.item), modality)
            else:
                self._opened[number] = (self._copy.slide(image.item, image.level), None)
        return self._opened[number]


def _place(window: Window) -> tuple[int, int, int, int, int]:
    return (window.image, window.t, window.z, window.y, window.x)
