"""Which patches a built-in training reads, and how their values become a model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow
import torch

from hdrs_hpc.workloads.training.parameters import Parameters
from imaging.reading import StagedCopy
from imaging.reading.labels import Labels
from imaging.reading.torch_data import PatchDataset, Positions, SlidePatches, VolumePatches


def images(context: Any, told: Parameters) -> StagedCopy:
    """The input with the images.  Raises ValueError where it is not told which of several."""
    if told.data:
        copy: StagedCopy = context.data[told.data]
        return copy
    if len(context.data) != 1:
        raise ValueError("several inputs: name the one with the images in parameters, as `data: ct`")
    only: StagedCopy = next(iter(context.data.values()))
    return only


def rows(copy: StagedCopy, told: Parameters) -> pyarrow.Table:
    """Of the index: slides, or volumes of the modality asked for."""
    index = copy.index()
    wanted = [
        row["kind"] == ("slide" if told.of == "slides" else "volume")
        and (told.of == "slides" or told.modality in (None, row["modality"]))
        for row in index.to_pylist()
    ]
    return index.filter(pyarrow.array(wanted, pyarrow.bool_()))


def patches(
    copy: StagedCopy,
    chosen: pyarrow.Table,
    told: Parameters,
    positions: Positions = "random",
    labels: Labels | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> PatchDataset:
    """The data set of these rows.  Raises ValueError where they have no patch."""
    shared: dict[str, Any] = {
        "positions": positions,
        "seed": told.seed,
        "labels": labels,
        "transform": transform,
    }
    made: PatchDataset
    if told.of == "slides":
        made = SlidePatches(
            copy, chosen, told.size, level=told.level, mpp=told.mpp, tissue=told.tissue, **shared
        )
    else:
        spacing = None if told.spacing is None else (told.spacing[0], told.spacing[1], told.spacing[2])
        low = 0.0 if told.window is None else told.window[0]
        made = VolumePatches(
            copy, chosen, (told.depth, told.size, told.size), spacing=spacing, fill=low, **shared
        )
    if not len(made):
        raise ValueError(f"the inputs have no patch of {told.of} like this: see index() of the copy")
    return made


def people(data: PatchDataset) -> int:
    """Patients whose images are in a data set; an image without one counts as one of its own."""
    return len({image.patient or image.item for image in data.plan.images})


def scaled(images: Any, told: Parameters, device: Any) -> Any:
    """A batch on the device, float32, about -1 to 1."""
    values = images.to(device, non_blocking=True).to(torch.float32)
    if told.of == "slides":
        return values / 127.5 - 1
    if told.window is not None:
        low, high = told.window
        return ((values - low) / (high - low)).clamp(0, 1) * 2 - 1
    axes = tuple(range(1, values.ndim))
    mean, deviation = values.mean(axes, keepdim=True), values.std(axes, keepdim=True)
    return (values - mean) / deviation.clamp_min(1e-6)
