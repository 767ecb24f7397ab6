"""What is measured on: as real as is said, the same for all who read it, and made without encoding it all."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pytest
import zarr
from pydicom import dcmread

from benchmarks.bench import Bench
from benchmarks.data import series, slides, tiles
from benchmarks.data.dicom_files import Template, number, uid
from benchmarks.sizes import SIZES


class Quiet:
    def making(self, name: str, done: int, total: int) -> None: ...

    def running(self, comparison: str, contender: str, number: int, rounds: int) -> None: ...


TINY = replace(
    SIZES["small"],
    ct_slices=9,
    ct_pixels=96,
    mr_times=2,
    mr_slices=3,
    mr_pixels=48,
    slide_tiles=9,
    zstd_pixels=512,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    (root / "scratch").mkdir()
    return Bench(TINY, root / "data", root / "scratch", Quiet())


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("encoding", ["native", "jpegls", "j2k"])
def test_a_ct_series_has_the_same_pixels_in_every_encoding(bench: Bench, encoding: str) -> None:
    paths = files(series.ct_series(bench, encoding))
    assert len(paths) == 9
    expected = series.ct_slices(96)
    for place, path in enumerate(paths):
        dataset = dcmread(path)
        assert dataset.ImagePositionPatient[2] == place
        assert dataset.InstanceNumber == place + 1
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert np.array_equal(dataset.pixel_array, expected[place])
    assert len({dcmread(path).SOPInstanceUID for path in paths}) == 9


def test_slices_differ_and_compress_as_real_ones_do() -> None:
    slices = series.ct_slices(512)[:32]
    assert len({each.tobytes() for each in slices}) == 32
    chunk = np.ascontiguousarray(slices[:, 192:320, 192:320]).tobytes()
    coded = imagecodecs.blosc_encode(chunk, level=1, compressor="zstd", typesize=2, shuffle=1)
    assert 1.5 < len(chunk) / len(coded) < 3.0


def test_a_functional_mr_series_says_the_time_of_each_file(bench: Bench) -> None:
    found = [dcmread(path) for path in files(series.mr_series(bench))]
    assert [(one.TemporalPositionIdentifier, one.ImagePositionPatient[2]) for one in found] == [
        (1, 0), (1, 3), (1, 6), (2, 0), (2, 3), (2, 6),
    ]  # fmt: skip


def test_small_series_belong_to_different_patients(bench: Bench) -> None:
    found = [dcmread(path) for path in files(series.small_series(bench, 8))]
    assert len(found) == 16
    assert len({one.SeriesInstanceUID for one in found}) == 8
    assert len({one.PatientID for one in found}) == 2


def test_smaller_archives_are_parts_of_the_largest_and_take_no_room(bench: Bench) -> None:
    per_series = 9 * 96 * 96 * 2
    small, large = series.ct_archives(bench, [per_series, 2 * per_series])
    assert len(files(small)) == 9
    assert len(files(large)) == 18
    assert all(path.stat().st_nlink == 2 for path in files(small))


def test_a_template_puts_values_where_they_were_and_nowhere_else() -> None:
    source = dcmread(series._real("MR_small.dcm"))
    before = {"SOPInstanceUID": uid(1, 1), "InstanceNumber": "000001", "SliceLocation": number(1.0)}
    template = Template(source, "native", before)
    after = {"SOPInstanceUID": uid(1, 2), "InstanceNumber": "000012", "SliceLocation": number(-7.25)}
    made = dcmread(io.BytesIO(template.file(after, source.PixelData)))
    assert made.SOPInstanceUID == uid(1, 2)
    assert made.InstanceNumber == 12
    assert made.SliceLocation == -7.25
    for element in source:
        if element.keyword not in after:
            assert made[element.tag].value == element.value, element.keyword
    with pytest.raises(ValueError, match="another length"):
        template.file({**after, "InstanceNumber": "12"}, source.PixelData)


def test_svs_and_dicom_show_the_same_slide_and_it_is_the_mosaic_of_real_tiles(bench: Bench) -> None:
    svs = openslide.OpenSlide(str(slides.svs(bench, 9) / "slide.svs"))
    wsm = openslide.OpenSlide(str(slides.wsm(bench, 9) / "level-0.dcm"))
    assert svs.properties["openslide.vendor"] == "aperio"
    assert svs.level_dimensions == wsm.level_dimensions == ((2160, 2160), (540, 540), (135, 135))
    made = tiles.tile_set(None)
    whole = tiles.mosaic(made.pixels, tiles.places(made, 9))
    for slide in (svs, wsm):
        region = np.asarray(slide.read_region((500, 700), 0, (600, 500)))[..., :3]
        assert np.array_equal(region, whole[700:1200, 500:1100])
    for level in (1, 2):
        one, other = (np.asarray(slide.read_region((0, 0), level, (135, 135))) for slide in (svs, wsm))
        assert np.array_equal(one, other)


def test_neighbouring_tiles_are_not_one_tile_repeated() -> None:
    made = tiles.tile_set(None)
    assert len(set(made.streams)) > 90
    assert len(set(tiles.places(made, 40).ravel().tolist())) == len(made.streams)


def test_tiles_of_an_aperio_slide_are_taken_unchanged(tmp_path: Path, bench: Bench) -> None:
    own = slides.svs(bench, 9) / "slide.svs"
    taken = tiles.tile_set(own)
    made = tiles.tile_set(None)
    assert taken.source == "svs"
    assert len(taken.streams) == 81
    assert np.array_equal(taken.pixels[0], made.pixels[tiles.places(made, 9)[0, 0]])


def test_the_zstd_slide_has_chunks_that_zarrs_can_read(bench: Bench) -> None:
    array = zarr.open_array(str(slides.zstd_zarr(bench) / "0"), mode="r")
    assert array.shape == (3, 512, 512)
    assert array.chunks == (3, 256, 256)
    made = tiles.tile_set(None)
    whole = tiles.mosaic(made.pixels, tiles.places(made, 3))
    assert np.array_equal(np.asarray(array[...]), whole[:512, :512].transpose(2, 0, 1))
