"""Decoded frames of a DICOM image as raw stored integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_fragments
from pydicom.pixels.decoders.base import get_decoder

from imaging.staging.parsing.dicom.header import MALFORMED, open_dataset, transfer_syntax
from imaging.staging.parsing.dicom.transfer_syntaxes import DECODERS
from imaging.staging.parsing.unreadable import Unreadable


def decode_frames(file: BinaryIO, indices: list[int]) -> Iterator[NDArray[Any]]:
    """Yield frames (rows, columns) in the order of ``indices``; raises :class:`Unreadable`.

    Integers of 8, 16 or 32 bits, little-endian, signed as declared, with the bits outside Bits Stored cleared
    (PS3.5 8.1.1): old files keep overlay graphics there, which may be burned-in text.
    """
    dataset = open_dataset(file, stop_before_pixels=False)
    syntax = transfer_syntax(dataset)
    plugin = DECODERS.get(syntax)
    if plugin is None:
        raise Unreadable("unsupported-transfer-syntax")
    _check_length(dataset, syntax)
    try:
        decoder = get_decoder(syntax)
        iterator = decoder.iter_array(
            _with_syntax(dataset, syntax), indices=indices, raw=True, decoding_plugin=plugin
        )
        for frame, _ in iterator:
            yield _stored_values(frame, dataset)
    except Unreadable:
        raise
    except (*MALFORMED, RuntimeError):
        raise Unreadable("decode-failed") from None


def _check_length(dataset: Dataset, syntax: uid.UID) -> None:
    """Compare what is there with Rows × Columns × Frames before any decoder sees it."""
    try:
        pixels = dataset.get("PixelData")
        if not pixels:
            raise Unreadable("pixel-data-missing")
        frames = int(dataset.get("NumberOfFrames") or 1)
        if syntax.is_encapsulated:
            fragments = sum(1 for _ in generate_fragments(pixels)) - 1  # less the offset table
            if fragments < frames:
                raise Unreadable("truncated-pixel-data")
            return
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
        if len(pixels) < (bits * int(dataset.BitsAllocated) * frames + 7) // 8:
            raise Unreadable("truncated-pixel-data")
    except MALFORMED:
        raise Unreadable("truncated-pixel-data") from None


def _with_syntax(dataset: Dataset, syntax: uid.UID) -> Dataset:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _stored_values(frame: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Shift and mask to Bits Stored; sign-extend where Pixel Representation says so."""
    if frame.ndim != 2 or frame.dtype.kind not in "iu":
        raise Unreadable("unsupported-pixel-format")
    container = frame.dtype.itemsize * 8
    stored = int(dataset.get("BitsStored") or container)
    high = int(dataset.get("HighBit") or stored - 1)
    if not 1 <= stored <= container or not stored - 1 <= high < container:
        raise Unreadable("malformed-dicom")
    if stored < container:
        # Up to the top of the container, then back: the second shift keeps the sign of signed types.
        frame = (frame << (container - 1 - high)) >> (container - stored)
    return np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
