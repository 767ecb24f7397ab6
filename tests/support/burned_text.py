"""Text of known place burned into real pixels: what the detector of burned-in text is measured on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imaging.deid.pixels.boxes import Box

FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf")
SIZES_PX = (8, 10, 12, 16, 24, 36)
CONTRASTS = (1.0, 0.5, 0.25)
"""Of the frame's range from the 1st to the 99.5th percentile."""


@dataclass(frozen=True)
class Burned:
    """``kind``: ``border`` (on what is nearly black) or ``anatomy``."""

    frame: NDArray[Any]
    box: Box
    size_px: int
    contrast: float
    bright: bool
    smooth: bool
    kind: str


def burned(background: NDArray[Any], count: int, seed: int) -> Iterator[Burned]:
    """``count`` copies of a frame (y, x), each with one line of made-up identifiers."""
    draw = random.Random(seed)
    for _ in range(count):
        size, contrast = draw.choice(SIZES_PX), draw.choice(CONTRASTS)
        bright, smooth = draw.random() < 0.75, draw.random() < 0.6
        mask = _line(_words(draw), draw.choice(FONTS), size, smooth=smooth)
        rows, columns = background.shape
        height, width = mask.shape
        if height >= rows or width >= columns:
            continue
        y, x = draw.randrange(rows - height), draw.randrange(columns - width)
        low, high = (float(v) for v in np.percentile(background, [1, 99.5]))
        under = background[y : y + height, x : x + width].astype(np.float64)
        level = float(np.median(under))
        step = (high - low) * contrast
        target = level + step if bright else level - step
        if not low - step / 2 <= target <= high + step:
            target = level + step  # dark text on black is none
        painted = under + mask * (target - under)
        frame = background.copy()
        limits = np.iinfo(background.dtype)
        frame[y : y + height, x : x + width] = np.clip(np.rint(painted), limits.min, limits.max)
        kind = "border" if level < low + 0.05 * (high - low) else "anatomy"
        yield Burned(frame, Box(y, x, y + height, x + width), size, contrast, bright, smooth, kind)


def _words(draw: random.Random) -> str:
    name = draw.choice(("SMITH^JOHN", "OKONKWO, ADA", "Evans Rhys", "KAUR JASPREET", "O'Brien M."))
    number = "".join(draw.choice("0123456789") for _ in range(10))
    date = f"{draw.randrange(1, 29):02}/{draw.randrange(1, 13):02}/19{draw.randrange(30, 99)}"
    return draw.choice(
        (name, f"{name} {date}", f"ID {number}", date, f"NHS {number[:3]} {number[3:6]} {number[6:]}")
    )


def _line(text: str, font: str, size_px: int, *, smooth: bool) -> NDArray[np.float64]:
    """Coverage 0..1 of the text's own pixels, without a margin."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font
    face = ImageFont.truetype(str(path), size_px)
    left, top, right, bottom = face.getbbox(text)
    picture = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    pen = ImageDraw.Draw(picture)
    pen.fontmode = "L" if smooth else "1"
    pen.text((2 - left, 2 - top), text, font=face, fill=255)
    mask = np.asarray(picture, np.float64) / 255
    lines, columns = np.nonzero(mask)
    return mask[lines.min() : lines.max() + 1, columns.min() : columns.max() + 1]


def covered(box: Box, found: list[Box]) -> float:
    """The part of ``box`` that lies in any of ``found``."""
    seen = np.zeros((box.y1 - box.y0, box.x1 - box.x0), bool)
    for one in found:
        part = Box(one.y0 - box.y0, one.x0 - box.x0, one.y1 - box.y0, one.x1 - box.x0).clipped(*seen.shape)
        seen[part.y0 : part.y1, part.x0 : part.x1] = True
    return float(seen.mean())
