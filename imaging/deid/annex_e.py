"""PS3.15 annex E: what the Basic Application Level Confidentiality Profile and its options want done with an
attribute (tables E.1-1 and E.1-1a, edition 2026c as maintained in ``dicom-anonymizer``).

The table leaves some actions to the IOD (``X/Z/D``: remove, unless the attribute is type 2 or type 1 there).
The last alternative is taken always: a type 3 attribute may be present with a value or without, so what suits
type 1 suits every type, and no table of IODs is needed.  The price is an attribute that says nothing where
none would have done.
"""

from __future__ import annotations

import functools
import importlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from pydicom.datadict import tag_for_keyword

_EDITION = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"
_LISTS = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}


class Option(StrEnum):
    """The options of annex E.3, under their codes of PS3.16 CID 7050."""

    CLEAN_PIXELS = "113101"
    CLEAN_VISUAL_FEATURES = "113102"
    CLEAN_GRAPHICS = "113103"
    CLEAN_STRUCTURED_CONTENT = "113104"
    CLEAN_DESCRIPTORS = "113105"
    RETAIN_FULL_DATES = "113106"
    RETAIN_MODIFIED_DATES = "113107"
    RETAIN_PATIENT_CHARACTERISTICS = "113108"
    RETAIN_DEVICE_IDENTITY = "113109"
    RETAIN_UIDS = "113110"
    RETAIN_SAFE_PRIVATE = "113111"
    RETAIN_INSTITUTION_IDENTITY = "113112"


BASIC_PROFILE = "113100"
MEANINGS: Mapping[str, str] = {
    BASIC_PROFILE: "Basic Application Confidentiality Profile",
    Option.CLEAN_PIXELS: "Clean Pixel Data Option",
    Option.CLEAN_VISUAL_FEATURES: "Clean Recognizable Visual Features Option",
    Option.CLEAN_GRAPHICS: "Clean Graphics Option",
    Option.CLEAN_STRUCTURED_CONTENT: "Clean Structured Content Option",
    Option.CLEAN_DESCRIPTORS: "Clean Descriptors Option",
    Option.RETAIN_FULL_DATES: "Retain Longitudinal Temporal Information Full Dates Option",
    Option.RETAIN_MODIFIED_DATES: "Retain Longitudinal Temporal Information Modified Dates Option",
    Option.RETAIN_PATIENT_CHARACTERISTICS: "Retain Patient Characteristics Option",
    Option.RETAIN_DEVICE_IDENTITY: "Retain Device Identity Option",
    Option.RETAIN_UIDS: "Retain UIDs Option",
    Option.RETAIN_SAFE_PRIVATE: "Retain Safe Private Option",
    Option.RETAIN_INSTITUTION_IDENTITY: "Retain Institution Identity Option",
}
"""Code Meaning of each code of CID 7050."""


class Action(StrEnum):
    """What is done with one attribute."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"
    """Keep what is known to be harmless of a text; go into a sequence."""
    UID = "U"
    SHIFT = "shift"
    """Move a date by the patient's days; a time stays."""
    GO_IN = "go-in"
    """Judge each attribute of a sequence's items by itself."""


TEMPORAL = frozenset({"DA", "DT", "TM"})


@dataclass(frozen=True, slots=True)
class OptionTable:
    """Attributes (by tag) that the options' columns name; for dates and UIDs the VR tells."""

    device: frozenset[int]
    institution: frozenset[int]
    characteristics: frozenset[int]
    descriptors: frozenset[int]
    structured: frozenset[int]
    graphics: frozenset[int]
    of_birth: frozenset[int]


def listed(tag: int) -> str | None:
    """The basic profile's code for an attribute, as ``X`` or ``X/Z/D``; None if the table does not name it."""
    code = _exact().get(tag)
    if code is None:
        for group, element, group_mask, element_mask, masked in _repeating():
            if (
                tag >> 16
            ) & group_mask == group & group_mask and tag & element_mask == element & element_mask:
                return masked
    return code


def action(tag: int, vr: str, options: frozenset[Option]) -> Action | None:
    """What table and options want; None if the table does not name the attribute."""
    code = listed(tag)
    if code is None:
        return None
    return _by_option(tag, vr, options) or _strictest(tag, code, vr)


def _by_option(tag: int, vr: str, options: frozenset[Option]) -> Action | None:
    table = option_table()
    if vr == "UI":
        keeps = Option.RETAIN_UIDS in options or (
            tag in table.device and Option.RETAIN_DEVICE_IDENTITY in options
        )
        return Action.KEEP if keeps else Action.UID
    if (vr in TEMPORAL or tag in _TIMEZONE) and tag not in table.of_birth:
        if Option.RETAIN_FULL_DATES in options:
            return Action.KEEP
        if Option.RETAIN_MODIFIED_DATES in options:
            return Action.SHIFT if vr in TEMPORAL else Action.KEEP
    if tag in table.characteristics and Option.RETAIN_PATIENT_CHARACTERISTICS in options:
        return Action.CLEAN if tag in table.descriptors else Action.KEEP
    if tag in table.device and Option.RETAIN_DEVICE_IDENTITY in options:
        return Action.KEEP
    if tag in table.institution and Option.RETAIN_INSTITUTION_IDENTITY in options:
        return Action.GO_IN if vr == "SQ" else Action.KEEP
    for option, tags in (
        (Option.CLEAN_DESCRIPTORS, table.descriptors),
        (Option.CLEAN_STRUCTURED_CONTENT, table.structured),
        (Option.CLEAN_GRAPHICS, table.graphics),
    ):
        if option in options and tag in tags:
            return Action.GO_IN if vr == "SQ" else Action.CLEAN
    return None


def _strictest(tag: int, code: str, vr: str) -> Action:
    last = code.split("/")[-1]
    if tag == _REFERENCED_STUDY:
        # Optional with at least one item: an empty one would be a fault, and its items hold nothing but UIDs.
        return Action.GO_IN
    if last == "U*" or (last == "D" and vr == "UI"):
        return Action.GO_IN if vr == "SQ" else Action.UID
    return Action(last)


_REFERENCED_STUDY = 0x00081110
_TIMEZONE = frozenset({0x00080201})  # Timezone Offset From UTC


@functools.cache
def _exact() -> dict[int, str]:
    return {(tag[0] << 16) | tag[1]: code for tag, code in _rows() if len(tag) == 2}


@functools.cache
def _repeating() -> tuple[tuple[int, int, int, int, str], ...]:
    """Rows of curves and overlays, as (group, element, mask of group, mask of element, code)."""
    return tuple((*tag, code) for tag, code in _rows() if len(tag) == 4)


def _rows() -> Iterable[tuple[Any, str]]:
    table = importlib.import_module(_EDITION)
    for name, code in _LISTS.items():
        for tag in getattr(table, name):
            yield tag, code


@functools.cache
def option_table() -> OptionTable:
    """The attributes of ``objects/annex-e-options.toml``; raises RuntimeError if a keyword is unknown."""
    text = (resources.files("imaging.deid") / "objects" / "annex-e-options.toml").read_text("utf-8")
    raw = tomllib.loads(text)["attributes"]
    columns = {}
    for name, keywords in raw.items():
        tags = [tag_for_keyword(keyword) for keyword in keywords]
        if None in tags or len(set(tags)) != len(tags):
            raise RuntimeError(f"annex-e-options.toml names an unknown attribute in {name}")
        columns[name] = frozenset(int(tag) for tag in tags if tag is not None)
    return OptionTable(**columns)
