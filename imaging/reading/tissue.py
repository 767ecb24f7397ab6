"""Where a slide has tissue: by optical density, on a level small enough to look at whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imaging.layout import slide_path
from imaging.reading.staged import StagedCopy, id_of
from imaging.reading.windows import PatchImage

MAX_SIDE = 2048
TISSUE_OD = 0.15
"""Mean optical density above which a pixel is tissue, not glass."""


def tissue_mask(copy: StagedCopy, item: str, density: float = TISSUE_OD) -> NDArray[np.bool_]:
    """(y, x) of the largest level whose longer side is at most :data:`MAX_SIDE`, True where there is tissue.

    Optical density is -log10 of the transmitted light, with 255 for all of it.  Raises ValueError on a slide that is
    not RGB: darkness says nothing about fluorescence.
    """
    levels = copy.multiscale(slide_path(id_of(item))).levels
    for level in range(len(levels)):
        array = copy.slide(item, level)
        if max(array.shape[-2:]) <= MAX_SIDE or level == len(levels) - 1:
            break
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
        raise ValueError("tissue is told from glass on RGB slides only")
    light = (np.asarray(array[:], dtype=np.float32) + 1) / 256
    return np.asarray(-np.log10(light).mean(axis=0) > density)


def windows_with_tissue(image: PatchImage, mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Which windows of ``image.grid`` have at least ``share`` of their area on the mask of the whole slide."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    edges = []
    for axis, size, place in (("y", image.size[1], 0), ("x", image.size[2], 1)):
        scale = mask.shape[place] / image.extent(axis)
        starts = [image.start(axis, number) for number in range(image.grid[2 + place])]
        low = np.floor(np.asarray(starts) * scale).astype(np.int64)
        high = np.ceil(np.asarray([start + size for start in starts]) * scale).astype(np.int64)
        edges.append((np.minimum(low, mask.shape[place] - 1), np.clip(high, low + 1, mask.shape[place])))
    (top, bottom), (left, right) = ((low[:], high[:]) for low, high in edges)
    inside = (total[np.ix_(bottom, right)] - total[np.ix_(top, right)] - total[np.ix_(bottom, left)]) + total[
        np.ix_(top, left)
    ]
    area = (bottom - top)[:, None] * (right - left)[None, :]
    found = inside >= share * area
    return np.broadcast_to(found & (inside > 0), image.grid).copy()
