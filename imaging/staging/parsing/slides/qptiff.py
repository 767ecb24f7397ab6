"""Akoya (PerkinElmer) QPTIFF: a page a channel and level, each with XML that says which image it is of.

FullResolution and ReducedResolution are levels; Thumbnail, Overview and Label are never read.
"""

from __future__ import annotations

import re
from typing import Any

from imaging.staging.headers import Value
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid, is_whole_downsample, resolution_um
from imaging.staging.parsing.slides.tiff_slide import TiffSlide
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.fluorophores import known
from imaging.staging.pathology.headers import ChannelHeader

_MAX_PAGES = 1024
_LEVELS = frozenset({"FullResolution", "ReducedResolution"})


def read(tiff: Any, source: Source) -> TiffSlide:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    sizes: dict[tuple[int, int], list[Any]] = {}
    for page in tiff.pages[:_MAX_PAGES]:
        if _said(page, "ImageType") in _LEVELS:
            sizes.setdefault((int(page.imagelength), int(page.imagewidth)), []).append(page)
    ordered = sorted(sizes, reverse=True)
    if not ordered:
        raise Unreadable("unsupported-slide")
    raw = sizes[ordered[0]]
    first = Page(raw[0])
    background = "white" if first.color else "black"
    grids: list[list[PageGrid]] = []
    for size in ordered:
        pages = [Page(page) for page in sizes[size]]
        alike = all((page.sound, page.type, page.color) == (True, first.type, first.color) for page in pages)
        tiles = {page.tile for page in pages}
        if (
            len(pages) != len(raw)
            or not alike
            or len(tiles) != 1
            or not is_whole_downsample(ordered[0], size)
        ):
            continue
        planes = [PageGrid(page, source, background=background) for page in pages]
        if len({grid.encoding for grid in planes}) == 1:
            grids.append(planes)
    if not grids or grids[0][0].height != ordered[0][0]:
        raise Unreadable("unsupported-slide")
    power = re.match(r"([0-9]{1,3})x?$", _said(raw[0], "Objective"))
    attributes: dict[str, Value] = {"ObjectiveLensPower": float(power.group(1))} if power else {}
    return TiffSlide(
        source,
        "qptiff",
        [list(planes) for planes in grids],
        [planes[0].level() for planes in grids],
        resolution_um(raw[0]),
        attributes,
        [ChannelHeader(fluorophore=known(_said(page, "Name"))) for page in raw],
        background=background,
    )


def _said(page: Any, name: str) -> str:
    """The text of an element of the page's description, or ""."""
    match = re.search(rf"<{name}>([^<]{{1,64}})</{name}>", str(page.description)[: 1 << 20])
    return match.group(1).strip() if match else ""
