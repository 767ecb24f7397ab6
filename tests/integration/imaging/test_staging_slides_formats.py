"""Slides of several formats through sandboxed parsers and the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from slides import he, ndpi, pyramid, wsm
from test_staging_slides import staged


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    ndpi(folder / "hamamatsu.ndpi", pyramid(he(400, 1536), 2))
    for level, pixels in enumerate(pyramid(he(500, 600), 2)):
        wsm(folder / f"level-{level}.dcm", pixels, level=level)
    wsm(folder / "label.dcm", he(128, 128), kind="LABEL")
    tifffile.imwrite(
        folder / "only-openslide.tif",
        he(300, 400),
        tile=(128, 128),
        compression="jpeg",
        photometric="rgb",
        software="MedScan",
        description="Objective Power=20",
        metadata=None,
    )
    return folder


def test_an_archive_of_several_formats_is_staged_in_sandboxes(archive: Path, tmp_path: Path) -> None:
    builder, rows, refused = staged(archive, tmp_path / "c")
    assert {row["manufacturer"] for row in rows} >= {"HAMAMATSU"}
    assert sorted(tuple(row["shape"]) for row in rows) == [(3, 300, 400), (3, 400, 1536), (3, 500, 600)]
    assert refused == {"slide-side-image": (2,)}
    row = next(row for row in rows if row["shape"] == [3, 500, 600])
    assert row["patient"]
    assert row["source_items"] == 2
    hamamatsu = next(row for row in rows if row["shape"] == [3, 400, 1536])
    with openslide.OpenSlide(archive / "hamamatsu.ndpi") as slide:
        reference = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    level = zarr.open_array(builder.store(), path=f"{hamamatsu['item']}/0", mode="r")
    assert np.array_equal(level[...], reference.transpose(2, 0, 1))


def test_staging_again_gives_the_same_plaintext(archive: Path, tmp_path: Path) -> None:
    first, _, _ = staged(archive, tmp_path / "one")
    second, _, _ = staged(archive, tmp_path / "two")
    paths = first.paths("slides/")
    assert paths == second.paths("slides/")
    assert all(first.read(path) == second.read(path) for path in paths)
