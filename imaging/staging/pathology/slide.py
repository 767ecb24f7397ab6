"""A whole slide, whatever it came as: levels of planes of tiles, and from which source items to have each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from imaging.staging.pathology.headers import ChannelHeader, Encoding, SlideFormat, SlideHeader


@dataclass(frozen=True, slots=True)
class Grid:
    """A plane as one source item holds it, or part of it: ``level`` and ``plane`` by the parser's count."""

    number: int
    level: int
    plane: int


@dataclass(frozen=True, slots=True)
class Level:
    """One stored level.  ``planes``: channel by channel, each with all focal planes; a plane's grids are asked
    in order, and the first that has a tile gives it.  ``quality``: of JPEG, 1 to 100."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    encoding: Encoding
    planes: tuple[tuple[Grid, ...], ...]
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Slide:
    """``levels``: largest first.  ``mpp``: micrometres per pixel of level 0, (y, x)."""

    format: SlideFormat
    levels: tuple[Level, ...]
    samples: int
    dtype: str
    channels: tuple[ChannelHeader, ...]
    focal_um: tuple[float, ...]
    mpp: tuple[float, float] | None
    background: str
    icc: str
    focal_known: bool = True
    """Whether ``focal_um`` are heights, and not only an order."""
    largest_missing: bool = False
    """Whether level 0 is not the scan's largest."""

    @property
    def color(self) -> bool:
        """RGB: its samples are the array's channels."""
        return self.samples == 3

    @property
    def fill(self) -> int:
        """The value of pixels that were never stored."""
        return 0 if self.background == "black" else 255

    @property
    def axes(self) -> str:
        """``cyx``, or ``czyx`` with several focal planes."""
        return "cyx" if len(self.focal_um) == 1 else "czyx"

    def numbers(self) -> list[int]:
        """Source items, ascending."""
        return sorted({grid.number for level in self.levels for plane in level.planes for grid in plane})

    @property
    def focal_step_um(self) -> float | None:
        """Median distance of focal planes; None where there is one alone, or the source does not say."""
        if not self.focal_known or len(self.focal_um) < 2:
            return None
        step = median(high - low for low, high in pairwise(self.focal_um))
        return step if step > 0 else None


def slide_of_file(number: int, header: SlideHeader) -> Slide:
    """The slide that item ``number`` holds whole."""
    planes = len(header.channels) * len(header.focal_um)
    levels = tuple(
        Level(
            level.width,
            level.height,
            level.tile_width,
            level.tile_height,
            level.encoding,
            tuple((Grid(number, place, plane),) for plane in range(planes)),
            level.quality,
        )
        for place, level in enumerate(header.levels)
    )
    return Slide(
        header.format,
        levels,
        header.samples,
        header.dtype,
        header.channels,
        header.focal_um,
        header.mpp,
        header.background,
        header.icc,
        header.focal_known,
        header.largest_missing,
    )


def downsamples(sizes: Sequence[tuple[int, int]], derived: Sequence[bool]) -> list[tuple[float, float]]:
    """(y, x) per level of (height, width): of stored levels by their sizes, of derived ones exactly twice the
    one above, whatever an odd edge did to their sizes."""
    found: list[tuple[float, float]] = []
    for (height, width), made in zip(sizes, derived, strict=True):
        if made:
            found.append((found[-1][0] * 2, found[-1][1] * 2))
        else:
            found.append((sizes[0][0] / height, sizes[0][1] / width))
    return found
