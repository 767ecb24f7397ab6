"""A zarr array whose plain selections (``array[3:7, :, 100]``) are read by :mod:`imaging.reading.tiles`.

Everything else (steps, ``oindex``, masks, ``get_…_selection``, arrays that are not sharded or are coded otherwise)
zarr reads itself, with the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.core.array import AsyncArray

from imaging.reading.shards import ShardedArray
from imaging.reading.tiles import Boxes, TileReader

type _Box = tuple[list[int], list[int], tuple[int, ...]]


class StagedArray(zarr.Array[Any]):
    """Read-only in effect, as its store is.  Pickles as a zarr array does, with the reference of its source."""

    def __init__(self, async_array: AsyncArray[Any], tiles: TileReader | None = None) -> None:
        super().__init__(async_array)
        object.__setattr__(self, "_tiles", tiles)
        object.__setattr__(self, "sharded", ShardedArray.of(self) if tiles is not None else None)

    sharded: ShardedArray | None
    """Where its chunks lie; None where zarr reads it."""
    _tiles: TileReader | None

    def __reduce__(self) -> tuple[Any, ...]:
        return (StagedArray, (self.async_array, self._tiles))

    def __getitem__(self, selection: Any) -> Any:
        box = _box(selection, self.shape)
        if box is None or self.sharded is None or self._tiles is None:
            return super().__getitem__(selection)
        starts, stops, shape = box
        made = np.empty([stop - start for start, stop in zip(starts, stops, strict=True)], self.dtype)
        if made.size:
            self._tiles.read([Boxes(self.sharded, np.asarray([starts]), np.asarray([stops]), [made])])
        return made.reshape(shape)


def _box(selection: Any, shape: tuple[int, ...]) -> _Box | None:
    """First and last + 1 along each axis, and the shape without the axes that were indexed; None for what is no box
    (or no selection: zarr has the words for that)."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    if (dots := sum(part is Ellipsis for part in parts)) > 1:
        return None
    at = next((place for place, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + dots] = [slice(None)] * (len(shape) - len(parts) + dots)
    if len(parts) != len(shape):
        return None
    starts, stops, kept = [], [], []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            if part.step not in (None, 1) or not _whole(part.start) or not _whole(part.stop):
                return None
            start, stop, _ = part.indices(size)
            stop = max(start, stop)
            kept.append(stop - start)
        elif isinstance(part, int | np.integer) and not isinstance(part, bool) and -size <= part < size:
            start = int(part) % size
            stop = start + 1
        else:
            return None
        starts.append(start)
        stops.append(stop)
    return starts, stops, tuple(kept)


def _whole(bound: Any) -> bool:
    return bound is None or isinstance(bound, int | np.integer)
