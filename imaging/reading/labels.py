"""Labels of items: of the index itself, or of a linked table, joined by pseudonym."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow


@dataclass(frozen=True)
class Labels:
    """``names`` in the order of their numbers; ``numbers``: item → number, of those that have a label."""

    names: tuple[str, ...]
    numbers: dict[str, int] = field(repr=False)


def labels_of(
    index: pyarrow.Table, column: str, table: pyarrow.Table | None = None, names: Sequence[str] | None = None
) -> Labels:
    """What ``column`` says of each row of ``index``, as a class number.

    With ``table`` the column is of that table, and rows are joined by ``patient``; items without a patient, patients
    who are not in it, and empty cells have no label.  ``names``: the classes, by default all values there are, sorted;
    a value that is not among them is no label.

    Raises ValueError for a column that there is not, and where a patient has two different values.
    """
    source = index if table is None else table
    if column not in source.column_names:
        raise ValueError(f"no column {column}; there are {', '.join(source.column_names)}")
    values = [None if value is None else str(value) for value in source[column].to_pylist()]
    items = index["item"].to_pylist()
    if table is not None:
        found: dict[str, str] = {}
        for patient, value in zip(table["patient"].to_pylist(), values, strict=True):
            if patient and value is not None and found.setdefault(patient, value) != value:
                raise ValueError(f"a patient has two values of {column}: choose one row each before joining")
        values = [found.get(patient) if patient else None for patient in index["patient"].to_pylist()]
    known = (
        tuple(names) if names is not None else tuple(sorted({value for value in values if value is not None}))
    )
    number = {name: place for place, name in enumerate(known)}
    return Labels(
        known, {item: number[value] for item, value in zip(items, values, strict=True) if value in number}
    )
