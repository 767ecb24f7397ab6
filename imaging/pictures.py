"""Pictures of what a copy holds, for people who staged it: a montage of slices and times, a label's outlines in
colour, a radiograph, a thumbnail of a slide."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from imaging.layout import NAMESPACE
from imaging.slide_picture import fitted, shown

TILES = 16
SIZE_PX = 768
"""Longer side of a picture, if nothing else is wanted."""
TIMES = 4
"""Times shown of a series with an axis t."""


def is_slide(group: zarr.Group) -> bool:
    """Whether it is a slide's, which :func:`imaging.slide_picture.slide_pixels` reads."""
    return "levels" in _ours(group)


def draw_slide(planes: list[NDArray[Any]], size: int = SIZE_PX) -> Image.Image:
    """A slide's picture, its longer side ``size``."""
    return fitted(shown(planes, lambda plane: grey(plane, None, top=99.5)), size)


def draw(group: zarr.Group, size: int = SIZE_PX) -> Image.Image:
    """A picture of one series' group, its longer side ``size``; the data stay in memory only as far as shown."""
    """Slices, evenly spread, of some times; grey values windowed to their own 1st to 99th percentile."""
    array = _array(group, "0")
    ome: Any = group.attrs["ome"]
    axes = [str(axis["name"]) for axis in ome["multiscales"][0]["axes"]]
    sizes = dict(zip(axes, array.shape, strict=True))
    ours = _ours(group)
    places = _places(sizes, channels=_is_segments(ours))
    planes = [_plane(array, axes, place) for place in places]
    tiles = [Image.fromarray(pixels) for pixels in _pixels(planes, ours)]
    return _sheet(tiles, [_caption(place, sizes, ours) for place in places], size)


def _is_segments(ours: dict[str, Any]) -> bool:
    return ours.get("encoding") == "channels"


def _places(sizes: dict[str, int], *, channels: bool) -> list[dict[str, int]]:
    """Up to :data:`TILES` planes: times in rows, or segments, slices along them."""
    times = _spread(sizes.get("t", 1), TIMES if sizes.get("z", 1) > 1 else TILES)
    segments = _spread(sizes["c"], TIMES) if channels else [0]
    slices = _spread(sizes.get("z", 1), max(1, TILES // (len(times) * len(segments))))
    return [
        {"t": time, **({"c": segment} if channels else {}), "z": place}
        for time in times
        for segment in segments
        for place in slices
    ]


def _spread(size: int, most: int) -> list[int]:
    return sorted({round(float(place)) for place in np.linspace(0, size - 1, min(most, size))})


def _plane(array: zarr.Array[Any], axes: list[str], place: dict[str, int]) -> NDArray[Any]:
    """(y, x), or (y, x, 3) of a colour image."""
    at = tuple(slice(None) if name in "yx" or name not in place else place[name] for name in axes)
    plane = np.asarray(array[at])
    return plane.transpose(1, 2, 0) if plane.ndim == 3 else plane


def _pixels(planes: list[NDArray[Any]], ours: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """As they are shown, 8 bits."""
    if ours.get("encoding") == "label-map":
        return [_coloured(plane) for plane in planes]
    if planes[0].ndim == 3:
        top = 1 if planes[0].dtype == np.uint8 else np.iinfo(planes[0].dtype).max / 255
        return [(plane / top).astype(np.uint8) for plane in planes]
    told = ours.get("padding")
    padding = None if told is None else (int(told["first"]), int(told["last"]))
    return list(grey(np.stack(planes), padding, inverted=_inverted(ours)))


def grey(
    values: NDArray[Any], padding: tuple[int, int] | None, *, top: float = 99, inverted: bool = False
) -> NDArray[np.uint8]:
    """Values windowed to their own 1st to ``top``-th percentile.

    What is no image has no part in the window: values that are not finite, those from the first to the last of
    ``padding``, and a signed type's least value, which scanners fill with whether or not they say so.  It is drawn all
    the same, beyond one of the window's ends: something may be written in it.
    """
    outside = _outside(values, padding)
    shown = values[~outside]
    low, high = np.percentile(shown, (1, top)) if shown.size else (0.0, 1.0)
    if high <= low:  # a mask: nearly all of it is one value
        low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
    scaled = np.clip((np.nan_to_num(values.astype(np.float64), nan=low) - low) / max(high - low, 1e-9), 0, 1)
    return (255 * (1 - scaled if inverted else scaled)).astype(np.uint8)


def _outside(values: NDArray[Any], padding: tuple[int, int] | None) -> NDArray[np.bool_]:
    outside = ~np.isfinite(values)
    if padding is not None:
        outside |= (values >= padding[0]) & (values <= padding[1])
    if values.dtype.kind == "i":
        outside |= values == np.iinfo(values.dtype).min
    return outside if not outside.all() else np.zeros_like(outside)


def _inverted(ours: dict[str, Any]) -> bool:
    return "MONOCHROME1" in (
        ours.get("source", {}).get("photometric"),
        ours["dicom"].get("PhotometricInterpretation"),
    )


def _coloured(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """A colour a label, of hues as far apart as the golden ratio puts them."""
    image = np.zeros((*labels.shape, 3), dtype=np.uint8)
    for label in np.unique(labels[labels != 0]):
        image[labels == label] = [
            255 * part for part in colorsys.hsv_to_rgb(int(label) * 0.618034 % 1, 0.7, 1)
        ]
    return image


def _caption(place: dict[str, int], sizes: dict[str, int], ours: dict[str, Any]) -> str:
    said = []
    if sizes.get("t", 1) > 1:
        axis = ours.get("axis_t", {"meaning": "index", "values": range(sizes["t"])})
        said.append(f"{axis['meaning']} {axis['values'][place['t']]:g}")
    if "c" in place:
        said.append(str(ours["channels"][place["c"]]["name"]))
    if sizes.get("z", 1) > 1:
        said.append(f"z {place['z']}")
    return "  ".join(said)


def _sheet(tiles: list[Image.Image], captions: list[str], size: int) -> Image.Image:
    columns = math.ceil(math.sqrt(len(tiles)))
    side = size // columns
    mode = "RGB" if any(tile.mode == "RGB" for tile in tiles) else "L"
    sheet = Image.new(mode, (columns * side, math.ceil(len(tiles) / columns) * side))
    pen = ImageDraw.Draw(sheet)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        # A slice smaller than its tile is enlarged with its pixels left square: they are what there is to see.
        how = Image.Resampling.NEAREST if max(tile.size) < side else Image.Resampling.LANCZOS
        small = ImageOps.contain(tile, (side, side), how)
        left, top = number % columns * side, number // columns * side
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        pen.text((left + 4, top + side - 15), caption, fill="white", stroke_width=1, stroke_fill="black")
    return sheet


def _ours(group: zarr.Group) -> dict[str, Any]:
    ours = group.attrs[NAMESPACE]
    assert isinstance(ours, dict)
    return ours


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array
