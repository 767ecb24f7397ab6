"""``radiomics@1``: first-order and shape statistics of volumes, of what stands out from the background; by SimpleITK.

The region is the largest piece above Otsu's threshold: of a CT the body, of a head MR the head.  Features are called
and meant as those of IBSI (Zwanenburg et al. 2020) of which SimpleITK has a measure; there is no segmentation of
organs here.  Values are those the series measures (Hounsfield units of CT); of MR they have no scale in common.

Outputs: ``features``, a table of their means by modality, and ``measures``, the features of each series, to be kept:
safetensors with ``items``, ``features`` (n, 10) in the order of :data:`FEATURES`.

Parameters: ``data`` (the input with the volumes), ``modality`` (all by default).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # as everybody calls it
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from hdrs_hpc.workloads.training import fitting, writing
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import images, rows
from imaging.reading import StagedCopy

FEATURES = (
    "mean",
    "sd",
    "skewness",
    "kurtosis",
    "median",
    "entropy",
    "volume_ml",
    "surface_cm2",
    "roundness",
    "elongation",
)
COLUMNS = ("modality", "n_patients", "n_series", *FEATURES)
"""Of ``features``."""
_BINS = 64
"""Of the histogram that entropy is of."""


def run(context: Any) -> None:
    """The entry, on every rank; each takes every n-th series."""
    told = Parameters.of_spec(context.parameters, of="volumes")
    copy = images(context, told)
    chosen = rows(copy, told).to_pylist()
    found = torch.zeros(len(chosen), len(FEATURES), dtype=torch.float64, device=context.device)
    for number in range(context.rank, len(chosen), context.world_size):
        found[number] = torch.tensor(features(copy, chosen[number]["item"]), dtype=torch.float64)
    numbers = fitting.sum_of_ranks(context, found).cpu().numpy()
    table = []
    for modality in sorted({row["modality"] for row in chosen}):
        those = [place for place, row in enumerate(chosen) if row["modality"] == modality]
        people = len({chosen[place]["patient"] or chosen[place]["item"] for place in those})
        table.append((modality, people, len(those), *(float(one) for one in numbers[those].mean(axis=0))))
    writing.table(context, "features", COLUMNS, table)
    writing.by_item(context, "measures", [row["item"] for row in chosen], features=numbers)


def features(copy: StagedCopy, item: str) -> list[float]:
    """In the order of :data:`FEATURES`, of the first time point of a series."""
    volume = copy.physical(item)
    while volume.ndim > 3:
        volume = volume[0]
    known = copy.multiscale(item)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume))
    image.SetSpacing([float(known.scale(axis)) for axis in "xyz"])
    region = sitk.GetImageFromArray(_region(volume).astype(np.uint8))
    region.CopyInformation(image)
    values = sitk.LabelIntensityStatisticsImageFilter()
    values.Execute(region, image)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputePerimeterOn()
    shape.Execute(region)
    inside = volume[sitk.GetArrayViewFromImage(region) > 0]
    return [
        values.GetMean(1),
        values.GetStandardDeviation(1),
        values.GetSkewness(1),
        values.GetKurtosis(1),
        float(np.median(inside)),  # SimpleITK's is of a histogram
        _entropy(inside),
        shape.GetPhysicalSize(1) / 1000,
        shape.GetPerimeter(1) / 100,
        shape.GetRoundness(1),
        shape.GetElongation(1),
    ]


def _region(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest connected piece above Otsu's threshold; everything where all values are one."""
    if volume.min() == volume.max():
        return np.ones(volume.shape, bool)
    above = sitk.GetImageFromArray((volume > threshold_otsu(volume)).astype(np.uint8))
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(above), sortByObjectSize=True)
    return np.asarray(sitk.GetArrayFromImage(pieces) == 1)


def _entropy(values: NDArray[np.float32]) -> float:
    """Bits, of a histogram of 64 equal bins."""
    counts, _ = np.histogram(values, bins=_BINS)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
