"""A slide in a TIFF: its levels as grids, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imaging.staging.headers import Value
from imaging.staging.parsing.slides.grid import Grid
from imaging.staging.parsing.slides.source import Source
from imaging.staging.pathology.headers import ChannelHeader, SlideFormat, SlideHeader

MAX_PAGES = 64


@dataclass
class TiffSlide:
    """``grids[level][plane]``: the planes of each level, channel by channel, each with all focal planes."""

    source: Source
    format: SlideFormat
    grids: list[list[Grid]]
    levels: list[Any]
    mpp: tuple[float, float] | None
    attributes: dict[str, Value]
    channels: list[ChannelHeader] = field(default_factory=lambda: [ChannelHeader()])
    focal_um: tuple[float, ...] = (0.0,)
    background: str = "white"
    icc: str = ""
    focal_known: bool = True
    full_size: tuple[int, int] | None = None
    """Of the scan that ``mpp`` belongs to, (height, width): where the file lacks its largest levels, or can't be read
    there, this is more than the first of ``grids`` has."""
    largest_missing: bool = False
    """Whether the file says so itself."""

    def __post_init__(self) -> None:
        """Leave out the largest levels if no tile of them is stored, and scale the pixel size to what is left."""
        full = self.full_size or _size(self.grids[0][0])
        last = len(self.grids) - 1
        there = next(
            (place for place, planes in enumerate(self.grids) if any(grid.has_any() for grid in planes)), last
        )
        if there != last or any(grid.has_any() for grid in self.grids[last]):
            del self.grids[:there], self.levels[:there]
        first = _size(self.grids[0][0])
        factor = tuple(_factor(large, small) for large, small in zip(full, first, strict=True))
        if max(factor) > 1:
            self.largest_missing = True
            if self.mpp is not None:
                self.mpp = (self.mpp[0] * factor[0], self.mpp[1] * factor[1])

    def header(self, keywords: frozenset[str]) -> SlideHeader:
        first = self.grids[0][0]
        return SlideHeader.model_validate(
            {
                "format": self.format,
                "levels": tuple(self.levels),
                "samples": first.samples,
                "dtype": np.dtype(first.dtype).name,
                "channels": tuple(self.channels),
                "focal_um": self.focal_um,
                "focal_known": self.focal_known,
                "mpp": self.mpp,
                "background": self.background,
                "icc": self.icc,
                "largest_missing": self.largest_missing,
                "attributes": {"Modality": "SM", **self.attributes},
            }
        )

    def grid(self, level: int, plane: int) -> Grid:
        return self.grids[level][plane]


def _size(grid: Grid) -> tuple[int, int]:
    return grid.height, grid.width


def _factor(large: int, small: int) -> float:
    """How often the smaller size goes into the larger: a whole number, give or take the rounding of writers."""
    whole = max(1, round(large / small))
    return float(whole) if abs(large - whole * small) <= whole else large / small
