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
                "attributes": {"Modality": "SM", **self.attributes},
            }
        )

    def grid(self, level: int, plane: int) -> Grid:
        return self.grids[level][plane]
