"""Half the resolution, by 2×2 means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Average 2×2 blocks of (y, x, channel), integers rounded to nearest; an odd edge is repeated."""
    odd_y, odd_x = pixels.shape[0] % 2, pixels.shape[1] % 2
    if odd_y or odd_x:
        pixels = np.pad(pixels, ((0, odd_y), (0, odd_x), (0, 0)), mode="edge")
    whole = pixels.dtype.kind != "f"
    wide = {1: np.uint16, 2: np.uint32}[pixels.dtype.itemsize] if whole else np.float64
    rows = pixels[0::2].astype(wide)
    rows += pixels[1::2]
    total: NDArray[Any] = rows[:, 0::2] + rows[:, 1::2]
    if whole:
        total += 2
        total >>= 2
    else:
        total /= 4
    return total.astype(pixels.dtype)
