"""Declarations of outputs for tests of the output check."""

from __future__ import annotations

import csv
import io
from fnmatch import fnmatch
from typing import Any

from hdrs_hpc.catalogue.outputs.checking import declared_columns, numbers
from hdrs_hpc.catalogue.outputs.checking.declared import Declared

ANY_NUMBER = {"measure": "estimate", "from": -1e15, "to": 1e15, "step": 1e-12}


def columns(
    data: bytes, counts: tuple[str, ...] = ("n",), measures: tuple[str, ...] = (), keys: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Columns by which the cells of a CSV are as they should be: fractions are measures, all else are keys.

    ``measures``, ``keys``: names, or their ends after a ``*``, of those that are one nonetheless.  A count counts what
    its name says.
    """
    header, *rows = _rows(data)
    made: dict[str, Any] = {}
    for at, name in enumerate(header):
        cells = [row[at] for row in rows if len(row) > at]
        filled = [cell for cell in cells if cell]
        fractions = filled and all(map(numbers.is_number, filled)) and any("." in cell for cell in filled)
        if name in counts:
            made[name] = {"count": name}
        elif (fractions and name not in keys) or any(fnmatch(name, measure) for measure in measures):
            made[name] = ANY_NUMBER
        else:
            made[name] = {"key": sorted(set(cells))}
    return made | {name: {"count": name} for name in counts if name not in made}


def table(
    data: bytes,
    counts: tuple[str, ...] = ("n",),
    *,
    name: str = "t",
    measures: tuple[str, ...] = (),
    keys: tuple[str, ...] = (),
    size: int = 20 << 20,
) -> Declared:
    """A table that is declared as its cells are."""
    return declared(name, columns(data, counts, measures, keys), size=size)


def declared(name: str, said: dict[str, Any], *, cls: str = "table", size: int = 1 << 20) -> Declared:
    """An output with these columns."""
    return Declared(name, cls, f"{name}.csv", declared_columns.from_pairs(said.items()), max_size=size)


def _rows(data: bytes) -> list[list[str]]:
    try:
        read = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError):
        read = [line.split(",") for line in data.decode("utf-8-sig", "replace").splitlines()]
    return read or [[]]
