from __future__ import annotations

import dask.array
import numpy as np
import pytest

from imaging.reading.values import modality_of

STORED = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)


def both_ways(ours: dict, axes: str, stored: np.ndarray) -> np.ndarray:
    """Applied at once and by Dask, which must agree."""
    modality = modality_of(ours, axes, stored.shape)
    made = modality.apply(stored, [slice(0, size) for size in stored.shape])
    lazy = modality.lazily(dask.array.from_array(stored, chunks=(1, *stored.shape[1:]))).compute()
    assert made.dtype == lazy.dtype == np.float32
    assert np.array_equal(made, lazy)
    return made


def test_one_line_for_all() -> None:
    made = both_ways({"rescale": {"slope": 2.0, "intercept": -1024.0}}, "tzyx", STORED)
    assert np.array_equal(made, STORED * 2.0 - 1024)


def test_a_line_a_slice_goes_time_by_time() -> None:
    slopes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    made = both_ways({"rescale": {"slope": slopes, "intercept": [0.5] * 6}}, "tzyx", STORED)
    for t in range(2):
        for z in range(3):
            assert np.array_equal(made[t, z], STORED[t, z] * slopes[3 * t + z] + np.float32(0.5))


def test_a_line_a_slice_holds_for_each_channel() -> None:
    made = both_ways({"rescale": {"slope": [1.0, 2.0, 3.0], "intercept": 0.0}}, "czyx", STORED)
    assert np.array_equal(made[1, 2], STORED[1, 2] * 3.0)


def test_a_part_takes_the_lines_of_its_slices() -> None:
    ours = {"rescale": {"slope": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "intercept": 0.0}}
    part = modality_of(ours, "tzyx", STORED.shape).apply(
        STORED[1, 1:3, :, 2:4], [1, slice(1, 3), slice(0, 4), slice(2, 4)]
    )
    assert np.array_equal(part, STORED[1, 1:3, :, 2:4] * np.array([5.0, 6.0]).reshape(2, 1, 1))


def test_a_table_takes_the_place_of_the_line_and_its_ends_go_on() -> None:
    ours = {
        "rescale": {"slope": 9.0, "intercept": 9.0},
        "modality_lut": {"first": 10, "values": [100, 200, 400]},
    }
    stored = np.array([[[-5, 10, 11, 12, 99]]], dtype=np.int16)
    assert both_ways(ours, "zyx", stored).ravel().tolist() == [100, 100, 200, 400, 400]


def test_nothing_stated_leaves_the_values() -> None:
    assert np.array_equal(both_ways({}, "tzyx", STORED), STORED)


def test_large_integers_are_rescaled_before_they_are_rounded() -> None:
    stored = np.array([[[2**31 - 1, 2**31 - 2]]], dtype=np.uint32)
    made = both_ways({"rescale": {"slope": 1.0, "intercept": -(2.0**31 - 2)}}, "zyx", stored)
    assert made.ravel().tolist() == [1, 0]


def test_a_wrong_number_of_slopes_is_refused() -> None:
    with pytest.raises(ValueError, match="5 rescale slopes for 6 slices"):
        modality_of({"rescale": {"slope": [1.0] * 5, "intercept": 0.0}}, "tzyx", STORED.shape)
