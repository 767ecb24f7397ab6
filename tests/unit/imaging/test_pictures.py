"""Pictures of a copy show the image, whatever surrounds it and however small it is."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image
from zarr.storage import MemoryStore

from imaging import pictures
from imaging.staging import contact_sheet

CT = {"first": -32768, "last": -32768}


def series(store: MemoryStore, values: np.ndarray[Any, Any], padding: dict[str, int] | None) -> zarr.Group:
    axes = "zyx"
    datasets = [{"path": "0"}]
    ome = {"multiscales": [{"axes": [{"name": axis} for axis in axes], "datasets": datasets}]}
    attributes = {"ome": ome, "hdrs-hpc": {"dicom": {}, "padding": padding}}
    group = zarr.create_group(store, path="series/a", attributes=attributes)
    group.create_array("0", data=values)
    return group


def scan(fill: int, side: int = 96) -> np.ndarray[Any, Any]:
    """A disc whose halves are 0 and 100, in a field of ``fill``."""
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(y**2 + x**2 < (side * 0.45) ** 2, np.where(x < 0, 0, 100), fill).astype(np.int16)[None]


def on_sheet(values: np.ndarray[Any, Any], padding: dict[str, int] | None) -> np.ndarray[Any, Any]:
    """The tile of a page of one item, (y, x)."""
    store = MemoryStore()
    series(store, values, padding)
    ((_, png),) = contact_sheet.staged_pages(store, ["series/a"], 1)
    page = np.asarray(Image.open(BytesIO(png)).convert("L"))
    return page[6 : 6 + contact_sheet.TILE_PX, 6 : 6 + contact_sheet.TILE_PX]


@pytest.mark.parametrize(
    ("fill", "padding"),
    [
        (-32768, CT),
        (-32768, None),
        (-2000, {"first": -3000, "last": -2000}),
        (30000, {"first": 30000, "last": 30000}),
    ],
)
def test_padding_does_not_flatten_the_image_beside_it(fill: int, padding: dict[str, int] | None) -> None:
    drawn = np.asarray(pictures.draw(series(MemoryStore(), scan(fill), padding)))
    height, width = drawn.shape
    assert (drawn[height // 2, width // 3], drawn[height // 2, 2 * width // 3]) == (0, 255)
    tile = on_sheet(scan(fill), padding)
    assert (tile[112, 80], tile[112, 144]) == (0, 255)


@pytest.mark.parametrize(("side", "shown"), [(40, 200), (96, 192), (150, 150), (500, 224)])
def test_a_small_image_fills_its_tile_by_a_whole_factor(side: int, shown: int) -> None:
    tile = on_sheet(np.full((1, side, side), 7, np.int16) + np.eye(side, dtype=np.int16)[None] * 5, None)
    lit = np.flatnonzero(tile.max(axis=0))
    assert lit[-1] - lit[0] + 1 == shown


def test_an_image_of_padding_alone_is_drawn() -> None:
    store = MemoryStore()
    drawn = pictures.draw(series(store, np.full((2, 8, 8), -32768, np.int16), CT))
    assert np.unique(np.asarray(drawn)[:100]).size == 1


@pytest.mark.parametrize("size", [64, 500, 768])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_a_volumes_picture_is_as_wide_as_wanted(size: int, count: int) -> None:
    drawn = pictures.draw(series(MemoryStore(), np.repeat(scan(-1000), count, axis=0), CT), size)
    columns = {1: 1, 2: 2, 5: 3, 16: 4}[count]
    assert drawn.width == size // columns * columns
    assert drawn.width > size - columns
