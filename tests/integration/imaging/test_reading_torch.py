"""Patches for PyTorch through its own DataLoader: right pixels, in workers of either kind, without overlap."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from archive import series, slide
from staged_copies import seal_by_hand, served, stage_archive

from imaging import standalone
from imaging.reading import StagedCopy, open_staged, split_by_patient

HERE = importlib.util.find_spec("torch") is not None
pytestmark = pytest.mark.skipif(not HERE, reason="torch is not here: put it on PYTHONPATH to run these tests")
if HERE:
    import torch

    from imaging.reading.labels import labels_of
    from imaging.reading.tissue import tissue_mask
    from imaging.reading.torch_data import SlidePatches, VolumePatches
    from imaging.reading.torch_loading import ResumableLoader, Streamed


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
    return one_by_one(torch.utils.data.DataLoader(dataset, **{"batch_size": 4, **how}))


def one_by_one(batches: Any) -> list[dict[str, Any]]:
    samples = []
    for batch in batches:
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
    alone = one_by_one(ResumableLoader(dataset, 4))
    together = one_by_one(ResumableLoader(dataset, 4, num_workers=workers, multiprocessing_context=start))
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


def test_volumes_of_different_spacing_come_at_one_spacing(tmp_path: Path) -> None:
    """Values that rise with the place in millimetres still do, whatever the voxels' size, and the affine says where."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in (8, 40, 40)), indexing="ij")
    place_mm = (z * 2.5 + y * 0.5 + x * 0.5).astype(np.float32)  # spacing of copies made by hand
    affine = np.diag([2.5, 0.5, 0.5, 1.0])[[2, 1, 0, 3]]
    ours = {"rescale": {"slope": 1, "intercept": 0}, "affine_lps_mm": affine.tolist()}
    seal_by_hand(tmp_path / "copy", tmp_path / "secret", {"series/v": (ours, place_mm, "zyx")})
    copy = standalone.open_staged(tmp_path / "copy", tmp_path / "secret")
    dataset = VolumePatches(copy, patch=(4, 10, 10), spacing=(2.5, 1.0, 0.25), positions="grid")
    for sample in loaded(dataset):
        assert sample["image"].shape == (1, 4, 10, 10)
        np.testing.assert_allclose(sample["spacing"], [2.5, 1.0, 0.25])
        index = np.stack(np.meshgrid(*(np.arange(n) for n in (4, 10, 10)), indexing="ij"), -1)
        world = index @ sample["affine"].numpy()[:3, :3].T + sample["affine"].numpy()[:3, 3]
        inner = (
            slice(None),
            slice(None),
            slice(3, -3),
        )  # linear interpolation is flat at the patch's own edge
        np.testing.assert_allclose(sample["image"][0].numpy()[inner], world.sum(-1)[inner], atol=1e-4)
    with pytest.raises(ValueError, match="at their own spacing"):
        VolumePatches(copy, spacing=(1, 1, 1), values="stored")


def test_the_affine_of_a_patch_is_the_series_own_moved_to_its_first_voxel(copy: StagedCopy) -> None:
    for sample in loaded(VolumePatches(copy, patch=(2, 64, 48), positions="grid")):
        geometry = copy.geometry(sample["item"])
        assert geometry is not None
        first = [int(sample[axis]) for axis in "zyx"]
        np.testing.assert_allclose(sample["affine"][:3, 3], geometry.world(first))
        np.testing.assert_allclose(sample["affine"][:3, :3], geometry.affine_zyx[:3, :3])


def test_several_levels_and_a_stride_of_half_a_patch(copy: StagedCopy) -> None:
    dataset = SlidePatches(copy, size=100, level=[0, 1], stride=50, positions="grid")
    samples = loaded(dataset)
    assert {int(sample["level"]) for sample in samples} == {0, 1}
    for sample in samples:
        level, y, x = (int(sample[axis]) for axis in ("level", "y", "x"))
        np.testing.assert_allclose(sample["mpp"], 0.499 * 2**level, rtol=1e-3)
        cut = np.asarray(copy.slide(sample["item"], level)[:, y : y + 100, x : x + 100])
        assert np.array_equal(sample["image"].numpy(), cut)
    places = sorted({int(sample["x"]) for sample in samples if int(sample["level"]) == 0})
    assert places == [*range(0, 2003, 50), 2003]


def test_labels_of_a_linked_table_are_joined_by_pseudonym(copy: StagedCopy) -> None:
    index = copy.index()
    patients = sorted({patient for patient in index["patient"].to_pylist() if patient})
    outcomes = pa.table({"patient": [*patients, patients[0]], "relapse": ["no", None, "no"]})
    labels = labels_of(index, "relapse", outcomes, names=("yes", "no"))
    dataset = VolumePatches(copy, patch=(2, 64, 64), labels=labels)
    assert {(sample["patient"], int(sample["label"])) for sample in loaded(dataset)} == {(patients[0], 1)}
    assert len(SlidePatches(copy, labels=labels)) == 0  # the slide names no patient
    of_index = labels_of(index, "kind")
    samples = loaded(SlidePatches(copy, labels=of_index))
    assert {of_index.names[int(sample["label"])] for sample in samples} == {"slide"}
    with pytest.raises(ValueError, match="no column grade"):
        labels_of(index, "grade")
    twice = pa.table({"patient": patients[:1] * 2, "relapse": ["no", "yes"]})
    with pytest.raises(ValueError, match="two values"):
        labels_of(index, "relapse", twice)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_workers_fetched_ahead_is_not_lost_where_training_goes_on(
    copy: StagedCopy, workers: int
) -> None:
    def loader() -> Any:
        return ResumableLoader(SlidePatches(copy, size=150), 3, seed=5, num_workers=workers)

    whole = [where(sample) for sample in one_by_one(loader())]
    first, seen = loader(), []
    for step, batch in enumerate(first, 1):
        seen += [where(sample) for sample in one_by_one([batch])]
        if step == 4:
            state = first.state_dict()
            break
    assert state == {"epoch": 0, "sample_in_epoch": 12, "seed": 5}
    second = loader()
    second.load_state_dict(state)
    seen += [where(sample) for sample in one_by_one(second)]
    assert seen == whole
    again = [where(sample) for sample in one_by_one(second)]  # the next epoch: elsewhere, in another order
    assert second.state_dict()["epoch"] == 1
    assert len(again) == len(whole)
    assert set(again) != set(whole)


def test_ranks_of_a_loader_see_the_order_of_one(copy: StagedCopy) -> None:
    def batches(rank: int, world: int) -> list[list[tuple[Any, ...]]]:
        loader = ResumableLoader(SlidePatches(copy, size=150), 8 // world, rank=rank, world_size=world)
        return [[where(sample) for sample in one_by_one([batch])] for batch in loader]

    alone = batches(0, 1)
    pairs = zip(batches(0, 2), batches(1, 2), strict=True)
    assert [[one for pair in zip(a, b, strict=True) for one in pair] for a, b in pairs] == alone


def test_transforms_of_monai_and_torchvision_work_as_they_are(copy: StagedCopy) -> None:
    transforms = pytest.importorskip("monai.transforms")
    vision = pytest.importorskip("torchvision.transforms.v2")
    scaled = transforms.Compose(
        [
            transforms.ScaleIntensityRanged("image", -1000, 1000, 0, 1, clip=True),
            transforms.RandFlipd("image", prob=1.0, spatial_axis=2),
        ]
    )
    plain = VolumePatches(copy, patch=(2, 64, 64), positions="grid")
    made = loaded(VolumePatches(copy, patch=(2, 64, 64), positions="grid", transform=scaled), num_workers=1)
    for before, after in zip(loaded(plain), made, strict=True):
        wanted = ((before["image"] + 1000) / 2000).clip(0, 1).flip(-1)
        torch.testing.assert_close(torch.as_tensor(after["image"]), wanted)
    views = vision.Compose([vision.RandomCrop(32), vision.ToDtype(torch.float32, scale=True)])

    def one_view(sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "image": views(sample["image"])}

    for sample in loaded(SlidePatches(copy, size=64, transform=one_view))[:5]:
        assert sample["image"].shape == (3, 32, 32)
        assert 0 <= float(sample["image"].min()) <= float(sample["image"].max()) <= 1
