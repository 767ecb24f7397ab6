"""Numbers as text: a strict reading, and rounding to significant digits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,25})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_COUNT = re.compile(r"0|[1-9][0-9]{0,11}", re.ASCII)
_MAX_EXPONENT = 30


def is_number(text: str) -> bool:
    """Plain or scientific, finite, without sign +, leading zeros or separators."""
    return _NUMBER.fullmatch(text) is not None and abs(_exponent(text)) <= _MAX_EXPONENT


def is_count(text: str) -> bool:
    """A non-negative whole number below 10^12."""
    return _COUNT.fullmatch(text) is not None


def plain(value: Decimal) -> str:
    """The one way of writing ``value``: no exponent, no zeros behind."""
    return format(value.normalize() + 0, "f")


def rounded(text: str, digits: int) -> str:
    """``text``, for which :func:`is_number` holds, to so many significant digits, one way of writing each."""
    value = Decimal(text)
    if value == 0:
        return "0"
    value = value.quantize(Decimal(1).scaleb(value.adjusted() - digits + 1), ROUND_HALF_EVEN)
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def whole_once_rounded(texts: Sequence[str], digits: int) -> bool:
    """Whether all of these numbers leave as counts would look, however they were written: 3.0, 3e0, 3.00001.

    Rounding takes every fraction of a large number, which says nothing: one must be small enough to keep its
    own, or all must be whole as written.
    """
    if not all(is_count(rounded(text, digits)) for text in texts):
        return False
    values = [Decimal(text) for text in texts]
    return any(value.adjusted() < digits - 1 for value in values) or all(
        value == value.to_integral_value() for value in values
    )


def _exponent(text: str) -> int:
    value = Decimal(text)
    return 0 if value == 0 else value.adjusted()
