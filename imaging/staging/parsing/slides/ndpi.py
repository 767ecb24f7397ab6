"""Hamamatsu NDPI: a page a level and focal plane, each one JPEG with restart intervals.

Levels are pages that were taken through a lens: Magnification (65421) is above zero.  The macro image (−1) and
the map (−2) are never read.  Serial numbers, barcodes and dates are in tags that are not looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imaging.staging.parsing.slides.restart import RestartGrid
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid, resolution_um
from imaging.staging.parsing.slides.tiff_slide import MAX_PAGES, TiffSlide
from imaging.staging.parsing.unreadable import Unreadable

FORMAT_FLAG = 65420
_MAGNIFICATION, _Z_OFFSET_NM, _MCU_STARTS, _MCU_STARTS_HIGH = 65421, 65424, 65426, 65432
_CAPTURE_MODE = 65441
_WHOLE_SIDE = 2048


def read(tiff: Any, source: Source) -> TiffSlide:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    levels: dict[tuple[int, int], dict[int, Any]] = {}
    power = 0.0
    first = None
    for page in tiff.pages[: 16 * MAX_PAGES]:
        lens = float(page.tags.valueof(_MAGNIFICATION) or 0)
        if lens <= 0:
            continue
        if float(page.tags.valueof(_CAPTURE_MODE) or 0) > 6:
            raise Unreadable("unsupported-pixel-format")  # 12 bits packed into 8-bit JPEG
        size = (int(page.imagelength), int(page.imagewidth))
        levels.setdefault(size, {}).setdefault(int(page.tags.valueof(_Z_OFFSET_NM) or 0), page)
        if lens > power:
            power, first = lens, page
    if first is None:
        raise Unreadable("unsupported-slide")
    ordered = sorted(levels, reverse=True)
    heights = sorted(levels[ordered[0]])
    grids: list[list[RestartGrid | PageGrid]] = []
    for size in ordered:
        if all(height in levels[size] for height in heights):
            try:
                grids.append([_grid(levels[size][height], source) for height in heights])
            except Unreadable as unreadable:
                # A smaller level that can't be cut is derived from a larger one; without the largest, no slide.
                if not grids or unreadable.code != "unsupported-slide":
                    raise
    return TiffSlide(
        source,
        "ndpi",
        [list(planes) for planes in grids],
        [planes[0].level() for planes in grids],
        resolution_um(first),
        {"Manufacturer": "Hamamatsu", "ObjectiveLensPower": power},
        focal_um=tuple(height / 1000 for height in heights),
    )


def _grid(page: Any, source: Source) -> RestartGrid | PageGrid:
    """Cut at restart markers; a page that is small enough is one tile."""
    offset, length = page.tags.valueof(273), page.tags.valueof(279)
    if not isinstance(offset, tuple) or not isinstance(length, tuple) or len(offset) != 1 or len(length) != 1:
        raise Unreadable("unsupported-slide")
    size = (int(page.imagelength), int(page.imagewidth))
    starts = page.tags.valueof(_MCU_STARTS)
    high = page.tags.valueof(_MCU_STARTS_HIGH)
    if starts is not None:
        starts = np.asarray(starts, dtype=np.int64).reshape(-1) & 0xFFFFFFFF
        if high is not None and np.size(high) == len(starts):
            starts = starts + (np.asarray(high, dtype=np.int64).reshape(-1) << 32)
    try:
        return RestartGrid(source, int(offset[0]), int(length[0]), size, starts)
    except Unreadable as unreadable:
        if unreadable.code != "unsupported-slide" or max(size) > _WHOLE_SIDE:
            raise
    whole = Page(page)
    whole.offsets, whole.counts = np.asarray(offset, np.int64), np.asarray(length, np.int64)
    whole.tile, whole.tiled = size, True
    if not whole.sound:
        raise Unreadable("unsupported-slide")
    return PageGrid(whole, source, background="white")
