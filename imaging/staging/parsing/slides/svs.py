"""Aperio SVS: which pages are levels, their JPEG tiles, and two numbers out of the description.

Pages are taken by allow-list: tiled, full-image SubfileType, JPEG, 8-bit RGB, and a size that is the baseline's
divided by a whole downsample.  Label, macro and thumbnail (stripped, or marked by SubfileType) are never read.
The description is scanned for magnification and pixel size and goes no further: it holds serials and names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from imaging.staging.headers import Value
from imaging.staging.parsing.dicom.header import MALFORMED
from imaging.staging.parsing.slides.halving import halve
from imaging.staging.parsing.slides.jpeg import complete_tile
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import LevelHeader, SlideHeader

_JPEG = 7
_RGB, _YCBCR = 2, 6
_MAX_TILE_BYTES = 16 << 20
_MAX_PAGES = 64
_WHITE = 255


def read_header(file: BinaryIO) -> SlideHeader:
    """Levels, largest first, and what may be known of the slide; raises :class:`Unreadable`."""
    try:
        with _tiff(file) as tiff:
            if not tiff.is_svs:
                raise Unreadable("unsupported-slide")
            pages: list[Any] = list(tiff.pages[:_MAX_PAGES])
            baseline = pages[0]
            levels = [page for page in pages if _is_level(page, baseline)]
            if not levels:
                raise Unreadable("unsupported-slide")
            description = str(baseline.description)[:65536]
            return SlideHeader(
                format="svs",
                levels=tuple(_level(page) for page in levels),
                mpp=_described(description, "MPP"),
                attributes=_attributes(description),
            )
    except (*MALFORMED, tifffile.TiffFileError):
        raise Unreadable("malformed-slide") from None


def read_tiles(file: BinaryIO, page: int, rows: Sequence[int], columns: Sequence[int]) -> list[bytes]:
    """Codestreams of tiles ``rows[0]:rows[1]`` × ``columns[0]:columns[1]``; b"" where the file has none."""
    try:
        with _tiff(file) as tiff:
            return [
                _codestream(file, chosen, row, column)
                for chosen in [_page(tiff, page)]
                for row in range(*rows)
                for column in range(*columns)
            ]
    except (*MALFORMED, tifffile.TiffFileError):
        raise Unreadable("malformed-slide") from None


def read_halved(file: BinaryIO, page: int, rows: Sequence[int], columns: Sequence[int]) -> NDArray[np.uint8]:
    """The rectangle of tiles decoded and averaged over 2×2 pixels: (y, x, 3), white where there are none.

    The image's edge is extended by its last row and column, so that an odd size loses nothing.
    """
    try:
        with _tiff(file) as tiff:
            chosen = _page(tiff, page)
            high, wide = chosen.tilelength, chosen.tilewidth
            canvas = np.full(
                ((rows[1] - rows[0]) * high, (columns[1] - columns[0]) * wide, 3), _WHITE, dtype=np.uint8
            )
            for row in range(*rows):
                for column in range(*columns):
                    stream = _codestream(file, chosen, row, column)
                    if stream:
                        top, left = (row - rows[0]) * high, (column - columns[0]) * wide
                        canvas[top : top + high, left : left + wide] = _decode(stream)
            bottom = min(chosen.imagelength - rows[0] * high, canvas.shape[0])
            right = min(chosen.imagewidth - columns[0] * wide, canvas.shape[1])
            return halve(canvas[:bottom, :right])
    except (*MALFORMED, tifffile.TiffFileError):
        raise Unreadable("malformed-slide") from None


def _tiff(file: BinaryIO) -> tifffile.TiffFile:
    """The file under a name of ours: a descriptor that came by socket has none, and tifffile wants one."""
    size = file.seek(0, 2)
    return tifffile.TiffFile(tifffile.FileHandle(file, name="slide.svs", offset=0, size=size))


def _is_level(page: Any, baseline: Any) -> bool:
    sound = (
        page.is_tiled
        and page.subfiletype == 0
        and page.compression == _JPEG
        and page.photometric in (_RGB, _YCBCR)
        and page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.planarconfig == 1
    )
    if not sound or page.imagewidth < 1 or page.imagelength < 1:
        return False
    downsample = baseline.imagewidth / page.imagewidth
    whole = max(1, round(downsample))
    return all(
        math.floor(full / whole) - 1 <= size <= math.ceil(full / whole) + 1
        for full, size in (
            (baseline.imagewidth, page.imagewidth),
            (baseline.imagelength, page.imagelength),
        )
    )


def _level(page: Any) -> LevelHeader:
    return LevelHeader(
        page=page.index,
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
    )


def _page(tiff: Any, index: int) -> Any:
    page = tiff.pages[index]
    if not _is_level(page, tiff.pages[0]):
        raise Unreadable("unsupported-slide")  # the allow-list holds here too, whatever was asked
    return page


def _codestream(file: BinaryIO, page: Any, row: int, column: int) -> bytes:
    across = -(-page.imagewidth // page.tilewidth)
    index = row * across + column
    count = page.databytecounts[index]
    if count == 0:
        return b""
    if count > _MAX_TILE_BYTES:
        raise Unreadable("too-large")
    file.seek(page.dataoffsets[index])
    tile = file.read(count)
    if len(tile) != count:
        raise Unreadable("truncated-tile")
    return complete_tile(
        tile,
        page.jpegtables or b"",
        rgb=page.photometric == _RGB,
        width=page.tilewidth,
        height=page.tilelength,
    )


def _decode(stream: bytes) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(stream)
    except imagecodecs.Jpeg8Error:
        raise Unreadable("truncated-tile") from None
    return pixels


def _attributes(description: str) -> dict[str, Value]:
    power = _described(description, "AppMag")
    # Aperio is what makes a file an SVS; the rest of the description stays behind.
    found: dict[str, Value] = {"Manufacturer": "Aperio", "Modality": "SM"}
    if power is not None:
        found["ObjectiveLensPower"] = power
    return found


def _described(description: str, key: str) -> float | None:
    """A positive number after ``key =``, or None."""
    match = re.search(rf"\|\s*{key}\s*=\s*([0-9]{{1,6}}(?:\.[0-9]{{1,9}})?)\s*(?:\||$)", description)
    value = float(match.group(1)) if match else 0.0
    return value if value > 0 else None
