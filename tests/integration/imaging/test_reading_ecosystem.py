"""A staged group, unsealed into plain files, opens in the readers people already use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array
import ngff_zarr
import numpy as np
import pytest
import xarray
import zarr
from archive import series, slide
from ome_zarr.io import parse_url
from ome_zarr.reader import Multiscales, Reader
from staged_copies import plain_copy, stage_archive

from imaging import standalone
from imaging.reading import StagedCopy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ecosystem")
    series(root / "archive", slices=5)
    slide(root / "archive" / "one.svs", height=1501, width=2103)
    stage_archive(root / "archive", root / "copy", root / "secret")
    plain_copy(root / "copy", root / "secret", root / "plain")
    return root


@pytest.fixture(scope="module")
def copy(folder: Path) -> StagedCopy:
    return standalone.open_staged(folder / "copy", folder / "secret")


def items(copy: StagedCopy) -> dict[str, str]:
    return {row["kind"]: row["item"] for row in copy.index().to_pylist()}


def stored(copy: StagedCopy, kind: str, level: int = 0) -> np.ndarray[Any, Any]:
    item = items(copy)[kind]
    array = copy.volume(item) if kind == "volume" else copy.slide(item, level)
    return np.asarray(array[:])


VOLUME_SCALE = [2.5, 0.661468, 0.661468]
SLIDE_SCALES = [[1, 0.499 * factor, 0.499 * factor] for factor in (1, 2, 4, 8)]


@pytest.mark.parametrize(
    ("kind", "axes", "scales"),
    [("volume", "zyx", [VOLUME_SCALE]), ("slide", "cyx", SLIDE_SCALES)],
)
def test_ome_zarr_py_finds_axes_levels_scales_and_pixels(
    folder: Path, copy: StagedCopy, kind: str, axes: str, scales: list[list[float]]
) -> None:
    location = parse_url(folder / "plain" / items(copy)[kind])
    assert location is not None
    (node,) = Reader(location)()
    assert any(isinstance(spec, Multiscales) for spec in node.specs)
    assert [axis["name"] for axis in node.metadata["axes"]] == list(axes)
    found = [level[0]["scale"] for level in node.metadata["coordinateTransformations"]]
    assert found == [pytest.approx(scale) for scale in scales]
    for level, data in enumerate(node.data):
        assert np.array_equal(data.compute(), stored(copy, kind, level))


def test_ngff_zarr_validates_a_volume_and_finds_the_same(folder: Path, copy: StagedCopy) -> None:
    multiscales = ngff_zarr.from_ngff_zarr(folder / "plain" / items(copy)["volume"], validate=True)
    (image,) = multiscales.images
    assert tuple(image.dims) == ("z", "y", "x")
    assert [image.scale[axis] for axis in "zyx"] == pytest.approx(VOLUME_SCALE)
    assert {axis: image.translation[axis] for axis in "zyx"} == pytest.approx({"z": 5, "y": -20, "x": -10})
    assert set(image.axes_units.values()) == {"millimeter"}
    assert np.array_equal(np.asarray(image.data), stored(copy, "volume"))


def test_ngff_zarr_validates_a_slide_but_its_own_decoder_knows_no_jpeg(
    folder: Path, copy: StagedCopy
) -> None:
    path = folder / "plain" / items(copy)["slide"]
    attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
    ngff_zarr.validate(attributes, version="0.5")
    with pytest.raises(Exception, match="imagecodecs_jpeg is not supported"):
        ngff_zarr.from_ngff_zarr(path)
    # What it can do: take the pixels from a reader that has the codec.
    image = copy.multiscale(items(copy)["slide"])
    made = ngff_zarr.to_ngff_image(
        copy.slide_lazy(items(copy)["slide"], 1),
        dims=list(image.axes),
        scale={axis: image.scale(axis, 1) for axis in "yx"},
        axes_units={"y": "micrometer", "x": "micrometer"},
    )
    assert np.array_equal(np.asarray(made.data), stored(copy, "slide", 1))
    assert made.scale["x"] == pytest.approx(0.998)


@pytest.mark.parametrize("kind", ["volume", "slide"])
def test_xarray_opens_the_group_by_itself_with_named_dimensions(
    folder: Path, copy: StagedCopy, kind: str
) -> None:
    path = folder / "plain" / items(copy)[kind]
    if kind == "volume":  # a group of one array; levels of a slide share names of dimensions, not their sizes
        with xarray.open_zarr(path, consolidated=False) as opened:
            assert opened["0"].dims == ("z", "y", "x")
            assert np.array_equal(opened["0"], stored(copy, kind))
    else:
        with xarray.open_zarr(path, consolidated=False, drop_variables=["1", "2", "3"]) as opened:
            assert opened["0"].dims == ("c", "y", "x")
            assert np.array_equal(opened["0"][:, :300, :300], stored(copy, kind)[:, :300, :300])


@pytest.mark.parametrize("kind", ["volume", "slide"])
def test_xarray_and_zarr_open_the_sealed_copy_through_its_store(copy: StagedCopy, kind: str) -> None:
    group = zarr.open_group(copy.store, path=items(copy)[kind], mode="r")
    levels: dict[str, Any] = dict(group.arrays())
    assert sorted(levels) == [str(number) for number in range(len(levels))]
    drop = [name for name in levels if name != "0"]
    opened = xarray.open_zarr(copy.store, group=items(copy)[kind], consolidated=False, drop_variables=drop)
    assert np.array_equal(opened["0"], stored(copy, kind))
    lazy = dask.array.from_zarr(levels["0"])
    assert np.array_equal(lazy[..., :50].compute(), stored(copy, kind)[..., :50])
