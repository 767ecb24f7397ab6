"""Which items a data set takes, and the pixels of its windows: the seam between what it wants and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow
from numpy.typing import NDArray

from imaging.layout import SERIES
from imaging.reading.shards import ShardedArray
from imaging.reading.staged import StagedCopy, Values, id_of
from imaging.reading.staged_array import StagedArray
from imaging.reading.tiles import Boxes
from imaging.reading.values import Modality
from imaging.reading.windows import PatchImage, Window

type Items = Sequence[str] | pyarrow.Table | None
"""Ids, or rows of the index (a cohort query's result); None for all."""

type Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Makes an array of a shape and type, its values whatever they are; ``numpy.empty`` is one."""


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

    def read(
        self, windows: Sequence[Window], allocate: Allocate = np.empty, threads: int | None = None
    ) -> list[NDArray[Any]]:
        """One (c, z, y, x) array a window, in the order asked for; c is 1 where the image has no channels.

        Windows of one shape and type are the rows of one array, made by ``allocate``.  Its strides need not fall:
        patches of colour JPEG have their channels last in memory, as the codestream has.  ``threads``: that decode.
        """
        ...


class BatchedPatchReader:
    """Reads all windows of a batch together: a chunk that several touch is decoded once, and chunks are decoded on
    ``threads`` (by default one a core that the process may use) while others are fetched.

    ``values``: see :data:`imaging.reading.staged.Values`; ``physical`` gives float32, of series only.  ``fill`` is
    what lies past an image's end.  What :mod:`imaging.reading.tiles` does not know (an array that is not sharded, or
    of another codec) zarr reads, a window at a time.
    """

    def __init__(
        self,
        copy: StagedCopy,
        images: Sequence[PatchImage],
        values: Values = "stored",
        fill: float = 0,
        threads: int | None = None,
    ) -> None:
        self._copy = copy
        self._images = tuple(images)
        self._values = values
        self._fill = fill
        self._tiles = copy.tiles(threads)
        self._opened: dict[int, _Opened] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def read(
        self, windows: Sequence[Window], allocate: Allocate = np.empty, threads: int | None = None
    ) -> list[NDArray[Any]]:
        of_image: dict[int, list[int]] = {}
        for number, window in enumerate(windows):
            of_image.setdefault(window.image, []).append(number)
        of_look: dict[_Look, list[int]] = {}
        for image, numbers in of_image.items():
            of_look.setdefault(self._open(image).look, []).extend(numbers)
        patches = [_NONE] * len(windows)
        for look, numbers in of_look.items():
            for number, patch in zip(numbers, look.batch(len(numbers), allocate), strict=True):
                patches[number] = patch
        cuts = []
        for image, numbers in of_image.items():
            opened = self._open(image)
            cut = opened.cut([windows[number] for number in numbers], [patches[number] for number in numbers])
            cut.fill(self._fill)
            cuts.append((opened, cut))
        boxes = [cut.boxes(opened.array.sharded) for opened, cut in cuts if opened.array.sharded is not None]
        self._tiles.read(boxes, threads)
        for opened, cut in cuts:
            if opened.array.sharded is None:
                for region, stored in zip(cut.regions(), cut.stored, strict=True):
                    stored[...] = opened.array[tuple(region)]
            if opened.modality is not None:
                for region, stored, target in zip(cut.regions(), cut.stored, cut.targets, strict=True):
                    target[...] = opened.modality.apply(stored, region)
        return patches

    def _open(self, number: int) -> _Opened:
        found = self._opened.get(number)
        if found is None:
            image = self._images[number]
            if image.item.startswith(f"{SERIES}/"):
                modality = self._copy.modality(image.item) if self._values == "physical" else None
                found = _Opened(image, self._copy.volume(image.item), modality)
            else:
                found = _Opened(image, self._copy.slide(image.item, image.level), None)
            self._opened[number] = found
        return found


@dataclass(frozen=True, slots=True)
class _Look:
    """What two patches must share to be rows of one array.  ``shape``: (c, z, y, x)."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    interleaved: bool

    def batch(self, count: int, allocate: Allocate) -> NDArray[Any]:
        if not self.interleaved:
            return allocate((count, *self.shape), self.dtype)
        return np.moveaxis(allocate((count, *self.shape[1:], self.shape[0]), self.dtype), -1, 1)


class _Opened:
    def __init__(self, image: PatchImage, array: StagedArray, modality: Modality | None) -> None:
        self.image = image
        self.array = array
        self.modality = modality
        size = image.size if image.plane is None else (1, *image.size[1:])
        dtype = np.dtype(array.dtype if modality is None else np.float32)
        interleaved = modality is None and array.sharded is not None and array.sharded.decoder.interleaved
        self.look = _Look((image.extent("c"), *size), dtype, interleaved)
        self._extents = np.asarray([image.extent(axis) for axis in "tczyx"])
        self._sizes = np.asarray([1, *self.look.shape])
        self._columns = ["tczyx".index(axis) for axis in image.axes]
        # From a patch (c, z, y, x) to the array's axes: one more, t, and none of those that the array lacks.
        self._pick: tuple[Any, ...] = (np.newaxis,) if "t" in image.axes else ()
        self._pick += tuple(slice(None) if axis in image.axes else 0 for axis in "czyx")

    def cut(self, windows: Sequence[Window], patches: Sequence[NDArray[Any]]) -> _Cut:
        """Raises IndexError for a window that begins outside the image."""
        places = np.asarray([(window.t, 0, window.z, window.y, window.x) for window in windows], np.int64)
        if (places < 0).any() or (places >= self._extents).any():
            raise IndexError("a window begins outside its image")
        stops = np.minimum(places + self._sizes, self._extents)
        clipped = (stops - places != self._sizes).any(axis=1)
        picked = [patch[self._pick] for patch in patches]
        starts, stops = places[:, self._columns], stops[:, self._columns]
        targets = picked
        if clipped.any():
            targets = list(picked)
            for number in np.flatnonzero(clipped).tolist():
                extents = (stops[number] - starts[number]).tolist()
                targets[number] = picked[number][tuple(map(slice, extents))]
        stored = targets
        if self.modality is not None:
            stored = [np.empty(target.shape, self.array.dtype) for target in targets]
        return _Cut(
            starts, stops, targets, stored, [patches[number] for number in np.flatnonzero(clipped).tolist()]
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Windows of one image as boxes of its array; what they measure goes to ``targets``, what is stored to
    ``stored``, often the same.  ``clipped``: patches that reach past the image."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    targets: Sequence[NDArray[Any]]
    stored: Sequence[NDArray[Any]]
    clipped: Sequence[NDArray[Any]]

    def fill(self, value: float) -> None:
        for patch in self.clipped:
            patch[...] = value

    def boxes(self, sharded: ShardedArray) -> Boxes:
        return Boxes(sharded, self.starts, self.stops, self.stored)

    def regions(self) -> list[list[slice]]:
        rows = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
        return [list(map(slice, start, stop)) for start, stop in rows]


_NONE: NDArray[Any] = np.empty(0)
