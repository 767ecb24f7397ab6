"""A whole slide image's dataset for the pathology parsers, which read its tiles from the file themselves."""

from __future__ import annotations

from typing import BinaryIO, Literal

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from imaging.staging.parsing.dicom import dataset as files
from imaging.staging.parsing.unreadable import Unreadable


def open_dataset(file: BinaryIO, *, stop_before_pixels: Literal[True] = True) -> Dataset:
    """The dataset up to its pixels, with a file meta that tells the transfer syntax; ``file`` is left standing
    at the pixel element.  Raises :class:`Unreadable`."""
    opened = files.open_dataset(file)
    if opened.syntax == uid.DeflatedExplicitVRLittleEndian:
        raise Unreadable("unsupported-transfer-syntax")  # no place in the file to stand at
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = opened.syntax
    opened.dataset.file_meta = meta
    file.seek(opened.size if opened.pixels is None else opened.pixels.start)
    return opened.dataset


def transfer_syntax(dataset: Dataset) -> UID:
    """The transfer syntax of a dataset that :func:`open_dataset` gave."""
    return UID(str(dataset.file_meta.TransferSyntaxUID))
