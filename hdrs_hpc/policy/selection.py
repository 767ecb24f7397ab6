"""Selections compared: what a job asks for must lie within what the grant gives."""

from __future__ import annotations

from collections.abc import Mapping

from hdrs_hpc.documents.models.selection import DateRange, Values

SELECTABLE = frozenset(
    {
        "BodyPartExamined",
        "Manufacturer",
        "Modality",
        "PatientSex",
        "StudyDate",
    }
)
"""Keywords that staging can select by.  None identifies: choosing by an identifier could single out a patient."""


def outside(asked: Mapping[str, Values], granted: Mapping[str, Values]) -> list[str]:
    """Keywords under which ``asked`` wants something that ``granted`` does not give."""
    return [word for word, values in asked.items() if word in granted and not _within(values, granted[word])]


def refused_keywords(asked: Mapping[str, Values]) -> list[str]:
    """Keywords that nobody may select by."""
    return [word for word in asked if word not in SELECTABLE]


def narrower(asked: Mapping[str, Values], granted: Mapping[str, Values]) -> bool:
    """Whether ``asked``, which lies within ``granted``, may leave out something that ``granted`` gives."""
    return any(word not in granted or not _within(granted[word], values) for word, values in asked.items())


def _within(asked: Values, granted: Values) -> bool:
    if isinstance(asked, DateRange):
        return isinstance(granted, DateRange) and granted.first <= asked.first and asked.last <= granted.last
    # A list of days within a granted range can't be written: dates are asked for as ranges.
    return not isinstance(granted, DateRange) and set(asked) <= set(granted)
