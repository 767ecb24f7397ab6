"""Private elements: those of a short list of creators and places stay (PS3.15 E.3.10), all others go.

A block whose creator element is missing belongs to nobody and goes.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from importlib import resources

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from imaging.deid.reading_elements import elements, values_of
from imaging.deid.text import Identifiers, is_technical
from imaging.deid.words import is_product

_NUMERIC = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS"})
_TEXT = frozenset({"CS", "SH", "LO"})


def safe_elements(dataset: Dataset, known: Identifiers) -> Iterator[DataElement]:
    """The elements that stay, each block after its creator; numbers and short technical text only."""
    creators: dict[int, DataElement] = {}
    given: set[int] = set()
    for element in elements(dataset):
        group, number = element.tag.group, element.tag.element
        if group % 2 == 0:
            continue
        block = (group << 8) | (number >> 8)
        if 0x10 <= number <= 0xFF:
            creators[(group << 8) | number] = element
        elif block in creators and _is_safe(creators[block], element, known):
            if block not in given:
                given.add(block)
                yield creators[block]
            yield element


def _is_safe(creator: DataElement, element: DataElement, known: Identifiers) -> bool:
    name = str(creator.value).strip()
    vr = _table().get((name, element.tag.group, element.tag.element & 0xFF))
    if vr is None or vr != element.VR:
        return False
    values = values_of(element)
    if vr in _NUMERIC:
        return not known.is_in_numbers(values)
    return vr in _TEXT and all(
        is_technical(str(value), known) and all(map(is_product, re.findall(r"[^\W_]+", str(value))))
        for value in values
    )


@functools.cache
def _table() -> dict[tuple[str, int, int], str]:
    """(creator, group, last two digits of the element) → VR."""
    text = (resources.files("imaging.deid") / "objects" / "private-safe.toml").read_text("utf-8")
    table: dict[tuple[str, int, int], str] = {}
    for creator, groups in tomllib.loads(text).items():
        for group, places in groups.items():
            for place, vr in places.items():
                if vr not in _NUMERIC | _TEXT:
                    raise RuntimeError("private-safe.toml names a VR that can't be judged")
                table[(creator, int(group, 16), int(place, 16))] = vr
    return table
