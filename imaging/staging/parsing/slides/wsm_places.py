"""Which frame of a WSM instance is which tile: by rule (TILED_FULL) or as each frame says (TILED_SPARSE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from imaging.staging.parsing.unreadable import Unreadable

_MAX_TILES = 16_000_000
_SAME_UM = 1e-3


@dataclass(frozen=True, slots=True)
class Places:
    """``table``: (plane, row, column) → frame, −1 where there is none; planes path by path, each with all its
    focal planes.  ``size``: (height, width)."""

    size: tuple[int, int]
    focal_um: tuple[float, ...]
    table: NDArray[np.int32]
    focal_known: bool = True
    """False where planes have no told distance: ``focal_um`` then counts them."""

    def frame(self, plane: int, row: int, column: int) -> int | None:
        """None where the instance has no tile."""
        found = int(self.table[plane, row, column])
        return None if found < 0 else found


def full_places(
    dataset: Dataset, size: tuple[int, int], tile: tuple[int, int], count: int, paths: int
) -> Places:
    """PS3.3 C.7.6.17.3: columns vary fastest, then rows, then focal planes, then optical paths."""
    focal = int(dataset.get("TotalPixelMatrixFocalPlanes") or 1)
    rows, columns = _tiles(size, tile)
    whole = _checked(paths * focal * rows * columns)
    first = int(dataset.get("ConcatenationFrameOffsetNumber") or 0)
    if first < 0 or first + count > whole or ("ConcatenationUID" not in dataset and count != whole):
        raise Unreadable("truncated-pixel-data")
    table = np.full(whole, -1, dtype=np.int32)
    table[first : first + count] = np.arange(count)
    heights, known = _heights(dataset, focal)
    return Places(size, heights, table.reshape(paths * focal, rows, columns), known)


def sparse_places(
    dataset: Dataset, size: tuple[int, int], tile: tuple[int, int], count: int, paths: Sequence[str]
) -> Places:
    """By each frame's Plane Position (Slide) and Optical Path Identification."""
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(groups) != count:
        raise Unreadable("required-attribute-missing", "PerFrameFunctionalGroupsSequence")
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]))
    rows, columns = _tiles(size, tile)
    found: list[tuple[int, float, int, int]] = []
    for group in groups:
        position = _first(group, shared, "PlanePositionSlideSequence")
        if position is None:
            raise Unreadable("required-attribute-missing", "PlanePositionSlideSequence")
        for keyword in ("RowPositionInTotalImagePixelMatrix", "ColumnPositionInTotalImagePixelMatrix"):
            if position.get(keyword) is None:
                raise Unreadable("required-attribute-missing", keyword)
        y = int(position.RowPositionInTotalImagePixelMatrix) - 1
        x = int(position.ColumnPositionInTotalImagePixelMatrix) - 1
        if y % tile[0] or x % tile[1] or not (0 <= y < size[0] and 0 <= x < size[1]):
            raise Unreadable("unsupported-slide")  # tiles that overlap, or lie off the grid
        height = float(position.get("ZOffsetInSlideCoordinateSystem") or 0.0)
        path = _first(group, shared, "OpticalPathIdentificationSequence")
        name = "" if path is None else str(path.get("OpticalPathIdentifier") or "").strip(" \0")
        found.append((paths.index(name) if name in paths else 0, height, y // tile[0], x // tile[1]))
    focal = _distinct([height for _, height, _, _ in found])
    heights = np.asarray(focal)
    _checked(len(paths) * len(focal) * rows * columns)
    table = np.full((len(paths) * len(focal), rows, columns), -1, dtype=np.int32)
    for frame, (place, height, row, column) in enumerate(found):
        plane = place * len(focal) + int(np.abs(heights - height).argmin())
        if table[plane, row, column] >= 0:
            raise Unreadable("unsupported-slide")  # two frames for one tile
        table[plane, row, column] = frame
    return Places(size, tuple(focal), table)


def _heights(dataset: Dataset, focal: int) -> tuple[tuple[float, ...], bool]:
    """Of the focal planes of TILED_FULL, in µm: the origin's, then by Spacing Between Slices (mm); and whether their
    distance is told."""
    origin = next(iter(dataset.get("TotalPixelMatrixOriginSequence") or [Dataset()]))
    first = float(origin.get("ZOffsetInSlideCoordinateSystem") or 0.0)
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]))
    measures = next(iter(shared.get("PixelMeasuresSequence") or [Dataset()]))
    step = float(measures.get("SpacingBetweenSlices") or 0.0) * 1000
    return tuple(first + (step or 1.0) * number for number in range(focal)), focal == 1 or step > 0


def _distinct(heights: Sequence[float]) -> list[float]:
    found: list[float] = []
    for height in sorted(set(heights)):
        if not found or height - found[-1] > _SAME_UM:
            found.append(height)
    return found


def _first(group: Dataset, shared: Dataset, keyword: str) -> Any:
    for place in (group, shared):
        items = place.get(keyword)
        if items:
            return items[0]
    return None


def _tiles(size: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // tile[0]), -(-size[1] // tile[1])


def _checked(tiles: int) -> int:
    if not 0 < tiles <= _MAX_TILES:
        raise Unreadable("too-large")
    return tiles
