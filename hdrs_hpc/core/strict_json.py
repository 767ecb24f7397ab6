"""JSON as it is signed: bounded before parsing, no duplicate keys, no NaN, one way of writing."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from hdrs_hpc.core.errors import BadDocumentError

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_INTEGER = (1 << 63) - 1
"""Largest magnitude of a whole number: what a signed 64-bit integer holds, in every reader's language."""


class DocumentTooLargeError(BadDocumentError):
    code = "document-too-large"
    meaning = "The document is larger than any honest one needs to be."
    remedy = "A document may have 1 MiB; large content belongs in a bundle or an uploaded file."


class DocumentTooDeepError(BadDocumentError):
    code = "document-too-deep"
    meaning = "The document is nested deeper than any honest one needs to be."
    remedy = "A document may be nested 24 levels deep."


class DuplicateKeyError(BadDocumentError):
    code = "duplicate-key"
    meaning = "A mapping names the same key twice, so two readers could understand two things."
    remedy = "Keep one of the two."


class MalformedDocumentError(BadDocumentError):
    code = "malformed-document"
    meaning = "The document is not well-formed JSON or YAML in UTF-8."
    remedy = "Check the quotes, colons and indentation at the place named."


def check_bounds(raw: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> None:
    """Refuse by size and nesting before a parser sees the bytes; brackets inside strings do not count."""
    if len(raw) > max_bytes:
        raise DocumentTooLargeError(f"{len(raw)} bytes where {max_bytes} are allowed")
    depth = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > max_depth:
                raise DocumentTooDeepError(f"nested deeper than {max_depth} levels")
        elif byte in b"]}":
            depth -= 1


def loads(raw: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Parse strict JSON; raises a :class:`BadDocumentError` for everything that is not."""
    check_bounds(raw, max_bytes=max_bytes, max_depth=max_depth)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_pairs,
            parse_constant=_no_constant,
            parse_float=number,
            parse_int=whole_number,
        )
    except UnicodeDecodeError:
        raise MalformedDocumentError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedDocumentError(error.msg, where=f"line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # e.g. an integer of 10,000 digits
        raise MalformedDocumentError(type(error).__name__) from None
    if b"\\u" in raw:  # UTF-8 itself has no lone surrogates, so only an escape can spell one
        check_text(value)
    return value


def number(text: str) -> float:
    """A decimal number as a float; refuses what a float can not hold: 1e999, and 1e-999, which is not zero."""
    value = float(text)
    digits = text.lower().partition("e")[0]
    if not math.isfinite(value) or (value == 0 and any(digit in digits for digit in "123456789")):
        raise MalformedDocumentError("a number out of range")
    return value


def whole_number(text: str) -> int:
    """A decimal whole number of at most 64 bits with its sign."""
    if len(text) > 40 or abs(int(text)) > MAX_INTEGER:
        raise MalformedDocumentError(f"a whole number beyond {MAX_INTEGER}")
    return int(text)


def check_text(value: Any) -> None:
    """Refuse half a surrogate pair anywhere in keys and values: no UTF-8 can carry it, so nobody could sign it."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise MalformedDocumentError("text that is not valid Unicode")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            check_text(item)
    elif isinstance(value, list):
        for item in value:
            check_text(item)


def dumps(value: Any, *, in_order: bool = False) -> bytes:
    """The one way this project writes JSON to be digested: sorted keys, no spaces, UTF-8, no NaN.

    ``in_order`` leaves keys as they are, where a person gave them an order: columns of a table.
    """
    return json.dumps(
        value, sort_keys=not in_order, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise DuplicateKeyError(f"the key {key[:60]!r} appears twice")
        made[key] = value
    return made


def _no_constant(name: str) -> NoReturn:
    raise MalformedDocumentError(f"{name} is not JSON")
