"""The tables of ``cohort-summary``, from rows of index tables alone: pure, so that they can be tried anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.core import vocabularies

EDGES_MM = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
"""Inner edges of the finest ranges; the last one is open."""
UNKNOWN = "UNKNOWN"
OTHER = "OTHER"
"""What a value is called that no registered vocabulary has."""
TOTAL = "TOTAL"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SpacingBin:
    """Series of one group whose slice spacing lies in ``[low_mm, high_mm)``; None: no upper end."""

    group: str
    low_mm: float
    high_mm: float | None
    n_series: int
    n_patients: int

    @property
    def label(self) -> str:
        low = f"{self.low_mm:g}"
        return f"{low} and over" if self.high_mm is None else f"{low} to {self.high_mm:g}"


def cohort(rows: Sequence[Row]) -> list[tuple[str, str, int, int]]:
    """Patients and volumes by modality and body part, with totals.  A patient may be in several rows."""
    made: list[tuple[str, str, int, int]] = []
    for name in sorted({modality(row) for row in rows}):
        own = [row for row in rows if modality(row) == name]
        for part in sorted({_part(row) for row in own}):
            chosen = [row for row in own if _part(row) == part]
            made.append((name, part, _patients(chosen), len(chosen)))
        made.append((name, TOTAL, _patients(own), len(own)))
    made.append((TOTAL, TOTAL, _patients(rows), len(rows)))
    return made


def spacing_bins(rows: Sequence[Row], min_count: int) -> list[SpacingBin]:
    """Slice spacing by modality, neighbouring ranges pooled until each holds ``min_count`` patients.

    A modality with fewer patients than that is pooled with the others; where even all together are fewer, the
    one range that remains is small, and the airlock's to judge.
    """
    known = [(row, spacing) for row in rows if (spacing := slice_spacing_mm(row)) is not None]
    groups: dict[str, list[tuple[Row, float]]] = {}
    for row, spacing in known:
        groups.setdefault(modality(row), []).append((row, spacing))
    small = [name for name, own in groups.items() if _patients(row for row, _ in own) < min_count]
    if small:
        groups = {"all series": known}
    return [made for name in sorted(groups) for made in _pooled(name, groups[name], min_count)]


def modality(row: Row) -> str:
    """As DICOM's vocabulary has it, or OTHER."""
    return str(row["modality"]) if row["modality"] in vocabularies.MODALITIES else OTHER


def slice_spacing_mm(row: Row) -> float | None:
    """Distance between slices: the first of the spatial axes (z, y, x)."""
    spacing = row["spacing_mm"]
    told = spacing is not None and len(spacing) == 3 and spacing[0] is not None
    return float(spacing[0]) if told else None


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _pooled(group: str, own: Sequence[tuple[Row, float]], min_count: int) -> list[SpacingBin]:
    made: list[SpacingBin] = []
    gathered: list[Row] = []
    low = EDGES_MM[0]
    for start, end in zip(EDGES_MM, (*EDGES_MM[1:], None), strict=True):
        gathered += [row for row, s in own if s >= start and (end is None or s < end)]
        if _patients(gathered) >= min_count:
            made.append(SpacingBin(group, low, end, len(gathered), _patients(gathered)))
            gathered, low = [], end if end is not None else low
    if not gathered:
        if made:  # the ranges above the last one are empty: say so by leaving it open
            made[-1] = SpacingBin(group, made[-1].low_mm, None, made[-1].n_series, made[-1].n_patients)
        return made
    # Too few are left over at the upper end: they join the range below.
    below = made.pop() if made else SpacingBin(group, low, None, 0, 0)
    rows = [row for row, spacing in own if spacing >= below.low_mm]
    made.append(SpacingBin(group, below.low_mm, None, len(rows), _patients(rows)))
    return made


def _part(row: Row) -> str:
    found = row["body_part"]
    if not found:
        return UNKNOWN
    return str(found) if found in vocabularies.BODY_PARTS else OTHER


def _patients(rows: Iterable[Row]) -> int:
    """Distinct people; a row without a pseudonym counts as nobody, which errs to the safe side."""
    return len({row["patient"] for row in rows} - {None})
