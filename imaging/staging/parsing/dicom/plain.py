"""Datasets as most scanners write them (explicit VR, little-endian), read with what earlier files of the archive taught.

The files of a series differ in a dozen elements out of a hundred.  pydicom takes some 8 µs to convert one and 3 µs to
find it; here one that was seen before, with the same tag, VR and bytes under the same character set, is the element
that it was then.  Whatever is not plain is left to pydicom, from the beginning.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filereader import ENCODED_VR, data_element_generator
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from pydicom.values import convert_string

from imaging.staging.parsing.dicom.values import MALFORMED

type Seen = tuple[int, str, bytes, bytes]
"""Tag, VR, value, Specific Character Set: all that a plain element's conversion depends on."""

_VR: Final = {encoded: encoded.decode() for encoded in ENCODED_VR}
_LONG: Final = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_CHARACTER_SET = 0x00080005
_UNDEFINED = 0xFFFFFFFF
_LONGEST = 512
"""Bytes of a value that is remembered."""
_REMEMBERED = 20_000
"""Elements: some 10 MB."""
_TAGS = 200
_known: dict[Seen, DataElement] = {}
_sequences: dict[tuple[int, bytes], tuple[bytes, DataElement]] = {}
"""The last sequence of undefined length under each tag, with its bytes."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Elements up to the first of the tags asked for: its VR, the length of its value, and where it begins."""

    elements: dict[BaseTag, DataElement | RawDataElement]
    vr: str
    length: int
    start: int
    stop: int
    """Its tag."""
    new: list[tuple[Seen, BaseTag]]
    """Those not seen before."""


def read_plain(data: bytes, start: int, until: frozenset[int], most: int) -> Plain | None:
    """The elements in ``data`` from ``start`` to the first one of ``until``; None where anything is not plain:
    no such element, an unknown VR, a length that is undefined or too large, ``most`` elements or more."""
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    new: list[tuple[Seen, BaseTag]] = []
    characters, at, end = b"", start, len(data)
    while at + 12 <= end and len(elements) < most:
        group, number, code, length = struct.unpack_from("<HH2sH", data, at)
        vr = _VR.get(code)
        if vr is None:
            return None
        value_at = at + 8
        if code in _LONG:
            (length,) = struct.unpack_from("<L", data, value_at)
            value_at += 4
        tag = group << 16 | number
        if tag in until:
            return Plain(elements, vr, length, at, tag, new)
        if length == _UNDEFINED:
            sequence = _sequence(data, at, tag, characters)
            if sequence is None:
                return None
            element, at = sequence
            elements[element.tag] = element
            continue
        if value_at + length > end or group == 0xFFFE or not tag:
            return None
        value = data[value_at : value_at + length]
        at = value_at + length
        if tag == _CHARACTER_SET:
            characters = value
        seen = (tag, vr, value, characters)
        if (known := _known.get(seen)) is not None:
            elements[known.tag] = known
            continue
        raw = value or empty_value_for_VR(vr, raw=True)
        place = BaseTag(tag)
        elements[place] = RawDataElement(place, vr, length, raw, value_at, False, True)
        # A value under UN may be read by its private creator's dictionary: by other elements.
        if length <= _LONGEST and tag > _CHARACTER_SET and vr != "UN":
            new.append((seen, place))
    return None


def _sequence(data: bytes, at: int, tag: int, characters: bytes) -> tuple[DataElement, int] | None:
    """The element of undefined length at ``at``, and where the next begins.

    Where it ends is only known once it was read; but the same bytes are read to the same end.
    """
    raw, known = _sequences.get((tag, characters), (b"", None))
    if known is not None and data.startswith(raw, at):
        return known, at + len(raw)
    stream = io.BytesIO(data)
    stream.seek(at)
    encodings = convert_encodings(convert_string(characters, True)) if characters else default_encoding
    try:
        element = next(data_element_generator(stream, False, True, encoding=encodings), None)
    except MALFORMED:
        return None
    end = stream.tell()
    if not isinstance(element, DataElement) or end == len(data):
        return None
    _sequences[tag, characters] = (data[at:end], element)
    return element, end


def remember(dataset: Dataset, new: list[tuple[Seen, BaseTag]]) -> None:
    """Keep what was converted since, for the files to come."""
    if len(_known) > _REMEMBERED:
        _known.clear()
    if len(_sequences) > _TAGS:
        _sequences.clear()
    for seen, tag in new:
        element = dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, DataElement):
            _known[seen] = element
