"""A linked table's columns in a grant: which go into a copy, and by which rule.

Columns of outputs are ``catalogue/outputs/columns.py``.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Items, Part, fault
from hdrs_hpc.forms.words import Line, parse_day


class BadColumnsError(BadDocumentError):
    code = "bad-columns"
    meaning = "What is said of a table's columns lacks what a rule needs, or names no patient."
    remedy = (
        "Exactly one column is `patient-id`; a `category` lists its `values`, a date may have `within: 2019-01-01/"
        "2023-12-31`."
    )


Rule = Literal[
    "patient-id", "uid", "keyed-id", "shifted-date", "age", "integer", "number", "boolean", "category"
]


def _days(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    first, slash, last = value.partition("/")
    if not slash:
        fault(BadColumnsError, "write a range of dates as 2019-01-01/2023-12-31")
    days = (parse_day(first), parse_day(last))
    if days[0] > days[1]:
        fault(BadColumnsError, "the range of dates ends before it begins")
    return days


Days = Annotated[
    tuple[date, date],
    BeforeValidator(_days),
    PlainSerializer(lambda days: f"{days[0].isoformat()}/{days[1].isoformat()}"),
]


class ColumnRule(Part):
    """``only``: rows whose value is not listed stay behind.  ``within``: so do rows dated outside (real dates)."""

    rule: Rule
    values: Annotated[Items[Line], Field(max_length=10_000)] = ()
    only: bool = False
    within: Days | None = None
    issuer: Line | None = None

    @model_validator(mode="after")
    def _fits(self) -> ColumnRule:
        if (self.rule == "category") != bool(self.values):
            fault(BadColumnsError, "a category lists its values, and no other rule does")
        if self.only and self.rule != "category":
            fault(BadColumnsError, "rows are selected by the values of a category only")
        if self.within is not None and self.rule != "shifted-date":
            fault(BadColumnsError, "only a shifted-date lies within a range of dates")
        if self.issuer is not None and self.rule != "patient-id":
            fault(BadColumnsError, "only a patient-id has an issuer")
        return self


def _rule(value: Any) -> Any:
    """``age: age`` is short for ``age: {rule: age}``."""
    return {"rule": value} if isinstance(value, str) else value


def _one_patient(columns: dict[str, ColumnRule]) -> dict[str, ColumnRule]:
    if columns and sum(column.rule == "patient-id" for column in columns.values()) != 1:
        fault(BadColumnsError, "exactly one column is the patient-id")
    return columns


Columns = Annotated[
    dict[Line, Annotated[ColumnRule, BeforeValidator(_rule)]],
    AfterValidator(_one_patient),
    Field(max_length=1000),
]
"""Column name → its rule.  What is not listed stays behind."""
