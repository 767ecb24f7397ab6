"""Identifiers that are written as numbers: an id of letters and digits loses its letters where only numbers fit.

A value is suspect if it *is* the digits of an id, or, of ids of seven digits and more, if it has them anywhere in it:
shorter ones are in any long number by chance.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

SHORTEST, CONTAINED = 5, 7
"""Digits of an id that is looked for as a whole number, and inside of numbers."""
_DAY = re.compile(r"(?:18|19|20)\d{6}")
_MOST_JOINED = 16


class KnownNumbers:
    """The digits of ids, telephone numbers and days that one object tells."""

    def __init__(self, ids: Iterable[str], days: Iterable[str] = ()) -> None:
        """``ids``: as written.  ``days``: values of VR DA and DT."""
        found = {_plain(run) for text in ids for run in _runs(text)}
        found |= {day for text in days for day in _DAY.findall(text.strip()[:8])}
        self._whole = frozenset(run for run in found if len(run) >= SHORTEST)
        self._parts = tuple(sorted(run for run in self._whole if len(run) >= CONTAINED))
        # A single holds seven digits of nine: what an id becomes there still tells it.
        self._singles = frozenset(_single(float(run)) for run in self._whole)

    def in_digits(self, text: str) -> bool:
        """Whether a text, whatever stands between its digits, carries one."""
        if not self._whole:
            return False
        digits = re.sub(r"\D", "", text)
        return any(part in digits for part in self._parts) or any(
            _plain(run) in self._whole for run in re.findall(r"\d+", text)
        )

    def in_values(self, values: Sequence[Any]) -> bool:
        """Whether numbers (as numbers or as texts of IS, DS) carry one, each by itself or one after another."""
        if not self._whole:
            return False
        texts = [_digits(value) for value in values]
        if any(self._is_suspect(text, value) for text, value in zip(texts, values, strict=True)):
            return True
        joined = "".join(texts) if 1 < len(texts) <= _MOST_JOINED and all(map(_is_whole, values)) else ""
        return any(part in joined for part in self._parts)

    def _is_suspect(self, digits: str, value: Any) -> bool:
        # Of a fraction only long ids: any five digits turn up among thousands of places and angles.
        if any(part in digits for part in self._parts) or (
            _is_whole(value) and _plain(digits) in self._whole
        ):
            return True
        if not isinstance(value, float) or not math.isfinite(value):
            return False
        return abs(value) >= 10**SHORTEST and _single(abs(value)) in self._singles and _single(value) == value


def _runs(text: str) -> Iterable[str]:
    """Digits in a row, and those of groups that space or punctuation parts."""
    yield from re.findall(r"\d+", text)
    for grouped in re.findall(r"\d(?:[\W_]{0,2}\d)+", text):
        yield re.sub(r"\D", "", grouped)


def _digits(value: Any) -> str:
    """Of a number; of one that is whole without a fraction."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return re.sub(r"\D", "", text)
    if math.isfinite(number) and number == int(number):
        # Not by way of a float where the text is whole: it has 53 bits.
        return re.sub(r"\D", "", text) if re.fullmatch(r"[+-]?\d+", text) else str(abs(int(number)))
    return re.sub(r"\D", "", text.lower().partition("e")[0])


def _is_whole(value: Any) -> bool:
    try:
        return float(str(value)).is_integer()
    except ValueError:
        return False


def _plain(digits: str) -> str:
    return digits.lstrip("0")


def _single(value: float) -> float:
    """Rounded to IEEE 754 binary32."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf
