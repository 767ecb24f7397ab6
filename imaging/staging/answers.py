"""What a parser says, read as what it may be: the word of a process that a file has taken over.

JSON knows more than honest answers hold: ``Infinity``, brackets without end, halves of characters.  Whatever it
is, it costs one item, never the staging.
"""

from __future__ import annotations

import json
from typing import Any

from imaging.staging.refusals import Refused

MAX_BYTES = 8 << 20
"""Text boxes of 64 frames are the longest; what JSON takes in memory is some 25 times its length."""

LIES = (ValueError, KeyError, TypeError, OverflowError, RecursionError, SyntaxError)
"""What comes of reading a lie: ``int(inf)`` overflows, deep brackets recurse, ``numpy.dtype(",,")`` is compiled."""


def said(header: bytes) -> dict[str, Any]:
    """A short answer's mapping; raises :class:`Refused` with ``parser-crashed``."""
    if len(header) > MAX_BYTES:
        raise Refused("parser-crashed")
    try:
        message = json.loads(header)
    except LIES:
        raise Refused("parser-crashed") from None
    if not isinstance(message, dict):
        raise Refused("parser-crashed")
    return message


def is_text(value: object) -> bool:
    """Whether it is a string that can be written as UTF-8: JSON can also say one half of a surrogate pair."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    )
