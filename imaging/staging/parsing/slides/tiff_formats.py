"""Which slide format a TIFF is, and what of it are levels: a list of what is allowed, never of what is not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc
from imaging.staging.parsing.slides.grid import Grid
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid, is_whole_downsample, open_tiff, resolution_um
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import ChannelHeader, SlideFormat, SlideHeader

MAX_PAGES = 64
_DESCRIPTION = 65_536


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
                "mpp": self.mpp,
                "background": self.background,
                "icc": self.icc,
                "attributes": {"Modality": "SM", **self.attributes},
            }
        )

    def grid(self, level: int, plane: int) -> Grid:
        return self.grids[level][plane]


def open_tiff_slide(file: BinaryIO) -> TiffSlide:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    source = Source(file)
    with open_tiff(file) as tiff:
        for known, read in _FORMATS:
            if known(tiff):
                return read(tiff, source)
    raise Unreadable("unsupported-slide")


def _svs(tiff: Any, source: Source) -> TiffSlide:
    """Aperio: tiled pages of SubfileType 0 whose size is the baseline's by a whole number.

    Label, macro and thumbnail are stripped, or marked by SubfileType.  The description is scanned for
    magnification and pixel size and goes no further: it holds serials and names.
    """
    pages = [Page(page) for page in tiff.pages[:MAX_PAGES]]
    baseline = pages[0]
    chosen = [page for page in pages if _is_level(page, baseline, {0})]
    description = str(tiff.pages[0].description)[:_DESCRIPTION]
    mpp = _described(description, "MPP")
    power = _described(description, "AppMag")
    # Aperio is what makes a file an SVS; the rest of the description stays behind.
    attributes: dict[str, Value] = {"Manufacturer": "Aperio"}
    if power is not None:
        attributes["ObjectiveLensPower"] = power
    return _pyramid("svs", tiff, source, chosen, (mpp, mpp) if mpp else None, attributes)


def _generic(tiff: Any, source: Source) -> TiffSlide:
    """A tiled pyramid of no known maker: the first page, then smaller pages of its shape, then SubIFDs."""
    first = tiff.pages[0]
    pages = [Page(page) for page in [*tiff.pages[:MAX_PAGES], *(first.pages or [])[:MAX_PAGES]]]
    chosen = [page for page in pages if _is_level(page, pages[0], {0, 1})]
    return _pyramid("tiff", tiff, source, chosen, resolution_um(first), {})


def _pyramid(
    format: SlideFormat,
    tiff: Any,
    source: Source,
    pages: list[Page],
    mpp: tuple[float, float] | None,
    attributes: dict[str, Value],
) -> TiffSlide:
    """One page a level, largest first; pages that do not get smaller are not levels."""
    if not pages:
        raise Unreadable("unsupported-slide")
    first = pages[0]
    levels = [first]
    for page in sorted(pages[1:], key=lambda page: -page.width):
        alike = (page.type, page.color, page.samples) == (first.type, first.color, first.samples)
        if page.width < levels[-1].width and page.height < levels[-1].height and alike:
            levels.append(page)
    bands: list[int | None] = [None] if first.color or first.samples == 1 else list(range(first.samples))
    background = "white" if first.color else "black"
    grids = [[PageGrid(page, source, background=background, band=band) for band in bands] for page in levels]
    return TiffSlide(
        source,
        format,
        [list(planes) for planes in grids],
        [planes[0].level() for planes in grids],
        mpp,
        attributes,
        [ChannelHeader() for _ in bands],
        background=background,
        icc=icc.reduced(tiff.pages[0].tags.valueof(34675)),
    )


def _is_level(page: Page, baseline: Page, subfiletypes: set[int]) -> bool:
    return (
        page.tiled
        and page.sound
        and page.subfiletype in subfiletypes
        and is_whole_downsample((baseline.height, baseline.width), (page.height, page.width))
    )


def _described(description: str, key: str) -> float | None:
    """A positive number after ``key =``, or None."""
    match = re.search(rf"\|\s*{key}\s*=\s*([0-9]{{1,6}}(?:\.[0-9]{{1,9}})?)\s*(?:\||$)", description)
    value = float(match.group(1)) if match else 0.0
    return value if value > 0 and math.isfinite(value) else None


_FORMATS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Source], TiffSlide]], ...] = (
    (lambda tiff: tiff.is_svs, _svs),
    (lambda tiff: tiff.pages[0].is_tiled, _generic),
)
