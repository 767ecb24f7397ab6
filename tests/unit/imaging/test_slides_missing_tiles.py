"""Tiles that a stored level lacks although a larger level has tissue there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from slide_copy import Made, make
from slides import he, jpeg, tiles_of, without_tiles, wsm

from imaging.staging.pathology.halving import shrink

CASE = Path(__file__).parents[4] / "shared/data/cases/svs_edge_tile_empty/in/x.svs"


def smooth(height: int, width: int, samples: int = 3) -> NDArray[np.uint8]:
    """Waves that nothing repeats: what is misplaced by a pixel or scaled wrongly shows, and JPEG keeps it."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [
        np.sin(x / (31 + 7 * k)) * np.cos(y / (23 + 5 * k)) + np.sin((x + y) / 97) for k in range(samples)
    ]
    return (120 + 50 * np.stack(waves, axis=-1)).astype(np.uint8)


def means(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Area means: the weight of a pixel in another is how far they overlap."""
    rows, columns = _overlaps(pixels.shape[0], height), _overlaps(pixels.shape[1], width)
    bands = [rows @ band @ columns.T for band in np.moveaxis(pixels.astype(float), 2, 0)]
    return np.stack(bands, axis=-1)


def _overlaps(large: int, small: int) -> NDArray[np.float64]:
    edges = np.arange(small + 1) * (large / small)
    low, high = edges[:-1, None], edges[1:, None]
    place = np.arange(large)[None]
    weights = np.clip(np.minimum(high, place + 1) - np.maximum(low, place), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights)


def pyramid(path: Path, levels: list[NDArray[Any]], **more: Any) -> None:
    """A tiled TIFF, a page a level."""
    options: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"}
    options |= {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    options |= {"compressionargs": {"level": 95}} if more.get("compression", "jpeg") == "jpeg" else {}
    with tifffile.TiffWriter(path) as tiff:
        for number, pixels in enumerate(levels):
            tiff.write(pixels, subfiletype=1 if number else 0, **(options | more))


def off(made: Made, level: int, truth: NDArray[Any]) -> NDArray[np.float64]:
    """How far a level of the copy is off, (y, x)."""
    seen = made.level(level).transpose(1, 2, 0).astype(float)
    return np.abs(seen - truth).max(axis=2)


@pytest.mark.parametrize(
    ("factor", "height", "width"), [(4.0, 64, 80), (2.0, 64, 80), (3.0, 60, 81), (2.56, 64, 75)]
)
def test_shrinking_is_the_mean_over_each_pixels_area(factor: float, height: int, width: int) -> None:
    large = np.random.default_rng(1).integers(0, 256, (height * 3, width * 3, 3)).astype(np.uint8)
    size = (round(large.shape[0] / factor), round(large.shape[1] / factor))
    exact = (large.shape[0] / size[0], large.shape[1] / size[1])
    truth = means(large, *size)
    whole = shrink(large, (0, 0), (0, 0, *size), exact)
    assert np.abs(whole - truth).max() <= 0.51
    # A part of it, from a part of the larger level, is the same.
    top, left = 7, 11
    corner = (int(top * exact[0]), int(left * exact[1]))
    part = shrink(large[corner[0] :, corner[1] :], corner, (top, left, top + 9, left + 13), exact)
    assert np.abs(part - truth[top : top + 9, left : left + 13]).max() <= 0.51


def test_shrinking_repeats_the_last_row_beyond_the_edge_and_keeps_what_is_no_number_where_it_is() -> None:
    large = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 8, 1), np.float32)
    small = shrink(large, (0, 0), (0, 0, 4, 2), (4.0, 4.0))
    assert small[:, 0, 0].tolist() == [1.5, 5.5, 8.5, 9.0]
    large[2, 3, 0] = np.nan
    assert np.isnan(shrink(large, (0, 0), (0, 0, 4, 2), (4.0, 4.0))[:, :, 0]).sum() == 1


@pytest.mark.parametrize(
    "tiles", [[1], [0], [0, 1, 2, 3, 4, 5], [5]], ids=["inner", "corner", "all", "lower edge"]
)
@pytest.mark.parametrize("factor", [4, 2])
def test_an_empty_tile_is_filled_from_the_level_below(tmp_path: Path, tiles: list[int], factor: int) -> None:
    full = smooth(200 * factor, 330 * factor)
    small = means(full, 200, 330)
    pyramid(tmp_path / "x.tif", [full, np.full((200, 330, 3), 7, np.uint8)])
    without_tiles(tmp_path / "x.tif", 1, tiles)
    made = make([tmp_path / "x.tif"])
    # A level without a single tile has no codestream to keep.
    assert made.notes == (["slide-encoded-anew"] if len(tiles) == 6 else []) + ["slide-tiles-filled"]
    assert made.ours()["levels"][1]["tiles_filled"] == len(tiles)
    wrong = off(made, 1, small)
    for number in range(6):
        y, x = number // 3 * 128, number % 3 * 128
        part = wrong[y : y + 128, x : x + 128]
        # What the file holds in that level is another picture: it stays, and only where it is.
        assert (part.max() <= 8 and part.mean() < 1.5) if number in tiles else part.mean() > 20
    # The level that is derived from it shows the filled tiles too.
    assert off(made, 2, means(made.level(1).transpose(1, 2, 0), 100, 165)).mean() < 3


def test_tiles_that_are_there_keep_their_codestreams(tmp_path: Path) -> None:
    full = he(400, 700)
    pyramid(tmp_path / "x.tif", [full, full[::2, ::2]])
    before = make([tmp_path / "x.tif"]).objects
    without_tiles(tmp_path / "x.tif", 1, [2])
    after = make([tmp_path / "x.tif"]).objects
    (path,) = (path for path in before if path.endswith("/1/c/0/0/0"))
    kept = before[path].split(b"\xff\xd8\xff")[1:]
    assert len(kept) == 6
    assert sum(b"\xff\xd8\xff" + stream in after[path] for stream in kept[:2] + kept[3:5]) == 4


@pytest.mark.parametrize("ratio", [(300, 497), (173, 287)], ids=["nearly 4", "no whole number"])
def test_levels_of_any_ratio_are_filled(tmp_path: Path, ratio: tuple[int, int]) -> None:
    full = smooth(1201, 1990)
    dataset: dict[str, Any] = {"name": "odd", "tile": 128}
    wsm(tmp_path / "0.dcm", full, **dataset)
    small = np.full((*ratio, 3), 9, np.uint8)
    frames = [b"" if number == 1 else jpeg(tile) for number, tile in enumerate(tiles_of(small, 128))]
    wsm(tmp_path / "1.dcm", small, level=1, frames=frames, **dataset)
    made = make([tmp_path / "0.dcm", tmp_path / "1.dcm"])
    if made.ours()["levels"][1]["pixels"] == "derived":
        pytest.fail("the stored level is not in the copy")
    factor = (1201 / ratio[0], 1990 / ratio[1])
    truth = means(full, *ratio) if ratio[0] != 300 else means(smooth(1200, 1988), *ratio)
    assert factor[0] > 1
    part = off(made, 1, truth)[:128, 128:256]
    assert part.max() <= 8
    assert part.mean() < 2.5


def test_a_tile_missing_in_several_levels_comes_from_the_first_that_has_it(tmp_path: Path) -> None:
    full = smooth(1024, 1536)
    levels = [full, *(np.full((1024 // f, 1536 // f, 3), f, np.uint8) for f in (2, 4, 8))]
    pyramid(tmp_path / "x.tif", levels)
    without_tiles(tmp_path / "x.tif", 1, [0, 1, 6, 7])  # its upper left 256 × 256
    without_tiles(tmp_path / "x.tif", 2, [0])
    without_tiles(tmp_path / "x.tif", 3, [0])
    made = make([tmp_path / "x.tif"])
    assert [level.get("tiles_filled") for level in made.ours()["levels"][:4]] == [None, 4, 1, 1]
    assert off(made, 2, means(full, 256, 384))[:128, :128].max() <= 8
    eighth = off(made, 3, means(full, 128, 192))
    assert eighth[:64, :64].max() <= 8
    # Beside it the level above has a picture of its own, which is what the smaller one is made of.
    assert np.abs(made.level(3).transpose(1, 2, 0)[70:120, 70:120].astype(int) - 4).max() <= 2


def test_where_no_level_has_anything_it_is_background(tmp_path: Path) -> None:
    full = smooth(512, 512)
    pyramid(tmp_path / "x.tif", [full, full[::2, ::2]])
    without_tiles(tmp_path / "x.tif", 0, [0, 1, 4, 5])
    without_tiles(tmp_path / "x.tif", 1, [0])
    made = make([tmp_path / "x.tif"])
    assert made.notes == ["slide-without-some-tiles"]
    assert "tiles_filled" not in made.ours()["levels"][1]
    assert (made.level(1)[:, :128, :128] == 255).all()


def test_a_missing_tile_of_level_0_stays_background_whatever_a_smaller_level_shows(tmp_path: Path) -> None:
    full = smooth(512, 512)
    pyramid(tmp_path / "x.tif", [full, full[::2, ::2]])
    without_tiles(tmp_path / "x.tif", 0, [5])
    made = make([tmp_path / "x.tif"])
    assert (made.level(0)[:, 128:256, 128:256] == 255).all()
    assert made.notes == ["slide-without-some-tiles"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_lossless_levels_are_filled_exactly_and_what_is_derived_of_them_too(
    tmp_path: Path, dtype: str
) -> None:
    full = (smooth(800, 1200, 1)[..., 0].astype(float) * (1 if dtype == "uint8" else 100.25)).astype(dtype)
    levels = [full, np.zeros((400, 600), dtype), np.zeros((200, 300), dtype)]
    pyramid(tmp_path / "x.tif", levels, photometric="minisblack", compression="zlib")
    without_tiles(tmp_path / "x.tif", 1)
    without_tiles(tmp_path / "x.tif", 2, [1])
    made = make([tmp_path / "x.tif"])
    assert made.notes == ["slide-tiles-filled"]
    half = means(full[..., None], 400, 600)[..., 0]
    whole = dtype != "float32"
    half = np.floor(half + 0.5) if whole else half
    assert np.allclose(made.level(1)[0], half, rtol=1e-6)
    quarter = means(half[..., None], 200, 300)[..., 0]
    assert np.abs(made.level(2)[0, :128, 128:256] - quarter[:128, 128:256]).max() <= (0.51 if whole else 0.01)
    # The first derived level is averaged from level 2 as the copy has it.
    shown = means(made.level(2)[0].astype(float)[..., None], 100, 150)[..., 0]
    assert np.abs(made.level(3)[0] - shown).max() <= (0.51 if whole else 0.01)
    assert made.level(3)[0, :64, 64:128].min() > 10


def test_jpeg_2000_tiles_are_filled(tmp_path: Path) -> None:
    full = smooth(512, 768)
    options = {
        "compression": "jpeg2000",
        "compressionargs": {"reversible": True, "level": 0, "codecformat": "j2k"},
    }
    pyramid(tmp_path / "x.tif", [full, np.full((256, 384, 3), 5, np.uint8)], **options)
    without_tiles(tmp_path / "x.tif", 1, [4])
    made = make([tmp_path / "x.tif"])
    assert made.ours()["levels"][1]["pixels"] == "original-jpeg2000"
    assert off(made, 1, means(full, 256, 384))[128:256, 128:256].max() <= 0.51


def test_ome_tiff_levels_are_filled(tmp_path: Path) -> None:
    data = np.stack([smooth(512, 768, 1)[..., 0].astype(np.uint16) * (2 + c) for c in range(2)])
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as tiff:
        options: dict[str, Any] = {"tile": (128, 128), "photometric": "minisblack", "compression": "zlib"}
        tiff.write(data, subifds=1, metadata={"axes": "CYX"}, **options)
        tiff.write(np.zeros((2, 256, 384), np.uint16), subfiletype=1, **options)
    without_tiles(tmp_path / "x.ome.tif", 1, [2], sub_ifd=0)
    made = make([tmp_path / "x.ome.tif"])
    assert made.ours()["levels"][1]["tiles_filled"] == 1
    truth = np.floor(means(data[1][..., None], 256, 384)[..., 0] + 0.5)
    assert np.array_equal(made.level(1)[1, :128, 256:384], truth[:128, 256:384])
    assert not made.level(1)[0].any()


def test_sparse_dicom_levels_are_filled_and_bare_glass_is_not(tmp_path: Path) -> None:
    full = smooth(1024, 1024)
    at = [(row, column) for row in range(4) for column in range(4) if (row, column) != (3, 3)]
    tiles = tiles_of(full, 256)
    wsm(
        tmp_path / "0.dcm",
        full,
        frames=[jpeg(tiles[4 * row + column]) for row, column in at],
        sparse=[(row, column, 0.0, "1") for row, column in at],
    )
    small = np.full((512, 512, 3), 3, np.uint8)
    wsm(tmp_path / "1.dcm", small, level=1, frames=[jpeg(small[:256, :256])], sparse=[(0, 0, 0.0, "1")])
    smaller = np.full((256, 256, 3), 3, np.uint8)
    wsm(
        tmp_path / "2.dcm",
        smaller,
        tile=128,
        level=2,
        sparse=[(0, 0, 0.0, "1")],
        frames=[jpeg(smaller[:128, :128])],
    )
    made = make([tmp_path / f"{level}.dcm" for level in range(3)])
    assert sorted(made.notes) == ["slide-tiles-filled", "slide-without-some-tiles"]
    assert [level.get("tiles_filled") for level in made.ours()["levels"][:3]] == [None, 3, 3]
    truth = full.astype(float)
    truth[768:, 768:] = 255
    wrong = off(made, 1, means(truth, 512, 512))
    assert wrong[:256, 256:].max() <= 12
    assert wrong[256:, 256:].mean() < 2
    assert (made.level(1)[:, 400:, 400:].min()) > 240


@pytest.mark.skipif(not CASE.exists() and not os.environ.get("CI"), reason="needs ../shared/data")
def test_an_aperio_slide_with_an_empty_edge_tile_is_filled_as_openslide_does(tmp_path: Path) -> None:
    if not CASE.exists():
        pytest.skip("needs ../shared/data")
    made = make([CASE])
    slide = openslide.OpenSlide(str(CASE))
    full = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    assert np.array_equal(made.level(0).transpose(1, 2, 0), full)
    wrong = off(made, 1, means(full, 225, 275))[:, 256:]
    assert wrong.mean() < 2
    assert wrong.max() < 10
    seen = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]))[..., :3]
    # OpenSlide interpolates where this averages.
    assert np.abs(made.level(1).transpose(1, 2, 0)[:, 256:].astype(int) - seen[:, 256:]).mean() < 12
    assert made.notes == ["slide-tiles-filled"]


def test_a_filled_tile_is_a_codestream_like_any_other(tmp_path: Path) -> None:
    full = smooth(512, 512)
    pyramid(tmp_path / "x.tif", [full, full[::2, ::2]])
    without_tiles(tmp_path / "x.tif", 1, [3])
    made = make([tmp_path / "x.tif"])
    shard = made.objects[f"{made.rows[0]['item']}/1/c/0/0/0"]
    index = np.frombuffer(shard[-(4 * 16 + 4) : -4], "<u8").reshape(4, 2)
    start, length = (int(part) for part in index[3])
    assert imagecodecs.jpeg8_decode(shard[start : start + length]).shape == (128, 128, 3)
