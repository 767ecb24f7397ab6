"""A slide of a copy as one picture, drawn from the level that is just large enough for it.

Levels that staging encoded are decoded here.  Codestreams of the scanner are foreign bytes: they are decoded by a
parser (see :mod:`imaging.staging.pool`), not beside the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image

from imaging.layout import NAMESPACE, chunk_path
from imaging.staging import answers
from imaging.staging.pool import ParserPool, as_descriptor
from imaging.staging.refusals import Refused

MOST_PX = 16_384
"""Longer side of a level that is decoded for a picture."""
_MOST_FACTOR = 16
_COLOURS = ((255, 255, 255), (0, 255, 0), (255, 0, 255), (0, 160, 255))

ReadObject = Callable[[str], bytes]
"""An object of the copy by its path."""


def slide_pixels(group: zarr.Group, size: int, read: ReadObject, parsers: ParserPool) -> list[NDArray[Any]]:
    """Planes of the smallest level whose longer side has ``size`` pixels, or of the largest that can be drawn: one of
    (y, x, 3) in colour, else one (y, x) a channel, of its middle focal plane; maybe averaged, never below ``size``.

    Raises :class:`Refused` if a codestream can't be decoded.
    """
    ours: Any = group.attrs[NAMESPACE]
    levels = [(_array(group, level["path"]), str(level["pixels"])) for level in ours["levels"]]
    most = min(_MOST_FACTOR * size, MOST_PX)
    drawable = [(array, pixels) for array, pixels in levels if max(array.shape[-2:]) <= most]
    enough = [one for one in drawable if max(one[0].shape[-2:]) >= size]
    array, pixels = enough[-1] if enough else (drawable or levels[-1:])[0]
    color = array.chunks[0] == 3
    depth = array.shape[1] // 2 if array.ndim == 4 else None
    planes = []
    for channel in range(1 if color else min(array.shape[0], len(_COLOURS))):
        if pixels.startswith("original-"):
            planes.append(
                _decoded(group, array, pixels.removeprefix("original-"), channel, depth, size, read, parsers)
            )
        else:
            chosen = (slice(None) if color else channel, *(() if depth is None else (depth,)))
            values = np.asarray(array[chosen])
            planes.append(values.transpose(1, 2, 0) if color else values)
    return planes


def shown(planes: list[NDArray[Any]], grey: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """As 8 bits: colour as it is, one channel in grey, several in colours of their own, added up."""
    if planes[0].ndim == 3:
        return planes[0].astype(np.uint8)
    if len(planes) == 1:
        return grey(planes[0])
    total = np.zeros((*planes[0].shape, 3), np.uint16)
    for plane, colour in zip(planes, _COLOURS[1:] + _COLOURS[:1], strict=False):
        total += (grey(plane)[..., None].astype(np.uint16) * np.asarray(colour, np.uint16)) // 255
    return np.minimum(total, 255).astype(np.uint8)


def _decoded(
    group: zarr.Group,
    array: zarr.Array[Any],
    codec: str,
    channel: int,
    depth: int | None,
    size: int,
    read: ReadObject,
    parsers: ParserPool,
) -> NDArray[Any]:
    samples, (high, wide) = array.chunks[0], array.chunks[-2:]
    height, width = array.shape[-2:]
    assert array.shards is not None
    down, across = array.shards[-2] // high, array.shards[-1] // wide
    factor = _common_factor(high, wide, max(height, width) // size)
    rows, columns = -(-height // array.shards[-2]), -(-width // array.shards[-1])
    step = (down * high // factor, across * wide // factor)
    whole = np.full((rows * step[0], columns * step[1], samples), array.fill_value, array.dtype)
    for row in range(rows):
        for column in range(columns):
            path = chunk_path(
                f"{group.path}/{array.basename}", channel, *(() if depth is None else (depth,)), row, column
            )
            place = whole[row * step[0] : (row + 1) * step[0], column * step[1] : (column + 1) * step[1]]
            request = {"codec": codec, "tile": [high, wide], "samples": samples, "across": [down, across]}
            with as_descriptor(read(path)) as file:
                ((header, blob),) = parsers.ask(
                    file,
                    "shard",
                    **request,
                    factor=factor,
                    fill=int(array.fill_value),
                    dtype=array.dtype.name,
                )
            said = answers.said(header)
            if said.get("shape") != list(place.shape) or len(blob) != place.nbytes:
                raise Refused("parser-crashed")
            place[...] = np.frombuffer(blob, array.dtype).reshape(place.shape)
    cut = whole[: -(-height // factor), : -(-width // factor)]
    return cut if samples == 3 else cut[..., 0]


def _common_factor(high: int, wide: int, most: int) -> int:
    """The largest number up to ``most`` by which a tile's sides can both be divided."""
    return max(factor for factor in range(1, max(1, most) + 1) if high % factor == wide % factor == 0)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def fitted(pixels: NDArray[np.uint8], size: int) -> Image.Image:
    """As a picture whose longer side has ``size`` pixels: shrunk by averaging, or enlarged with pixels left square."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = size / max(image.size)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)
