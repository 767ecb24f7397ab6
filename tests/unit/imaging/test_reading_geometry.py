from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from imaging.reading.geometry import Geometry, geometry_of


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    a, b, c = angles
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def noted(direction: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...], depth: int) -> dict:
    """What staging notes of a volume, from ITK's description of it (x, y, z)."""
    affine = np.eye(4)
    affine[:3, :3] = (direction * spacing)[:, ::-1]
    affine[:3, 3] = origin
    positions = np.asarray(origin) + np.arange(depth)[:, None] * direction[:, 2] * spacing[2]
    return {
        "affine_lps_mm": affine.tolist(),
        "slice_positions_mm": positions.tolist(),
        "uniform_spacing": True,
        "tilted": False,
    }


angle = st.floats(-3.1, 3.1)
size = st.floats(0.05, 10)
place = st.floats(-500, 500)


@given(
    angles=st.tuples(angle, angle, angle),
    spacing=st.tuples(size, size, size),
    origin=st.tuples(place, place, place),
    index=st.tuples(*[st.integers(-50, 500)] * 3),
)
def test_world_coordinates_are_those_of_itk(angles, spacing, origin, index) -> None:
    direction = rotation(angles)
    image = SimpleITK.Image(4, 4, 4, SimpleITK.sitkUInt8)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    geometry = geometry_of(noted(direction, spacing, origin, 4))
    assert geometry is not None
    z, y, x = index
    expected = image.TransformIndexToPhysicalPoint((x, y, z))
    assert geometry.world(index) == pytest.approx(expected, abs=1e-6)
    assert (geometry.affine_xyz @ [x, y, z, 1])[:3] == pytest.approx(expected, abs=1e-6)
    left, back, up = expected
    assert (geometry.affine_ras_xyz @ [x, y, z, 1])[:3] == pytest.approx([-left, -back, up], abs=1e-6)
    assert geometry.direction == pytest.approx(direction, abs=1e-9)
    assert geometry.spacing_xyz == pytest.approx(spacing)
    assert geometry.origin == pytest.approx(origin)


def test_uneven_slices_are_where_they_are_and_between_them_in_between() -> None:
    ours = noted(np.eye(3), (1, 1, 2), (0, 0, 10), 3)
    ours |= {"uniform_spacing": False, "slice_positions_mm": [[0, 0, 10], [0, 0, 12], [0, 0, 20]]}
    geometry = geometry_of(ours)
    assert geometry is not None
    assert geometry.gaps.tolist() == [2, 8]
    assert geometry.world([[0, 0, 0], [1, 0, 0], [1.5, 3, 4], [2, 0, 0], [3, 0, 0]])[:, 2] == pytest.approx(
        [10, 12, 16, 20, 22]
    )


def test_images_without_a_place_have_no_geometry() -> None:
    assert geometry_of({"affine_lps_mm": None}) is None
    assert geometry_of({}) is None


def test_a_sheared_volume_keeps_its_shear() -> None:
    affine = np.eye(4)
    affine[:3, 0] = [0, 1, 5]
    geometry = Geometry(affine, np.zeros((0, 3)), True, True)
    assert geometry.world([2, 0, 0]) == pytest.approx([0, 2, 10])
