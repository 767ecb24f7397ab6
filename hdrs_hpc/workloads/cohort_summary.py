"""``cohort-summary@1``: who is in the cohort, how the scans are sampled, how the slides are stained.

Outputs that it writes, as far as the job spec declares them:

================  =======  ===========================================================================
name              class    content
================  =======  ===========================================================================
``cohort``        table    modality, body_part, n_patients, n_series, with TOTAL rows; counts:
                           n_patients, n_series
``spacing-bins``  table    group, spacing_mm (a range), n_patients, n_series; counts: n_patients, n_series.
                           Neighbouring ranges are pooled until each holds ``min-count`` patients
``spacing``       image    PNG of that table's n_series; data: spacing-bins
``summary``       metrics  intensity and spacing by modality, stain of the slides, counts
================  =======  ===========================================================================

Parameters: ``min-count`` (10) and ``round`` (5), for the image: what the grant says of tables.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.workloads import cohort_tables, pixels
from hdrs_hpc.workloads.cohort_tables import SpacingBin
from hdrs_hpc.workloads.dask_ranks import DaskContext
from hdrs_hpc.workloads.pixels import Moments, Stain
from imaging.reading import StagedCopy

TABLES = next(row.tables for row in BUILT_IN.values() if row.entry == f"{__name__}:run")
DEFAULT_MIN_COUNT = 10
DEFAULT_ROUND = 5


@dataclass(frozen=True)
class _Row:
    """One row of an index and the copy it is in."""

    copy: StagedCopy
    values: dict[str, Any]


def run(context: DaskContext) -> None:
    """The entry; writes the declared ones among its outputs."""
    min_count = int(context.parameters.get("min-count", DEFAULT_MIN_COUNT))
    round_to = int(context.parameters.get("round", DEFAULT_ROUND))
    rows = [_Row(copy, values) for copy in context.data.values() for values in copy.index().to_pylist()]
    volumes = [row for row in rows if row.values["kind"] == "volume"]
    slides = [row for row in rows if row.values["kind"] == "slide"]
    index = [row.values for row in volumes]
    declared = set(context.output_names)

    if "summary" in declared:
        made = _summary(context, volumes, slides, min_count)
        context.output("summary").write_text(json.dumps(made, indent=1), "utf-8")
    if "cohort" in declared:
        table = cohort_tables.cohort(index)
        _write_csv(context.output("cohort"), TABLES["cohort"], table)
    if "spacing" in declared or "spacing-bins" in declared:
        bins = cohort_tables.spacing_bins(index, min_count)
        _write_csv(
            context.output("spacing-bins"),
            TABLES["spacing-bins"],
            [(each.group, each.label, each.n_patients, each.n_series) for each in bins],
        )
        if "spacing" in declared:
            _draw(context.output("spacing"), bins, round_to)


def _summary(
    context: DaskContext, volumes: Sequence[_Row], slides: Sequence[_Row], min_count: int
) -> dict[str, float | int]:
    """Flat numbers; every pixel that they need is read by the workers.

    Fewer slides than ``min_count`` are not counted in public, and the names of their stain say ``few_slides``, so
    that the output checker sees whose it could be: a number that says so would be suppressed itself.  Which of the
    names are counts and which measures is told by its row in ``catalogue/workloads/builtin.py``.
    """
    client = context.client
    moments = client.map(
        pixels.volume_moments,
        [row.copy for row in volumes],
        [row.values["item"] for row in volumes],
        pure=False,
    )
    tiles = [
        (row.copy, row.values["item"], tile)
        for row in slides
        for tile in pixels.tiles(row.copy, row.values["item"])
    ]
    stains = client.map(pixels.tile_stain, *zip(*tiles, strict=True), pure=False) if tiles else []
    by_volume: list[Moments] = client.gather(moments)
    by_tile: list[Stain] = client.gather(stains)

    made: dict[str, float | int] = {}
    if volumes:
        made = {"n_patients": len({row.values["patient"] for row in volumes}), "n_series": len(volumes)}
    if len(slides) >= min_count:
        made["n_slides"] = len(slides)
    for modality in sorted({cohort_tables.modality(row.values) for row in volumes}):
        chosen = [n for n, row in enumerate(volumes) if cohort_tables.modality(row.values) == modality]
        whole = Moments.together([by_volume[n] for n in chosen])
        made[f"{modality}.intensity.mean"] = whole.mean
        made[f"{modality}.intensity.sd"] = whole.sd
        spacings = [s for n in chosen if (s := cohort_tables.slice_spacing_mm(volumes[n].values)) is not None]
        if spacings:
            made[f"{modality}.slice_spacing_mm.median"] = cohort_tables.median(spacings)
    if by_tile:
        stain = Stain.together(by_tile)
        prefix = "slides" if len(slides) >= min_count else "few_slides"
        made[f"{prefix}.tissue_share"] = stain.tissue_share
        made[f"{prefix}.haematoxylin_od"] = stain.haematoxylin
        made[f"{prefix}.eosin_od"] = stain.eosin
    return made


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _draw(path: Path, bins: Sequence[SpacingBin], round_to: int) -> None:
    """Bars by range of slice spacing, one panel a group; heights are rounded as the table will be."""
    from matplotlib.figure import Figure

    # Okabe and Ito's palette, which people with any common colour vision can tell apart.
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
    groups: dict[str, list[SpacingBin]] = {}
    for each in bins:
        groups.setdefault(each.group, []).append(each)
    # Every bar gets the same room, so that labels stand upright beside each other, however many there are.
    widths = [max(2, len(own)) for own in groups.values()] or [2]
    figure = Figure(figsize=(1.2 + 0.85 * sum(widths), 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    for panel, (group, own), colour in zip(panels, groups.items(), colours * len(groups), strict=False):
        heights = [(each.n_series + round_to // 2) // round_to * round_to for each in own]
        bars = panel.bar(
            [each.label.replace(" ", "\n", 1) for each in own],
            heights,
            color=colour,
            edgecolor="black",
            linewidth=0.6,
        )
        panel.bar_label(bars, fontsize=8)
        middle, room = (len(own) - 1) / 2, max(2, len(own))
        panel.set_xlim(middle - room / 2, middle + room / 2)
        panel.set_title(group)
        panel.tick_params(axis="x", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"series (rounded to {round_to})")
    figure.supxlabel("slice spacing (mm)", fontsize=10)
    figure.suptitle("Slice spacing of the cohort", fontsize=11)
    figure.savefig(path, format="png", metadata={"Software": None})
