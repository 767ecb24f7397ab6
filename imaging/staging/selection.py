"""Minimisation: which items a grant and a job select, judged on real values inside the data zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.keyed import parse_date

KEYS = frozenset({"Modality", "BodyPartExamined", "PatientSex", "Manufacturer", "StudyDate"})


class SelectionError(BadDocumentError):
    code = "selection-invalid"
    meaning = "A selection names an attribute, date range or value that can't be selected by."
    remedy = (
        "Use Modality, BodyPartExamined, PatientSex or Manufacturer with a list, or StudyDate with from/to."
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """All conditions must hold.  An item without the attribute is not selected: in doubt it stays out."""

    values: Mapping[str, frozenset[str]]
    dates: tuple[date, date] | None

    @classmethod
    def parse(cls, select: Mapping[str, Any]) -> Selection:
        """From ``{Modality: [CT, MR], StudyDate: 2019-01-01/2023-12-31}``; both dates are included.

        Raises :class:`SelectionError`.
        """
        values: dict[str, frozenset[str]] = {}
        dates = None
        for key, wanted in select.items():
            if key not in KEYS:
                raise SelectionError(f"{str(key)[:60]!r} can't be selected by", where=str(key)[:60])
            if key == "StudyDate":
                dates = _range(wanted)
                continue
            words = [wanted] if isinstance(wanted, str) else wanted
            if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) for w in words):
                raise SelectionError("a list of words is wanted", where=key)
            values[key] = frozenset(word.strip().upper() for word in words)
        return cls(values, dates)

    @property
    def keywords(self) -> frozenset[str]:
        """Attributes that it looks at."""
        return frozenset(self.values) | ({"StudyDate"} if self.dates is not None else frozenset())

    def holds(self, attributes: Mapping[str, Any]) -> bool:
        """Whether an item with these raw attributes is selected."""
        for key, wanted in self.values.items():
            value = attributes.get(key)
            if not isinstance(value, str) or value.strip().upper() not in wanted:
                return False
        if self.dates is not None:
            value = attributes.get("StudyDate")
            day = parse_date(value) if isinstance(value, str) else None
            return day is not None and self.dates[0] <= day <= self.dates[1]
        return True


def _range(wanted: Any) -> tuple[date, date]:
    try:
        first, last = (date.fromisoformat(part) for part in wanted.split("/"))
    except (ValueError, AttributeError, TypeError):
        raise SelectionError("two dates as 2019-01-01/2023-12-31 are wanted", where="StudyDate") from None
    if first > last:
        raise SelectionError("the range ends before it begins", where="StudyDate")
    return first, last
