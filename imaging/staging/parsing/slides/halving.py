"""Half the resolution, by 2×2 means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2×2 blocks of (y, x, channel), rounding to nearest; an odd edge is repeated."""
    odd_y, odd_x = pixels.shape[0] % 2, pixels.shape[1] % 2
    if odd_y or odd_x:
        pixels = np.pad(pixels, ((0, odd_y), (0, odd_x), (0, 0)), mode="edge")
    total = pixels[0::2, 0::2].astype(np.uint16)
    total += pixels[1::2, 0::2]
    total += pixels[0::2, 1::2]
    total += pixels[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
