from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
import zarr
from archive import SHARED, slide

from connectors.sources.folder import FolderSource
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.staging import index, inventory
from imaging.staging.engine import StagePlan, stage
from tests.support.opt_outs import stated

REAL = SHARED / "pathology" / "CMU-1-Small-Region.svs"


def staged(
    archive: Path, folder: Path, **plan: Any
) -> tuple[CopyBuilder, list[dict[str, Any]], dict[str, Any]]:
    builder = CopyBuilder(DirectoryStore(folder / "o"), b"k" * 32, "copy", "p", "c", folder / "j")
    (folder / "j").mkdir(parents=True)
    source = FolderSource(archive)
    plan["opt_out"] = stated(plan.get("opt_out", ()))
    settings = StagePlan("pathology", "slide-basic@1", b"d" * 32, max_failed=10, workers=2, **plan)
    report = stage(source, inventory.scan(source), builder, settings)
    return builder, index.from_bytes(builder.read("index.parquet")).to_pylist(), dict(report.refused)


def from_openslide(path: Path) -> np.ndarray[Any, Any]:
    with openslide.OpenSlide(path) as opened:
        return np.asarray(opened.read_region((0, 0), 0, opened.dimensions))[..., :3].transpose(2, 0, 1)


def check_against_openslide(path: Path, tmp_path: Path) -> None:
    builder, (row,), refused = staged(path.parent, tmp_path)
    assert refused == {}
    group = zarr.open_group(builder.store(), path=row["item"], mode="r")
    reference = from_openslide(path)
    level: Any = group["0"]
    assert level.shape == reference.shape
    assert np.array_equal(level[:], reference)
    # Unaligned windows over tile edges and the slide's edge, through partial reads of the shard.
    for y, x in ((0, 0), (233, 101), (reference.shape[1] - 50, reference.shape[2] - 70)):
        assert np.array_equal(level[:, y : y + 97, x : x + 83], reference[:, y : y + 97, x : x + 83])


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_pixels_of_a_generated_slide_equal_openslides_to_the_bit(tmp_path: Path, photometric: str) -> None:
    slide(tmp_path / "a" / "x.svs", photometric=photometric)
    check_against_openslide(tmp_path / "a" / "x.svs", tmp_path)


def test_pixels_of_a_real_slide_equal_openslides_to_the_bit(tmp_path: Path) -> None:
    if not REAL.is_file():
        pytest.skip("needs ../shared/data")
    (tmp_path / "a").mkdir()
    shutil.copy(REAL, tmp_path / "a" / "x.svs")
    check_against_openslide(tmp_path / "a" / "x.svs", tmp_path)


def test_derived_levels_are_means_of_the_level_above(tmp_path: Path) -> None:
    slide(tmp_path / "a" / "x.svs", height=1501, width=2103)
    builder, (row,), _ = staged(tmp_path / "a", tmp_path)
    group = zarr.open_group(builder.store(), path=row["item"], mode="r")
    levels: list[Any] = [np.asarray(group[str(n)][:]) for n in range(row["n_levels"])]  # type: ignore[index]
    assert [level.shape for level in levels] == [
        (3, 1501, 2103),
        (3, 751, 1052),
        (3, 376, 526),
        (3, 188, 263),
    ]
    for above, below in pairwise(levels):
        height, width = below.shape[1] - 1, below.shape[2] - 1
        mean = above[:, : 2 * height, : 2 * width].reshape(3, height, 2, width, 2).mean(axis=(2, 4))
        # JPEG at quality 90 costs a little; a shift by one pixel would cost far more.
        assert np.abs(mean - below[:, :height, :width]).mean() < 2.5
        shifted = np.roll(mean, 1, axis=2)
        assert (
            np.abs(shifted - below[:, :height, :width]).mean()
            > 2 * np.abs(mean - below[:, :height, :width]).mean()
        )


def test_physical_size_and_levels_are_told(tmp_path: Path) -> None:
    slide(tmp_path / "a" / "x.svs")
    builder, (row,), _ = staged(tmp_path / "a", tmp_path)
    attributes: Any = zarr.open_group(builder.store(), path=row["item"], mode="r").attrs.asdict()
    scales = [
        dataset["coordinateTransformations"][0]["scale"]
        for dataset in attributes["ome"]["multiscales"][0]["datasets"]
    ]
    assert scales == [[1.0, 0.499 * 2**n, 0.499 * 2**n] for n in range(len(scales))]
    assert attributes["hdrs-hpc"]["dicom"] == {
        "Manufacturer": "APERIO",
        "Modality": "SM",
        "ObjectiveLensPower": 20.0,
    }
    assert row["spacing_mm"] == pytest.approx([0.000499, 0.000499])


def test_label_macro_thumbnail_and_description_never_enter_the_copy(tmp_path: Path) -> None:
    slide(
        tmp_path / "a" / "x.svs",
        extra="|ScanScope ID = CANARY-SERIAL-77|Filename = JANE-DOE|User = CANARY-USER",
    )
    builder, _, _ = staged(tmp_path / "a", tmp_path)
    whole = b"".join(builder.read(path) for path in builder.paths())
    for canary in (b"LABEL-CANARY", b"CANARY-SERIAL", b"JANE-DOE", b"CANARY-USER", b"Aperio Image", b"x.svs"):
        assert canary not in whole
    # Each stored level is the baseline's or derived from it: none has another slide part's shape.
    with tifffile.TiffFile(tmp_path / "a" / "x.svs") as tiff:
        extras = [page.shape[:2] for page in tiff.pages if not page.is_tiled]
    group = builder.finished().popitem()[0].split("/")[1]
    shapes = [
        array.shape[1:]
        for _, array in zarr.open_group(builder.store(), path=f"slides/{group}", mode="r").arrays()
    ]
    assert len(extras) == 3
    assert not set(extras) & set(shapes)


def test_tiles_are_stored_undecoded(tmp_path: Path) -> None:
    slide(tmp_path / "a" / "x.svs")
    builder, (row,), _ = staged(tmp_path / "a", tmp_path)
    shard = builder.read(f"{row['item']}/0/c/0/0/0")
    with tifffile.TiffFile(tmp_path / "a" / "x.svs") as tiff, (tmp_path / "a" / "x.svs").open("rb") as file:
        page: Any = tiff.pages[0]
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            tile = file.read(count)
            scan = tile[tile.index(b"\xff\xda") : tile.rindex(b"\xff\xd9")]
            assert scan in shard


def test_a_slide_with_a_cut_tile_is_refused_whole(tmp_path: Path) -> None:
    slide(tmp_path / "a" / "x.svs")
    path = tmp_path / "a" / "x.svs"
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        at, count = page.dataoffsets[4], page.databytecounts[4]
    data = bytearray(path.read_bytes())
    data[at + count // 2 : at + count] = bytes(count - count // 2)
    path.write_bytes(bytes(data))
    builder, rows, refused = staged(tmp_path / "a", tmp_path)
    assert (rows, refused) == ([], {"truncated-tile": (1,)})
    assert not [path for path in builder.paths("slides/") if path != "slides/zarr.json"]


def test_a_picture_that_is_no_slide_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tifffile.imwrite(tmp_path / "a" / "plain.tif", np.zeros((32, 32), np.uint8))
    _, rows, refused = staged(tmp_path / "a", tmp_path)
    assert (rows, refused) == ([], {"unsupported-slide": (1,)})


def test_a_slide_in_a_radiology_dataset_is_kept_out_by_rule(tmp_path: Path) -> None:
    slide(tmp_path / "a" / "x.svs", height=240, width=240)
    (tmp_path / "j").mkdir()
    builder = CopyBuilder(DirectoryStore(tmp_path / "o"), b"k" * 32, "copy", "p", "c", tmp_path / "j")
    source = FolderSource(tmp_path / "a")
    report = stage(
        source,
        inventory.scan(source),
        builder,
        StagePlan("radiology", "radiology-basic@1", b"d" * 32, opt_out=stated()),
    )
    assert dict(report.refused) == {"wrong-kind": (1,)}


def test_the_generated_slide_is_jpeg_as_the_scanner_writes_it(tmp_path: Path) -> None:
    slide(tmp_path / "x.svs")
    with tifffile.TiffFile(tmp_path / "x.svs") as tiff, (tmp_path / "x.svs").open("rb") as file:
        page: Any = tiff.pages[0]
        assert tiff.is_svs
        file.seek(page.dataoffsets[0])
        assert imagecodecs.jpeg8_decode(file.read(page.databytecounts[0]), tables=page.jpegtables).shape == (
            240,
            240,
            3,
        )
