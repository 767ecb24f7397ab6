"""Philips TIFF: one page a level, its size padded to whole tiles; absent tiles are background.

The first page's description is XML with the pixel size of each level; it also holds label and macro as base64,
the barcode, the scanner's serial number and dates, none of which is looked at.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc, strict_xml
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid
from imaging.staging.parsing.slides.tiff_slide import MAX_PAGES, TiffSlide
from imaging.staging.parsing.unreadable import Unreadable


def read(tiff: Any, source: Source) -> TiffSlide:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    root = strict_xml.parse(str(tiff.pages[0].description))
    image = next((one for one in root.iter("DataObject") if _text(one, "PIM_DP_IMAGE_TYPE") == "WSI"), None)
    spacings = _spacings(image) if image is not None else []
    pages = [Page(page) for page in tiff.pages[:MAX_PAGES]]
    first = pages[0]
    grids: list[PageGrid] = []
    for place, page in enumerate(page for page in pages if page.tiled):
        if not (page.tiled and page.sound and (page.type, page.color) == (first.type, first.color)):
            continue
        size = (page.height, page.width)
        if place:
            size = _true_size(first, page, place, spacings)
        if grids and (size[1] >= grids[-1].width or size[0] >= grids[-1].height):
            continue
        grids.append(PageGrid(page, source, background="white", size=size))
    if not grids or not first.color:
        raise Unreadable("unsupported-slide")
    attributes: dict[str, Value] = {"Manufacturer": "Philips"}
    mpp = (spacings[0][0] * 1000, spacings[0][1] * 1000) if spacings else None
    return TiffSlide(
        source,
        "philips-tiff",
        [[grid] for grid in grids],
        [grid.level() for grid in grids],
        mpp,
        attributes,
        icc=icc.reduced(tiff.pages[0].tags.valueof(34675)),
        full_size=(first.height, first.width) if first.tiled else None,
    )


def _true_size(first: Page, page: Page, level: int, spacings: list[tuple[float, float]]) -> tuple[int, int]:
    """Without the padding: level 0's size by the ratio of pixel sizes, or by the nearest power of two."""
    if level < len(spacings):
        factors = [_nearly_whole(spacings[level][axis] / spacings[0][axis]) for axis in (0, 1)]
    else:
        factors = [2.0 ** round_log2(first.width / page.width)] * 2
    height, width = int(first.height / factors[0]), int(first.width / factors[1])
    if not (0 < height <= page.height and 0 < width <= page.width):
        raise Unreadable("malformed-slide")
    return height, width


def _nearly_whole(factor: float) -> float:
    """Pixel sizes are written with six digits: their ratio is a whole number but for that."""
    return float(round(factor)) if abs(factor - round(factor)) < 0.02 else factor


def round_log2(ratio: float) -> int:
    """The nearest whole power of two's exponent."""
    return max(0, round(ratio).bit_length() - 1) if ratio >= 1 else 0


def _spacings(image: Element) -> list[tuple[float, float]]:
    """(y, x) millimetres of each level, largest level first."""
    found: list[tuple[float, float]] = []
    for one in image.iter("Attribute"):
        if one.get("Name") == "DICOM_PIXEL_SPACING" and one.text:
            parts = [float(part) for part in one.text.replace('"', " ").split()]
            if len(parts) == 2 and all(0 < part <= 1 for part in parts):
                found.append((parts[0], parts[1]))
    return sorted(set(found))


def _text(element: Element, name: str) -> str:
    for one in element:
        if one.tag == "Attribute" and one.get("Name") == name:
            return (one.text or "").strip()
    return ""
