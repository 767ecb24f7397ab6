"""What the job declared, what the grant allows and what the broker knows of the inputs, as plain data.

The checker process imports no pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue.outputs.checking import declared_columns
from hdrs_hpc.catalogue.outputs.checking.declared_columns import DeclaredColumn
from hdrs_hpc.core.errors import BadDocumentError

DEFAULT_MIN_COUNT = 10
DEFAULT_ROUND = 5
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


@dataclass(frozen=True)
class InputFacts:
    """What the broker knows by itself of the copies that a job read: no count is larger than what it counts.

    ``people``: patients; ``items``: volumes, slides, rows of tables; ``instances``: the archive's items that
    they were made of, at least one each.  ``real``: whether any of them is, or may be, of real patients.
    """

    people: int
    items: int
    instances: int
    real: bool

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> InputFacts:
        """From ``{people, items, instances, real}``; nothing may be absent."""
        if not isinstance(value.get("real"), bool):
            raise OutputRulesError("whether the inputs are real is not told")
        most = 1 << 62
        people, items, instances = (
            _whole(value, name, -1, 0, most) for name in ("people", "items", "instances")
        )
        if min(people, items, instances) < 0:
            raise OutputRulesError("what the inputs hold is not told")
        return cls(people, items, instances, value["real"])

    def as_dict(self) -> dict[str, Any]:
        return {
            "people": self.people,
            "items": self.items,
            "instances": self.instances,
            "real": self.real,
        }


@dataclass(frozen=True)
class CountRules:
    """Counts below ``min_count`` are suppressed, the others rounded to the nearest ``round_to``.

    ``digits``: significant digits that other numbers keep.
    """

    min_count: int = DEFAULT_MIN_COUNT
    round_to: int = DEFAULT_ROUND
    digits: int = 4

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], fallback: CountRules | None = None) -> CountRules:
        """From ``{min-count, round, significant-digits}``; what is absent comes from ``fallback``."""
        like = fallback or cls()
        made = cls(
            min_count=_whole(value, "min-count", like.min_count, 1, 1_000_000),
            round_to=_whole(value, "round", like.round_to, 1, 1_000_000),
            digits=_whole(value, "significant-digits", like.digits, 1, 6),
        )
        return made

    def as_dict(self) -> dict[str, Any]:
        return {"min-count": self.min_count, "round": self.round_to, "significant-digits": self.digits}

    def rounded(self, count: int) -> int:
        """The nearest multiple, halves up: the interval a reader can conclude is known exactly."""
        return (count + self.round_to // 2) // self.round_to * self.round_to


def mapping_of(granted: Mapping[str, Any], cls: str) -> Mapping[str, Any]:
    """The grant's rule for ``cls``; raises OutputRulesError where it is no mapping."""
    value = granted[cls]
    if not isinstance(value, Mapping):
        raise OutputRulesError(f"the rule for {cls} must be a mapping")
    return value


def count_rules(granted: Mapping[str, Any], cls: str, like: str | None = None) -> CountRules:
    """The rule of a class that holds counts; what it leaves out is as for ``like``, where that is granted."""
    fallback = (
        CountRules.from_dict(mapping_of(granted, like)) if like is not None and like in granted else None
    )
    return CountRules.from_dict(mapping_of(granted, cls), fallback)


def _whole(value: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    number = value.get(key, default)
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise OutputRulesError(f"{key} must be a whole number from {low} to {high}")
    return number
