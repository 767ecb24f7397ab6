"""Which slide format a TIFF is, and what of it are levels: a list of what is allowed, never of what is not."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc, ndpi, ome_tiff, openslide_file, philips, qptiff
from imaging.staging.parsing.slides.grid import SlideFile
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid, is_whole_downsample, open_tiff, resolution_um
from imaging.staging.parsing.slides.tiff_slide import MAX_PAGES, TiffSlide
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import ChannelHeader, SlideFormat

_DESCRIPTION = 65_536


def open_tiff_slide(file: BinaryIO) -> SlideFile:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    source = Source(file)
    if _is_hamamatsu(file):
        try:
            with open_tiff(file, is_ndpi=True) as tiff:
                return ndpi.read(tiff, source)
        except Unreadable as unreadable:
            if unreadable.code != "unsupported-slide":
                raise
            return openslide_file.OpenSlideFile(source)
    with open_tiff(file) as tiff:
        for known, read in _FORMATS:
            if known(tiff):
                return read(tiff, source)
        if openslide_file.vendor(source) not in (None, "generic-tiff"):
            return openslide_file.OpenSlideFile(source)
        if Page(tiff.pages[0]).tiled:
            return _generic(tiff, source)
    raise Unreadable("unsupported-slide")


def _is_hamamatsu(file: BinaryIO) -> bool:
    """By the tag that all their pages carry.  They write 64-bit offsets into classic TIFF, so that a large
    file's first directory is found by their rule only."""
    file.seek(0)
    start = file.read(12)
    if start[:4] != b"II*\0" or len(start) < 12:
        return False
    short, long = struct.unpack_from("<I", start, 4)[0], struct.unpack_from("<Q", start, 4)[0]
    size = file.seek(0, 2)
    return any(_has_tag(file, offset, ndpi.FORMAT_FLAG) for offset in (short, long) if offset + 2 <= size)


def _has_tag(file: BinaryIO, offset: int, tag: int) -> bool:
    file.seek(offset)
    raw = file.read(2)
    count = struct.unpack("<H", raw)[0] if len(raw) == 2 else 0
    entries = file.read(12 * count)
    return any(struct.unpack_from("<H", entries, at)[0] == tag for at in range(0, len(entries) - 11, 12))


def _svs(tiff: Any, source: Source) -> TiffSlide:
    """Aperio: tiled pages of SubfileType 0 whose size is the baseline's by a whole number.

    Label, macro and thumbnail are stripped, or marked by SubfileType.  The description is scanned for
    magnification and pixel size and goes no further: it holds serials and names.
    """
    pages = [Page(page) for page in tiff.pages[:MAX_PAGES]]
    baseline = _baseline(pages)
    chosen = [page for page in pages if _is_level(page, baseline, {0})]
    description = str(tiff.pages[0].description)[:_DESCRIPTION]
    mpp = _described(description, "MPP")
    power = _described(description, "AppMag")
    # Aperio is what makes a file an SVS; the rest of the description stays behind.
    attributes: dict[str, Value] = {"Manufacturer": "Aperio"}
    if power is not None:
        attributes["ObjectiveLensPower"] = power
    size = (baseline.height, baseline.width)
    full = max(_scanned(str(tiff.pages[pages.index(baseline)].description)[:_DESCRIPTION], size), size)
    return _pyramid("svs", tiff, source, chosen, (mpp, mpp) if mpp else None, attributes, full)


def _generic(tiff: Any, source: Source) -> TiffSlide:
    """A tiled pyramid of no known maker: the first page, then smaller pages of its shape, then SubIFDs."""
    first = tiff.pages[0]
    pages = [Page(page) for page in [*tiff.pages[:MAX_PAGES], *(first.pages or [])[:MAX_PAGES]]]
    baseline = _baseline(pages)
    chosen = [page for page in pages if _is_level(page, baseline, {0, 1})]
    slide = _pyramid(
        "tiff", tiff, source, chosen, resolution_um(first), {}, (baseline.height, baseline.width)
    )
    # NewSubfileType: "a reduced-resolution version of another image in this TIFF file", which is not there.
    slide.largest_missing |= bool(pages[0].subfiletype & 1)
    return slide


def _pyramid(
    format: SlideFormat,
    tiff: Any,
    source: Source,
    pages: list[Page],
    mpp: tuple[float, float] | None,
    attributes: dict[str, Value],
    full_size: tuple[int, int],
) -> TiffSlide:
    """One page a level, largest first; pages that do not get smaller are not levels.

    ``full_size``: (height, width) of what ``mpp`` belongs to.
    """
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
        full_size=full_size,
    )


def _baseline(pages: list[Page]) -> Page:
    """What levels are smaller versions of: the first page, or if that is no tiled one the largest of those."""
    tiled = [page for page in pages if page.tiled]
    return pages[0] if pages[0].tiled or not tiled else max(tiled, key=lambda page: page.width)


def _scanned(description: str, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the scan that an Aperio page was made smaller from: ``[0,0 46000x32914] … -> 11500x8228``."""
    first = description.partition(";")[0]
    match = re.search(r"(\d{1,7})x(\d{1,7})(?:\]| )[^>;|]*-> (\d{1,7})x(\d{1,7})", first)
    if match is None or (int(match[4]), int(match[3])) != size:
        return size
    return int(match[2]), int(match[1])


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
    (lambda tiff: tiff.is_philips, philips.read),
    (lambda tiff: tiff.is_ome, ome_tiff.read),
    (lambda tiff: tiff.is_qpi, qptiff.read),
)
