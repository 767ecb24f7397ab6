"""Derived levels: what they show, how they are coded, and how little is decoded at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from slide_copy import make
from slides import he

from imaging.deid import profiles
from imaging.staging.parsing.slides.grid import MAX_BOX_PIXELS
from imaging.staging.parsing.slides.jpeg import quality, segments
from imaging.staging.pathology import arrays
from imaging.staging.pathology.halving import halve
from imaging.staging.pathology.headers import LevelHeader, SlideHeader
from imaging.staging.pathology.parts import MadeShards
from imaging.staging.pathology.slide import slide_of_file
from imaging.staging.pathology.task import SlideTask


def mean_of_four(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """By the plain rule: 2×2 means, rounded half up, an odd edge repeated."""
    height, width = pixels.shape[:2]
    whole = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    four = whole.reshape(-(-height // 2), 2, -(-width // 2), 2, -1)
    mean = four.astype(np.float64).mean(axis=(1, 3))
    return (mean if pixels.dtype.kind == "f" else np.floor(mean + 0.5)).astype(pixels.dtype)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 300),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    backwards=st.booleans(),
)
def test_halving_averages_four_pixels(
    height: int, width: int, channels: int, dtype: str, backwards: bool
) -> None:
    pixels = (np.random.default_rng(height * width).random((height, width, channels)) * 255.999).astype(dtype)
    pixels[:1] = 255  # no sum overflows
    pixels = pixels[::-1, ::-1] if backwards else pixels
    assert np.array_equal(halve(pixels), mean_of_four(pixels))


def test_halving_a_large_picture_is_halving_its_strips() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (1001, 3001, 3), dtype=np.uint8)
    room = np.empty((501, 1501, 3), np.uint8)
    assert halve(pixels, room) is room
    assert np.array_equal(room, mean_of_four(pixels))


@pytest.mark.parametrize("tile", [128, 240, 512, (128, 1024), 1024])
def test_levels_are_exact_means_across_shards_and_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int | tuple[int, int]
) -> None:
    # Several shards a level, several looks a shard, odd sizes; what is lossless shows any misplaced pixel.
    monkeypatch.setattr(arrays, "SHARD_TILES", 4)
    shape = (tile, tile) if isinstance(tile, int) else tile
    pixels = np.random.default_rng(5).integers(0, 256, (1501, 2903), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", pixels, tile=shape, compression="zlib")
    made = make([tmp_path / "x.tif"])
    assert made.ours()["levels"][0]["pixels"] == "lossless"
    wanted = pixels[..., None]
    levels = [array[...] for _, array in sorted(made.group().arrays(), key=lambda named: int(named[0]))]
    assert len(levels) == 4
    for level in levels:
        assert np.array_equal(level[0], wanted[..., 0])
        wanted = mean_of_four(wanted)


@pytest.mark.parametrize("shard_tiles", [4, 32])
def test_derived_levels_of_jpeg_show_their_means_wherever_shards_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_tiles: int
) -> None:
    monkeypatch.setattr(arrays, "SHARD_TILES", shard_tiles)
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        tiff.write(
            he(1801, 2501),
            tile=(128, 128),
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": 95},
        )
    made = make([tmp_path / "x.tif"])
    levels = [array[...] for _, array in sorted(made.group().arrays(), key=lambda named: int(named[0]))]
    assert [level.shape[1:] for level in levels] == [(1801, 2501), (901, 1251), (451, 626), (226, 313)]
    for above, below in pairwise(levels):
        mean = mean_of_four(above.transpose(1, 2, 0)).transpose(2, 0, 1).astype(float)
        off = np.abs(mean - below)
        assert off.mean() < 2.5
        # No tile or edge is worse than the rest.
        assert all(
            off[:, y : y + 128, x : x + 128].mean() < 6
            for y in range(0, 901, 128)
            for x in range(0, 1251, 128)
            if off[:, y : y + 128, x : x + 128].size
        )


@pytest.mark.parametrize(("source", "derived"), [(95, 89), (80, 74), (30, 65)])
def test_derived_levels_are_coded_below_their_source_but_not_badly(
    tmp_path: Path, source: int, derived: int
) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        tiff.write(
            he(600, 700),
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": source},
        )
    made = make([tmp_path / "x.tif"])
    streams = made.objects[f"{made.rows[0]['item']}/1/c/0/0/0"]
    found = quality(segments(streams[streams.index(b"\xff\xd8") :])[0])
    assert found is not None
    assert abs(found - derived) <= 1


@pytest.mark.parametrize("said", [20, 30, 50, 75, 90, 99])
def test_quality_is_told_by_the_quantisation_table(said: int) -> None:
    stream = imagecodecs.jpeg8_encode(he(64, 64), level=said)
    assert quality(segments(bytes(stream))[0]) == pytest.approx(said, abs=1)


def test_no_table_no_quality() -> None:
    assert quality([(0xC4, bytes(70)), (0xDB, bytes(10)), (0xDB, b"\x10" + bytes(128))]) is None


@pytest.mark.parametrize("encoding", ["jpeg", "lossy", "lossless"])
@pytest.mark.parametrize("tile", [(128, 128), (240, 240), (256, 512), (512, 512), (128, 1024), (1024, 1024)])
def test_a_look_is_no_larger_than_a_parser_may_decode_and_looks_cover_the_level(
    tile: tuple[int, int], encoding: str
) -> None:
    level = LevelHeader.model_validate(
        {
            "width": 41_000,
            "height": 9_000,
            "tile_width": tile[1],
            "tile_height": tile[0],
            "encoding": encoding,
        }
    )
    header = SlideHeader.model_validate(
        {
            "format": "tiff",
            "levels": (level,),
            "samples": 3,
            "dtype": "uint8",
            "channels": ({},),
            "mpp": None,
            "background": "white",
            "attributes": {},
        }
    )
    task = SlideTask("i", slide_of_file(1, header), {}, profiles.load("slide-basic@1"))
    parts = [part for part in next(iter(task.steps([]))) if isinstance(part, MadeShards)]
    first = parts[0].arrays[0]
    seen = np.zeros(first.tiles, dtype=int)
    for part in parts:
        assert len({array.path for array in part.arrays}) == len(part.arrays)
        for rows, columns in part._looks():
            seen[slice(*rows), slice(*columns)] += 1
            factor = 2 if part.halved else 1
            high, wide = (rows[1] - rows[0]) * first.tile[0], (columns[1] - columns[0]) * first.tile[1]
            assert high * wide * factor**2 <= MAX_BOX_PIXELS
    assert (seen == 1).all()
