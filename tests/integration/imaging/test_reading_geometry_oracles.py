"""Geometry and values of real series against SimpleITK and nibabel, which read the same files on their own."""

from __future__ import annotations

import gzip
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from archive import SHARED, instance, uid, write
from nibabel.nicom import dicomwrappers
from staged_copies import stage_archive

from imaging import standalone
from imaging.reading import StagedCopy

NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
MM = 1e-3


def staged(root: Path) -> StagedCopy:
    stage_archive(root / "archive", root / "copy", root / "secret")
    return standalone.open_staged(root / "copy", root / "secret")


def only_item(copy: StagedCopy) -> str:
    (row,) = copy.index().to_pylist()
    return str(row["item"])


def from_itk(files: list[Path]) -> SimpleITK.Image:
    if len(files) == 1:
        return SimpleITK.ReadImage(str(files[0]))
    reader = SimpleITK.ImageSeriesReader()
    found = reader.GetGDCMSeriesFileNames(str(files[0].parent))
    reader.SetFileNames([name for name in found if Path(name) in files])
    return reader.Execute()


def check_against_itk(
    copy: StagedCopy, item: str, image: SimpleITK.Image, values: np.ndarray[Any, Any]
) -> None:
    """All eight corners lie where ITK has them, whichever end of the stack it begins at, and voxels are equal."""
    geometry = copy.geometry(item)
    assert geometry is not None
    expected = SimpleITK.GetArrayFromImage(image)
    assert values.shape == expected.shape
    turned = False
    ours, theirs = geometry.direction[:, 2], np.reshape(image.GetDirection(), (3, 3))[:, 2]
    if ours @ theirs < 0:
        turned, expected = True, expected[::-1]
    assert np.array_equal(values, expected)
    for z, y, x in product(*((0, size - 1) for size in values.shape)):
        itk_z = values.shape[0] - 1 - z if turned else z
        point = image.TransformIndexToPhysicalPoint((x, y, itk_z))
        assert geometry.world([z, y, x]) == pytest.approx(point, abs=MM)
        assert (geometry.affine_xyz @ [x, y, z, 1])[:3] == pytest.approx(point, abs=MM)
    assert geometry.spacing_xyz == pytest.approx(image.GetSpacing(), abs=MM)


TEMPLATES = {"CT": "CT_small.dcm", "MR": "MR_small.dcm"}
PLANES = {
    "axial": ([1, 0, 0], [0, 1, 0]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "coronal": ([1, 0, 0], [0, 0, -1]),
    "oblique": ([0.8, 0.6, 0], [-0.36, 0.48, -0.8]),
}


def write_plane(folder: Path, modality: str, plane: str) -> None:
    """Five slices of a real file's pixels, 1.75 mm apart, file names in no order of space."""
    row, column = PLANES[plane]
    pixels = instance(TEMPLATES[modality]).pixel_array
    for number in range(5):
        place = (number * 2) % 5
        position = np.array([-31.5, 12.25, 77]) + np.cross(row, column) * 1.75 * place
        dataset = instance(
            TEMPLATES[modality],
            StudyInstanceUID=uid("study"),
            SeriesInstanceUID=uid(modality, plane),
            SOPInstanceUID=uid(modality, plane, place),
            ImageOrientationPatient=[*row, *column],
            ImagePositionPatient=[round(float(value), 6) for value in position],
            InstanceNumber=number + 1,
        )
        dataset.PixelData = np.roll(pixels, 3 * place, axis=0).tobytes()
        write(dataset, folder / f"{number:03d}.dcm")


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StagedCopy]:
    root = tmp_path_factory.mktemp("planes")
    for modality, plane in product(TEMPLATES, PLANES):
        write_plane(root / "archive" / modality / plane, modality, plane)
    return root / "archive", staged(root)


@pytest.mark.parametrize("modality", TEMPLATES)
@pytest.mark.parametrize("plane", PLANES)
def test_series_in_any_plane_are_where_simpleitk_has_them(
    planes: tuple[Path, StagedCopy], modality: str, plane: str
) -> None:
    archive, copy = planes
    row, column = PLANES[plane]
    found = []
    for each in copy.index().to_pylist():
        geometry = copy.geometry(each["item"])
        assert geometry is not None
        if each["modality"] == modality and np.allclose(geometry.direction[:, :2].T, [row, column]):
            found.append(each["item"])
    (item,) = found
    image = from_itk(sorted((archive / modality / plane).iterdir()))
    check_against_itk(copy, item, image, copy.physical(item))


def test_a_real_philips_multi_frame_series_is_where_simpleitk_and_nibabel_have_it(tmp_path: Path) -> None:
    file = tmp_path / "archive" / "one.dcm"
    file.parent.mkdir()
    with gzip.open(NIBABEL / "philips_mprage.dcm.gz") as packed:
        file.write_bytes(packed.read())
    copy = staged(tmp_path)
    item = only_item(copy)
    stored = np.asarray(copy.volume(item)[:])
    geometry = copy.geometry(item)
    assert geometry is not None
    dataset = pydicom.dcmread(file)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        stated = [float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert geometry.world([number, 0, 0]) == pytest.approx(stated, abs=MM)
    wrapper = dicomwrappers.wrapper_from_file(file)
    for z, y, x in product(*((0, size - 1) for size in stored.shape)):
        # nibabel's first axis is DICOM's rows, and it counts these frames from the other end, by the nominal spacing
        # along the normal: over 176 frames that strays a little from the positions that the frames state.
        k = stored.shape[0] - 1 - z
        expected = (wrapper.affine @ [y, x, k, 1])[:3]
        assert geometry.world([z, y, x]) == pytest.approx(expected, abs=MM if k == 0 else 2 * MM)
    check_against_itk(copy, item, from_itk([file]), copy.physical(item))


def test_a_real_functional_series_is_where_simpleitk_has_each_time_point(tmp_path: Path) -> None:
    folder = SHARED / "radiology" / "mr-functional"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    times: dict[int, list[Path]] = {1: [], 2: []}
    (tmp_path / "archive").mkdir()
    for path in sorted(folder.glob("*.dcm")):
        header = pydicom.dcmread(path, specific_tags=["TemporalPositionIdentifier"])
        time = int(header.TemporalPositionIdentifier)
        if time in times:
            times[time].append(Path(shutil.copy(path, tmp_path / "archive" / path.name)))
    copy = staged(tmp_path)
    array = copy.volume(only_item(copy))
    assert (array.shape, array.metadata.dimension_names) == ((2, 35, 80, 80), ("t", "z", "y", "x"))
    for place, files in enumerate(times.values()):
        apart = tmp_path / f"time-{place}"
        apart.mkdir()
        moved = [Path(shutil.copy(path, apart / path.name)) for path in files]
        check_against_itk(copy, only_item(copy), from_itk(moved), np.asarray(array[place]))


def test_real_vendor_deidentified_slices_are_where_simpleitk_and_nibabel_have_them(tmp_path: Path) -> None:
    folder = SHARED / "radiology" / "deident-reference"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    (tmp_path / "archive").mkdir()
    files = [Path(shutil.copy(path, tmp_path / "archive")) for path in sorted(folder.glob("*.dcm"))]
    copy = staged(tmp_path)
    rows = copy.index().to_pylist()
    assert sum(row["source_items"] for row in rows) == len(files)
    placed = 0
    by_position = {}
    for file in files:
        wrapper = dicomwrappers.wrapper_from_file(file)
        corner = (wrapper.affine @ [wrapper.image_shape[0] - 1, wrapper.image_shape[1] - 1, 0, 1])[:3]
        by_position[tuple(np.round(corner, 2))] = np.asarray(pydicom.dcmread(file).pixel_array)
    for row in rows:
        geometry, voxels = copy.geometry(row["item"]), np.asarray(copy.volume(row["item"])[:])
        assert geometry is not None
        for z in range(voxels.shape[-3]):
            corner = geometry.world([z, voxels.shape[-2] - 1, voxels.shape[-1] - 1])
            found = by_position.get(tuple(np.round(corner, 2)))
            if found is not None:
                assert np.array_equal(voxels[(0,) * (voxels.ndim - 3)][z], found)
                placed += 1
    assert placed == len(by_position) == len(files)
