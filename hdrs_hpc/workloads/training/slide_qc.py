"""``slide-qc@1``: is there tissue, is it in focus, has somebody drawn on the glass; by scikit-image.

Outputs: ``quality``, a table of how many slides have which finding, and ``measures``, the numbers of each slide, to be
kept: safetensors with ``items``, ``tissue`` (share of the slide), ``focus`` (median over tiles of the variance of the
Laplacian of their grey values) and ``pen`` (share of the slide).

Parameters: ``data`` (the input with the slides), ``level`` or ``mpp`` of the tiles whose focus is measured (2 µm a
pixel by default where slides state their size), and from where on a finding counts: ``least-tissue`` (0.02),
``least-focus`` (0.0002), ``most-pen`` (0.005).  The threshold of focus depends on scanner and stain: look at
``measures`` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2hsv
from skimage.filters import laplace
from skimage.measure import label, regionprops
from skimage.morphology import closing, disk

from hdrs_hpc.workloads.training import fitting, writing
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import images, rows
from imaging.reading import StagedCopy
from imaging.reading.tissue import MAX_SIDE, tissue_mask
from imaging.reading.torch_data import SlidePatches

OWN = ("least-tissue", "least-focus", "most-pen")
"""Parameters of this workload alone."""
COLUMNS = ("finding", "n_patients", "n_slides")
"""Of ``quality``."""

FINDINGS = ("good", "little tissue", "out of focus", "pen marks")
_TILE = 256
_MOST_TILES = 64
"""Of a slide, spread over its tissue: the median of more would say the same."""


def run(context: Any) -> None:
    """The entry, on every rank; each takes every n-th slide."""
    given = context.parameters
    told = Parameters.of_spec(given, OWN, of="slides")
    copy = images(context, told)
    chosen = rows(copy, told).to_pylist()
    found = torch.zeros(len(chosen), 3, dtype=torch.float64, device=context.device)
    for number in range(context.rank, len(chosen), context.world_size):
        found[number] = torch.tensor(measure(copy, chosen[number]["item"], told))
    numbers = fitting.sum_of_ranks(context, found).cpu().numpy()
    findings = [judge(tissue, focus, pen, given) for tissue, focus, pen in numbers.tolist()]
    table = []
    for finding in FINDINGS:
        those = [row for row, one in zip(chosen, findings, strict=True) if finding in one]
        table.append((finding, len({row["patient"] or row["item"] for row in those}), len(those)))
    writing.table(context, "quality", COLUMNS, table)
    names = [row["item"] for row in chosen]
    tissue, focus, pen = (np.ascontiguousarray(numbers[:, column]) for column in range(3))
    writing.by_item(context, "measures", names, tissue=tissue, focus=focus, pen=pen)


def measure(copy: StagedCopy, item: str, told: Parameters) -> tuple[float, float, float]:
    """Share of tissue, focus, share of pen, of one slide.  A slide without tissue has focus 0."""
    tissue = tissue_mask(copy, item)
    pen = pen_mask(overview(copy, item))
    known = copy.multiscale(item)
    where: dict[str, Any] = {"level": told.level}
    if told.mpp is not None or (not told.level and known.unit("x") == "micrometer"):
        asked = told.mpp[0] if isinstance(told.mpp, tuple) else told.mpp
        where = {"mpp": max(asked or 2.0, known.scale("x"))}
    tiles = SlidePatches(copy, [item], _TILE, tissue=0.5, positions="grid", **where)
    step = max(1, len(tiles) // _MOST_TILES)
    numbers = list(range(0, len(tiles), step))[:_MOST_TILES]
    values = [sharpness(sample["image"].numpy()) for sample in tiles.__getitems__(numbers)]
    return float(tissue.mean()), float(np.median(values)) if values else 0.0, float(pen.mean())


def judge(tissue: float, focus: float, pen: float, given: Mapping[str, Any]) -> set[str]:
    """Findings of one slide; ``good`` where there is none."""
    little = tissue < given.get("least-tissue", 0.02)
    made = {
        "little tissue": little,
        "out of focus": not little and focus < given.get("least-focus", 0.0002),
        "pen marks": pen > given.get("most-pen", 0.005),
    }
    return {name for name, so in made.items() if so} or {"good"}


def sharpness(rgb: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a tile's grey values, 0 to 1 (Pech-Pacheco et al. 2000)."""
    grey = rgb.astype(np.float64).mean(axis=0) / 255
    return float(laplace(grey).var())


def pen_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(y, x) of a whole slide: strokes in green, blue or black ink; H&E has no such hue, and no line so long."""
    hue, saturation, value = np.moveaxis(rgb2hsv(np.moveaxis(rgb, 0, -1)), -1, 0)
    coloured = (saturation > 0.4) & (value > 0.15) & (hue > 0.25) & (hue < 0.68)
    black = (value < 0.25) & (saturation < 0.35)
    ink = closing(coloured | black, disk(3))
    least = max(rgb.shape[-2:]) / 40  # a stroke is long; nuclei and dust are not
    kept = np.zeros(ink.shape, bool)
    for region in regionprops(label(ink)):
        if region.axis_major_length >= least:
            kept[region.slice] |= region.image
    return kept


def overview(copy: StagedCopy, item: str) -> NDArray[np.uint8]:
    """(3, y, x): the level that tissue is looked for on."""
    levels = len(copy.multiscale(item).levels)
    for level in range(levels):
        array = copy.slide(item, level)
        if max(array.shape[-2:]) <= MAX_SIDE or level == levels - 1:
            break
    return np.asarray(array[:])
