"""What the job declared of an output, as plain data.

The checker process imports no pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue.outputs.checking import declared_columns
from hdrs_hpc.catalogue.outputs.checking.declared_columns import DeclaredColumn
from hdrs_hpc.core.errors import BadDocumentError

MOST_BYTES = 1 << 36
"""Of a declaration; what the check takes of a class stands with the class."""


class OutputRulesError(BadDocumentError):
    code = "output-rules-malformed"
    meaning = "The declaration of an output, or the grant's rule for it, is not understood by the airlock."
    remedy = "Compare the outputs section with docs/output-checking.md."


@dataclass(frozen=True)
class Declared:
    """One output as the signed job spec declares it; ``max_size`` in bytes."""

    name: str
    cls: str
    path: str
    columns: tuple[DeclaredColumn, ...] = ()
    """Every column or metric, in the order of the spec."""
    data: str | None = None
    max_size: int = 1 << 20
    counts: tuple[str, ...] = ()
    """Of metrics without ``columns``: those that count and must be there."""
    known_counts: tuple[str, ...] = ()
    """Of a built-in workload's metrics: those that it writes where its inputs have what they count."""
    measures: tuple[str, ...] = ()
    """Of metrics without ``columns``: numbers that count nothing, by name or, after a ``*``, by its end."""

    def by_name(self) -> dict[str, DeclaredColumn]:
        return {column.name: column for column in self.columns}

    def is_measure(self, name: str) -> bool:
        """Whether the metric ``name`` was declared as a measure."""
        said = self.by_name().get(name)
        return (said is not None and said.kind == declared_columns.MEASURE) or any(
            name.endswith(measure[1:]) if measure.startswith("*") else name == measure
            for measure in self.measures
        )

    def counting(self) -> dict[str, str]:
        """Columns or metrics that count and must be there, and in which words they say what."""
        counts = {
            column.name: str(column.said[declared_columns.COUNT])
            for column in self.columns
            if column.kind == declared_columns.COUNT
        }
        return counts | {name: name for name in self.counts}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Declared:
        """From what :meth:`as_dict` gives; max-size in bytes."""
        try:
            made = cls(
                name=str(value["name"]),
                cls=str(value["class"]),
                path=str(value["path"]),
                counts=tuple(str(column) for column in value.get("counts") or ()),
                data=None if value.get("data") is None else str(value["data"]),
                max_size=int(value["max-size"]),
                measures=tuple(str(name) for name in value.get("measures") or ()),
                known_counts=tuple(str(name) for name in value.get("known-counts") or ()),
                columns=declared_columns.from_pairs(value.get("columns") or ()),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OutputRulesError(f"an output's declaration lacks or mistypes something: {error}") from None
        if not 0 < made.max_size <= MOST_BYTES:
            raise OutputRulesError(f"max-size must be 1 to {MOST_BYTES} bytes", where=made.name)
        if len({column.casefold() for column in made.counts}) != len(made.counts):
            raise OutputRulesError("a count is named twice", where=made.name)
        return made

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "class": self.cls,
            "path": self.path,
            "counts": list(self.counts),
            "data": self.data,
            "max-size": self.max_size,
            "measures": list(self.measures),
            "known-counts": list(self.known_counts),
            "columns": [[column.name, dict(column.said)] for column in self.columns],
        }


def whole(value: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A whole number of a section of the spec or the grant; raises OutputRulesError."""
    number = value.get(key, default)
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise OutputRulesError(f"{key} must be a whole number from {low} to {high}")
    return number
