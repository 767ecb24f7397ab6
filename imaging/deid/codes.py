"""Codes of public schemes: what may stand as a code without being anybody's text."""

from __future__ import annotations

import functools
import re
from typing import Any

_SRT = re.compile(r"[A-Z][A-Z0-9]?-(?=[0-9A-F]*[0-9])[0-9A-F]{4,5}|R-F[A-F]{4}")
_SHAPES: dict[str, re.Pattern[str]] = {
    "DCM": re.compile(r"[0-9]{5,6}"),
    "FMA": re.compile(r"[0-9]{3,6}"),
    "ICDO3": re.compile(r"[0-9]{4}/[0-9]|C[0-9]{2}(?:\.[0-9])?"),
    "LN": re.compile(r"(?:[0-9]{1,6}|L[AP][0-9]{1,6})-[0-9]"),
    "NCIt": re.compile(r"C[0-9]{3,6}"),
    "NEU": re.compile(r"[0-9]{1,5}"),
    "RADLEX": re.compile(r"RID[0-9]{1,5}"),
    "SCT": re.compile(r"[0-9]{6,18}"),
    "SNM3": _SRT,
    "SRT": _SRT,
    "UBERON": re.compile(r"(?:UBERON:)?[0-9]{7}"),
    "UMLS": re.compile(r"C[0-9]{7}"),
}
_UNIT = re.compile(r"(?:[^0-9 ]|[0-9]{1,3}(?![0-9]))+")
_ATOM = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^\W\d_]+")
SCHEMES = frozenset({*_SHAPES, "UCUM"})
"""Coding schemes whose codes are public; a private scheme's code may be anybody's text."""

_MULTIPLIED = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
"""The dihedral group of ten: row times column."""
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def is_public(scheme: str, value: str) -> bool:
    """Whether ``value`` has the form of a code of ``scheme``, and is no number that anybody gave.

    A code of SNOMED CT is that of a concept of the international edition or an extension, with its check digit; one
    of DICOM that is a word, and each part of one of UCUM, has to be among those that PS3.16 uses.
    """
    if scheme == "UCUM":
        return len(value) <= 24 and _UNIT.fullmatch(value) is not None and _atoms(value) <= _known_atoms()
    if scheme == "DCM" and value in _dicom_words():
        return True
    shape = _SHAPES.get(scheme)
    if shape is None or not shape.fullmatch(value):
        return False
    # The two digits before the last say that it names a concept; a long one names its publisher before them.
    return scheme != "SCT" or (value[-3:-1] in ("00", "10") and value[0] != "0" and _checks(value))


def _checks(digits: str) -> bool:
    """Verhoeff's check, the last digit included."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_MULTIPLIED[state][int(_PERMUTED[place % 8][int(digit)])])
    return state == 0


@functools.cache
def _dicom_words() -> frozenset[str]:
    """Codes of DICOM that are no numbers, as PS3.16 lists them."""
    return frozenset(code for code in _listed("DCM") if not code.isdigit())


@functools.cache
def _known_atoms() -> frozenset[str]:
    return frozenset().union(*map(_atoms, _listed("UCUM")))


def _atoms(unit: str) -> frozenset[str]:
    """Units, and annotations whole, of which a unit of UCUM is made by multiplying, dividing and powers."""
    return frozenset(_ATOM.findall(unit))


def _listed(scheme: str) -> set[str]:
    from pydicom.sr import _concepts_dict  # large

    concepts: dict[str, Any] = _concepts_dict.concepts
    return {code for meanings in concepts[scheme].values() for code in meanings}
