"""Pictures of what a copy holds, for people who staged it: a montage of slices, a thumbnail of a slide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imaging.layout import NAMESPACE

TILES = 16
TILE_PX = 192


def draw(group: zarr.Group) -> Image.Image:
    """A picture of one series' or slide's group; the data stay in memory only as far as shown."""
    return _thumbnail(group) if "levels" in _ours(group) else _montage(group)


def _montage(group: zarr.Group) -> Image.Image:
    """Up to 16 slices, evenly spread, windowed to their own 1st to 99th percentile."""
    array = _array(group, "0")
    depth = array.shape[-3]
    shown = sorted({round(place) for place in np.linspace(0, depth - 1, min(TILES, depth))})
    at: tuple[Any, ...] = (0,) if array.ndim == 4 else ()
    slices = [np.asarray(array[(*at, place)], dtype=np.float64) for place in shown]
    low, high = np.percentile(np.stack(slices), (1, 99))
    inverted = _ours(group)["dicom"].get("PhotometricInterpretation") == "MONOCHROME1"
    columns = math.ceil(math.sqrt(len(slices)))
    side = TILE_PX if len(slices) > 4 else 2 * TILE_PX
    sheet = Image.new("L", (columns * side, math.ceil(len(slices) / columns) * side))
    for number, pixels in enumerate(slices):
        grey = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1)
        tile = Image.fromarray(np.uint8(255 * (1 - grey if inverted else grey)))
        # A slice smaller than its tile is enlarged with its pixels left square: they are what there is to see.
        how = Image.Resampling.NEAREST if max(tile.size) < side else Image.Resampling.LANCZOS
        tile = ImageOps.contain(tile, (side, side), how)
        left, top = number % columns * side, number // columns * side
        sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    return sheet


def _thumbnail(group: zarr.Group) -> Image.Image:
    """The smallest level, which staging encoded itself."""
    level = len(_ours(group)["levels"]) - 1
    pixels: NDArray[np.uint8] = np.asarray(_array(group, str(level))[:])
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _ours(group: zarr.Group) -> dict[str, Any]:
    ours = group.attrs[NAMESPACE]
    assert isinstance(ours, dict)
    return ours


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array
