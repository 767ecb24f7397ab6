"""Numbers from pixels, made on Dask workers: intensity of volumes, stain of slide tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.reading import StagedCopy

TILE = 512
MAX_SIDE = 4096
"""Stain is taken from the largest level whose longer side is at most this many pixels."""
TISSUE_OD = 0.15
"""Mean optical density above which a pixel is tissue, not glass."""

# Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001: optical density of
# haematoxylin, eosin and (as the third direction) DAB in red, green and blue.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of rescaled intensities."""

    n: int
    mean: float
    m2: float

    @property
    def sd(self) -> float:
        return math.sqrt(self.m2 / self.n) if self.n else 0.0

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """Chan, Golub and LeVeque's update: stable however many volumes there are."""
        n, mean, m2 = 0, 0.0, 0.0
        for part in parts:
            if part.n:
                delta = part.mean - mean
                whole = n + part.n
                m2 += part.m2 + delta * delta * n * part.n / whole
                mean += delta * part.n / whole
                n = whole
        return cls(n, mean, m2)


@dataclass(frozen=True)
class Stain:
    """Tissue pixels of all pixels looked at, and their mean optical density by stain."""

    pixels: int
    tissue: int
    haematoxylin: float
    eosin: float

    @property
    def tissue_share(self) -> float:
        return self.tissue / self.pixels if self.pixels else 0.0

    @classmethod
    def together(cls, parts: Sequence[Stain]) -> Stain:
        tissue = sum(part.tissue for part in parts)
        weight = max(1, tissue)
        return cls(
            sum(part.pixels for part in parts),
            tissue,
            sum(part.haematoxylin * part.tissue for part in parts) / weight,
            sum(part.eosin * part.tissue for part in parts) / weight,
        )


@dataclass(frozen=True)
class Tile:
    """A rectangle of one level, in pixels."""

    level: int
    y: int
    x: int
    height: int
    width: int


def volume_moments(copy: StagedCopy, item: str) -> Moments:
    """Of all voxels, after the rescale that the series states, slice by slice in float64."""
    array = copy.volume(_id(item))
    slope, intercept = _rescale(copy.attributes(item), array.shape[:-2])
    parts = []
    for start in range(0, array.shape[0], step := max(1, (array.shards or array.chunks)[0])):
        stop = start + step
        block = np.asarray(array[start:stop], dtype=np.float64) * slope[start:stop] + intercept[start:stop]
        mean = float(block.mean())
        parts.append(Moments(block.size, mean, float(((block - mean) ** 2).sum())))
    return Moments.together(parts)


def tiles(copy: StagedCopy, item: str) -> list[Tile]:
    """The tiles that cover one slide at the level that stain is taken from."""
    levels = [copy.slide(_id(item), level).shape[1:] for level in range(_level_count(copy, item))]
    level = next((n for n, shape in enumerate(levels) if max(shape) <= MAX_SIDE), len(levels) - 1)
    height, width = levels[level]
    return [
        Tile(level, y, x, min(TILE, height - y), min(TILE, width - x))
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]


def tile_stain(copy: StagedCopy, item: str, tile: Tile) -> Stain:
    """Optical density of haematoxylin and eosin over one tile's tissue."""
    array = copy.slide(_id(item), tile.level)
    rgb = np.asarray(array[:, tile.y : tile.y + tile.height, tile.x : tile.x + tile.width])
    return stain(rgb)


def stain(rgb: NDArray[np.uint8]) -> Stain:
    """Colour deconvolution of (c, y, x) uint8 pixels."""
    density = -np.log10((rgb.reshape(3, -1).T.astype(np.float64) + 1) / 256)
    tissue = density[density.mean(axis=1) > TISSUE_OD]
    if not len(tissue):
        return Stain(len(density), 0, 0.0, 0.0)
    unit = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    amounts = (tissue @ np.linalg.inv(unit)).mean(axis=0)
    return Stain(len(density), len(tissue), float(amounts[0]), float(amounts[1]))


def _level_count(copy: StagedCopy, item: str) -> int:
    return len(copy.attributes(item)["levels"])


def _rescale(
    attributes: dict[str, Any], leading: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and intercept of each slice, (z, 1, 1) or (t, z, 1, 1); staging notes lists where slices differ."""
    found = attributes.get("rescale") or {"slope": 1.0, "intercept": 0.0}
    slope, intercept = (
        np.broadcast_to(np.asarray(found[name], dtype=np.float64).reshape(-1), math.prod(leading))
        for name in ("slope", "intercept")
    )
    return slope.reshape(*leading, 1, 1), intercept.reshape(*leading, 1, 1)


def _id(item: str) -> str:
    return item.rsplit("/", 1)[1]
