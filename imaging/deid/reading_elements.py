"""Elements of a data set one by one, where a broken one costs itself only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from imaging import unknown_vr

unknown_vr.register()

BROKEN = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    EOFError,
    OverflowError,
    OSError,
    struct.error,
    zlib.error,
    BytesLengthException,
)
"""What pydicom raises when a raw element can't be read as its VR."""


def elements(dataset: Dataset) -> Iterator[DataElement]:
    """In the order of their tags; an element that can't be read is passed over, which leaves it out."""
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except BROKEN:
            continue
        yield element


def readable(dataset: Dataset) -> Dataset:
    """The elements of one level that can be read, with the encoding and meta information of ``dataset``."""
    plain = Dataset()
    for element in elements(dataset):
        plain[element.tag] = element
    implicit, little = dataset.original_encoding
    plain.set_original_encoding(implicit, little)
    meta = getattr(dataset, "file_meta", None)
    if meta is not None:
        plain.file_meta = meta
    return plain


def values_of(element: DataElement) -> list[Any]:
    """The values of an element that is no sequence; empty for none."""
    value = element.value
    if value is None or value == "" or value == b"":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
