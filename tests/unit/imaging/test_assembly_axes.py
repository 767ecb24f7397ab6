"""Several images at one position: which become an axis t, which are split, which are told of."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from test_assembly import CORONAL, MR, frame, instance, lies, numbers

from imaging.staging.radiology.assembly import Assembled, assemble
from imaging.staging.radiology.volume import AxisT, Volume


def made_of(cells: list[tuple[float, dict[str, float]]], **changes: Any) -> Assembled:
    """One MR instance a cell: (z, coordinates)."""
    return assemble(
        [
            instance(number, frame(z, coordinates=coordinates), sop_class=MR, modality="MR", **changes)
            for number, (z, coordinates) in enumerate(cells, 1)
        ]
    )


def axis(volume: Volume) -> AxisT:
    assert volume.axis_t is not None
    return volume.axis_t


def test_equal_repeats_of_every_position_become_a_time_axis() -> None:
    made = made_of([(z, {"temporal-position": time}) for time in (3.0, 1.0, 2.0) for z in (0.0, 5.0)])
    assert numbers(made) == [[[3, 4], [5, 6], [1, 2]]]
    (volume,) = made.volumes
    assert (volume.axes, volume.shape) == ("tzyx", (3, 2, 4, 6))
    assert (axis(volume).meaning, axis(volume).values) == ("temporal-position", (1.0, 2.0, 3.0))
    assert volume.notes == ("time-axis",)


def test_a_time_that_lacks_slices_becomes_an_item_of_its_own() -> None:
    cells = [(z, {"temporal-position": t}) for t in (1.0, 2.0, 3.0) for z in (0.0, 5.0, 10.0)][:-1]
    made = made_of(cells)
    assert numbers(made) == [[[1, 2, 3], [4, 5, 6]], [[7, 8]]]
    assert made.notes == {"incomplete-grid": 1, "split-series": 1}


def test_a_slice_missing_in_the_middle_of_time_shifts_nothing() -> None:
    cells = [(z, {"temporal-position": t}) for t in (1.0, 2.0, 3.0) for z in (0.0, 5.0, 10.0)]
    del cells[4]  # the middle slice of the second time
    made = made_of(cells)
    assert numbers(made) == [[[1, 2, 3], [6, 7, 8]], [[4, 5]]]
    assert axis(made.volumes[0]).values == (1.0, 3.0)


def test_b_values_are_an_axis_with_the_directions_beside() -> None:
    directions = [(0.0, (0.0, 0.0, 0.0)), (1000.0, (1.0, 0.0, 0.0)), (1000.0, (0.0, 1.0, 0.0))]
    made = made_of(
        [
            (
                z,
                {
                    "b-value": b,
                    "gradient-x": g[0],
                    "gradient-y": g[1],
                    "gradient-z": g[2],
                    "instance-number": n,
                },
            )
            for n, (b, g) in enumerate(directions)
            for z in (0.0, 5.0)
        ]
    )
    (volume,) = made.volumes
    assert axis(volume).meaning == "b-value"
    assert axis(volume).unit == "second/millimeter^2"
    assert axis(volume).values == (0.0, 1000.0, 1000.0)
    beside = {one.meaning: one.values for one in axis(volume).beside}
    assert beside["gradient-x"] == (0.0, 0.0, 1.0)
    assert beside["gradient-y"] == (0.0, 1.0, 0.0)
    assert "gradient-z" not in beside  # the same for all


def test_directions_are_told_though_b0_and_trace_images_have_none() -> None:
    told = [
        {"b-value": 0.0},
        {"b-value": 1000.0, "gradient-x": 1.0, "gradient-y": 0.0, "gradient-z": 0.0},
        {"b-value": 1000.0, "gradient-x": 0.0, "gradient-y": 1.0, "gradient-z": 0.0},
        {"b-value": 1000.0},
    ]
    (volume,) = made_of([(z, one) for one in told for z in (0.0, 5.0)]).volumes
    beside = {one.meaning: one.values for one in axis(volume).beside}
    assert axis(volume).values == (0.0, 1000.0, 1000.0, 1000.0)
    assert beside == {"gradient-x": (0.0, 0.0, 0.0, 1.0), "gradient-y": (0.0, 0.0, 1.0, 0.0)}


def test_repeated_b0_images_are_kept_in_the_order_of_acquisition() -> None:
    made = made_of(
        [
            (z, {"b-value": b, "instance-number": float(n)})
            for n, b in enumerate((0.0, 0.0, 800.0))
            for z in (5.0, 0.0)
        ]
    )
    assert numbers(made) == [[[2, 1], [4, 3], [6, 5]]]
    assert axis(made.volumes[0]).values == (0.0, 0.0, 800.0)


def test_two_coordinates_vary_and_both_are_told() -> None:
    made = made_of(
        [
            (z, {"temporal-position": t, "b-value": b})
            for b in (0.0, 500.0)
            for t in (1.0, 2.0)
            for z in (0.0, 5.0)
        ]
    )
    (volume,) = made.volumes
    assert volume.shape[0] == 4
    assert axis(volume).meaning == "temporal-position"
    assert axis(volume).values == (1.0, 1.0, 2.0, 2.0)
    assert [(one.meaning, one.values) for one in axis(volume).beside] == [
        ("b-value", (0.0, 500.0, 0.0, 500.0))
    ]


def test_echoes_are_items_of_their_own() -> None:
    made = made_of(
        [
            (z, {"echo-time-ms": echo, "echo-number": n})
            for n, echo in ((1, 12.0), (2, 80.0))
            for z in (0.0, 5.0)
        ]
    )
    assert sorted(map(str, numbers(made))) == ["[[1, 2]]", "[[3, 4]]"]
    assert made.notes["multi-echo"] == 1


def test_phases_of_several_echoes_are_an_axis_in_each() -> None:
    made = made_of(
        [
            (z, {"echo-time-ms": echo, "trigger-time-ms": phase})
            for echo in (10.0, 20.0)
            for phase in (0.0, 50.0, 100.0)
            for z in (0.0, 5.0)
        ]
    )
    assert [volume.shape for volume in made.volumes] == [(3, 2, 4, 6)] * 2
    assert {axis(volume).meaning for volume in made.volumes} == {"trigger-time-ms"}


def test_an_echo_time_that_differs_from_slice_to_slice_splits_nothing() -> None:
    assert len(made_of([(z, {"echo-time-ms": 10.0 + z}) for z in (0.0, 5.0, 10.0)]).volumes) == 1


def test_cardiac_phases_whose_times_differ_by_slice_are_ordered_in_each_slice() -> None:
    made = made_of([(z, {"trigger-time-ms": 40.0 * k + z}) for z in (0.0, 8.0, 16.0) for k in (2, 0, 1)])
    assert numbers(made) == [[[2, 5, 8], [3, 6, 9], [1, 4, 7]]]
    assert axis(made.volumes[0]).per_slice
    assert axis(made.volumes[0]).values == (0.0, 40.0, 80.0)
    assert made.notes["per-slice-times"] == 1


def test_a_slice_whose_heart_beat_slower_stays_in_its_series() -> None:
    # Nine slices share all trigger times, the tenth only its first, as retrospectively gated cines have it.
    step = {float(z): 40.0 if z < 9 else 41.5 for z in range(10)}
    made = made_of(
        [(z, {"trigger-time-ms": phase * step[z]}) for z in step for phase in range(20)],
    )
    (volume,) = made.volumes
    assert volume.shape == (20, 10, 4, 6)
    assert (axis(volume).meaning, axis(volume).per_slice) == ("trigger-time-ms", True)
    assert axis(volume).values[:3] == (0.0, 40.0, 80.0)
    assert [one.instance.number for one in volume.slices[3]] == [z * 20 + 4 for z in range(10)]


def test_images_reconstructed_in_any_order_keep_that_of_their_numbers() -> None:
    made = made_of(
        [
            (
                z,
                {
                    "instance-number": 10.0 * phase + z,
                    "content-time-s": z * 6 + (phase * (5 if z else 1)) % 6,
                },
            )
            for z in (0.0, 5.0)
            for phase in range(6)
        ]
    )
    assert numbers(made) == [[[phase + 1, phase + 7] for phase in range(6)]]


def test_tube_voltages_at_one_position_are_items_of_their_own() -> None:
    made = made_of(
        [
            (z, {"tube-voltage-kv": voltage, "instance-number": 2 * z + (order if z else 1 - order)})
            for z in (0.0, 5.0, 10.0)
            for order, voltage in enumerate((80.0, 140.0))
        ]
    )
    assert numbers(made) == [[[1, 3, 5]], [[2, 4, 6]]]
    assert made.notes["multi-energy"] == 1
    assert len(made_of([(z, {"tube-voltage-kv": 100 + z}) for z in (0.0, 5.0, 10.0)]).volumes) == 1


def test_times_of_day_are_told_from_the_first_only_also_over_midnight() -> None:
    clock = [86_398.0, 86_399.0, 0.0, 1.0]
    made = made_of(
        [(z, {"acquisition-time-s": t, "temporal-position": n}) for n, t in enumerate(clock) for z in (0, 3)]
    )
    told = {one.meaning: one.values for one in axis(made.volumes[0]).beside}
    assert told["time-s"] == (0.0, 1.0, 2.0, 3.0)


def test_two_passes_at_the_same_positions_are_an_axis_of_acquisitions() -> None:
    made = made_of(
        [(z, {"acquisition-number": a, "acquisition-time-s": 100 * a}) for a in (1, 2) for z in (0.0, 5.0)]
    )
    (volume,) = made.volumes
    assert axis(volume).meaning == "acquisition"
    assert [(one.meaning, one.values) for one in axis(volume).beside] == [("time-s", (0.0, 100.0))]


def test_two_passes_over_partly_the_same_range_are_two_volumes() -> None:
    made = made_of(
        [(z, {"acquisition-number": 1}) for z in (0.0, 5.0, 10.0, 15.0)]
        + [(z, {"acquisition-number": 2}) for z in (10.0, 15.0, 20.0)]
    )
    assert numbers(made) == [[[1, 2, 3, 4]], [[5, 6, 7]]]


def test_passes_whose_slices_interleave_unevenly_are_even_volumes_of_their_own() -> None:
    made = made_of(
        [(z * 5.0, {"acquisition-number": 1}) for z in range(5)]
        + [(z * 5.0 + 1.3, {"acquisition-number": 2}) for z in range(5)]
    )
    assert [(volume.shape, lies(volume).uniform) for volume in made.volumes] == [((5, 4, 6), True)] * 2
    assert made.notes["interleaved-stacks"] == 1


def test_an_image_sent_again_under_a_new_identifier_is_told_and_kept_apart() -> None:
    made = made_of([(z, {"instance-number": n}) for n, z in enumerate((0.0, 5.0, 10.0, 5.0))])
    assert numbers(made) == [[[1, 2, 3]], [[4]]]
    assert made.notes["repeated-positions"] == 1
    assert all(volume.axis_t is None for volume in made.volumes)


def test_a_whole_series_sent_again_is_no_time_axis() -> None:
    made = made_of([(z, {"instance-number": n}) for n, z in enumerate((0.0, 5.0, 10.0) * 2)])
    assert numbers(made) == [[[1, 2, 3]], [[4, 5, 6]]]


def test_many_images_of_one_plane_are_a_sequence_though_nothing_names_it() -> None:
    made = made_of([(7.0, {"instance-number": n}) for n in range(25)])
    (volume,) = made.volumes
    assert (volume.axes, volume.shape[:2]) == ("tzyx", (25, 1))
    assert axis(volume).meaning == "index"
    assert made.notes == {"order-by-repeat": 1}


def test_stacks_side_by_side_are_not_mixed() -> None:
    left = [frame(z, position_mm=(-100.0, 0.0, z)) for z in (0.0, 5.0, 10.0)]
    right = [frame(z, position_mm=(60.0, 0.0, z)) for z in (0.0, 5.0, 10.0)]
    made = assemble([instance(number, one) for number, one in enumerate([*left, *right], 1)])
    assert numbers(made) == [[[1, 2, 3]], [[4, 5, 6]]]
    assert made.notes["in-plane-offset"] == 1


def test_a_three_plane_localizer_is_three_items() -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    frames = [frame(0.0), frame(0.0, orientation=CORONAL), frame(0.0, orientation=sagittal)]
    made = assemble([instance(number, one) for number, one in enumerate(frames, 1)])
    assert [volume.shape for volume in made.volumes] == [(1, 4, 6)] * 3


def test_several_frames_of_reference_are_told() -> None:
    made = assemble([instance(n, frame(float(n)), frame_of_reference=str(n % 2)) for n in range(1, 5)])
    assert len(made.volumes) == 2
    assert made.notes["several-frames-of-reference"] == 1
    (alone,) = assemble(
        [instance(1, frame(0.0), frame_of_reference="", attributes={"SliceThickness": 1.0})]
    ).volumes
    assert alone.notes == ("frame-of-reference-missing",)


def test_slices_of_a_microscope_are_not_taken_for_one_position() -> None:
    made = assemble([instance(n, frame(0.004 * n, spacing_mm=(0.002, 0.002))) for n in range(6)])
    assert [volume.shape for volume in made.volumes] == [(6, 4, 6)]
    assert lies(made.volumes[0]).uniform


def test_a_tilted_stack_with_a_missing_slice_keeps_its_shear() -> None:
    frames = [frame(0, position_mm=(0.0, 1.0 * k, 5.0 * k)) for k in (0, 1, 2, 4)]
    (volume,) = assemble([instance(number, one) for number, one in enumerate(frames, 1)]).volumes
    assert not lies(volume).uniform
    assert lies(volume).tilted
    assert lies(volume).step_mm == pytest.approx((0.0, 1.0, 5.0))


def test_axes_are_right_handed_whatever_the_orientation() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        turned, _ = np.linalg.qr(random.normal(size=(3, 3)))
        row, column = turned[:, 0], turned[:, 1]
        normal = np.cross(row, column)
        frames = [
            frame(0, position_mm=tuple(7.0 + 2.0 * k * normal), orientation=(*row, *column)) for k in range(4)
        ]
        random.shuffle(frames)
        (volume,) = assemble([instance(number, one) for number, one in enumerate(frames, 1)]).volumes
        affine = lies(volume).affine[:3, :3][:, ::-1]
        assert np.linalg.det(affine / np.linalg.norm(affine, axis=0)) == pytest.approx(1)
        for z, position in enumerate(lies(volume).positions_mm):
            assert lies(volume).affine @ [z, 0, 0, 1] == pytest.approx([*position, 1], abs=1e-6)


def test_a_hundred_thousand_frames_are_ordered_in_seconds() -> None:
    frames = [
        frame(1.5 * z, coordinates={"temporal-position": float(t), "instance-number": float(t * 200 + z)})
        for t in range(500)
        for z in range(200)
    ]
    # Within the limit of one instance, so that this test times assembling and not the making of headers.
    one = instance(1, *frames, sop_class=MR)
    started = time.perf_counter()
    (volume,) = assemble([one]).volumes
    assert volume.shape == (500, 200, 4, 6)
    assert time.perf_counter() - started < 20


def acquisitions(*parts: tuple[dict[str, Any], list[float]], times: int = 1) -> Assembled:
    """MR instances of one series: for each part its frames' fields and its positions, acquired one after another."""
    made = []
    for fields, positions in parts:
        for _ in range(times):
            for z in positions:
                number = len(made) + 1
                coordinates = {
                    "acquisition-time-s": number / 10,
                    "instance-number": number,
                    "temporal-position": 1.0,
                }
                made.append(
                    instance(
                        number,
                        frame(z, coordinates=coordinates, **fields),
                        sop_class=MR,
                        modality="MR",
                        attributes={},
                    )
                )
    return assemble(made)


@pytest.mark.parametrize(
    ("one", "other"),
    [("column+", "column-"), ("row+", "row-"), ("row", "column"), ("column+", "row+"), ("column+", "column")],
)
def test_opposite_phase_encodings_are_items_of_their_own(one: str, other: str) -> None:
    places = [0.0, 3.0, 6.0]
    made = acquisitions(({"phase_encoding": one}, places), ({"phase_encoding": other}, places))
    assert sorted(map(str, numbers(made))) == ["[[1, 2, 3]]", "[[4, 5, 6]]"]
    assert made.notes == {"several-phase-encodings": 1, "split-series": 1}
    assert all(volume.axis_t is None for volume in made.volumes)


def test_opposite_phase_encodings_at_other_positions_do_not_interleave() -> None:
    made = acquisitions(
        ({"phase_encoding": "column+"}, [0.0, 3.0, 6.0]), ({"phase_encoding": "column-"}, [1.5, 4.5, 7.5])
    )
    assert sorted(map(str, numbers(made))) == ["[[1, 2, 3]]", "[[4, 5, 6]]"]


def test_each_polarity_keeps_its_own_times() -> None:
    places = [0.0, 3.0, 6.0]
    made = acquisitions(
        ({"phase_encoding": "column+"}, places), ({"phase_encoding": "column-"}, places), times=3
    )
    assert [volume.shape for volume in made.volumes] == [(3, 3, 4, 6)] * 2


def test_a_slice_that_does_not_tell_its_polarity_does_not_part_a_stack() -> None:
    made = acquisitions(
        ({"phase_encoding": "column+"}, [0.0, 3.0]), ({"phase_encoding": "column"}, [6.0, 9.0])
    )
    assert numbers(made) == [[[1, 2, 3, 4]]]


def test_images_of_one_position_taken_in_different_ways_are_items_of_their_own() -> None:
    made = acquisitions(({"acquired": "aa"}, [0.0, 1.0, 2.0, 3.0]), ({"acquired": "bb"}, [0.0, 2.0]))
    assert sorted(map(str, numbers(made))) == ["[[1, 2, 3, 4]]", "[[5, 6]]"]
    assert made.notes == {"several-acquisitions": 1, "split-series": 1}


def test_settings_that_differ_from_slice_to_slice_part_nothing() -> None:
    made = acquisitions(({"acquired": "aa"}, [0.0, 1.0]), ({"acquired": "bb"}, [2.0, 3.0]))
    assert numbers(made) == [[[1, 2, 3, 4]]]


def test_repetition_times_are_an_axis() -> None:
    cells = [(z, {"repetition-time-ms": tr}) for tr in (500.0, 1500.0, 3000.0) for z in (0.0, 5.0)]
    made = made_of(cells)
    assert (axis(made.volumes[0]).meaning, axis(made.volumes[0]).values) == (
        "repetition-time-ms",
        (500.0, 1500.0, 3000.0),
    )
