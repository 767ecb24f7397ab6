"""Labels that say of a row that it sums up the others."""

from __future__ import annotations

import re

_EVERYONE = r"cohort|population|group|sample|study|sex(?:es)?|genders?"
_TOTAL = re.compile(
    rf"(?:(?:whole|entire|full|either)[ -](?:{_EVERYONE})|persons|whole|entire|either|cohort)|"
    r"(?:(?:grand|sub|row|column|overall)[ -]?)?(?:totals?|all|overall|sum|any|both|combined|every(?:one|body)?)"
    r"(?:\b.{0,24})?",
    re.IGNORECASE,
)


def is_total_label(text: str) -> bool:
    """Whether a category's value means "all of them"."""
    return _TOTAL.fullmatch(text.strip()) is not None
