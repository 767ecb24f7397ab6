"""What only OpenSlide opens, by its decoder: level 0 as pixels; the other levels are derived from it.

OpenSlide wants a name: the descriptor's own (/proc/self/fd).  Formats of several files can't be opened so.
Its associated images (label, macro, thumbnail) are never read.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import ChannelHeader, LevelHeader, SlideHeader

TILE = 512
_MAKERS = {
    "aperio": "Aperio", "hamamatsu": "Hamamatsu", "leica": "Leica", "mirax": "3DHISTECH", "philips": "Philips",
    "ventana": "Ventana", "zeiss": "Zeiss", "trestle": "Trestle", "sakura": "Sakura",
}  # fmt: skip


def vendor(source: Source) -> str | None:
    """Whose format OpenSlide takes the file for, or None."""
    found: str | None = openslide.OpenSlide.detect_format(f"/proc/self/fd/{source.file.fileno()}")
    return found


class OpenSlideFile:
    """The slide, and its one grid.  Holds a descriptor of its own: OpenSlide opens the name again and again."""

    def __init__(self, source: Source) -> None:
        self.source = source
        handle = os.dup(source.file.fileno())
        weakref.finalize(self, os.close, handle)
        try:
            self._slide = openslide.OpenSlide(f"/proc/self/fd/{handle}")
        except (openslide.OpenSlideError, OSError):
            raise Unreadable("unsupported-slide") from None
        self.width, self.height = self._slide.dimensions
        self.tile = (TILE, TILE)
        self.samples = 3
        self.dtype = np.dtype(np.uint8)
        self.fill = 255

    def header(self, keywords: frozenset[str]) -> SlideHeader:
        said = self._slide.properties
        sizes = [_number(said.get(f"openslide.mpp-{axis}")) for axis in ("y", "x")]
        attributes: dict[str, Value] = {"Modality": "SM"}
        power = _number(said.get("openslide.objective-power"))
        if power:
            attributes["ObjectiveLensPower"] = power
        maker = _MAKERS.get(str(said.get("openslide.vendor")))
        if maker:
            attributes["Manufacturer"] = maker
        level = LevelHeader(
            width=self.width, height=self.height, tile_width=TILE, tile_height=TILE, encoding="lossy"
        )
        return SlideHeader(
            format="openslide",
            levels=(level,),
            samples=3,
            dtype="uint8",
            channels=(ChannelHeader(),),
            mpp=(sizes[0], sizes[1]) if sizes[0] and sizes[1] else None,
            background="white",
            icc=self._profile(),
            attributes=attributes,
        )

    def grid(self, level: int, plane: int) -> OpenSlideFile:
        if (level, plane) != (0, 0):
            raise ValueError("no such plane")
        return self

    def has_any(self) -> bool:
        return True

    def has(self, row: int, column: int) -> bool:
        return True  # asked of levels that lack tiles only, and there is but one level

    def codestream(self, row: int, column: int) -> bytes:
        raise ValueError("this format's tiles are not kept")

    def decoded(self, row: int, column: int) -> NDArray[Any] | None:
        y, x = row * TILE, column * TILE
        size = (min(TILE, self.width - x), min(TILE, self.height - y))
        try:
            seen = np.asarray(self._slide.read_region((x, y), 0, size), dtype=np.uint16)
        except (openslide.OpenSlideError, OSError):
            raise Unreadable("decode-failed") from None
        alpha = seen[..., 3:]
        if not alpha.any():
            return None
        # Where there is nothing, glass is white.
        return ((seen[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _profile(self) -> str:
        try:
            return icc.reduced(openslide.lowlevel.read_icc_profile(self._slide._osr))
        except (openslide.OpenSlideError, AttributeError):
            return ""


def _number(text: str | None) -> float | None:
    try:
        value = float(text or 0)
    except ValueError:
        return None
    return value if 0 < value <= 1000 else None
