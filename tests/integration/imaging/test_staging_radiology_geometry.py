"""World coordinates and voxels of staged volumes against SimpleITK and nibabel, on real series."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel.nicom.dicomwrappers as nicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from archive import SHARED, instance, series, uid, write
from test_staging_radiology import Staged

NICOM = Path(nicom.__file__).parent / "tests" / "data"


def affine_xyz(staged: Staged, number: int = 0) -> np.ndarray[Any, Any]:
    """(x, y, z, 1) → LPS."""
    ours: Any = staged.group(number).attrs["hdrs-hpc"]
    return np.asarray(ours["affine_lps_mm"])[:, [2, 1, 0, 3]]


def itk_affine(image: SimpleITK.Image) -> np.ndarray[Any, Any]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def corners(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """(4, 8) voxel indices (x, y, z, 1) of the corners of a (z, y, x) volume."""
    z, y, x = (size - 1 for size in shape)
    return np.array([[i, j, k, 1] for i in (0, x) for j in (0, y) for k in (0, z)], dtype=float).T


def assert_same_world(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], shape: tuple[int, ...]) -> None:
    at = corners(shape)
    assert np.abs(one @ at - other @ at).max() < 1e-2


def test_a_functional_series_lies_where_simpleitk_puts_it(tmp_path: Path) -> None:
    archive = SHARED / "radiology" / "mr-functional"
    if not archive.is_dir():
        pytest.skip("needs ../shared/data")
    staged = Staged(archive, tmp_path)
    (row,) = staged.rows
    assert (row["axes"], row["shape"], row["axis_t"]) == ("tzyx", [30, 35, 80, 80], "temporal-position")
    assert row["spacing_mm"] == [3.3, 3.0, 3.0]
    ours: Any = staged.group().attrs["hdrs-hpc"]
    assert ours["axis_t"]["values"] == [float(number) for number in range(1, 31)]
    times: dict[int, list[tuple[float, str]]] = {}
    for path in archive.glob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        normal = np.cross(header.ImageOrientationPatient[:3], header.ImageOrientationPatient[3:])
        place = float(np.dot(normal, header.ImagePositionPatient))
        times.setdefault(int(header.TemporalPositionIdentifier), []).append((place, str(path)))
    for time in (1, 17, 30):
        image = SimpleITK.ReadImage([path for _, path in sorted(times[time])])
        assert_same_world(affine_xyz(staged), itk_affine(image), (35, 80, 80))
        assert np.array_equal(staged.voxels()[time - 1], SimpleITK.GetArrayFromImage(image))


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
def test_any_stack_lies_where_simpleitk_puts_it(tmp_path: Path, oblique: bool, flipped: bool) -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3))) if oblique else (np.eye(3), 0)
    row, column = turned[:, 0], turned[:, 1] * (-1 if flipped else 1)
    normal = np.cross(row, column)
    pixels = instance().pixel_array
    files = []
    for place in range(6):
        dataset = instance(
            StudyInstanceUID=uid("o"),
            SeriesInstanceUID=uid("s"),
            SOPInstanceUID=uid("i", place),
            InstanceNumber=6 - place,
            PixelSpacing=[0.8, 0.6],
            ImageOrientationPatient=[round(float(part), 9) for part in (*row, *column)],
            ImagePositionPatient=[round(float(part), 6) for part in 10.0 + 2.5 * place * normal],
        )
        dataset.PixelData = np.roll(pixels, place, axis=0).tobytes()
        files.append(str(write(dataset, tmp_path / "a" / f"{(place * 5) % 7}.dcm")))
    staged = Staged(tmp_path / "a", tmp_path)
    image = SimpleITK.ReadImage(files)
    assert_same_world(affine_xyz(staged), itk_affine(image), (6, 128, 128))
    hounsfield = staged.voxels().astype(np.float64) - 1024
    assert np.array_equal(hounsfield, SimpleITK.GetArrayFromImage(image))


def test_a_siemens_mosaic_lies_where_nibabel_puts_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("siemens_dwi_0", "siemens_dwi_1000"):
        packed = NICOM / f"{name}.dcm.gz"
        (tmp_path / "a" / f"{name}.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    assert (row["axes"], row["shape"], row["n_b_values"]) == ("tzyx", [2, 48, 128, 128], 2)
    ours: Any = staged.group().attrs["hdrs-hpc"]
    assert ours["axis_t"]["meaning"] == "b-value"
    assert ours["axis_t"]["values"][0] == 0
    for time, name in enumerate(("siemens_dwi_0", "siemens_dwi_1000")):
        wrapper = nicom.wrapper_from_file(str(tmp_path / "a" / f"{name}.dcm"))
        # nibabel's array is (row, column, slice): its first index is our y.
        theirs = np.asarray(wrapper.affine)[:, [1, 0, 2, 3]]
        voxels = np.asarray(wrapper.get_unscaled_data()).transpose(2, 0, 1)
        mine, got = affine_xyz(staged), staged.voxels()[time]
        if (
            np.dot(mine[:3, 2], theirs[:3, 2]) < 0
        ):  # nibabel keeps the mosaic's order, we ascend along the normal
            theirs = theirs @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 47], [0, 0, 0, 1.0]])
            voxels = voxels[::-1]
        assert_same_world(mine, theirs, (48, 128, 128))
        assert np.array_equal(got, voxels)


def test_a_philips_enhanced_series_lies_where_nibabel_puts_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    packed = NICOM / "philips_mprage.dcm.gz"
    path = tmp_path / "a" / "mprage.dcm"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    wrapper = nicom.wrapper_from_file(str(path))
    theirs = np.asarray(wrapper.affine)[:, [1, 0, 2, 3]]
    mine, shape = affine_xyz(staged), tuple(row["shape"])
    voxels = np.asarray(wrapper.get_unscaled_data()).transpose(2, 0, 1)
    if np.dot(mine[:3, 2], theirs[:3, 2]) < 0:
        last = shape[0] - 1
        theirs = theirs @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1.0]])
        voxels = voxels[::-1]
    assert_same_world(mine, theirs, shape)
    assert np.array_equal(staged.voxels(), voxels)


@pytest.mark.parametrize("left_out", [[1], [3], [1, 2]])
def test_an_uneven_volume_has_no_one_spacing_and_tells_its_gaps(tmp_path: Path, left_out: list[int]) -> None:
    paths = series(tmp_path / "a", slices=6, spacing=2.5, order=list(range(6)))
    for number in left_out:
        paths[number].unlink()
    staged = Staged(tmp_path / "a", tmp_path)
    (row,) = staged.rows
    assert (row["spacing_mm"], row["uniform_spacing"]) == ([None, 0.661468, 0.661468], False)
    places = [5 + 2.5 * number for number in range(6) if number not in left_out]
    gaps = np.diff(places)
    ours: Any = staged.group().attrs["hdrs-hpc"]
    assert ours["slice_gaps_mm"] == {"least": gaps.min(), "median": np.median(gaps), "most": gaps.max()}
    assert [position[2] for position in ours["slice_positions_mm"]] == places
