"""Minimisation: which items a grant and a job select, judged on real values inside the data zone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.body_parts import term_of
from imaging.deid.keyed import parse_date
from imaging.deid.rules import years_between, years_of
from imaging.staging.refusals import SELECTION_KEYS as KEYS

_REGION_CODE = "AnatomicRegionSequence.CodeValue"
_REGION_SCHEME = "AnatomicRegionSequence.CodingSchemeDesignator"
RAW_KEYWORDS = frozenset(
    {"Modality", "BodyPartExamined", "PatientSex", "Manufacturer", "StudyDate", _REGION_CODE, _REGION_SCHEME}
)
"""Attributes that every item is asked for, since jobs may select by them later (``policy/selection.py``)."""
_AGES = re.compile(r"(\d{1,3})-(\d{1,3})?")


class SelectionError(BadDocumentError):
    code = "selection-invalid"
    meaning = "A selection names an attribute, date range or value that can't be selected by."
    remedy = (
        "Use Modality, BodyPartExamined, PatientSex or Manufacturer with a list of words, PatientAge with a list of "
        "ranges in years such as 18-64 or 65-, or StudyDate with from/to."
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """All conditions must hold.  An item without the attribute is not selected: in doubt it stays out."""

    values: Mapping[str, frozenset[str]]
    dates: tuple[date, date] | None
    ages: tuple[tuple[int, int], ...] = ()
    """Ranges in whole years, both ends included; an item in any of them is selected."""

    @property
    def keywords(self) -> frozenset[str]:
        """Attributes (dotted: of a sequence's first item) without which :meth:`holds` can't judge."""
        wanted = set(self.values)
        if self.dates is not None:
            wanted.add("StudyDate")
        if self.ages:
            wanted |= {"PatientAge", "PatientBirthDate", "StudyDate"}
        if "BodyPartExamined" in wanted:
            wanted |= {_REGION_CODE, _REGION_SCHEME}
        return frozenset(wanted)

    @classmethod
    def parse(cls, select: Mapping[str, Any]) -> Selection:
        """From ``{Modality: [CT, MR], PatientAge: [18-64], StudyDate: 2019-01-01/2023-12-31}``.

        Both ends of a range are included.

        Raises :class:`SelectionError`.
        """
        values: dict[str, frozenset[str]] = {}
        dates: tuple[date, date] | None = None
        ages: tuple[tuple[int, int], ...] = ()
        for key, wanted in select.items():
            if key not in KEYS:
                raise SelectionError(f"{str(key)[:60]!r} can't be selected by", where=str(key)[:60])
            if key == "StudyDate":
                dates = _range(wanted)
                continue
            words = [wanted] if isinstance(wanted, str) else wanted
            if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) for w in words):
                raise SelectionError("a list of words is wanted", where=key)
            if key == "PatientAge":
                ages = tuple(_ages(word) for word in words)
                continue
            values[key] = frozenset(word.strip().upper() for word in words)
        return cls(values, dates, ages)

    def holds(self, attributes: Mapping[str, Any]) -> bool:
        """Whether an item with these raw attributes is selected."""
        return self.unmet(attributes) is None

    def unmet(self, attributes: Mapping[str, Any]) -> str | None:
        """The first attribute by which an item with these raw attributes is not selected; None: it is."""
        for key, wanted in self.values.items():
            if not wanted & set(_words(key, attributes)):
                return key
        if self.ages and not _in_ages(self.ages, attributes):
            return "PatientAge"
        if self.dates is not None:
            day = parse_date(str(attributes.get("StudyDate") or ""))
            if day is None or not self.dates[0] <= day <= self.dates[1]:
                return "StudyDate"
        return None


def _words(key: str, attributes: Mapping[str, Any]) -> Iterator[str]:
    """What an item says of one attribute, in capitals; a body part also by the code of its region."""
    value = attributes.get(key)
    if isinstance(value, str):
        yield value.strip().upper()
    if key == "BodyPartExamined":
        code, scheme = attributes.get(_REGION_CODE), attributes.get(_REGION_SCHEME)
        term = term_of(str(code), str(scheme)) if code and scheme else None
        if term is not None:
            yield term


def _in_ages(ages: tuple[tuple[int, int], ...], attributes: Mapping[str, Any]) -> bool:
    """By the age that the item states, else by its two dates; an item with neither is of no age."""
    years = years_of(str(attributes.get("PatientAge") or ""))
    if years is None:
        dates = (str(attributes.get(keyword) or "") for keyword in ("PatientBirthDate", "StudyDate"))
        years = years_between(*dates)
    return years is not None and any(first <= int(years) <= last for first, last in ages)


def _ages(word: str) -> tuple[int, int]:
    match = _AGES.fullmatch(word.strip())
    if match is None:
        raise SelectionError("a range of years as 18-64 or 65- is wanted", where="PatientAge")
    first, last = int(match.group(1)), int(match.group(2) or 999)
    if first > last:
        raise SelectionError("the range ends before it begins", where="PatientAge")
    return first, last


def _range(wanted: Any) -> tuple[date, date]:
    try:
        first, last = (date.fromisoformat(part) for part in wanted.split("/"))
    except (ValueError, AttributeError, TypeError):
        raise SelectionError("two dates as 2019-01-01/2023-12-31 are wanted", where="StudyDate") from None
    if first > last:
        raise SelectionError("the range ends before it begins", where="StudyDate")
    return first, last
