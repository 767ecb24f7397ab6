"""One reading API: the same in a job and over a standalone copy, in any process, with the key in neither pickle."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import pytest
from archive import series, tissue
from staged_copies import served, stage_archive

from hdrs_hpc.sealing.cipher import KeyStaysHereError
from imaging import standalone
from imaging.reading import NoSuchItemError, StagedCopy, open_staged


class Place(NamedTuple):
    dest: Path
    secret: Path


@pytest.fixture(scope="module")
def place(small_copy: tuple[Path, Path]) -> Place:
    return Place(*small_copy)


@pytest.fixture(scope="module")
def job(place: Place) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="hdrs-") as short,
        served({"ct": (place.dest, place.secret)}, Path(short, "data.sock")),
    ):
        yield


@pytest.fixture(params=["in a job", "standalone"])
def copy(request: pytest.FixtureRequest, place: Place, job: None) -> StagedCopy:
    if request.param == "in a job":
        return open_staged("ct")
    return standalone.open_staged(place.dest, place.secret)


def by_shape(copy: StagedCopy, shape: list[int]) -> str:
    return next(row["item"] for row in copy.index().to_pylist() if row["shape"] == shape)


def test_it_lists_what_the_index_lists(copy: StagedCopy) -> None:
    items = set(copy.index()["item"].to_pylist())
    assert {f"series/{each}" for each in copy.series()} | {
        f"slides/{each}" for each in copy.slides()
    } == items
    assert (len(copy.series()), len(copy.slides())) == (4, 2)
    assert b'"refused"' in copy.read("report.json")


def test_physical_values_are_stored_ones_after_the_rescale_of_the_file(copy: StagedCopy) -> None:
    item = by_shape(copy, [4, 128, 128])
    stored = np.asarray(copy.volume(item)[:])
    physical = copy.physical(item)
    assert physical.dtype == np.float32
    assert np.array_equal(physical, stored.astype(np.float32) * 2 - 100)
    assert np.array_equal(copy.physical_lazy(item).compute(), physical)


def test_xarray_has_millimetres_and_the_same_values(copy: StagedCopy) -> None:
    item = by_shape(copy, [5, 128, 128])
    array = copy.xarray(item)
    assert array.dims == ("z", "y", "x")
    assert array.chunks is not None  # lazy
    assert array.z.values == pytest.approx(5 + 2.5 * np.arange(5))
    assert array.x.values == pytest.approx(-10 + 0.661468 * np.arange(128))
    assert array.y.attrs["units"] == "millimeter"
    slab = array.sel(z=slice(7, 13))
    assert np.array_equal(slab, copy.physical(item)[1:4])
    assert copy.xarray(item, values="stored").dtype == np.int16


def test_a_slides_levels_are_a_tree_whose_coordinates_are_micrometres(copy: StagedCopy) -> None:
    item = by_shape(copy, [3, 1501, 2103])
    tree = copy.datatree(item)
    assert list(tree.children) == ["0", "1", "2", "3"]
    half = tree["1"]["image"]
    assert half.dims == ("c", "y", "x")
    assert list(half.c.values) == ["red", "green", "blue"]
    # Pixel 0 of level 1 stands for pixels 0 and 1 of level 0: its centre is half a pixel further in.
    assert half.x.values[:2] == pytest.approx([0.4990 * 0.5, 0.4990 * 2.5])
    assert half.y.attrs["units"] == "micrometer"
    window = tree["0"]["image"][:, 100:200, 300:420].values
    assert np.abs(window.transpose(1, 2, 0).astype(int) - tissue(1501, 2103)[100:200, 300:420]).mean() < 4


def test_geometry_places_voxels_where_the_files_say(copy: StagedCopy) -> None:
    geometry = copy.geometry(by_shape(copy, [5, 128, 128]))
    assert geometry is not None
    # ImagePositionPatient of slice 4, and PixelSpacing, as the archive was written.
    assert geometry.world([4, 2, 3]) == pytest.approx([-10 + 3 * 0.661468, -20 + 2 * 0.661468, 15])
    assert geometry.spacing_xyz == pytest.approx([0.661468, 0.661468, 2.5])
    assert geometry.direction == pytest.approx(np.eye(3))


def test_what_there_is_not_is_said_by_name(copy: StagedCopy) -> None:
    for ask in (copy.volume, copy.slide, copy.physical, copy.geometry, copy.read, copy.xarray):
        with pytest.raises(NoSuchItemError):
            ask("absent")
    with pytest.raises(NoSuchItemError):
        copy.slide(copy.slides()[0], 9)


def mean_of(copy: StagedCopy, item: str) -> float:
    return float(np.asarray(copy.volume(item)[:]).mean())


def test_another_process_reads_what_was_pickled(copy: StagedCopy) -> None:
    item = copy.series()[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(mean_of, (copy, item)) == mean_of(copy, item)


def test_dask_processes_read_lazy_arrays(copy: StagedCopy) -> None:
    item = copy.slides()[0]
    with dask.config.set(scheduler="processes", num_workers=1):
        assert copy.slide_lazy(item, 1).sum().compute() == int(np.asarray(copy.slide(item, 1)[:]).sum())


def test_a_pickle_of_a_standalone_copy_names_files_and_holds_no_secret(place: Place) -> None:
    copy = standalone.open_staged(place.dest, place.secret)
    raw = pickle.dumps([copy, copy.store, copy.volume(copy.series()[0])])
    assert place.secret.read_bytes() not in raw
    again, store, array = pickle.loads(raw)
    assert store == copy.store
    assert np.array_equal(array[0], again.volume(copy.series()[0])[0])


def test_a_copy_opened_with_the_secrets_bytes_stays_in_its_process(place: Place) -> None:
    copy = standalone.open_staged(place.dest, place.secret.read_bytes())
    assert np.asarray(copy.volume_lazy(copy.series()[0])[0]).shape[-1] > 1
    for held in (copy, copy.store, copy.volume(copy.series()[0])):
        with pytest.raises(KeyStaysHereError):
            pickle.dumps(held)
    assert str(place.secret.read_bytes()) not in repr(copy) + repr(copy.store)


def test_a_reference_does_not_open_another_copy_that_took_the_place(tmp_path: Path) -> None:
    paths = series(tmp_path / "archive", slices=3)
    stage_archive(tmp_path / "archive", tmp_path / "copy", tmp_path / "secret")
    raw = pickle.dumps(standalone.open_staged(tmp_path / "copy", tmp_path / "secret"))
    (tmp_path / "copy").rename(tmp_path / "old")
    paths[0].unlink()
    stage_archive(tmp_path / "archive", tmp_path / "copy", tmp_path / "secret")
    standalone.reading._opened.cache_clear()  # as in a process that had not opened it yet
    with pytest.raises(standalone.NotACopyError, match="another copy"):
        pickle.loads(raw).series()
    assert standalone.open_staged(tmp_path / "copy", tmp_path / "secret").index()["shape"].to_pylist() == [
        [2, 128, 128]
    ]
