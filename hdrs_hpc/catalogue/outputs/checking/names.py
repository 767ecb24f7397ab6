"""Names that read like a code: base 64, base 32 or hex in the place of words, by which numbers could leave.

A detector for the reviewers' eyes, not a proof: words can be a code too.
"""

from __future__ import annotations

import math
import re
from collections import Counter

_LONG = 16
_MOST_BITS = 3.7
"""Of entropy a character: words of this length have 2.8 to 3.6, base 64 has 3.8 and more."""
_MIXED = re.compile(r"[A-Za-z][0-9]+[A-Za-z]+[0-9]+[A-Za-z]|[0-9][A-Za-z]+[0-9]+[A-Za-z]+[0-9]", re.ASCII)
_NO_VOWEL = re.compile(r"[bcdfghjklmnpqrstvwxz]{6}", re.ASCII | re.IGNORECASE)


def reads_like_code(name: str) -> bool:
    """Whether a part of ``name`` between ``_ . : -`` looks drawn rather than written."""
    return any(_is_code(part) for part in re.split(r"[_.:-]+", name))


def _is_code(part: str) -> bool:
    if len(part) >= 8 and (_MIXED.search(part) or _NO_VOWEL.search(part)):
        return True
    return len(part) >= _LONG and _bits_per_character(part) >= _MOST_BITS


def _bits_per_character(text: str) -> float:
    """Shannon's entropy of the characters of ``text`` by how often each is in it."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
