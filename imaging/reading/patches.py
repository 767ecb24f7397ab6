"""Which items a data set takes, and the pixels of its windows: the seam between what it wants and how it is read.

:class:`PatchReader` is handed many windows at once, so that an implementation may group them by shard, keep shard
indices and decode on threads.  :class:`ZarrPatchReader` is the plain one: zarr does the reading.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow
import zarr
from numpy.typing import NDArray

from imaging.layout import SERIES
from imaging.reading.staged import StagedCopy, Values, id_of
from imaging.reading.values import Modality
from imaging.reading.windows import PatchImage, Window

type Items = Sequence[str] | pyarrow.Table | None
"""Ids, or rows of the index (a cohort query's result); None for all."""


def chosen(
    copy: StagedCopy, items: Items, folder: str, kinds: Collection[str] | None = None
) -> list[tuple[str, str]]:
    """(``folder/<id>``, patient) of each wanted item that is of one of these ``kinds`` (the index's column; None: any).

    Rows of another kind are passed over.  Raises ValueError for an id of another kind.
    """
    index = copy.index()
    kind_of = dict(zip(index["item"].to_pylist(), index["kind"].to_pylist(), strict=True))
    rows = items if isinstance(items, pyarrow.Table) else index
    patients = dict(zip(rows["item"].to_pylist(), rows["patient"].to_pylist(), strict=True))
    if items is None or isinstance(items, pyarrow.Table):
        paths = [path for path in patients if path.startswith(f"{folder}/")]
        paths = [path for path in paths if kinds is None or kind_of.get(path) in kinds]
    else:
        paths = [f"{folder}/{id_of(item)}" for item in items]
        found = {kind_of[path] for path in paths if path in kind_of}
        if kinds is not None and (others := sorted(found - set(kinds))):
            raise ValueError(f"items of kind {', '.join(others)}, but kinds are {', '.join(kinds)}")
    return [(path, patients.get(path) or "") for path in paths]


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
