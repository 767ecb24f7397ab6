"""Words that a description may keep: anatomy, findings, technique, orientation, units.  All others may be a name.

Taken from the concepts of PS3.16 (the dictionary pydicom carries) and from the names of DICOM attributes, plus the
short forms that scanners and radiographers write.  Of a concept's name only words in lower case count: there a
capital inside a phrase marks an eponym, which is somebody's name.
"""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from typing import Any

from pydicom import _dicom_dict, _uid_dict

from imaging.deid.body_parts import BODY_PARTS
from imaging.deid.vocabulary import MANUFACTURERS

_WORD = re.compile(r"[A-Za-z]{2,}")


@functools.cache
def safe_words() -> frozenset[str]:
    """All words, in lower case."""
    from pydicom.sr import _concepts_dict  # large, and only for who has descriptions to judge

    words: set[str] = set()
    concepts: dict[str, Any] = _concepts_dict.concepts
    for scheme in concepts.values():
        for meanings in scheme.values():
            for meaning, _ in meanings.values():
                words.update(word for word in _WORD.findall(meaning) if word.islower())
    for _, _, name, _, _ in _dicom_dict.DicomDictionary.values():
        # Possessives tell whose the thing is and are no part of the name of a kind of thing.
        words.update(word.lower() for word in _WORD.findall(name.replace("'s", "")))
    ours = _ours()
    for name, *_ in _uid_dict.UID_dictionary.values():
        words.update(word.lower() for word in _WORD.findall(name))
    words -= set(ours["names"].split())
    words |= {part.lower() for part in BODY_PARTS} | set(ours["short_forms"].split())
    words |= {word.lower() for _, maker in MANUFACTURERS for word in _WORD.findall(maker)}
    return frozenset(words)


@functools.cache
def eponym_pattern() -> re.Pattern[str]:
    """Anatomy that bears a name: harmless as this phrase, while the name alone is not."""
    return re.compile(r"\b(?:" + "|".join(map(re.escape, _ours()["eponyms"])) + r")\b", re.I)


@functools.cache
def _ours() -> dict[str, Any]:
    return tomllib.loads((resources.files("imaging.deid") / "objects" / "words.toml").read_text("utf-8"))


_UNIT = (
    r"(?:mm|cm|ms|s|sec|min|kv|kvp|mas|ma|ml|t|x|d|deg|hu|mci|mbq|kg|phase|ph|st|nd|rd|th|bpm|fps|hz|khz|mhz|"
    r"mpr|w|yr|g|ch|p)"
)
_ROOT = (
    r"(?:t1|t2|t2star|pd|fl|tse|fse|se|gre|ep|epi|tfl|tfi|tir|spc|vibe|mpr|mprage|2d|3d|4d|fs|wi|w|ax|sag|cor|tra|"
    r"ir|me|dwi|adc|flair|stir|b|st|ns|iso|pre|post|ce|wo|nc|bh|fb|ld|hr)"
)
_MEDICAL = re.compile(
    r"[a-z]{3,}(?:graph(?:y|ic)|grams?|scop(?:y|ic)|(?:ec|o)tomy|plasty|itis|ology|plasia|[ae]emia|pathy|algia|stomy|"
    r"imaging|metry|stenosis|sclerosis)|"
    r"[a-z]*(?:carcin|aden|fibr|sarc|lymph|gli|lip|angi|blast|my|mening|neur|melan)omas?"
)
"""Endings of terms of medicine that no name has."""
_NUMBERED = re.compile(r"([a-z]{3,})[0-9]{1,3}")
_TECHNICAL = re.compile(
    rf"[0-9]{{1,3}}|0[0-9]{{3}}|[0-9]{{1,4}}{_UNIT}|[0-9]{{1,3}}(?:x[0-9]{{1,3}}){{1,2}}|"
    rf"(?:b|te|tr|ti|fa|se|im|kv|br|hr|ph|p|rev|sl|wl|ww)[0-9]{{1,4}}|[a-z][0-9]{{1,2}}[a-z]?|[0-9]{{1,2}}[a-z]|"
    rf"(?:{_ROOT}|[0-9]{{1,2}}){{1,6}}"
)


def is_safe(token: str) -> bool:
    """Whether a run of letters and digits says something technical and can be nobody's name or number."""
    word = token.lower()
    if len(word) > 40 or not word.isascii() or word in _names():
        return False
    if word.isdigit():
        return len(word) <= 3
    if word in safe_words() or _MEDICAL.fullmatch(word) or _TECHNICAL.fullmatch(word):
        return True
    numbered = _NUMBERED.fullmatch(word)
    if numbered is not None:
        return numbered.group(1) in safe_words()
    return word.endswith("s") and len(word) > 4 and word[:-1] in safe_words()


def is_product(token: str) -> bool:
    """Whether a word may stand in what a device writes of itself: a product's name, or too short for a person's.

    What holds a digit is a version, a model or a coil.
    """
    word = token.lower()
    return word.isascii() and (len(word) <= 3 or not word.isalpha() or word in _products() or is_safe(word))


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(_ours()["names"].split()) - frozenset(_ours()["short_forms"].split())


@functools.cache
def _products() -> frozenset[str]:
    return frozenset(_ours()["products"].split())
