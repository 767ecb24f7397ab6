"""Files whose elements come under VR UN, as systems write what they did not know (PS3.5 6.2.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from dicom_files import encoded
from pydicom import uid
from pydicom.charset import default_encoding
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset


def rewritten(made: Dataset, syntax: str, unknown: Callable[[Any], bool], undefined: bool = False) -> bytes:
    """A whole file of ``made``, explicit VR, in which elements that ``unknown`` says yes to have VR UN.

    ``undefined``: sequences under UN are given without a length.
    """
    big = syntax == uid.ExplicitVRBigEndian
    start = encoded(made, syntax)
    meta_length = struct.unpack_from("<L", start, 140)[0]
    return start[: 144 + meta_length] + _level(made, big, unknown, undefined)


def _level(made: Dataset, big: bool, unknown: Callable[[Any], bool], undefined: bool) -> bytes:
    order = ">" if big else "<"
    parts = []
    for element in made:
        tag = struct.pack(order + "HH", element.tag.group, element.tag.element)
        if unknown(element) and not element.is_undefined_length:
            value = _implicit(made, element)
            if undefined and element.VR == "SQ" and not big:
                parts.append(tag + b"UN\0\0" + b"\xff" * 4 + value + b"\xfe\xff\xdd\xe0" + bytes(4))
            else:
                parts.append(tag + b"UN\0\0" + struct.pack(order + "L", len(value)) + value)
        elif element.VR == "SQ":
            items = b"".join(
                struct.pack(order + "HHL", 0xFFFE, 0xE000, len(inner)) + inner
                for inner in (_level(one, big, unknown, undefined) for one in element.value)
            )
            parts.append(tag + b"SQ\0\0" + struct.pack(order + "L", len(items)) + items)
        else:
            parts.append(_explicit(made, element, big))
    return b"".join(parts)


def _one(made: Dataset, element: Any) -> Dataset:
    alone = Dataset({element.tag: element})
    alone.set_original_encoding(*made.original_encoding, made._character_set)
    return alone


def _implicit(made: Dataset, element: Any) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, _one(made, element), made._character_set or default_encoding)
    return buffer.getvalue()[8:]


def _explicit(made: Dataset, element: Any, big: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, not big
    write_dataset(buffer, _one(made, element), made._character_set or default_encoding)
    return buffer.getvalue()
