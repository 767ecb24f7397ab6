"""DICOM files made for tests: headers by keyword, pixels by hand, answers as the stager would get them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from imaging.staging.parsing.operations import Unreadable, answer


def dataset(sop_class: str = uid.SecondaryCaptureImageStorage, **attributes: Any) -> Dataset:
    """A grey 16-bit image of 2 × 3 pixels, 0 to 5, changed by ``attributes`` (None removes one)."""
    made = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2",
        "Modality": "OT",
        "PatientID": "P",
        "Rows": 2,
        "Columns": 3,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.arange(6, dtype="<u2").tobytes(),
    }
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(made, keyword, value)
    if "PixelData" in made:
        made["PixelData"].VR = "OW"
    return made


def item(**attributes: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def csa(**elements: list[str]) -> bytes:
    """A Siemens CSA header of the second version."""
    raw = b"SV10\4\3\2\1" + struct.pack("<2I", len(elements), 77)
    for name, values in elements.items():
        raw += struct.pack("<64si4s3i", name.encode(), len(values), b"FD\0\0", 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            raw += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return raw


def siemens(made: Dataset, **elements: list[str]) -> Dataset:
    """``made`` with a CSA header of these elements."""
    made.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa(**elements))
    return made


def encoded(made: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """The bytes of a whole file; ``syntax`` may be one that pydicom doesn't know."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != uid.ExplicitVRBigEndian
    write_dataset(buffer, made)
    texts = {2: made.get("SOPClassUID", "1.2"), 3: made.get("SOPInstanceUID", "1.2"), 0x10: syntax}
    meta = struct.pack("<HH2s2xL2s", 2, 1, b"OB", 2, b"\0\1")
    for element, text in texts.items():
        raw = str(text).encode() + b"\0" * (len(str(text)) % 2)
        meta += struct.pack("<HH2sH", 2, element, b"UI", len(raw)) + raw
    start = bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return start + meta + buffer.getvalue()


def compressed(
    made: Dataset, syntax: str, frames: Sequence[bytes], *, fragments: int = 1, table: bool = True
) -> bytes:
    """A whole file whose pixels are ``frames``, each in ``fragments`` items."""
    made.PixelData = encapsulate(list(frames), fragments_per_frame=fragments, has_bot=table)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return encoded(made, syntax)


def header(data: bytes, *keywords: str) -> dict[str, Any]:
    """What the parser says of a file."""
    ((raw, _),) = answer({"op": "header", "keywords": list(keywords)}, io.BytesIO(data))
    said: dict[str, Any] = json.loads(raw)
    return said


def frames(data: bytes, *indices: int) -> NDArray[Any]:
    """Decoded frames (frame, row, column[, colour]); the first if none is named."""
    decoded = []
    for said, blob in answer({"op": "frames", "frames": list(indices or (0,))}, io.BytesIO(data)):
        told = json.loads(said)
        decoded.append(np.frombuffer(blob, told["dtype"]).reshape(told["shape"]))
    return np.stack(decoded)


def refusal(data: bytes, operation: str = "header") -> str:
    """The code under which the parser refuses a file; "" where it doesn't."""
    try:
        list(answer({"op": operation, "keywords": [], "frames": [0]}, io.BytesIO(data)))
    except Unreadable as unreadable:
        return unreadable.code
    return ""
