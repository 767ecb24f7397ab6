"""A grant that wants faces removed: what of a head scan reaches the copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import instance, series, uid, write
from head_phantom import CT, SAGITTAL, Phantom, head
from test_staging_radiology import Staged


def archive_of(phantom: Phantom, folder: Path, body_part: str = "HEAD") -> None:
    """The phantom as a CT series."""
    row, column = phantom.affine[:3, 2], phantom.affine[:3, 1]
    x, y = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    volume = phantom.volume.astype(np.int16)
    for place, pixels in enumerate(volume):
        dataset = instance(
            StudyInstanceUID=uid("head"),
            SeriesInstanceUID=uid("head", "s"),
            SOPInstanceUID=uid("head", place),
            BodyPartExamined=body_part,
            Rows=pixels.shape[0],
            Columns=pixels.shape[1],
            PixelSpacing=[y, x],
            ImageOrientationPatient=[float(part) for part in (*row / x, *column / y)],
            ImagePositionPatient=[float(part) for part in (phantom.affine @ [place, 0, 0, 1])[:3]],
            RescaleSlope="1",
            RescaleIntercept="-1024",
            PixelPaddingValue=None,
            PixelData=pixels.tobytes(),
        )
        write(dataset, folder / f"{place:03}.dcm")


def ours(staged: Staged) -> Any:
    return staged.group().attrs["hdrs-hpc"]


def test_the_face_is_air_in_the_copy_and_the_brain_is_whole(tmp_path: Path) -> None:
    phantom = head(CT, directions=SAGITTAL, spacing=(4.0, 2.0, 2.0), size=(60, 128, 128))
    archive_of(phantom, tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path, deface=True)
    voxels, volume = staged.voxels(), phantom.volume
    if np.dot(np.asarray(ours(staged)["affine_lps_mm"])[:3, 0], phantom.affine[:3, 0]) < 0:
        voxels = voxels[::-1]
    assert (voxels[phantom.nose] == 24).mean() > 0.95  # −1000 HU
    assert np.array_equal(voxels[phantom.brain], volume[phantom.brain])
    assert ours(staged)["defaced"]
    assert staged.report.notes["defaced"] == 1


def test_without_the_wish_nothing_is_cut(tmp_path: Path) -> None:
    phantom = head(CT, spacing=(5.0, 3.0, 3.0), size=(52, 85, 75))
    archive_of(phantom, tmp_path / "a")
    staged = Staged(tmp_path / "a", tmp_path)
    assert np.array_equal(staged.voxels(), phantom.volume)
    assert "defaced" not in ours(staged)


@pytest.mark.parametrize("part", ["HEAD", "", "who knows"])
def test_a_scan_that_may_show_a_face_and_where_none_is_found_stays_out(tmp_path: Path, part: str) -> None:
    series(tmp_path / "a", slices=14, BodyPartExamined=part)
    staged = Staged(tmp_path / "a", tmp_path, deface=True)
    assert staged.rows == []
    assert {code: len(numbers) for code, numbers in staged.refused.items()} == {"deface-uncertain": 14}
    assert staged.report.failed == 0


def test_a_scan_of_another_part_is_left_alone(tmp_path: Path) -> None:
    series(tmp_path / "a", slices=3, BodyPartExamined="KNEE")
    staged = Staged(tmp_path / "a", tmp_path, deface=True)
    assert [row["shape"] for row in staged.rows] == [[3, 128, 128]]
