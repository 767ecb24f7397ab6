from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reading.tissue import windows_with_tissue
from imaging.reading.windows import PatchImage


def slide(height: int, width: int, size: int) -> PatchImage:
    return PatchImage("slides/s", "", 0, "cyx", (3, height, width), (3, 64, 64), (1, size, size))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.integers(1, 20),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_on_a_mask_as_large_as_the_slide_it_is_the_share_of_pixels(height, width, size, share, seed) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    image = slide(height, width, size)
    found = windows_with_tissue(image, mask, share)
    assert found.shape == image.grid
    for row, column in np.ndindex(found.shape[2:]):
        y, x = image.start("y", row), image.start("x", column)
        part = mask[y : y + size, x : x + size]
        assert found[0, 0, row, column] == (part.any() and part.sum() >= share * part.size)


@pytest.mark.parametrize("factor", [2, 8, 31])
def test_on_a_coarser_mask_it_finds_the_window_that_lies_there(factor: int) -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[4:6, 6:8] = True  # windows are two mask pixels wide
    found = windows_with_tissue(slide(10 * factor, 12 * factor, 2 * factor), mask, 0.9)
    assert np.argwhere(found).tolist() == [[0, 0, 2, 3]]
