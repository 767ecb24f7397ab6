"""What built-in trainings and measures write: tables as the spec declares them, numbers of items to keep."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray


def table(context: Any, output: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a declared table; nothing on other ranks, or where the spec declares none of that name."""
    if context.rank or output not in context.output_names:
        return
    with Path(context.output(output)).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def by_item(context: Any, output: str, items: Sequence[str], **numbers: NDArray[Any]) -> None:
    """Numbers of each item, to be kept in the project: safetensors, with ``items`` as rows of bytes."""
    if context.rank or output not in context.output_names:
        return
    names = np.asarray([item.encode("ascii") for item in items], dtype=np.bytes_)
    rows = np.frombuffer(names.tobytes(), np.uint8).reshape(len(items), -1)
    safetensors.numpy.save_file(
        {"items": rows.copy(), **{name: np.ascontiguousarray(each) for name, each in numbers.items()}},
        context.output(output),
    )


def items_of(rows: NDArray[np.uint8]) -> list[str]:
    """The ids that :func:`by_item` wrote."""
    return [bytes(row).rstrip(b"\0").decode("ascii") for row in rows]
