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


def shrink(
    pixels: NDArray[Any],
    corner: tuple[int, int],
    box: tuple[int, int, int, int],
    factors: tuple[float, float],
) -> NDArray[Any]:
    """``box`` (top, left, bottom, right) of a level as means over the area of each of its pixels in a larger one.

    ``pixels``: (y, x, samples) of the larger level, from its pixel ``corner`` (y, x) on; a pixel of the box is
    ``factors`` (y, x, above 1, not always whole) pixels of it.  Beyond the last row and column these are repeated.
    Integers are rounded to nearest.
    """
    values = pixels
    for axis, factor in enumerate(factors):
        low, high = _spans(box[axis], box[axis + 2], corner[axis], factor, pixels.shape[axis])
        values = np.moveaxis(_means(np.moveaxis(values, axis, 0), low, high), 0, axis)
    if pixels.dtype.kind != "f":
        values = np.floor(values + 0.5)
    return values.astype(pixels.dtype)


def _spans(
    first: int, last: int, corner: int, factor: float, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each pixel begins and ends among ``size`` larger ones that begin at ``corner``."""
    edges = np.arange(first, last + 1) * factor - corner
    low = np.clip(edges[:-1], 0, size - 1)
    return low, np.clip(edges[1:], low + 1e-6, size)


def _means(lines: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of ``lines`` (along the first axis) between fractional places."""
    first, stop = np.floor(low).astype(np.intp), np.ceil(high).astype(np.intp)
    padded = np.concatenate([lines, np.zeros_like(lines[:1])])
    pairs = np.stack([first, stop], axis=1).reshape(-1)
    sums = np.add.reduceat(padded, pairs, axis=0, dtype=np.float64)[::2]
    shape = (-1,) + (1,) * (lines.ndim - 1)
    sums -= (low - first).reshape(shape) * lines[first]
    sums -= (stop - high).reshape(shape) * lines[stop - 1]
    return sums / (high - low).reshape(shape)
