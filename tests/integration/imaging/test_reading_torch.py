"""Patches for PyTorch through its own DataLoader: right pixels, in workers of either kind, without overlap."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import series, slide
from staged_copies import seal_by_hand, served, stage_archive

from imaging import standalone
from imaging.reading import StagedCopy, open_staged, split_by_patient

HERE = importlib.util.find_spec("torch") is not None
pytestmark = pytest.mark.skipif(not HERE, reason="torch is not here: put it on PYTHONPATH to run these tests")
if HERE:
    import torch

    from imaging.reading.tissue import tissue_mask
    from imaging.reading.torch_data import ShardSampler, SlidePatches, Streamed, VolumePatches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("torch")
    series(root / "archive", name="a", patient="P-1", slices=5)
    series(root / "archive", name="c", patient="P-2", slices=4, RescaleSlope=2, RescaleIntercept=-100)
    slide(root / "archive" / "one.svs", height=1501, width=2103)
    stage_archive(root / "archive", root / "copy", root / "secret")
    return root


@pytest.fixture(scope="module")
def job(folder: Path) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="hdrs-") as short,
        served({"both": (folder / "copy", folder / "secret")}, Path(short, "data.sock")),
    ):
        yield


@pytest.fixture(params=["in a job", "standalone"])
def copy(request: pytest.FixtureRequest, folder: Path, job: None) -> StagedCopy:
    if request.param == "in a job":
        return open_staged("both")
    return standalone.open_staged(folder / "copy", folder / "secret")


def loaded(dataset: Any, **how: Any) -> list[dict[str, Any]]:
    """Samples one by one out of a DataLoader's batches."""
    samples = []
    for batch in torch.utils.data.DataLoader(dataset, **{"batch_size": 4, **how}):
        for number in range(len(batch["item"])):
            samples.append({key: values[number] for key, values in batch.items()})
    return samples


def where(sample: dict[str, Any]) -> tuple[Any, ...]:
    return (sample["item"], *(int(sample[axis]) for axis in "tzyx"))


def check_volume(copy: StagedCopy, sample: dict[str, Any], fill: float) -> None:
    volume = copy.physical(sample["item"])
    _, z, y, x = (int(sample[axis]) for axis in "tzyx")
    patch = sample["image"].numpy()
    cut = volume[z : z + patch.shape[1], y : y + patch.shape[2], x : x + patch.shape[3]]
    assert np.array_equal(patch[0, : cut.shape[0], : cut.shape[1], : cut.shape[2]], cut)
    assert (patch[0, cut.shape[0] :] == fill).all()


def test_a_grid_over_volumes_gives_every_voxel_in_physical_units(copy: StagedCopy) -> None:
    dataset = VolumePatches(copy, patch=(2, 64, 48), positions="grid")
    samples = loaded(dataset)
    assert samples[0]["image"].shape == (1, 2, 64, 48)
    assert samples[0]["image"].dtype == torch.float32
    assert len(samples) == len(dataset) == (3 + 2) * 2 * 3
    for sample in samples:
        check_volume(copy, sample, 0)
    assert len({sample["patient"] for sample in samples}) == 2


def test_a_patch_deeper_than_its_volume_is_filled(copy: StagedCopy) -> None:
    for sample in loaded(VolumePatches(copy, patch=(8, 64, 64), positions="random", fill=-1024)):
        check_volume(copy, sample, -1024)


def test_stored_values_keep_their_type(copy: StagedCopy) -> None:
    (first, *_) = loaded(VolumePatches(copy, patch=(2, 32, 32), values="stored"))
    assert first["image"].dtype == torch.int16


def test_series_of_another_kind_than_asked_for_are_no_patches(copy: StagedCopy) -> None:
    with pytest.raises(ValueError, match="items of kind volume, but kinds are cine"):
        VolumePatches(copy, copy.series()[:1], kinds=("cine",))


def check_workers(copy: StagedCopy, start: str, workers: int = 2) -> None:
    dataset = SlidePatches(copy, size=224)
    dataset.set_epoch(3)
    alone = loaded(dataset, sampler=ShardSampler(dataset))
    together = loaded(
        dataset, sampler=ShardSampler(dataset), num_workers=workers, multiprocessing_context=start
    )
    assert [where(sample) for sample in together] == [where(sample) for sample in alone]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(alone, together, strict=True))


def test_forked_workers_read_the_same(copy: StagedCopy) -> None:
    check_workers(copy, "fork")


def test_spawned_workers_read_the_same(job: None) -> None:
    check_workers(open_staged("both"), "spawn", workers=1)  # torch is slow to import


def test_workers_share_a_stream_out(copy: StagedCopy) -> None:
    dataset = SlidePatches(copy, size=224)
    assert sorted(map(where, loaded(Streamed(dataset), num_workers=2))) == sorted(map(where, loaded(dataset)))


def test_slide_patches_are_the_slides_pixels(copy: StagedCopy) -> None:
    level = np.asarray(copy.slide(copy.slides()[0], 1)[:])
    dataset = SlidePatches(copy, size=100, level=1)
    for sample in loaded(dataset):
        y, x = int(sample["y"]), int(sample["x"])
        assert sample["image"].dtype == torch.uint8
        assert np.array_equal(sample["image"].numpy(), level[:, y : y + 100, x : x + 100])


def test_a_pixel_size_chooses_the_level_and_what_is_between_is_resampled(copy: StagedCopy) -> None:
    exact = SlidePatches(
        copy, size=100, mpp=0.998, positions="grid"
    )  # scanned at 0.499: level 1 is twice that
    (first, *_) = loaded(exact)
    assert int(first["level"]) == 1
    between = SlidePatches(copy, size=100, mpp=0.75, positions="grid")
    (first, *_) = loaded(between)
    assert int(first["level"]) == 0
    assert first["image"].shape == (3, 100, 100)
    source = np.asarray(copy.slide(copy.slides()[0])[:, :150, :150]).astype(float)
    # 1.5 pixels make one: every second made pixel spans whole source pixels well enough to compare means.
    assert first["image"].numpy().mean() == pytest.approx(source.mean(), abs=1)
    assert np.abs(first["image"].numpy()[:, ::2, ::2] - source[:, ::3, ::3]).mean() < 20
    with pytest.raises(ValueError, match="finer than"):
        SlidePatches(copy, mpp=0.2)


def test_epochs_differ_also_for_workers_that_live_on(copy: StagedCopy) -> None:
    stream = Streamed(SlidePatches(copy, size=224))
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        epochs.append([where(sample) for sample in loader])
    assert epochs[0] == epochs[2]
    assert sorted(epochs[0]) != sorted(epochs[1])


def test_ranks_share_an_epoch_equally_and_without_overlap(copy: StagedCopy) -> None:
    dataset = SlidePatches(copy, size=150, positions="grid")
    ranks = [
        [where(sample) for sample in loaded(Streamed(dataset, rank=rank, world=3), num_workers=0)]
        for rank in range(3)
    ]
    assert {len(rank) for rank in ranks} == {len(dataset) // 3} == {len(Streamed(dataset, rank=0, world=3))}
    assert len(set().union(*ranks)) == sum(map(len, ranks))


def test_a_transform_sees_each_sample(copy: StagedCopy) -> None:
    def halved(sample: dict[str, Any]) -> dict[str, Any]:
        return {"image": sample["image"].float() / 2, "item": sample["item"]}

    plain = VolumePatches(copy, patch=(2, 64, 64), positions="grid")[0]["image"]
    assert torch.equal(
        VolumePatches(copy, patch=(2, 64, 64), positions="grid", transform=halved)[0]["image"], plain / 2
    )


def test_a_cohort_query_chooses_the_items_and_splits_share_no_patient(copy: StagedCopy) -> None:
    index = copy.index()
    volumes = index.filter(np.asarray([kind == "volume" for kind in index["kind"].to_pylist()]))
    splits = split_by_patient(volumes, {"train": 0.5, "validation": 0.5}, salt="3")
    patients = {
        name: {sample["patient"] for sample in loaded(VolumePatches(copy, rows, patch=(4, 128, 128)))}
        for name, rows in splits.items()
    }
    assert not patients["train"] & patients["validation"]
    assert len(patients["train"] | patients["validation"]) == 2
    assert len(VolumePatches(copy, copy.series()[:1], patch=(4, 128, 128), positions="grid")) in (1, 2)


@pytest.fixture
def glass_and_tissue(tmp_path: Path) -> StagedCopy:
    """A white slide with one dark square, x 512 to 1024, y 256 to 768."""
    pixels = np.full((3, 1024, 1536), 245, dtype=np.uint8)
    pixels[:, 256:768, 512:1024] = 90
    path = "slides/s"
    seal_by_hand(tmp_path / "copy", tmp_path / "secret", {path: ({}, pixels, "cyx")})
    return standalone.open_staged(tmp_path / "copy", tmp_path / "secret")


def test_tissue_is_where_light_is_taken_away(glass_and_tissue: StagedCopy) -> None:
    mask = tissue_mask(glass_and_tissue, "s")
    assert mask.sum() == 512 * 512
    assert mask[256:768, 512:1024].all()
    dataset = SlidePatches(glass_and_tissue, size=128, tissue=0.9, positions="grid")
    found = {(int(sample["y"]), int(sample["x"])) for sample in loaded(dataset)}
    assert found == {(y, x) for y in range(256, 768, 128) for x in range(512, 1024, 128)}
    assert len(SlidePatches(glass_and_tissue, size=128)) == 8 * 12


def test_windows_of_series_with_time_and_channels(tmp_path: Path) -> None:
    stored = np.arange(2 * 3 * 4 * 8 * 8, dtype=np.int16).reshape(2, 3, 4, 8, 8)
    slopes = {"slope": list(range(1, 9)), "intercept": 0}
    seal_by_hand(tmp_path / "copy", tmp_path / "secret", {"series/v": ({"rescale": slopes}, stored, "tczyx")})
    copy = standalone.open_staged(tmp_path / "copy", tmp_path / "secret")
    samples = loaded(VolumePatches(copy, patch=(2, 8, 4), positions="grid"))
    assert len(samples) == 2 * 2 * 2
    physical = stored * np.arange(1.0, 9).reshape(2, 1, 4, 1, 1)
    for sample in samples:
        t, z, _, x = (int(sample[axis]) for axis in "tzyx")
        assert np.array_equal(sample["image"].numpy(), physical[t, :, z : z + 2, :, x : x + 4])
