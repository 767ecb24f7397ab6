"""Slides whose largest levels are not there: said, and with the pixel size of what is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_copy import Made, make
from slides import he, without_tiles, wsm

FULL = he(1600, 2400)
JPEG: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"}
APERIO = "Aperio Image Library v11.2.1 \r\n2400x1600 [0,0 2400x1600] (128x128)"


def aperio(path: Path, levels: list[int], *, first: Any = None) -> None:
    """A page each of a scan of 0.5 µm, smaller by these factors.  ``first``: how the first is packed."""
    with tifffile.TiffWriter(path) as tiff:
        for place, factor in enumerate(levels):
            pixels = FULL[::factor, ::factor]
            smaller = f" -> {pixels.shape[1]}x{pixels.shape[0]}" if factor > 1 else ""
            options = JPEG | (first or {}) if place == 0 else JPEG
            tiff.write(
                pixels,
                description=f"{APERIO}{smaller} JPEG/RGB Q=70|AppMag = 20|MPP = 0.5",
                metadata=None,
                **options,
            )


def unreadable(path: Path, page: int = 0) -> None:
    """Give a page a compression that nobody knows."""
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[page].tags[259].valueoffset
    with path.open("r+b") as file:
        file.seek(at)
        file.write((9999).to_bytes(2, "little"))


def check(made: Made, factor: int, base: float = 0.5) -> None:
    assert made.notes == ["largest-level-missing"]
    assert made.ours()["mpp"] == pytest.approx([base * factor] * 2)
    assert made.rows[0]["spacing_mm"] == pytest.approx([base * factor / 1000] * 2)
    assert made.level(0).shape[1:] == (1600 // factor, 2400 // factor)
    scale = made.group().attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0][
        "scale"
    ]
    assert scale[1:] == pytest.approx([base * factor] * 2)
    shown = made.level(0).transpose(1, 2, 0).astype(int)
    assert np.abs(shown - FULL[::factor, ::factor]).mean() < 6


def test_a_whole_slide_has_no_such_note(tmp_path: Path) -> None:
    aperio(tmp_path / "x.svs", [1, 4])
    made = make([tmp_path / "x.svs"])
    assert made.notes == []
    assert made.ours()["mpp"] == [0.5, 0.5]


def test_an_aperio_slide_without_its_first_page(tmp_path: Path) -> None:
    aperio(tmp_path / "x.svs", [4, 8])
    check(make([tmp_path / "x.svs"]), 4)


def test_an_aperio_slide_whose_first_page_nobody_can_unpack(tmp_path: Path) -> None:
    aperio(tmp_path / "x.svs", [1, 4, 8])
    unreadable(tmp_path / "x.svs")
    check(make([tmp_path / "x.svs"]), 4)


def test_an_aperio_slide_whose_largest_levels_are_empty(tmp_path: Path) -> None:
    aperio(tmp_path / "x.svs", [1, 2, 8])
    without_tiles(tmp_path / "x.svs", 0)
    without_tiles(tmp_path / "x.svs", 1)
    check(make([tmp_path / "x.svs"]), 8)


@pytest.mark.parametrize("how", ["unreadable", "empty"])
def test_a_pyramid_of_no_known_maker(tmp_path: Path, how: str) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        for factor in (1, 4, 8):
            tiff.write(
                FULL[::factor, ::factor],
                subfiletype=1 if factor > 1 else 0,
                resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                **JPEG,
            )
    (unreadable if how == "unreadable" else lambda path: without_tiles(path, 0))(tmp_path / "x.tif")
    check(make([tmp_path / "x.tif"]), 4)


def test_a_first_page_that_says_it_is_a_smaller_version(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        size = {"resolution": (5_000, 5_000), "resolutionunit": "CENTIMETER"}
        tiff.write(FULL[::4, ::4], subfiletype=1, **size, **JPEG)
    check(make([tmp_path / "x.tif"]), 4)


def test_an_ome_tiff_whose_first_resolution_is_empty(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as tiff:
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tiff.write(FULL, subifds=1, metadata=metadata, **JPEG)
        tiff.write(FULL[::4, ::4], subfiletype=1, **JPEG)
    without_tiles(tmp_path / "x.ome.tif", 0)
    check(make([tmp_path / "x.ome.tif"]), 4)


def test_a_dicom_pyramid_of_resampled_levels_alone(tmp_path: Path) -> None:
    for level, factor in ((1, 4), (2, 8)):
        wsm(
            tmp_path / f"{level}.dcm",
            np.ascontiguousarray(FULL[::factor, ::factor]),
            level=level,
            tile=128,
            mpp=0.5 * factor,
            ImageType=["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"],
        )
    paths = [tmp_path / "1.dcm", tmp_path / "2.dcm"]
    check(make(paths), 4)
    wsm(tmp_path / "0.dcm", FULL, tile=128, mpp=0.5)
    assert make([tmp_path / "0.dcm", *paths]).notes == []
