from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.staging.radiology.assembly import Assembled, assemble
from imaging.staging.radiology.headers import FrameHeader, InstanceHeader
from imaging.staging.radiology.volume import Geometry, Instance, Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def frame(z: float, **changes: Any) -> FrameHeader:
    values: dict[str, Any] = {
        "position_mm": (-10.0, -20.0, z),
        "orientation": AXIAL,
        "spacing_mm": (0.5, 0.75),
    }
    return FrameHeader(**{**values, **changes})


def instance(number: int, *frames: FrameHeader, **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "sop_class": CT, "sop_instance": f"1.{number}", "transfer_syntax": "1.2.840.10008.1.2.1", "study": "1",
        "series": "2", "frame_of_reference": "3", "patient_id": "P", "issuer": "", "modality": "CT", "rows": 4,
        "columns": 6, "samples": 1, "photometric": "MONOCHROME2", "bits_allocated": 16, "bits_stored": 16,
        "high_bit": 15, "signed": True, "frames": frames, "attributes": {},
    }  # fmt: skip
    return Instance(number, InstanceHeader(**{**values, **changes}))


def lies(volume: Volume) -> Geometry:
    assert volume.geometry is not None
    return volume.geometry


def numbers(assembled: Assembled) -> list[list[list[int]]]:
    """Item numbers by volume, time, slice."""
    return [[[one.instance.number for one in time] for time in volume.slices] for volume in assembled.volumes]


@given(st.permutations(range(1, 9)))
def test_slices_are_ordered_by_position_whatever_the_order_of_files(order: list[int]) -> None:
    made = assemble([instance(number, frame(float(place) * 3)) for number, place in enumerate(order, 1)])
    assert made.refused == {}
    assert numbers(made) == [[[order.index(place) + 1 for place in range(1, 9)]]]
    (volume,) = made.volumes
    assert lies(volume).spacing_mm == (3.0, 0.5, 0.75)
    assert volume.shape == (8, 4, 6)
    assert lies(volume).uniform
    assert not lies(volume).tilted


def test_order_follows_the_normal_not_the_z_coordinate() -> None:
    frames = [frame(0, position_mm=(0.0, y, 0.0), orientation=CORONAL) for y in (10.0, 20.0, 30.0)]
    made = assemble([instance(number, one) for number, one in enumerate(frames, 1)])
    # Row × column of a coronal slice points along +y (to the back): front slice first.
    assert numbers(made) == [[[1, 2, 3]]]
    assert lies(made.volumes[0]).step_mm == (0.0, 10.0, 0.0)


def test_a_missing_slice_is_told_not_smoothed_over() -> None:
    made = assemble([instance(number, frame(z)) for number, z in enumerate((0.0, 2.0, 4.0, 8.0, 10.0), 1)])
    (volume,) = made.volumes
    assert not lies(volume).uniform
    assert lies(volume).spacing_mm[0] == 2.0
    assert [position[2] for position in lies(volume).positions_mm] == [0.0, 2.0, 4.0, 8.0, 10.0]


def test_rounding_of_written_positions_is_not_uneven_spacing() -> None:
    made = assemble([instance(number, frame(round(number * 1.3333, 2))) for number in range(1, 40)])
    assert lies(made.volumes[0]).uniform
    assert lies(made.volumes[0]).spacing_mm[0] == pytest.approx(1.3333, abs=1e-3)


def test_a_tilted_gantry_shears_the_step() -> None:
    frames = [frame(0, position_mm=(0.0, 1.0 * k, 5.0 * k)) for k in range(4)]
    (volume,) = assemble([instance(number, one) for number, one in enumerate(frames, 1)]).volumes
    assert lies(volume).tilted
    assert lies(volume).uniform
    assert lies(volume).step_mm == pytest.approx((0.0, 1.0, 5.0))
    assert lies(volume).spacing_mm[0] == 5.0


@pytest.mark.parametrize(
    ("frame_changes", "header_changes"),
    [
        ({"orientation": CORONAL}, {}),
        ({"spacing_mm": (0.5, 0.76)}, {}),
        ({"split": ("LOCALIZER",)}, {}),
        ({}, {"photometric": "MONOCHROME1"}),
        ({}, {"value_type": "float32", "bits_allocated": 32}),
        ({}, {"rows": 8}),
        ({}, {"frame_of_reference": "other"}),
        ({}, {"bits_allocated": 8, "bits_stored": 8, "high_bit": 7}),
        ({}, {"signed": False}),
    ],
)
def test_what_differs_in_kind_is_a_volume_of_its_own(
    frame_changes: dict[str, Any], header_changes: dict[str, Any]
) -> None:
    same = [instance(number, frame(float(number))) for number in (1, 2, 3)]
    odd = instance(4, frame(4.0, **frame_changes), **header_changes)
    made = assemble([*same, odd])
    assert sorted(map(str, numbers(made))) == ["[[1, 2, 3]]", "[[4]]"]


def test_an_orientation_written_with_other_rounding_is_the_same() -> None:
    near = (0.9999996, 0.0, 0.0008, 0.0, 1.0, 0.0)
    made = assemble([instance(1, frame(0.0)), instance(2, frame(1.0, orientation=near))])
    assert len(made.volumes) == 1


def test_the_same_instance_twice_is_taken_once() -> None:
    made = assemble(
        [instance(1, frame(0.0)), instance(2, frame(0.0), sop_instance="1.1"), instance(3, frame(1.0))]
    )
    assert made.refused == {2: "duplicate-instance"}
    assert numbers(made) == [[[1, 3]]]


@pytest.mark.parametrize("absent", ["position_mm", "orientation", "spacing_mm"])
def test_an_image_without_a_place_is_kept_by_itself_and_told(absent: str) -> None:
    made = assemble([instance(1, frame(0.0)), instance(2, frame(1.0, **{absent: None}))])
    assert made.refused == {}
    alone = next(volume for volume in made.volumes if volume.geometry is None)
    assert (alone.axes, alone.shape) == ("yx", (4, 6))
    assert alone.notes == ("geometry-missing",)
    assert sorted(map(str, numbers(made))) == ["[[1]]", "[[2]]"]


def test_a_mosaic_that_could_not_be_cut_is_kept_by_itself_and_told() -> None:
    mosaic = {"sop_class": MR, "image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")}
    unplaced = {"position_mm": None, "orientation": None}
    made = assemble([instance(number, frame(0.0, **unplaced), **mosaic) for number in (1, 2)])
    assert [volume.notes for volume in made.volumes] == [("mosaic-uncut",)] * 2
    assert [volume.geometry for volume in made.volumes] == [None, None]
    mixed = assemble([instance(1, frame(0.0, **unplaced), **mosaic), instance(2, frame(0.0, **unplaced))])
    assert sorted(volume.notes for volume in mixed.volumes) == [("geometry-missing",), ("mosaic-uncut",)]


def test_a_radiograph_needs_no_place() -> None:
    nowhere = frame(0.0, position_mm=None, orientation=None)
    made = assemble([instance(number, nowhere, sop_class=DX, modality="DX") for number in (1, 2)])
    assert [(volume.axes, volume.notes) for volume in made.volumes] == [("yx", ()), ("yx", ())]


def test_colour_frames_without_a_place_are_a_sequence_in_stored_order() -> None:
    frames = [
        frame(0.0, position_mm=None, orientation=None, coordinates={"time-offset-ms": 40.0 * k})
        for k in range(3)
    ]
    (volume,) = assemble([instance(1, *frames, sop_class=DX, samples=3, photometric="RGB")]).volumes
    assert (volume.axes, volume.shape) == ("tcyx", (3, 3, 4, 6))
    assert volume.axis_t is not None
    assert (volume.axis_t.meaning, volume.axis_t.values) == ("time-offset-ms", (0.0, 40.0, 80.0))
    assert volume.notes == ("cine",)


@pytest.mark.parametrize(
    "changes",
    [
        {"orientation": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)},
        {"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)},
        {"orientation": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
        {"spacing_mm": (0.0, 1.0)},
        {"spacing_mm": (-1.0, 1.0)},
        {"position_mm": (1e9, 0.0, 0.0)},
    ],
)
def test_geometry_that_no_scanner_makes_is_not_believed(changes: dict[str, Any]) -> None:
    (volume,) = assemble([instance(1, frame(0.0, **changes))]).volumes
    assert volume.geometry is None
    assert volume.notes == ("geometry-invalid",)


def test_frames_of_a_multi_frame_instance_are_ordered_like_single_ones() -> None:
    made = assemble([instance(1, frame(4.0), frame(0.0), frame(2.0))])
    assert [one.frame for one in made.volumes[0].slices[0]] == [1, 2, 0]


def test_a_single_image_is_a_volume_of_one_slice_with_its_thickness() -> None:
    made = assemble([instance(1, frame(0.0), attributes={"SliceThickness": 5.0})])
    assert made.volumes[0].shape == (1, 4, 6)
    assert lies(made.volumes[0]).spacing_mm[0] == 5.0


@given(
    st.lists(
        st.tuples(st.integers(-50, 50), st.integers(0, 3), st.sampled_from([AXIAL, CORONAL])),
        min_size=1,
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_every_instance_is_in_exactly_one_place_and_order_of_input_is_nothing(
    drawn: list[tuple[int, int, tuple[float, ...]]], random: Any
) -> None:
    instances = [
        instance(
            number, frame(float(z), coordinates={"temporal-position": float(time)}, orientation=orientation)
        )
        for number, (z, time, orientation) in enumerate(drawn, 1)
    ]
    first = assemble(instances)
    random.shuffle(instances)
    assert numbers(assemble(instances)) == numbers(first)
    placed = [number for volume in numbers(first) for time in volume for number in time]
    assert sorted(placed) == list(range(1, len(drawn) + 1))
    for volume in first.volumes:
        assert len({len(time) for time in volume.slices}) == 1
        assert all(math.isfinite(part) for part in (*lies(volume).step_mm, *lies(volume).spacing_mm))
