"""THE table of built-in workloads: what ``builtin: name@version`` of a spec or a grant may name, one row each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches


@dataclass(frozen=True)
class Numbers:
    """Which numbers it writes into an output: declared here, not by each spec."""

    counts: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltIn:
    name: str
    """With its version: what it computes under one name never changes."""
    entry: str
    """``module:function``, imported in the sandbox."""
    kind: str = "dask"
    """Of workload, as :mod:`hdrs_hpc.catalogue.workloads` has it."""
    outputs: tuple[str, ...] = ()
    """Every output that it can write; others stay unwritten."""
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The columns that it writes, in their order, by name of the output."""
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    """By name of the output."""


_ROWS = (
    BuiltIn(
        name="cohort-summary@1",
        entry="hdrs_hpc.workloads.cohort_summary:run",
        outputs=("cohort", "spacing-bins", "spacing", "summary"),
        tables={
            "cohort": ("modality", "body_part", "n_patients", "n_series"),
            "spacing-bins": ("group", "spacing_mm", "n_patients", "n_series"),
        },
        numbers={
            "summary": Numbers(
                counts=("n_patients", "n_series", "n_slides"),
                measures=(
                    "*.intensity.mean",
                    "*.intensity.sd",
                    "*.slice_spacing_mm.median",
                    "*.tissue_share",
                    "*.haematoxylin_od",
                    "*.eosin_od",
                ),
            )
        },
    ),
    BuiltIn(
        name="pretrain-mae@1",
        entry="hdrs_hpc.workloads.training.pretrain_mae:run",
        kind="torch",
        outputs=("encoder", "training"),
        tables={"training": ("epoch", "n_patients", "loss")},
    ),
    BuiltIn(
        name="pretrain-dino@1",
        entry="hdrs_hpc.workloads.training.pretrain_dino:run",
        kind="torch",
        outputs=("encoder", "training"),
        tables={"training": ("epoch", "n_patients", "loss")},
    ),
    BuiltIn(
        name="finetune@1",
        entry="hdrs_hpc.workloads.training.finetune:run",
        kind="torch",
        outputs=("model", "training"),
        tables={"training": ("part", "epoch", "n_patients", "loss", "accuracy")},
    ),
    BuiltIn(
        name="embed@1",
        entry="hdrs_hpc.workloads.training.embed:run",
        kind="torch",
        outputs=("embeddings",),
    ),
    BuiltIn(
        name="slide-qc@1",
        entry="hdrs_hpc.workloads.training.slide_qc:run",
        kind="torch",
        outputs=("quality", "measures"),
        tables={"quality": ("finding", "n_patients", "n_slides")},
    ),
    BuiltIn(
        name="radiomics@1",
        entry="hdrs_hpc.workloads.training.radiomics:run",
        kind="torch",
        outputs=("features", "measures"),
        tables={
            "features": (
                "modality",
                "n_patients",
                "n_series",
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
        },
    ),
)

BUILT_IN: dict[str, BuiltIn] = {row.name: row for row in _ROWS}
TO_BEGIN_WITH = _ROWS[0].name
"""The one that drafts and examples name."""


def numbers(builtin: str | None, output: str) -> Numbers:
    """What the built-in workload writes into ``output``; of the researchers' own code nothing is known."""
    row = BUILT_IN.get(builtin or "")
    return row.numbers.get(output, Numbers()) if row else Numbers()


def unlike(
    builtin: str | None, declared: Mapping[str, Collection[str]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a spec declares other outputs or columns than its built-in workload writes, and a sentence for each.

    ``declared``: the columns of each output; none where it has none.
    """
    row = BUILT_IN.get(builtin or "")
    if row is None:
        return
    for name, columns in declared.items():
        place = ("outputs", name)
        if name not in row.outputs:
            near = get_close_matches(name, set(row.outputs) - declared.keys(), 1)
            what = (
                f"{near[0]}; did you mean it by {name}?"
                if near
                else f"{', '.join(row.outputs)}, and no {name}"
            )
            yield place, f"{row.name} writes {what}"
        if name not in row.tables:
            continue
        absent = [column for column in row.tables[name] if column not in columns]
        for column in columns:
            if column not in row.tables[name]:
                near = get_close_matches(column, absent, 1)
                absent = [other for other in absent if other not in near]
                what = f"{near[0]}; did you mean it by {column}?" if near else f"no {column} into {name}"
                yield (*place, "columns", column), f"{row.name} writes {what}"
        for column in absent:
            yield (
                (*place, "columns"),
                f"{row.name} writes {column} into {name}, which declares no such column",
            )
