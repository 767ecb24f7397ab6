"""The demo's archive: real pixels, planted identifiers, honest geometry, a slide that others can read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import openslide
import pydicom
import pytest
import tifffile

from hdrs_hpc.cli.demo.archive import Archive, make_archive
from hdrs_hpc.cli.demo.canaries import read_list
from hdrs_hpc.cli.demo.scanner import Scanner


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, Path]:
    folder = tmp_path_factory.mktemp("hospital")
    archive = make_archive(
        folder / "archive", 11, folder / "canaries.json", folder / "opt-out.txt", patients=12
    )
    return archive, folder


def test_every_canary_is_found_in_the_source(made: tuple[Archive, Path]) -> None:
    archive, folder = made
    scanner = Scanner(read_list(folder / "canaries.json"))
    scanner.scan_tree(folder / "archive")
    report = scanner.report()
    assert report.found == report.canaries == archive.canaries
    assert report.canaries > 1_500


def test_no_canary_is_found_in_the_files_that_the_pixels_came_from(made: tuple[Archive, Path]) -> None:
    _, folder = made
    scanner = Scanner(read_list(folder / "canaries.json"))
    scanner.scan_tree(Path(pydicom.__file__).parent / "data")
    scanner.scan_tree(Path(__file__).parents[3] / "hdrs_hpc" / "cli" / "demo")
    assert scanner.report().found == 0


def test_the_same_seed_makes_the_same_bytes(made: tuple[Archive, Path], tmp_path: Path) -> None:
    _, folder = made
    make_archive(tmp_path / "archive", 11, tmp_path / "canaries.json", tmp_path / "opt-out.txt", patients=12)
    assert _digests(tmp_path / "archive") == _digests(folder / "archive")


def test_series_have_distinct_ordered_slices_of_real_pixels(made: tuple[Archive, Path]) -> None:
    archive, _ = made
    folders = [path for path in Path(archive.radiology).rglob("*") if path.name in ("CT0", "MR1")]
    assert len(folders) >= 6
    for folder in folders:
        images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        assert 6 <= len(images) <= 10
        assert len({image.SeriesInstanceUID for image in images}) == 1
        assert len({image.SOPInstanceUID for image in images}) == len(images)
        assert len({image.PixelData for image in images}) == len(images)
        steps = np.diff([[float(v) for v in image.ImagePositionPatient] for image in images], axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        assert np.allclose(lengths, images[0].SliceThickness, atol=1e-3)
        assert np.ptp(images[0].pixel_array) > 200
        assert images[0].StudyDate.startswith("188")


def test_broken_and_odd_files_are_there(made: tuple[Archive, Path]) -> None:
    archive, _ = made
    odd = sorted(Path(archive.radiology).glob("*/OLD/IM0001.dcm"), key=lambda path: path.stat().st_size)
    letter, truncated, without = odd
    with pytest.raises(pydicom.errors.InvalidDicomError):
        pydicom.dcmread(letter)
    with pytest.raises(ValueError, match="less than expected"):
        _ = pydicom.dcmread(truncated).pixel_array
    assert "ImagePositionPatient" not in pydicom.dcmread(without)


def test_opted_out_patients_are_in_the_archive(made: tuple[Archive, Path]) -> None:
    archive, folder = made
    listed = set((folder / "opt-out.txt").read_text().split())
    seen = {path.name.split(" ")[0] for path in Path(archive.radiology).iterdir()}
    assert len(listed) == archive.opted_out == 3
    assert listed < seen


def test_the_slide_reads_the_same_in_openslide_and_tifffile(made: tuple[Archive, Path]) -> None:
    archive, _ = made
    (path,) = Path(archive.pathology).iterdir()
    with openslide.OpenSlide(path) as slide, tifffile.TiffFile(path) as tiff:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.level_count == 2
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        theirs = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
        assert np.array_equal(theirs, tiff.pages[0].asarray())
        assert tiff.pages[0].is_tiled and 347 in tiff.pages[0].tags
        assert theirs.std() > 20


def test_nhs_numbers_are_valid_and_from_the_range_for_testing(made: tuple[Archive, Path]) -> None:
    archive, _ = made
    image = pydicom.dcmread(next(Path(archive.radiology).rglob("CT0/IM0000.dcm")))
    digits = image.OtherPatientIDsSequence[0].PatientID.replace(" ", "")
    assert digits.startswith("999") and len(digits) == 10
    total = sum(int(digit) * weight for digit, weight in zip(digits, range(10, 0, -1), strict=True))
    assert total % 11 == 0


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
