"""Paint over rectangles of a frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.pixels.boxes import Box


def blank(frame: NDArray[Any], boxes: Iterable[Box], fill: float | None = None) -> NDArray[Any]:
    """A copy of ``frame``, (y, x) or (y, x, samples), with every pixel of ``boxes`` set to ``fill``.

    Outside the boxes not a bit changes.  ``fill``: Pixel Padding Value where the image has one; None takes
    the least value of the type, 0 for colour and floating point.  Raises ValueError for a fill that the type
    can't hold: it would wrap around into a visible value.
    """
    if frame.ndim not in (2, 3):
        raise ValueError("a frame has two axes, or three with its samples")
    value = _fill(frame, fill)
    rows, columns = frame.shape[:2]
    done = frame.copy()
    for box in boxes:
        part = box.clipped(rows, columns)
        done[part.y0 : part.y1, part.x0 : part.x1] = value
    return done


def _fill(frame: NDArray[Any], fill: float | None) -> Any:
    if fill is None:
        grey_integer = frame.dtype.kind in "iu" and frame.ndim == 2
        return np.iinfo(frame.dtype).min if grey_integer else frame.dtype.type(0)
    if frame.dtype.kind in "iu":
        limits = np.iinfo(frame.dtype)
        if int(fill) != fill or not limits.min <= fill <= limits.max:
            raise ValueError("the fill is not a value of the frame's type")
        return int(fill)
    if frame.dtype.kind == "b" and fill not in (0, 1):
        raise ValueError("the fill is not a value of the frame's type")
    return fill
