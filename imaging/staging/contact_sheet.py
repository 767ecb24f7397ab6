"""Pages of thumbnails for a person to look through: patients' images, so they exist sealed or not at all.

What was staged is drawn from the copy itself into ``contact-sheet/001.png`` …, objects of the copy: they show
nothing that the copy does not hold.  What was held for a person (``held-for-person``) must not be where a workload can
read it; it is drawn into a sealed copy of its own, under a key of its own, see :mod:`imaging.standalone`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from zarr.abc.store import Store

from imaging.layout import NAMESPACE
from imaging.pictures import grey
from imaging.staging import answers
from imaging.staging.items import Bench
from imaging.staging.radiology.burned_in import SHOWN_FRAMES
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.refusals import Refused

FOLDER = "contact-sheet"
HELD_LIST = "held.json"
COLUMNS, ROWS = 6, 6
TILE_PX = 224
_CAPTION_PX, _GAP_PX = 18, 6
_HELD_COLUMNS, _HELD_ROWS, _HELD_TILE_PX = 3, 3, 480
_MAX_FRAME_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """``pixels``: uint8 (y, x, 3), or None where none could be drawn."""

    caption: str
    pixels: NDArray[np.uint8] | None


def staged_pages(store: Store, items: Sequence[str], threads: int) -> Iterator[tuple[str, bytes]]:
    """(path, PNG) of each page over these items of a copy, in their order; memory is a page's."""
    with ThreadPoolExecutor(threads, "sheet") as pool:
        for number, some in enumerate(batched(items, COLUMNS * ROWS), start=1):
            drawn = pool.map(
                lambda item: Thumbnail(item, _middle(zarr.open_group(store, path=item, mode="r"))), some
            )
            yield f"{FOLDER}/{number:03d}.png", _page(list(drawn), COLUMNS, TILE_PX)


def held_pages(
    numbered: Iterable[tuple[int, Sequence[NDArray[np.uint8]]]], why: Mapping[int, str]
) -> Iterator[tuple[str, bytes]]:
    """(path, PNG) of pages over held items: some frames of each, large enough to read what is burned in.  ``why``: the
    rule that holds an item."""
    thumbnails = (
        Thumbnail(
            " ".join(filter(None, (f"item {number}, {place} of {len(frames)} shown", why.get(number)))), frame
        )
        for number, frames in numbered
        for place, frame in enumerate(frames or [None], start=1)
    )
    for number, some in enumerate(batched(thumbnails, _HELD_COLUMNS * _HELD_ROWS), start=1):
        yield f"{FOLDER}/{number:03d}.png", _page(some, _HELD_COLUMNS, _HELD_TILE_PX)


def held_frames(bench: Bench, number: int) -> list[NDArray[np.uint8]]:
    """The work of a worker: frames of one instance as pictures, all or ``SHOWN_FRAMES`` evenly spread of them; those
    before the first that breaks."""
    (header,) = bench.reader.headers([number], frozenset())
    if not isinstance(header, InstanceHeader):
        return []
    count = len(header.frames)
    wanted = sorted({round(place) for place in np.linspace(0, count - 1, min(count, SHOWN_FRAMES))})
    found: list[NDArray[np.uint8]] = []
    try:
        for said, blob in bench.reader.ask(number, "frames", frames=wanted):
            pixels = decoded(said, blob)
            inverted = header.photometric == "MONOCHROME1"
            # What the file calls padding is windowed too: a person is to see whatever may be written there.
            found.append(_fitted(_grey_or_colour(pixels, inverted=inverted), _HELD_TILE_PX))
    except Refused:
        return found
    return found


def decoded(header: bytes, blob: bytearray) -> NDArray[Any]:
    """A parser's frame, (y, x) or (y, x, 3), if it is of the size and type that it says; raises :class:`Refused`."""
    try:
        said = answers.said(header)
        dtype, shape = np.dtype(str(said["dtype"])), tuple(int(part) for part in said["shape"])
    except answers.LIES:
        raise Refused("parser-crashed") from None
    sound = (
        dtype.kind in "iuf" and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) and min(shape) > 0
    )
    if not sound or len(blob) > _MAX_FRAME_BYTES or len(blob) != math.prod(shape) * dtype.itemsize:
        raise Refused("parser-crashed")
    return np.frombuffer(blob, dtype).reshape(shape)


def _middle(group: zarr.Group) -> NDArray[np.uint8] | None:
    """The middle slice of the smallest level, whatever its axes; None for an item without an image."""
    described: Any = group.attrs.get("ome")
    if not described:
        return None
    multiscale = described["multiscales"][0]
    axes = [axis["name"] for axis in multiscale["axes"]]
    array = group[multiscale["datasets"][-1]["path"]]
    assert isinstance(array, zarr.Array)
    chosen: list[Any] = []
    for axis, length in zip(axes, array.shape, strict=True):
        whole = axis in "yx" or (axis == "c" and length == 3)
        chosen.append(slice(None) if whole else 0 if axis == "c" else length // 2)
    pixels = np.asarray(array[tuple(chosen)])
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    ours: Any = group.attrs.get(NAMESPACE) or {}
    told = ours.get("padding")
    padding = None if told is None else (int(told["first"]), int(told["last"]))
    return _fitted(_grey_or_colour(pixels, padding), TILE_PX)


def _grey_or_colour(
    pixels: NDArray[Any], padding: tuple[int, int] | None = None, inverted: bool = False
) -> NDArray[np.uint8]:
    """As uint8 (y, x, 3): 8-bit colour as it is, all else stretched from its 1st to its 99.5th percentile."""
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return pixels
    eight = grey(pixels, padding, top=99.5, inverted=inverted)
    return eight if eight.ndim == 3 else np.repeat(eight[:, :, None], 3, axis=2)


def _fitted(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """As large as fits a tile: shrunk, or enlarged by a whole factor so that all pixels stay squares of one size."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX)
    elif scale >= 2:
        size = (image.width * int(scale), image.height * int(scale))
        image = image.resize(size, Image.Resampling.NEAREST)
    return np.asarray(image)


def _page(thumbnails: Sequence[Thumbnail], columns: int, side: int) -> bytes:
    rows = math.ceil(len(thumbnails) / columns)
    step_x, step_y = side + _GAP_PX, side + _CAPTION_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, rows * step_y + _GAP_PX), (24, 28, 30))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, one in enumerate(thumbnails):
        left = _GAP_PX + place % columns * step_x
        top = _GAP_PX + place // columns * step_y
        draw.rectangle((left, top, left + side - 1, top + side - 1), fill=(0, 0, 0))
        if one.pixels is None:
            draw.text((left + 8, top + 8), "no picture", (150, 150, 150), font)
        else:
            image = Image.fromarray(one.pixels)
            sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        draw.text((left, top + side + 2), one.caption, (225, 232, 230), font)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
