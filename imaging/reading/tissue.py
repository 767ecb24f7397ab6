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
    top, bottom = _on_mask(image, "y", mask.shape[0])
    left, right = _on_mask(image, "x", mask.shape[1])
    below = total[np.ix_(bottom, right)] - total[np.ix_(bottom, left)]
    above = total[np.ix_(top, right)] - total[np.ix_(top, left)]
    inside = below - above
    area = (bottom - top)[:, None] * (right - left)[None, :]
    return np.broadcast_to((inside > 0) & (inside >= share * area), image.grid).copy()


def _on_mask(image: PatchImage, axis: str, extent: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last pixel + 1 of the mask under each window of the grid along ``y`` or ``x``."""
    scale = extent / image.extent(axis)
    starts = np.asarray([image.start(axis, number) for number in range(image.grid["tzyx".index(axis)])])
    stops = np.minimum(starts + image.size["zyx".index(axis)], image.extent(axis))
    low = np.minimum(np.floor(starts * scale).astype(np.int64), extent - 1)
    return low, np.clip(np.ceil(stops * scale).astype(np.int64), low + 1, extent)
