"""THE table of kinds of data that a dataset may be: one row each.  Standard library only.

How items of a kind are staged is ``KINDS`` in ``imaging/staging/engine.py``, which has the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataKind = Literal["radiology", "pathology", "table"]


@dataclass(frozen=True)
class Kind:
    name: DataKind
    files_told: str
    """What a registration says of the files that it counts."""
    profile: str
    """The newest basic profile of de-identification, for who names none."""
    by_columns: bool = False
    """Whether a grant names its columns, which also select; other kinds are selected by DICOM keywords."""


RADIOLOGY = Kind(
    name="radiology",
    files_told="that the scan listed; staging makes series of them, and says which it refuses",
    profile="radiology-basic@2",
)
PATHOLOGY = Kind(
    name="pathology",
    files_told="that the scan listed; staging makes slides of them, and says which it refuses",
    profile="slide-basic@2",
)
TABLE = Kind(
    name="table",
    files_told="with rows of the table; none of them is one patient",
    profile="table-basic@1",
    by_columns=True,
)

DATA_KINDS: dict[str, Kind] = {row.name: row for row in (RADIOLOGY, PATHOLOGY, TABLE)}
