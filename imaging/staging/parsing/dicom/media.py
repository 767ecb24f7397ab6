"""A DICOMDIR: which files it refers to."""

from __future__ import annotations

from typing import BinaryIO

import pydicom
from pydicom.multival import MultiValue

from imaging import unknown_vr
from imaging.staging.parsing.dicom.values import MALFORMED
from imaging.staging.parsing.unreadable import Unreadable

unknown_vr.register()

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


def referenced_files(file: BinaryIO) -> list[list[str]]:
    """The components of each Referenced File ID of a record in use (PS3.3 F.5.1), in the order of the records.

    Raises :class:`Unreadable`.
    """
    try:
        directory = pydicom.dcmread(file)
        if str(directory.file_meta.MediaStorageSOPClassUID) != MEDIA_STORAGE_DIRECTORY:
            raise Unreadable("not-dicom")
        found = []
        for record in directory.DirectoryRecordSequence:
            reference = record.get("ReferencedFileID")
            if reference and record.get("RecordInUseFlag", 0xFFFF) != 0:
                parts = list(reference) if isinstance(reference, MultiValue) else [reference]
                found.append([str(part) for part in parts])
    except MALFORMED:
        raise Unreadable("malformed-dicom") from None
    return found
