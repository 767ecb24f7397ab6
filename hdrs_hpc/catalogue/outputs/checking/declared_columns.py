"""Cells against the columns that were signed: what is not exactly what its column says is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from hdrs_hpc.catalogue.outputs.checking import numbers
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.core import vocabularies

KEY, COUNT, MEASURE = "key", "count", "measure"


class ColumnsDifferError(ArtefactRefusedError):
    code = "columns-not-as-declared"
    meaning = "The artefact has other columns than the signed spec declares."
    remedy = "Write exactly the columns that the spec declares, or declare what you write."


class KeyNotDeclaredError(ArtefactRefusedError):
    code = "key-not-declared"
    meaning = "A label is none of the values that the spec declares for its column."
    remedy = (
        "List the value under `key` or `also`, or write what is outside the list as OTHER and declare that."
    )


class CellOutsideError(ArtefactRefusedError):
    code = "cell-outside-its-column"
    meaning = "A number lies outside the range that the spec declares for its column, or is no plain number."
    remedy = "Declare `from`, `to` or `most` so that every value fits, or leave the cell empty where there is none."


@dataclass(frozen=True)
class DeclaredColumn:
    """One column; ``said`` is its part of the spec as plain data."""

    name: str
    said: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return next(kind for kind in (KEY, COUNT, MEASURE, "derive") if kind in self.said)

    def check(self, cells: Sequence[str], where: str) -> None:
        """Raise unless every cell is what the column says; an empty measure is a missing one."""
        match self.kind:
            case "key":
                allowed = self._allowed()
                if not all(allowed(cell) for cell in cells):
                    raise KeyNotDeclaredError(where=where)
            case "count":
                most = self.said.get("most")
                if most is not None and any(numbers.is_count(cell) and int(cell) > most for cell in cells):
                    raise CellOutsideError("more than its most", where=where)
            case _:
                low, high = (Decimal(str(self.said[end])) for end in ("from", "to"))
                for cell in cells:
                    if cell and not (numbers.is_number(cell) and low <= Decimal(cell) <= high):
                        raise CellOutsideError(where=where)

    def choices(self) -> int:
        """How many different cells the column allows, none at all left out."""
        said = self.said.get(KEY)
        if said is None:
            low, high, step = (float(self.said[name]) for name in ("from", "to", "step"))
            return int((high - low) / step) + 2
        also = len(self.said.get("also", ()))
        if not isinstance(said, Mapping):
            return len(said) + also
        if "vocabulary" in said:
            return len(vocabularies.BY_NAME[said["vocabulary"]]) + also
        if "ranges" in said:
            return len(ranges(said["ranges"])) + also
        grid = said["grid"]
        return int((grid["to"] - grid["from"]) / grid["step"]) + 2 + also

    def on_step(self, cell: str) -> str:
        """A measure's cell rounded to its step, counted from where its range begins."""
        if not cell:
            return cell
        start, step = Decimal(str(self.said["from"])), Decimal(str(self.said["step"]))
        steps = ((Decimal(cell) - start) / step).to_integral_value(ROUND_HALF_EVEN)
        return numbers.plain(start + steps * step)

    def tells_few(self, cell: str, counts: Mapping[str, int], min_count: int) -> bool:
        """Whether a share gives a small count: 0.02 of 150 patients are three.

        One that does not say which count it is a share of could be one of each; above 1 it is written in percent.
        """
        measure, most = self.said.get(MEASURE), self.said.get("to", 0)
        if not cell or not (measure == "share" or (measure == "rate" and most <= 1)):
            return False
        share = Decimal(cell) / (1 if most <= 1 else 100)
        of = [counts[self.said["n"]]] if self.said.get("n") else counts.values()
        return any(0 < part < min_count for count in of for part in (count * share, count * (1 - share)))

    def _allowed(self) -> Callable[[str], bool]:
        said, also = self.said[KEY], frozenset(self.said.get("also", ()))
        if not isinstance(said, Mapping):
            values = frozenset(said) | also
            return lambda cell: cell in values
        if "vocabulary" in said:
            values = frozenset(vocabularies.BY_NAME[said["vocabulary"]]) | also
            return lambda cell: cell in values
        if "ranges" in said:
            values = frozenset(ranges(said["ranges"])) | also
            return lambda cell: cell in values
        grid = said["grid"]
        start, end, step = (Decimal(str(grid[name])) for name in ("from", "to", "step"))
        return lambda cell: (
            cell in also
            or (
                numbers.is_number(cell)
                and start <= Decimal(cell) <= end
                and (Decimal(cell) - start) % step == 0
            )
        )


def from_pairs(value: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[DeclaredColumn, ...]:
    """From (name, its part of the spec), in the order of the spec."""
    return tuple(DeclaredColumn(str(name), dict(said)) for name, said in value)


def ranges(edges: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Each range that the edges allow, as it is written, with its ends."""
    found: dict[str, tuple[float, float]] = {}
    written = [numbers.plain(Decimal(str(edge))) for edge in edges]
    for position, low in enumerate(edges):
        found[f"{written[position]} and over"] = (low, math.inf)
        for later in range(position + 1, len(edges)):
            found[f"{written[position]} to {written[later]}"] = (low, edges[later])
    return found
