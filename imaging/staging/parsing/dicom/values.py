"""Single values out of a dataset that may hold anything: what can't be read as asked is absent, never an error."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    ArithmeticError,
    OSError,
    AssertionError,
    struct.error,
)
"""What pydicom raises on broken files; anything else ends this process, which costs this file only."""

TEXT_LIMIT = 1000


def value(dataset: Dataset, name: str | BaseTag) -> Any:
    """The value under a keyword or tag, or None where it is absent or can't be converted."""
    tag = name if isinstance(name, BaseTag) else tag_of(name)
    element = None if tag is None else dataset.get_item(tag)
    # Asked for hundreds of attributes a file, most of them absent: pydicom's own way takes ten times as long.
    if element is None:
        return None
    if isinstance(element, DataElement):
        return element.value
    try:
        found = dataset.get(name)
    except MALFORMED:
        return _by_dictionary(dataset, name)
    # Dataset.get gives the value for a keyword and the element for a tag.
    return found.value if isinstance(name, BaseTag) and found is not None else found


@functools.cache
def tag_of(keyword: str) -> BaseTag | None:
    """The tag of a keyword, or None where there is no such."""
    found = tag_for_keyword(keyword)
    return None if found is None else BaseTag(found)


def _by_dictionary(dataset: Dataset, name: str | BaseTag) -> Any:
    """The value read by the VR that the element should have, where the one it has makes no sense."""
    try:
        raw = dataset.get_item(name)
        if not isinstance(raw, RawDataElement):
            return None
        return convert_raw_data_element(raw._replace(VR=dictionary_VR(raw.tag))).value
    except MALFORMED:
        return None


def is_filled(dataset: Dataset, name: str) -> bool:
    """Whether an element has a value at all, readable or not."""
    try:
        element = dataset.get_item(name)
    except MALFORMED:
        return True
    found = None if element is None else element.value
    return bool(found.strip(b" \0") if isinstance(found, bytes) else found not in (None, ""))


def text(dataset: Dataset, name: str | BaseTag) -> str:
    """As text without padding, at most :data:`TEXT_LIMIT` characters; "" where absent."""
    found = value(dataset, name)
    return "" if found is None else as_text(found)


def as_text(found: Any) -> str:
    """A value as text without padding; parts of a multiple one joined by a backslash, as stored."""
    if isinstance(found, bytes):
        found = found.decode("latin-1")
    if isinstance(found, MultiValue | list | tuple):
        found = "\\".join(map(str, found))
    return str(found).strip(" \0")[:TEXT_LIMIT]


def texts(dataset: Dataset, name: str) -> list[str]:
    """All values as text."""
    return [as_text(part) for part in many(value(dataset, name))]


def integer(dataset: Dataset, name: str | BaseTag) -> int | None:
    """As an integer; the first of several, and through a wrong VR where the bytes are two or four."""
    found = value(dataset, name)
    if isinstance(found, MultiValue | list | tuple):
        found = found[0] if len(found) else None
    if isinstance(found, bytes):
        little = not _big_endian(dataset)
        if len(found) in (2, 4):
            return int.from_bytes(found, "little" if little else "big")
        found = found.decode("latin-1").strip(" \0")
    try:
        number = float(found)
        return int(number) if number == math.floor(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def number(dataset: Dataset, name: str | BaseTag) -> float | None:
    """As a finite number; the first of several."""
    numbers = as_numbers(value(dataset, name))
    return numbers[0] if numbers else None


def numbers(dataset: Dataset, name: str | BaseTag) -> tuple[float, ...] | None:
    """All values as finite numbers, or None if any is not."""
    return as_numbers(value(dataset, name))


def as_numbers(found: Any) -> tuple[float, ...] | None:
    """A value as finite numbers: given as such, as text, or (private elements under VR UN) as raw bytes."""
    if found is None:
        return None
    if isinstance(found, bytes):
        found = _from_bytes(found)
    parts = found if isinstance(found, Iterable) and not isinstance(found, str) else [found]
    try:
        converted = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if converted and all(map(math.isfinite, converted)) else None


def vector(dataset: Dataset, name: str, length: int) -> Any:
    """Exactly ``length`` finite numbers as a tuple, else None."""
    found = numbers(dataset, name)
    return found if found is not None and len(found) == length else None


def items(dataset: Dataset, sequence: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent or no sequence."""
    found = value(dataset, sequence)
    try:
        return [item for item in found if isinstance(item, Dataset)] if found else []
    except MALFORMED:
        return []


def first(dataset: Dataset, sequence: str) -> Dataset | None:
    """The first item of a sequence."""
    found = items(dataset, sequence)
    return found[0] if found else None


def private(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    """A private element's value under its creator (PS3.5 7.8.1), or None."""
    # Looked for under many creators in each file: most have none of the group at all.
    if group << 16 not in _groups(dataset):
        return None
    try:
        return dataset.private_block(group, creator)[element].value
    except MALFORMED:
        return None


def _groups(dataset: Dataset) -> frozenset[int]:
    """Groups (times 65536) of a dataset's elements; the last dataset's are kept."""
    if _last.dataset is not dataset or _last.size != len(dataset):
        _last.dataset, _last.size = dataset, len(dataset)
        _last.groups = frozenset(tag & 0xFFFF0000 for tag in dataset.keys())  # noqa: SIM118 - that would convert
    return _last.groups


@dataclass(slots=True)
class _Last:
    dataset: Dataset | None = None
    size: int = 0
    groups: frozenset[int] = frozenset()


_last = _Last()


def raw_bytes(dataset: Dataset, name: str) -> bytes | None:
    """An element's bytes as stored, whatever its VR makes of them; words of big-endian data stay so."""
    found = value(dataset, name)
    if isinstance(found, bytes):
        return found
    order = ">" if _big_endian(dataset) else "<"
    try:
        return struct.pack(f"{order}{len(found)}H", *(int(part) & 0xFFFF for part in found))
    except MALFORMED:
        return None


def many(found: Any) -> list[Any]:
    """A value as a list of its parts."""
    if found is None:
        return []
    return list(found) if isinstance(found, MultiValue | list | tuple) else [found]


def _from_bytes(raw: bytes) -> list[Any]:
    written = raw.strip(b" \0")
    if written and all(byte in b"0123456789+-.eE\\ " for byte in written):
        return list(written.decode("ascii").split("\\"))
    if raw and len(raw) % 8 == 0:
        return list(struct.unpack(f"<{len(raw) // 8}d", raw))
    return list(struct.unpack("<f", raw)) if len(raw) == 4 else []


def _big_endian(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is False
