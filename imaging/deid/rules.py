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
from imaging.deid.codes import SCHEMES, is_public
from imaging.deid.keyed import DeidKey, parse_date
from imaging.deid.text import NOBODY, Identifiers, cleaned
from imaging.deid.values import shifted_datetime as moved_datetime
from imaging.deid.vocabulary import MANUFACTURERS, MODALITIES, OTHER_MANUFACTURER
from imaging.deid.words import is_product

type Value = str | int | float | tuple[str | int | float, ...]

MAX_PLAIN_AGE_YEARS = 89
AGE_OVER_LIMIT = "090Y"
"""Stands for 90 and over: so few people are that old that an age names them."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose attribute it is: pseudonym, the key that made it, and what the instance says of people."""

    key: DeidKey
    pseudonym: str
    known: Identifiers = NOBODY


Rule = Callable[[Patient, Value], "Value | None"]

# Code strings (PS3.5 6.2, VR CS) and the short names vendors give kernels and filters.
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_SHORT_NAME = re.compile(r"[A-Za-z0-9_./+ -]{1,16}")
_WORD = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(r"[0-9](?:[ _./+-]?[0-9]){7,}")
"""Eight digits, grouped or not: a date or an id more often than a name of anything."""
_WHOLE_DIGITS = 9
"""Whole numbers are identifiers more often than measurements beyond this: an NHS number has ten digits."""
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
    """Finite numbers below 10⁹, also written as text (VR DS and IS); anything else is left out."""
    return _numbers(value, 10.0**_WHOLE_DIGITS)


def weight(patient: Patient, value: Value) -> Value | None:
    """Kilograms, up to 700."""
    return _between(value, 700)


def size(patient: Patient, value: Value) -> Value | None:
    """Metres, up to 3."""
    return _between(value, 3)


def activity(patient: Patient, value: Value) -> Value | None:
    """A dose of activity: therapies have more than 10⁹ Bq, of which three figures are all that is measured."""
    found = _number(value, 1e12) if isinstance(value, int | float) else None
    return found if found is None or abs(found) < 10**_WHOLE_DIGITS else float(f"{found:.2e}")


def code(patient: Patient, value: Value) -> Value | None:
    """Code strings: capitals, digits, space, underscore, at most 16 characters a part.

    Of several words each must be known; one word may be a term we do not know.
    """
    return _matching(_CODE, value, _is_term)


def modality(patient: Patient, value: Value) -> Value | None:
    """A defined term of PS3.3 C.7.3.1.1.1."""
    return value if value in MODALITIES else None


def image_type(patient: Patient, value: Value) -> Value | None:
    """Image Type (PS3.3 C.7.6.1.1.2): the first two values are defined terms, the others code strings."""
    first = value if isinstance(value, tuple) else (value,)
    if (
        first[0] not in ("ORIGINAL", "DERIVED", "MIXED")
        or (first[1:2] or ("PRIMARY",))[0] not in _CHARACTERISTICS
    ):
        return None
    return code(patient, value)


def short_name(patient: Patient, value: Value) -> Value | None:
    """A reconstruction kernel's or filter's name, written by the device: of words that no person is called by."""
    return _matching(_SHORT_NAME, value, _is_device_name)


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
    """The name of a public scheme, or a code of any; whether the two belong together, the profile looks at."""
    fits = isinstance(value, str) and (
        value in SCHEMES or any(is_public(scheme, value) for scheme in SCHEMES)
    )
    return value if fits else None


def harmless_words(patient: Patient, value: Value) -> Value | None:
    """Of a description the words of anatomy and technique (PS3.15 E.3.5); None if none is left."""
    text = " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
    return cleaned(text, patient.known) or None


RULES: dict[str, Rule] = {
    "activity": activity,
    "age": age,
    "body-part": body_part,
    "code": code,
    "coded": coded,
    "harmless-words": harmless_words,
    "image-type": image_type,
    "manufacturer": manufacturer,
    "modality": modality,
    "number": number,
    "patient-id": patient_id,
    "sex": sex,
    "shifted-date": shifted_date,
    "shifted-datetime": shifted_datetime,
    "short-name": short_name,
    "size": size,
    "time": time,
    "uid": uid,
    "weight": weight,
}
CLOSED = frozenset(
    {
        "age", "body-part", "manufacturer", "modality", "patient-id", "sex", "shifted-date", "shifted-datetime", "time",
        "uid",
    }
)  # fmt: skip
"""Rules whose result is out of a closed list or made under the key: it can't carry what an instance says of people."""


_CHARACTERISTICS = ("PRIMARY", "SECONDARY")


def _numbers(value: Value, limit: float) -> Value | None:
    if isinstance(value, tuple):
        parts = [_number(part, limit) for part in value]
        kept = tuple(part for part in parts if part is not None)
        return kept if len(kept) == len(parts) and kept else None
    return _number(value, limit)


def _number(value: str | int | float, limit: float) -> int | float | None:
    if isinstance(value, str):
        whole = value.strip().lstrip("+-").partition(".")[0]
        if whole.isdigit() and len(whole) > _WHOLE_DIGITS:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    return value if math.isfinite(value) and abs(value) < limit else None


def _between(value: Value, most: float) -> Value | None:
    found = None if isinstance(value, tuple) else _number(value, 10.0**_WHOLE_DIGITS)
    return found if found is not None and 0 <= found <= most else None


def _matching(pattern: re.Pattern[str], value: Value, judge: Callable[[str], bool]) -> Value | None:
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, str) and pattern.fullmatch(part) and judge(part) for part in parts):
        return None
    return value


def _is_term(text: str) -> bool:
    words = _WORD.findall(text)
    return not _LONG_NUMBER.search(text) and (len(words) < 2 or all(map(is_product, words)))


def _is_device_name(text: str) -> bool:
    return not _LONG_NUMBER.search(text) and all(map(is_product, _WORD.findall(text)))
