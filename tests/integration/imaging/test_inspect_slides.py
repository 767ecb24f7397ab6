"""``imaging inspect`` draws a slide as large as wanted, from whatever levels it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image
from slides import he, wsm

from hdrs_hpc.cli.imaging import imaging
from imaging import standalone
from tests.support.opt_outs import with_opt_out


def inspected(tmp_path: Path, *options: object) -> Image.Image:
    standalone.new_secret(tmp_path / "secret")
    for words in (
        ("stage", tmp_path / "in", tmp_path / "copy", "--secret", tmp_path / "secret"),
        (
            "inspect",
            tmp_path / "copy",
            "--secret",
            tmp_path / "secret",
            "--png",
            tmp_path / "x.png",
            "--json",
            *options,
        ),
    ):
        result = CliRunner().invoke(imaging, with_opt_out(words))
        assert result.exit_code == 0, (result.output, result.exception)
    picture = Image.open(tmp_path / "x.png")
    told = json.loads(result.stdout)
    assert (told["width"], told["height"]) == picture.size
    return picture


def pyramid(path: Path, full: np.ndarray[Any, Any], factors: tuple[int, ...], **options: Any) -> None:
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as tiff:
        for factor in factors:
            tiff.write(full[::factor, ::factor], tile=(256, 256), subfiletype=factor > 1, **options)


@pytest.mark.parametrize("size", [64, 300, 768, 1500])
def test_a_slide_with_a_small_last_level_fills_the_picture(tmp_path: Path, size: int) -> None:
    full = he(2816, 2816)
    jpeg = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95}}
    pyramid(tmp_path / "in" / "x.tif", full, (1, 4, 16, 32), **jpeg)
    picture = inspected(tmp_path, "--size", size)
    assert picture.size == (size, size)
    expected = Image.fromarray(full).resize((size, size), Image.Resampling.BOX)
    if size in (768, 1500):  # levels by decimation, not by means, look otherwise where they are drawn from
        off = np.abs(np.asarray(picture).astype(int) - np.asarray(expected).astype(int))
        assert off.mean() < 8


def test_a_small_slide_is_enlarged(tmp_path: Path) -> None:
    pyramid(tmp_path / "in" / "x.tif", he(90, 120), (1,), photometric="rgb", compression="zlib")
    assert inspected(tmp_path).size == (768, 576)


def test_channels_of_fluorescence_are_shown_in_colours(tmp_path: Path) -> None:
    wave = (np.mgrid[:900, :1200].sum(axis=0) % 500 * 100).astype(np.uint16)
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in" / "x.ome.tif", ome=True) as tiff:
        tiff.write(
            np.stack([wave, wave[::-1]]), tile=(256, 256), photometric="minisblack", metadata={"axes": "CYX"}
        )
    picture = inspected(tmp_path, "--size", 400)
    assert (picture.size, picture.mode) == ((400, 300), "RGB")
    assert np.asarray(picture).std() > 40


def test_a_dicom_slide_with_an_empty_place_is_drawn(tmp_path: Path) -> None:
    full = he(1024, 1024)
    from slides import jpeg, tiles_of

    at = [(row, column) for row in range(4) for column in range(4) if (row, column) != (0, 0)]
    tiles = tiles_of(full, 256)
    wsm(
        tmp_path / "in" / "0.dcm",
        full,
        frames=[jpeg(tiles[4 * row + column]) for row, column in at],
        sparse=[(row, column, 0.0, "1") for row, column in at],
    )
    picture = np.asarray(inspected(tmp_path, "--size", 1000))
    assert picture.shape == (1000, 1000, 3)
    assert (picture[:240, :240] == 255).all()
    assert picture[300:, 300:].std() > 20
