"""Curves (groups 50xx) and overlays (60xx): bitmaps and lines in which anything may be written."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_TEXT_ELEMENTS = frozenset({0x0022, 0x1500, 0x4000})  # description, label, comments


def is_curve_or_overlay(tag: BaseTag) -> bool:
    """Repeating groups of PS3.5 7.6."""
    return tag.group % 2 == 0 and (0x5000 <= tag.group <= 0x50FF or 0x6000 <= tag.group <= 0x60FF)


def is_region(dataset: Dataset, tag: BaseTag) -> bool:
    """Whether an overlay marks a region of interest (Overlay Type R); graphics (G) may be written text."""
    kind = dataset.get((tag.group, 0x0040))
    return 0x6000 <= tag.group <= 0x60FF and kind is not None and str(kind.value).strip().upper() == "R"


def is_plain(tag: BaseTag) -> bool:
    """Whether an element of an overlay carries no text."""
    return tag.element not in _TEXT_ELEMENTS
