"""Selections: which part of a dataset is meant, as DICOM keywords with allowed values or a range of dates."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Part, fault
from hdrs_hpc.forms.words import parse_day


class BadSelectionError(BadDocumentError):
    code = "bad-selection"
    meaning = "A selection is not a DICOM keyword with a list of values or a range of dates."
    remedy = "Write such as `Modality: [CT]` or `StudyDate: 2019-01-01/2023-12-31`."


class DateRange(Part):
    """Days from ``first`` to ``last``, both included."""

    first: date
    last: date


_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}\Z")
MAX_VALUES = 1000
Values = tuple[str, ...] | DateRange


def _keyword(text: str) -> str:
    if not _KEYWORD.match(text):
        fault(BadSelectionError, "a selection's key is a DICOM keyword such as Modality")
    return text


def _values(value: Any) -> Any:
    if isinstance(value, DateRange | tuple):
        return value
    if isinstance(value, str):
        first, slash, last = value.partition("/")
        if not slash:
            fault(BadSelectionError, "write one value as a list of one, or a range as 2019-01-01/2023-12-31")
        days = DateRange(first=parse_day(first), last=parse_day(last))
        if days.first > days.last:
            fault(BadSelectionError, "the range of dates ends before it begins")
        return days
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
        fault(BadSelectionError, "write a list of values, or a range of dates")
    for item in value:
        if not isinstance(item, str) or not 1 <= len(item) <= 200 or not item.isprintable():
            fault(BadSelectionError, "each value in the list is text; quote what YAML would read as a number")
    if len(set(value)) != len(value):
        fault(BadSelectionError, "the list names a value twice")
    return tuple(value)


def _text(value: Values) -> Any:
    if isinstance(value, DateRange):
        return f"{value.first.isoformat()}/{value.last.isoformat()}"
    return list(value)


def _dates_by_range(selection: dict[str, Values]) -> dict[str, Values]:
    for word, values in selection.items():
        if word.endswith("Date") != isinstance(values, DateRange):
            wanted = "a range of dates" if word.endswith("Date") else "a list of values"
            fault(BadSelectionError, f"{word} takes {wanted}")
    return selection


_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_VALUES},
            {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        ]
    }
)
Selection = Annotated[
    dict[
        Annotated[str, AfterValidator(_keyword)],
        Annotated[Values, BeforeValidator(_values), PlainSerializer(_text), _SCHEMA],
    ],
    AfterValidator(_dates_by_range),
    Field(max_length=32),
]
"""Keyword → allowed values, or an inclusive range of dates.  Several keywords must all hold."""
