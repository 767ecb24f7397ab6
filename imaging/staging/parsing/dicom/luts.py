"""Modality LUT and padding: what stored values stand for besides slope and intercept (PS3.3 C.11.1, C.7.5.1)."""

from __future__ import annotations

import struct

import numpy as np
from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.pixel_format import PixelFormat
from imaging.staging.parsing.dicom.values import first, integer, many, value
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.headers import ModalityLut


def modality_lut(dataset: Dataset, form: PixelFormat, big_endian: bool) -> ModalityLut | None:
    """The table of Modality LUT Sequence (0028,3000); raises :class:`Unreadable` where it is broken."""
    item = first(dataset, "ModalityLUTSequence")
    if item is None:
        return None
    described, data = many(value(item, "LUTDescriptor")), value(item, "LUTData")
    try:
        entries, first_value, _ = (int(part) for part in described)
    except (TypeError, ValueError):
        raise Unreadable("malformed-dicom") from None
    entries = (entries & 0xFFFF) or 65536
    values = _entries(data, entries, big_endian)
    return ModalityLut(first=as_stored(first_value & 0xFFFF, form, 16), values=tuple(values))


def _entries(data: object, entries: int, big_endian: bool) -> list[int]:
    if isinstance(data, bytes):
        if len(data) >= 2 * entries:
            words = np.frombuffer(data, dtype=">u2" if big_endian else "<u2", count=entries)
            return [int(word) for word in words]
        if len(data) >= entries:
            return list(data[:entries])
        raise Unreadable("malformed-dicom")
    try:
        listed = [int(part) & 0xFFFF for part in many(data)]
    except (TypeError, ValueError):
        raise Unreadable("malformed-dicom") from None
    if len(listed) >= entries:
        return listed[:entries]
    packed = struct.pack(f"<{len(listed)}H", *listed)
    if len(packed) >= entries:
        return list(packed[:entries])
    raise Unreadable("malformed-dicom")


def padding(dataset: Dataset, form: PixelFormat) -> tuple[int, int] | None:
    """(Pixel Padding Value, its Range Limit) as stored values; equal where there is no limit."""
    low, limit = integer(dataset, "PixelPaddingValue"), integer(dataset, "PixelPaddingRangeLimit")
    if low is None or form.value_type != "integer" or form.colour:
        return None
    bits = max(16, form.container)
    ends = as_stored(low, form, bits), as_stored(low if limit is None else limit, form, bits)
    return min(ends), max(ends)


def as_stored(word: int, form: PixelFormat, bits: int) -> int:
    """A word whose VR is US or SS, as Pixel Representation says: writers and readers confuse the two."""
    word &= (1 << bits) - 1
    return word - (1 << bits) if form.signed and word >> (bits - 1) else word
