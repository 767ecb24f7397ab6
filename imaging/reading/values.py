"""Stored values → what they measure (Hounsfield units, …): the modality transformation of PS3.3 C.11.1.

It is either a line, value × slope + intercept, which may differ from slice to slice, or a look-up table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import dask.array

type Region = Sequence[slice | int]


@dataclass(frozen=True, slots=True, eq=False)
class Modality:
    """The modality transformation of one array.

    ``slope`` and ``intercept`` (float64) broadcast against the array: as long as its ``t`` and ``z``, 1 along its
    other axes.  With a ``table`` they are not used: ``table[v - first]`` (float32), the ends standing for what
    lies beyond them.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    table: NDArray[np.float32] | None = None
    first: int = 0

    def apply(self, block: NDArray[Any], region: Region) -> NDArray[np.float32]:
        """Float32 values of ``block``, which is what the array holds at ``region`` (one slice or index an axis).

        Worked out in float64, so that 32-bit integers lose nothing before the end.
        """
        if self.table is not None:
            return self._looked_up(block)
        line = []
        for part in (self.slope, self.intercept):
            at = tuple(
                which if size > 1 else (slice(None) if isinstance(which, slice) else 0)
                for which, size in zip(region, part.shape, strict=True)
            )
            line.append(part[at])
        return np.asarray(block * line[0] + line[1], dtype=np.float32)

    def lazily(self, array: dask.array.Array) -> dask.array.Array:
        """The same over a whole Dask array, block by block."""
        stored: Any = array  # Dask's methods are not annotated
        if self.table is not None:
            made: dask.array.Array = stored.map_blocks(self._looked_up, dtype=np.float32)
        else:
            made = (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)
        return made

    def _looked_up(self, block: NDArray[Any]) -> NDArray[np.float32]:
        assert self.table is not None
        return self.table[np.clip(block.astype(np.int64) - self.first, 0, len(self.table) - 1)]


def modality_of(ours: Mapping[str, Any], axes: Sequence[str], shape: Sequence[int]) -> Modality:
    """From a group's attributes in our namespace; the values themselves where it states nothing.

    A list of slopes has one entry a slice, those of the first time point first.  Raises ValueError where it has
    another length than the array has slices.
    """
    found = ours.get("rescale") or {"slope": 1.0, "intercept": 0.0}
    sliced = [size if axis in "tz" else 1 for axis, size in zip(axes, shape, strict=True)]
    line = []
    for name in ("slope", "intercept"):
        stated = np.asarray(found[name], dtype=np.float64)
        if stated.ndim == 0:
            line.append(stated.reshape([1] * len(sliced)))
        elif stated.size == math.prod(sliced):
            line.append(stated.reshape(sliced))
        else:
            raise ValueError(f"{stated.size} rescale {name}s for {math.prod(sliced)} slices")
    table = ours.get("modality_lut")
    if table is None:
        return Modality(line[0], line[1])
    values = np.asarray(table["values"], dtype=np.float32)
    return Modality(line[0], line[1], values, int(table["first"]))
