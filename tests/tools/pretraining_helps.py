"""Does pretraining help?  A ViT pretrained by ``pretrain-mae@1`` against the same one with random weights.

``PYTHONPATH=.torch:.:tests/support python tests/tools/pretraining_helps.py DATA [--steps 120] [--seeds 5]`` with DATA
a folder that has ``pathology/CMU-1-Small-Region.svs`` and ``radiology/mr-functional``.  Prints a table in Markdown.

The tasks are small and made from what the files themselves say, so that nobody had to label:

- ``slide``: which of three magnifications (0.5, 1 or 2 µm a pixel) a patch of 64² is of.  Trained and judged on
  different bands of the slide, each an eighth of its width.
- ``volume``: which third of the head, from the bottom, a crop of 8 × 32 × 32 voxels begins in.  Trained on
  some time points of a functional MR, judged on others.

Both models are frozen; a logistic regression (scikit-learn) on their features sees few labels.  Pretraining sees all
patches without labels, also those judged on.  Each seed draws weights, order, masks and labels anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from staged_copies import stage_archive

from hdrs_hpc.workloads.training import models, pretrain_mae
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import scaled
from imaging import standalone
from imaging.reading import StagedCopy
from imaging.reading.torch_data import SlidePatches, VolumePatches
from imaging.reading.torch_loading import ResumableLoader

LABELS = (5, 20)
"""Of each class."""
JUDGED = 300
ASKED: dict[str, dict[str, Any]] = {
    "slide": {"of": "slides", "size": 64, "token": 16, "mpp": [0.5, 1.0, 2.0], "tissue": 0.0},
    "volume": {"of": "volumes", "size": 32, "depth": 8, "token": 8},
}
MPP = (0.5, 1.0, 2.0)


class Alone:
    """A context of one rank without a job."""

    rank, world_size, device = 0, 1, torch.device("cpu")
    output_names = ("encoder", "training")

    def __init__(self, copy: StagedCopy, parameters: dict[str, Any], folder: Path) -> None:
        self.data, self.parameters, self._folder = {"images": copy}, parameters, folder

    def output(self, name: str) -> Path:
        return self._folder / name

    def loader(self, dataset: Any, batch_size: int, **options: Any) -> Any:
        return ResumableLoader(dataset, batch_size, **options)


def slide_patches(copy: StagedCopy) -> list[tuple[dict[str, Any], int, bool]]:
    """Patch, class, whether it may be trained on."""
    made = []
    for number, mpp in enumerate(MPP):
        data = SlidePatches(
            copy, size=64, mpp=mpp, stride=64 if mpp < 1.5 else 24, tissue=0.5, positions="grid"
        )
        for sample in data.__getitems__(range(len(data))):
            width = copy.slide(sample["item"], sample["level"]).shape[-1]
            middle = sample["x"] + 32 * mpp / copy.multiscale(sample["item"]).scale("x", sample["level"])
            made.append((sample, number, int(8 * middle / width) % 2 == 0))
    return made


def volume_patches(copy: StagedCopy) -> list[tuple[dict[str, Any], int, bool]]:
    data = VolumePatches(copy, patch=(8, 32, 32), stride=(4, 16, 16), positions="grid")
    draw = np.random.default_rng(0)
    made = []
    numbers = draw.permutation(len(data))[:1500].tolist()
    for sample in data.__getitems__(numbers):
        depth = copy.volume(sample["item"]).shape[-3]
        if sample["image"].std() < 20:  # air
            continue
        made.append((sample, min(2, sample["z"] * 3 // max(1, depth - 7)), sample["t"] % 2 == 0))
    return made


def score(features: np.ndarray, wanted: np.ndarray, train: np.ndarray, each: int, seed: int) -> float:
    """Accuracy on what is not trained on; as many of each class."""
    draw = np.random.default_rng(seed)
    classes = np.unique(wanted)
    of = {one: draw.permutation(np.flatnonzero(train & (wanted == one)))[:each] for one in classes}
    judged = {
        one: draw.permutation(np.flatnonzero(~train & (wanted == one)))[: JUDGED // len(classes)]
        for one in classes
    }
    assert all(len(found) == each for found in of.values())
    few, many = np.concatenate(list(of.values())), np.concatenate(list(judged.values()))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    probe.fit(features[few], wanted[few])
    hits = [float((probe.predict(features[found]) == one).mean()) for one, found in judged.items()]
    assert len(many)
    return float(np.mean(hits))


def features_of(model: Any, samples: list[dict[str, Any]], told: Parameters) -> np.ndarray:
    made = []
    with torch.inference_mode():
        for at in range(0, len(samples), 128):
            batch = torch.stack([sample["image"] for sample in samples[at : at + 128]])
            made.append(model(scaled(batch, told, torch.device("cpu"))).numpy())
    return np.concatenate(made)


def compare(task: str, copy: StagedCopy, steps: int, seeds: int, folder: Path) -> None:
    patches = slide_patches(copy) if task == "slide" else volume_patches(copy)
    samples = [sample for sample, _, _ in patches]
    wanted = np.asarray([number for _, number, _ in patches])
    train = np.asarray([may for _, _, may in patches], bool)
    found: dict[tuple[str, int], list[float]] = {}
    begun = time.process_time()
    losses = []
    for seed in range(seeds):
        asked = {**ASKED[task], "model": "vit-tiny", "batch-size": 64, "workers": 0, "seed": seed, "lr": 1e-3}
        asked |= {"epochs": 1, "steps": 1} if not steps else {"epochs": max(1, steps // 5), "steps": 5}
        where = folder / f"{task}-{seed}"
        where.mkdir()
        pretrain_mae.run(Alone(copy, asked, where))
        rows = (where / "training").read_text().splitlines()[1:]
        losses.append((float(rows[0].split(",")[-1]), float(rows[-1].split(",")[-1])))
        told = Parameters.of_spec(asked)
        torch.manual_seed(1000 + seed)
        for name, weights in (("random", None), ("pretrained", where / "encoder")):
            features = features_of(models.encoder(told, weights).eval(), samples, told)
            for each in LABELS:
                found.setdefault((name, each), []).append(score(features, wanted, train, each, seed))
    for each in LABELS:
        print(f"| {task} | {each} |", end="")
        for name in ("random", "pretrained"):
            values = 100 * np.asarray(found[name, each])
            print(f" {values.mean():.1f} ± {values.std(ddof=1):.1f} |", end="")
        gain = 100 * (np.asarray(found["pretrained", each]) - np.asarray(found["random", each]))
        print(f" {gain.mean():+.1f} ({(gain > 0).sum()} of {seeds}) |", flush=True)
    first, last = np.mean(losses, axis=0)
    print(
        f"  {task}: {len(samples)} patches, loss {first:.2f} → {last:.2f}, {time.process_time() - begun:.0f} s of CPU",
        file=sys.stderr,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--task", choices=sorted(ASKED), action="append")
    told = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | labels of each class | random | pretrained | difference (seeds better) |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {"slide": "pathology", "volume": "radiology/mr-functional"}
        for task in told.task or sorted(ASKED):
            archive = folder / f"{task}-archive"
            source = told.data / sources[task]
            if task == "slide":
                archive.mkdir()
                (archive / "slide.svs").write_bytes((source / "CMU-1-Small-Region.svs").read_bytes())
            else:
                archive = source
            stage_archive(archive, folder / f"{task}-copy", folder / f"{task}.secret")
            copy = standalone.open_staged(folder / f"{task}-copy", folder / f"{task}.secret")
            compare(task, copy, told.steps, told.seeds, folder)


if __name__ == "__main__":
    main()
