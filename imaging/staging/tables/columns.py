"""What a grant says of a table's columns, and what each rule makes of a value.

A column that is not listed stays behind.  Free text has no rule: it can't be kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.rules import MAX_PLAIN_AGE_YEARS

type Cell = str | int | float | bool | date | None

PATIENT = "patient"
MAX_DIGITS = 8
"""Longer whole numbers are identifiers more often than measurements: an NHS number has ten digits.  Zeros in front
count, since identifiers are padded with them."""


class ColumnsError(BadDocumentError):
    code = "columns-invalid"
    meaning = "What is said of a table's columns has an unknown rule, or lacks what its rule needs."
    remedy = (
        "Give each column one of: patient-id, uid, keyed-id, shifted-date, age, integer, number, boolean, category "
        "(with its values); exactly one column is patient-id."
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One column that goes into the copy.

    ``values``: of a category, all others become null.  ``only``: rows whose value is not among ``values``, or not
    ``within`` (of a date, both ends included), stay behind.  ``issuer``: of a patient id, as Issuer of Patient ID.
    """

    name: str
    rule: str
    values: frozenset[str] = frozenset()
    only: bool = False
    within: tuple[date, date] | None = None
    issuer: str = ""

    @property
    def label(self) -> str:
        """Its name in the copy: the pseudonymous patient is ``patient``, as in the index."""
        return PATIENT if self.rule == "patient-id" else self.name

    @property
    def type(self) -> pa.DataType:
        return TYPES[self.rule]

    def keeps(self, raw: str | None) -> bool:
        """Whether the row with this raw value is selected by this column; in doubt it is not."""
        if self.only:
            return raw is not None and raw.strip() in self.values
        if self.within is not None:
            day = parse_day(raw)
            return day is not None and self.within[0] <= day <= self.within[1]
        return True

    def value(self, raw: str | None, shift_days: int, keyed: Mapping[str, str]) -> Cell:
        """The cell that goes into the copy; ``keyed`` maps raw identifiers of this column to pseudonyms."""
        if raw is None or not raw.strip():
            return None
        if self.rule in KEYED:
            return keyed.get(raw.strip())
        if self.rule == "shifted-date":
            day = parse_day(raw)
            try:
                return None if day is None else day + timedelta(days=shift_days)
            except OverflowError:
                return None
        if self.rule == "category":
            return raw.strip() if raw.strip() in self.values else None
        return _PLAIN[self.rule](raw.strip())


def parse(columns: Mapping[str, Any]) -> tuple[Column, ...]:
    """From ``{name: rule}`` or ``{name: {rule: …, values: […], only: true, within: a/b, issuer: …}}``.

    Raises :class:`ColumnsError`.
    """
    found = tuple(_column(name, said) for name, said in sorted(columns.items()))
    if sum(column.rule == "patient-id" for column in found) != 1:
        raise ColumnsError("exactly one column is the patient-id")
    if len({column.label for column in found}) != len(found):
        raise ColumnsError("another column can't be called patient: the patient-id is, in the copy")
    return found


def _column(name: str, said: Any) -> Column:
    words = {"rule": said} if isinstance(said, str) else said
    if not isinstance(words, Mapping) or not set(words) <= {"rule", "values", "only", "within", "issuer"}:
        raise ColumnsError("a column is a rule, or a mapping with one", where=name[:60])
    rule, values = words.get("rule"), words.get("values") or ()
    if rule not in TYPES:
        raise ColumnsError("no such rule", where=name[:60])
    if (rule == "category") != bool(values) or not all(isinstance(value, str) for value in values):
        raise ColumnsError("a category lists its values as text, and nothing else does", where=name[:60])
    if words.get("only") and rule != "category":
        raise ColumnsError("only a category can select rows by its values", where=name[:60])
    if words.get("issuer") and rule != "patient-id":
        raise ColumnsError("only a patient-id has an issuer", where=name[:60])
    return Column(
        name=name,
        rule=rule,
        values=frozenset(value.strip() for value in values),
        only=bool(words.get("only")),
        within=_within(words.get("within"), rule, name),
        issuer=str(words.get("issuer") or ""),
    )


def _within(said: Any, rule: str, name: str) -> tuple[date, date] | None:
    if said is None:
        return None
    try:
        first, last = (date.fromisoformat(part) for part in said.split("/"))
    except (ValueError, AttributeError):
        raise ColumnsError("two dates as 2019-01-01/2023-12-31 are wanted", where=name[:60]) from None
    if rule != "shifted-date" or first > last:
        raise ColumnsError("only a date lies within two dates in order", where=name[:60])
    return first, last


_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T ].*)?", re.ASCII | re.DOTALL)
_BRITISH = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)


def parse_day(raw: str | None) -> date | None:
    """``2024-03-31`` with or without a time, ``20240331``, or the British ``31/03/2024``; else None."""
    text = (raw or "").strip()
    if match := _DAY.fullmatch(text):
        year, month, day = match.groups()
    elif match := _BRITISH.fullmatch(text):
        day, month, year = match.groups()
    else:
        return None
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _number(text: str) -> float | None:
    # float() reads digits of all scripts, and underscores between them.
    whole = text.replace("_", "").lstrip("+-").partition(".")[0].lower().partition("e")[0]
    if len(whole) > MAX_DIGITS:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 10**MAX_DIGITS else None


def _integer(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number == int(number) else None


def _age(text: str) -> int | None:
    years = _number(text)
    if years is None or not 0 <= years < 150:
        return None
    return min(int(years), MAX_PLAIN_AGE_YEARS + 1)


def _boolean(text: str) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())


_PLAIN: dict[str, Callable[[str], Cell]] = {
    "age": _age,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
}

KEYED = frozenset({"patient-id", "uid", "keyed-id"})
"""Rules whose value is a pseudonym: ``uid`` as in the images' metadata, ``keyed-id`` for other identifiers."""

TYPES: dict[str, pa.DataType] = {
    "patient-id": pa.string(),
    "uid": pa.string(),
    "keyed-id": pa.string(),
    "shifted-date": pa.date32(),
    "age": pa.int16(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
}
