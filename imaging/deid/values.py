"""Dummy values that are valid for their VR (PS3.5 6.2), and dates moved by a patient's days."""

from __future__ import annotations

import re
from typing import Any

from imaging.deid.keyed import DeidKey

REMOVED = "REMOVED"
DUMMY_DATE = "19000101"

_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), REMOVED),
    "AS": "000Y",
    "DA": DUMMY_DATE,
    "DT": DUMMY_DATE + "000000",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("FD", "FL"), 0.0),
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("OB", "UN"), b"\0\0"),
    "OW": b"\0\0",
    **dict.fromkeys(("OF", "OL"), b"\0" * 4),
    **dict.fromkeys(("OD", "OV"), b"\0" * 8),
    "AT": 0x00000000,
}

_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:\d{2}){0,3}(?:\.\d{1,6})?)?([+-]\d{4})?")
_TIME = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?")


def dummy(vr: str) -> Any:
    """A value of this VR that says nothing."""
    return _DUMMIES[vr]


def shifted_datetime(key: DeidKey, patient: str, value: str) -> str | None:
    """A DT value moved by whole days: its time and offset stay, and so does its precision; None if it is no DT.

    A month or a year alone moves as its first day would.
    """
    match = _DATETIME.fullmatch(value.strip())
    if match is None:
        return None
    year, month, day, time, offset = match.groups()
    moved = key.shifted(patient, f"{year}{month or '01'}{day or '01'}")
    if moved is None or (time and not day):
        return None
    precision = 8 if day else 6 if month else 4
    return moved[:precision] + (time or "") + (offset or "")


def is_time(value: str) -> bool:
    """A TM value, also as the retired ``HH:MM:SS``."""
    return _TIME.fullmatch(value.strip().replace(":", "")) is not None


def moved(key: DeidKey, patient: str, vr: str, value: str) -> str | None:
    """A date, date-time or time (which stays) of one patient after the shift; None if it can't be read."""
    if vr == "DA":
        # A range, as in a query, has no place in an instance.
        return key.shifted(patient, value)
    if vr == "DT":
        return shifted_datetime(key, patient, value)
    return value.strip() if is_time(value) else None
