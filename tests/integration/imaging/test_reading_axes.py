"""Arrays with every kind of axis: values, coordinates and geometry go by the axes' names, never by their number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from staged_copies import seal_by_hand

from imaging import standalone
from imaging.reading import StagedCopy

AFFINE = [[0, 0, 0.5, -10], [0, 0.5, 0, -20], [2.5, 0, 0, 5], [0, 0, 0, 1]]
PLACE: dict[str, Any] = {
    "affine_lps_mm": AFFINE,
    "slice_positions_mm": [[-10, -20, 5], [-10, -20, 7.5], [-10, -20, 10]],
    "uniform_spacing": True,
}
UNEVEN = PLACE | {
    "uniform_spacing": False,
    "slice_positions_mm": [[-10, -20, 5], [-10, -20, 7.5], [-10, -20, 20]],
}
DIFFUSION = PLACE | {
    "axis_t": {"meaning": "b-value", "values": [0, 1000]},
    "rescale": {"slope": [1, 1, 1, 2, 2, 2], "intercept": 0, "per_slice": True},
}
SEGMENTS = PLACE | {"channels": [{"name": "liver"}, {"name": "spleen"}]}


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


IMAGES: dict[str, tuple[dict[str, Any], np.ndarray[Any, Any], str]] = {
    "series/plain": (PLACE, numbers(3, 4, 6), "zyx"),
    "series/uneven": (UNEVEN, numbers(3, 4, 6), "zyx"),
    "series/diffusion": (DIFFUSION, numbers(2, 3, 4, 6), "tzyx"),
    "series/segments": (SEGMENTS, numbers(2, 3, 4, 6), "czyx"),
    "series/colour": ({"affine_lps_mm": None}, numbers(3, 4, 6), "cyx"),
    "series/cine": (
        {"axis_t": {"meaning": "time-s", "values": [0.0, 0.04]}},
        numbers(2, 3, 4, 6),
        "tcyx",
    ),
    "series/everything": (PLACE, numbers(2, 3, 3, 4, 6), "tczyx"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> StagedCopy:
    root = tmp_path_factory.mktemp("axes")
    seal_by_hand(root / "copy", root / "secret", IMAGES)
    return standalone.open_staged(root / "copy", root / "secret")


@pytest.mark.parametrize("item", IMAGES)
def test_dimensions_are_the_axes_and_the_values_are_there(copy: StagedCopy, item: str) -> None:
    ours, stored, axes = IMAGES[item]
    array = copy.xarray(item, values="stored")
    assert array.dims == tuple(axes)
    assert np.array_equal(array, stored)
    assert "".join(copy.volume(item).metadata.dimension_names) == axes  # type: ignore[union-attr,arg-type]
    assert copy.physical(item).shape == stored.shape
    assert (copy.geometry(item) is None) == (ours.get("affine_lps_mm") is None)


def test_a_diffusion_series_has_its_b_values_and_a_slope_for_each(copy: StagedCopy) -> None:
    array = copy.xarray("diffusion")
    assert array.t.attrs["meaning"] == "b-value"
    stored = IMAGES["series/diffusion"][1]
    assert np.array_equal(array.sel(t=1000), stored[1] * 2.0)
    assert np.array_equal(array.sel(t=0), stored[0])


def test_channels_go_by_name(copy: StagedCopy) -> None:
    assert np.array_equal(copy.xarray("segments").sel(c="spleen"), IMAGES["series/segments"][1][1])
    assert list(copy.xarray("colour").c.values) == ["red", "green", "blue"]


def test_time_without_a_meaning_is_an_index(copy: StagedCopy) -> None:
    time = copy.xarray("everything").t
    assert (time.attrs["meaning"], list(time.values)) == ("index", [0, 1])
    assert list(copy.xarray("cine").t.values) == [0.0, 0.04]


def test_slices_that_are_not_evenly_spaced_have_their_own_coordinates(copy: StagedCopy) -> None:
    assert list(copy.xarray("uneven").z.values) == [5, 7.5, 20]
    geometry = copy.geometry("uneven")
    assert geometry is not None
    assert geometry.world([2, 1, 1]) == pytest.approx([-9.5, -19.5, 20])
