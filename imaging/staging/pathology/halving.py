"""Half the resolution, by 2×2 means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP_SAMPLES = 1 << 17
"""Samples averaged at once: what lies between the additions stays in a core's cache."""


def halve(pixels: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Average 2×2 blocks of (y, x, channel), integers rounded to nearest; an odd edge is repeated.

    Into ``out`` (of half the size, rounded up) or new memory; gives it.
    """
    height, width, channels = pixels.shape
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        height, width = pixels.shape[:2]
    if out is None:
        out = np.empty((height // 2, width // 2, channels), dtype=pixels.dtype)
    lines = max(1, _STRIP_SAMPLES // (2 * width * channels))
    for top in range(0, height // 2, lines):
        _halve_strip(pixels[2 * top : 2 * (top + lines)], out[top : top + lines])
    return out


def _halve_strip(pixels: NDArray[Any], out: NDArray[Any]) -> None:
    channels = pixels.shape[2]
    whole = pixels.dtype.kind != "f"
    wide = {1: np.uint16, 2: np.uint32}[pixels.dtype.itemsize] if whole else np.float64
    rows = np.add(pixels[0::2], pixels[1::2], dtype=wide).reshape(len(out), -1)
    # Each sample with the next pixel's, although every second sum is thrown away: long runs of neighbours are added
    # several at a time, pairs of pixels one by one.
    total = rows[:, :-channels] + rows[:, channels:]
    if whole:
        total += 2
        total >>= 2
    else:
        total /= 4
    narrow = total.astype(pixels.dtype)
    for channel in range(channels):
        out[..., channel] = narrow[:, channel :: 2 * channels]
