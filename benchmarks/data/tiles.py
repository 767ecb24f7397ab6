"""Real tiles of stained tissue, as JPEG codestreams that stand alone, and mosaics of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

TILE = 240
QUALITY = 75
_DISTINCT = 96
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""APP14 with transform 0: without it decoders take three components for YCbCr."""


@dataclass(frozen=True)
class TileSet:
    """``streams``: JPEG baseline, RGB, 240 × 240 each; ``pixels``: what they decode to, (n, y, x, 3)."""

    streams: list[bytes]
    pixels: Pixels
    source: str


def tile_set(slide: Path | None) -> TileSet:
    """The inner tiles of an Aperio SVS, codestreams unchanged; else tiles cut and encoded from wsidicom-data's."""
    if slide is None:
        streams, source = _from_wsidicom_data(), "wsidicom-data"
    else:
        streams, source = _from_svs(slide), "svs"
    with ThreadPoolExecutor(2) as pool:
        pixels = list(pool.map(imagecodecs.jpeg8_decode, streams))
    return TileSet(streams, np.stack(pixels), source)


def places(tiles: TileSet, side: int) -> NDArray[np.intp]:
    """Which tile lies where in a slide of ``side`` × ``side`` tiles: drawn, but the same each time."""
    return np.random.default_rng(4711).integers(0, len(tiles.streams), (side, side), dtype=np.intp)


def smaller(tiles: TileSet, chosen: NDArray[np.intp], factor: int) -> Pixels:
    """The mosaic averaged over ``factor`` × ``factor`` pixels, (y, x, 3)."""
    edge = TILE // factor
    blocks = tiles.pixels.reshape(len(tiles.pixels), edge, factor, edge, factor, 3)
    averaged = np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
    return mosaic(averaged, chosen)


def mosaic(pixels: Pixels, chosen: NDArray[np.intp]) -> Pixels:
    """Tiles (n, y, x, 3) put together."""
    rows, columns = chosen.shape
    _, high, wide, _ = pixels.shape
    made = np.empty((rows * high, columns * wide, 3), np.uint8)
    for row in range(rows):
        strip = pixels[chosen[row]].transpose(1, 0, 2, 3)
        made[row * high : (row + 1) * high] = strip.reshape(high, columns * wide, 3)
    return made


def encoded(pixels: Pixels) -> Iterator[bytes]:
    """Tiles of a picture, row by row; those at its edge are filled up."""
    missing = [-size % TILE for size in pixels.shape[:2]]
    whole = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    cut = [
        whole[top : top + TILE, left : left + TILE]
        for top in range(0, whole.shape[0], TILE)
        for left in range(0, whole.shape[1], TILE)
    ]
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(_encode, cut)


def _encode(tile: Pixels) -> bytes:
    made: Any = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(tile), level=QUALITY, colorspace="RGB", outcolorspace="RGB", subsampling="444"
    )
    return bytes(made)


def _from_svs(slide: Path) -> list[bytes]:
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages.first
        if not page.is_tiled or page.tile != (TILE, TILE) or page.compression != 7:
            raise ValueError("the slide is not tiled as 240 × 240 JPEG")
        tables = bytes(page.jpegtables or b"")[2:-2]
        across, down = page.imagewidth // TILE, page.imagelength // TILE
        columns = -(-page.imagewidth // TILE)
        colour = _ADOBE_RGB if page.photometric == 2 else b""
        streams = []
        for row in range(down):
            for column in range(across):
                number = row * columns + column
                tiff.filehandle.seek(page.dataoffsets[number])
                raw = tiff.filehandle.read(page.databytecounts[number])
                streams.append(b"".join((raw[:2], colour, tables, raw[2:])))
    if not streams:
        raise ValueError("the slide has no whole tile")
    return streams


def _from_wsidicom_data() -> list[bytes]:
    """Its picture mirrored to twice the size without seams, cut at other places each time, turned."""
    spec = find_spec("wsidicom_data")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("wsidicom_data", name="wsidicom_data")
    with Image.open(Path(spec.submodule_search_locations[0], "data", "test_tile.png")) as image:
        one = np.asarray(image.convert("RGB"))
    row = np.hstack([one, one[:, ::-1]])
    whole = np.vstack([row, row[::-1]])
    whole = np.tile(whole, (3, 3, 1))
    shifts = np.random.default_rng(42).integers(0, 2 * min(one.shape[:2]), (_DISTINCT, 2))
    cut = [
        np.rot90(whole[top : top + TILE, left : left + TILE], number % 4)
        for number, (top, left) in enumerate(shifts.tolist())
    ]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_encode, cut))
