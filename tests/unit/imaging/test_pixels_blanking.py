from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.deid.pixels.blanking import blank
from imaging.deid.pixels.boxes import Box, merged, outside

BOXES = st.lists(st.builds(Box, *([st.integers(-5, 30)] * 4)), max_size=6)
TYPES = st.sampled_from(["u1", "i2", "<u2", ">u2", "i4", "f4"])


def covers(boxes: list[Box], rows: int, columns: int) -> NDArray[np.bool_]:
    seen = np.zeros((rows, columns), bool)
    for y in range(rows):
        for x in range(columns):
            seen[y, x] = any(box.y0 <= y < box.y1 and box.x0 <= x < box.x1 for box in boxes)
    return seen


@given(BOXES, TYPES, st.integers(1, 20), st.integers(1, 20), st.sampled_from([None, 3]))
def test_outside_the_boxes_not_a_bit_changes(
    boxes: Any, kind: str, rows: int, columns: int, samples: Any
) -> None:
    shape = (rows, columns) if samples is None else (rows, columns, samples)
    noise = np.random.default_rng(rows * 31 + columns).integers(0, 256, (*shape, np.dtype(kind).itemsize))
    frame = noise.astype(np.uint8).view(kind)[..., 0]  # any bits, also those of NaN
    before = frame.tobytes()
    done = blank(frame, boxes, fill=7)
    inside = covers(boxes, rows, columns)
    assert done.dtype == frame.dtype
    assert done[~inside].tobytes() == frame[~inside].tobytes()
    assert (done[inside] == 7).all()
    assert frame.tobytes() == before


@pytest.mark.parametrize(
    ("kind", "shape", "fill", "expected"),
    [
        ("u1", (4, 4), None, 0),
        ("i2", (4, 4), None, -32768),
        ("u2", (4, 4), None, 0),
        ("i2", (4, 4), -2000, -2000),
        ("u1", (4, 4, 3), None, 0),
        ("i2", (4, 4, 3), None, 0),
        ("f4", (4, 4), None, 0),
        ("?", (4, 4), None, 0),
    ],
)
def test_the_fill_is_padding_or_the_least_value(kind: str, shape: Any, fill: Any, expected: int) -> None:
    done = blank(np.ones(shape, kind), [Box(1, 1, 3, 3)], fill)
    assert (done[1:3, 1:3] == expected).all()


@pytest.mark.parametrize(("kind", "fill"), [("u1", 256), ("u1", -1), ("i2", 40000), ("u2", 0.5), ("?", 2)])
def test_a_fill_that_would_wrap_around_is_refused(kind: str, fill: float) -> None:
    with pytest.raises(ValueError, match="fill"):
        blank(np.ones((4, 4), kind), [Box(0, 0, 1, 1)], fill)


def test_a_frame_has_two_or_three_axes() -> None:
    with pytest.raises(ValueError, match="axes"):
        blank(np.ones((2, 4, 4, 3), np.uint8), [])


@given(BOXES)
def test_all_outside_is_the_complement_without_overlap(keep: list[Box]) -> None:
    found = outside(keep, 24, 18)
    assert (covers(found, 24, 18) == ~covers(keep, 24, 18)).all()
    assert sum(box.area for box in found) == (~covers(keep, 24, 18)).sum()


@given(BOXES)
def test_merged_boxes_cover_the_same_and_touch_no_other(boxes: list[Box]) -> None:
    found = merged(boxes)
    assert not (covers(boxes, 24, 18) & ~covers(found, 24, 18)).any()
    assert not any(a.touches(b) for i, a in enumerate(found) for b in found[i + 1 :])
