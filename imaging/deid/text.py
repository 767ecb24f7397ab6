"""Cleaning of free text (PS3.15 E.3.5): keep what is known to be harmless, not drop what is known to be harmful.

What an instance itself says of people (names, ids, numbers, addresses) is looked for first and taken out wherever
it stands; then what has the shape of a date, a number to call or an id; then every word that is not in the safe
vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset

from imaging.deid.attribute_kinds import kind
from imaging.deid.initials import Initials, are_all
from imaging.deid.numbers import KnownNumbers
from imaging.deid.reading_elements import elements, values_of
from imaging.deid.words import eponym_pattern, is_safe

_IDS = kind("identifying")
_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_STREETS = (
    r"(?i:street|st|road|rd|avenue|ave|lane|drive|close|way|court|crescent|place|square|terrace|gardens|"
    r"boulevard)"
)
_NAME = r"[A-Z][\w'’-]*\.?"
_CUES = (
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Miss|Mx|Prof|Sir|Dame|Lord|Lady|Sister|MRS|PROF|(?i:professor|nurse|doctor|name|"
    r"referred by|reported by|read by|seen by|performed by|signed by|attn|contact)))\b"
)
_ANNOUNCED = re.compile(rf"({_CUES})[\s.:]*(?:{_NAME}[\s,]*){{1,3}}")
"""Whoever is announced by a title or by words that come before names."""
_POSSESSIVE = re.compile(r"(?<=\w\w\w)['’]s\b(?! (?:disease|cyst|view|lymphoma|diverticulum)\b)")
_GROUPED = re.compile(r"(?<![\w.])\+?\(?\d{2,5}\)?(?:[\s.-]?\(?\d{2,5}\)?){1,4}(?![\w.])")
"""Telephone, NHS and other long numbers, however they are grouped."""
_SHAPES = (
    # Days of the week with a day, and what an apostrophe joins to a name.
    re.compile(
        r"\b(?:mon|tue|tues|wed|thu|thur|thurs|fri|sat|sun)(?:[a-z]*day)?\b[\s.,]*\d{1,2}(?:st|nd|rd|th)?\b",
        re.I,
    ),
    re.compile(r"\b[A-Z]['’](?=[A-Z])"),
    # Dotted numbers (UIDs, network addresses) before their parts look like dates.
    re.compile(r"(?<!\d)\d+(?:\.\d+){3,}(?!\d)"),
    re.compile(r"\S+@\S+"),
    re.compile(r"\b(?:https?|ftp)://\S+|\bwww\.\S+", re.I),
    # Street addresses, then post codes of the United Kingdom and the United States.
    re.compile(rf"\b\d{{1,5}}[a-z]?,?\s+(?:[A-Z][\w'’-]*\s+){{1,3}}{_STREETS}\b\.?"),
    re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]?\s+\d[A-Z]{2}\b", re.I),
    re.compile(r"\b[A-Z]{2}\s+\d{5}(?:-\d{4})?\b"),
    # Dates in figures or with the month's name, and years.
    re.compile(r"(?<!\d)\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}(?!\d)"),
    re.compile(
        rf"(?<!\w)\d{{1,2}}(?:st|nd|rd|th)?[-\s.,/]*{_MONTHS}(?![a-z])[-\s.,/]*(?:\d{{4}}|\d{{2}})?(?!\w)",
        re.I,
    ),
    re.compile(
        rf"(?<!\w){_MONTHS}(?![a-z])[-\s.,/]*\d{{1,2}}(?:st|nd|rd|th)?(?:[-\s.,/]+(?:\d{{4}}|\d{{2}}))?(?!\w)",
        re.I,
    ),
    re.compile(rf"(?<!\w){_MONTHS}[-\s.,/]*\d{{4}}(?!\w)", re.I),
    re.compile(r"(?<![\d.])(?:19|20)\d{2}(?![\da-zA-Z])"),
    _GROUPED,
    # What has five digits or more in a row.
    re.compile(r"\b[A-Za-z]{0,4}[-_#:]?\d{5,}\w*"),
)
_VERSION = re.compile(r"(?<![\w.])v?\d{1,4}(?:\.\d{1,4}){2,5}(?![\w.])", re.I)
_DOTTED_DAY = re.compile(r"\d{1,2}\.\d{1,2}\.(?:19|20)\d\d|(?:19|20)\d\d\.\d{1,2}\.\d{1,2}")
"""What is no version of software though it is dotted."""
_TOKEN = re.compile(r"[^\W_]+")
_LONE_LETTERS = re.compile(r"(?<![^\W_])[^\W\d_](?:[\W_]{1,2}[^\W\d_]){3,}(?![^\W_])")
"""A word spelled letter by letter."""
_EDGE = " \t\r\n-_,;:./\\|#&*=^~'’\"()[]{}<>"


class Identifiers:
    """What one instance says of people, from all its elements, at any depth."""

    def __init__(self, dataset: Dataset) -> None:
        names: set[str] = set()
        phrases: set[str] = set()
        persons: set[tuple[str, ...]] = set()
        days: set[str] = set()
        for keyword, vr, value in _all_values(dataset):
            text = str(value)
            if vr in ("DA", "DT"):
                days.add(text)
            if vr == "PN":
                persons.update(tuple(_tokens(group)) for group in text.split("="))
                names.update(token for token in _tokens(text) if len(token) > 1 and not token.isdigit())
                phrases.update(token for token in _tokens(text) if len(token) > 3 and token.isdigit())
            elif keyword in _IDS and len(text.strip()) > 2:
                phrases.add(_folded(text.strip()))
        self._names = frozenset(names)
        self.initials = Initials(persons)
        self._numbers = KnownNumbers(phrases)
        self._numbers_and_days = KnownNumbers(phrases, days)
        self._compact = frozenset(
            compact
            for compact in ("".join(_tokens(phrase)) for phrase in phrases)
            if len(compact) > 4 and any(char.isdigit() for char in compact)
        )
        wholes = [re.escape(phrase) for phrase in phrases if len(phrase) > 2]
        # An id is also written in groups, with whatever between them.
        wholes += [r"[\W_]{0,2}".join(map(re.escape, compact)) for compact in self._compact]
        wholes.sort(key=len, reverse=True)
        self._phrases = (
            re.compile(r"(?<![^\W_])(?:" + "|".join(wholes) + r")(?![^\W_])", re.I) if wholes else None
        )

    def names(self, token: str) -> bool:
        """Whether a word is part of a person's name here."""
        folded = _folded(token)
        return (
            folded in self._names
            or (len(folded) > 5 and any(name in folded for name in self._names if len(name) > 4))
            or self._is_glued(folded)
        )

    def _is_glued(self, folded: str) -> bool:
        """Whether a word is two names, or a name and initials, without anything between."""
        for name in self._names:
            rest = folded.removeprefix(name) if folded.startswith(name) else folded.removesuffix(name)
            if rest != folded and (
                rest in self._names or (len(name) > 3 and self.initials.are_letters(rest))
            ):
                return True
        return False

    def is_in(self, text: str) -> bool:
        """Whether a whole value names somebody or carries one of their ids."""
        folded = _folded(text)
        if self._phrases is not None and self._phrases.search(folded):
            return True
        if self._numbers.in_digits(folded):
            return True
        if any(self._spells(run.group()) for run in _LONE_LETTERS.finditer(folded)):
            return True
        compact = "".join(_tokens(text))
        return any(one in compact for one in self._compact) or any(
            self.names(token) and not (len(token) < 4 and is_safe(token)) for token in _tokens(text)
        )

    def is_in_digits(self, uid: str) -> bool:
        """Whether a UID or a time has one of this instance's ids built in."""
        return self._numbers.in_digits(uid)

    def is_in_numbers(self, values: Sequence[Any]) -> bool:
        """Whether numbers, or texts of numbers, are or have the digits of an id or of a day of this instance."""
        return self._numbers_and_days.in_values(values)

    def is_in_bytes(self, raw: bytes) -> bool:
        """Whether a name or an id stands in bytes, as ASCII or UTF-16."""
        low = raw.lower()
        words = [word for word in self._names | self._compact if len(word) > 4 and word.isascii()]
        return any(
            word.encode(coding) in low for word in words for coding in ("ascii", "utf-16-le", "utf-16-be")
        )

    def without(self, text: str) -> str:
        """``text`` without phrases of this instance's people, and names that are spelled letter by letter."""
        plain = _unaccented(text)
        plain = self._phrases.sub(" ", plain) if self._phrases is not None else plain
        return _LONE_LETTERS.sub(lambda run: " " if self._spells(run.group()) else run.group(), plain)

    def _spells(self, run: str) -> bool:
        """Whether letters that stand apart make a name, with what else is spelled beside it."""
        word = "".join(_tokens(run))
        return any(name in word for name in self._names if len(name) > 3)

    def compact_ids(self) -> frozenset[str]:
        """Ids without punctuation, as they may also be written."""
        return self._compact


def cleaned(text: str, known: Identifiers, harmless: Callable[[str], bool] = is_safe) -> str:
    """The rest of a text of which every word is ``harmless``, in its order; empty if nothing is left."""
    rest = _ANNOUNCED.sub(r"\1 ", known.without(_POSSESSIVE.sub(" ", text)))
    for shape in _SHAPES:
        rest = shape.sub(_keep_technical if shape is _GROUPED else " ", rest)
    compact = known.compact_ids()
    eponyms = [match.span() for match in eponym_pattern().finditer(rest)]
    for start, end in known.initials.places(rest, known.names):
        rest = rest[:start] + " " * (end - start) + rest[end:]

    def judge(match: re.Match[str]) -> str:
        token = match.group()
        harmful = known.names(token) or any(one in token.lower() for one in compact)
        harmful = harmful or (known.initials.all_of(token) and not is_safe(token))
        keeps = harmless(token) or any(start <= match.start() < end for start, end in eponyms)
        return token if keeps and not harmful else " "

    rest = _TOKEN.sub(judge, rest)
    rest = re.sub(r"[^\x20-\x7e]+", " ", rest)
    if are_all(rest) and not are_all(text):
        return ""
    # Punctuation that stood around what went would only tell its shape.
    return " ".join(part for part in rest.split() if _TOKEN.search(part) or part in "+-/&").strip(_EDGE)


def is_technical(text: str, known: Identifiers) -> bool:
    """Whether a short value can stay as it is: no known name or id, no date, no number to call."""
    if len(text) > 64 or not text.isprintable() or known.is_in(text) or _ANNOUNCED.search(text):
        return False
    if any(known.initials.all_of(token) and not is_safe(token) for token in _tokens(text)):
        return False
    rest = _VERSION.sub(lambda match: match.group() if _DOTTED_DAY.search(match.group()) else " ", text)
    for shape in _SHAPES:
        if shape is _GROUPED:
            if any(_keep_technical(match) == " " for match in shape.finditer(rest)):
                return False
        elif shape.search(rest):
            return False
    return True


def _keep_technical(match: re.Match[str]) -> str:
    digits = sum(char.isdigit() for char in match.group())
    return match.group() if digits < 7 else " "


def _all_values(dataset: Dataset) -> Iterator[tuple[str, str, Any]]:
    for element in elements(dataset):
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _all_values(item)
        elif element.VR not in ("OB", "OW", "OF", "OD", "OL", "OV", "UN"):
            for value in values_of(element):
                yield element.keyword, element.VR, value


def _tokens(text: str) -> list[str]:
    return [_folded(token) for token in _TOKEN.findall(_unaccented(text))]


def _folded(text: str) -> str:
    return _unaccented(text).casefold()


_LETTERS = str.maketrans(
    {
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "ı": "i",
    }
)


def _unaccented(text: str) -> str:
    """Letters without their marks, and without what is not seen between them: a name is also written in the capitals of
    a code string or of a telegram."""
    apart = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(
        char for char in apart if not unicodedata.combining(char) and unicodedata.category(char) != "Cf"
    )


NOBODY = Identifiers(Dataset())
"""Where nothing is known of whom a text may name."""
