"""Kept codestreams of a copy, decoded for a picture: a scanner's bytes are foreign wherever they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.parsing.slides import jpeg2000
from imaging.staging.parsing.slides.tiff import decode_jpeg
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.halving import shrink

_ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)
_CRC_BYTES = 4


def read_shard(data: bytes, request: dict[str, Any]) -> NDArray[Any]:
    """Tiles of a shard (codec ``sharding_indexed``, the index at its end) side by side, (y, x, samples).

    ``request``: ``codec`` (``jpeg`` or ``jpeg2000``), ``tile`` and ``across`` (y, x), ``samples``, ``dtype``, ``fill``
    where there is no tile, and ``factor``, by which each tile is averaged (it divides the tile's sides).  Raises
    :class:`Unreadable`.
    """
    (high, wide), (down, across) = request["tile"], request["across"]
    factor, samples = int(request["factor"]), int(request["samples"])
    size = down * across * 16
    index = np.frombuffer(data, "<u8", count=size // 8, offset=len(data) - size - _CRC_BYTES).reshape(
        down, across, 2
    )
    small = (high // factor, wide // factor)
    canvas = np.full((down * small[0], across * small[1], samples), request["fill"], request["dtype"])
    for row, column in np.argwhere(index[..., 0] != _ABSENT):
        start, length = (int(part) for part in index[row, column])
        stream = data[start : start + length]
        tile = decode_jpeg(stream) if request["codec"] == "jpeg" else jpeg2000.decode(stream, ycbcr=False)
        if tile.shape != (high, wide, samples) or tile.dtype != canvas.dtype:
            raise Unreadable("truncated-tile")
        if factor > 1:
            tile = shrink(tile, (0, 0), (0, 0, *small), (float(factor), float(factor)))
        canvas[row * small[0] : (row + 1) * small[0], column * small[1] : (column + 1) * small[1]] = tile
    return canvas
