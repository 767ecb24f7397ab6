"""Values that a lossy codec set beyond what Bits Stored holds: clipped, never cut to their low bits.

Lossy codecs ring at edges.  Where the codestream holds more bits than the image, a white pixel then comes out whiter
than white; without its high bits it would be black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.parsing.dicom.codestreams import Decoded
from imaging.staging.parsing.dicom.pixel_format import PixelFormat
from imaging.staging.parsing.unreadable import Unreadable


def lossy_grey(decoded: Decoded, form: PixelFormat) -> tuple[NDArray[Any], int]:
    """(rows, columns) stored values within the range of Bits Stored and Pixel Representation, and how many were
    beyond it.  ``form.high`` has no part in it: codestreams hold their samples at the bottom.

    Raises :class:`Unreadable` where header and codestream contradict each other so that no reading is safe.
    """
    check_sign(decoded, form)
    low, high = (-(1 << (form.stored - 1)), (1 << (form.stored - 1)) - 1) if form.signed else (
        0, (1 << form.stored) - 1
    )  # fmt: skip
    values = _numbers(decoded, form)
    if decoded.precision > form.container:
        # More bits than a pixel has room for: a little more than white is overshoot, more is another image.
        span = high - low + 1
        if int(values.max(initial=0)) > high + span or int(values.min(initial=0)) < low - span:
            raise Unreadable("decode-failed")
    given, beyond = clipped(values, low, high)
    return given.astype(f"<{'i' if form.signed else 'u'}{form.container // 8}"), beyond


def _numbers(decoded: Decoded, form: PixelFormat) -> NDArray[Any]:
    """What the samples mean, before clipping."""
    samples, precision = decoded.samples, decoded.precision
    if samples.dtype.kind == "i":
        if form.signed or precision > form.stored:
            return samples
        return samples.astype(np.int64) & ((1 << precision) - 1)  # an unsigned value's bits, called signed
    if not form.signed or precision < form.stored:
        return samples
    # Two's complement in a codestream that knows no sign: of its own width, or of Bits Stored, which then shows by
    # negative values that would be far beyond anything overshooting.
    most = int(samples.max(initial=0))
    half = 1 << (form.stored - 1)
    bits = form.stored if half + half // 2 <= most < 2 * half else precision
    wide = samples.astype(np.int64)
    return np.where(wide >> (bits - 1) & 1, wide - (1 << bits), wide)


def clipped(values: NDArray[Any], low: int, high: int) -> tuple[NDArray[Any], int]:
    """``values`` within ``low`` and ``high`` (inclusive), and how many were not; the same array where all were."""
    if values.size == 0 or (low <= int(values.min()) and int(values.max()) <= high):
        return values, 0
    # NumPy compares exactly with Python integers of any size; clipping needs bounds of the array's own type.
    limits = np.iinfo(values.dtype)
    beyond = int(np.count_nonzero(values < low)) + int(np.count_nonzero(values > high))
    return np.clip(values, max(low, int(limits.min)), min(high, int(limits.max))), beyond


def check_sign(decoded: Decoded, form: PixelFormat) -> None:
    """Raises :class:`Unreadable` where a codestream has fewer bits than the header says, none of them called a sign,
    and values fill them: they may be negative."""
    narrow = form.signed and decoded.samples.dtype.kind == "u" and decoded.precision < form.stored
    if narrow and int(decoded.samples.max()) >> (decoded.precision - 1):
        raise Unreadable("decode-failed")
