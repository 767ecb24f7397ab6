"""OME-TIFF: planes by OME-XML, resolutions in SubIFDs (OME data model 2016-06).

The largest image of the file is the slide; other images (label, macro, thumbnail) are never read.  Of the XML
only sizes, order, wavelengths, colours and names of a closed list of dyes are taken.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc, strict_xml
from imaging.staging.parsing.slides.grid import Grid
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import Page, PageGrid, is_whole_downsample, resolution_um
from imaging.staging.parsing.slides.tiff_slide import TiffSlide
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.fluorophores import known
from imaging.staging.pathology.headers import ChannelHeader, LevelHeader

MAX_PLANES = 4096
_TO_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6, "Å": 1e-4}


def read(tiff: Any, source: Source) -> TiffSlide:
    """Raises :class:`Unreadable`, and what tifffile raises on broken files."""
    root = strict_xml.parse(str(tiff.pages[0].description))
    pixels = max(
        root.iter("Pixels"), key=lambda one: _whole(one, "SizeX") * _whole(one, "SizeY"), default=None
    )
    if pixels is None:
        # OME-XML may stand in a companion file.
        alone = root.find("BinaryOnly") is None
        raise Unreadable("malformed-slide" if alone else "unsupported-slide-layout")
    if _whole(pixels, "SizeT") != 1:
        raise Unreadable("unsupported-slide")
    depth = _whole(pixels, "SizeZ")
    channels = pixels.findall("Channel")
    samples = [int(one.get("SamplesPerPixel") or 1) for one in channels]
    size_c = _whole(pixels, "SizeC")
    if not samples or sum(samples) != size_c or min(samples) < 1:
        channels, samples = [], [1] * size_c
    pages = _pages(tiff, root, pixels, len(samples), depth)
    first = Page(pages[0][0])
    if first.color and samples not in ([3], [1, 1, 1]):
        raise Unreadable("unsupported-slide")
    # One page may hold several channels as its samples.
    bands: list[int | None] = [None] if first.color or first.samples == 1 else list(range(first.samples))
    background = "white" if first.color else "black"
    grids: list[list[Grid]] = []
    levels: list[LevelHeader] = []
    for level in range(1 + min(len(page.pages or []) for row in pages for page in row)):
        chosen = [[Page(page if not level else page.pages[level - 1]) for page in row] for row in pages]
        if not all(_alike(page, first, chosen[0][0]) for row in chosen for page in row):
            break
        by_band = [
            [PageGrid(page, source, background=background, band=band) for page in row]
            for row in chosen
            for band in bands
        ]
        planes = [grid for row in by_band for grid in row]
        smaller = not levels or (planes[0].width < levels[-1].width and planes[0].height < levels[-1].height)
        if not smaller or len({grid.encoding for grid in planes}) != 1:
            break
        grids.append(list(planes))
        levels.append(planes[0].level())
    if not levels:
        raise Unreadable("unsupported-slide")
    attributes: dict[str, Value] = {}
    powers = {float(one.get("NominalMagnification") or 0) for one in root.iter("Objective")} - {0.0}
    if len(powers) == 1:
        attributes["ObjectiveLensPower"] = powers.pop()
    step_um = _um(pixels, "PhysicalSizeZ")
    count = 1 if first.color else len(grids[0]) // depth
    described = [_channel(one) for one in channels] if len(channels) == count else []
    return TiffSlide(
        source,
        "ome-tiff",
        grids,
        levels,
        _mpp(pixels) or resolution_um(tiff.pages[0]),
        attributes,
        described or [ChannelHeader() for _ in range(count)],
        focal_um=tuple(number * (step_um or 1.0) for number in range(depth)),
        focal_known=depth == 1 or step_um is not None,
        background=background,
        icc=icc.reduced(tiff.pages[0].tags.valueof(34675)),
        full_size=(
            max(_whole(pixels, "SizeY"), grids[0][0].height),
            max(_whole(pixels, "SizeX"), grids[0][0].width),
        ),
    )


def _pages(tiff: Any, root: Element, pixels: Element, channels: int, depth: int) -> list[list[Any]]:
    """``pages[c][z]``, by TiffData; channels that share a page as its samples count once."""
    if channels < 1 or depth < 1 or channels * depth > MAX_PLANES:
        raise Unreadable("unsupported-slide")
    order = pixels.get("DimensionOrder") or "XYCZT"
    channel_first = order.index("C") < order.index("Z")
    places: dict[tuple[int, int], int] = {}
    blocks = pixels.findall("TiffData")
    for block in blocks or [Element("TiffData")]:
        uuid = block.find("UUID")
        if uuid is not None and root.get("UUID") and (uuid.text or "").strip() != root.get("UUID"):
            raise Unreadable("unsupported-slide-layout")
        ifd = int(block.get("IFD") or 0)
        c, z = int(block.get("FirstC") or 0), int(block.get("FirstZ") or 0)
        alone = block.get("PlaneCount") is None and block.get("IFD") is not None
        for number in range(1 if alone else int(block.get("PlaneCount") or channels * depth)):
            if c < channels and z < depth:
                places.setdefault((c, z), ifd + number)
            if channel_first:
                c, z = (c + 1, z) if c + 1 < channels else (0, z + 1)
            else:
                c, z = (c, z + 1) if z + 1 < depth else (c + 1, 0)
            if number > MAX_PLANES:
                raise Unreadable("malformed-slide")
    if (channels, depth) != (1, 1) and Page(tiff.pages[places[0, 0]]).samples == channels > 1:
        channels = 1
    return [[tiff.pages[places[c, z]] for z in range(depth)] for c in range(channels)]


def _alike(page: Page, first: Page, level: Page) -> bool:
    same = (page.type, page.color, page.samples) == (first.type, first.color, first.samples)
    size = (page.height, page.width, page.tile) == (level.height, level.width, level.tile)
    shape = is_whole_downsample((first.height, first.width), (page.height, page.width))
    return page.sound and same and size and shape


def _mpp(pixels: Element) -> tuple[float, float] | None:
    y, x = _um(pixels, "PhysicalSizeY"), _um(pixels, "PhysicalSizeX")
    return (y, x) if y and x and max(y, x) <= 1000 else None


def _um(pixels: Element, name: str) -> float | None:
    value = float(pixels.get(name) or 0) * _TO_UM.get(pixels.get(f"{name}Unit") or "µm", 0.0)
    return value if 0 < value < 1e6 else None


def _channel(element: Element) -> ChannelHeader:
    """Wavelengths in nm (the default unit), the colour as RGBA in 32 bits, a dye's name."""
    color = element.get("Color")
    packed = int(color) & 0xFFFFFFFF if color else None
    names = [known(element.get(name) or "") for name in ("Fluor", "Name")]
    return ChannelHeader(
        fluorophore=next((name for name in names if name), None),
        excitation_nm=_nm(element, "ExcitationWavelength"),
        emission_nm=_nm(element, "EmissionWavelength"),
        color=None if packed is None else (packed >> 24, packed >> 16 & 255, packed >> 8 & 255),
    )


def _nm(element: Element, name: str) -> float | None:
    value = float(element.get(name) or 0) * {"nm": 1.0, "µm": 1e3}.get(
        element.get(f"{name}Unit") or "nm", 0.0
    )
    return value if 0 < value < 1e5 else None


def _whole(pixels: Element, name: str) -> int:
    return int(pixels.get(name) or 0)
