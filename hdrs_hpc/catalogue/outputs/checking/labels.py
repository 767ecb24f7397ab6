"""Labels of a table's rows: plain words, ranges and periods.  A number spelled oddly is no label.

A label can't be rounded or suppressed, so nothing that reads as a number may pass for one: `` 1``, ``01``, full-width
or Arabic digits, ``1/25``, ``<10``, ``1,234``, ``12 of 30``.  Words can still be a code; :mod:`capacity` says how much.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

from hdrs_hpc.catalogue.outputs.checking import numbers
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError
from hdrs_hpc.catalogue.outputs.checking.totals import is_total_label

MAX_CHARACTERS = 64
MAX_WORDS = 8
MAX_LABELS = 200
MAX_LABEL_TEXT = 8_192
"""Characters of all different labels of a table together."""
LETTERS_BEYOND_ASCII = "\u00c0", "\u017f"
"""Latin-1 Supplement and Latin Extended-A: the languages of Europe."""

_NUMBER = r"(?:0|[1-9][0-9]{0,6})(?:\.[0-9]{1,4})?"
_RANGE = re.compile(
    rf"(?:(?P<low>{_NUMBER})(?: to |[-–])(?P<high>{_NUMBER})|under (?P<under>{_NUMBER})|"
    rf"(?P<over>{_NUMBER})(?: and over|\+))(?: [A-Za-z]{{1,12}})?",
    re.ASCII,
)
_PERIOD = re.compile(r"(?:18|19|20)[0-9]{2}-(?:0[1-9]|1[0-2]|Q[1-4])", re.ASCII)
_WORD = re.compile(r"[(\[]?[^\W\d_][\w.'’&+/()\[\]-]*[,:;]?")
_LAST = re.compile(r"[1-9]?[0-9][A-Za-z]?\)?", re.ASCII)
_COUNTING = re.compile(
    r"(?:n|no|num|number|count|total|of|sum|patients?|people|persons?|cases?|subjects?|participants?|deaths?|"
    r"events?|series|scans?|studies|slides?|images?)[.:]?",
    re.IGNORECASE,
)


class LabelNotPlainError(ArtefactRefusedError):
    code = "label-not-plain"
    meaning = "A cell that should label a row is empty, or is a number or a code rather than plain words."
    remedy = (
        "Write numbers plainly (12, never ` 12`, `012`, `1/25` or `<10`) in columns of numbers; label rows with words "
        "(`grade 2`), ranges (`40 to 49`, `40-49`, `under 18`, `65+`) or periods (`2024-03`, `2024-Q1`); write UNKNOWN "
        "for what is missing."
    )


class FreeTextError(ArtefactRefusedError):
    code = "free-text-in-table"
    meaning = "A text column must hold few, short categories; anything longer could be a record or a report."
    remedy = f"At most {MAX_LABELS} values of {MAX_CHARACTERS} characters, {MAX_WORDS} words."


class AmbiguousLabelError(ArtefactRefusedError):
    code = "label-ambiguous"
    meaning = "Two labels of a column differ only in case, spaces or punctuation, or there are two names for its total."
    remedy = "Write each label in one way, and the total as Total."


class RowsNotToldApartError(ArtefactRefusedError):
    code = "rows-not-told-apart"
    meaning = "Two rows have the same labels, so they describe one group twice or hide what tells them apart."
    remedy = "Give each group one row, with labels in columns of their own (bin_low, modality, year)."


def check_column(labels: Iterable[str], where: str) -> None:
    """Raise unless every different one of ``labels`` is plain and they can't be confused."""
    distinct = set(labels)
    if len(distinct) > MAX_LABELS:
        raise FreeTextError(f"more than {MAX_LABELS} different texts", where=where)
    for label in distinct:
        if not is_short(label):
            raise FreeTextError("a text too long for a category", where=where)
    for label in distinct:
        if not is_plain(label):
            raise LabelNotPlainError(where=where)
    folded = {one_spelling(label) for label in distinct}
    if len(folded) != len(distinct) or sum(map(is_total_label, distinct)) > 1:
        raise AmbiguousLabelError(where=where)


def check_rows(keys: Sequence[tuple[str, ...]]) -> None:
    """Raise when two rows have the same labels; ``keys`` hold the labels of each row."""
    if len({tuple(map(one_spelling, key)) for key in keys}) != len(keys):
        raise RowsNotToldApartError()


def is_short(label: str) -> bool:
    return len(label) <= MAX_CHARACTERS and len(label.split()) <= MAX_WORDS


def is_plain(label: str) -> bool:
    """Whether ``label`` is words, a range or a period, written in the one way there is."""
    if (
        not all(_is_allowed(character) for character in label)
        or unicodedata.normalize("NFKC", label) != label
    ):
        return False
    if ends := interval(label):
        return ends[0] < ends[1]
    words = label.split(" ")  # an empty word stands for a space too many
    if not _WORD.fullmatch(words[0]):
        return False
    *middle, last = words
    if len(words) > 1 and _LAST.fullmatch(last):
        return all(map(_is_word, middle)) and not any(map(_COUNTING.fullmatch, middle))
    return all(map(_is_word, words))


def interval(label: str) -> tuple[float, float] | None:
    """The ends of a range such as ``40-49``, ``0.5 to 0.75``, ``under 18``, ``65+ years``; of a period, in months."""
    if _PERIOD.fullmatch(label):
        year, part = label.split("-")
        first, long = (3 * int(part[1]) - 2, 3) if part[0] == "Q" else (int(part), 1)
        return 12.0 * int(year) + first, 12.0 * int(year) + first + long
    found = _RANGE.fullmatch(label)
    if found is None:
        return None
    return float(found["low"] or found["over"] or "-inf"), float(found["high"] or found["under"] or "inf")


def one_spelling(label: str) -> str:
    """What all ways of writing a label or name have in common: 2019.0 and 2019, ``40-49`` and ``40 to 49``."""
    if numbers.is_number(label):
        return numbers.plain(Decimal(label))
    if ends := interval(label):
        return " to ".join(numbers.plain(Decimal(str(end))) for end in ends)
    plain = unicodedata.normalize("NFKC", label).casefold().strip(" .,:;")
    return re.sub(r"(?<=[^\W_])[ _,:;'’/-]+(?=[^\W_])", "", plain)  # HER2+ and HER2- stay two labels


def _is_word(word: str) -> bool:
    return word in ("&", "-", "/", "+") or _WORD.fullmatch(word) is not None


def _is_allowed(character: str) -> bool:
    first, last = LETTERS_BEYOND_ASCII
    if character.isascii():
        return character.isalnum() or character in " ,.:;'()[]/&+_-"
    return character in "’–" or (first <= character <= last and character.isalpha())
