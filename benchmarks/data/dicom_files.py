"""Many DICOM files from one: serialised once, then copied with other numbers in the same places.

Setting attributes and writing anew costs a millisecond a file; putting other characters of the same length into the
bytes costs some microseconds, and the files come out as regular as a scanner's.
"""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

SYNTAXES = {"native": ExplicitVRLittleEndian, "jpegls": JPEGLSLossless, "j2k": JPEG2000Lossless}
_ROOT = "1.2.826.0.1.3680043.8.498."
_UID_LENGTH = 52


def uid(*parts: int) -> UID:
    """A UID of 52 characters that these numbers make."""
    tail = "".join(f"{part:06d}" for part in parts)
    return UID(_ROOT + "1" + tail.rjust(_UID_LENGTH - len(_ROOT) - 1, "0"))


def number(value: float) -> str:
    """A DS of 12 characters."""
    return f"{value:+012.4f}"


class Template:
    """Serialises a data set whose values of ``varied`` (keyword → value of one file) change from file to file.

    Values are texts, or lists of texts, of a length that never changes: :func:`uid`, :func:`number`.
    """

    def __init__(self, dataset: Dataset, syntax: str, varied: Mapping[str, Any]) -> None:
        made = FileDataset("", copy.deepcopy(dataset), preamble=b"\0" * 128, file_meta=FileMetaDataset())
        for keyword in [element.keyword for element in made if element.tag.group == 0x7FE0]:
            delattr(made, keyword)
        for keyword, value in varied.items():
            setattr(made, keyword, value)
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        buffer = io.BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        self._head = buffer.getvalue()
        self._native = syntax == "native"
        self._places = [
            (keyword, self._place(where, _text(value)), len(_text(value)))
            for keyword, value in varied.items()
            for where in (keyword, *_TWINS.get(keyword, ()))
        ]

    def file(self, varied: Mapping[str, Any], pixels: bytes) -> bytes:
        """One file; ``pixels`` as native bytes or as one codestream."""
        head = bytearray(self._head)
        for keyword, at, length in self._places:
            text = _text(varied[keyword])
            if len(text) != length:
                raise ValueError("a value of another length")
            head[at : at + length] = text
        if self._native:
            length = len(pixels) + len(pixels) % 2
            element = b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little")
            return b"".join((head, element, pixels, b"\0" * (length - len(pixels))))
        element = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
        return b"".join((head, element, encapsulate([pixels]), b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"))

    def _place(self, keyword: str, text: bytes) -> int:
        """Where a top-level element's value stands in the file: behind tag, VR and length (PS3.5 7.1.2)."""
        tag = tag_for_keyword(keyword)
        assert tag is not None
        mark = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + dictionary_VR(tag).encode()
        mark += struct.pack("<H", len(text)) + text
        if self._head.count(mark) != 1:
            raise ValueError("a value that varies does not stand in the file once, as it was given", keyword)
        return self._head.index(mark) + 8


_TWINS = {"SOPInstanceUID": ("MediaStorageSOPInstanceUID",)}
"""Elements that must say the same."""


def _text(value: Any) -> bytes:
    """As it stands in the file."""
    return ("\\".join(value) if isinstance(value, list) else str(value)).encode("ascii")
