"""Elements of many bytes: which may stay, and what rides along with pixel data."""

from __future__ import annotations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments, generate_frames
from pydicom.pixels.utils import get_expected_length

from imaging.deid.attribute_kinds import kind
from imaging.deid.codestreams import without_comments
from imaging.deid.reading_elements import BROKEN

BYTES = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "OB or OW"})

KEPT = kind("samples")
"""Keywords of elements that hold samples, coordinates or tables and nothing else."""


def pixel_data(element: DataElement, dataset: Dataset) -> bytes:
    """Pixel Data without what lies behind its last sample, and its codestreams without comments.

    Where the length can't be told from the header, the bytes stay as they are.
    """
    raw = bytes(element.value)
    if element.is_undefined_length:
        return _encapsulated(raw, dataset)
    try:
        expected = get_expected_length(dataset, "bytes")
    except BROKEN:
        return raw
    if not isinstance(expected, int) or expected <= 0 or len(raw) <= expected:
        return raw  # (broken headers give texts for numbers)
    return raw[:expected] + b"\0" * (expected % 2)


def _encapsulated(raw: bytes, dataset: Dataset) -> bytes:
    """Frames again as one fragment each with a basic offset table, but only if a comment was in one."""
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        streams = list(generate_frames(raw, number_of_frames=frames))
        fragments = sum(1 for _ in generate_fragments(raw))
    except BROKEN:
        return raw
    clean = [without_comments(stream) for stream in streams]
    if clean == streams or (fragments != len(streams) and frames != len(streams)):
        return raw
    return encapsulate(clean, has_bot="ExtendedOffsetTable" not in dataset)
