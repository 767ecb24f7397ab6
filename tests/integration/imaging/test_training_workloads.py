"""The built-in trainings and measures, on a small staged copy: they learn, repeat what they did, and agree on ranks."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive import series, slide
from staged_copies import seal_by_hand, served, stage_archive

from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from imaging.reading import open_staged, split_by_patient

HERE = importlib.util.find_spec("torch") is not None
pytestmark = pytest.mark.skipif(not HERE, reason="torch is not here: put it on PYTHONPATH to run these tests")
if HERE:
    import safetensors.numpy
    import torch

    from imaging.reading.torch_loading import ResumableLoader

    torch.set_num_threads(1)  # models this small only wait for more

SMALL = {"model": "vit-tiny", "size": 32, "token": 16, "batch-size": 8, "workers": 0, "lr": 1e-3}
VOLUMES = {"of": "volumes", "depth": 16, "window": [-1000, 1000]}


class Here:
    """The context of one rank, as contract and documentation have it."""

    def __init__(self, folder: Path, data: list[str], parameters: dict[str, Any], outputs: list[str]) -> None:
        self.data = {name: open_staged(name) for name in data}
        self.parameters = parameters
        self.rank = self.local_rank = int(os.environ.get("RANK", "0"))
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = torch.device("cpu")
        self.output_names = sorted(outputs)
        self.inputs: dict[str, Path] = {}
        self._folder = folder

    def output(self, name: str) -> Path:
        assert name in self.output_names
        assert self.rank == 0
        return self._folder / name

    def loader(self, dataset: Any, batch_size: int, **options: Any) -> Any:
        return ResumableLoader(dataset, batch_size, rank=self.rank, world_size=self.world_size, **options)


def run(
    builtin: str,
    folder: Path,
    names: str | list[str],
    inputs: dict[str, Path] | None = None,
    **parameters: Any,
) -> Here:
    folder.mkdir(parents=True, exist_ok=True)
    row = BUILT_IN[builtin]
    assert row.kind == "torch"
    told = [names] if isinstance(names, str) else names
    context = Here(
        folder, told, {name.replace("_", "-"): one for name, one in parameters.items()}, list(row.outputs)
    )
    context.inputs = inputs or {}
    module, function = row.entry.split(":")
    getattr(importlib.import_module(module), function)(context)
    for output, columns in row.tables.items():
        with (folder / output).open(newline="") as handle:
            assert tuple(next(csv.reader(handle))) == columns
    assert {path.name for path in folder.iterdir()} == set(row.outputs)
    return context


def rows(folder: Path, output: str) -> list[dict[str, str]]:
    with (folder / output).open(newline="") as handle:
        return list(csv.DictReader(handle))


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(folder, "training")]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("training")
    for number in range(4):
        series(root / "ct", name=f"s{number}", patient=f"P-{number}", slices=16, spacing=1 + number % 2)
    slide(root / "he" / "one.svs", height=1501, width=2103)
    slide(root / "he" / "two.svs", height=900, width=1200)
    for name in ("ct", "he"):
        stage_archive(root / name, root / f"{name}-copy", root / f"{name}.secret")
    return {name: (root / f"{name}-copy", root / f"{name}.secret") for name in ("ct", "he")}


@pytest.fixture(scope="module")
def job(copies: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A job with volumes, slides, and a table that says of each patient whether the series is a thick one."""
    root = tmp_path_factory.mktemp("outcomes")
    from imaging import standalone

    index = standalone.open_staged(*copies["ct"]).index()
    table = pa.table(
        {"patient": index["patient"], "grade": [str(number % 2) for number in range(len(index))]}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    seal_by_hand(root / "copy", root / "secret", {}, {"tables/t/0.parquet": sink.getvalue().to_pybytes()})
    everything = {**copies, "outcomes": (root / "copy", root / "secret")}
    with tempfile.TemporaryDirectory(prefix="hdrs-") as short, served(everything, Path(short, "data.sock")):
        yield


@pytest.mark.parametrize(("data", "more"), [("he", {"tissue": 0.0}), ("ct", VOLUMES)])
def test_a_masked_autoencoder_learns_and_repeats_itself(
    job: None, tmp_path: Path, data: str, more: dict[str, Any]
) -> None:
    asked = {**SMALL, **more, "epochs": 3, "steps": 4, "warmup": 0}
    for name in ("first", "again"):
        run("pretrain-mae@1", tmp_path / name, data, **asked)
    first, again = losses(tmp_path / "first"), losses(tmp_path / "again")
    assert first == again
    assert np.isfinite(first).all()
    assert first[-1] < first[0]
    one, two = (safetensors.numpy.load_file(tmp_path / name / "encoder") for name in ("first", "again"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    run("pretrain-mae@1", tmp_path / "other", data, **asked, seed=1)
    assert losses(tmp_path / "other") != first


def test_dino_learns_and_repeats_itself(job: None, tmp_path: Path) -> None:
    asked = {
        **SMALL,
        "tissue": 0.0,
        "epochs": 3,
        "steps": 3,
        "prototypes": 64,
        "local-views": 2,
        "batch-size": 4,
    }
    for name in ("first", "again"):
        run("pretrain-dino@1", tmp_path / name, "he", **asked, warmup=0)
    first = losses(tmp_path / "first")
    assert first == losses(tmp_path / "again")
    assert np.isfinite(first).all()
    assert first[-1] < first[0], first


@pytest.mark.parametrize("pretrained", ["pretrain-mae@1", "pretrain-dino@1"])
def test_weights_go_from_pretraining_to_embeddings_and_a_classifier(
    job: None, tmp_path: Path, pretrained: str
) -> None:
    asked = {**SMALL, "size": 96, "tissue": 0.0, "epochs": 1, "steps": 1}
    of_dino = {"prototypes": 16} if pretrained == "pretrain-dino@1" else {}
    run(pretrained, tmp_path / "pretrained", "he", **asked, **of_dino)
    weights = {"encoder": tmp_path / "pretrained" / "encoder"}
    run("embed@1", tmp_path / "embedded", "he", weights, **asked)
    run("embed@1", tmp_path / "random", "he", **asked)
    made = safetensors.numpy.load_file(tmp_path / "embedded" / "embeddings")
    from hdrs_hpc.workloads.training.writing import items_of

    assert items_of(made["items"]) == [f"slides/{name}" for name in open_staged("he").slides()]
    assert made["features"].shape == (2, 192)
    other = safetensors.numpy.load_file(tmp_path / "random" / "embeddings")
    assert not np.allclose(made["features"], other["features"])
    run("finetune@1", tmp_path / "tuned", "he", weights, **asked, label="item", validation=0)
    assert "encoder.vit.cls_token" in safetensors.numpy.load_file(tmp_path / "tuned" / "model")
    with pytest.raises(ValueError, match="of another model"):
        run("embed@1", tmp_path / "wrong", "he", weights, **{**asked, "model": "vit-small"})


def test_a_classifier_of_volumes_learns_labels_of_a_linked_table(job: None, tmp_path: Path) -> None:
    asked = {**SMALL, **VOLUMES, "batch-size": 4, "epochs": 4, "warmup": 0, "label": "grade"}
    # Pseudonyms differ each time, and with four patients a part may have none.
    shares, index = {"training": 0.8, "validation": 0.2}, open_staged("ct").index()

    def whole(seed: int) -> bool:
        return all(part.num_rows for part in split_by_patient(index, shares, str(seed)).values())

    asked["seed"] = next(filter(whole, range(1000)))
    run("finetune@1", tmp_path / "tuned", ["ct", "outcomes"], **asked, table="outcomes", data="ct")
    asked["seed"] = next(seed for seed in range(1000) if not whole(seed))
    with pytest.raises(ValueError, match="no patient of these few falls into"):
        run("finetune@1", tmp_path / "few", ["ct", "outcomes"], **asked, table="outcomes", data="ct")
    made = rows(tmp_path / "tuned", "training")
    fitted = [row for row in made if row["part"] == "training"]
    assert [int(row["epoch"]) for row in fitted] == [1, 2, 3, 4]
    assert float(fitted[-1]["loss"]) < float(fitted[0]["loss"])
    assert all(0 <= float(row["accuracy"]) <= 1 for row in made)
    held = {row["part"]: int(row["n_patients"]) for row in made}
    assert sum(held.values()) == 4


@pytest.mark.parametrize("builtin", ["pretrain-mae@1", "pretrain-dino@1", "embed@1"])
def test_two_ranks_train_one_model(job: None, tmp_path: Path, builtin: str) -> None:
    asked = {**SMALL, "tissue": 0.0, "epochs": 2, "steps": 3, "batch-size": 4}
    asked |= {"prototypes": 64, "local-views": 2} if builtin == "pretrain-dino@1" else {}
    asked |= {"size": 96} if builtin == "embed@1" else {}
    given = {"folder": str(tmp_path / "two"), "data": ["he"], "parameters": asked, "builtin": builtin}
    (tmp_path / "two").mkdir()
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as meeting:
        ranks = [
            subprocess.Popen(
                [sys.executable, str(here), json.dumps(given), str(Path(meeting, "store"))],
                env={
                    **os.environ,
                    "RANK": str(rank),
                    "WORLD_SIZE": "2",
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([*sys.path, str(here.parents[2])]),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        said = [rank.communicate(timeout=90)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    if builtin == "embed@1":
        run(builtin, tmp_path / "one", "he", **asked)
        one, two = (safetensors.numpy.load_file(tmp_path / name / "embeddings") for name in ("one", "two"))
        assert np.array_equal(one["patches"], two["patches"])
        np.testing.assert_allclose(one["features"], two["features"], atol=1e-4)
    else:
        found = losses(tmp_path / "two")
        assert np.isfinite(found).all()
        assert len(found) == 2
        assert safetensors.numpy.load_file(tmp_path / "two" / "encoder")


def test_radiomics_are_those_of_the_region(job: None, tmp_path: Path) -> None:
    run("radiomics@1", tmp_path / "made", "ct")
    (row,) = rows(tmp_path / "made", "features")
    assert (row["modality"], row["n_patients"], row["n_series"]) == ("CT", "4", "4")
    measured = safetensors.numpy.load_file(tmp_path / "made" / "measures")["features"]
    assert measured.shape == (4, 10)
    assert float(row["mean"]) == pytest.approx(measured[:, 0].mean(), rel=1e-4)


def test_radiomics_of_a_ball_are_known(tmp_path: Path) -> None:
    from hdrs_hpc.workloads.training.radiomics import FEATURES, features
    from imaging import standalone

    z, y, x = np.meshgrid(*(np.arange(n) - n / 2 for n in (24, 80, 80)), indexing="ij")
    ball = (z * 2.5) ** 2 + (y * 0.5) ** 2 + (x * 0.5) ** 2 < 15**2  # spacing of copies made by hand
    stored = np.where(ball, 100, -1000).astype(np.int16)
    ours = {"rescale": {"slope": 1, "intercept": 0}}
    seal_by_hand(tmp_path / "copy", tmp_path / "secret", {"series/v": (ours, stored, "zyx")})
    found = dict(
        zip(
            FEATURES,
            features(standalone.open_staged(tmp_path / "copy", tmp_path / "secret"), "series/v"),
            strict=True,
        )
    )
    assert found["mean"] == found["median"] == 100
    assert found["entropy"] == 0
    assert found["volume_ml"] == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.03)
    assert found["roundness"] == pytest.approx(1, abs=0.1)


def test_a_blurred_slide_and_one_with_ink_are_found(tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    from hdrs_hpc.workloads.training.parameters import Parameters
    from hdrs_hpc.workloads.training.slide_qc import measure
    from imaging import standalone

    rng = np.random.default_rng(0)
    pink = np.asarray([200, 120, 170], np.float64)[:, None, None]
    grain = rng.normal(0, 5, (1, 1024, 1024))
    sharp = np.full((3, 1024, 1024), 245.0)
    sharp[:, 128:896, 128:896] = (pink + grain)[:, 128:896, 128:896]
    blurred = gaussian_filter(sharp, (0, 4, 4))
    inked = sharp.copy()
    inked[:, 60:80, 100:900] = np.asarray([20, 120, 60])[:, None, None]
    slides = {
        f"slides/{name}": ({}, image.clip(0, 255).astype(np.uint8), "cyx")
        for name, image in (
            ("blurred", blurred),
            ("empty", np.full_like(sharp, 245)),
            ("inked", inked),
            ("sharp", sharp),
        )
    }
    seal_by_hand(tmp_path / "copy", tmp_path / "secret", slides)
    copy = standalone.open_staged(tmp_path / "copy", tmp_path / "secret")
    found = {name: measure(copy, name, Parameters()) for name in slides}
    assert found["slides/sharp"][0] == pytest.approx(0.5625, abs=0.01)
    assert found["slides/sharp"][1] > 50 * found["slides/blurred"][1] > 0
    assert found["slides/empty"] == (0, 0, 0)
    assert found["slides/inked"][2] == pytest.approx(20 * 800 / 1024**2, rel=0.2)
    assert found["slides/sharp"][2] == 0
    from hdrs_hpc.workloads.training.slide_qc import judge

    said = {name: judge(*numbers, {}) for name, numbers in found.items()}
    assert said["slides/sharp"] == {"good"}
    assert said["slides/empty"] == {"little tissue"}
    assert said["slides/inked"] == {"pen marks"}
    assert said["slides/blurred"] == {"out of focus"}


def test_slide_quality_is_counted(job: None, tmp_path: Path) -> None:
    run("slide-qc@1", tmp_path / "made", "he")
    made = rows(tmp_path / "made", "quality")
    assert [row["finding"] for row in made] == ["good", "little tissue", "out of focus", "pen marks"]
    assert all(row["n_patients"] == row["n_slides"] for row in made)  # these slides name no patient


if __name__ == "__main__":  # one of two ranks
    _given, _store = json.loads(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{_store}", rank=int(os.environ["RANK"]), world_size=2
    )
    _row = BUILT_IN[_given["builtin"]]
    _context = Here(Path(_given["folder"]), _given["data"], _given["parameters"], list(_row.outputs))
    _module, _function = _row.entry.split(":")
    getattr(importlib.import_module(_module), _function)(_context)
    torch.distributed.destroy_process_group()
