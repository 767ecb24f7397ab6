"""THE table of built-in workloads: what ``builtin: name@version`` of a spec or a grant may name, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    """By name of the output."""


_ROWS = (
    BuiltIn(
        name="cohort-summary@1",
        entry="hdrs_hpc.workloads.cohort_summary:run",
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
)

BUILT_IN: dict[str, BuiltIn] = {row.name: row for row in _ROWS}
TO_BEGIN_WITH = _ROWS[0].name
"""The one that drafts and examples name."""


def numbers(builtin: str | None, output: str) -> Numbers:
    """What the built-in workload writes into ``output``; of the researchers' own code nothing is known."""
    row = BUILT_IN.get(builtin or "")
    return row.numbers.get(output, Numbers()) if row else Numbers()
