"""A DICOM file's header: identity, pixel format, geometry per frame, and the attributes a profile may keep."""

from __future__ import annotations

import math
import warnings
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, ImplicitVRLittleEndian
from pydicom.valuerep import IS, DSfloat

from imaging.staging.headers import Value
from imaging.staging.parsing.dicom.geometry import frame_headers
from imaging.staging.parsing.dicom.transfer_syntaxes import LOSSY
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.radiology.headers import FrameHeader, InstanceHeader

MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    OverflowError,
    OSError,
    LookupError,
    ZeroDivisionError,
    AssertionError,
)
"""What pydicom raises on broken files; anything else ends this process, which costs this file only."""

_NOT_IMAGES = ("1.2.840.10008.1.3.10",)  # Media Storage Directory (DICOMDIR)
_LIMIT = 1000


def open_dataset(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """Read a dataset with or without preamble and file meta; raises :class:`Unreadable`."""
    # Broken files make pydicom warn with their contents.
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=True, defer_size=None)
        _ = len(dataset)
    except MALFORMED:
        raise Unreadable(_not_dicom(file)) from None
    if not dataset.get("SOPClassUID"):
        media = dataset.file_meta.get("MediaStorageSOPClassUID") if hasattr(dataset, "file_meta") else None
        raise Unreadable("unsupported-sop-class" if media in _NOT_IMAGES else _not_dicom(file))
    return dataset


def transfer_syntax(dataset: Dataset) -> UID:
    """The declared transfer syntax, or what the bytes look like where the file meta is missing."""
    declared = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if declared:
        return UID(str(declared))
    implicit, little = dataset.original_encoding
    if implicit is None or little is None or implicit:
        return ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian


def read_header(file: BinaryIO, keywords: frozenset[str]) -> InstanceHeader:
    """Everything the stager needs to judge, group and order this instance; raises :class:`Unreadable`."""
    dataset = open_dataset(file, stop_before_pixels=True)
    try:
        return _header(dataset, keywords)
    except MALFORMED:
        raise Unreadable("malformed-dicom") from None


def _header(dataset: Dataset, keywords: frozenset[str]) -> InstanceHeader:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise Unreadable("unsupported-sop-class")
    missing = [name for name in _REQUIRED if _text(dataset, name) == ""]
    if missing:
        raise Unreadable("required-attribute-missing")
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    frames: tuple[FrameHeader, ...] = frame_headers(dataset)
    return InstanceHeader(
        sop_class=_text(dataset, "SOPClassUID"),
        sop_instance=_text(dataset, "SOPInstanceUID"),
        transfer_syntax=str(transfer_syntax(dataset)),
        study=_text(dataset, "StudyInstanceUID"),
        series=_text(dataset, "SeriesInstanceUID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        patient_id=_text(dataset, "PatientID"),
        issuer=_text(dataset, "IssuerOfPatientID"),
        modality=_text(dataset, "Modality"),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        photometric=_text(dataset, "PhotometricInterpretation"),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=int(dataset.get("HighBit") or stored - 1),
        signed=bool(int(dataset.get("PixelRepresentation") or 0)),
        lossy=_text(dataset, "LossyImageCompression") == "01" or str(transfer_syntax(dataset)) in LOSSY,
        burned_in=_yes_no(dataset, "BurnedInAnnotation"),
        recognizable=_yes_no(dataset, "RecognizableVisualFeatures"),
        image_type=tuple(str(part)[:_LIMIT] for part in _many(dataset.get("ImageType"))[:16]),
        conversion_type=_text(dataset, "ConversionType"),
        frames=frames,
        attributes=_attributes(dataset, keywords),
    )


_REQUIRED = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BitsAllocated",
    "PhotometricInterpretation",
)


def _yes_no(dataset: Dataset, keyword: str) -> Literal["YES", "NO", ""]:
    said = _text(dataset, keyword).upper()
    return "YES" if said == "YES" else "NO" if said == "NO" else ""


def _attributes(dataset: Dataset, keywords: frozenset[str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for keyword in sorted(keywords):
        value = _plain(dataset.get(keyword))
        if value is not None:
            found[keyword] = value
    return found


def _plain(value: Any) -> Value | None:
    if value is None or isinstance(value, bytes | Dataset | pydicom.Sequence):
        return None
    if isinstance(value, MultiValue | list | tuple):
        parts = [_scalar(part) for part in list(value)[:64]]
        kept = tuple(part for part in parts if part is not None)
        return kept if len(kept) == len(parts) and kept else None
    return _scalar(value)


def _scalar(value: Any) -> str | int | float | None:
    if isinstance(value, IS) or (isinstance(value, int) and not isinstance(value, bool)):
        return int(value)
    if isinstance(value, DSfloat | float):
        return float(value) if math.isfinite(value) else None
    text = str(value).strip(" \0")
    return text if 0 < len(text) <= _LIMIT else None


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")[:_LIMIT]


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _not_dicom(file: BinaryIO) -> str:
    """A file with the DICM prefix is a broken DICOM file; one without is something else."""
    file.seek(128)
    return "malformed-dicom" if file.read(4) == b"DICM" else "not-dicom"
