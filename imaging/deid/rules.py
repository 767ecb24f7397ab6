"""What may be done with an attribute that a profile keeps: one function a rule.

A rule gives the value that goes into the copy, or None to leave the attribute out.  Free text has no rule:
it can't be kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from imaging.deid.body_parts import BODY_PARTS
from imaging.deid.keyed import DeidKey, parse_date
from imaging.deid.text import NOBODY, cleaned
from imaging.deid.values import shifted_datetime as moved_datetime
from imaging.deid.vocabulary import MANUFACTURERS, OTHER_MANUFACTURER

type Value = str | int | float | tuple[str | int | float, ...]

MAX_PLAIN_AGE_YEARS = 89
AGE_OVER_LIMIT = "090Y"
"""Stands for 90 and over: so few people are that old that an age names them."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose attribute it is: pseudonym, and the key that made it."""

    key: DeidKey
    pseudonym: str


Rule = Callable[[Patient, Value], "Value | None"]

# Code strings (PS3.5 6.2, VR CS) and the short names vendors give kernels and filters.
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_SHORT_NAME = re.compile(r"[A-Za-z0-9_./+ -]{1,16}")
_CODE_VALUE = re.compile(r"[A-Z0-9]{1,4}-[A-Z0-9]{1,8}|[0-9]{4,18}|[A-Z][A-Z0-9_]{1,7}")
"""SNOMED (old and new) and DCM code values, and names of coding schemes."""
_TIME = re.compile(r"([0-9]{2})([0-9]{2})?([0-9]{2})?(?:\.[0-9]{1,6})?")
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_YEARS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def age(patient: Patient, value: Value) -> Value | None:
    """Age String in its own unit up to 89 years, then ``090Y``."""
    years = years_of(value) if isinstance(value, str) else None
    if years is None:
        return None
    return AGE_OVER_LIMIT if years > MAX_PLAIN_AGE_YEARS + 0.99 else str(value).strip().upper().zfill(4)


def age_between(birth: str, study: str) -> str | None:
    """Age String in years from two real dates; None as in :func:`years_between`."""
    years = years_between(birth, study)
    if years is None:
        return None
    return AGE_OVER_LIMIT if years > MAX_PLAIN_AGE_YEARS else f"{years:03d}Y"


def years_of(age_string: str) -> float | None:
    """Years of a DICOM Age String; None if it is none."""
    match = _AGE.fullmatch(age_string.strip().upper())
    return None if match is None else int(match.group(1)) / _YEARS[match.group(2)]


def years_between(birth: str, study: str) -> int | None:
    """Whole years between two real dates; None if either is no date or the order is wrong."""
    born, seen = parse_date(birth), parse_date(study)
    if born is None or seen is None or seen < born:
        return None
    return seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))


def sex(patient: Patient, value: Value) -> Value | None:
    """M, F or O."""
    return value if value in ("M", "F", "O") else None


def number(patient: Patient, value: Value) -> Value | None:
    """Finite numbers, also written as text (VR DS and IS); anything else is left out."""
    if isinstance(value, tuple):
        parts = [_number(part) for part in value]
        kept = tuple(part for part in parts if part is not None)
        return kept if len(kept) == len(parts) and kept else None
    return _number(value)


def code(patient: Patient, value: Value) -> Value | None:
    """Code strings: capitals, digits, space, underscore, at most 16 characters a part."""
    return _matching(_CODE, value)


def short_name(patient: Patient, value: Value) -> Value | None:
    """A reconstruction kernel's or filter's name, written by the device."""
    return _matching(_SHORT_NAME, value)


def body_part(patient: Patient, value: Value) -> Value | None:
    """A defined term of PS3.16 annex L; other words are text, which may be anything."""
    term = value.strip().upper() if isinstance(value, str) else ""
    return term if term in BODY_PARTS else None


def manufacturer(patient: Patient, value: Value) -> Value | None:
    """One name per maker; unknown makers become OTHER, so that the field carries no text of its own."""
    text = value.upper() if isinstance(value, str) else ""
    return next((name for mark, name in MANUFACTURERS if mark in text), OTHER_MANUFACTURER)


def patient_id(patient: Patient, value: Value) -> Value | None:
    """The pseudonym; nothing where the item belongs to nobody known."""
    return patient.pseudonym or None


def uid(patient: Patient, value: Value) -> Value | None:
    return patient.key.uid(value) if isinstance(value, str) else None


def shifted_date(patient: Patient, value: Value) -> Value | None:
    return patient.key.shifted(patient.pseudonym, value) if isinstance(value, str) else None


def shifted_datetime(patient: Patient, value: Value) -> Value | None:
    """A DT value moved like the patient's dates."""
    return moved_datetime(patient.key, patient.pseudonym, value) if isinstance(value, str) else None


def time(patient: Patient, value: Value) -> Value | None:
    """Time of day to the second; dates move by whole days, so that times between events stay true."""
    match = _TIME.fullmatch(value.strip().replace(":", "")) if isinstance(value, str) else None
    return "".join(part or "" for part in match.groups()) if match is not None else None


def coded(patient: Patient, value: Value) -> Value | None:
    """A code of a public scheme, or the scheme's name."""
    return value if isinstance(value, str) and _CODE_VALUE.fullmatch(value) else None


def harmless_words(patient: Patient, value: Value) -> Value | None:
    """Of a description the words of anatomy and technique (PS3.15 E.3.5); None if none is left."""
    text = " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
    return cleaned(text, NOBODY) or None


RULES: dict[str, Rule] = {
    "age": age,
    "body-part": body_part,
    "code": code,
    "coded": coded,
    "harmless-words": harmless_words,
    "manufacturer": manufacturer,
    "number": number,
    "patient-id": patient_id,
    "sex": sex,
    "shifted-date": shifted_date,
    "shifted-datetime": shifted_datetime,
    "short-name": short_name,
    "time": time,
    "uid": uid,
}


def _number(value: str | int | float) -> int | float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if math.isfinite(value) and abs(value) < 1e15 else None


def _matching(pattern: re.Pattern[str], value: Value) -> Value | None:
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, str) and pattern.fullmatch(part) for part in parts):
        return None
    return value
